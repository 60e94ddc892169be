"""
What do scenes cost Dagster's database, and what does it answer when it holds many?

A scene is really run once, on a Postgres of its own that vanishes: its rows, bytes and writes are counted. The rows of
thousands of runs are copies of that one's, made by the database. Then the sensors, the queries of the web page, its
pages in a real browser (chromium, if there is one) and the job that forgets are timed on them. Dollars and bytes of the
store are `stilt-assets preview`'s business.

    PYTHONPATH=tests python benchmarks/database.py [--runs 1000 10000] [--partitions 10000 50000] [--no-page]

Each line is printed as soon as it is known: what was stopped half way has measured the first half.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import sqlalchemy
from backfill import QUERIES, cpu, free_port, process, wait_for
from place import KEY, Place
from postgres import Postgres, postgres

from stilt_assets.defs import sensors
from stilt_assets.defs.partitions import add_keys
from stilt_assets.defs.retention import pruned
from stilt_assets.scene import Scene
from stilt_assets.settings import load_settings
from stilt_assets.settings.retention import RetentionSettings
from stilt_assets.store import open_store

ROOT = Path(__file__).resolve().parents[1]
FIRST = datetime(2019, 6, 1, tzinfo=UTC)
TABLES = ("event_logs", "runs", "run_tags", "asset_event_tags", "asset_check_executions", "dynamic_partitions")
# Of a copy the run, the time and the partition are others; so are they inside the event, which is text.
COPY = """
CREATE TEMP TABLE copies AS SELECT n, :template AS old, gen_random_uuid()::text AS run,
    to_char(timestamp '2019-06-01' + n * interval '4 minutes', 'YYYYMMDD"T"HH24MI"Z"') || '_tropomi_slc' AS key
  FROM generate_series(:first, :last) AS n;
INSERT INTO runs (run_id, snapshot_id, pipeline_name, mode, status, run_body, partition, partition_set,
    create_timestamp, update_timestamp, start_time, end_time)
  SELECT run, snapshot_id, pipeline_name, mode, status, replace(replace(run_body, old, run), :key, key), key,
    partition_set, create_timestamp, update_timestamp, start_time, end_time FROM runs, copies WHERE run_id = old;
INSERT INTO run_tags (run_id, key, value)
  SELECT run, t.key, replace(value, :key, copies.key) FROM run_tags t, copies WHERE run_id = old;
INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
  SELECT run, replace(replace(event, old, run), :key, key), dagster_event_type, timestamp, step_key, asset_key,
    CASE WHEN partition IS NULL THEN NULL ELSE key END
  FROM copies, LATERAL (SELECT * FROM event_logs WHERE run_id = old ORDER BY id) AS e;
INSERT INTO asset_event_tags (asset_key, key, value, event_id, event_timestamp)
  SELECT t.asset_key, t.key, replace(t.value, :key, c.key), n.id, t.event_timestamp FROM copies c,
    LATERAL (SELECT id, row_number() OVER (ORDER BY id) AS place FROM event_logs WHERE run_id = c.old) AS o,
    LATERAL (SELECT id, row_number() OVER (ORDER BY id) AS place FROM event_logs WHERE run_id = c.run) AS n,
    asset_event_tags AS t WHERE o.place = n.place AND t.event_id = o.id;
INSERT INTO asset_check_executions (asset_key, check_name, run_id, execution_status, evaluation_event,
    evaluation_event_timestamp, evaluation_event_storage_id, materialization_event_storage_id, partition)
  SELECT asset_key, check_name, run, execution_status, evaluation_event, evaluation_event_timestamp,
    evaluation_event_storage_id, materialization_event_storage_id, key FROM asset_check_executions, copies
  WHERE run_id = old;
DROP TABLE copies
"""


def line(*cells: object) -> None:
    print("| " + " | ".join(str(each) for each in cells) + " |", flush=True)


def timed(act: Callable[[], object]) -> tuple[float, float, object]:
    """Seconds, CPU seconds of this process, and the answer."""
    start, before = time.monotonic(), sum(os.times()[:4])
    answer = act()
    return time.monotonic() - start, sum(os.times()[:4]) - before, answer


def count(server: Postgres, table: str) -> int:
    return server.ask(f"SELECT count(*) FROM {table}")[0][0]


def written(server: Postgres) -> dict[str, int]:
    """What the server has done so far."""
    server.ask("SELECT pg_stat_force_next_flush()")
    time.sleep(1.5)  # clients report what they did a second late, at the latest when they leave
    names = ("xact_commit", "tup_inserted", "tup_updated", "sessions")
    counts = server.ask(f"SELECT {', '.join(names)} FROM pg_stat_database WHERE datname = current_database()")[0]
    bytes_of_log = server.ask("SELECT pg_current_wal_lsn() - '0/0'")[0][0]
    writers = server.ask("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0][0]  # only writers have one
    others = {"transactions that wrote": writers, "bytes of the write-ahead log": int(bytes_of_log)}
    return dict(zip(names, counts, strict=True)) | others


def sizes(server: Postgres) -> dict[str, tuple[int, int]]:
    """Rows and bytes, indexes included, of each table."""
    server.ask("VACUUM ANALYZE")
    found = ((name, count(server, name)) for name in TABLES)
    return {n: (rows, server.ask(f"SELECT pg_total_relation_size('{n}')")[0][0]) for n, rows in found}


@contextmanager
def home(folder: Path, server: Postgres) -> Iterator[dg.DagsterInstance]:
    folder.mkdir()
    (folder / "dagster.yaml").write_text((ROOT / "dagster_home" / "postgres" / "dagster.yaml").read_text())
    os.environ |= server.environment | {"DAGSTER_HOME": str(folder)}
    with dg.DagsterInstance.get() as instance:
        yield instance


def a_scene(place: Place, server: Postgres, instance: dg.DagsterInstance) -> str:
    """Run a scene; what the database has to do for it."""
    from stilt_assets.definitions import defs

    place.add()
    add_keys(instance, [KEY])
    before, rows = written(server), {name: count(server, name) for name in TABLES}
    defs.resolve_job_def("scene").execute_in_process(partition_key=KEY, instance=instance)
    print("\n## One scene of 3 packs in 1 shard, its steps and checks in one process\n\n| what | number |\n|---|---|")
    for name, number in written(server).items():
        line(name, f"{number - before[name]:,}")
    for name, number in rows.items():
        line(f"rows of {name}", count(server, name) - number)
    (run,) = instance.get_runs(limit=1)
    kinds = server.ask(
        "SELECT coalesce(dagster_event_type, 'log line'), count(*), sum(length(event)) FROM event_logs "
        "WHERE run_id = :run GROUP BY 1 ORDER BY 3 DESC LIMIT 5",
        run=run.run_id,
    )
    line("largest events, bytes", ", ".join(f"{number} {kind} {size:,}" for kind, number, size in kinds))
    return run.run_id


def fill(server: Postgres, template: str, instance: dg.DagsterInstance, upto: int) -> None:
    """Copies of a run, until there are so many."""
    first = count(server, "runs")
    steps = [each for each in COPY.split(";") if each.strip()]
    engine = sqlalchemy.create_engine(server.url)
    with engine.begin() as connection:
        values = {"template": template, "key": KEY, "first": first, "last": upto - 1}
        for step in steps:
            names = {name: value for name, value in values.items() if f":{name}" in step}
            connection.execute(sqlalchemy.text(step), names)
    engine.dispose()
    partitions(instance, upto)


def partitions(instance: dg.DagsterInstance, number: int) -> None:
    add_keys(instance, [Scene(FIRST + timedelta(minutes=4 * n), "tropomi", "slc").key for n in range(1, number)])


def growth(server: Postgres, number: int) -> None:
    print(f"\n## {number:,} runs\n\n| table | rows | a run | MB, indexes included | kB a run |\n|---|---|---|---|---|")
    total = [0, 0]
    for name, (rows, size) in sizes(server).items():
        line(name, f"{rows:,}", f"{rows / number:.1f}", f"{size / 1e6:.1f}", f"{size / number / 1e3:.2f}")
        total = [total[0] + rows, total[1] + size]
    line("all", f"{total[0]:,}", f"{total[0] / number:.1f}", f"{total[1] / 1e6:.1f}", f"{total[1] / number / 1e3:.2f}")


def capacity(instance: dg.DagsterInstance, seconds: float = 3.0) -> None:
    """Events a second that one process gets into the database, one after the other, as each run writes them."""
    run = instance.create_run_for_job(_nothing)
    done, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        instance.report_engine_event("measured", run)
        done += 1
    line("events that one process writes", f"{done / (time.monotonic() - start):.0f} a second")
    instance.delete_run(run.run_id)


@dg.job
def _nothing() -> None: ...


def ticks(place: Place, instance: dg.DagsterInstance) -> None:
    settings = load_settings(str(place.config))
    resources = {"settings": settings, "store": open_store(settings.store)}
    for sensor in (sensors.arrivals, sensors.days_to_scenes):
        given = resources if sensor is sensors.arrivals else {}
        with dg.build_sensor_context(instance=instance, resources=given) as context:
            took, used, _ = timed(lambda sensor=sensor, context=context: sensor(context))
        line(f"a tick of `{sensor.name}`", f"{took:.2f} s, {used:.2f} CPU s here")


PAGE = QUERIES | {
    "web page: runs of one scene": f"""{{runsOrError(
        limit: 30, filter: {{tags: [{{key: "dagster/partition", value: "{KEY}"}}]}}
        ) {{... on Runs {{results {{id status}}}}}}}}""",
    "web page: the scenes' keys": """{assetNodeOrError(assetKey: {path: ["jacobian"]}) {... on AssetNode {
        partitionKeysByDimension {partitionKeys}}}}""",
}
PAGES = {  # what stands there once it is of use
    "list of runs": ("runs", "Success"),
    "asset": ("assets/jacobian", "Materialize"),
    "partitions of an asset": ("assets/jacobian?view=partitions", "tropomi_slc"),
    "graph of all assets": ("asset-groups", "Materialize all"),
}


@dataclass(frozen=True)
class Web:
    """A web server that runs."""

    port: int
    pid: int


@contextmanager
def web_server(place: Place, folder: Path) -> Iterator[Web]:
    env, port = place.environment() | dict(os.environ) | {"STILT_ASSETS_CONFIG": str(place.config)}, free_port()
    words = ["dagster-webserver", "-w", str(ROOT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    with process(words, folder / "webserver.log", env, ROOT) as pid:
        wait_for(port)
        yield Web(port, pid)


def queries(web: Web) -> None:
    """What the web page asks, the first time and again."""
    for what, query in PAGE.items():
        told = []
        for _ in range(2):
            before = cpu(web.pid)
            took, _, answer = timed(lambda query=query: _asked(web.port, query))
            told.append(f"{took:.2f} s ({cpu(web.pid) - before:.2f} CPU s)")
        line(what, f"{told[0]}, again {told[1]}; {len(str(answer)):,} bytes")


def pages(web: Web) -> None:
    """What a person waits for; the first page brings the program of all others."""
    from browser import visits

    addresses = [(f"http://127.0.0.1:{web.port}/{path}", wanted) for path, wanted in PAGES.values()]
    for what, visit in zip(PAGES, visits(addresses, web.pid), strict=True):
        line(f"in a browser: {what}", visit.line)


def _asked(port: int, query: str) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        told = answer.read().decode()
    assert '"errors"' not in told, told[:500]
    return told


def forgetting(server: Postgres, instance: dg.DagsterInstance, number: int) -> None:
    size = server.ask("SELECT pg_database_size(current_database())")[0][0]
    kept = RetentionSettings(events=30, runs=180, dead_rows=0.02)
    took, used, told = timed(lambda: pruned(instance, kept, datetime.now(UTC) + timedelta(days=31)))
    line(f"`prune`, the logs of {number:,} runs", f"{took:.0f} s, {used:.0f} CPU s here; {told}")
    server.ask("VACUUM FULL")
    left = server.ask("SELECT pg_database_size(current_database())")[0][0]
    line("what is left of the database once rewritten", f"{size / 1e6:.0f} -> {left / 1e6:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--partitions", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--no-page", action="store_true", help="leave the web page out, which takes some minutes")
    given = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="database-") as name, postgres() as server, ExitStack() as stack:
        place = Place(Path(name) / "place", ROOT.parent / "shared")
        os.environ["STILT_ASSETS_CONFIG"] = str(place.config)
        instance = stack.enter_context(home(Path(name) / "home", server))
        commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True)
        print(f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.strip()}, {os.cpu_count()} cores, {load()}", flush=True)
        template = a_scene(place, server, instance)
        web = None if given.no_page else stack.enter_context(web_server(place, Path(name)))
        for number in given.runs:
            took, _, _ = timed(lambda number=number: fill(server, template, instance, number))
            growth(server, number)
            print(f"\n| {number:,} runs, copied in {took:.0f} s; {load()} | took |\n|---|---|")
            capacity(instance)
            ticks(place, instance)
            if web:
                queries(web)
        for number in given.partitions:
            partitions(instance, number)
            print(f"\n## {number:,} partitions, {given.runs[-1]:,} runs\n\n| {load()} | took |\n|---|---|")
            ticks(place, instance)
            if web:
                queries(web)
            if web and shutil.which("chromium"):
                pages(web)
        print(f"\n## Forgetting\n\n| {load()} | took |\n|---|---|")
        forgetting(server, instance, given.runs[-1])


def load() -> str:
    """How many processes want the cores: what takes long on a busy machine is not slow."""
    return f"load {os.getloadavg()[0]:.0f}"


if __name__ == "__main__":
    main()
