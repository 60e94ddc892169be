"""
How does turbulence move a particle within half a minute?

Vertically w'/sigma_w is an Ornstein-Uhlenbeck process in explicit Euler sub-steps of a tenth of its time scale; where
sigma_w steps from layer to layer a particle passes or turns back so that a mixed column stays mixed (Thomson et al.
1997). The mean wind of the changing height carries it on in each sub-step (Lin et al. 2003). Profiles are those of the
nearest column, linear between two times at equal shares of the mixed layer, and constant from a level to the next.
"""

from math import sqrt
from typing import NamedTuple

from numba import uint64

from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.draws import even, normal
from stilt_assets.transport.native.layout import DENSITY, LEVELS, SIGMA_W, THIN, TIMESCALE
from stilt_assets.transport.native.winds import SCALAR, along, blend, breeze_of, height_index, level_of

SHARE = 0.1  # `tlfrac`: a sub-step's share of the time scale
SURFACE_SHARE = 0.5  # `veght`


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
def scales(met, column, layer, foot):
    """sigma_w, m s-1, and its time scale, min, of a layer that begins at zeta `foot`."""
    a, b = layer, layer
    if not column.same and layer > 0:
        a, b = _layers_alike(met, column, foot)
    sooner, after = uint64(column.sooner), uint64(column.after)
    sigma = met.turbulence[sooner, uint64(a), SIGMA_W]
    sigma += column.later * (met.turbulence[after, uint64(b), SIGMA_W] - sigma)
    scale = met.turbulence[sooner, uint64(a), TIMESCALE]
    scale += column.later * (met.turbulence[after, uint64(b), TIMESCALE] - scale)
    return sigma, scale * (1.0 / 60.0)


@compiled(**SCALAR)
def _layers_alike(met, column, foot):
    """The layers at two times that are at the share of the mixed layer which a zeta is at between them."""
    sooner, after = uint64(column.sooner), uint64(column.after)
    share = foot / column.height
    return (
        layer_at(met, share * met.mixed_layer[sooner], met.extra[sooner]),
        layer_at(met, share * met.mixed_layer[after], met.extra[after]),
    )


@compiled(**SCALAR)
def passes(met, place, moment, column, layer, other, chance, sigma, other_sigma):
    """Whether a particle passes from a layer to another: the flux of mixed air is the same both ways."""
    here = layer_density(met, place, moment, layer, column.extra)
    there = layer_density(met, place, moment, other, column.extra)
    return chance * sigma * here < other_sigma * there


@compiled(**SCALAR)
def layer_density(met, place, moment, layer, extra):
    """Density of dry air at the foot of a layer (at the lowest level in the lowest), kg m-3."""
    if layer <= extra:
        return blend(met, met.wind, place, moment, layer, DENSITY)
    low = blend(met, met.wind, place, moment, layer - 1, DENSITY)
    if layer > extra + 1:
        return low
    return low + THIN * (blend(met, met.wind, place, moment, layer, DENSITY) - low)


@compiled(**SCALAR)
def mix(met, place, moment, column, depth, zeta, ratio, stream, duration):
    """
    Carry a particle up and down, and along with the wind, for `duration` minutes.

    Its zeta and `ratio` = w'/sigma_w, the columns and rows that it comes along, minutes below `SURFACE_SHARE` of the
    mixed layer, the last sigma_w (m s-1) and time scale (min), the stream.
    """
    near_ground = SURFACE_SHARE * column.height / depth
    per_minute = 60.0 / depth
    layer = layer_at(met, zeta, column.extra)
    low, high = layer_foot(met, layer, column.extra), layer_foot(met, layer + 1, column.extra)
    sigma, scale = scales(met, column, layer, low)
    breeze = breeze_of(met, place, moment, layer - (layer > column.extra))
    east = north = below = 0.0
    rest = duration
    while rest > 0.0:
        share = min(SHARE, rest / scale)
        step = share * scale
        rest -= step
        stream, chance = normal(stream)
        ratio += sqrt(2.0 * share) * chance - share * ratio
        end = zeta + ratio * sigma * per_minute * step
        if not ((end >= low) & (end < high)):
            left = step
            while left > 0.0:
                speed = ratio * sigma * per_minute
                end = zeta + speed * left
                if (end >= low) & (end < high):
                    break
                up = end >= high
                edge = high if up else low
                left -= (edge - zeta) / speed
                zeta = end = edge
                other = layer + 1 if up else layer - 1
                if (other < 0) | (other >= LEVELS):
                    ratio = -ratio
                    continue
                other_low = layer_foot(met, other, column.extra)
                other_sigma, other_scale = scales(met, column, other, other_low)
                stream, chance = even(stream)
                if passes(met, place, moment, column, layer, other, chance, sigma, other_sigma):
                    layer, low, high = other, other_low, layer_foot(met, other + 1, column.extra)
                    sigma, scale = other_sigma, other_scale
                    breeze = breeze_of(met, place, moment, layer - (layer > column.extra))
                else:
                    ratio = -ratio
        zeta = end
        below += step if zeta < near_ground else 0.0
        u, v = along(breeze, zeta)
        east, north = east + step * u, north + step * v
    return zeta, ratio, east, north, below, sigma, scale, stream
