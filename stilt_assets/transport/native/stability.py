"""
How deep is the mixed layer, and how strong and how lasting is the turbulence on each level?

Fluxes of heat and momentum (`kbls=1`), a bulk Richardson number with an excess temperature (`kmixd=3`, Vogelezang and
Holtslag 1996), Hanna (1982) within the mixed layer, and above it a mixing length with Beljaars and Holtslag's (1991)
stability (Draxler and Hess 1997, `kblt=5`).
"""

from math import exp, sqrt

from stilt_assets.transport.native.column import GAS, GRAVITY, UM, VIRTUAL, VM, P, Q, T
from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.layout import LEVELS, SIGMA_W, TIMESCALE

HEAT = 1004.0  # J kg-1 K-1
KAPPA = 0.286  # of the potential temperature
KARMAN = 0.4
MOST_COOLING = -25.0  # W m-2
LEAST_FRICTION = 0.0001  # m s-1
LEAST_SCALE = 1e-4  # K, temperature scale
LEAST_SHEAR = 1e-4  # m s-1, between the lowest level and another
LEAST_SHEAR_ABOVE = 0.1  # m2 s-2, between two neighbouring levels above the mixed layer; asked for
CRITICAL = 0.25
EXCESS = 8.5
MOST_STABLE, MOST_UNSTABLE = 15.0, -2.0  # z/L at the second level
FREE_TIMESCALE = 100.0  # s, above the mixed layer
LEAST_MIXING, MOST_MIXING = 0.01, 200.0  # m2 s-1
LEAST_FREE_F = 3.2254e-4  # share of mixing that no stability takes away
# z/L of the mixing length as a function of the Richardson number, from the least to the highest power; asked for.
LOCAL = (0.7390, 1.4703, 0.0479, -0.0047)


@compiled(error_model="numpy")
def potential(air, theta):
    """Potential temperature of the levels of `air` (COLUMN, LEVELS), K."""
    for k in range(LEVELS):
        theta[k] = air[T, k] * (1000.0 / air[P, k]) ** KAPPA


@compiled(error_model="numpy")
def temperature_scale(heating, friction, air, k):
    """T*, K, with the density of level k. No flux at all counts as heating."""
    density = 100.0 * air[P, k] / (GAS * air[T, k] * (1.0 + VIRTUAL * air[Q, k]))
    scale = max(heating, MOST_COOLING) / (density * HEAT * friction)
    return -max(scale, LEAST_SCALE) if heating >= 0.0 else max(-scale, LEAST_SCALE)


@compiled(error_model="numpy")
def mixed_layer(levels, air, theta, friction, heating, least):
    """Height above ground where the bulk Richardson number passes its critical value, m."""
    before = 0.0
    for k in range(1, LEVELS):
        flux = -friction * temperature_scale(heating, friction, air, k)
        excess = 0.0
        if flux > 0.0:
            speed = friction**3 + 0.6 * GRAVITY / theta[0] * flux * levels[k]
            excess = EXCESS * flux / speed ** (1.0 / 3.0)
        shear = (air[UM, k] - air[UM, 0]) ** 2 + (air[VM, k] - air[VM, 0]) ** 2
        lift = (theta[k] - theta[0] - excess) * (levels[k] - levels[0])
        number = GRAVITY / theta[0] * lift / max(shear, LEAST_SHEAR**2)
        if number >= CRITICAL:
            share = min(max((CRITICAL - before) / (number - before), 0.0), 1.0)
            return max(levels[k - 1] + share * (levels[k] - levels[k - 1]), least)
        before = number
    return levels[LEVELS - 1]


@compiled(error_model="numpy")
def obukhov(levels, air, theta, friction, heating):
    """Obukhov's length, m, from z/L at the second level."""
    scale = temperature_scale(heating, friction, air, 0)
    stability = levels[1] * KARMAN * GRAVITY * scale / (friction * friction * theta[0])
    return levels[1] / min(max(stability, MOST_UNSTABLE), MOST_STABLE)


@compiled(error_model="numpy")
def convective_speed(air, theta, depth, friction, heating):
    """w*, m s-1, of a mixed layer that is heated from below; 0 of all others."""
    flux = -friction * temperature_scale(heating, friction, air, 0)
    return (GRAVITY / theta[0] * max(flux, 0.0) * depth) ** (1.0 / 3.0)


@compiled(error_model="numpy")
def turbulence(levels, air, theta, depth, friction, length, convection, roughness, out):
    """
    sigma_w (m s-1) and its time scale (s) on all levels into `out` (LEVELS, TURBULENCE).

    `depth` of the mixed layer, `length` Obukhov's, `roughness` in m, `convection` (w*) in m s-1.
    """
    for k in range(LEVELS):
        if levels[k] < depth:
            if length < 0.0:
                sigma, scale = unstable(levels[k], depth, length, convection, roughness)
            else:
                sigma = 1.3 * friction * (1.0 - levels[k] / depth)
                scale = 0.1 * depth / sigma * (levels[k] / depth) ** 0.8
        else:
            sigma, scale = sqrt(free_mixing(levels, air, theta, k) / FREE_TIMESCALE), FREE_TIMESCALE
        out[k, SIGMA_W], out[k, TIMESCALE] = sigma, scale


@compiled(error_model="numpy")
def unstable(height, depth, length, convection, roughness):
    """sigma_w and time scale in an unstable mixed layer."""
    share = height / depth
    surface = 0.96 * (3.0 * share - length / depth) ** (1.0 / 3.0)
    if share < 0.03:
        sigma = surface
    elif share < 0.4:
        sigma = min(surface, 0.763 * share**0.175)
    elif share < 0.96:
        sigma = 0.722 * (1.0 - share) ** 0.207
    else:
        sigma = 0.37
    sigma *= convection
    if share >= 0.1:
        return sigma, 0.15 * depth / sigma * (1.0 - exp(-5.0 * share))
    if height - roughness < -length:
        return sigma, 0.1 * height / (sigma * (0.55 + 0.38 * (height - roughness) / length))
    return sigma, 0.59 * height / sigma


@compiled(error_model="numpy")
def free_mixing(levels, air, theta, k):
    """Mixing coefficient between level k and the one below it, m2 s-1."""
    below = max(k - 1, 0)
    above = below + 1
    step = levels[above] - levels[below]
    square = (air[UM, above] - air[UM, below]) ** 2 + (air[VM, above] - air[VM, below]) ** 2
    shear = sqrt(max(square, LEAST_SHEAR_ABOVE)) / step
    number = max(GRAVITY / theta[below] * (theta[above] - theta[below]) / step / (shear * shear), 0.0)
    number = min(number, 20.0)
    local = number * (LOCAL[0] + number * (LOCAL[1] + number * (LOCAL[2] + number * LOCAL[3])))
    phi = 0.923 + local * (sqrt(1.0 + local / 1.5) + 0.667 * exp(-0.35 * local) * (6.0 - 0.35 * local))
    length = 1.0 / (1.0 / (KARMAN * levels[k]) + 1.0 / 150.0)
    mixing = length * length * shear * max(1.0 / phi, LEAST_FREE_F)
    return min(max(mixing, LEAST_MIXING), MOST_MIXING)
