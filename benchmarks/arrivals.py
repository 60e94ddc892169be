"""
Do files that are dropped into the inbox of a running Dagster become Jacobians, and can a month of scenes be led?

Real parts: `dagster dev`, this package's commands, `hycs_std` and the real meteorology of ../shared. Three files are
copied into the inbox, then a new issue of one of them; then a month of scenes is weighed, started, paused, taken up
again and cancelled. The month's scenes are all of the same file, so that each costs seconds.

    python benchmarks/arrivals.py [--scenes 300] [--folder FOLDER]
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from backfill import BIN, PATIENT, PATIENTLY, ROOT, asked, command, free_port, process, tree

sys.path.insert(0, str(ROOT / "tests"))
from made_retrievals import made  # pyright: ignore[reportMissingImports]  where the line above looks

DATA = ROOT.parent / "shared" / "data"
APRIL = datetime(2019, 4, 1, 9, 0, tzinfo=UTC)
MONTH = ("--from", "2019-04-01", "--to", "2019-05-01")
SETTINGS = {
    "store": "./store",
    "retrievals": "./inbox",
    "meteorology": {"product": "hrrr", "source": str(DATA / "hrrr")},
    "simulation": {"hours_back": 2, "particles": 20, "top": 2500},
    "packs": {"workers": 1},
    "targets": {
        "slc": {
            "bounds": [-112.36, 40.44, -112.05, 40.56],
            "grid": {"west": -112.8, "south": 40.15, "east": -111.2, "north": 41.35, "resolution": 0.02},
        }
    },
}
COUNTS = """{q: runsOrError(filter: {statuses: [QUEUED]}) {... on Runs {count}}
    r: runsOrError(filter: {statuses: [STARTING, STARTED]}) {... on Runs {count}}
    s: runsOrError(filter: {statuses: [SUCCESS], tags: [{key: "stilt_assets/origin", value: "backfill"}]}) {
        ... on Runs {count}}}"""


@contextmanager
def dagster_dev(folder: Path, env: dict[str, str], port: int) -> Iterator[None]:
    words = ["dagster", "dev", "-w", str(ROOT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    with process(words, folder / "dagster.log", env, ROOT) as pid:
        until("`dagster dev` answers", lambda: answers(port))
        started = tree(pid)
        try:
            yield
        finally:
            started |= tree(pid)
            os.killpg(pid, signal.SIGINT)
            time.sleep(10)
            for each in started - {pid}:  # its code servers outlive it
                try:
                    os.kill(each, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def until(what: str, holds: Callable[[], object], seconds: float = 1800.0) -> None:
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > seconds:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        time.sleep(2)
    print(f"| {what} | {time.monotonic() - start:.0f} s |", flush=True)


def answers(port: int) -> bool:
    try:
        return bool(asked(port, "{version}"))
    except OSError:
        return False


def arrive(folder: Path) -> None:
    """Three files, each of another overpass, and then one of them with other kernels, issued once more."""
    store, inbox = folder / "store", folder / "inbox"
    (source,) = (DATA / "retrievals").glob("S5P_TEST_*.nc")
    for number, minutes in enumerate((0, -20, -60)):
        dropped = made(source, folder / "drop", minutes, orbit=8430 - number)
        shutil.copyfile(dropped, inbox / dropped.name)

    def results(name: str) -> int:
        return len(list(store.glob(f"scenes/*/{name}")))

    until("three files dropped: three Jacobians", lambda: results("jacobian-*/jacobian.zarr/zarr.json") == 3)
    particles = results("particles-*")
    again = made(source, folder / "drop", kernel=0.9, processor=20400, produced="20230101T000000")
    shutil.copyfile(again, inbox / again.name)
    until("one of them issued once more: its difference is told", lambda: results("difference-*/difference.json") == 1)
    print(f"| Jacobians; particles of scenes | {results('jacobian-*')}; {results('particles-*')} of {particles} |")


def lead(folder: Path, env: dict[str, str], port: int, scenes: int) -> None:
    """A month of scenes: weighed, listed, started, paused, taken up again, cancelled."""
    from stilt_assets.scene import Record, Scene, load_record
    from stilt_assets.store import open_store

    store = open_store(str(folder / "store"))
    known = load_record(store, "20190530T0938Z_tropomi_slc").retrieval
    step = timedelta(days=30) / scenes
    for number in range(scenes):
        Record(Scene(APRIL + number * step, "tropomi", "slc").key, dict(known)).save(store)
    print(command(env, "preview", *MONTH))
    print(f"| `backfill --dry-run` | {len(command(env, 'backfill', *MONTH, '--dry-run').splitlines())} keys |")
    name = command(env, "backfill", *MONTH)

    def runs(which: str) -> int:
        return asked(port, COUNTS)["data"][which]["count"]

    until(f"backfill {name}: a first scene is done", lambda: runs("s") >= 1)
    until("all others are in the queue", lambda: runs("q") + runs("r") + runs("s") >= scenes)
    command(env, "backfill", "pause", name)
    until("paused: what ran has ended", lambda: runs("r") == 0)
    done = runs("s")
    time.sleep(60)
    print(f"| a minute later | {runs('s') - done} more done, {runs('r')} run, {runs('q')} wait |")
    command(env, "backfill", "resume", name)
    until("resumed: another scene is done", lambda: runs("s") > done)
    command(env, "backfill", "cancel", name)
    until("cancelled: nothing waits or runs", lambda: runs("q") + runs("r") == 0)
    print(command(env, "backfill", "list"))
    left = command(env, "backfill", *MONTH, "--status", "missing", "--dry-run").splitlines()
    print(f"| left for the next backfill, `--status missing` | {len(left)} of {scenes} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where everything goes, and stays; one that vanishes if not given")
    given = parser.parse_args()
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="arrivals-") as name:
        folder = (given.folder or Path(name)).absolute()
        for each in ("inbox", "home"):
            (folder / each).mkdir(parents=True)
        given_home = yaml.safe_load((ROOT / "dagster_home" / "dagster.yaml").read_text())
        (folder / "home" / "dagster.yaml").write_text(yaml.safe_dump(given_home | PATIENT))
        (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
        env = os.environ | {"DAGSTER_HOME": str(folder / "home"), "STILT_ASSETS_CONFIG": str(folder / "settings.yaml")}
        env |= PATIENTLY
        port = free_port()
        with dagster_dev(folder, env, port):
            arrive(folder)
            lead(folder, env, port, given.scenes)


if __name__ == "__main__":
    main()
