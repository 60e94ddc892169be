"""
Which weathers are ensembles made in that the HRRR files do not hold?

Noon, winter, gale, hills, hybrid levels; cells of a quarter of a degree, with those every three hours, with pressure
levels every hour.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
from made_weather import lambert, longitudes

from fidelity.weather import GDAS, write_columns

GRID = lambert(70, 60)
QUARTERS = longitudes(240.0, 33.0, 70, 60, 0.25)  # around Utah
HEIGHTS = [0.0, *(30.0 * 1.32**k for k in range(20))]  # m, to some 6 km


def _temperature(ground: float, lapse: float, lid: float) -> Callable[[np.ndarray, int], np.ndarray]:
    """K: falling by `lapse` K m-1 up to the height `lid` m, and by 4 K km-1 above an inversion of 3 K."""

    def profile(height: np.ndarray, _hour: int) -> np.ndarray:
        above = ground - lapse * lid + 3.0 - 0.004 * (height - lid)
        return np.where(height < lid, ground - lapse * height, above)

    return profile


def _wind(speed: float, turn: float) -> tuple[Callable[[np.ndarray, int], np.ndarray], ...]:
    """m s-1: rising with the logarithm of height, turning with it, faster in the east and from hour to hour."""

    def strength(height: np.ndarray, hour: int) -> np.ndarray:
        east = np.linspace(0.9, 1.1, height.shape[2])
        return speed * (1.0 + 0.05 * hour) * east * np.log1p(np.maximum(height, 0.0) / 0.1) / np.log1p(5000.0)

    return (
        lambda height, hour: strength(height, hour) * np.cos(turn * height / 3000.0),
        lambda height, hour: strength(height, hour) * np.sin(turn * height / 3000.0),
    )


def _humidity(height: np.ndarray, _hour: int) -> np.ndarray:
    return 0.008 * np.exp(-height / 2500.0)


def _hills() -> np.ndarray:
    y, x = np.mgrid[: GRID.ny, : GRID.nx]
    return 800.0 + 500.0 * np.sin(x / 4.0) * np.cos(y / 5.0)


def _written(
    path: Path,
    *,
    ground: tuple[float, float, float],
    wind: tuple[float, float],
    heat: float,
    friction: float,
    terrain: np.ndarray | float = 300.0,
    axis: type[arlmet.VerticalAxis] = arlmet.SigmaAxis,
    grid: arlmet.Grid = GRID,
    **more: Any,
) -> Path:
    return write_columns(
        path,
        grid,
        GDAS if axis is arlmet.PressureAxis else HEIGHTS,
        temperature=_temperature(*ground),
        wind=_wind(*wind),
        humidity=_humidity,
        omega=lambda height, hour: 2e-4 * np.sin(height / 900.0) * (1 + hour),
        terrain=terrain,
        axis=axis,
        with_pressure=axis is arlmet.SigmaAxis,
        hung=axis is arlmet.HybridAxis,
        ground={
            "USTR": lambda hour: friction * (1.0 + 0.1 * hour),
            "SHTF": lambda hour: heat * (1.0 - 0.1 * hour),
            "RGHS": lambda _hour: 0.1,
        },
        **more,
    )


WEATHERS: dict[str, Callable[[Path], Path]] = {
    "noon": lambda path: _written(path, ground=(303.0, 0.0098, 2200.0), wind=(8.0, 0.3), heat=380.0, friction=0.4),
    "winter": lambda path: _written(path, ground=(262.0, -0.01, 250.0), wind=(4.0, 1.0), heat=-15.0, friction=0.12),
    "gale": lambda path: _written(path, ground=(285.0, 0.008, 1200.0), wind=(26.0, 0.2), heat=30.0, friction=0.95),
    "hills": lambda path: _written(
        path, ground=(293.0, 0.009, 1000.0), wind=(7.0, 0.5), heat=140.0, friction=0.35, terrain=_hills()
    ),
    "hybrid": lambda path: _written(
        path,
        ground=(297.0, 0.0095, 1400.0),
        wind=(9.0, 0.4),
        heat=210.0,
        friction=0.4,
        terrain=_hills(),
        axis=arlmet.HybridAxis,
    ),
    "gfs": lambda path: _written(
        path,
        ground=(296.0, 0.0092, 1100.0),
        wind=(11.0, 0.4),
        heat=170.0,
        friction=0.45,
        terrain=_hills(),
        axis=arlmet.HybridAxis,
        grid=QUARTERS,
        hours=(0, 3),
    ),
    "era5": lambda path: _written(
        path,
        ground=(291.0, 0.0085, 900.0),
        wind=(10.0, 0.5),
        heat=120.0,
        friction=0.4,
        terrain=_hills(),
        axis=arlmet.PressureAxis,
        grid=QUARTERS,
        hours=(0, 1, 2, 3),
        humid=("RELH",),
    ),
}
