"""How does a test ask `native` as it asks `hycs_std`? Particles that nothing has been made of yet, through PYSTILT."""

from functools import lru_cache
from pathlib import Path

import pandas as pd
from stilt.particles import add_release_heights, correct_near_field
from stilt.receptors import ColumnReceptor

from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Limits, Simulation
from stilt_assets.transport.native.decoded import decoded_in_memory
from stilt_assets.transport.native.flight import Air, air_of
from stilt_assets.transport.native.pystilt_model import NativeConfig, _particles


@lru_cache(maxsize=2)
def decoded(meteorology: Path) -> Air:
    """An ARL file, decoded."""
    return air_of(decoded_in_memory(meteorology))


class Ours:
    """`native`, whose columns may be as short as one likes: no profile of pressure is fitted to them."""

    def run(self, receptor: Receptor, simulation: Simulation, meteorology: Path, limits: Limits) -> pd.DataFrame:
        """As a transport model does."""
        column = ColumnReceptor(
            time=receptor.time,
            longitude=receptor.longitude,
            latitude=receptor.latitude,
            bottom=receptor.bottom,
            top=receptor.top,
        )
        config = NativeConfig(n_hours=-simulation.hours_back, numpar=simulation.particles, seed=simulation.seed)
        particles = _particles(decoded(meteorology), column, config).drop(columns="receptor")
        return correct_near_field(add_release_heights(particles, column), column, config.veght)
