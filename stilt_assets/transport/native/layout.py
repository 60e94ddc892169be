"""
How does decoded meteorology lie in memory, and on which levels?

A particle reads two neighbouring levels of four columns at two times, so levels and fields of a column lie together.
The levels are those of HYSPLIT's `kbls=1` grid: coarse, quadratic in height, following the terrain below a flat lid.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.int8]

LEVELS = 30
LID = 25_000.0  # m above sea level (ZMDL); a column is LID - terrain deep
HEIGHTS = tuple(30.0 * k * k - 25.0 * k + 5.0 for k in range(1, LEVELS + 1))  # m above a ground at sea level
THIN = 0.05  # depth of the extra layer of turbulence, as a share of the layer between two levels
LEAST_MIXED_LAYER = 150.0  # m, `kmix0`
RADIUS = 6_371_200.0  # m, of HYSPLIT's earth

WIND = ("u", "v", "w", "density")
U, V, W, DENSITY = range(len(WIND))
TURBULENCE = ("sigma_w", "timescale")
SIGMA_W, TIMESCALE = range(len(TURBULENCE))


class Decoded(NamedTuple):
    """
    The meteorology of a box, as particles read it; arrays are memory-mapped and read-only.

    Heights of particles are `zeta = (1 - sigma) * LID`, m; above ground that is `zeta * (LID - terrain) / LID`. Level k
    (from 0) lies at the zeta `HEIGHTS[k]` everywhere. Times are equally spaced.
    """

    wind: Floats  # (time, y, x, level, WIND) u and v in cells per minute, w = dzeta/dt in m per minute (rising is +),
    # density of dry air in kg m-3
    pressure: Floats  # (time, y, x, level) hPa
    turbulence: Floats  # (time, y, x, level + 1, TURBULENCE) sigma_w in m s-1, timescale in s; see `extra`
    extra: Bytes  # (time, y, x) e: the first level at or above the mixed layer's top. In `turbulence` level e + 1 lies
    # THIN of the way from level e to the next one, whose values it has; those above it are levels e + 1, e + 2, ...
    mixed_layer: Floats  # (time, y, x), m above ground
    terrain: Floats  # (y, x), m above sea level
    reached: Bytes  # (time,) levels, from the lowest, that the file's own reach in the south-western column
    first: int  # minutes since 1970-01-01T00Z of time 0
    spacing: int  # minutes between times
    projection: tuple[float, float, float, float, float, float]  # as `geometry` takes it
