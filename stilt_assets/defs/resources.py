"""What do the assets work with? Plain objects of the science, made when a run starts and not before."""

import dagster as dg

from stilt_assets.settings import Settings, load_settings
from stilt_assets.shard import Runner
from stilt_assets.slurm import runner_of
from stilt_assets.store import Store, open_store


class SettingsResource(dg.ConfigurableResource[Settings]):
    """The settings file."""

    location: str | None = None  # path or URL; the one that STILT_ASSETS_CONFIG names if not given

    def create_resource(self, context: dg.InitResourceContext) -> Settings:  # noqa: ARG002  Dagster's signature
        """The settings, read now."""
        return load_settings(self.location)


class StoreResource(dg.ConfigurableResource[Store]):
    """Where results live."""

    location: str | None = None  # of the settings file; the one that STILT_ASSETS_CONFIG names if not given

    def create_resource(self, context: dg.InitResourceContext) -> Store:  # noqa: ARG002  Dagster's signature
        """The store that the settings name."""
        return open_store(load_settings(self.location).store)


class RunnerResource(dg.ConfigurableResource[Runner]):
    """Who runs the packs of scenes."""

    executor: str = "in_process"  # as STILT_ASSETS_EXECUTOR names it

    def create_resource(self, context: dg.InitResourceContext) -> Runner:  # noqa: ARG002  Dagster's signature
        """This machine, or Slurm as `slurm.yaml` says."""
        return runner_of(self.executor)
