"""The decoded meteorology says, point by point, what `hycs_std` said of the same air."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fidelity.ask import HERE
from fidelity.cases import CASES
from fidelity.pointwise import compared, shares
from stilt_assets.transport.native.decoded import decoded_in_memory


@pytest.fixture(scope="module", params=list(CASES))
def answers(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    file = CASES[request.param].make(shared, tmp_path_factory.mktemp("weather") / "weather.arl")
    return compared(decoded_in_memory(file), pd.read_parquet(HERE / "answers" / f"{request.param}.parquet"))


def test_pressure_is_that_of_hycs(answers) -> None:
    theirs, ours = answers
    assert np.sqrt(((ours["pres"] - theirs["pres"]) ** 2).mean()) < 0.3  # hPa


def test_density_is_that_of_dry_air_in_hycs(answers) -> None:
    theirs, ours = answers
    assert np.sqrt(((ours["dens"] / theirs["dens"] - 1.0) ** 2).mean()) < 5e-4


def test_the_mixed_layer_and_turbulence_are_those_of_hycs(answers) -> None:
    theirs, ours = answers
    assert ours["mlht"].notna().sum() > 500
    assert 200 < (theirs["zagl"] < theirs["mlht"]).sum() < len(theirs) - 200
    alike = shares(theirs, ours)
    # Aloft an hour's level is not always the one that hycs_std takes for another hour's, where the mixed layer changes.
    assert alike.pop("sigma_w above it") >= 0.96
    assert min(alike.values()) >= 0.99, alike
