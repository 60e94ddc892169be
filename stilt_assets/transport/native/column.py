"""
How does the air of one column lie on the internal levels?

Heights are hypsometric with the virtual temperature, T (1 + 0.61 q), from the surface pressure upwards. Between the
levels of the data u, v, w, T and q are linear in height and the logarithm of pressure is; above the highest one they
keep the value of the internal level below, w is halved from level to level, and pressure falls as in air of the
density of the level below. There q keeps the relative humidity.
"""

from math import exp, log

from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.layout import HEIGHTS, LEVELS, LID

GAS = 287.04  # J kg-1 K-1, dry air
GRAVITY = 9.80616  # m s-2
VIRTUAL = 0.61
P, T, Q, UM, VM, OMEGA = range(6)  # hPa, K, kg kg-1, m s-1, m s-1, hPa s-1
COLUMN = 6
# What field Q of a column is, and what is linear in height of it: itself, or its ratio to that of saturated air of the
# same temperature, at 1 hPa or at the same pressure.
SPECIFIC, OVER_SATURATED, RELATIVE = range(3)


@compiled(error_model="numpy")
def heights_of(data, count, heights):
    """Heights above ground of the levels of `data` (COLUMN, level), into `heights`, m."""
    heights[0] = 0.0
    below = data[T, 0] * (1.0 + VIRTUAL * data[Q, 0])
    for level in range(1, count):
        here = data[T, level] * (1.0 + VIRTUAL * data[Q, level])
        step = GAS / GRAVITY * 0.5 * (here + below) * log(data[P, level - 1] / data[P, level])
        heights[level] = heights[level - 1] + step
        below = here


@compiled(error_model="numpy")
def remap(data, count, heights, humidity, terrain, levels, out):
    """
    `data` (COLUMN, level) at `heights`, on the internal levels over `terrain`.

    Their heights above ground go into `levels`, m, the rest into `out` (COLUMN, LEVELS).
    """
    shrink = (LID - terrain) / LID
    upper = 1
    for k in range(LEVELS):
        height = HEIGHTS[k] * shrink
        levels[k] = height
        while upper < count and heights[upper] < height:
            upper += 1
        if upper == count:
            _above(levels, k, out)
            continue
        share = (height - heights[upper - 1]) / (heights[upper] - heights[upper - 1])
        for field in range(COLUMN):
            low, high = data[field, upper - 1], data[field, upper]
            if field == P:
                out[field, k] = low * exp(share * log(high / low))
            else:
                out[field, k] = low + share * (high - low)
        if humidity == OVER_SATURATED:
            out[Q, k] *= saturation(out[T, k], 1.0)
        elif humidity == RELATIVE:
            out[Q, k] *= saturation(out[T, k], out[P, k])
        out[Q, k] = min(out[Q, k], saturation(out[T, k], out[P, k]))


@compiled(error_model="numpy")
def saturation(temperature, pressure):
    """Specific humidity of saturated air, kg kg-1."""
    return 0.622 * exp(21.4 - 5351.0 / temperature) / pressure


@compiled(error_model="numpy")
def _above(levels, k, out):
    """A level above the data, from the one below it."""
    for field in range(COLUMN):
        out[field, k] = out[field, k - 1]
    virtual = out[T, k] * (1.0 + VIRTUAL * out[Q, k])
    out[P, k] -= out[P, k] * GRAVITY * (levels[k] - levels[k - 1]) / (GAS * virtual)
    out[Q, k] *= out[P, k - 1] / out[P, k]
    lighter = out[P, k] / out[P, k - 1] * virtual / (out[T, k] * (1.0 + VIRTUAL * out[Q, k]))
    out[OMEGA, k] *= 0.5 * lighter  # w in m s-1 is halved
