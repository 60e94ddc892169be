"""
What does a whole scene of `native` cost, beside what flying and gridding its pixels costs?

A made-up S5P scene over the HRRR test box, with a guard of one pixel or the usual one, its particles kept or not. CPU
seconds are those of whole process trees, start and imports included, against one process that flies and grids the same
pixels one after the other and keeps nothing. Needs ../shared/data.

    python benchmarks/native_scene.py [--pixels 500] [--particles 500] [--hours 8]
"""

import argparse
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from scale import retrieval
from scene import DATA, GRID, KEY, TOP, adopt_orphans, command, cpu_and_wall, laid_out

from stilt_assets.errors import TransportError
from stilt_assets.plan import Footprints
from stilt_assets.recipes import desk_of
from stilt_assets.settings import load_settings
from stilt_assets.store import open_store
from stilt_assets.transport.native.model import Native

ONE = {"share": 1e-9, "at_least": 1}
SCENES: dict[str, tuple[str, dict[str, Any]]] = {
    "keep: endpoints, one pixel guarded": ("endpoints", ONE),
    "keep: core, one pixel guarded": ("core", ONE),
    "keep: endpoints, the usual guard": ("endpoints", {}),
}


def settings_of(retrievals: Path, simulation: dict[str, Any], keep: str) -> dict[str, Any]:
    return {
        "store": "./store",
        "retrievals": str(retrievals),
        "meteorology": {"product": "hrrr", "source": str(DATA / "hrrr")},
        "simulation": {"top": TOP, "transport": "native"} | simulation,
        "keep": keep,
        "targets": {"slc": {"bounds": [-125.0, 25.0, -95.0, 55.0], "grid": GRID, "tolerance": 1.0}},
    }


def bare(folder: Path) -> tuple[int, float]:
    """Pixels of a scene that was run, and CPU seconds of one process that flies and grids them."""
    settings = load_settings(str(folder / "settings.yaml"))
    made = Footprints.of(desk_of(KEY, settings, open_store(settings.store)))
    share, model = made.share(made.cut()), Native()
    with made.workplace() as work, model.prepare(work.simulation, work.meteorology):
        before = time.process_time()
        for pixel, receptor in share.receptors.items():
            with suppress(TransportError):
                kernel = share.kernels[pixel]
                model.fly(
                    receptor, kernel, work.grid, work.simulation, work.meteorology, work.edges, "endpoints", work.limits
                )
        return len(share.receptors), time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=500)
    parser.add_argument("--particles", type=int, default=500)
    parser.add_argument("--hours", type=int, default=8)
    given = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="native-scene-") as name:
        base, costs = Path(name), {}
        file = retrieval(base, given.pixels)
        for number, (what, (keep, guard)) in enumerate(SCENES.items()):
            simulation = {"hours_back": given.hours, "particles": given.particles, "guard": guard}
            place = laid_out(base / str(number), settings_of(base, simulation, keep), file)
            cpu, wall = cpu_and_wall(lambda place=place: command(place, "stilt-assets", "run", KEY))
            costs[what] = cpu, wall, sum(path.stat().st_size for path in (place / "store").rglob("*") if path.is_file())
        pixels, alone = bare(base / "0")
    print(f"{pixels} pixels, {given.particles} particles, {given.hours} h\n")
    print(f"{'':36}{'CPU s':>8}{'wall s':>8}{'CPU / bare':>12}{'ms/pixel':>10}{'MB':>8}")
    print(f"{'flown and gridded by one process':36}{alone:8.1f}{'':8}{1:12.2f}{1000 * alone / pixels:10.0f}")
    for what, (cpu, wall, size) in costs.items():
        print(f"{what:36}{cpu:8.1f}{wall:8.1f}{cpu / alone:12.2f}{1000 * cpu / pixels:10.0f}{size / 1e6:8.1f}")


if __name__ == "__main__":
    main()
