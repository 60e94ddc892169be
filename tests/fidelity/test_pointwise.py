"""The decoded meteorology says, point by point, what `hycs_std` said of the same air."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stilt_assets.transport.native.decoded import decoded_in_memory
from stilt_assets.transport.native.geometry import to_grid
from stilt_assets.transport.native.layout import LEAST_MIXED_LAYER, Decoded
from tests.fidelity.ask import HERE
from tests.fidelity.cases import CASES
from tests.fidelity.pointwise import looked_up

DOUBT = 0.03  # of a cell: printed places are known to 10 m, and beyond half a cell another column is the nearest


@lru_cache(maxsize=1)
def case(name: str, shared: Path, folder: Path) -> tuple[Decoded, pd.DataFrame, pd.DataFrame]:
    """Decoded meteorology of a case, the oracle's answers and ours."""
    decoded = decoded_in_memory(CASES[name].make(shared, folder / f"{name}.arl"), LEAST_MIXED_LAYER)
    theirs = pd.read_parquet(HERE / "answers" / f"{name}.parquet")
    places = np.array(
        [to_grid(*place, decoded.projection) for place in zip(theirs["long"], theirs["lati"], strict=True)]
    )
    near_another = np.abs(places - np.floor(places) - 0.5).min(axis=1) < DOUBT
    ours = looked_up(decoded, theirs)
    return decoded, theirs[~near_another], ours[~near_another]


@pytest.fixture(scope="module", params=list(CASES))
def answers(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return case(request.param, shared, tmp_path_factory.mktemp("weather"))[1:]


def alike(ours: pd.Series, theirs: pd.Series, share: float, digit: float) -> float:
    """How many of ours are within a share of theirs, or within the last digit that is printed."""
    return float(((ours - theirs).abs() <= np.maximum(share * theirs.abs(), digit)).mean())


def test_pressure_is_that_of_hycs(answers) -> None:
    theirs, ours = answers
    assert np.sqrt(((ours["pres"] - theirs["pres"]) ** 2).mean()) < 0.3  # hPa


def test_density_is_that_of_dry_air_in_hycs(answers) -> None:
    theirs, ours = answers
    assert np.sqrt(((ours["dens"] / theirs["dens"] - 1.0) ** 2).mean()) < 5e-4


def test_mixed_layers_are_as_deep(answers) -> None:
    theirs, ours = answers
    known = ours["mlht"].notna()
    assert known.sum() > 500
    assert alike(ours["mlht"][known], theirs["mlht"][known], 0.01, 0.01) >= 0.99


@pytest.mark.parametrize("name", ["sigw", "tlgr"])
def test_turbulence_in_the_mixed_layer_is_as_strong_and_lasting(answers, name: str) -> None:
    theirs, ours = answers
    within = theirs["zagl"] < theirs["mlht"]
    assert within.sum() > 200
    assert alike(ours[name][within], theirs[name][within], 0.05, 6e-4) >= 0.99


def test_turbulence_above_the_mixed_layer_is_as_strong(answers) -> None:
    theirs, ours = answers
    above = theirs["zagl"] > theirs["mlht"]
    assert above.sum() > 200
    assert alike(ours["sigw"][above], theirs["sigw"][above], 0.05, 1.1e-3) >= 0.96
