"""On grids in degrees and on pressure levels the mean wind carries particles where it does in `hycs_std`."""

from pathlib import Path

import numpy as np
import pytest

from fidelity import ways
from fidelity.cases import CASES
from stilt_assets.transport.native.decoded import decoded_in_memory
from stilt_assets.transport.native.engine import met_of


@pytest.mark.parametrize("name", ways.NAMES)
def test_the_mean_wind_carries_particles_where_hycs_std_prints_them(name: str, tmp_path: Path) -> None:
    met = met_of(decoded_in_memory(CASES[name].make(tmp_path, tmp_path / "weather.arl")))
    found = ways.apart(met, name)
    assert len(found) == len(ways.MINUTES) * len(ways.releases(name)) >= 300
    assert np.sqrt((found["pres"] ** 2).mean()) < 0.01  # hPa, the last digit printed
    assert np.sqrt((found["dens"] ** 2).mean()) < 5e-5
    first, calm = found[found["minute"] == 1], found[found["lowest"] > ways.CALM]
    assert len(calm) > 100
    assert first["across"].max() < 10.0  # m: the last digit printed
    assert first["up"].max() < 0.01
    assert calm["across"].max() < 15.0
    assert found["across"].max() < 60.0
    assert found["up"].max() < 0.1


def test_they_cross_the_date_line() -> None:
    sides = np.sign(ways.kept("degrees").groupby("release")["long"].agg(["min", "max"]))
    assert (sides["min"] != sides["max"]).any()
    assert {-1.0, 1.0} <= set(sides["min"])
