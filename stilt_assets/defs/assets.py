"""
Which assets does a scene have? pixels -> meteorology -> footprints -> jacobian, each partitioned by scene.

Their docstrings stand in the web page beside what each one shows.
"""

import dagster as dg

from stilt_assets import stages
from stilt_assets.defs import shards
from stilt_assets.defs.limits import hold
from stilt_assets.defs.metadata import RETRIES, differs, in_one_line, picture, shown, weighed
from stilt_assets.defs.partitions import scenes
from stilt_assets.defs.pods import as_pod
from stilt_assets.defs.retrievals import scene_catalog
from stilt_assets.difference import tell_difference
from stilt_assets.jacobian import NAME
from stilt_assets.picture import total_footprint_map
from stilt_assets.preview import preview_of
from stilt_assets.recipes import desk_of
from stilt_assets.settings import Settings
from stilt_assets.store import Store

GROUP = "scene"


@dg.asset(
    partitions_def=scenes,
    group_name=GROUP,
    retry_policy=RETRIES,
    deps=[scene_catalog],
    op_tags=as_pod("pixels"),
    kinds={"parquet"},
)
def pixels(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """
    Good pixels of a scene's target, with their receptors and averaging kernels, and what they will cost.

    `dropped`: pixels that are not run, by reason. What is expected of all that is to be done now:
    `cpu_hours_expected` of workers (`cost` says how that is known), `dollars_expected` at the prices of the settings,
    `gigabytes_expected` (1e9 bytes) and `objects_expected` to be written, `information_expected` in degrees of freedom
    for signal. `made`: false if the result was there; `stage_seconds`: s that this step took.
    """
    with in_one_line():
        desk = desk_of(context.partition_key, settings, store)
        done = stages.make_pixels(desk)
        return shown(done, **weighed(preview_of(desk)))


@dg.asset(
    partitions_def=scenes,
    group_name=GROUP,
    retry_policy=RETRIES,
    op_tags=as_pod("meteorology"),
    deps=[pixels],
    kinds={"file"},
)
def meteorology(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """
    One ARL file with the hours and the box that a scene needs, and its certificate.

    `cells` west to east and south to north; `margin_km` from the release points to the nearest side; `files` that it
    was cut from.
    """
    with in_one_line():
        desk = desk_of(context.partition_key, settings, store)
        hold(context, desk, lambda: preview_of(desk, asked={}))
        return shown(stages.make_meteorology(desk, context.log.info))


@dg.graph_asset(
    partitions_def=scenes,
    group_name=GROUP,
    ins={name: dg.AssetIn(dagster_type=dg.Nothing) for name in ("pixels", "meteorology")},
    kinds={"parquet"},
)
def footprints(pixels, meteorology):
    """
    Trajectories, endpoints, footprints (ppm m2 s µmol-1) and outcomes of a scene's pixels, pack by pack.

    `ok`, `empty` (no influence in the grid: a result) and `failed` pixels, with `reasons`; `seconds` of all workers
    together, and `seconds_expected` as they were told before; `crop`: whether the meteorology reached far enough.
    """
    ran = shards.plan([pixels, meteorology]).map(shards.run_shard).collect()
    again = shards.widen(ran).map(shards.run_shard.alias("run_shard_wider")).collect()
    instead = shards.guard(ran=ran, ran_again=again).map(shards.run_shard.alias("run_shard_trusted")).collect()
    return shards.close(ran=ran, ran_again=again, ran_instead=instead)


@dg.asset(
    partitions_def=scenes,
    group_name=GROUP,
    retry_policy=RETRIES,
    op_tags=as_pod("jacobian"),
    deps=[pixels, footprints],
    kinds={"zarr"},
)
def jacobian(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """
    Footprints of a scene as one matrix H, a row per pixel, ppm m2 s µmol-1.

    `shape`: rows, and columns of all hours and cells; `nnz`: entries that are not zero; `total` of all entries and the
    `largest_cell` of a row, ppm m2 s µmol-1; `gaps`: rows whose pixel failed; `map`: the footprints' sum. `difference`
    from the Jacobian that it superseded, if it did: overlap of shapes (1: the same), ratio of row sums, shift in km.
    """
    with in_one_line():
        desk = desk_of(context.partition_key, settings, store)
        done = stages.make_jacobian(desk)
        png = total_footprint_map(store.file(done.folder, NAME), context.partition_key, dpi=60)
        return shown(done, map=picture(png, "total footprint"), **differs(tell_difference(desk)))


OF_A_SCENE = (pixels, meteorology, footprints, jacobian)
