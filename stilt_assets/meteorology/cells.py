"""
Which places lie inside the meteorology at all?

Asked before a scene's hours are looked for: archives say what their cells are, a folder's are those of one of its
files.
"""

from collections.abc import Sequence

import arlmet
import numpy as np
import pandas as pd

from stilt_assets.errors import NoArchiveError
from stilt_assets.meteorology.archives import PRODUCTS
from stilt_assets.meteorology.sources import Source, first_of, grid_of
from stilt_assets.retrieval.masks import Outside
from stilt_assets.scene import digest
from stilt_assets.settings import MeteorologySettings

Cells = Sequence[arlmet.Grid | None]  # of each source; None: the whole earth


def cells_of(chosen: MeteorologySettings) -> Cells:
    """The cells of each source that the settings want. NoArchiveError if a folder has no file yet."""
    return [PRODUCTS[name].grid if name in PRODUCTS else _of_folder(chosen, name) for name in chosen.wanted]


def _of_folder(chosen: MeteorologySettings, folder: str) -> arlmet.Grid:
    path = first_of(folder)
    if path is None:
        raise NoArchiveError(
            f"no ARL file in {folder} (meteorology.source of {chosen.product_of(folder)}) says its cells"
        )
    return grid_of([Source(path, ())])


def id_of(cells: Cells) -> str:
    """12 hex digits that stand for the cells of all sources."""
    return digest(*(repr(grid) for grid in cells))[:12]


def outside(cells: Cells) -> Outside:
    """A function that says which pixels (pixel,) lie outside the cells of every source."""

    def look(pixels: pd.DataFrame) -> np.ndarray:
        lon, lat = pixels["longitude"].to_numpy(), pixels["latitude"].to_numpy()
        return ~np.logical_or.reduce([_holds(grid, lon, lat) for grid in cells])

    return look


def _holds(grid: arlmet.Grid | None, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    if grid is None:
        return np.ones(len(lon), bool)
    x, y = (np.asarray(each, dtype=float) for each in grid.fractional_indices(lon, lat))
    last = grid.nx if grid.wraps_lon else grid.nx - 1
    return (x >= 0) & (x <= last) & (y >= 0) & (y <= grid.ny - 1)
