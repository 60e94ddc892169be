"""Many scenes at once: which they are, and how their backfill starts, pauses, goes on and ends."""

import logging
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from daemon import workspace_of
from dagster._core.execution import asset_backfill
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from place import Place
from typer.testing import CliRunner

from stilt_assets.cli import app
from stilt_assets.defs import backfill
from stilt_assets.errors import UsageError
from stilt_assets.scene import Record, Scene
from stilt_assets.store import open_store

FIRST = datetime(2019, 5, 30, 9, 58, tzinfo=UTC)
ROOT = Path(__file__).parents[1]


@pytest.fixture
def place(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Three scenes on three days, one of another target on the second day, and one with gaps on the third."""
    place = Place(tmp_path / "place", shared)
    targets = place.settings["targets"]
    place.change(
        targets=targets | {"north": targets["slc"]},
        collections={"spring": {"target": "slc", "from": "2019-05-30", "to": "2019-06-01"}},
    )
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", home)
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setattr(backfill, "_SETTLE", 0.0)
    for days, target in ((0, "slc"), (1, "slc"), (1, "north"), (2, "slc")):
        record(place, key(days, target)).save(open_store(str(place.folder / "store")))
    done = record(place, key(2))
    done.current = {"footprints": "footprints-0123456789ab", "jacobian": "jacobian-0123456789ab"}
    done.results = {
        "footprints-0123456789ab": {"made_from": {}},
        "jacobian-0123456789ab": {"made_from": {"footprints": "0123456789ab"}, "summary": {"gaps": 2}},
    }
    done.changed = {"footprints", "jacobian", *done.results}
    done.save(open_store(str(place.folder / "store")))
    return place


def key(days: int, target: str = "slc") -> str:
    return Scene(FIRST + timedelta(days=days), "tropomi", target).key


def record(place: Place, name: str) -> Record:
    return Record(name, {"path": str(place.retrieval), "product": "S5P_L2__CH4___"})


@pytest.fixture
def instance(place: Place) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def workspace(instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    with workspace_of(instance) as workspace:
        yield workspace


def typed(*words: str) -> list[str]:
    """Lines that a command prints to standard output."""
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def loop(workspace: WorkspaceProcessContext) -> None:
    """What the daemon does for backfills every half minute."""
    assert [error for error in execute_backfill_iteration(workspace, logging.getLogger("test")) if error] == []


def queued(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])))


def may_begin(instance: dg.DagsterInstance) -> list[str]:
    """Scenes whose runs the daemon would begin now."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=5)
    runs = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None)
    return [run.tags["dagster/partition"] for run in runs]


MAY = ("--from", "2019-05-30", "--to", "2019-06-01")


def test_a_dry_run_prints_which_scenes_and_starts_nothing(place: Place, instance: dg.DagsterInstance) -> None:
    assert typed("backfill", *MAY, "--dry-run") == sorted([key(0), key(1), key(1, "north")])
    assert typed("backfill", *MAY, "--target", "slc", "--dry-run") == [key(0), key(1)]
    assert typed("backfill", "--collection", "spring", "--dry-run") == [key(0), key(1)]
    later = ("--from", "2019-05-31", "--to", "2019-07-01", "--target", "slc", "--dry-run")
    assert typed("backfill", *later) == [key(1), key(2)]
    assert typed("backfill", *later, "--status", "missing") == [key(1)]
    assert typed("backfill", *later, "--status", "gaps") == [key(2)]
    assert typed("backfill", *later, "--status", "failed") == []
    assert typed("backfill", "--from", "2018-01-01", "--to", "2018-02-01") == []
    assert list(instance.get_backfills()) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "say which days"),
        (("--from", "2019-05-01"), "--from and --to go together"),
        (("--from", "May", "--to", "2019-06-01"), "--from May is no day; one looks like 2019-05-01"),
        (("--from", "2019-06-01", "--to", "2019-05-01"), "--to is the day after the last one"),
        ((*MAY, "--target", "moon"), "no target 'moon' in the settings; known: north, slc"),
        (("--collection", "autumn"), "no collection 'autumn' in the settings; known: spring"),
        (("--collection", "spring", "--target", "north"), "collection 'spring' is of target 'slc', not of 'north'"),
        (("pause", "nothing"), "the instance has no backfill 'nothing'"),
    ],
)
def test_what_contradicts_itself_is_told_in_a_line(place: Place, words: tuple[str, ...], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        CliRunner().invoke(app, ["backfill", *words], catch_exceptions=False)


def test_without_an_instance_only_a_dry_run_works(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    assert len(typed("backfill", *MAY, "--dry-run")) == 3
    with pytest.raises(UsageError, match="DAGSTER_HOME is not set"):
        CliRunner().invoke(app, ["backfill", *MAY], catch_exceptions=False)


def test_a_backfill_queues_each_of_its_scenes_once_and_no_other(
    place: Place, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    (name,) = typed("backfill", *MAY)
    loop(workspace)
    loop(workspace)
    runs = queued(instance)
    assert sorted(run.tags["dagster/partition"] for run in runs) == sorted([key(0), key(1), key(1, "north")])
    assert {run.tags[BACKFILL_ID_TAG] for run in runs} == {name}
    assert {run.tags["stilt_assets/origin"] for run in runs} == {"backfill"}
    wanted = {"pixels", "meteorology", "footprints", "jacobian"}
    assert {asset.to_user_string() for run in runs for asset in run.asset_selection or ()} == wanted
    assert f"{name}  requested" in "\n".join(typed("backfill", "list"))


def test_new_retrievals_come_first_and_a_backfill_has_one_place(
    place: Place, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    typed("backfill", *MAY)
    loop(workspace)
    assert len(may_begin(instance)) == 1
    run = queued(instance)[0]
    tags = {"dagster/partition": key(2), "dagster/priority": "10", "stilt_assets/origin": "arrival"}
    instance.add_run(run._replace(run_id="0" * 32, tags=tags))
    first, second = may_begin(instance)
    assert first == key(2)
    assert second != key(2)


def shown(instance: dg.DagsterInstance, name: str) -> tuple[str, str]:
    """State of a backfill, and its tag that says whether it is paused, as the web page shows them."""
    found = instance.get_backfill(name)
    assert found is not None
    return found.status.value, found.tags["stilt_assets/paused"]


def test_a_paused_backfill_waits_in_the_queue_and_goes_on(
    place: Place, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    (name,) = typed("backfill", *MAY)
    loop(workspace)
    typed("backfill", "pause", name)
    loop(workspace)
    assert (len(queued(instance)), may_begin(instance)) == (3, [])
    assert f"{name}  paused" in "\n".join(typed("backfill", "list"))
    assert shown(instance, name) == ("REQUESTED", "yes")
    with pytest.raises(UsageError, match="is paused already"):
        backfill.pause(name)
    typed("backfill", "resume", name)
    assert shown(instance, name) == ("REQUESTED", "no")
    loop(workspace)
    assert (len(queued(instance)), len(may_begin(instance))) == (3, 1)
    with pytest.raises(UsageError, match="is not paused"):
        backfill.resume(name)


def test_an_instance_that_would_begin_paused_runs_is_told_of(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    home = place.folder / "other"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    (name,) = typed("backfill", *MAY)
    with pytest.raises(UsageError, match=r"does not hold runs that are tagged stilt_assets/paused"):
        backfill.pause(name)


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")  # Dagster's own, of its logger
def test_a_pause_while_runs_are_put_into_the_queue_loses_none_and_doubles_none(
    place: Place, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = typed("backfill", *MAY)
    write = asset_backfill._write_updated_backfill_data

    def write_and_pause(*words: Any) -> object:
        write(*words)
        if not paused:
            paused.append(name)
            backfill.pause(name)
        return instance.get_backfill(name)

    paused: list[str] = []
    with monkeypatch.context() as patch:
        patch.setenv("DAGSTER_ASSET_BACKFILL_RUN_CHUNK_SIZE", "1")
        patch.setattr(asset_backfill, "_write_updated_backfill_data", write_and_pause)
        loop(workspace)
    assert paused
    assert (len(queued(instance)), may_begin(instance)) == (1, [])
    loop(workspace)
    assert len(queued(instance)) == 1
    assert shown(instance, name) == ("CANCELED", "halfway")  # or the daemon would go on
    assert f"{name}  paused" in "\n".join(typed("backfill", "list"))
    backfill.resume(name)
    loop(workspace)
    assert sorted(run.tags["dagster/partition"] for run in queued(instance)) == sorted(
        [key(0), key(1), key(1, "north")]
    )
    assert len(may_begin(instance)) == 1


@pytest.mark.parametrize("paused", [False, True])
def test_a_cancelled_backfill_leaves_the_queue(
    place: Place, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext, paused: bool
) -> None:
    (name,) = typed("backfill", *MAY)
    loop(workspace)
    if paused:
        typed("backfill", "pause", name)
    typed("backfill", "cancel", name)
    for _ in range(3):
        loop(workspace)
    assert queued(instance) == []
    assert f"{name}  canceled" in "\n".join(typed("backfill", "list"))
    with pytest.raises(UsageError, match="is canceled already"):
        backfill.cancel(name)
    assert typed("backfill", *MAY, "--status", "missing", "--dry-run") != []


def test_the_web_page_cancels_a_paused_backfill(
    place: Place, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    (name,) = typed("backfill", *MAY)
    loop(workspace)
    typed("backfill", "pause", name)
    found = instance.get_backfill(name)
    assert found is not None
    instance.update_backfill(found.with_status(BulkActionStatus.CANCELING))  # as its button does
    for _ in range(3):
        loop(workspace)
    assert queued(instance) == []
    assert f"{name}  canceled" in "\n".join(typed("backfill", "list"))
    with pytest.raises(UsageError, match="is not paused"):
        backfill.resume(name)


def test_a_backfill_beyond_the_limits_lifts_those_of_its_scenes(
    place: Place, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    typed("backfill", *MAY, "--target", "slc", "--beyond-limits")
    loop(workspace)
    assert {run.tags["stilt_assets/beyond_limits"] for run in queued(instance)} == {"yes"}


def test_what_failed_in_dagster_is_found(
    place: Place, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    typed("backfill", *MAY, "--target", "slc")
    loop(workspace)
    by_scene = {run.tags["dagster/partition"]: run for run in queued(instance)}
    instance.report_run_failed(by_scene[key(1)])
    assert typed("backfill", *MAY, "--status", "failed", "--dry-run") == [key(1)]
