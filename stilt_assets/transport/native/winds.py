"""
Which wind does a particle feel, and where does it carry it in a minute?

Fields between four columns and two times are bilinear in x and y and linear in time. Winds go with the quadratic height
index (levels lie at its whole numbers), pressure and density with the height itself; below the lowest level the wind
falls linearly to nothing at the ground. The mean step is Draxler and Hess's (1997): the mean of the winds at the
start and at the first guess of the end.
"""

from math import floor, sqrt

from numba import njit

from stilt_assets.transport.native.layout import DENSITY, HEIGHTS, LEVELS, U, V, W

BASE = HEIGHTS[0]
_FIRST, _TOP = 0, LEVELS - 2


@njit(cache=True, nogil=True, inline="always")
def height_index(zeta):
    """Levels below a zeta, with a fraction: k + 1 at `HEIGHTS[k]`."""
    return (25.0 + sqrt(25.0 + 120.0 * zeta)) * (1.0 / 60.0)


@njit(cache=True, nogil=True, inline="always")
def level_below(zeta):
    """k of the highest of the levels that are not above a zeta, 0 below all of them."""
    return min(max(int(height_index(zeta)) - 1, _FIRST), _TOP)


@njit(cache=True, nogil=True)
def place_of(met, x, y, minute):
    """
    The column west and south of a place at the time before a minute, and shares of the east, the north and the later.

    A particle that flies is always within the columns (`inside`); minutes are within the times.
    """
    column, row = int(x), int(y)
    since = (minute - met.first) / met.spacing
    time = min(int(floor(since)), met.times - 2)
    here = (time * met.ny + row) * met.nx + column
    return here, x - column, y - row, since - time


@njit(cache=True, nogil=True, inline="always")
def blend(met, field, place, level, item):
    """A field at a place and on a level."""
    here, east, north, later = place
    there = here + met.nx * met.ny
    above = here + met.nx
    beyond = there + met.nx
    a = field[here, level, item] + east * (field[here + 1, level, item] - field[here, level, item])
    b = field[above, level, item] + east * (field[above + 1, level, item] - field[above, level, item])
    c = field[there, level, item] + east * (field[there + 1, level, item] - field[there, level, item])
    d = field[beyond, level, item] + east * (field[beyond + 1, level, item] - field[beyond, level, item])
    sooner = a + north * (b - a)
    return sooner + later * (c + north * (d - c) - sooner)


@njit(cache=True, nogil=True)
def wind(met, x, y, zeta, minute):
    """u and v in cells and w in m of zeta per minute."""
    place = place_of(met, x, y, minute)
    if zeta < BASE:
        share = max(zeta, 0.0) / BASE
        return (
            share * blend(met, met.wind, place, 0, U),
            share * blend(met, met.wind, place, 0, V),
            share * blend(met, met.wind, place, 0, W),
        )
    k = level_below(zeta)
    share = height_index(zeta) - (k + 1)
    u, v, w = (blend(met, met.wind, place, k, U), blend(met, met.wind, place, k, V), blend(met, met.wind, place, k, W))
    return (
        u + share * (blend(met, met.wind, place, k + 1, U) - u),
        v + share * (blend(met, met.wind, place, k + 1, V) - v),
        w + share * (blend(met, met.wind, place, k + 1, W) - w),
    )


@njit(cache=True, nogil=True)
def drift(met, x, y, zeta, minute):
    """Where the mean wind brings a particle from within the minute back: x, y, zeta."""
    u, v, w = wind(met, x, y, zeta, minute)
    if not inside(met, x - u, y - v):
        return x - u, y - v, zeta - w
    u2, v2, w2 = wind(met, x - u, y - v, max(zeta - w, 0.0), minute - 1)
    return x - 0.5 * (u + u2), y - 0.5 * (v + v2), max(zeta - 0.5 * (w + w2), 0.0)


@njit(cache=True, nogil=True)
def inside(met, x, y):
    """Whether a particle flies on: a cell within the western and southern edge, two within the others."""
    return x >= 1.0 and y >= 1.0 and x < met.nx - 2 and y < met.ny - 2


@njit(cache=True, nogil=True)
def depth_of(met, place):
    """Metres above ground per m of zeta, below 1."""
    here, east, north, _ = place
    ground = here % (met.nx * met.ny)
    a = met.depth[ground] + east * (met.depth[ground + 1] - met.depth[ground])
    north_of = ground + met.nx
    b = met.depth[north_of] + east * (met.depth[north_of + 1] - met.depth[north_of])
    return a + north * (b - a)


@njit(cache=True, nogil=True)
def air(met, place, zeta):
    """Pressure, hPa, and density of dry air, kg m-3: linear in height, and on below the lowest level."""
    k = level_below(zeta)
    share = (zeta - met.heights[k]) / (met.heights[k + 1] - met.heights[k])
    low, high = blend(met, met.pressure, place, k, 0), blend(met, met.pressure, place, k + 1, 0)
    light, dense = blend(met, met.wind, place, k + 1, DENSITY), blend(met, met.wind, place, k, DENSITY)
    return low + share * (high - low), dense + share * (light - dense)
