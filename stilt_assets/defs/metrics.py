"""How long is the queue, and does everything that should be alive show a sign of it?"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.scheduler.instigation import InstigatorType, TickStatus
from dagster._core.storage.tags import BACKFILL_ID_TAG, PARTITION_NAME_TAG
from sqlalchemy.exc import SQLAlchemyError

from stilt_assets.defs.backfill import ORIGIN, PAUSED, instance
from stilt_assets.errors import StoreError
from stilt_assets.faults import redacted
from stilt_assets.metrics import Metric

_STATES = {
    "queued": [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED],
    "starting": [dg.DagsterRunStatus.STARTING],
    "started": [dg.DagsterRunStatus.STARTED],
    "canceling": [dg.DagsterRunStatus.CANCELING],
}
_LATELY = timedelta(hours=1)
_MOVED = timedelta(minutes=5)
_AT_MOST = 500  # runs that moved lately, of which the scenes are read first
_HELD = 200  # of the oldest in the queue, among which one is looked for that is not paused


@contextmanager
def queue() -> Iterator[Callable[[float], tuple[Sequence[Metric], Collection[str]]]]:
    """
    What tells of the instance of DAGSTER_HOME at a time (s since 1970): its numbers, and the scenes that moved lately.

    It raises UsageError if there is no instance, and StoreError as long as its database is away.
    """
    with ExitStack() as opened:
        found: list[dg.DagsterInstance] = []

        def look(now: float) -> tuple[Sequence[Metric], Collection[str]]:
            try:
                if not found:
                    found.append(opened.enter_context(instance()))
                return metrics_of(found[0], now), moved(found[0], now)
            except _away() as error:
                said = redacted(" ".join(str(error).split()))[:200]
                raise StoreError(f"Dagster's database does not answer: {said}", "unreachable") from error

        yield look


def _away() -> tuple[type[Exception], ...]:
    """What is raised while a database is away: Dagster's own on Postgres, once its tries are used up."""
    postgres = sys.modules.get("dagster_postgres.utils")
    return (SQLAlchemyError, postgres.DagsterPostgresException) if postgres else (SQLAlchemyError,)


def metrics_of(there: dg.DagsterInstance, now: float) -> list[Metric]:
    """Numbers of an instance; `now` is in s since 1970."""
    failed = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE], updated_after=datetime.fromtimestamp(now, UTC) - _LATELY
    )
    beats = {name: now - beat.timestamp for name, beat in there.get_daemon_heartbeats().items()}
    return [
        Metric("runs", "Runs that have not ended, by where they come from.", _runs(there), ("lane", "state")),
        Metric.by(
            "state", "oldest_run_age_seconds", "Time since the oldest of these runs was made.", _ages(there, now)
        ),
        Metric.of("runs_failed_last_hour", "Runs that failed in the last hour.", there.get_runs_count(failed)),
        Metric.by("daemon", "daemon_heartbeat_age_seconds", "Time since a part of the daemon told of itself.", beats),
        Metric.by(
            "sensor", "sensor_tick_age_seconds", "Time since a sensor last looked with success.", _ticks(there, now)
        ),
    ]


def moved(there: dg.DagsterInstance, now: float) -> set[str]:
    """Scenes whose runs began or ended lately."""
    since = datetime.fromtimestamp(now, UTC) - _MOVED
    records = there.get_run_records(dg.RunsFilter(updated_after=since), limit=_AT_MOST, order_by="update_timestamp")
    keys = (record.dagster_run.tags.get(PARTITION_NAME_TAG) for record in records)
    return {key for key in keys if key}


def _runs(there: dg.DagsterInstance) -> dict[tuple[str, ...], float]:
    """Runs by lane and state; those that somebody paused are no longer queued."""
    by_hand = _other_backfills(there)
    found: dict[tuple[str, ...], float] = {}

    def count(statuses: list[dg.DagsterRunStatus], **tags: str | list[str]) -> int:
        return there.get_runs_count(dg.RunsFilter(statuses=statuses, tags=tags))

    for state, statuses in _STATES.items():
        total = count(statuses)
        arrived = count(statuses, **{ORIGIN: "arrival"}) if total else 0
        filling = count(statuses, **{ORIGIN: "backfill"}) if total else 0
        filling += count(statuses, **{BACKFILL_ID_TAG: by_hand}) if total and by_hand else 0
        found |= {("arrived", state): arrived, ("backfill", state): filling}
        found["other", state] = total - arrived - filling
    paused = count(_STATES["queued"], **{PAUSED: "yes"})
    found["backfill", "paused"] = paused
    found["backfill", "queued"] -= paused
    return found


def _other_backfills(there: dg.DagsterInstance) -> list[str]:
    """Backfills under way whose runs do not say what they are: somebody started them in the web page."""
    open_ones = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
    return [each.backfill_id for each in there.get_backfills(open_ones) if ORIGIN not in each.tags]


def _ages(there: dg.DagsterInstance, now: float) -> dict[str, float]:
    ages = {}
    for state, statuses in _STATES.items():
        records = there.get_run_records(
            dg.RunsFilter(statuses=statuses), limit=_HELD if state == "queued" else 1, ascending=True
        )
        waiting = (each for each in records if each.dagster_run.tags.get(PAUSED) != "yes")
        oldest = next(waiting, None)
        ages[state] = now - oldest.create_timestamp.timestamp() if oldest else 0.0
    return ages


def _ticks(there: dg.DagsterInstance, now: float) -> dict[str, float]:
    ages = {}
    for state in there.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        if not state.is_running:
            continue
        ended = [TickStatus.SUCCESS, TickStatus.SKIPPED]
        ticks = there.get_ticks(state.instigator_origin_id, state.selector_id, limit=1, statuses=ended)
        if ticks:
            ages[state.name] = now - ticks[0].timestamp
    return ages
