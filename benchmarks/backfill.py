"""
Do thousands of scenes queue without the daemon or the web page choking, and do new retrievals come first?

Real parts: a Postgres, Dagster's daemon and web server, this package's code location and commands. Only the scenes are
made up, as their records; none is run: the lane of backfills is closed, so that what is measured is the queue.

    python benchmarks/backfill.py [--scenes 10000] [--seconds 300] [--postgres URL]

The Postgres is one of its own, which vanishes, or that of a URL. The daemon puts runs into the queue for `seconds`;
what is left then is added as copies, so that the queue is as long as it would be.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
BIN = Path(sys.executable).parent
FIRST = datetime(2019, 5, 1, tzinfo=UTC)
SETTINGS = {
    "store": "./store",
    "retrievals": "./inbox",
    "meteorology": {"product": "none", "source": "./none"},
    "simulation": {"hours_back": 1, "particles": 2, "top": 2500},
    "targets": {
        "slc": {
            "bounds": [-112.6, 40.2, -111.3, 41.2],
            "grid": {"west": -112.8, "south": 40.15, "east": -111.2, "north": 41.35, "resolution": 0.01},
        }
    },
}


# A code server that does not come up in time fails the whole backfill: beside other work it takes minutes.
PATIENT = {"code_servers": {"local_startup_timeout": 900}}
PATIENTLY = {"DAGSTER_GRPC_TIMEOUT_SECONDS": "300", "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "300"}  # as `make ui`


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


@contextmanager
def process(words: list[str], log: Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> Iterator[int]:
    with log.open("ab") as said:
        running = subprocess.Popen(words, env=env, cwd=cwd, stdout=said, stderr=said, start_new_session=True)
        try:
            yield running.pid
        finally:
            os.killpg(running.pid, signal.SIGINT)
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()


def write_scenes(folder: Path, count: int) -> list[str]:
    """Records of made-up scenes, one every four minutes."""
    from stilt_assets.scene import Record, Scene
    from stilt_assets.store import open_store

    store = open_store(str(folder / "store"))
    keys = [Scene(FIRST + timedelta(minutes=4 * number), "tropomi", "slc").key for number in range(count)]
    for key in keys:
        Record(key, {"path": f"/nowhere/{key}.nc", "sha256": "0" * 64, "size": 1}).save(store)
    return keys


def write_home(home: Path, url: str) -> None:
    """The instance of the repository on Postgres, with the lane of backfills closed."""
    home.mkdir()
    given = yaml.safe_load((ROOT / "dagster_home" / "dagster.yaml").read_text())
    given["storage"] = {"postgres": {"postgres_url": url}}
    given |= PATIENT
    for limit in given["concurrency"]["runs"]["tag_concurrency_limits"]:
        if limit["key"] == "dagster/backfill":
            limit["limit"] = 0
    (home / "dagster.yaml").write_text(yaml.safe_dump(given))


def tree(pid: int) -> set[int]:
    """A process and its descendants."""
    found = {pid}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) in found or int(fields[2]) == pid:  # its parent; its group
            found.add(int(path.parent.name))
    return found


def cpu(pid: int) -> float:
    """CPU seconds of a process and its descendants so far."""
    total = 0
    for each in tree(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return total / os.sysconf("SC_CLK_TCK")


def timed(what: str, act: Callable[[], object], note: Callable[[object], str] = lambda _: "") -> object:
    start, before = time.monotonic(), sum(os.times()[:4])
    answer = act()
    took, used = time.monotonic() - start, sum(os.times()[:4]) - before
    print(f"| {what} | {took:.1f} s | {used:.1f} CPU s here{note(answer)} |", flush=True)
    return answer


def asked(port: int, query: str) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


QUERIES = {
    "web page: list of backfills": """{partitionBackfillsOrError(limit: 25) {
        ... on PartitionBackfills {results {id status title numPartitions}}}}""",
    "web page: first page of runs": """{runsOrError(limit: 30) {... on Runs {results {id status tags {key}}}}}""",
    "web page: partitions of an asset": """{assetNodeOrError(assetKey: {path: ["jacobian"]}) {... on AssetNode {
        partitionStats {numMaterialized numPartitions}
        assetPartitionStatuses {... on DefaultPartitionStatuses {unmaterializedPartitions}}}}}""",
}


def command(env: dict[str, str], *words: str) -> str:
    done = subprocess.run([BIN / "stilt-assets", *words], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


def measure(folder: Path, url: str, scenes: int, seconds: float) -> None:
    keys = write_scenes(folder, scenes)
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    (folder / "inbox").mkdir()
    home = folder / "home"
    write_home(home, url)
    env = os.environ | {"DAGSTER_HOME": str(home), "STILT_ASSETS_CONFIG": str(folder / "settings.yaml")} | PATIENTLY
    os.environ["DAGSTER_HOME"] = str(home)
    span = ("--from", f"{FIRST:%Y-%m-%d}", "--to", f"{FIRST + timedelta(minutes=4 * scenes, days=1):%Y-%m-%d}")
    print(f"\n{scenes} scenes on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | took | |\n|---|---|---|", flush=True)
    timed("`backfill --dry-run`", lambda: command(env, "backfill", *span, "--dry-run"))
    name = str(timed("`backfill`, with the keys' registration", lambda: command(env, "backfill", *span)))
    with process(
        ["dagster-daemon", "run", "-w", str(ROOT / "workspace.yaml")], folder / "daemon.log", env, ROOT
    ) as pid:
        queue(folder, name, keys, env, pid, seconds)


def queue(folder: Path, name: str, keys: list[str], env: dict[str, str], pid: int, seconds: float) -> None:
    import dagster as dg
    from dagster._core.storage.tags import BACKFILL_ID_TAG
    from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

    of_it = dg.RunsFilter(tags={BACKFILL_ID_TAG: name})
    with dg.DagsterInstance.get() as instance:
        wait_for_runs(instance, name, folder / "daemon.log")
        start, before, used = time.monotonic(), instance.get_runs_count(of_it), cpu(pid)
        while time.monotonic() - start < seconds and instance.get_runs_count(of_it) < len(keys):
            time.sleep(1)
        took, queued = time.monotonic() - start, instance.get_runs_count(of_it)
        rate = (queued - before) / took
        print(f"| runs put into the queue | {took:.0f} s | {queued - before}: {rate:.2f} a second |")
        print(f"| CPU of daemon and code server meanwhile | {cpu(pid) - used:.0f} s | |", flush=True)
        timed("`backfill pause`", lambda: command(env, "backfill", "pause", name))
        (pattern,) = instance.get_runs(of_it, limit=1)
        left = len(keys) - queued

        def fill() -> None:
            for key in keys[queued:]:
                tags = {**pattern.tags, "dagster/partition": key}
                instance.add_run(pattern._replace(run_id=str(uuid.uuid4()), tags=tags))

        timed(f"(queue filled up with {left} copies)", fill)
        daemon = QueuedRunCoordinatorDaemon(5)
        config = instance.get_concurrency_config()
        timed(
            "one look of the daemon at the queue, all blocked",
            lambda: daemon._get_runs_to_dequeue(instance, config, None),
            lambda found: f"; {len(list(found))} to begin; it looks every 5 s while a place is free",  # pyright: ignore
        )
        arrival = {**pattern.tags, "stilt_assets/origin": "arrival", "dagster/priority": "10"}
        arrival.pop(BACKFILL_ID_TAG)
        arrival.pop("stilt_assets/paused", None)
        instance.add_run(pattern._replace(run_id=str(uuid.uuid4()), tags=arrival))
        timed(
            "the same, once a retrieval arrived",
            lambda: daemon._get_runs_to_dequeue(instance, config, None),
            lambda found: f"; to begin: {[run.tags['stilt_assets/origin'] for run in found]}",  # pyright: ignore
        )
        used, start = cpu(pid), time.monotonic()
        time.sleep(60)
        share = (cpu(pid) - used) / (time.monotonic() - start)
        print(f"| CPU of daemon and code server, queue full | {share:.2f} cores | |", flush=True)
        port = free_port()
        words = ["dagster-webserver", "-w", str(ROOT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
        with process(words, folder / "webserver.log", env, ROOT):
            wait_for(port)
            for what, query in QUERIES.items():
                timed(what, lambda query=query: asked(port, query))
        timed("`backfill resume`", lambda: command(env, "backfill", "resume", name))
        timed("`backfill cancel`", lambda: command(env, "backfill", "cancel", name))
        start, waiting = (
            time.monotonic(),
            dg.RunsFilter(tags={BACKFILL_ID_TAG: name}, statuses=[dg.DagsterRunStatus.QUEUED]),
        )
        begun = instance.get_runs_count(waiting)
        while (still := instance.get_runs_count(waiting)) and time.monotonic() - start < seconds:
            time.sleep(2)
        took = time.monotonic() - start
        print(f"| the daemon takes them out of the queue | {took:.0f} s | {begun - still} of {begun} |")


def wait_for_runs(instance: Any, name: str, log: Path) -> None:
    """Until the daemon has put a first run of a backfill into the queue."""
    from dagster import RunsFilter
    from dagster._core.execution.backfill import BulkActionStatus
    from dagster._core.storage.tags import BACKFILL_ID_TAG

    limit = time.monotonic() + 1800
    while not instance.get_runs_count(RunsFilter(tags={BACKFILL_ID_TAG: name})):
        backfill = instance.get_backfill(name)
        if time.monotonic() > limit or backfill is None or backfill.status == BulkActionStatus.FAILED:
            raise SystemExit(f"the daemon puts no run into the queue: {log.read_text()[-2000:]}")
        time.sleep(0.5)


def wait_for(port: int) -> None:
    for _ in range(1800):
        try:
            asked(port, "{version}")
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the web server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--postgres", help="URL of a database that may be filled, postgresql+psycopg2://…")
    given = parser.parse_args()
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="backfill-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if given.postgres:
            measure(folder, given.postgres, given.scenes, given.seconds)
        else:
            from postgres import postgres

            with postgres() as server:
                measure(folder, server.text, given.scenes, given.seconds)


if __name__ == "__main__":
    main()
