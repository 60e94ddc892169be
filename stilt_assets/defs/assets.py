"""Which assets does a scene have? pixels -> meteorology -> footprints -> jacobian, each partitioned by scene."""

import dagster as dg

from stilt_assets import stages
from stilt_assets.defs.metadata import in_one_line, particles_per_second, picture, shown
from stilt_assets.defs.partitions import scenes
from stilt_assets.jacobian import NAME
from stilt_assets.picture import total_footprint_map
from stilt_assets.recipes import desk_of
from stilt_assets.settings import Settings
from stilt_assets.store import Store
from stilt_assets.workers import Progress

GROUP = "scene"


@dg.asset(partitions_def=scenes, group_name=GROUP, kinds={"parquet"})
def pixels(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Good pixels of a scene's target, with their receptors and averaging kernels."""
    with in_one_line():
        return shown(stages.make_pixels(desk_of(context.partition_key, settings, store)))


@dg.asset(partitions_def=scenes, group_name=GROUP, deps=[pixels], kinds={"file"})
def meteorology(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """One ARL file with the hours and the box that a scene needs, and its certificate."""
    with in_one_line():
        return shown(stages.make_meteorology(desk_of(context.partition_key, settings, store)))


@dg.asset(partitions_def=scenes, group_name=GROUP, deps=[pixels, meteorology], kinds={"parquet"}, pool="cores")
def footprints(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Trajectories, endpoints, footprints (ppm m2 s µmol-1) and outcomes of a scene's pixels, pack by pack."""

    def tell(state: Progress) -> None:
        if state.pixels_done % max(1, state.pixels // 20) == 0 or state.packs_done == state.packs:
            context.log.info(f"{state.pixels_done} of {state.pixels} pixels, {state.packs_done} of {state.packs} packs")

    with in_one_line():
        done = stages.make_footprints(desk_of(context.partition_key, settings, store), tell)
        return shown(done, particles_per_second=particles_per_second(done))


@dg.asset(partitions_def=scenes, group_name=GROUP, deps=[pixels, footprints], kinds={"zarr"})
def jacobian(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Footprints of a scene as one matrix, a row per pixel, ppm m2 s µmol-1."""
    with in_one_line():
        done = stages.make_jacobian(desk_of(context.partition_key, settings, store))
        png = total_footprint_map(store.file(done.folder, NAME), context.partition_key, dpi=60)
        return shown(done, map=picture(png, "total footprint"))
