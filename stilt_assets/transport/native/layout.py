"""
How does decoded meteorology lie in memory, and on which levels?

A particle reads two neighbouring levels of four columns at two hours, so levels and fields of a column lie together.
The levels are those of HYSPLIT's `kbls=1` grid: coarse, quadratic in height, following the terrain below a flat lid.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Minutes = npt.NDArray[np.int64]

LEVELS = 30
LID = 25_000.0  # m above sea level (ZMDL); a column is LID - terrain deep
HEIGHTS = tuple(30.0 * k * k - 25.0 * k + 5.0 for k in range(1, LEVELS + 1))  # m above a ground at sea level
LEAST_MIXED_LAYER = 150.0  # m, `kmix0`
RADIUS = 6_371_200.0  # m, of HYSPLIT's earth

PROFILE = ("u", "v", "w", "pressure", "density", "dry_density")
U, V, W, PRESSURE, DENSITY, DRY_DENSITY = range(len(PROFILE))
TURBULENCE = ("sigma_w", "timescale")
SIGMA_W, TIMESCALE = range(len(TURBULENCE))
SURFACE = ("mixed_layer", "extra_level")
MIXED_LAYER, EXTRA_LEVEL = range(len(SURFACE))


@dataclass(frozen=True)
class Decoded:
    """
    The meteorology of a box, as particles read it; arrays are memory-mapped and read-only.

    Index k of a level stands for the height `HEIGHTS[k] * (LID - terrain) / LID` m above ground.
    """

    minutes: Minutes  # (hour,) since 1970-01-01T00Z, rising
    # u and v in cells per minute, w in sigma per minute (sigma = 1 at the ground, 0 at the lid: falling air is +),
    # pressure in hPa, densities of moist and of dry air in kg m-3
    profiles: Floats  # (hour, y, x, level, PROFILE)
    # sigma_w in m s-1, timescale in s. There is one level more than in `profiles`: level e + 1 is at 1.05 times the
    # height of level e = `surface[..., EXTRA_LEVEL]`, the first that is not below the mixed layer's top.
    turbulence: Floats  # (hour, y, x, level + 1, TURBULENCE)
    surface: Floats  # (hour, y, x, SURFACE); mixed layer in m above ground
    terrain: Floats  # (y, x), m above sea level
    projection: tuple[float, ...]  # the numbers that `geometry` takes
    global_x: bool = False  # whether the last column's eastern neighbour is the first
