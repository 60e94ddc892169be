"""A strong wind carries a particle over more than a cell in one step, as it does in `hycs_std`."""

import numpy as np
import pandas as pd
import pytest

from fidelity import gale
from stilt_assets.transport.native.decoded import decoded_in_memory
from stilt_assets.transport.native.engine import Met, met_of
from stilt_assets.transport.native.layout import U


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Met:
    return met_of(decoded_in_memory(gale.weather(tmp_path_factory.mktemp("gale") / "gale.arl")))


def test_the_wind_blows_over_one_to_two_cells_a_minute(met: Met) -> None:
    assert 0.95 < met.wind[:, 3, U].min() < 1.0
    assert 1.75 < met.wind[:, 3, U].max() < 1.85


def test_without_turbulence_particles_are_where_hycs_std_prints_them(met: Met) -> None:
    theirs = pd.read_parquet(gale.WAYS)
    assert theirs["release"].nunique() == 12
    assert len(theirs) == 12 * gale.WAY
    assert np.max(gale.ways(met, theirs)) < 30.0


def test_with_turbulence_clouds_are_where_those_of_hycs_std_are(met: Met) -> None:
    found = gale.clouds(met, pd.read_parquet(gale.CLOUDS))
    assert found.shape == (24, 2)
    assert np.abs(found).max() < 4.0, found.round(1)
