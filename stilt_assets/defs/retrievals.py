"""
Which scenes did a day bring? A day's retrieval files, listed and registered, for people who think in dates.

Between these days and the scenes stands `scene_catalog`, which nobody materializes: Dagster has no working way from
days to dynamic partitions, and a backfill of either side must not drag the other along.
"""

import warnings
from datetime import date, timedelta

import dagster as dg

from stilt_assets.catalog import chosen
from stilt_assets.defs.metadata import in_one_line
from stilt_assets.defs.partitions import add_keys
from stilt_assets.defs.pods import as_pod
from stilt_assets.errors import UsageError
from stilt_assets.inbox import files_of_days, scenes_of, take_in_files
from stilt_assets.settings import Settings
from stilt_assets.store import Store

days = dg.DailyPartitionsDefinition(start_date="2009-01-01", end_offset=1)  # GOSAT's first year; today is one, too
GROUP = "arrivals"
KEYS, TO_RUN = "scenes", "to_run"  # metadata: keys of a day's scenes, and those of them that are to be run


class RetrievalsConfig(dg.Config):
    """What is done about the scenes of the days."""

    scenes: str = "missing"  # which of them run afterwards: none, missing (without a Jacobian of the last issue) or all
    target: str | None = None  # of this target only


with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.BetaWarning)  # Dagster calls backfill policies beta; a test holds what we need
    by_day = dg.asset(
        partitions_def=days,
        group_name=GROUP,
        backfill_policy=dg.BackfillPolicy.single_run(),
        op_tags=as_pod("pixels", of_scene=False),
        kinds={"netcdf"},
    )


@by_day
def retrievals(
    context: dg.AssetExecutionContext,
    config: RetrievalsConfig,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[Store],
) -> None:
    """
    Retrieval files of a day, with their scenes registered. All days of a range are one run.

    `scenes`: keys of the day's scenes; `to_run`: those that the sensor `days_to_scenes` makes a backfill of.
    """
    first, last = (date.fromisoformat(key) for key in context.partition_key_range)
    with in_one_line():
        if config.scenes not in ("none", "missing", "all"):
            raise UsageError(f"scenes is '{config.scenes}', none of: none, missing, all")
        taken = take_in_files(
            files_of_days(settings, first, last),
            settings,
            store,
            lambda keys: add_keys(context.instance, keys),
            context.log.info,
        )
        found = scenes_of(taken, first, last, config.target)
        there = chosen(settings, store, first, last + timedelta(days=1), config.target)
        done = {each.key for each in there if each.state == "done"}
    for day, keys in found.items():
        wanted = {"none": [], "all": keys, "missing": [key for key in keys if key not in done]}
        context.add_asset_metadata(
            {"count": len(keys), KEYS: keys, TO_RUN: wanted[config.scenes]}, partition_key=f"{day}"
        )
    for one in taken:
        if one.note.state == "refused":
            context.log.warning(one.line)


scene_catalog = dg.AssetSpec(
    "scene_catalog",
    deps=[retrievals],
    group_name=GROUP,
    description="All scenes of the store: what days, arrivals and commands have registered.",
)
