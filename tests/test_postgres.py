"""The same code location with its runs and events in Postgres: they lie there, outlive it, and do not grow for ever."""

import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._core.test_utils import create_run_for_test
from gcs_server import BUCKET, gcs_server
from place import KEY, Place, contents
from postgres import Postgres, postgres, refuses

from stilt_assets.defs.assets import OF_A_SCENE
from stilt_assets.defs.partitions import scenes
from stilt_assets.defs.resources import RunnerResource, SettingsResource, StoreResource
from stilt_assets.defs.retention import forget_logs, forget_runs, pruned, see_to_room
from stilt_assets.settings.retention import RetentionSettings

HOMES = Path(__file__).parents[1] / "dagster_home"
DEPLOYED = {
    "STILT_ASSETS_NAMESPACE": "stilt-dev",
    "STILT_ASSETS_IMAGE": f"registry.example.org/stilt@sha256:{64 * '0'}",
    "STILT_ASSETS_LOGS_BUCKET": BUCKET,
    "STILT_ASSETS_LOGS_FOLDER": "/tmp",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture
def home(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DAGSTER_HOME as `dagster_home/postgres` has it, on an empty database."""
    server.ask("DROP SCHEMA public CASCADE")
    server.ask("CREATE SCHEMA public")
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copyfile(HOMES / "postgres" / "dagster.yaml", folder / "dagster.yaml")
    for name, value in (server.environment | {"DAGSTER_HOME": str(folder)}).items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as found:
        yield found


@pytest.fixture
def place(tmp_path: Path, shared: Path) -> Place:
    made = Place(tmp_path / "place", shared)
    made.add()
    return made


def materialized(place: Place, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """A scene's assets, run by Dagster in this process."""
    instance.add_dynamic_partitions("scenes", [KEY])
    resources = {
        "settings": SettingsResource(location=str(place.config)),
        "store": StoreResource(location=str(place.config)),
        "runner": RunnerResource(),
    }
    return dg.materialize(OF_A_SCENE, partition_key=KEY, instance=instance, resources=resources)


def rows(server: Postgres, table: str) -> int:
    return server.ask(f"SELECT count(*) FROM {table}")[0][0]


def jacobian(place: Place) -> dict[str, bytes]:
    return contents(place.result("jacobian") / "jacobian.zarr")


# ---- where things lie


def test_all_that_dagster_knows_of_a_scene_lies_in_postgres_which_may_be_switched_off_in_mid_run(
    home: Path, instance: dg.DagsterInstance, server: Postgres, place: Place, tmp_path: Path, shared: Path
) -> None:
    """Its Jacobian is the one that is made without Dagster."""
    if server.folder is None:
        pytest.skip("the server is somebody else's")
    undisturbed = Place(tmp_path / "undisturbed", shared)
    undisturbed.add()
    undisturbed.make()
    refused: list[bool] = []

    def switch_off_and_on() -> None:
        while not server.ask("SELECT 1 FROM event_logs WHERE event LIKE '%of 9 pixels%'"):
            time.sleep(0.05)
        server.stop_at_once()
        refused.append(refuses(server))
        server.start()

    switch = threading.Thread(target=switch_off_and_on, daemon=True)
    switch.start()
    done = materialized(place, instance)
    switch.join(60)
    assert refused == [True]
    assert done.success
    assert jacobian(place) == jacobian(undisturbed)
    assert server.ask("SELECT run_id, status FROM runs") == [(done.run_id, "SUCCESS")]
    made = server.ask("SELECT asset_key, partition FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'")
    assert sorted(made) == [(f'["{name}"]', KEY) for name in ("footprints", "jacobian", "meteorology", "pixels")]
    assert server.ask("SELECT partition FROM dynamic_partitions") == [(KEY,)]
    assert [path for path in home.rglob("*") if path.suffix in (".db", ".sqlite")] == []


# ---- what is forgotten


def old_run(instance: dg.DagsterInstance, server: Postgres, partition: str, days: float, *, ends: bool = True) -> str:
    """A run of that many days ago, which made one partition of an asset."""

    @dg.asset(partitions_def=scenes)
    def thing(context: dg.AssetExecutionContext) -> None:
        context.log.info("said")

    instance.add_dynamic_partitions("scenes", [partition])
    run_id = dg.materialize([thing], partition_key=partition, instance=instance).run_id
    then = datetime.now(UTC) - timedelta(days=days)
    server.ask(
        "UPDATE runs SET update_timestamp = :then WHERE run_id = :run", then=then.replace(tzinfo=None), run=run_id
    )
    if not ends:
        server.ask("UPDATE runs SET status = 'STARTED' WHERE run_id = :run", run=run_id)
    return run_id


def kinds(server: Postgres, run_id: str) -> set[str | None]:
    return {row[0] for row in server.ask("SELECT dagster_event_type FROM event_logs WHERE run_id = :r", r=run_id)}


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def test_the_log_of_an_old_run_goes_and_what_it_made_stays(instance: dg.DagsterInstance, server: Postgres) -> None:
    old, young = old_run(instance, server, "a", 31), old_run(instance, server, "b", 29)
    alive = old_run(instance, server, "c", 400, ends=False)
    before = {run: kinds(server, run) for run in (old, young, alive)}
    total = rows(server, "event_logs")
    gone = forget_logs(instance, ago(30))
    assert gone == total - rows(server, "event_logs") >= 5
    assert {"STEP_START", "ENGINE_EVENT", None} <= before[old]
    left = {"PIPELINE_START", "PIPELINE_SUCCESS", "ASSET_MATERIALIZATION", "ASSET_MATERIALIZATION_PLANNED"}
    assert kinds(server, old) == left
    assert (kinds(server, young), kinds(server, alive)) == (before[young], before[alive])
    assert instance.get_materialized_partitions(dg.AssetKey("thing")) == {"a", "b", "c"}
    assert forget_logs(instance, ago(30)) == 0


def test_a_run_goes_only_when_nothing_of_it_is_the_last_of_its_kind(
    instance: dg.DagsterInstance, server: Postgres
) -> None:
    superseded, standing, other = (old_run(instance, server, key, 200) for key in ("a", "a", "b"))
    failed = create_run_for_test(instance, "thing", status=dg.DagsterRunStatus.FAILURE).run_id
    server.ask("UPDATE runs SET update_timestamp = now() - interval '200 days' WHERE run_id = :run", run=failed)
    young = create_run_for_test(instance, "thing", status=dg.DagsterRunStatus.FAILURE).run_id
    assert forget_runs(instance, ago(180)) == 2
    assert {row[0] for row in server.ask("SELECT run_id FROM runs")} == {standing, other, young}
    assert kinds(server, superseded) == set()
    assert instance.get_materialized_partitions(dg.AssetKey("thing")) == {"a", "b"}


def test_many_runs_are_forgotten_a_page_at_a_time(
    instance: dg.DagsterInstance, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stilt_assets.defs.retention._AT_A_TIME", 2)
    for _ in range(5):
        create_run_for_test(instance, "thing", status=dg.DagsterRunStatus.CANCELED)
    server.ask("UPDATE runs SET update_timestamp = now() - interval '200 days'")
    assert forget_runs(instance, ago(180)) == 5
    assert rows(server, "runs") == 0


def test_a_table_is_swept_and_its_share_of_dead_rows_is_the_settings(
    instance: dg.DagsterInstance, server: Postgres
) -> None:
    old_run(instance, server, "a", 31)
    told = pruned(instance, RetentionSettings(events=30, runs=180, dead_rows=0.05), datetime.now(UTC))
    assert (told["runs"], told["tables"]) == (0, 6)
    assert told["rows"] >= 5
    options = server.ask("SELECT reloptions FROM pg_class WHERE relname = 'event_logs'")[0][0]
    assert "autovacuum_vacuum_scale_factor=0.05" in options
    swept = server.ask("SELECT last_vacuum IS NOT NULL, n_dead_tup FROM pg_stat_user_tables WHERE relname='event_logs'")
    assert swept == [(True, 0)]


def test_sqlite_forgets_too() -> None:
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("scenes", ["a"])

        @dg.asset(partitions_def=scenes)
        def thing() -> None: ...

        first, last = (dg.materialize([thing], partition_key="a", instance=instance).run_id for _ in range(2))
        assert forget_runs(instance, ago(-1)) == 1
        assert [run.run_id for run in instance.get_runs()] == [last]
        assert forget_logs(instance, ago(-1)) > 5
        left = {record.event_log_entry.dagster_event_type for record in instance.get_records_for_run(last).records}
        assert dg.DagsterEventType.ASSET_MATERIALIZATION in left
        assert dg.DagsterEventType.STEP_START not in left
        assert instance.get_records_for_run(first).records == []
        assert see_to_room(instance, 0.02) == []


# ---- the files


def home_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((HOMES / name / "dagster.yaml").read_text())


def test_the_instance_on_kubernetes_is_what_its_file_says(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: None)
    for name, value in (server.environment | DEPLOYED).items():
        monkeypatch.setenv(name, value)
    with gcs_server() as bucket:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{bucket.port}")
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(HOMES / "kubernetes"))) as found:
            classes = [found.run_launcher, found.run_coordinator, found.compute_log_manager, found.event_log_storage]
            assert [type(each).__name__ for each in classes] == [
                "K8sRunLauncher",
                "QueuedRunCoordinator",
                "GCSComputeLogManager",
                "PostgresEventLogStorage",
            ]
            assert {(run.run_id,) for run in found.get_runs()} == set(server.ask("SELECT run_id FROM runs"))
            assert found.run_launcher.get_run_worker_debug_info  # type: ignore[attr-defined]
            assert (found.run_retries_enabled, found.run_monitoring_enabled) == (True, True)
            assert found.run_monitoring_max_resume_run_attempts == 0
            pools = found.get_concurrency_config().pool_config
            assert (pools.default_pool_limit, pools.pool_granularity.value) == (200, "op")  # type: ignore[union-attr]
            assert "psycopg2" in str(found.event_log_storage.postgres_url)  # type: ignore[attr-defined]
            assert "keepalives_idle=30" in found.event_log_storage.postgres_url  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("place", "typo"),
    [
        ("run_launcher.config", {"backoff": 0}),
        ("run_launcher.config.run_k8s_config", {"job_specs": {}}),
        ("run_coordinator.config", {"dequeue_num_workers": "many"}),
        ("run_monitoring", {"start_timeout": 600}),
        ("run_retries", {"max_retries": "two"}),
        ("concurrency.pools", {"limit": 3}),
        ("compute_logs.config", {"buckets": "b"}),
        ("retention.sensor", {"purge_after_days": {"skiped": 1}}),
        ("storage.postgres.postgres_db", {"host": "h"}),
    ],
)
def test_every_block_is_checked_against_dagsters_own_types(
    place: str, typo: dict[str, Any], server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the file loads says something only because this one does not."""
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: None)
    for name, value in (server.environment | DEPLOYED).items():
        monkeypatch.setenv(name, value)
    given = home_of("kubernetes")
    block = given
    for word in place.split("."):
        block = block[word]
    block.update(typo)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(given))
    with (
        pytest.raises((dg.DagsterInvalidConfigError, dg.DagsterInvariantViolationError)),
        dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path))) as found,
    ):
        _ = (found.run_launcher, found.run_coordinator, found.compute_log_manager)


def test_a_machine_has_the_same_instance_on_postgres_as_without() -> None:
    with_sqlite, with_postgres = home_of("."), home_of("postgres")
    assert with_postgres.pop("storage")["postgres"]["postgres_db"]["scheme"] == "postgresql+psycopg2"
    assert "storage" not in with_sqlite
    assert with_postgres == with_sqlite


def test_a_run_pod_asks_for_what_is_computed() -> None:
    from stilt_assets.pod import TYPICAL

    config = home_of("kubernetes")["run_launcher"]["config"]["run_k8s_config"]
    assert config["container_config"]["resources"] == TYPICAL["run"].resources
