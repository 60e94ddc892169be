"""
How does turbulence move a particle within half a minute?

Vertically w'/sigma_w is an Ornstein-Uhlenbeck process in explicit Euler sub-steps of a tenth of its time scale; where
sigma_w steps from layer to layer a particle passes or turns back so that a mixed column stays mixed (Thomson et al.
1997). The mean wind of the changing height carries it on in each sub-step (Lin et al. 2003), here linear between the
levels of turbulence. Profiles of sigma_w are those of the nearest column, linear between two times at equal shares of
the mixed layer, and constant from a level to the next.
"""

from math import sqrt
from typing import NamedTuple

from numba import uint64

from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.draws import even, normal
from stilt_assets.transport.native.layout import DENSITY, LEVELS, SIGMA_W, THIN, TIMESCALE, U, V
from stilt_assets.transport.native.winds import BASE, SCALAR, blend, height_index, level_of

SHARE = 0.1  # `tlfrac`: a sub-step's share of the time scale
SURFACE_SHARE = 0.5  # `veght`
_NOTHING = 1e-9  # min: what rounding leaves of half a minute
_SHORTEST = 1e-3  # min: of no time scale, so that not even damaged meteorology makes a flight endless


class Breeze(NamedTuple):
    """The mean wind within a layer, cells per minute."""

    foot: float  # zeta
    per_zeta: float  # 1 over the layer's depth
    u: float  # at its foot
    v: float
    u_more: float  # at its top, less that
    v_more: float


class Layer(NamedTuple):
    """What a particle meets between two steps of sigma_w."""

    number: int
    low: float  # zeta
    high: float
    sigma: float  # m s-1
    scale: float  # min
    breeze: Breeze


class Column(NamedTuple):
    """The mixed layer over the nearest column, and where turbulence has its layers."""

    sooner: int  # number of the column, at the time before
    after: int  # and at the time after
    later: float  # share of the time after
    height: float  # of the mixed layer, m above ground
    extra: int  # the first level at or above it
    same: bool  # whether it is as high at both times


@compiled(**SCALAR)
def column_of(met, x, y, moment):
    """The nearest column of a place."""
    ground = min(max(int(y + 0.5), 0), met.ny - 1) * met.nx + min(max(int(x + 0.5), 0), met.nx - 1)
    sooner = moment.columns + ground
    after = sooner + met.nx * met.ny
    low, high = met.mixed_layer[uint64(sooner)], met.mixed_layer[uint64(after)]
    height = low + moment.later * (high - low)
    zeta = height / met.depth[uint64(ground), 0]
    k = level_of(height_index(zeta))
    extra = k if met.heights[k] >= zeta else k + 1
    return Column(sooner, after, moment.later, height, extra, low == high)


@compiled(**SCALAR)
def thin_top(met, extra):
    """Zeta at which the thin layer above level `extra` ends."""
    low = met.heights[uint64(extra)]
    return low + THIN * (met.heights[uint64(extra + 1)] - low)


@compiled(**SCALAR)
def layer_foot(met, layer, extra):
    """Zeta at which a layer begins, 0 for the lowest; the thin one is layer `extra`."""
    foot = thin_top(met, extra) if layer == extra + 1 else met.heights[uint64(layer - (layer > extra))]
    return foot if layer > 0 else 0.0


@compiled(**SCALAR)
def layer_at(met, zeta, extra):
    """The layer a zeta is in."""
    k = level_of(height_index(zeta))
    # No branches: where particles lie is what a processor cannot guess, and each wrong guess costs it 15 ns.
    return k + ((k > extra) | ((k == extra) & (zeta >= thin_top(met, extra))))


@compiled(**SCALAR)
def level_at_foot(layer, extra):
    """The level whose air is at the foot of a layer: that of the next level already where the thin layer ends."""
    return layer - (layer > extra + 1)


@compiled(**SCALAR)
def breeze_of(met, place, moment, layer, extra):
    """The mean wind within a layer: linear in height from its foot to the next, in the lowest from its level."""
    k, upper = level_at_foot(layer, extra), level_at_foot(layer + 1, extra)
    foot = met.heights[uint64(0)] if layer == 0 else layer_foot(met, layer, extra)
    u, v = blend(met, met.wind, place, moment, k, U), blend(met, met.wind, place, moment, k, V)
    u_more = blend(met, met.wind, place, moment, upper, U) - u
    v_more = blend(met, met.wind, place, moment, upper, V) - v
    return Breeze(foot, 1.0 / (layer_foot(met, layer + 1, extra) - foot), u, v, u_more, v_more)


@compiled(**SCALAR)
def along(breeze, zeta):
    """u and v at a zeta within a layer, cells per minute; below the lowest level they fall to nothing at the ground."""
    share, slow = max((zeta - breeze.foot) * breeze.per_zeta, 0.0), min(zeta * (1.0 / BASE), 1.0)
    return slow * breeze.u + share * breeze.u_more, slow * breeze.v + share * breeze.v_more


@compiled(**SCALAR)
def scales(met, column, layer):
    """sigma_w, m s-1, and its time scale, min, of a layer."""
    a, b = layer, layer
    if not column.same:
        a, b = _layers_alike(met, column, layer)
    sooner, after = uint64(column.sooner), uint64(column.after)
    sigma = met.turbulence[sooner, uint64(a), SIGMA_W]
    sigma += column.later * (met.turbulence[after, uint64(b), SIGMA_W] - sigma)
    scale = met.turbulence[sooner, uint64(a), TIMESCALE]
    scale += column.later * (met.turbulence[after, uint64(b), TIMESCALE] - scale)
    return sigma, max(scale * (1.0 / 60.0), _SHORTEST)


@compiled(**SCALAR)
def _layers_alike(met, column, layer):
    """The layers at two times whose levels are nearest to the same share of the mixed layer as that of a layer."""
    sooner, after = uint64(column.sooner), uint64(column.after)
    zeta = met.heights[uint64(level_at_foot(layer, column.extra))] / column.height
    a = nearest_level(met, zeta * met.mixed_layer[sooner])
    b = nearest_level(met, zeta * met.mixed_layer[after])
    return a + (a > met.extra[sooner]), b + (b > met.extra[after])


@compiled(**SCALAR)
def nearest_level(met, zeta):
    """The level that is nearest to a zeta."""
    k = level_of(height_index(zeta))
    return k + (zeta - met.heights[uint64(k)] > met.heights[uint64(k + 1)] - zeta)


@compiled(**SCALAR)
def passes(met, place, moment, column, layer, other, chance, sigma, other_sigma):
    """Whether a particle passes from a layer to another: the flux of mixed air is the same both ways."""
    here = blend(met, met.wind, place, moment, level_at_foot(layer, column.extra), DENSITY)
    there = blend(met, met.wind, place, moment, level_at_foot(other, column.extra), DENSITY)
    return chance * sigma * here < other_sigma * there


@compiled(**SCALAR)
def layer_of(met, place, moment, column, number):
    """What a particle meets in a layer."""
    low, high = layer_foot(met, number, column.extra), layer_foot(met, number + 1, column.extra)
    sigma, scale = scales(met, column, number)
    return Layer(number, low, high, sigma, scale, breeze_of(met, place, moment, number, column.extra))


@compiled(**SCALAR)
def bounce(met, place, moment, column, layer, zeta, ratio, per_minute, left, stream):
    """
    Carry a particle to and fro in its layer for `left` minutes, or until it passes to another.

    Its zeta and ratio, the number of the layer it is in then, the minutes that are left, the stream.
    """
    while True:
        speed = ratio * layer.sigma * per_minute
        end, up = zeta + speed * left, speed > 0.0
        # The direction decides: rounding may put a particle that leaves an edge on that edge.
        if ((end < layer.high) if up else (end >= layer.low)) | (speed == 0.0) | (not left > 0.0):
            return end, ratio, layer.number, 0.0, stream
        edge, other = (layer.high, layer.number + 1) if up else (layer.low, layer.number - 1)
        left -= (edge - zeta) / speed
        zeta = edge
        if (other >= 0) & (other < LEVELS):
            stream, chance = even(stream)
            other_sigma, _ = scales(met, column, other)
            if passes(met, place, moment, column, layer.number, other, chance, layer.sigma, other_sigma):
                return zeta, ratio, other, max(left, 0.0), stream
        ratio = -ratio


@compiled(**SCALAR)
def mix(met, place, moment, column, depth, zeta, ratio, stream, duration):
    """
    Carry a particle up and down, and along with the wind, for `duration` minutes.

    A sub-step ends where the particle passes to another layer. Its zeta and `ratio` = w'/sigma_w, the columns and rows
    that it comes along, minutes below `SURFACE_SHARE` of the mixed layer, the last sigma_w (m s-1) and time scale
    (min), the stream.
    """
    near_ground = SURFACE_SHARE * column.height / depth
    per_minute = 60.0 / depth
    layer = layer_of(met, place, moment, column, layer_at(met, zeta, column.extra))
    east = north = below = 0.0
    rest = duration
    while rest > _NOTHING:
        step = min(SHARE * layer.scale, rest)
        share = step / layer.scale
        stream, chance = normal(stream)
        ratio += sqrt(2.0 * share) * chance - share * ratio
        end, number, left = zeta + ratio * layer.sigma * per_minute * step, layer.number, 0.0
        if not ((end >= layer.low) & (end < layer.high)):
            end, ratio, number, left, stream = bounce(
                met, place, moment, column, layer, zeta, ratio, per_minute, step, stream
            )
        zeta, step = end, step - left
        rest -= step
        below += step if zeta < near_ground else 0.0
        u, v = along(layer.breeze, zeta)
        east, north = east + step * u, north + step * v
        if number != layer.number:
            layer = layer_of(met, place, moment, column, number)
    return zeta, ratio, east, north, below, layer.sigma, layer.scale, stream
