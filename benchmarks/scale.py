"""
What does a scene of many pixels cost Dagster, whatever its pixels cost?

A scene whose pixels all fail at once, so that only what is around them is left: packs, shards, files, the record,
events. It is run as Dagster runs it, in one shard and in 50; rows and bytes are those of the event log. Needs
../shared/data.

    python benchmarks/scale.py [--pixels 100000] [--shards 1 50]
"""

import argparse
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
BIN = Path(sys.executable).parent
KEY = "20190530T0958Z_tropomi_slc"
GRID = {"west": -112.8, "south": 40.15, "east": -111.2, "north": 41.35, "resolution": 0.02}


def retrieval(folder: Path, pixels: int) -> Path:
    side = int((1.2 * pixels) ** 0.5) + 1
    (source,) = (SHARED / "data" / "retrievals").glob("S5P_OFFL*.nc")
    file = folder / "S5P_SCALE.nc"
    place = ["--lat0", "40.35", "--lon0", "-112.4", "--dlat", str(0.7 / side), "--dlon", str(0.7 / side)]
    size = ["--rows", str(side), "--columns", str(side), "--bad", "0.05", "--time", "2019-05-30T09:58"]
    tool = SHARED / "tools" / "inflate_s5p.py"
    subprocess.run([sys.executable, str(tool), str(source), str(file), *place, *size], check=True)
    return file


def laid_out(folder: Path, file: Path, shards: int) -> dict[str, str]:
    """A place of its own with settings and an instance; the environment in which it is run."""
    home = folder / "home"
    home.mkdir(parents=True)
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", home)
    (folder / "still_air.json").write_text(json.dumps({"faults": {"*": "no_particles"}}))
    settings = {
        "store": "./store",
        "retrievals": str(file.parent),
        "meteorology": {"product": "hrrr", "source": str(SHARED / "data" / "hrrr")},
        "simulation": {"hours_back": 2, "particles": 4, "top": 2500, "transport": "still_air:StillAir"},
        "packs": {"shards": shards},
        "targets": {"slc": {"bounds": [-125.0, 25.0, -95.0, 55.0], "grid": GRID, "tolerance": 1.0}},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    return os.environ | {
        "DAGSTER_HOME": str(home),
        "STILT_ASSETS_CONFIG": str(folder / "settings.yaml"),
        "PYTHONPATH": str(ROOT / "tests"),
    }


def timed(environment: dict[str, str], *words: str) -> tuple[float, float]:
    """CPU and wall seconds of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        check=True,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - started


def events(home: Path) -> tuple[int, int]:
    """Rows of the first run's event log, the larger one, and bytes of what they say."""
    found = []
    for database in (home / "history" / "runs").glob("*-*.db"):
        with sqlite3.connect(database) as connection:
            found.append(connection.execute("select count(*), sum(length(event)) from event_logs").fetchone())
    return max(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=100_000)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 50])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        file = retrieval(folder, options.pixels)
        costs: dict[int, float] = {}
        for shards in options.shards:
            place = folder / str(shards)
            environment = laid_out(place, file, shards)
            timed(environment, "stilt-assets", "scenes", "add", str(file))
            command = ("dagster", "asset", "materialize", "-m", "stilt_assets.definitions", "--select", "group:scene")
            cpu, wall = timed(environment, *command, "--partition", KEY)
            again, _ = timed(environment, *command, "--partition", KEY)
            told = subprocess.run(
                [str(BIN / "stilt-assets"), "status", KEY, "--json"], check=True, env=environment, capture_output=True
            )
            status = json.loads(told.stdout)
            rows, size = events(Path(environment["DAGSTER_HOME"]))
            files = sum(1 for path in (place / "store").rglob("*") if path.is_file())
            print(
                f"{status['pixels']} pixels, {status['packs']} packs, {shards} shards: {cpu:.1f} CPU s, {wall:.1f} s, "
                f"{1000 * cpu / status['pixels']:.2f} ms a pixel; {rows} event rows, {size / 1024:.0f} kB; "
                f"run again {again:.1f} CPU s; {files} files",
                flush=True,
            )
            costs[shards] = cpu
        least, most = min(costs), max(costs)
        if most > least:
            print(f"each further shard: {(costs[most] - costs[least]) / (most - least):.2f} CPU s")


if __name__ == "__main__":
    main()
