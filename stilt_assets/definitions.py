"""What does the code location hold? Room by room."""

import os

import dagster as dg

from stilt_assets.defs import analysis, assets, checks, retrievals, schedules, sensors
from stilt_assets.defs.resources import SettingsResource, StoreResource

EXECUTORS = {
    # A scene's steps follow one another, and a shard brings its own processes: a process per step only costs.
    "in_process": dg.in_process_executor,
    # One shard after the other, as each keeps all cores busy, in a process that may be killed without the others.
    "multiprocess": dg.multiprocess_executor.configured(
        {
            "max_concurrent": 1,
            "start_method": {"forkserver": {"preload_modules": ["stilt_assets.definitions"]}},
        },
        name="multiprocess",
    ),
}

defs = dg.Definitions(
    assets=[
        assets.pixels,
        assets.meteorology,
        assets.footprints,
        assets.jacobian,
        retrievals.retrievals,
        retrievals.scene_catalog,
    ],
    # For `dagster job launch`: the implicit job of all assets has no partitions in common.
    jobs=[dg.define_asset_job("scene", dg.AssetSelection.groups(assets.GROUP))],
    sensors=[sensors.arrivals, sensors.days_to_scenes, analysis.analysis_arrived],
    schedules=schedules.grid_schedules(),
    asset_checks=[
        checks.few_pixels_lost,
        checks.crop_was_large_enough,
        checks.native_agrees_with_hysplit,
        checks.no_gaps,
        checks.jacobian_is_physical,
    ],
    resources={"settings": SettingsResource(), "store": StoreResource()},
    executor=EXECUTORS[os.environ.get("STILT_ASSETS_EXECUTOR", "in_process")],
)
