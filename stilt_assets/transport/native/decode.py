"""
What does a particle read, made from the records of one hour of an ARL file?

One hour at a time, so that memory stays that of one hour's fields.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from arlmet import Grid, RecordSet

from stilt_assets.transport.native.column import (
    COLUMN,
    GAS,
    GRAVITY,
    OMEGA,
    UM,
    VIRTUAL,
    VM,
    P,
    Q,
    T,
    heights_of,
    remap,
)
from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.geometry import metres_per_cell, projection_of, to_degrees
from stilt_assets.transport.native.layout import DENSITY, LEVELS, LID, U, V, W
from stilt_assets.transport.native.stability import (
    LEAST_FRICTION,
    convective_speed,
    mixed_layer,
    obukhov,
    potential,
    turbulence,
)

Floats = npt.NDArray[np.float32]
TERRAIN, FRICTION, HEATING, ROUGHNESS = range(4)
GROUND = ("SHGT", "USTR", "SHTF", "RGHS")
_UPPER = {T: ("T02M", "TEMP"), UM: ("U10M", "UWND"), VM: ("V10M", "VWND"), OMEGA: (None, "WWND"), Q: (None, "SPHU")}
_ROUGHNESS = 0.1  # m


def fields_of(step: RecordSet) -> tuple[Floats, Floats]:
    """Fields of one time: upper ones (COLUMN, level, y, x), the ground first, and the ground's (4, y, x)."""
    count = len(step.vertical_axis.levels)
    grid = step.grid
    upper = np.zeros((COLUMN, count, grid.ny, grid.nx), "f4")
    upper[P, 0] = step[(0, "PRSS")].read()
    for field, (surface, name) in _UPPER.items():
        for level in range(1, count):
            if (level, name) in step:
                upper[field, level] = step[(level, name)].read()
        if surface is not None:
            upper[field, 0] = step[(0, surface)].read()
    upper[Q, 0] = upper[Q, 1]
    for level in range(1, count):
        upper[P, level] = pressure_of(step, level, upper[P, 0])
    ground = np.stack(
        [step[(0, name)].read() if (0, name) in step else np.full(upper.shape[2:], _ROUGHNESS, "f4") for name in GROUND]
    )
    return upper, ground


def pressure_of(step: RecordSet, level: int, surface: Floats) -> Floats:
    """Pressure of a level, hPa."""
    if (level, "PRES") in step:
        return step[(level, "PRES")].read()
    axis: Any = step.vertical_axis
    return axis.offset + (surface - axis.offset) * np.float32(axis.levels[level])


def cells_per_minute(grid: Grid) -> npt.NDArray[np.float64]:
    """Cells a minute that a wind of 1 m s-1 crosses, along x and along y: (2, y, x)."""
    projection = projection_of(grid)
    table = np.empty((2, grid.ny, grid.nx))
    _cells_per_minute(projection, table)
    return table


@compiled(error_model="numpy")
def _cells_per_minute(projection, table):
    for y in range(table.shape[1]):
        for x in range(table.shape[2]):
            size = metres_per_cell(to_degrees(x + 0.0, y + 0.0, projection)[1], projection)
            table[0, y, x], table[1, y, x] = 60.0 / size[0], 60.0 / size[1]


@compiled(error_model="numpy")
def fill(upper, ground, cells, least, wind, pressure, turbulent, extra, mixed):
    """What particles read of one time, from its fields; `least` depth of the mixed layer, m."""
    count, ny, nx = upper.shape[1:]
    data, heights = np.empty((COLUMN, count)), np.empty(count)
    levels, air, theta = np.empty(LEVELS), np.empty((COLUMN, LEVELS)), np.empty(LEVELS)
    scales = np.empty((LEVELS, 2))
    for y in range(ny):
        for x in range(nx):
            for field in range(COLUMN):
                for level in range(count):
                    data[field, level] = upper[field, level, y, x]
            terrain = ground[TERRAIN, y, x]
            heights_of(data, count, heights)
            remap(data, count, heights, terrain, levels, air)
            _put_wind(air, cells[0, y, x], cells[1, y, x], LID / (LID - terrain), wind[y, x], pressure[y, x])
            potential(air, theta)
            friction, heating = max(ground[FRICTION, y, x], LEAST_FRICTION), ground[HEATING, y, x]
            depth = mixed_layer(levels, air, theta, friction, heating, least)
            length = obukhov(levels, air, theta, friction, heating)
            convection = convective_speed(air, theta, depth, friction, heating)
            turbulence(levels, air, theta, depth, friction, length, convection, ground[ROUGHNESS, y, x], scales)
            mixed[y, x] = depth
            extra[y, x] = _put_turbulence(levels, depth, scales, turbulent[y, x])


@compiled(error_model="numpy")
def _put_wind(air, along_x, along_y, stretch, wind, pressure):
    """Winds, density and pressure of a column."""
    for k in range(LEVELS):
        moist = 100.0 * air[P, k] / (GAS * air[T, k] * (1.0 + VIRTUAL * air[Q, k]))
        wind[k, U], wind[k, V] = air[UM, k] * along_x, air[VM, k] * along_y
        wind[k, W] = -6000.0 * air[OMEGA, k] / (moist * GRAVITY) * stretch
        wind[k, DENSITY] = moist * (1.0 - air[Q, k])
        pressure[k] = air[P, k]


@compiled(error_model="numpy")
def _put_turbulence(levels, depth, scales, turbulent):
    """A column's turbulence with its extra level; the number of the level below that."""
    top = 0
    while top < LEVELS - 1 and levels[top] < depth:
        top += 1
    for k in range(LEVELS + 1):
        source = k if k <= top else min(max(k - 1, top + 1), LEVELS - 1)
        turbulent[k, 0], turbulent[k, 1] = scales[source, 0], scales[source, 1]
    return top
