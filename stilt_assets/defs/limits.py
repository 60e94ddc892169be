"""May a run cost what it would? Asked before meteorology is fetched, and again before packs run."""

from collections.abc import Callable

import dagster as dg

from stilt_assets.budget import hold_to
from stilt_assets.preview import Preview
from stilt_assets.recipes import Desk

BEYOND = "stilt_assets/beyond_limits"  # tag of a run or a backfill that lifts the scene's limits with yes


def hold(context: dg.OpExecutionContext | dg.AssetExecutionContext, desk: Desk, weigh: Callable[[], Preview]) -> None:
    """OverLimitsError if the scene would pass a limit of the settings that no tag lifts; weighed only if it may."""
    if desk.settings.limits.scene.given and context.run.tags.get(BEYOND) != "yes":
        hold_to(weigh(), desk.settings, "scene", desk.record.key, f"with the run's tag {BEYOND}: yes")
