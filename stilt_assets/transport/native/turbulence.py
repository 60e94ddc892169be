"""
How does turbulence move a particle within half a minute?

Vertically w'/sigma_w is an Ornstein-Uhlenbeck process in sub-steps of a tenth of its time scale; where sigma_w steps from
layer to layer a particle passes or turns back so that a mixed column stays mixed (Thomson et al. 1997). The mean wind of
the changing height carries it on in each sub-step (Lin et al. 2003). Profiles are those of the nearest column, linear
between two times at equal shares of the mixed layer, and constant from a level to the next.
"""

from math import exp, sqrt

from numba import njit

from stilt_assets.transport.native.draws import even, normal
from stilt_assets.transport.native.layout import DENSITY, LEVELS, SIGMA_W, TIMESCALE, U, V
from stilt_assets.transport.native.winds import BASE, blend, height_index, level_below

SHARE = 0.1  # `tlfrac`: a sub-step's share of the time scale
STAY, KICK = exp(-SHARE), sqrt(1.0 - exp(-2.0 * SHARE))
THIN = 1.05  # the extra level's height over that of the level below it
SURFACE_SHARE = 0.5  # `veght`
_LAST = LEVELS  # the highest level of `turbulence`


@njit(cache=True, nogil=True)
def column_of(met, x, y, minute):
    """The nearest column at the time before a minute, and the share of the later time."""
    since = (minute - met.first) / met.spacing
    time = min(int(since), met.times - 2)
    return (time * met.ny + int(y + 0.5)) * met.nx + int(x + 0.5), since - time


@njit(cache=True, nogil=True)
def mixed_layer(met, column, later):
    """Height of the mixed layer, m above ground."""
    sooner = met.mixed_layer[column]
    return sooner + later * (met.mixed_layer[column + met.nx * met.ny] - sooner)


@njit(cache=True, nogil=True)
def first_not_below(met, zeta):
    """The first level at or above a zeta."""
    k = level_below(zeta)
    return k if met.heights[k] >= zeta else k + 1


@njit(cache=True, nogil=True, inline="always")
def layer_foot(met, layer, extra):
    """Zeta at which a layer begins, layer `extra + 1` being the thin one's end."""
    if layer <= extra:
        return met.heights[layer] if layer > 0 else 0.0
    return THIN * met.heights[extra] if layer == extra + 1 else met.heights[layer - 1]


@njit(cache=True, nogil=True)
def layer_at(met, zeta, extra):
    """The layer a zeta is in."""
    k = level_below(zeta)
    if k < extra:
        return k
    return k + 1 if k > extra or zeta >= THIN * met.heights[extra] else k


@njit(cache=True, nogil=True)
def scales(met, column, later, layer, foot, mixed):
    """sigma_w, m s-1, and its time scale, min, of a layer that begins at zeta `foot`, at `column` between two times."""
    after = column + met.nx * met.ny
    a, b = layer, layer
    if met.mixed_layer[column] != mixed or met.mixed_layer[after] != mixed:
        if layer > 0:
            a = layer_at(met, foot * met.mixed_layer[column] / mixed, met.extra[column])
            b = layer_at(met, foot * met.mixed_layer[after] / mixed, met.extra[after])
    sigma = met.turbulence[column, a, SIGMA_W]
    sigma += later * (met.turbulence[after, b, SIGMA_W] - sigma)
    scale = met.turbulence[column, a, TIMESCALE]
    scale += later * (met.turbulence[after, b, TIMESCALE] - scale)
    return sigma, scale / 60.0


@njit(cache=True, nogil=True)
def mix(met, place, column, later, depth, zeta, ratio, stream, duration):
    """
    Carry a particle up and down, and along with the wind, for `duration` minutes.

    Its `zeta` and `ratio` = w'/sigma_w, the columns and rows that it comes along, minutes below `SURFACE_SHARE` of the
    mixed layer, the last sigma_w (m s-1) and time scale (min), the stream.
    """
    mixed = mixed_layer(met, column, later)
    extra = first_not_below(met, mixed / depth)
    near_ground = SURFACE_SHARE * mixed / depth
    layer = layer_at(met, zeta, extra)
    low, high = layer_foot(met, layer, extra), layer_foot(met, layer + 1, extra)
    sigma, scale = scales(met, column, later, layer, low, mixed)
    level = -1
    u_low = v_low = u_high = v_high = 0.0
    east = north = below = 0.0
    rest = duration
    per_minute = 60.0 / depth
    while rest > 0.0:
        step = SHARE * scale
        stream, chance = normal(stream)
        if step < rest:
            ratio = STAY * ratio + KICK * chance
        else:
            step = rest
            stay = exp(-step / scale)
            ratio = stay * ratio + sqrt(1.0 - stay * stay) * chance
        rest -= step
        left = step
        while left > 0.0:
            end = zeta + ratio * sigma * per_minute * left
            if low <= end < high:
                zeta = end
                break
            edge = high if end >= high else low
            left -= (edge - zeta) / (ratio * sigma * per_minute)
            zeta = edge
            other = layer + 1 if edge == high else layer - 1
            if other < 0 or other > _LAST - 1:
                ratio = -ratio
                continue
            other_low = layer_foot(met, other, extra)
            other_sigma, other_scale = scales(met, column, later, other, other_low, mixed)
            stream, chance = even(stream)
            if chance * sigma < other_sigma * air_ratio(met, place, layer, other, extra):
                layer, low, high = other, other_low, layer_foot(met, other + 1, extra)
                sigma, scale = other_sigma, other_scale
            else:
                ratio = -ratio
        if zeta < near_ground:
            below += step
        k = level_below(zeta)
        if k != level:
            level = k
            u_low, v_low = blend(met, met.wind, place, k, U), blend(met, met.wind, place, k, V)
            u_high, v_high = blend(met, met.wind, place, k + 1, U), blend(met, met.wind, place, k + 1, V)
        if zeta < BASE:
            share = zeta / BASE * step
            east += share * u_low
            north += share * v_low
        else:
            share = height_index(zeta) - (k + 1)
            east += step * (u_low + share * (u_high - u_low))
            north += step * (v_low + share * (v_high - v_low))
    return zeta, ratio, east, north, below, sigma, scale, stream


@njit(cache=True, nogil=True)
def air_ratio(met, place, layer, other, extra):
    """Density of the air in another layer over that in this: each at the foot of its layer."""
    return _density(met, place, other, extra) / _density(met, place, layer, extra)


@njit(cache=True, nogil=True, inline="always")
def _density(met, place, layer, extra):
    if layer <= extra:
        return blend(met, met.wind, place, layer, DENSITY)
    low = blend(met, met.wind, place, layer - 1, DENSITY)
    if layer > extra + 1:
        return low
    share = (THIN - 1.0) * met.heights[extra] / (met.heights[layer] - met.heights[extra])
    return low + share * (blend(met, met.wind, place, layer, DENSITY) - low)
