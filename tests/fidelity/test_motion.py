"""Do particles of the native model go where those of `hycs_std` go, and meet the same air there?"""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fidelity import influence
from fidelity.oracle import ask
from stilt_assets.errors import TransportError
from stilt_assets.transport.native.decoded import decoded_in_memory
from stilt_assets.transport.native.engine import Flight, Met, fly_still, new_flight, start
from stilt_assets.transport.native.flight import Air, air_of, needs_air_up_to

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
HRRR = [SHARED / "hrrr" / name for name in ("20190530_00-05_hrrr", "20190530_06-11_hrrr")]
METRES = 111_200.0  # per degree
SEED = np.uint64(5)

pytestmark = pytest.mark.skipif(not HRRR[0].exists(), reason="the shared HRRR files are not here")


def minute_of(time: pd.Timestamp) -> int:
    return round((time - pd.Timestamp(0)).total_seconds() / 60)


@pytest.fixture(scope="module")
def air(tmp_path_factory: pytest.TempPathFactory) -> Air:
    path = tmp_path_factory.mktemp("hrrr") / "hrrr.arl"
    path.write_bytes(b"".join(file.read_bytes() for file in HRRR))
    return air_of(decoded_in_memory(path))


@pytest.fixture(scope="module")
def met(air: Air) -> Met:
    return air.met


def released(met: Met, lon: float, lat: float, height: float, release: int, count: int = 1) -> Flight:
    flight = new_flight(count)
    for i in range(count):
        assert start(met, flight, i, SEED, lon, lat, height, release)
    return flight


def test_mean_trajectories_end_where_those_of_hycs_std_do(met):
    gold = pd.read_parquet(SHARED / "gold" / "deterministic_nturb1.parquet")
    apart = []
    for number, rows in gold.groupby("traj"):
        first = rows.iloc[0]
        release = minute_of(pd.Timestamp(first["r_time"]))
        flight = released(met, first["r_lon"], first["r_lat"], float(first["r_zagl"]), release)
        for age, row in enumerate(rows.itertuples()):
            assert fly_still(met, flight, release - age) == 1  # as many minutes as hycs_std follows it
            east = (flight.lon[0] - row.long) * METRES * np.cos(np.radians(row.lati))
            north = (flight.lat[0] - row.lati) * METRES
            apart.append((number, age + 1, np.hypot(east, north), abs(flight.zagl[0] - row.zagl), rows["zagl"].min()))
    table = pd.DataFrame(apart, columns=["number", "minute", "across", "up", "lowest"])
    assert len(table) == len(gold)
    first_hour = table[table["minute"] <= 60]
    assert first_hour["across"].max() < 10.0  # 1e-4 degrees, the last digit printed, are 8 to 11 m
    assert first_hour["up"].max() < 0.2
    # Where a wind blows into steep ground a particle bounces from it, and a rounding error grows tenfold a bounce.
    calm = table[table["lowest"] > 5.0].groupby("number")[["across", "up"]].max()
    assert len(calm) > 50
    assert (calm["across"] < 30.0).mean() > 0.95
    assert (calm["up"] < 1.0).mean() > 0.85  # the others rise over the meteorology's lid
    assert calm["across"].median() < 10.0
    assert calm["up"].median() < 0.2


@pytest.mark.parametrize(("height", "serves"), [(6370.0, True), (6390.0, False)])
def test_a_release_may_be_as_high_above_the_meteorology_s_levels_as_in_hycs_std(air, height, serves):
    place = pd.DataFrame(
        {"lon": [-111.95], "lat": [40.75], "height": [height], "time": [pd.Timestamp("2019-05-30 05:00")]}
    )
    refused = nullcontext() if serves else pytest.raises(AssertionError, match="Start height in extrapolation region")
    with refused:
        ask(place, HRRR, 1, nturb=1)
    with nullcontext() if serves else pytest.raises(TransportError, match="6380 m; lower"):
        needs_air_up_to(air, height, minute_of(place["time"][0]))


def test_minutes_near_the_ground_have_the_influence_that_hycs_std_prints(met):
    ratios = influence.ratios(met, influence.kept())
    assert len(ratios) > 450
    assert ratios["foot"].median() == pytest.approx(1.0, abs=4e-4)  # another molar mass of air is 7e-4 off
    assert ((ratios["foot"] - 1.0).abs() < 2e-3).mean() > 0.99
    assert ((ratios["mlht"] - 1.0).abs() < 0.01).mean() > 0.99
