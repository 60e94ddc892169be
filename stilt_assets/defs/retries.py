"""
Which failed runs has Dagster forgotten to repeat?

Its daemon reads the event of each failure once, and passes the run by if the run's new status, which is written after
the event, is not there yet: the run then says for good that it will be repeated, and never is.
"""

import time
from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

_WINDOW = 60.0  # s after which the daemon, which looks every few seconds, has repeated what it has not forgotten
_FIRST = 3600.0  # s that the first look goes back
_TOLD = "stilt_assets/told_again"  # the run's own id: a run that repeats another has its tags, too
_SAID = "This failure was passed over, although the run is to be repeated; it is told once more."


def remind(instance: dg.DagsterInstance, since: float, until: float) -> list[str]:
    """Tell the daemon once more of runs that it forgot and that changed from `since` to `until`, s since 1970."""
    wanted = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={WILL_RETRY_TAG: "true"},
        updated_after=datetime.fromtimestamp(since, UTC),
        updated_before=datetime.fromtimestamp(until, UTC),
    )
    runs = [record.dagster_run for record in instance.get_run_records(wanted)]
    forgotten = [run for run in runs if AUTO_RETRY_RUN_ID_TAG not in run.tags and run.tags.get(_TOLD) != run.run_id]
    for run in forgotten:
        instance.report_run_failed(run, _SAID)  # the daemon repeats no run twice
        instance.add_run_tags(run.run_id, {_TOLD: run.run_id})
    return [run.run_id for run in forgotten]


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def forgotten_retries(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Sees that each failed run that Dagster means to repeat is repeated."""
    until = time.time() - _WINDOW
    since = float(context.cursor) if context.cursor else until - _FIRST
    forgotten = remind(context.instance, since, until)
    context.update_cursor(str(until))
    for run in forgotten:
        context.log.warning(f"Dagster was to repeat run {run} and had not: it is told once more")
    return dg.SkipReason(f"{len(forgotten)} forgotten")
