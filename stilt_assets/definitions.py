"""What does the code location hold? Room by room."""

import os
from importlib.util import find_spec

import dagster as dg

from stilt_assets.defs import alerts, analysis, assets, checks, lost, retention, retries, retrievals, schedules, sensors
from stilt_assets.defs.resources import RunnerResource, SettingsResource, StoreResource
from stilt_assets.errors import UsageError

EXECUTORS = {
    # A scene's steps follow one another, and a shard brings its own processes: a process per step only costs.
    "in_process": lost.told(dg.in_process_executor),
    # One shard after the other, as each keeps all cores busy, in a process that may be killed without the others.
    "multiprocess": lost.told(dg.multiprocess_executor).configured(
        {
            "max_concurrent": 1,
            "start_method": {"forkserver": {"preload_modules": ["stilt_assets.definitions"]}},
        },
        name="multiprocess",
    ),
    # One step submits the packs of a scene as a job array and waits for it: nodes need no Dagster and no database.
    "slurm": lost.told(dg.in_process_executor),
}
_VARIABLE = "STILT_ASSETS_EXECUTOR"
# Not in the table: its libraries cost each process 4 s, and are no part of every installation.
_KUBERNETES = "kubernetes"


def executor_named(name: str) -> dg.ExecutorDefinition:
    """The executor of that name. UsageError if there is none, or if its libraries are not installed."""
    if name == _KUBERNETES:
        if find_spec("dagster_k8s") is None:
            raise UsageError(f"{_VARIABLE} is {name}, which needs: pip install 'stilt-assets[kubernetes]'")
        from stilt_assets.defs.kubernetes import kubernetes_executor

        return kubernetes_executor
    if name not in EXECUTORS:
        raise UsageError(f"{_VARIABLE} is '{name}'; it is one of {', '.join([*EXECUTORS, _KUBERNETES])}")
    return EXECUTORS[name]


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
    jobs=[dg.define_asset_job("scene", dg.AssetSelection.groups(assets.GROUP)), retention.prune],
    sensors=[
        sensors.arrivals,
        sensors.days_to_scenes,
        analysis.analysis_arrived,
        alerts.alerts,
        retries.forgotten_retries,
        lost.lost_runs,
    ],
    schedules=[*schedules.grid_schedules(), retention.prune_daily],
    asset_checks=[
        checks.few_pixels_lost,
        checks.crop_was_large_enough,
        checks.native_agrees_with_hysplit,
        checks.no_gaps,
        checks.jacobian_is_physical,
    ],
    resources={
        "settings": SettingsResource(),
        "store": StoreResource(),
        "runner": RunnerResource(executor=os.environ.get(_VARIABLE, "in_process")),
    },
    executor=executor_named(os.environ.get(_VARIABLE, "in_process")),
)
