"""Do particles of the native model go where those of `hycs_std` go, and meet the same air there?"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stilt_assets.transport.native.decoded import decoded_in_memory
from stilt_assets.transport.native.engine import Flight, Met, fly_minute, fly_still, met_of, new_flight, start
from tests.fidelity.oracle import ask, scattered

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
HRRR = [SHARED / "hrrr" / name for name in ("20190530_00-05_hrrr", "20190530_06-11_hrrr")]
METRES = 111_200.0  # per degree
SEED = np.uint64(5)

pytestmark = pytest.mark.skipif(not HRRR[0].exists(), reason="the shared HRRR files are not here")


def minute_of(time: pd.Timestamp) -> int:
    return round((time - pd.Timestamp(0)).total_seconds() / 60)


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Met:
    path = tmp_path_factory.mktemp("hrrr") / "hrrr.arl"
    path.write_bytes(b"".join(file.read_bytes() for file in HRRR))
    return met_of(decoded_in_memory(path))


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


@pytest.mark.parametrize(
    ("hour", "minute"), [(9, 30), (1, 10)]
)  # a shallow mixed layer, and a deep one that falls apart
def test_a_minute_near_the_ground_has_the_influence_that_hycs_std_prints(met, hour, minute):
    time = pd.Timestamp(2019, 5, 30, hour, minute)
    asked = scattered(400, (-112.5, -111.45), (40.35, 41.2), (5.0, 40.0), time, seed=3)
    theirs = ask(asked, HRRR, 1, nturb=0)
    theirs = theirs[(theirs["time"] == -1) & (theirs["samt"] == 1.0)]
    ratios, depths = [], []
    for row, foot, depth in zip(theirs["release"], theirs["foot"], theirs["mlht"], strict=True):
        flight = released(met, *asked.loc[row, ["lon", "lat", "height"]].astype(float), minute_of(time))
        fly_minute(met, flight, SEED, 0, minute_of(time))
        if flight.samt[0] > 0.999:
            ratios.append(flight.foot[0] / foot)
            depths.append(flight.mlht[0] / depth)
    assert len(ratios) > 250
    assert np.median(ratios) == pytest.approx(1.0, abs=1e-3)
    assert np.mean(np.abs(np.array(ratios) - 1.0) < 2e-3) > 0.95
    assert np.mean(np.abs(np.array(depths) - 1.0) < 0.01) > 0.97
