"""What the metrics page says of Dagster's queue and of those who work it off."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.types import DaemonHeartbeat
from postgres import postgres

from stilt_assets.defs import metrics
from stilt_assets.errors import StoreError
from stilt_assets.metrics import Metric

HERE = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="127.0.0.1", port=9), "__repository__")
QUEUED, STARTED = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED
NOW = time.time()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def put(instance: dg.DagsterInstance, number: int, status: dg.DagsterRunStatus, key: str = "k", **tags: str) -> None:
    named = {"dagster/partition": key} | {name.replace("__", "/"): value for name, value in tags.items()}
    for _ in range(number):
        create_run_for_test(
            instance, "scene", status=status, tags=named, remote_job_origin=HERE.get_job_origin("scene")
        )


def samples(found: list[Metric], name: str) -> dict[tuple[str, ...], float]:
    (metric,) = [each for each in found if each.name == name]
    return dict(metric.samples)


def test_runs_are_counted_by_lane_and_state(instance: dg.DagsterInstance) -> None:
    put(instance, 3, QUEUED, stilt_assets__origin="arrival")
    put(instance, 1, STARTED, stilt_assets__origin="arrival")
    put(instance, 5, QUEUED, stilt_assets__origin="backfill", dagster__backfill="ours")
    put(instance, 2, QUEUED, stilt_assets__origin="backfill", dagster__backfill="ours", stilt_assets__paused="yes")
    put(instance, 4, QUEUED, dagster__backfill="by-hand")
    put(instance, 1, STARTED, stilt_assets__origin="grid")
    put(instance, 6, dg.DagsterRunStatus.SUCCESS, stilt_assets__origin="arrival")
    put(instance, 2, dg.DagsterRunStatus.STARTING)
    for name, tags in (("ours", {"stilt_assets/origin": "backfill"}), ("by-hand", {})):
        instance.add_backfill(PartitionBackfill(name, BulkActionStatus.REQUESTED, False, tags, NOW, asset_selection=[]))
    assert {key: number for key, number in samples(metrics.metrics_of(instance, NOW), "runs").items() if number} == {
        ("arrived", "queued"): 3,
        ("arrived", "started"): 1,
        ("backfill", "queued"): 5 + 4,
        ("backfill", "paused"): 2,
        ("other", "started"): 1,
        ("other", "starting"): 2,
    }


def test_the_oldest_run_of_each_state_tells_how_long_it_waits(instance: dg.DagsterInstance) -> None:
    put(instance, 1, QUEUED, stilt_assets__paused="yes")
    assert samples(metrics.metrics_of(instance, time.time() + 100), "oldest_run_age_seconds")["queued",] == 0.0
    put(instance, 2, QUEUED)
    ages = samples(metrics.metrics_of(instance, time.time() + 100), "oldest_run_age_seconds")
    assert ages["queued",] == pytest.approx(100, abs=20)
    assert ages["started",] == 0.0


def test_failures_of_the_last_hour_are_counted_and_scenes_that_moved_are_named(instance: dg.DagsterInstance) -> None:
    put(instance, 2, STARTED, "a")
    put(instance, 1, STARTED, "b")
    for run in instance.get_runs(dg.RunsFilter(tags={"dagster/partition": "a"})):
        instance.report_run_failed(run)
    now = time.time()
    assert samples(metrics.metrics_of(instance, now), "runs_failed_last_hour")[()] == 2
    assert samples(metrics.metrics_of(instance, now + 4000), "runs_failed_last_hour")[()] == 0
    assert metrics.moved(instance, now) == {"a", "b"}
    assert metrics.moved(instance, now + 4000) == set()


def test_the_daemon_and_the_sensors_show_how_long_they_are_silent(instance: dg.DagsterInstance) -> None:
    instance.add_daemon_heartbeat(DaemonHeartbeat(NOW - 40, "SENSOR", "id", []))
    instance.add_daemon_heartbeat(DaemonHeartbeat(NOW - 7, "BACKFILL", "id", []))
    for name, status in (("arrivals", InstigatorStatus.DECLARED_IN_CODE), ("alerts", InstigatorStatus.STOPPED)):
        origin = HERE.get_instigator_origin(name)
        state = InstigatorState(origin, InstigatorType.SENSOR, status, SensorInstigatorData())
        instance.add_instigator_state(state)
        for seconds, ended in ((300, TickStatus.SKIPPED), (90, TickStatus.SUCCESS), (20, TickStatus.STARTED)):
            instance.create_tick(
                TickData(
                    instigator_origin_id=state.instigator_origin_id,
                    instigator_name=name,
                    instigator_type=InstigatorType.SENSOR,
                    status=ended,
                    timestamp=NOW - seconds,
                    selector_id=state.selector_id,
                    run_ids=["a run"] if ended == TickStatus.SUCCESS else None,
                )
            )
    found = metrics.metrics_of(instance, NOW)
    beats = samples(found, "daemon_heartbeat_age_seconds")
    assert beats == {("SENSOR",): pytest.approx(40, abs=1e-3), ("BACKFILL",): pytest.approx(7, abs=1e-3)}
    assert samples(found, "sensor_tick_age_seconds") == {("arrivals",): pytest.approx(90, abs=1e-3)}


def test_on_postgres_it_is_the_same_and_while_that_is_away_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(__file__).parents[1] / "dagster_home" / "postgres"
    shutil.copyfile(home / "dagster.yaml", tmp_path / "dagster.yaml")
    with postgres() as server, metrics.queue() as look:
        for name, value in (server.environment | {"DAGSTER_HOME": str(tmp_path)}).items():
            monkeypatch.setenv(name, value)
        with dg.DagsterInstance.get() as instance:
            put(instance, 3, QUEUED, stilt_assets__origin="arrival")
            put(instance, 2, QUEUED, "b", stilt_assets__origin="backfill", stilt_assets__paused="yes")
        for _ in range(2):
            found, moved = look(time.time())
            runs = {key: number for key, number in samples(list(found), "runs").items() if number}
            assert runs == {("arrived", "queued"): 3, ("backfill", "paused"): 2}
            assert moved == {"k", "b"}
            server.stop_at_once()
            with pytest.raises(StoreError, match="Dagster's database does not answer"):
                look(time.time())
            server.start()
