"""
What did the satellite measure, as one table?

One product, one file: `tropomi` and `tropomi_blended` each know one layout and give the same table. Reading is
PYSTILT's; what is ours is the choice of pixels, the count of those left out, and their order.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import fsspec
import netCDF4
import numpy as np
import pandas as pd

from stilt_assets.errors import RetrievalError
from stilt_assets.retrieval import tropomi, tropomi_blended
from stilt_assets.settings import is_url

PRODUCTS: tuple[ModuleType, ...] = (tropomi, tropomi_blended)
CODE = "1"

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Retrieval:
    """
    The good pixels of one file inside some bounds.

    `pixels` has one row per pixel, neighbours together (along track, then across), with the columns of
    `pixels.parquet`; `dropped` counts the others by reason.
    """

    instrument: str
    product: str
    pixels: pd.DataFrame
    dropped: Mapping[str, int]

    @property
    def time(self) -> datetime:
        """UTC minute of the first pixel."""
        return self.pixels["time"].min().floor("min").to_pydatetime().replace(tzinfo=UTC)


@contextmanager
def _readable(location: str) -> Iterator[Path]:
    if not is_url(location):
        yield Path(location)
        return
    try:
        copy = Path(fsspec.open_local(f"simplecache::{location}"))  # pyright: ignore[reportArgumentType]
    except (ImportError, OSError, ValueError) as error:
        raise RetrievalError(f"cannot fetch {location}: {error}") from error
    yield copy


def _inside(table: pd.DataFrame, bounds: Bounds) -> pd.Series:
    west, south, east, north = bounds
    lon, lat = table["longitude"], table["latitude"]
    across = (lon >= west) & (lon <= east) if west < east else (lon >= west) | (lon <= east)
    return across & (lat >= south) & (lat <= north)


def _complete(table: pd.DataFrame) -> pd.Series:
    columns = ("ak", "ak_pressure", "pressure_levels", "apriori", "layer_weight")
    arrays = [np.isfinite(np.stack(table[name].to_list())).all(axis=1) for name in columns]
    return pd.Series(np.logical_and.reduce(arrays), index=table.index)


def _reasons(table: pd.DataFrame) -> pd.Series:
    """Why each pixel is left out, empty for those that stay: the first reason that holds."""
    reason = pd.Series("", index=table.index)
    checks = (
        ("low_quality", ~table["good"].astype(bool)),
        ("coastal", table["coastal"].astype(bool)),
        ("no_value", ~np.isfinite(table["value"]) | ~np.isfinite(table["uncertainty"])),
        ("no_kernel", ~_complete(table) | ~np.isfinite(table["surface_pressure"])),
    )
    for name, holds in checks:
        reason[(reason == "") & holds] = name
    return reason


def read_retrieval(location: str, bounds: Bounds) -> Retrieval:
    """
    The pixels of an L2 CH4 file (path or URL) inside `bounds` (west, south, east, north, degrees).

    Raises RetrievalError if the file is of no known product, damaged, or lacks a variable.
    """
    with _readable(location) as path:
        if not path.is_file():
            raise RetrievalError(f"no retrieval file {location}")
        product = _product(path)
        try:
            table, total = product.read(path, bounds)
        except (OSError, RuntimeError, IndexError, KeyError, ValueError) as error:
            raise RetrievalError(f"{path.name} cannot be read as {product.NAME}: {error}") from error
    inside = table[_inside(table, bounds)]
    dropped = {"outside_bounds": int(total - len(inside))}
    if len(inside):
        reason = _reasons(inside)
        dropped |= {str(name): int((reason == name).sum()) for name in sorted(set(reason) - {""})}
        inside = inside[reason == ""]
    ordered = inside.sort_values(["row", "column"], kind="stable").reset_index(drop=True)
    ordered.insert(0, "pixel", np.arange(len(ordered), dtype=np.int32))
    return Retrieval(product.INSTRUMENT, product.NAME, ordered.drop(columns=["good", "coastal"]), dropped)


def _product(path: Path) -> ModuleType:
    try:
        with netCDF4.Dataset(path) as dataset:
            known = next((product for product in PRODUCTS if product.recognises(dataset)), None)
            missing = known.missing(dataset) if known else []
    except (OSError, RuntimeError) as error:
        raise RetrievalError(f"{path.name} is no readable NetCDF file: {error}") from error
    if known is None:
        raise RetrievalError(f"{path.name} is of no known product; known: {', '.join(p.NAME for p in PRODUCTS)}")
    if missing:
        raise RetrievalError(f"{path.name} lacks {', '.join(missing)}, which {known.NAME} files have")
    return known
