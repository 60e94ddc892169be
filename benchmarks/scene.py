"""
What does a scene cost, beside what its model alone costs?

The 44-pixel test scene, 200 particles, 8 hours. CPU seconds are those of whole process trees, start and imports
included; every figure to be compared comes from this one run, the peers before and after ours. Needs ../shared/data.

    A  dagster asset materialize, two workers
    B  stilt-assets run, two workers; and one worker
    C  bare hycs_std, the same receptors with PYSTILT's defaults, two side by side; mean of before and after A
    D  PYSTILT's Project.run, the same receptors, two side by side
"""

import argparse
import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
BIN = Path(sys.executable).parent
KEY = "20190530T0958Z_tropomi_slc"
HOURS, PARTICLES, TOP = 8, 200, 2500
GRID = {"west": -112.8, "south": 40.15, "east": -111.2, "north": 41.35, "resolution": 0.01}
SETTINGS = {
    "store": "./store",
    "retrievals": str(DATA / "retrievals"),
    "meteorology": {"product": "hrrr", "source": str(DATA / "hrrr")},
    "simulation": {"hours_back": HOURS, "particles": PARTICLES, "top": TOP},
    "targets": {
        "slc": {"bounds": [-112.6, 40.2, -111.3, 41.2], "grid": GRID, "aggregate": {"block": {"resolution": 0.1}}}
    },
}
PYSTILT = """
import sys, stilt
from pathlib import Path
if __name__ == "__main__":
    folder, met = sys.argv[1:]
    project = stilt.Project(folder)
    result = project.run(execution=stilt.execution.ExecutionConfig(cpus=2))
    print(result.to_string() if hasattr(result, "to_string") else result)
"""


def adopt_orphans() -> None:
    """Become the parent of what programs that this process starts leave running, so that its CPU time is counted."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def cpu_and_wall(work) -> tuple[float, float]:
    """CPU seconds of all processes that `work` starts, orphans included, and wall seconds."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    work()
    wall = time.monotonic() - started
    while True:
        try:
            os.wait()  # orphans come here, as this process is their subreaper
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def command(folder: Path, *words: str) -> str:
    """Run one of our commands, or Dagster's, in a folder with its settings; its standard error."""
    environment = os.environ | {
        "STILT_ASSETS_CONFIG": str(folder / "settings.yaml"),
        "DAGSTER_HOME": str(folder / "dagster_home"),
    }
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stderr


def materialize(folder: Path, select: str) -> str:
    """Have Dagster make assets of the scene; its standard error."""
    words = ("asset", "materialize", "-m", "stilt_assets.definitions", "--select", select, "--partition", KEY)
    return command(folder, "dagster", *words)


def laid_out(folder: Path, settings: dict[str, Any], retrieval: Path) -> Path:
    """A folder with settings and an empty Dagster instance, the scenes of a retrieval file registered."""
    (folder / "dagster_home").mkdir(parents=True)
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", folder / "dagster_home")
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    command(folder, "stilt-assets", "scenes", "add", str(retrieval))
    return folder


def scene_folder(name: str, base: Path, workers: int) -> Path:
    """The same for the test scene."""
    (retrieval,) = (DATA / "retrievals").glob("S5P_TEST_*.nc")
    return laid_out(base / name, SETTINGS | {"packs": {"pixels": 16, "workers": workers}}, retrieval)


def receptors(folder: Path):
    """The scene's receptors as PYSTILT's, from our own table."""
    import pyarrow.parquet as pq
    from stilt.receptors import ColumnReceptor

    (table,) = (folder / "store" / "scenes" / KEY).glob("pixels-*/receptors.parquet")
    return [
        ColumnReceptor(time=row["time"], longitude=row["longitude"], latitude=row["latitude"], bottom=0, top=TOP)
        for row in pq.read_table(table).to_pylist()
    ]


def prepare_bare(folder: Path, columns, meteorology: list[Path], **settings) -> list[Path]:
    """Input folders of bare runs, written beforehand: only hycs_std itself is counted."""
    from stilt.transport.hysplit import HysplitConfig
    from stilt.transport.hysplit.driver import write_inputs

    places = []
    for number, column in enumerate(columns):
        place = folder / f"{number:03d}"
        place.mkdir(parents=True)
        links = []
        for each in meteorology:
            (place / each.name).symlink_to(each)
            links.append(Path(each.name))
        write_inputs(place, column, HysplitConfig(n_hours=-HOURS, numpar=PARTICLES, **settings), links)
        places.append(place)
    return places


def run_bare(places: list[Path]) -> None:
    def one(place: Path) -> None:
        subprocess.run(["./hycs_std"], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, places))


def run_pystilt(folder: Path, columns, meteorology: Path) -> None:
    """PYSTILT's own project on the same receptors, with a script of its own so that its start counts too."""
    import stilt

    grid = {
        "xmin": GRID["west"],
        "xmax": GRID["east"],
        "ymin": GRID["south"],
        "ymax": GRID["north"],
        "xres": 0.01,
        "yres": 0.01,
    }
    met = {"directory": str(meteorology), "file_format": "%Y%m%d_%H-*_hrrr", "file_tres": "6h"}
    transforms = [{"kind": "pressure_weighting"}]
    stilt.Project.init(
        folder,
        columns,
        mets={"hrrr": met},
        variants={"hrrr": {}},
        n_hours=-HOURS,
        numpar=PARTICLES,
        grid=grid,
        transforms=transforms,
    )
    script = folder / "run.py"
    script.write_text(PYSTILT)
    subprocess.run([sys.executable, str(script), str(folder), str(meteorology)], check=True, stdout=subprocess.DEVNULL)
    made = len(list((folder / "output").rglob("*.parquet")))
    if made < len(columns):
        raise SystemExit(f"PYSTILT made {made} files of {len(columns)} receptors")


def stage_seconds(text: str) -> dict[str, float]:
    """Seconds by stage from what `stilt-assets run` says."""
    stages = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 3 and words[0] in ("pixels", "meteorology", "footprints", "jacobian") and words[3] == "s":
            stages[words[0]] = float(words[2])
    return stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only A and C")
    quick = parser.parse_args().quick
    if not DATA.is_dir():
        raise SystemExit(f"needs the test data in {DATA}")
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="stilt-assets-bench-") as name:
        base = Path(name)
        first = scene_folder("dagster", base, 2)
        meteorology = sorted((DATA / "hrrr").glob("2019*"))
        seed = scene_folder("receptors", base, 2)
        # Not in this process: what it leaves running would be waited for as if it belonged to what is timed.
        materialize(seed, "pixels")
        columns = receptors(seed)
        bare_runs = [prepare_bare(base / f"bare{turn}", columns, meteorology) for turn in range(2)]
        before = cpu_and_wall(lambda: run_bare(bare_runs[0]))
        dagster = cpu_and_wall(lambda: materialize(first, "group:scene"))
        after = cpu_and_wall(lambda: run_bare(bare_runs[1]))
        bare = tuple((one + other) / 2 for one, other in zip(before, after, strict=True))
        lean = prepare_bare(base / "lean", columns, meteorology, krand=2, seed=1, outdt=-1)
        rows = [
            ("C bare hycs_std, PYSTILT's defaults", *bare),
            ("A dagster asset materialize, 2 workers", *dagster),
            ("  of it: bare hycs_std as we set it", *cpu_and_wall(lambda: run_bare(lean))),
            ("  of it: Dagster's start, nothing to do", *cpu_and_wall(lambda: materialize(first, "group:scene"))),
        ]
        stages: dict[str, float] = {}
        if not quick:
            two, one = scene_folder("two", base, 2), scene_folder("one", base, 1)
            said: list[str] = []
            rows.append(
                (
                    "B stilt-assets run, 2 workers",
                    *cpu_and_wall(lambda: said.append(command(two, "stilt-assets", "run", KEY))),
                )
            )
            rows.append(
                ("B stilt-assets run, 1 worker", *cpu_and_wall(lambda: command(one, "stilt-assets", "run", KEY)))
            )
            rows.append(
                (
                    "D PYSTILT Project.run, 2 processes",
                    *cpu_and_wall(lambda: run_pystilt(base / "pystilt", columns, DATA / "hrrr")),
                )
            )
            stages = stage_seconds(said[0])
    print(f"{len(columns)} pixels, {PARTICLES} particles, {HOURS} h; {os.cpu_count()} cores\n")
    print(f"{'':40}{'CPU s':>8}{'wall s':>8}{'CPU / bare':>12}{'s/pixel':>9}")
    for what, cpu, wall in rows:
        print(f"{what:40}{cpu:8.1f}{wall:8.1f}{cpu / bare[0]:12.3f}{cpu / len(columns):9.2f}")
    rest = rows[1][1] - rows[2][1] - rows[3][1]
    print(f"\nthe rest of A, {rest:.1f} CPU s: workers' start, parsing, near field, weights, gridding, files, Jacobian")
    print(f"bare hycs_std before and after: {before[0]:.1f} and {after[0]:.1f} CPU s (the machine's own noise)")
    if stages:
        print(
            "stages of B with 2 workers, wall s: "
            + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items())
        )
        print(f"one worker / two workers, wall: {rows[5][2] / rows[4][2]:.2f}")


if __name__ == "__main__":
    main()
