"""What happens by itself? Scenes of files that arrive are run; days that were listed become a backfill."""

import time
from collections.abc import Sequence

import dagster as dg

from stilt_assets.defs import backfill
from stilt_assets.defs.partitions import add_keys
from stilt_assets.defs.retrievals import TO_RUN, retrievals
from stilt_assets.errors import StiltAssetsError
from stilt_assets.inbox import look
from stilt_assets.settings import Settings
from stilt_assets.store import Store

ORIGIN = backfill.ORIGIN
_TAGS = {ORIGIN: "arrival", "dagster/priority": "10"}  # before whatever else waits, backfills above all
_IN_FLIGHT = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_EVENTS = 200  # days that one tick turns into scenes, at most


@dg.sensor(
    target=dg.AssetSelection.groups("scene"),
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def arrivals(context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]):
    """Registers the scenes of files that arrive where retrievals do, and asks for their runs."""
    flying = context.instance.get_runs_count(dg.RunsFilter(statuses=_IN_FLIGHT, tags={ORIGIN: "arrival"}))

    def tell(keys: Sequence[str]) -> None:
        add_keys(context.instance, keys)

    try:
        found = look(
            settings,
            store,
            context.cursor,
            room=settings.arrivals.in_flight - flying,
            now=time.time(),
            tell=tell,
        )
    except StiltAssetsError as error:
        context.log.error(str(error))
        return dg.SkipReason(str(error))
    add_keys(context.instance, [each.key for each in found.asked])  # a wish may be older than the instance
    for one in found.taken:
        (context.log.warning if one.note.state == "refused" else context.log.info)(one.line)
    if found.trouble:
        context.log.error(found.trouble)
    runs = [dg.RunRequest(run_key=each.run_key, partition_key=each.key, tags=_TAGS) for each in found.asked]
    aside = sum(one.note.state == "refused" for one in found.taken)
    said = (
        f"{len(found.taken) - aside} files taken in, {aside} set aside, {found.waiting} wait; "
        f"{flying} runs of arrived scenes wait or run"
    )
    return dg.SensorResult(
        run_requests=runs or None,
        skip_reason=None if runs else dg.SkipReason(found.trouble or said),
        cursor=found.cursor.text,
    )


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def days_to_scenes(context: dg.SensorEvaluationContext):
    """Turns days that `retrievals` has listed into one backfill of their scenes, if its config asks for it."""
    after = int(context.cursor) if context.cursor else None
    events = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=retrievals.key, after_storage_id=after), limit=_EVENTS, ascending=True
    ).records
    if not events:
        return dg.SkipReason("no day was listed since the last look")
    done, by_run = [], dict[str, list[dg.EventLogRecord]]()
    for event in events:
        if event.run_id not in by_run and not _has_ended(context.instance, event.run_id):
            break  # its other days are still to come
        by_run.setdefault(event.run_id, []).append(event)
        done.append(event)
    if not done:
        return dg.SkipReason("days are being listed")
    count = 0
    for run_id, days in by_run.items():
        told = [event.asset_materialization.metadata for event in days if event.asset_materialization]
        wanted = [each[TO_RUN].value for each in told if TO_RUN in each]
        keys = sorted({str(key) for each in wanted if isinstance(each, list) for key in each})
        if keys:
            first, last = keys[0][:8], keys[-1][:8]
            name = f"{run_id[:8]}-{days[0].storage_id}"  # the same when a tick that died is repeated
            backfill.launch(context.instance, keys, f"Scenes of {first} to {last}", name)
            context.log.info(f"{len(keys)} scenes of {first} to {last} wait as backfill {name}")
            count += len(keys)
    context.update_cursor(str(done[-1].storage_id))
    return dg.SkipReason(f"{len(done)} days were listed, {count} of their scenes run as backfills")


def _has_ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is None or run.is_finished
