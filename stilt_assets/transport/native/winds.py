"""
Which wind does a particle feel, and where does it carry it in a minute?

Fields between four columns and two times are bilinear in x and y and linear in time. Winds go with the quadratic height
index (levels lie at its whole numbers), pressure and density with the height itself; below the lowest level the wind
falls linearly to nothing at the ground, and on below it. The mean step is Draxler and Hess's (1997): the mean of the
winds at the start and at the first guess of the end; a particle that it brings below the ground bounces.
"""

from math import sqrt
from typing import Any, NamedTuple

from numba import float32, uint64

from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.layout import DENSITY, HEIGHTS, LEVELS, U, V, W

SCALAR = {"forceinline": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}
BASE = HEIGHTS[0]
_HIGHEST = LEVELS - 2  # of the levels that have one above
_LEFT, _RIGHT = 1.0, 2.0  # cells from the western and southern, and from the eastern and northern edge


class Met(NamedTuple):
    """Decoded meteorology as compiled code reads it, with its columns in a row: time, then y, then x."""

    wind: Any  # (column, level, WIND) float32, see `layout`
    pressure: Any  # (column, level, 1) float32, hPa
    turbulence: Any  # (column, level + 1, TURBULENCE) float32
    extra: Any  # (column,) int8
    mixed_layer: Any  # (column,) float32
    depth: Any  # (y * x,) float64, metres above ground per m of zeta
    earth: Any  # (y * x, EARTH) float64, see `engine`
    heights: Any  # (level,) float64, zeta
    nx: int
    ny: int
    times: int
    first: int  # minutes since 1970
    spacing: int  # minutes
    projection: tuple[float, float, float, float, float, float]


class Moment(NamedTuple):
    """A minute between two times."""

    columns: int  # before the first of the time before it
    later: float  # share of the time after it


class Place(NamedTuple):
    """A place between four columns."""

    ground: int  # number of the south-western of them
    east: float  # shares of the eastern and of the northern ones
    north: float


@compiled(**SCALAR)
def moment_of(met, minute):
    """A minute since 1970 within the meteorology's times."""
    time = min((minute - met.first) // met.spacing, met.times - 2)
    return Moment(time * met.nx * met.ny, (minute - met.first) / met.spacing - time)


@compiled(**SCALAR)
def place_of(met, x, y):
    """A place, or beyond the outermost columns the straight line through them."""
    column, row = min(max(int(x), 0), met.nx - 2), min(max(int(y), 0), met.ny - 2)
    return Place(row * met.nx + column, x - column, y - row)


@compiled(**SCALAR)
def inside(met, x, y):
    """Whether a particle flies on: at least a cell within the western and southern edge, two within the others."""
    return (x >= _LEFT) & (y >= _LEFT) & (x <= met.nx - 1 - _RIGHT) & (y <= met.ny - 1 - _RIGHT)


@compiled(**SCALAR)
def height_index(zeta):
    """Levels below a zeta, with a fraction: k + 1 at `HEIGHTS[k]`."""
    return (25.0 + sqrt(max(25.0 + 120.0 * zeta, 0.0))) * (1.0 / 60.0)


@compiled(**SCALAR)
def level_of(index):
    """k of the highest of the levels that are not above a height index, 0 below all of them."""
    return min(max(int(index) - 1, 0), _HIGHEST)


@compiled(**SCALAR)
def blend(met, field, place, moment, level, item):
    """A field at a place, a moment and on a level."""
    # Unsigned: numba looks whether a signed index counts from the end.
    sooner, k = uint64(moment.columns + place.ground), uint64(level)
    after = uint64(moment.columns + place.ground + met.nx * met.ny)
    one, row = uint64(1), uint64(met.nx)
    east, north, later = float32(place.east), float32(place.north), float32(moment.later)
    a, b = field[sooner, k, item], field[sooner + row, k, item]
    c, d = field[after, k, item], field[after + row, k, item]
    a += east * (field[sooner + one, k, item] - a)
    b += east * (field[sooner + row + one, k, item] - b)
    c += east * (field[after + one, k, item] - c)
    d += east * (field[after + row + one, k, item] - d)
    a += later * (c - a)
    b += later * (d - b)
    return a + north * (b - a)


@compiled(**SCALAR)
def wind(met, place, moment, zeta):
    """u and v in cells and w in m of zeta per minute."""
    index = height_index(zeta)
    k = level_of(index)
    # Between levels, and below the lowest: linear to nothing at the ground, and on below it.
    share, slow = max(index - (k + 1), 0.0), min(zeta * (1.0 / BASE), 1.0)
    u, v, w = (
        blend(met, met.wind, place, moment, k, U),
        blend(met, met.wind, place, moment, k, V),
        blend(met, met.wind, place, moment, k, W),
    )
    return (
        slow * u + share * (blend(met, met.wind, place, moment, k + 1, U) - u),
        slow * v + share * (blend(met, met.wind, place, moment, k + 1, V) - v),
        slow * w + share * (blend(met, met.wind, place, moment, k + 1, W) - w),
    )


@compiled(**SCALAR)
def drift(met, place, now, before, x, y, zeta):
    """Where the mean wind has brought a particle from, a minute ago: x, y, zeta."""
    u, v, w = wind(met, place, now, zeta)
    there = place_of(met, x - u, y - v)
    u2, v2, w2 = wind(met, there, before, zeta - w)
    return x - 0.5 * (u + u2), y - 0.5 * (v + v2), abs(zeta - 0.5 * (w + w2))


@compiled(**SCALAR)
def over_ground(met, field, place, item):
    """A field that has neither height nor time."""
    g, one, row = uint64(place.ground), uint64(1), uint64(met.nx)
    a, b = field[g, item], field[g + row, item]
    a += place.east * (field[g + one, item] - a)
    b += place.east * (field[g + row + one, item] - b)
    return a + place.north * (b - a)


@compiled(**SCALAR)
def air(met, place, moment, zeta):
    """Pressure, hPa, and density of dry air, kg m-3: linear in height, and constant below the lowest level."""
    k = level_of(height_index(zeta))
    share = max((zeta - met.heights[k]) / (met.heights[k + 1] - met.heights[k]), 0.0)
    low = blend(met, met.pressure, place, moment, k, 0)
    dense = blend(met, met.wind, place, moment, k, DENSITY)
    return (
        low + share * (blend(met, met.pressure, place, moment, k + 1, 0) - low),
        dense + share * (blend(met, met.wind, place, moment, k + 1, DENSITY) - dense),
    )
