"""
What does one retrieval file hold inside some bounds?

Each product has a module that recognises its files and reads them as one table; here the good pixels are chosen, those
left out counted, and all put in order. Damage in a file can bring the NetCDF library down: `apart` reads files that
come from outside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import netCDF4
import numpy as np
import pandas as pd

from stilt_assets.errors import RetrievalError
from stilt_assets.retrieval import (
    damage,
    gosat_cci,
    methanesat,
    methanesat_l3,
    oco,
    tropomi,
    tropomi_blended,
    tropomi_wfmd,
)

PRODUCTS: tuple[ModuleType, ...] = (
    *(tropomi, tropomi_blended, tropomi_wfmd, oco),
    *(methanesat, methanesat_l3, gosat_cci),
)
MAY_LACK = ("surface_altitude", "zenith", "azimuth")  # columns that not every product has; NaN if not
_DAMAGE = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)

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
    begins: datetime | None = None  # what `time` is, if pixels were taken away

    @property
    def time(self) -> datetime:
        """UTC minute of the first good pixel, whether or not it is worth running."""
        return self.begins or self.pixels["time"].min().floor("min").to_pydatetime().replace(tzinfo=UTC)


def inside(table: pd.DataFrame, bounds: Bounds) -> pd.Series:
    """Which rows lie within bounds, their edges included."""
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


def read_here(path: Path, bounds: Bounds, name: str) -> Retrieval:
    """
    The pixels of a file inside `bounds` (west, south, east, north, degrees), read in this process.

    `name` is what the file is called where it comes from. Raises RetrievalError if the file is of no known product,
    damaged, or lacks a variable.
    """
    product, instrument = _product(path, name)
    try:
        with np.errstate(all="ignore"):
            table, total = product.read(path, bounds)
            pixels, dropped = _chosen(table, total, bounds, name)
            return Retrieval(instrument, product.NAME, pixels, dropped)
    except _DAMAGE as error:
        raise RetrievalError(f"{name} cannot be read as {product.NAME}: {_in_a_line(error)}") from error


def _chosen(table: pd.DataFrame, total: int, bounds: Bounds, name: str) -> tuple[pd.DataFrame, dict[str, int]]:
    here = table.loc[inside(table, bounds)]
    dropped = {"outside_bounds": int(total - len(here))}
    if len(here):
        reason = _reasons(here)
        dropped |= {str(word): int((reason == word).sum()) for word in sorted(set(reason) - {""})}
        damage.refuse_holes(reason, name)
        here = here.loc[reason == ""]
        damage.refuse_impossible(here, name)
    ordered = here.sort_values(["row", "column"], kind="stable").reset_index(drop=True)
    ordered["time"] = ordered["time"].dt.round("us")  # what pixels.parquet keeps
    ordered.insert(0, "pixel", np.arange(len(ordered), dtype=np.int32))
    lacking = {column: np.nan for column in MAY_LACK if column not in ordered}
    return ordered.drop(columns=["good", "coastal", "air"], errors="ignore").assign(**lacking), dropped


def _product(path: Path, name: str) -> tuple[ModuleType, str]:
    """The product that a file is of, and the instrument."""
    try:
        with netCDF4.Dataset(path) as dataset:
            known = next((product for product in PRODUCTS if product.recognises(dataset)), None)
            missing = known.missing(dataset) if known else []
            instrument = known.instrument(dataset) if known else ""
    except _DAMAGE as error:
        raise RetrievalError(f"{name} is no readable NetCDF file: {_in_a_line(error)}") from error
    if known is None:
        raise RetrievalError(f"{name} is of no known product; known: {', '.join(p.NAME for p in PRODUCTS)}")
    if missing:
        raise RetrievalError(f"{name} lacks {', '.join(missing)}, which {known.NAME} files have")
    return known, instrument


def _in_a_line(error: BaseException) -> str:
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(str(told).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
