"""
What may Dagster's database forget, and when?

Dagster forgets ticks by itself, and nothing else: a scene's run is some dozen rows of events for ever. The job `prune`
takes the logs of old runs away, and old runs altogether once nothing that they made is the last of its kind: as long as
it is, its partition counts as materialized.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import sqlalchemy as sa
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, PIPELINE_EVENTS, DagsterEventType
from dagster._core.storage.dagster_run import FINISHED_STATUSES, RunRecord
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from stilt_assets.errors import UsageError
from stilt_assets.settings import Settings
from stilt_assets.settings.retention import RetentionSettings

_KEPT = {kind.value for kind in ASSET_EVENTS | ASSET_CHECK_EVENTS | PIPELINE_EVENTS}
_MADE = (DagsterEventType.ASSET_MATERIALIZATION.value, DagsterEventType.ASSET_OBSERVATION.value)
_GROWING = ("event_logs", "runs", "run_tags", "job_ticks", "asset_check_executions", "asset_event_tags")
_AT_A_TIME = 500  # runs that are looked at
_CURSOR = "stilt_assets/logs_forgotten_until"


def _events_of(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise UsageError(f"the events of this instance are in no database that can be pruned: {type(storage).__name__}")
    return storage


def _finished(
    instance: dg.DagsterInstance, before: datetime, after: datetime | None = None
) -> Iterator[Sequence[RunRecord]]:
    """Runs that ended in a span of time, some at a time, those that began first first."""
    chosen = dg.RunsFilter(statuses=FINISHED_STATUSES, updated_before=before, updated_after=after)
    cursor = None
    while found := instance.get_run_records(chosen, limit=_AT_A_TIME, cursor=cursor, ascending=True):
        cursor = found[-1].dagster_run.run_id
        yield found


def forget_logs(instance: dg.DagsterInstance, before: datetime) -> int:
    """
    Remove the log of each run that ended before; how many rows.

    What it made, what was checked, and when it began and ended stay. The next time begins where this one ended.
    """
    events, table = _events_of(instance), SqlEventLogStorageTable.c
    until = instance.daemon_cursor_storage.get_cursor_values({_CURSOR}).get(_CURSOR)
    after, rows = datetime.fromisoformat(until) if until else None, 0
    log = sa.or_(table.dagster_event_type.is_(None), table.dagster_event_type.not_in(_KEPT))
    for records in _finished(instance, before, after):
        names = [record.dagster_run.run_id for record in records]
        in_one_file = [[name] for name in names] if isinstance(events, SqliteEventLogStorage) else [names]
        for runs in in_one_file:
            with events.run_connection(runs[0]) as connection:
                found = SqlEventLogStorageTable.delete().where(table.run_id.in_(runs), log)
                rows += connection.execute(found).rowcount
    instance.daemon_cursor_storage.set_cursor_values({_CURSOR: before.isoformat()})
    return rows


def forget_runs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Remove each run that ended before and of which nothing is the last of its kind; how many runs."""
    old: list[str] = []
    for records in _finished(instance, before):
        names = [record.dagster_run.run_id for record in records]
        standing = _standing(instance, names)
        old += [name for name in names if name not in standing]
    for name in old:  # afterwards: a list of runs goes on after the last one that was seen
        instance.delete_run(name)
    return len(old)


def _standing(instance: dg.DagsterInstance, runs: Sequence[str]) -> set[str]:
    """Those of some runs that made what nobody has made again since."""
    made, later = SqlEventLogStorageTable.alias(), SqlEventLogStorageTable.alias()
    same = sa.and_(
        later.c.asset_key == made.c.asset_key,
        later.c.dagster_event_type == made.c.dagster_event_type,
        sa.func.coalesce(later.c.partition, "") == sa.func.coalesce(made.c.partition, ""),
        sa.or_(later.c.partition == made.c.partition, made.c.partition.is_(None)),  # the index is on the bare column
        later.c.id > made.c.id,
    )
    last = sa.select(made.c.run_id).where(
        made.c.run_id.in_(runs), made.c.dagster_event_type.in_(_MADE), ~sa.exists().where(same)
    )
    with _events_of(instance).index_connection() as connection:
        return {row[0] for row in connection.execute(last.distinct())}


def see_to_room(instance: dg.DagsterInstance, dead_rows: float) -> list[str]:
    """
    Let Postgres use the room of what was removed again, now and by itself; the tables that it was told of.

    SQLite does so without being told.
    """
    told = []
    with _events_of(instance).index_connection() as connection:
        if connection.dialect.name != "postgresql":
            return []
        for name in _GROWING:
            shares = (
                f"autovacuum_{what}_scale_factor = {dead_rows}" for what in ("vacuum", "vacuum_insert", "analyze")
            )
            connection.execute(sa.text(f"ALTER TABLE {name} SET ({', '.join(shares)})"))
            connection.execute(sa.text(f"VACUUM (ANALYZE) {name}"))
            told.append(name)
    return told


def pruned(instance: dg.DagsterInstance, kept: RetentionSettings, now: datetime) -> dict[str, int]:
    """Forget what is older than the settings say; counts of what went."""
    runs = forget_runs(instance, now - timedelta(days=kept.runs))
    rows = forget_logs(instance, now - timedelta(days=kept.events))
    return {"runs": runs, "rows": rows, "tables": len(see_to_room(instance, kept.dead_rows))}


@dg.op
def forget(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Forget what is older than the settings' `retention` says."""
    context.add_output_metadata(pruned(context.instance, settings.retention, datetime.now(UTC)))


@dg.job
def prune() -> None:
    """Keep Dagster's database from growing for ever."""
    forget()


# Of a day's rows only: a table that is pruned once a month is swept of millions at once, while scenes write.
prune_daily = dg.ScheduleDefinition(
    name="prune_daily", job=prune, cron_schedule="17 3 * * *", default_status=dg.DefaultScheduleStatus.RUNNING
)
