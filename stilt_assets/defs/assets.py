"""Which assets does a scene have? pixels -> meteorology -> footprints -> jacobian, each partitioned by scene."""

import dagster as dg

from stilt_assets import stages
from stilt_assets.defs import shards
from stilt_assets.defs.metadata import RETRIES, differs, in_one_line, picture, shown, weighed
from stilt_assets.defs.partitions import scenes
from stilt_assets.defs.pods import as_pod
from stilt_assets.difference import tell_difference
from stilt_assets.jacobian import NAME
from stilt_assets.picture import total_footprint_map
from stilt_assets.preview import preview_of
from stilt_assets.recipes import desk_of
from stilt_assets.settings import Settings
from stilt_assets.store import Store

GROUP = "scene"


@dg.asset(partitions_def=scenes, group_name=GROUP, retry_policy=RETRIES, op_tags=as_pod("pixels"), kinds={"parquet"})
def pixels(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Good pixels of a scene's target, with their receptors and averaging kernels, and what they will cost."""
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
    """One ARL file with the hours and the box that a scene needs, and its certificate."""
    with in_one_line():
        return shown(stages.make_meteorology(desk_of(context.partition_key, settings, store), context.log.info))


@dg.graph_asset(
    partitions_def=scenes,
    group_name=GROUP,
    ins={name: dg.AssetIn(dagster_type=dg.Nothing) for name in ("pixels", "meteorology")},
    kinds={"parquet"},
)
def footprints(pixels, meteorology):
    """Trajectories, endpoints, footprints (ppm m2 s µmol-1) and outcomes of a scene's pixels, pack by pack."""
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
    """Footprints of a scene as one matrix, a row per pixel, ppm m2 s µmol-1."""
    with in_one_line():
        desk = desk_of(context.partition_key, settings, store)
        done = stages.make_jacobian(desk)
        png = total_footprint_map(store.file(done.folder, NAME), context.partition_key, dpi=60)
        return shown(done, map=picture(png, "total footprint"), **differs(tell_difference(desk)))


OF_A_SCENE = (pixels, meteorology, footprints, jacobian)
