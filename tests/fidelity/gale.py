"""
Is a minute's step split where the wind blows over most of a cell in it?

`hycs_std` does not split it: asked with winds of up to 1.8 cells a minute and its `tratio` of 0.75, its
particles go the way of one step a minute. Its answers are kept (`answers/gale*.parquet`); `python -m fidelity.gale`
makes them again.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from made_weather import lambert

from fidelity.oracle import ask
from fidelity.weather import DAY, write_columns
from stilt_assets.transport.native.engine import Flight, Met, fly_minute, fly_still, new_flight, start
from stilt_assets.transport.native.geometry import projection_of, to_degrees

ANSWERS = Path(__file__).parent / "answers"
WAYS, CLOUDS = ANSWERS / "gale.parquet", ANSWERS / "gale_mixed.parquet"
GRID = lambert(70, 60)
SPEED = 70.0  # m s-1: 1.4 cells of 3 km a minute, from 1.0 to 1.8 of them
RELEASE = DAY + pd.Timedelta(hours=2)
STILL = pd.DataFrame(
    [(x, y, 1000.0) for x in (55.0, 55.25, 55.5, 55.75, 56.0, 56.3) for y in (30.2, 33.7)], columns=["x", "y", "height"]
)
MIXED = pd.DataFrame([(60.2, 30.3, 150.0), (60.7, 33.6, 1000.0)], columns=["x", "y", "height"])
WAY, MINUTES, PARTICLES = 37, 12, 800  # minutes that a particle and a cloud are followed back, and its particles
METRES = 111_200.0  # per degree
PLACES = ("long", "lati")
STEP = 1e-4  # degrees, of the print


def weather(path: Path) -> Path:
    """A gale from the west whose columns differ from their neighbours as much as no real one's do."""
    x, y = np.arange(GRID.nx)[None, None, :], np.arange(GRID.ny)[None, :, None]
    return write_columns(
        path,
        GRID,
        [0.0, *(30.0 * 1.32**k for k in range(20))],
        temperature=lambda z, hour: 290.0 - 0.006 * z,
        wind=(
            lambda z, hour: SPEED * (1.0 + 0.3 * np.sin(1.9 * x) * np.cos(0.3 * y)) + 0.0 * z,
            lambda z, hour: SPEED * 0.09 * np.cos(1.3 * x + 0.4 * y) + 0.0 * z,
        ),
        humidity=lambda z, hour: 0.0 * z,
        omega=lambda z, hour: 0.0 * z,
        terrain=300.0,
        hours=(0, 1, 2),
        ground={"RGHS": lambda hour: 0.1},
    )


def releases(cells: pd.DataFrame) -> pd.DataFrame:
    """The places of STILL or MIXED on the earth."""
    projection = projection_of(GRID)
    degrees = [to_degrees(x, y, projection) for x, y in zip(cells["x"], cells["y"], strict=True)]
    table = pd.DataFrame(degrees, columns=["lon", "lat"])
    return table.assign(height=cells["height"], time=RELEASE)


def make_again() -> None:
    """Ask hycs_std; a quarter of a minute of a core."""
    with TemporaryDirectory() as folder:
        file = weather(Path(folder) / "gale.arl")
        still = ask(releases(STILL), [file], 1, nturb=1)
        mixed = [ask(releases(MIXED).iloc[[k]], [file], 1, particles=PARTICLES).assign(release=k) for k in MIXED.index]
    still = still[still["time"] >= -WAY][["release", "time", *PLACES]]
    still.astype({"release": "i2", "time": "i2"}).to_parquet(WAYS, compression="zstd", index=False)
    clouds = pd.concat(mixed).query("time >= -@MINUTES").astype({"release": "i2", "time": "i2"})
    moments(clouds).to_parquet(CLOUDS, compression="zstd", index=False)


def moments(particles: pd.DataFrame) -> pd.DataFrame:
    """Where particles of a release are on average at a `time`, with variances: a row a release and minute."""
    found = particles.groupby(["release", "time"])[list(PLACES)].agg(["mean", "var", "count"])
    found.columns = [f"{place}_{what}" for place, what in found.columns]
    return found.reset_index()


def ways(met: Met, theirs: pd.DataFrame) -> np.ndarray:
    """How far our particles without turbulence are from where theirs are, m: a value a row of `theirs`."""
    ours = np.full((len(theirs), len(PLACES)), np.nan)
    for release, rows in theirs.groupby("release"):
        flight = _released(met, STILL.iloc[int(release)], 1)
        for back in range(int(-rows["time"].min())):
            fly_still(met, flight, _minute() - back)
            ours[((theirs["release"] == release) & (theirs["time"] == -back - 1)).to_numpy()] = (
                flight.lon[0],
                flight.lat[0],
            )
    away = ours - theirs[list(PLACES)].to_numpy()
    return METRES * np.hypot(away[:, 0] * np.cos(np.radians(theirs["lati"].to_numpy())), away[:, 1])


def clouds(met: Met, theirs: pd.DataFrame) -> np.ndarray:
    """z-scores (release and minute, place) of where clouds of particles are on average; the print's steps count."""
    seen = []
    for number, place in MIXED.iterrows():
        flight = _released(met, place, PARTICLES)
        for back in range(MINUTES):
            fly_minute(met, flight, np.uint64(5), back, _minute() - back)
            seen.append(
                pd.DataFrame({"release": number, "time": -back - 1, "long": flight.lon, "lati": flight.lat}).round(
                    {"long": 4, "lati": 4}
                )
            )
    both = moments(pd.concat(seen)).merge(theirs, on=["release", "time"], validate="one_to_one", how="right")
    return np.stack(
        [
            (both[f"{place}_mean_x"] - both[f"{place}_mean_y"])
            / np.sqrt(sum(both[f"{place}_var_{side}"] / both[f"{place}_count_{side}"] + STEP**2 / 12 for side in "xy"))
            for place in PLACES
        ],
        axis=1,
    )


def _minute() -> int:
    return int(RELEASE.timestamp()) // 60


def _released(met: Met, place: pd.Series, count: int) -> Flight:
    flight = new_flight(count)
    lon, lat = to_degrees(place["x"], place["y"], met.projection)
    for i in range(count):
        assert start(met, flight, i, np.uint64(5), lon, lat, place["height"], _minute())
    return flight


if __name__ == "__main__":
    make_again()
