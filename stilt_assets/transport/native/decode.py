"""
What does a particle read of one time, made from its fields?

One time after the other, so that memory stays that of one time's fields.
"""

import numpy as np
import numpy.typing as npt
from arlmet import Grid

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
from stilt_assets.transport.native.fields import FRICTION, HEATING, ROUGHNESS, TERRAIN, Fields
from stilt_assets.transport.native.geometry import metres_per_cell, projection_of, to_degrees
from stilt_assets.transport.native.layout import DENSITY, HEIGHTS, LEVELS, LID, U, V, W
from stilt_assets.transport.native.stability import (
    LEAST_FRICTION,
    convective_speed,
    mixed_layer,
    obukhov,
    potential,
    turbulence,
)

Floats = npt.NDArray[np.float32]


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


def fill(fields: Fields, cells: npt.NDArray[np.float64], least: float, *out: npt.NDArray[np.generic]) -> int:
    """
    Put what particles read of one time, from its fields, where `out` says.

    How many levels the file's own reach in the south-western column comes back.

    `least` depth of the mixed layer, m; `out` are wind, pressure, turbulence, extra and mixed layer (see `layout`).
    """
    return _fill(fields.upper, fields.heights, fields.ground, fields.humidity, cells, least, *out)


@compiled(allocates=True, error_model="numpy")
def _fill(upper, given, ground, humidity, cells, least, wind, pressure, turbulent, extra, mixed):
    levels_of_file, ny, nx = upper.shape[1:]
    data, heights = np.empty((COLUMN, levels_of_file)), np.empty(levels_of_file)
    levels, air, theta = np.empty(LEVELS), np.empty((COLUMN, LEVELS)), np.empty(LEVELS)
    scales, reached = np.empty((LEVELS, 2)), LEVELS
    for y in range(ny):
        for x in range(nx):
            terrain = ground[TERRAIN, y, x]
            count = _gather(upper, given, y, x, HEIGHTS[0] * (LID - terrain) / LID, data, heights)
            if given.shape[0] == 0:
                heights_of(data, count, heights)
            remap(data, count, heights, humidity, terrain, levels, air)
            if y == 0 and x == 0:
                reached = np.searchsorted(levels, heights[count - 1], side="right")
            _put_wind(air, cells[0, y, x], cells[1, y, x], LID / (LID - terrain), wind[y, x], pressure[y, x])
            potential(air, theta)
            friction, heating = max(ground[FRICTION, y, x], LEAST_FRICTION), ground[HEATING, y, x]
            depth = mixed_layer(levels, air, theta, friction, heating, least)
            length = obukhov(levels, air, theta, friction, heating)
            convection = convective_speed(air, theta, depth, friction, heating)
            turbulence(levels, air, theta, depth, friction, length, convection, ground[ROUGHNESS, y, x], scales)
            mixed[y, x] = depth
            extra[y, x] = _put_turbulence(levels, depth, scales, turbulent[y, x])
    return reached


@compiled(error_model="numpy")
def _gather(upper, given, y, x, lowest, data, heights):
    """
    A column of the file without its levels below `lowest`, m above ground; how many levels that are, with the ground.

    Levels whose heights are not given are all above it, or taken as they are.
    """
    count = 0
    for level in range(upper.shape[1]):
        if given.shape[0] > 0:
            if level > 0 and given[level, y, x] <= max(heights[count - 1], lowest):
                continue
            heights[count] = given[level, y, x]
        for field in range(COLUMN):
            data[field, count] = upper[field, level, y, x]
        count += 1
    return count


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
