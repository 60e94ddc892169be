"""
What do ensembles of particles of a model tell of a release, in few numbers?

Section C of the acceptance. The answers of `hycs_std` are kept (`ensembles.npz`); `python -m fidelity.ensembles` makes
them again. No case is one that anything was tuned on: other places, heights, hours and seeds.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from fidelity.weathers import WEATHERS
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Limits, Simulation, Transport
from stilt_assets.transport import hysplit
from stilt_assets.transport.hysplit import Hysplit

HERE = Path(__file__).parent
KEPT, CONTROLS = HERE / "ensembles.npz", HERE / "controls.npz"
PLACES = ("lon", "lat", "zagl")
PARTICLES = 500  # of a seed
THEIR_SEEDS, OTHER_SEEDS, OUR_SEEDS = range(9001, 9005), range(9101, 9105), range(1, 13)
CELL = 0.05  # degrees, of maps
SNAP = {"lon": 1e-4, "lat": 1e-4, "zagl": 1.0}  # as hycs_std prints them


@dataclass(frozen=True)
class Case:
    """A release and how long it is followed back."""

    weather: str  # hrrr, or a made-up one
    lon: float
    lat: float
    bottom: float  # m above ground
    top: float
    hour: float  # UTC of 2019-05-30
    hours: int

    @property
    def is_a_point(self) -> bool:
        """Whether all particles start at one place: receptors are columns, and may be very short."""
        return self.top - self.bottom < 1.0

    @property
    def name(self) -> str:
        """Weather, place, heights and times."""
        height = f"{self.bottom:g}" if self.is_a_point else f"{self.bottom:g}-{self.top:g}"
        return f"{self.weather}_{self.lon:.2f}_{self.lat:.2f}_{height}m_{self.hour:g}Z_{self.hours}h"

    @property
    def receptor(self) -> Receptor:
        """The same as a receptor."""
        time = datetime(2019, 5, 30, tzinfo=UTC) + timedelta(hours=self.hour)
        return Receptor(0, time, self.lon, self.lat, self.bottom, self.top)


def _drawn(count: int, seed: int) -> list[Case]:
    """Releases at random in the HRRR files: near the ground and aloft, by day and night, some columns."""
    chance = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        hours = int(chance.integers(2, 5))
        hour = round(float(chance.uniform(hours + 0.1, 10.9)) * 4) / 4
        bottom = round(float(np.exp(chance.uniform(np.log(5.0), np.log(800.0)))))
        top = bottom + 0.2 if number % 4 else 1500.0
        lon, lat = (round(float(chance.uniform(*sides)), 3) for sides in ((-112.4, -111.55), (40.4, 41.15)))
        cases.append(Case("hrrr", lon, lat, bottom if number % 4 else 0.0, top, hour, hours))
    return cases


CASES = _drawn(24, 20190531)
CASES += [
    Case(weather, -112.0 + 0.05 * number, 40.7 - 0.03 * number, bottom, bottom + 0.2, 2.75, 2)
    for number, weather in enumerate(WEATHERS)
    for bottom in (12.0, 260.0)
]
CONTROLLED = [case for case in CASES if case.is_a_point and case.bottom < 100 and case.hours < 4][:5]


# ---- what is told of an ensemble


@dataclass
class Told:
    """What an ensemble says: hours back along the first axis."""

    foot: np.ndarray  # (hour,) mean influence of a particle, ppm m2 s µmol-1
    foot_variance: np.ndarray  # (hour,) of that mean
    total: np.ndarray  # (2,) mean influence of a particle in all hours, and the variance of that mean
    live: np.ndarray  # (hour,) particles that are there at its end
    mean: np.ndarray  # (hour, place)
    variance: np.ndarray  # (hour, place)
    fourth: np.ndarray  # (hour, place) fourth central moment
    snap: np.ndarray  # (hour, place, particle) where some particles are at its end, in steps of SNAP; -2^31 is gone
    maps: list[Mapping[tuple[int, int], float]] = field(default_factory=list)  # of each seed


def tell(tables: Iterable[pd.DataFrame], hours: int, foot: str = "foot") -> Told:
    """Of tables of particles, one a seed, with `particle` from 1, `age`, PLACES and `foot`."""
    sums, ends, maps = [], [], []
    for table in tables:
        count = int(table["particle"].max())
        number, hour = table["particle"].to_numpy(int) - 1, (-table["age"].to_numpy(int) - 1) // 60
        each = np.zeros((count, hours))
        np.add.at(each, (number, hour), table[foot].to_numpy())
        place = np.full((hours, len(PLACES), count), np.nan)
        last = table[table["age"] % 60 == 0]
        place[(-last["age"].to_numpy(int)) // 60 - 1, :, last["particle"].to_numpy(int) - 1] = last[list(PLACES)]
        sums.append(each)
        ends.append(place)
        maps.append(_map(table, foot, count))
    each, place = np.concatenate(sums), np.concatenate(ends, axis=2)
    live = np.sum(np.isfinite(place[:, 0]), axis=1)
    mean = np.nanmean(place, axis=2)
    away = place - mean[:, :, None]
    total = each.sum(axis=1)
    return Told(
        foot=each.mean(axis=0),
        foot_variance=_variance_of_mean(each),
        total=np.array([total.mean(), _variance_of_mean(total)]),
        live=live,
        mean=mean,
        variance=np.nanmean(away**2, axis=2),
        fourth=np.nanmean(away**4, axis=2),
        snap=_snapped(place),
        maps=maps,
    )


def _variance_of_mean(values: np.ndarray) -> np.ndarray:
    """From neighbours, which started at nearly the same height."""
    pairs = len(values) // 2
    return np.mean((values[: 2 * pairs : 2] - values[1 : 2 * pairs : 2]) ** 2, axis=0) / 2 / len(values)


def _snapped(place: np.ndarray) -> np.ndarray:
    steps = np.array([SNAP[name] for name in PLACES])[None, :, None]
    return np.where(np.isfinite(place), np.rint(place / steps), -(2.0**31)).astype("i4")


def _map(table: pd.DataFrame, foot: str, count: int) -> dict[tuple[int, int], float]:
    """Mean influence by cell, those that are not zero; of places as they are printed: some lie on the edge of cells."""
    felt = table[table[foot] > 0].round({"lat": 4, "lon": 4})
    cells = felt.groupby(
        [np.floor(felt["lat"] / CELL).astype(int).rename("y"), np.floor(felt["lon"] / CELL).astype(int).rename("x")]
    )[foot].sum()
    return {(int(y), int(x)): float(value) / count for (y, x), value in cells.items()}


# ---- ensembles


def ensemble(
    model: Transport, case: Case, meteorology: Path, particles: int, seeds: Iterable[int], foot: str = "foot"
) -> Told:
    """An ensemble of a case by any model: `particles` for each seed."""
    limits = Limits(3600.0)
    runs = (
        model.run(case.receptor, Simulation("", case.hours, particles, seed), meteorology, limits) for seed in seeds
    )
    return tell(runs, case.hours, foot)


# ---- hycs_std's, kept


def meteorology_of(weather: str, shared: Path, folder: Path) -> Path:
    """A weather as one ARL file: HRRR's of the shared data, or a made-up one written into `folder`."""
    path = folder / f"{weather}.arl"
    if path.exists():
        return path
    if weather == "hrrr":
        files = sorted((shared / "data" / "hrrr").iterdir())
        path.write_bytes(b"".join(file.read_bytes() for file in files))
        return path
    return WEATHERS[weather](path)


_PLAIN = ("foot", "foot_variance", "total", "live", "mean", "variance", "fourth", "snap")


def packed(told: Told) -> dict[str, np.ndarray]:
    """As arrays for a file."""
    arrays = {name: getattr(told, name) for name in _PLAIN} | {"snap": told.snap[:, :, :PARTICLES]}
    arrays |= {name: arrays[name].astype("f4") for name in _PLAIN if arrays[name].dtype == float}
    arrays["map_sizes"] = np.array([len(each) for each in told.maps], "i4")
    arrays["map_cells"] = np.array([cell for each in told.maps for cell in each], "i2").reshape(-1, 2)
    arrays["map_foot"] = np.array([value for each in told.maps for value in each.values()], "f4")
    return arrays


def unpacked(arrays: Mapping[str, np.ndarray]) -> Told:
    """Back from a file."""
    ends = np.cumsum(arrays["map_sizes"])
    cells, foot = arrays["map_cells"], arrays["map_foot"].astype(float)
    maps = [
        {(int(y), int(x)): value for (y, x), value in zip(cells[end - size : end], foot[end - size : end], strict=True)}
        for size, end in zip(arrays["map_sizes"], ends, strict=True)
    ]
    return Told(**{name: arrays[name].astype(float) for name in _PLAIN}, maps=maps)


def kept(place: Path = KEPT) -> dict[str, Told]:
    """Ensembles of a file, by the names of their cases."""
    if not place.exists():
        return {}
    with np.load(place) as file:
        by_case: dict[str, dict[str, np.ndarray]] = {}
        for key in file.files:
            name, _, what = key.rpartition("/")
            by_case.setdefault(name, {})[what] = file[key]
    return {name: unpacked(arrays) for name, arrays in by_case.items()}


def keep(told: Mapping[str, Told], place: Path) -> None:
    """Write ensembles into a file."""
    arrays = {f"{name}/{what}": values for name, each in told.items() for what, values in packed(each).items()}
    np.savez_compressed(place, **arrays)  # pyright: ignore[reportArgumentType]


def make_again(shared: Path) -> None:
    """Ask hycs_std for all cases that are not kept; ten minutes of a core for all of them."""
    names = {case.name for case in CASES}
    told = {name: each for name, each in kept().items() if name in names}
    with TemporaryDirectory() as folder:
        for case in (each for each in CASES if each.name not in told):
            meteorology = meteorology_of(case.weather, shared, Path(folder))
            told[case.name] = ensemble(Hysplit(), case, meteorology, PARTICLES, THEIR_SEEDS)
            keep(told, KEPT)
            print(case.name, f"{told[case.name].total[0]:.4g}", KEPT.stat().st_size, flush=True)
        controls = kept(CONTROLS)
        for case in CONTROLLED:
            meteorology = meteorology_of(case.weather, shared, Path(folder))
            for name, kmix0 in (("again", 150), ("kmix0", 250)):
                if f"{name}:{case.name}" not in controls:
                    with patch.object(hysplit, "_config", _config_with(kmix0)):
                        told_now = ensemble(Hysplit(), case, meteorology, PARTICLES, OTHER_SEEDS)
                    controls[f"{name}:{case.name}"] = told_now
                    keep(controls, CONTROLS)
                    print(name, case.name, f"{told_now.total[0]:.4g}", CONTROLS.stat().st_size, flush=True)


def _config_with(kmix0: int) -> Callable[[Simulation, int], Any]:
    """Settings of hycs_std with another least mixed layer."""
    usual = hysplit._config
    return lambda simulation, seed: usual(simulation, seed).model_copy(update={"kmix0": kmix0})


if __name__ == "__main__":
    make_again(Path(__file__).resolve().parents[3] / "shared")
