"""When are scenes of grids of points run? A schedule for each such target, off until somebody starts it."""

from collections.abc import Callable
from datetime import timedelta

import dagster as dg

from stilt_assets.catalog import register_grid
from stilt_assets.defs.backfill import ORIGIN
from stilt_assets.defs.metadata import in_one_line
from stilt_assets.defs.partitions import add_keys
from stilt_assets.errors import SettingsError
from stilt_assets.settings import GridTargetSettings, Settings, load_settings
from stilt_assets.store import Store


def grid_schedules() -> list[dg.ScheduleDefinition]:
    """The schedules of the settings as they are now; none if they cannot be read, which every run tells."""
    try:
        targets = load_settings().targets
    except SettingsError:
        return []
    return [_schedule(name, target) for name, target in targets.items() if isinstance(target, GridTargetSettings)]


def _schedule(name: str, target: GridTargetSettings) -> dg.ScheduleDefinition:
    return dg.schedule(
        name=f"grid_{name.replace('-', '_')}",
        cron_schedule=target.crons,
        execution_timezone="UTC",
        target=dg.AssetSelection.groups("scene"),
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Scenes of the points of '{name}'.",
    )(_tick_of(name))


def _tick_of(name: str) -> Callable:
    def tick(
        context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]
    ) -> dg.RunRequest:
        """Registers the scene of its tick and asks for its run."""
        target = settings.target(name)
        lag = timedelta(hours=target.lag if isinstance(target, GridTargetSettings) else 0)
        with in_one_line():
            key = register_grid(name, context.scheduled_execution_time - lag, settings, store)
        add_keys(context.instance, [key])
        return dg.RunRequest(run_key=key, partition_key=key, tags={ORIGIN: "grid"})

    return tick
