"""Which weather, and where in it, is the oracle asked? Real HRRR, and made-up columns for what it does not hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
import pandas as pd
from made_weather import longitudes

from fidelity.oracle import scattered
from fidelity.weather import DAY, GDAS, write_columns

CELLS = 50
SIZE = 3.0  # km
LEVELS = (0, 20, 50, 100, 180, 300, 450, 650, 900, 1200, 1500, 1900, 2400, 3000, 3700, 4500, 5500, 6500, 8000, 10000)
EAST, NORTH = np.meshgrid(np.linspace(0, 1, CELLS), np.linspace(0, 1, CELLS))


@dataclass(frozen=True)
class Case:
    """One meteorology and the places in it that are asked for."""

    name: str
    make: Callable[[Path, Path], Path]  # (folder of public data, new file) -> an ARL file
    releases: Callable[[], pd.DataFrame]
    setup: Mapping[str, Any] = field(default_factory=dict)


def hrrr(shared: Path, path: Path) -> Path:
    """Both real files as one."""
    path.write_bytes(b"".join(each.read_bytes() for each in sorted((shared / "data" / "hrrr").iterdir())))
    return path


def in_utah() -> pd.DataFrame:
    hours = ("01:00", "02:00", "04:00", "08:00", "11:00")
    return pd.concat(
        [
            scattered(200, (-112.5, -111.45), (40.35, 41.2), (3, 4000), f"2019-05-30 {hour}", 10 + number)
            for number, hour in enumerate(hours)
        ],
        ignore_index=True,
    )


def small_lambert() -> arlmet.Grid:
    centre = ((CELLS + 1) / 2, (CELLS + 1) / 2, 40.7, -112.0)
    return arlmet.Grid(arlmet.Projection(90.0, 0.0, 40.7, -97.0, SIZE, 0.0, 38.5, *centre), CELLS, CELLS)


def across_the_date_line() -> arlmet.Grid:
    """Cells of a quarter of a degree, as GFS has them, from 174 E to 173.75 W."""
    return longitudes(174.0, -50.0, CELLS, CELLS, 0.25)


def whole_degrees() -> arlmet.Grid:
    """Cells of a degree around (40 N, 100 W), as GDAS has them."""
    return longitudes(235.0, 17.0, CELLS, CELLS, 1.0)


def at_the_date_line() -> pd.DataFrame:
    places = scattered(500, (177.6, 182.4), (-46.0, -40.0), (3, 6000), DAY + pd.Timedelta(hours=3), 8)
    return places.assign(lon=places["lon"].where(places["lon"] < 180.0, places["lon"] - 360.0))


def over_america() -> pd.DataFrame:
    """At times that lie anywhere between two that are three hours apart."""
    times = [DAY + pd.Timedelta(hours=hours) for hours in (2.0, 3.5, 5.25, 7.75)]
    return pd.concat(
        [
            scattered(150, (-113.0, -87.0), (24.0, 59.0), (3, 6000), time, 20 + number)
            for number, time in enumerate(times)
        ],
        ignore_index=True,
    )


def in_the_middle(top: float = 6000.0) -> Callable[[], pd.DataFrame]:
    def releases() -> pd.DataFrame:
        return scattered(500, (-112.35, -111.65), (40.45, 40.95), (3, top), DAY + pd.Timedelta(hours=3), 7)

    return releases


def made(
    *,
    surface: float,
    jump: float,
    lapse: float,
    wind: float,
    heating: float,
    friction: float,
    rise: float = 0.0,
    moisture: float = 0.005,
    axis: type[arlmet.VerticalAxis] = arlmet.SigmaAxis,
    grid: Callable[[], arlmet.Grid] = small_lambert,
    levels: Sequence[float] = LEVELS,
    **more: Any,
) -> Callable[[Path, Path], Path]:
    """
    Columns that differ from place to place and from hour to hour.

    Potential temperature: `surface` K, an inversion of `jump` K within some 300 m, then `lapse` K m-1; `wind` m s-1 at
    1 km; `heating` W m-2 and `friction` m s-1 in the middle; terrain from 300 to 300 + `rise` m.
    """

    def temperature(z: np.ndarray, hour: int) -> np.ndarray:
        inversion = jump * (1.0 - np.exp(-np.maximum(z, 0.0) / (200.0 + 200.0 * EAST))) * (1.0 - 0.1 * hour)
        return surface + 2.0 * NORTH + inversion + lapse * (0.7 + 0.6 * EAST) * z - 0.0097 * z

    def u(z: np.ndarray, hour: int) -> np.ndarray:
        z = np.maximum(z, 0.0)
        return wind * (0.6 + 0.8 * NORTH) * np.log1p(z / 30.0) / np.log1p(1000.0 / 30.0) * (1.0 + 0.05 * hour)

    def v(z: np.ndarray, hour: int) -> np.ndarray:
        return 0.3 * wind * np.sin(z / 700.0 + 2.0 * EAST)

    def file(_: Path, path: Path) -> Path:
        terrain = 300.0 + rise * (0.5 + 0.5 * np.sin(5.0 * EAST) * np.cos(4.0 * NORTH))
        ground = {
            "SHTF": lambda hour: heating * (0.4 + 1.2 * EAST) * (1.0 - 0.15 * hour),
            "USTR": lambda hour: friction * (0.5 + NORTH) * (1.0 + 0.1 * hour),
            "RGHS": lambda hour: 0.02 + 0.4 * NORTH,
        }
        return write_columns(
            path,
            grid(),
            levels,
            temperature=temperature,
            wind=(u, v),
            humidity=lambda z, hour: moisture * (0.7 + 0.6 * NORTH) * np.exp(-z / 2500.0),
            omega=lambda z, hour: 2e-3 * np.sin(z / 1500.0 + 6.0 * EAST),
            terrain=terrain,
            ground=ground,
            axis=axis,
            **more,
        )

    return file


MIDDAY = {"surface": 305.0, "jump": -0.5, "lapse": 0.0012, "wind": 4.0, "heating": 350.0, "friction": 0.35}
WINTER = {"surface": 262.0, "jump": 9.0, "lapse": 0.004, "wind": 3.0, "heating": -12.0, "friction": 0.06}
STORM = {"surface": 285.0, "jump": 0.3, "lapse": 0.004, "wind": 22.0, "heating": 40.0, "friction": 0.9}
LIGHT = {"surface": 262.0, "jump": 9.0, "lapse": -0.001, "wind": 0.8, "heating": -12.0, "friction": 0.06}
PRESSURE: dict[str, Any] = {"axis": arlmet.PressureAxis, "levels": GDAS}
CASES = {
    case.name: case
    for case in (
        Case("hrrr", hrrr, in_utah),
        Case("midday", made(**MIDDAY), in_the_middle()),
        Case("winter", made(**WINTER, moisture=0.001), in_the_middle()),
        Case("storm", made(**STORM), in_the_middle()),
        Case("falling", made(**LIGHT), in_the_middle()),  # a wind that hardly turns, in air that is colder aloft
        Case("steep", made(**MIDDAY, rise=1800.0), in_the_middle()),
        Case("no_pressure", made(**MIDDAY, with_pressure=False), in_the_middle()),
        Case("hybrid", made(**MIDDAY, axis=arlmet.HybridAxis, with_pressure=False), in_the_middle()),
        Case(
            "hybrid_hung",
            made(**MIDDAY, rise=900.0, axis=arlmet.HybridAxis, with_pressure=False, hung=True),
            in_the_middle(),
        ),
        Case("degrees", made(**MIDDAY, grid=across_the_date_line), at_the_date_line),
        Case("pressure", made(**MIDDAY, rise=900.0, **PRESSURE, humid=("RELH",)), in_the_middle()),
        Case("pressure_steep", made(**WINTER, rise=1800.0, **PRESSURE, lifted=15.0), in_the_middle()),
        Case(
            "gdas",
            made(**STORM, rise=1200.0, **PRESSURE, humid=("RELH",), grid=whole_degrees, hours=(0, 3, 6, 9)),
            over_america,
        ),
        Case("hybrid_steep", made(**WINTER, rise=1800.0, axis=arlmet.HybridAxis, with_pressure=False), in_the_middle()),
    )
}
