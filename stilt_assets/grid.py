"""
Which cells do fluxes live on?

A regular longitude-latitude grid: cells, their areas, and the blocks that sum them.
"""

from dataclasses import dataclass

import numpy as np

CRS = {"grid_mapping_name": "latitude_longitude", "semi_major_axis": 6378137.0, "inverse_flattening": 298.257223563}
EARTH_RADIUS = 6_371_007.2  # m, the authalic radius of WGS84


@dataclass(frozen=True)
class Grid:
    """
    Cells of one resolution (degrees), from the west and south edges on.

    `west > east` crosses the antimeridian. `nlat` rows run from south to north, `nlon` columns from west to east.
    """

    west: float
    south: float
    east: float
    north: float
    resolution: float

    @property
    def span(self) -> float:
        """Degrees of longitude from the west edge to the east edge."""
        return self.east - self.west if self.east > self.west else self.east - self.west + 360.0

    @property
    def nlon(self) -> int:
        """Whole cells from west to east."""
        return int(np.floor(self.span / self.resolution + 1e-6))

    @property
    def nlat(self) -> int:
        """Whole cells from south to north."""
        return int(np.floor((self.north - self.south) / self.resolution + 1e-6))

    @property
    def shape(self) -> tuple[int, int]:
        """(nlat, nlon)."""
        return self.nlat, self.nlon

    @property
    def lon(self) -> np.ndarray:
        """Cell centres (nlon,), degrees east within [-180, 180)."""
        centre = np.round(self.west + (np.arange(self.nlon) + 0.5) * self.resolution, 10)
        return np.where(centre < 180.0, centre, np.round(centre - 360.0, 10))

    @property
    def lat(self) -> np.ndarray:
        """Cell centres (nlat,), degrees north."""
        return np.round(self.south + (np.arange(self.nlat) + 0.5) * self.resolution, 10)

    @property
    def cell_area(self) -> np.ndarray:
        """Area of each cell (nlat, nlon), m2, on a sphere of the authalic radius."""
        edges = np.radians(self.south + np.arange(self.nlat + 1) * self.resolution)
        strip = EARTH_RADIUS**2 * np.radians(self.resolution) * np.diff(np.sin(edges))
        return np.repeat(strip[:, None], self.nlon, axis=1)

    def unwrap(self, lon: np.ndarray) -> np.ndarray:
        """Longitudes moved by whole turns to within 180 degrees of the grid's middle; unmoved ones keep their bits."""
        turns = np.round((self.west + self.span / 2 - lon) / 360.0)
        return np.where(turns == 0, lon, lon + 360.0 * turns)

    def coarsened(self, resolution: float) -> "Grid":
        """The grid of blocks of `resolution` degrees that covers this one, from the same west and south edges."""
        cells = round(resolution / self.resolution)
        north = self.south + -(-self.nlat // cells) * resolution
        east = self.west + -(-self.nlon // cells) * resolution
        return Grid(self.west, self.south, round(east, 10), round(north, 10), resolution)

    def block_of(self, resolution: float) -> np.ndarray:
        """Index (nlat * nlon,) of the block of `coarsened(resolution)` that each cell belongs to."""
        cells = round(resolution / self.resolution)
        across = -(-self.nlon // cells)
        rows, columns = np.divmod(np.arange(self.nlat * self.nlon), self.nlon)
        return (rows // cells) * across + columns // cells


@dataclass(frozen=True)
class Cells:
    """
    A footprint: cells that are not zero, in time order (hours back descending), then south to north, west to east.

    `hour` 0 is the UTC hour in which the particles set out backward, 1 the hour before, and so on.
    """

    hour: np.ndarray  # (n,) int8
    y: np.ndarray  # (n,) int16
    x: np.ndarray  # (n,) int16
    foot: np.ndarray  # (n,) float32, ppm m2 s µmol-1
