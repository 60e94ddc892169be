"""A failed run that Dagster means to repeat is repeated, whatever its daemon saw."""

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from daemon import workspace_of
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon

from stilt_assets.definitions import defs
from stilt_assets.defs.retries import forgotten_retries, remind

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")  # Dagster's daemon
ROOT = Path(__file__).parents[1]


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance of one machine, as the project's own settings of Dagster make it."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_bytes((ROOT / "dagster_home/dagster.yaml").read_bytes())
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def workspace(instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    with workspace_of(instance) as workspace:
        look(workspace)  # the daemon counts failures from its first look on
        yield workspace


def look(workspace: WorkspaceProcessContext) -> None:
    """What the daemon does every few seconds about runs that failed."""
    for _ in EventLogConsumerDaemon().run_iteration(workspace):
        pass


def a_run(workspace: WorkspaceProcessContext) -> dg.DagsterRun:
    """A run that is under way."""
    (location,) = workspace.create_request_context().code_locations
    (repository,) = location.get_repositories().values()
    origin = repository.get_full_job("prune").get_remote_origin()
    return workspace.instance.create_run_for_job(
        defs.resolve_job_def("prune"), status=dg.DagsterRunStatus.STARTED, remote_job_origin=origin
    )


def fails_while_the_daemon_looks(workspace: WorkspaceProcessContext, run: dg.DagsterRun) -> None:
    """A run's failure, with a look of the daemon between its event and its new status."""
    storage = workspace.instance.run_storage
    kept = storage.handle_run_event

    def late(*given: object) -> None:
        look(workspace)
        kept(*given)  # pyright: ignore[reportArgumentType]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "handle_run_event", late)
        workspace.instance.report_run_failed(run, "its worker is gone")


def repeated(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    return [each.run_id for each in instance.get_runs() if each.parent_run_id == run.run_id]


def tick(instance: dg.DagsterInstance, cursor: str | None, ahead: float) -> tuple[str | None, str | None]:
    """The sensor's cursor and words at a tick, so many seconds from now."""
    now = time.time() + ahead
    with pytest.MonkeyPatch.context() as patch, dg.build_sensor_context(instance, cursor=cursor) as context:
        patch.setattr(time, "time", lambda: now)
        answer = forgotten_retries(context)
        assert isinstance(answer, dg.SkipReason)
        return context.cursor, answer.skip_message


def test_a_failure_that_the_daemon_saw_too_early_is_told_once_more(
    instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    run = a_run(workspace)
    cursor, _ = tick(instance, None, 0)
    fails_while_the_daemon_looks(workspace, run)
    for _ in range(3):
        look(workspace)
    assert repeated(instance, run) == []
    failed = instance.get_run_by_id(run.run_id)
    assert failed
    assert (failed.status, failed.tags[WILL_RETRY_TAG]) == (dg.DagsterRunStatus.FAILURE, "true")
    cursor, said = tick(instance, cursor, 30)  # too early to say that it was forgotten
    assert (repeated(instance, run), said) == ([], "0 forgotten")
    cursor, said = tick(instance, cursor, 120)
    assert said == "1 forgotten"
    look(workspace)
    assert len(repeated(instance, run)) == 1
    assert tick(instance, cursor, 240)[1] == "0 forgotten"
    look(workspace)
    assert len(repeated(instance, run)) == 1


def test_a_run_that_failed_again_is_told_again_and_none_is_told_twice(
    instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    now, run = time.time(), a_run(workspace)
    fails_while_the_daemon_looks(workspace, run)
    assert remind(instance, now - 1, now + 60) == [run.run_id]
    assert remind(instance, now - 1, now + 60) == []  # nobody looked yet
    look(workspace)
    (child,) = instance.get_runs(dg.RunsFilter(run_ids=repeated(instance, run)))
    fails_while_the_daemon_looks(workspace, child)
    assert remind(instance, now - 1, now + 60) == [child.run_id]
    look(workspace)
    assert len(repeated(instance, child)) == 1


def test_what_dagster_repeats_by_itself_or_not_at_all_is_left_alone(
    instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
) -> None:
    now, first = time.time(), a_run(workspace)
    instance.report_run_failed(first)
    look(workspace)
    (second,) = instance.get_runs(dg.RunsFilter(run_ids=repeated(instance, first)))
    instance.report_run_failed(second)
    look(workspace)
    (third,) = instance.get_runs(dg.RunsFilter(run_ids=repeated(instance, second)))
    instance.report_run_failed(third)  # one try and two more
    look(workspace)
    assert repeated(instance, third) == []
    instance.report_run_canceled(a_run(workspace))
    assert remind(instance, now - 1, now + 60) == []
