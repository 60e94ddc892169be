"""Which weather do the real files lack? Made-up columns, written as ARL files of any vertical coordinate."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import arlmet
import numpy as np
import pandas as pd

DAY = pd.Timestamp("2019-05-30")
GAS, GRAVITY = 287.05, 9.80665  # J kg-1 K-1, m s-2
# Heights of the levels of GDAS1, m, as `write_columns` takes them; the ground first.
_GDAS = (
    1000,
    975,
    950,
    925,
    900,
    850,
    800,
    750,
    700,
    650,
    600,
    550,
    500,
    450,
    400,
    350,
    300,
    250,
    200,
    150,
    100,
)  # hPa
GDAS = (0.0, *(8000.0 * float(np.log(1000.0 / pressure)) for pressure in _GDAS))
Profile = Callable[[np.ndarray, int], np.ndarray]  # of heights above ground (level, y, x) m, and of an hour


def write_columns(
    path: Path,
    grid: arlmet.Grid,
    heights: Sequence[float],
    *,
    temperature: Profile,
    wind: tuple[Profile, Profile],
    humidity: Profile | None = None,
    omega: Profile | None = None,
    terrain: np.ndarray | float = 0.0,
    hours: Sequence[int] = range(4),
    axis: type[arlmet.VerticalAxis] = arlmet.SigmaAxis,
    with_pressure: bool = True,
    ground: Mapping[str, Callable[[int], np.ndarray | float]] | None = None,
    left_out: Sequence[str] = (),
    lifted: float = 0.0,
    hung: bool = False,
    humid: Sequence[str] = ("SPHU",),
) -> Path:
    """
    Write columns in hydrostatic balance: K, m s-1, kg kg-1 and hPa s-1 at roughly `heights` m, the ground (0) first.

    `ground` adds or replaces fields of the ground, each a function of the hour; `left_out` are names not to write. HGTS
    of pressure levels are `lifted` m above what the temperatures give. `hung` hybrid levels are as models have them:
    the higher, the less of the ground's pressure is in theirs, and the rest is constant. Humidity is written as the
    fields named by `humid`: the specific one, the relative one (RELH), or both.
    """
    shape = (len(heights), grid.ny, grid.nx)
    dry = np.asarray(heights)[:, None, None] * np.ones(shape)
    floor = np.broadcast_to(np.asarray(terrain, "f8"), shape[1:])
    surface = 1013.25 * np.exp(-floor / 8000.0)
    shares, constant = np.exp(-np.asarray(heights) / 8000.0), np.zeros(len(heights))
    if hung:
        constant = np.floor(1013.25 * (shares - shares**2))  # hPa
        # A level is written in six characters, as the constant's hPa and behind the point the ground's share.
        shares = np.array([round(share**2, 5 - len(f"{hpa:.0f}")) for share, hpa in zip(shares, constant, strict=True)])
    levels = {arlmet.PressureAxis: 1000.0 * shares, arlmet.HybridAxis: constant + np.round(shares, 4)}.get(axis, shares)
    with arlmet.File(path, mode="w", source="MADE", grid=grid, vertical_axis=axis(list(levels))) as file:
        for hour in hours:
            step = file.create_recordset((DAY + timedelta(hours=hour)).isoformat(), forecast=0)
            if axis is arlmet.PressureAxis:
                pressure = levels[:, None, None] * np.ones(shape)
                pressure[0] = surface
            else:
                pressure = constant[:, None, None] + shares[:, None, None] * surface
            height = _heights(pressure, dry, temperature, humidity, hour)
            zero = np.zeros(shape)
            moist = zero if humidity is None else humidity(height, hour)
            warmth, u, v = temperature(height, hour), wind[0](height, hour), wind[1](height, hour)
            base = {
                "SHGT": floor, "PRSS": surface, "T02M": warmth[0], "U10M": u[0], "V10M": v[0],
                "USTR": 0.3, "SHTF": 50.0, "PBLH": 500.0,
            }  # fmt: skip
            base |= {name: field(hour) for name, field in (ground or {}).items()}
            upper = {"TEMP": warmth, "UWND": u, "VWND": v, "WWND": zero if omega is None else omega(height, hour)}
            if humidity is not None:
                told = {"SPHU": moist, "RELH": 100.0 * moist / saturated(warmth, pressure)}
                upper |= {name: told[name] for name in humid}
            if axis is arlmet.PressureAxis:
                upper["HGTS"] = height + floor + lifted
            elif with_pressure:
                upper["PRES"] = pressure
            for name, field in base.items():
                _put(step, grid, name, 0, field, left_out)
            for level in range(1, len(heights)):
                for name, field in upper.items():
                    _put(step, grid, name, level, field[level], left_out)
            file.flush()
    return path


def saturated(temperature: np.ndarray, pressure: np.ndarray) -> np.ndarray:
    """Specific humidity of saturated air, kg kg-1; K and hPa."""
    return 0.622 * np.exp(21.4 - 5351.0 / temperature) / pressure


def _heights(
    pressure: np.ndarray, first: np.ndarray, temperature: Profile, humidity: Profile | None, hour: int
) -> np.ndarray:
    """Heights whose temperatures give them, by repetition."""
    height = first
    for _ in range(8):
        virtual = temperature(height, hour)
        if humidity is not None:
            virtual = virtual * (1.0 + 0.61 * humidity(height, hour))
        steps = GAS / GRAVITY * 0.5 * (virtual[1:] + virtual[:-1]) * np.log(pressure[:-1] / pressure[1:])
        height = np.concatenate([np.zeros_like(first[:1]), np.cumsum(steps, axis=0)])
    return height


def _put(
    step: arlmet.RecordSet, grid: arlmet.Grid, name: str, level: int, field: object, left_out: Sequence[str]
) -> None:
    if name not in left_out:
        whole = np.broadcast_to(np.asarray(field, "f4"), (grid.ny, grid.nx)).copy()
        step.create_datarecord(name, level, forecast=0, data=whole, diff="DIFW" if name == "WWND" else None)
