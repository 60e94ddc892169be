"""When is a result good enough to go on with?"""

from typing import Any

import dagster as dg

from stilt_assets.defs.assets import footprints, jacobian
from stilt_assets.defs.metadata import RETRIES, checked, in_one_line
from stilt_assets.defs.pods import as_pod
from stilt_assets.guard import judgement_of
from stilt_assets.jacobian import NAME
from stilt_assets.quality import crop_was_large_enough as _crop_was_large_enough
from stilt_assets.quality import few_pixels_lost as _few_pixels_lost
from stilt_assets.quality import jacobian_is_physical as _jacobian_is_physical
from stilt_assets.quality import native_agrees_with_hysplit as _native_agrees_with_hysplit
from stilt_assets.quality import no_gaps as _no_gaps
from stilt_assets.recipes import Desk, desk_of
from stilt_assets.settings import Settings
from stilt_assets.store import Store
from stilt_assets.whole import read_outcomes


def _outcomes(desk: Desk) -> list[dict[str, Any]]:
    return read_outcomes(desk.store, desk.store.result(desk.record.key, desk.record.current["footprints"]))


@dg.asset_check(asset=footprints, blocking=True, retry_policy=RETRIES, op_tags=as_pod("check"))
def few_pixels_lost(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.AssetCheckResult:
    """At most the target's tolerance of a scene's pixels failed; no Jacobian is made otherwise."""
    with in_one_line():
        desk = desk_of(context.partition_key, settings, store)
        return checked(_few_pixels_lost(_outcomes(desk), desk.target.tolerance))


@dg.asset_check(asset=footprints, retry_policy=RETRIES, op_tags=as_pod("check"))
def crop_was_large_enough(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.AssetCheckResult:
    """Hardly any particle came near a side or the lid of the meteorology's crop; a warning otherwise."""
    with in_one_line():
        made = desk_of(context.partition_key, settings, store).record.result_of("footprints") or {}
        return checked(_crop_was_large_enough(made["summary"]), dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=footprints, retry_policy=RETRIES, op_tags=as_pod("check"))
def native_agrees_with_hysplit(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.AssetCheckResult:
    """Pixels that ran once more with hysplit differ from native's as two runs of hysplit do; an error otherwise."""
    with in_one_line():
        record = desk_of(context.partition_key, settings, store).record
        summary = (record.result_of("footprints") or {})["summary"]
        judgement = judgement_of(store, store.result(record.key, record.current["footprints"]))
        return checked(_native_agrees_with_hysplit(summary, judgement))


@dg.asset_check(asset=jacobian, retry_policy=RETRIES, op_tags=as_pod("check"))
def no_gaps(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.AssetCheckResult:
    """Every pixel has a footprint or is known to have no influence; a warning otherwise, the scene stays closed."""
    with in_one_line():
        desk = desk_of(context.partition_key, settings, store)
        return checked(_no_gaps(_outcomes(desk)), dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=jacobian, blocking=True, retry_policy=RETRIES, op_tags=as_pod("check"))
def jacobian_is_physical(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.AssetCheckResult:
    """H is finite and not negative, has a row per pixel, and its rows sum to what the footprint files hold."""
    with in_one_line():
        desk = desk_of(context.partition_key, settings, store)
        current = {stage: store.result(desk.record.key, name) for stage, name in desk.record.current.items()}
        pixels = desk.record.result_of("pixels")
        rows = pixels["summary"]["pixels"] if pixels else 0
        return checked(_jacobian_is_physical(store.file(current["jacobian"], NAME), store, current["footprints"], rows))
