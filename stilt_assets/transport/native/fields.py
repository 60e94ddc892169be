"""
Which numbers does an ARL file hold of one time?

Records of a time as arrays, the ground first; pressure and humidity of whatever levels and humidity the file has.
"""

from typing import Any, NamedTuple

import arlmet
import numpy as np
import numpy.typing as npt
from arlmet import RecordSet

from stilt_assets.transport.native.column import (
    COLUMN,
    OMEGA,
    OVER_SATURATED,
    RELATIVE,
    SPECIFIC,
    UM,
    VM,
    P,
    Q,
    T,
)

Floats = npt.NDArray[np.float32]
TERRAIN, FRICTION, HEATING, ROUGHNESS = range(4)
GROUND = ("SHGT", "USTR", "SHTF", "RGHS")  # m, m s-1, W m-2, m
SURFACE = {P: "PRSS", T: "T02M", UM: "U10M", VM: "V10M"}
ALOFT = {T: "TEMP", UM: "UWND", VM: "VWND", OMEGA: "WWND"}
HUMIDITY = ("SPHU", "RELH")


class Fields(NamedTuple):
    """Fields of one time."""

    upper: Floats  # (COLUMN, level, y, x), level 0 the ground
    heights: Floats  # (level, y, x) m above ground if the file tells, negative below it; else (0, 0, 0)
    ground: Floats  # (GROUND, y, x)
    humidity: int  # what field Q of `upper` is


def fields_of(step: RecordSet) -> Fields:
    """What a file holds of one time, and all that decoding needs."""
    grid, axis = step.grid, step.vertical_axis
    above = range(1, len(axis.levels))
    upper = np.zeros((COLUMN, len(axis.levels), grid.ny, grid.nx), "f4")
    for field, name in SURFACE.items():
        upper[field, 0] = step[(0, name)].read()
    for level in above:
        for field, name in ALOFT.items():
            upper[field, level] = step[(level, name)].read()
        upper[P, level] = _pressure(step, level, upper[P, 0])
    humidity = _put_humidity(step, upper)
    ground = np.stack([step[(0, name)].read() for name in GROUND])
    heights = np.zeros((0, 0, 0), "f4")
    if isinstance(axis, arlmet.PressureAxis):
        heights = np.zeros(upper.shape[1:], "f4")
        for level in above:
            heights[level] = step[(level, "HGTS")].read() - ground[TERRAIN]
    return Fields(upper, heights, ground, humidity)


def _pressure(step: RecordSet, level: int, surface: Floats) -> Floats:
    """Pressure of a level, hPa."""
    axis: Any = step.vertical_axis
    here = float(axis.levels[level])
    if isinstance(axis, arlmet.PressureAxis):
        return np.full_like(surface, here)
    if isinstance(axis, arlmet.HybridAxis):
        floor = np.floor(here)
        return surface * np.float32(here - floor) + np.float32(floor)
    if (level, "PRES") in step:
        return step[(level, "PRES")].read()
    return axis.offset + (surface - axis.offset) * np.float32(here)


def _put_humidity(step: RecordSet, upper: Floats) -> int:
    """
    What stands for humidity, and which that is: of pressure levels a ratio; the ground has that of level 1.

    Of other levels the ground is as humid as the first level, or for its temperature if the file tells relative ones.
    """
    levels = range(1, upper.shape[1])
    on_pressure = isinstance(step.vertical_axis, arlmet.PressureAxis)
    specific = all((level, "SPHU") in step for level in levels)
    for level in levels:
        field = step[(level, "SPHU" if specific else "RELH")].read()
        if specific and on_pressure:
            field /= saturation_at_1_hpa(upper[T, level])
        elif on_pressure:
            field *= np.float32(0.01)
        elif not specific:
            field = _specific(field, upper[:, level])
        upper[Q, level] = field
    upper[Q, 0] = upper[Q, 1]
    if not (specific or on_pressure):
        upper[Q, 0] = _specific(step[(1, "RELH")].read(), upper[:, 0])
    return (OVER_SATURATED if specific else RELATIVE) if on_pressure else SPECIFIC


def saturation_at_1_hpa(temperature: Floats) -> Floats:
    """Specific humidity of saturated air, times its pressure in hPa."""
    return np.float32(0.622) * np.exp(np.float32(21.4) - np.float32(5351.0) / temperature)


def _specific(relative: Floats, air: Floats) -> Floats:
    """Specific humidity of a relative one in percent."""
    saturated = np.exp(np.float32(21.4) - np.float32(5351.0) / air[T])  # hPa
    return np.float32(0.00622) * relative * saturated / air[P]
