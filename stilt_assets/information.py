"""
How much would a scene tell about the fluxes?

Degrees of freedom for signal: the trace of the averaging kernel of a linear inversion with a stated prior (Rodgers,
Inverse Methods for Atmospheric Sounding, 2000, section 2.4). The state is the fluxes of blocks of the grid, constant
over the scene's hours. From a Jacobian if there is one; before that from footprints of a guessed shape.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import lambertw, ndtr

from stilt_assets.arrays import read_array
from stilt_assets.grid import EARTH_RADIUS, Grid

Floats = np.ndarray
_BLOCKS = 12  # along a side of the grid, at most
_PIXELS = 256  # that are looked at, at most: each then stands for several
_STEPS = 8  # parts of the way back
# A flux of 1 µmol m-2 s-1 raises the mean of the air above it, 101325 Pa / (9.81 m s-2 * 0.02896 kg mol-1), in an hour.
PER_HOUR = 3600.0 / (101325.0 / (9.81 * 0.02896))  # ppm
_FIRST = 3.5  # km, half a pixel of TROPOMI
_SPREAD = 0.25  # km of standard deviation across and along for each km of the way back
_SIDES = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))  # from where the wind may blow
_KM = EARTH_RADIUS / 1e3 * np.pi / 180.0  # km per degree


@dataclass(frozen=True)
class Prior:
    """What is known of the fluxes before."""

    flux_error: float  # µmol m-2 s-1, the standard error of a block's flux
    correlation: float  # km over which errors fall to 1/e of each other

    def covariance(self, blocks: Grid) -> Floats:
        """S_a (block, block), in µmol2 m-4 s-2: exponential in distance."""
        lon, lat = (each.ravel() for each in np.meshgrid(blocks.west + _centres(blocks.nlon, blocks), blocks.lat))
        x, y = lon * _KM * np.cos(np.radians(lat.mean())), lat * _KM
        distance = np.hypot(x[:, None] - x, y[:, None] - y)
        return self.flux_error**2 * np.exp(-distance / self.correlation)


@dataclass(frozen=True)
class Soundings:
    """Where pixels are and how uncertain they are."""

    longitude: Floats  # (pixel,) degrees
    latitude: Floats  # (pixel,) degrees
    error: Floats  # (pixel,) ppm, one sigma

    @classmethod
    def even(cls, box: Sequence[float], pixels: int, error: float) -> "Soundings":
        """
        So many pixels, spread evenly over a box (west, south, east, north, degrees).

        Where there are more than are looked at, each stands for several, and has their mean's error.
        """
        west, south, east, north = box
        width = (east - west) % 360.0 if east != west else 0.0
        number = np.arange(min(pixels, _PIXELS)) + 0.5
        golden = (np.sqrt(5.0) - 1.0) / 2.0  # a Kronecker sequence: even, and on no line
        lon, lat = west + width * (number * golden % 1.0), south + (north - south) * number / len(number)
        return cls(lon, lat, np.full(len(number), error * np.sqrt(len(number) / pixels)))

    def fewer(self) -> "Soundings":
        """No more than are looked at; each then stands for several, and has their mean's error."""
        step = -(-len(self.error) // _PIXELS)
        share = np.sqrt(len(self.error[::step]) / max(len(self.error), 1))
        return Soundings(self.longitude[::step], self.latitude[::step], share * self.error[::step])


def _centres(count: int, blocks: Grid) -> Floats:
    return (np.arange(count) + 0.5) * blocks.resolution


def blocks_of(grid: Grid) -> Grid:
    """The blocks that stand for a grid's cells: whole cells of it."""
    cells = -(-max(grid.nlat, grid.nlon) // _BLOCKS)
    return grid.coarsened(round(cells * grid.resolution, 10))


@lru_cache(maxsize=16)
def _root(prior: Prior, blocks: Grid) -> Floats:
    return root_of(prior.covariance(blocks))


def root_of(covariance: Floats) -> Floats:
    """A matrix R with R R^T = S_a (block, block)."""
    variances, directions = np.linalg.eigh(covariance)
    return directions * np.sqrt(variances.clip(0.0))


def degrees_of_freedom(influence: Floats, error: Floats, root: Floats) -> float:
    """
    d = sum of g / (1 + g) over the eigenvalues g of S_e^-1/2 K S_a K^T S_e^-1/2.

    `influence` K (pixel, block) in ppm per µmol m-2 s-1, `error` (pixel,) in ppm without correlation, `root` of S_a
    (block, block) in µmol m-2 s-1.
    """
    seen = (influence / error[:, None]) @ root
    gains = np.linalg.svd(seen, compute_uv=False) ** 2
    return float(np.sum(gains / (1.0 + gains)))


def contact(hours_back: int, strength: float) -> float:
    """
    Hours after which air that goes back has lost 1/e of its contact with the ground; infinite if it never does.

    So that, of all that `hours_back` hours with contact would hold, the share `strength` is left.
    """
    if strength >= 1.0:
        return math.inf
    goal = max(strength, 0.5 / _STEPS**3)
    # where (1 - exp(-x)) / x is the goal
    turns = 1.0 / goal + lambertw(-math.exp(-1.0 / goal) / goal).real
    return hours_back / float(turns)


def guessed(
    soundings: Soundings, blocks: Grid, hours_back: int, wind: float, side: tuple[float, float], strength: float = 1.0
) -> Floats:
    """
    (pixel, block), ppm per µmol m-2 s-1: footprints of air that comes with one `wind` (m s-1) from one side.

    All of a flux stays in the air above: an hour back adds PER_HOUR, as far as the air has kept its `contact` with the
    ground, in a Gaussian around where the air was, which widens with the way. What lies outside the blocks is lost.
    """
    east = _KM * np.cos(np.radians(np.mean([blocks.south, blocks.north])))  # km per degree
    middle = blocks.west + blocks.span / 2
    lon = (soundings.longitude - middle + 180.0) % 360.0 - 180.0 + blocks.span / 2
    edges_x = np.arange(blocks.nlon + 1) * blocks.resolution * east
    edges_y = np.arange(blocks.nlat + 1) * blocks.resolution * _KM
    lost_after, total = contact(hours_back, strength), np.zeros((len(lon), blocks.nlat, blocks.nlon))
    for first, last in pairwise(hours_back * np.linspace(0.0, 1.0, _STEPS + 1) ** 2):
        way = wind * 3.6 * (first + last) / 2  # km
        spread = np.hypot(_FIRST, _SPREAD * way)
        x = lon * east + way * side[0]
        y = (soundings.latitude - blocks.south) * _KM + way * side[1]
        across = np.diff(ndtr((edges_x - x[:, None]) / spread), axis=1)
        along = np.diff(ndtr((edges_y - y[:, None]) / spread), axis=1)
        held = PER_HOUR * (last - first) * math.exp(-(first + last) / 2 / lost_after)
        total += held * along[:, :, None] * across[:, None, :]
    return total.reshape(len(lon), -1)


def expected(
    soundings: Soundings, grid: Grid, hours_back: int, prior: Prior, wind: float, strength: float = 1.0
) -> float:
    """
    Degrees of freedom for signal of footprints that nobody has yet: the mean over winds from four sides.

    `strength` is what footprints were found to hold, as a share of `hours_back` times PER_HOUR (the root mean square
    over the pixels, as the information of a weak signal grows with its square).
    """
    if not len(soundings.error):
        return 0.0
    blocks = blocks_of(grid)
    root, few = _root(prior, blocks), soundings.fewer()
    tried = [guessed(few, blocks, hours_back, wind, side, strength) for side in _SIDES]
    return float(np.mean([degrees_of_freedom(each, few.error, root) for each in tried]))


def found(path: Any, grid: Grid, error: Floats, prior: Prior) -> float:
    """Degrees of freedom for signal of a Jacobian (what zarr opens) on `grid`, of pixels with `error` (ppm)."""
    data, indices, indptr = (read_array(path, f"H/{name}") for name in ("data", "indices", "indptr"))
    blocks, cells = blocks_of(grid), grid.nlat * grid.nlon
    count, pixels = blocks.nlat * blocks.nlon, len(indptr) - 1
    row = np.repeat(np.arange(pixels), np.diff(indptr))
    place = row * count + grid.block_of(blocks.resolution)[indices % cells]
    influence = np.bincount(place, weights=data, minlength=pixels * count).reshape(pixels, count)
    return degrees_of_freedom(influence, error, _root(prior, blocks))
