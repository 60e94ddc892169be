"""Which runs are stuck? Those that do not start, those that say nothing, and a queue that does not move."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.tags import BACKFILL_ID_TAG, PARTITION_NAME_TAG

from stilt_assets.defs.backfill import ORIGIN, PAUSED
from stilt_assets.defs.failures import RUNBOOK
from stilt_assets.settings import AlertSettings
from stilt_assets.webhook import Alert

_HOUR = 3600.0  # s
_AT_ONCE = 200  # runs that one look reads of each kind, at most
_STARTING = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)
_RUNNING = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_NOT_BACKFILLS = ["arrival", "analysis", "grid"]


def stuck(instance: dg.DagsterInstance, wanted: AlertSettings, now: float) -> list[Alert]:
    """An alert for each run that is stuck, the same at each look while it is; `now` is in s since 1970."""
    under_way = _records(instance, now, [*_STARTING, *_RUNNING])
    found = [alert for record in under_way if (alert := _one(instance, record, wanted, now))]
    return [*found, *_queue(instance, bool(under_way), wanted, now)]


def _records(
    instance: dg.DagsterInstance,
    now: float,
    statuses: list[dg.DagsterRunStatus],
    older: float = 0.0,
    tags: dict[str, str | list[str]] | None = None,
) -> list[dg.RunRecord]:
    """Runs that were made `older` hours ago, the oldest first."""
    before = datetime.fromtimestamp(now - older * _HOUR, UTC) if older else None
    wanted = dg.RunsFilter(statuses=statuses, tags=tags, created_before=before)
    return list(instance.get_run_records(wanted, limit=_AT_ONCE, ascending=True))


def _one(instance: dg.DagsterInstance, record: dg.RunRecord, wanted: AlertSettings, now: float) -> Alert | None:
    run = record.dagster_run
    name = run.tags.get(PARTITION_NAME_TAG, "a run")
    if run.status in _STARTING:
        hours = (now - record.update_timestamp.timestamp()) / _HOUR
        if hours > wanted.starting:
            what = f"{name} was to start {hours:.1f} h ago and has not: its worker never came up"
            return _alert(run, what, "starting", "a-run-that-does-not-start", name)
        return None
    last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    hours = (now - (last[0].timestamp if last else record.update_timestamp.timestamp())) / _HOUR
    if hours > wanted.silent:
        doing = "is being canceled" if run.status == dg.DagsterRunStatus.CANCELING else "runs"
        return _alert(run, f"{name} {doing} and has told nothing for {hours:.1f} h", "silent", "a-silent-run", name)
    return None


def _queue(instance: dg.DagsterInstance, something_runs: bool, wanted: AlertSettings, now: float) -> Iterator[Alert]:
    """A queue that stands while nothing runs; otherwise what waits too long in it although it is no backfill's."""
    queued = [dg.DagsterRunStatus.QUEUED]
    oldest = [each for each in _records(instance, now, queued, wanted.starting) if _may_begin(each)]
    if oldest and not something_runs and not _ended_lately(instance, wanted.starting, now):
        hours = _hours(oldest[0], now)
        what = f"The queue stands: nothing runs, and its first run has waited for {hours:.1f} h"
        yield _alert(oldest[0].dagster_run, what, "queue", "the-queue-stands", "")
        return
    first = _records(instance, now, queued, wanted.queued, {ORIGIN: _NOT_BACKFILLS})
    others = [each for each in oldest if not {ORIGIN, BACKFILL_ID_TAG} & each.dagster_run.tags.keys()]
    late = [each for each in (*first, *others) if _may_begin(each) and _hours(each, now) > wanted.queued]
    if late:
        longest = min(late, key=lambda each: each.create_timestamp)
        since = f"the first for {_hours(longest, now):.1f} h"
        what = f"{len(late)} runs have waited for more than {wanted.queued:g} h, {since}"
        yield _alert(longest.dagster_run, what, "waiting", "runs-that-wait", "")


def _may_begin(record: dg.RunRecord) -> bool:
    return record.dagster_run.tags.get(PAUSED) != "yes"


def _hours(record: dg.RunRecord, now: float) -> float:
    return (now - record.create_timestamp.timestamp()) / _HOUR


def _ended_lately(instance: dg.DagsterInstance, hours: float, now: float) -> bool:
    since = datetime.fromtimestamp(now - hours * _HOUR, UTC)
    return instance.get_runs_count(dg.RunsFilter(statuses=FINISHED_STATUSES, updated_after=since)) > 0


def _alert(run: dg.DagsterRun, what: str, how: str, section: str, scene: str) -> Alert:
    """The queue has one alert however its first run is called: what stands is the queue."""
    return Alert(
        id=f"stuck:{how}" if how in ("queue", "waiting") else f"stuck:{how}:{run.run_id}",
        kind="stuck",
        what=what + ".",
        then="operator: see what holds it up.",
        scenes=[scene] if scene else [],
        run=run.run_id,
        runbook=f"{RUNBOOK}#{section}",
    )
