"""When does a scene that ran on a forecast run again? As soon as the analysis of all of its hours is there."""

from datetime import UTC, datetime

import dagster as dg

from stilt_assets.choosing import due_for_analysis
from stilt_assets.defs.partitions import scenes
from stilt_assets.errors import StiltAssetsError
from stilt_assets.settings import Settings
from stilt_assets.store import Store

_AT_ONCE = 20  # runs that a tick asks for, at most
_PRIORITY = "5"  # after scenes that have no result yet
_UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    target=dg.AssetSelection.groups("scene"),
    minimum_interval_seconds=1800,
    default_status=dg.DefaultSensorStatus.RUNNING,  # whoever names a forecast among the sources asks for it
)
def analysis_arrived(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.SensorResult | dg.SkipReason:
    """
    Asks for the runs of scenes whose forecast an analysis may supersede now.

    A run that failed is asked for once more each day, as long as the scene waits for its analysis.
    """
    now = datetime.now(UTC)
    try:
        due = due_for_analysis(settings, store, now)
    except StiltAssetsError as error:
        return dg.SkipReason(str(error))
    idle = [each for each in due if not _runs(context.instance, each.key)][:_AT_ONCE]
    if not idle:
        return dg.SkipReason(f"{len(due)} scenes have their analysis and run already" if due else "no scene is due")
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"{each.key}:{each.offer.id}:{now:%Y%m%d}",
                partition_key=each.key,
                tags={"stilt_assets/origin": "analysis", "dagster/priority": _PRIORITY},
            )
            for each in idle
        ],
        dynamic_partitions_requests=[scenes.build_add_request([each.key for each in idle])],
    )


def _runs(instance: dg.DagsterInstance, key: str) -> bool:
    return instance.get_runs_count(dg.RunsFilter(statuses=_UNDER_WAY, tags={"dagster/partition": key})) > 0
