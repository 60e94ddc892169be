"""Dagster as it is deployed on a cluster, with its daemon's loops in the hands of the test."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from daemon import workspace_of
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from cluster import Cluster
from stilt_assets.defs import backfill
from stilt_assets.defs.retries import remind

ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_LOG = logging.getLogger("test")


@dataclass
class Deployment:
    """An instance whose runs are pods."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext

    def ask_for(self, key: str) -> None:
        """A scene, as `stilt-assets backfill` asks for it."""
        backfill.launch(self.instance, [key], "test")
        for _ in range(2):
            assert [error for error in execute_backfill_iteration(self.workspace, _LOG) if error] == []

    def turn(self) -> None:
        """What the daemon does every few seconds."""
        for _ in EventLogConsumerDaemon().run_iteration(self.workspace):
            pass
        for _ in QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(self.workspace):
            pass
        for _ in execute_run_monitoring_iteration(self.workspace, _LOG):
            pass
        remind(self.instance, time.time() - 3600, time.time() - 5)

    def to_the_end(self, seconds: float = 1500) -> list[dg.DagsterRun]:
        """Turn until no run is under way and none is to be retried; all runs, the first one first."""
        return self.until(
            lambda runs: all(run.status in ENDED and not _comes_again(run, runs) for run in runs), seconds
        )

    def until(self, seen: Callable[[list[dg.DagsterRun]], bool], seconds: float = 1500) -> list[dg.DagsterRun]:
        """Turn until the runs are as wanted."""
        end = time.monotonic() + seconds
        while not seen(runs := list(reversed(self.instance.get_runs()))):
            assert time.monotonic() < end, [(run.run_id, run.status.value) for run in runs]
            self.turn()
            time.sleep(1)
        return runs

    def said(self, run: dg.DagsterRun, kind: dg.DagsterEventType) -> list[tuple[str | None, str]]:
        """Step and words of a run's events of a kind."""
        found = self.instance.all_logs(run.run_id, of_type=kind)
        return [(each.step_key, _words(each)) for each in found]


def _comes_again(run: dg.DagsterRun, runs: list[dg.DagsterRun]) -> bool:
    """Whether a run that ended is repeated, as far as one knows: the tag that says so comes after its status."""
    over = run.status != dg.DagsterRunStatus.FAILURE or run.tags.get("dagster/will_retry") == "false"
    return not over and run.run_id not in {other.parent_run_id for other in runs}


def _words(entry: Any) -> str:
    data = entry.dagster_event.event_specific_data
    words, error = [entry.dagster_event.message or ""], getattr(data, "error", None)
    while error:
        words.append(error.message)
        error = error.cause
    return " ".join(words)


@contextmanager
def deployment(home: Path, cluster: Cluster, settings: Mapping[str, Any]) -> Iterator[Deployment]:
    """Dagster with the instance of a `dagster.yaml` whose launcher finds this cluster; DAGSTER_HOME must be `home`."""
    launcher = settings["run_launcher"]["config"]
    config = launcher | {"load_incluster_config": False, "kubeconfig_file": str(cluster.kubeconfig)}
    whole = {**settings, "run_launcher": {**settings["run_launcher"], "config": config}}
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(yaml.safe_dump(whole))
    with dg.DagsterInstance.from_config(str(home)) as instance, workspace_of(instance) as workspace:
        yield Deployment(instance, workspace)
