"""
What does an operational TROPOMI CH4 file hold? (`S5P_{OFFL,RPRO,NRTI}_L2__CH4____*.nc`)

Layout: Sentinel-5P Level 2 Product User Manual Methane, SRON-S5P-LEV2-MA-001.
"""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pandas as pd
from stilt.observations.readers import read_tropomi_ch4

from stilt_assets.retrieval import damage

NAME = "S5P_L2__CH4___"
_EPOCH = np.datetime64("2010-01-01", "ms")  # UTC, of the product's `time`
_NEVER = np.iinfo(np.int64).min  # NumPy's number for no time
_INPUT = "PRODUCT/SUPPORT_DATA/INPUT_DATA"
_DETAIL = "PRODUCT/SUPPORT_DATA/DETAILED_RESULTS"
_GEO = "PRODUCT/SUPPORT_DATA/GEOLOCATIONS"
SURFACES = ("land", "water", "mixed", "mixed")  # by the last two bits of surface_classification
NEEDED = (
    *(f"PRODUCT/{name}" for name in ("latitude", "longitude", "time", "delta_time", "time_utc")),
    *(f"PRODUCT/{name}" for name in ("scanline", "ground_pixel", "qa_value")),
    *(f"PRODUCT/methane_mixing_ratio{name}" for name in ("", "_precision", "_bias_corrected")),
    *(f"{_INPUT}/{name}" for name in ("surface_pressure", "pressure_interval", "surface_altitude", "altitude_levels")),
    *(f"{_INPUT}/{name}" for name in ("methane_profile_apriori", "dry_air_subcolumns")),
    f"{_DETAIL}/column_averaging_kernel",
    *(f"{_GEO}/{name}_angle" for name in ("viewing_zenith", "viewing_azimuth", "solar_zenith", "solar_azimuth")),
    *(f"{_GEO}/{name}_bounds" for name in ("longitude", "latitude")),
)


def recognises(dataset: netCDF4.Dataset) -> bool:
    """Whether a file has this layout."""
    return "PRODUCT" in dataset.groups and "methane" in " ".join(dataset["PRODUCT"].variables)


def missing(dataset: netCDF4.Dataset) -> list[str]:
    """Needed variables that a file lacks."""
    lacks = [] if "orbit" in dataset.ncattrs() else ["the attribute orbit"]
    return lacks + [name for name in NEEDED if not has(dataset, name)]


def instrument(_: netCDF4.Dataset) -> str:
    """What looked."""
    return "tropomi"


def has(dataset: netCDF4.Dataset, path: str) -> bool:
    """Whether a variable is there, by its path through the groups."""
    try:
        return isinstance(dataset[path], netCDF4.Variable)
    except (IndexError, KeyError):
        return False


def layers(subcolumns: np.ndarray) -> dict[str, Any]:
    """Dry air of the columns, mol m-2, and each layer's share of it, surface first, from subcolumns, top first."""
    columns = np.ma.filled(np.ma.asarray(subcolumns, dtype=float), np.nan)[:, ::-1]
    air = columns.sum(axis=1)
    return {"air": air, "layer_weight": list(columns / air[:, None])}


def ranges(bounds: tuple[float, float, float, float]) -> dict[str, tuple[float, float]]:
    """What of `bounds` the reader can use to skip pixels: it knows of no antimeridian."""
    west, south, east, north = bounds
    return {"lat_range": (south, north)} | ({"lon_range": (west, east)} if west < east else {})


def read(path: Path, bounds: tuple[float, float, float, float]) -> tuple[pd.DataFrame, int]:
    """Pixels of a file near `bounds`, good or not, and the number of all its pixels."""
    table = read_tropomi_ch4(path, **ranges(bounds))
    with netCDF4.Dataset(path) as dataset:
        product = dataset["PRODUCT"]
        _refuse_damage(dataset)
        lines = np.searchsorted(product["scanline"][:], table["scanline"])
        across = np.searchsorted(product["ground_pixel"][:], table["ground_pixel"])
        box = (
            (slice(lines.min(), lines.max() + 1), slice(across.min(), across.max() + 1))
            if len(table)
            else (slice(0, 0),) * 2
        )
        air = dataset[_INPUT]["dry_air_subcolumns"][(0, *box)]
        kinds = f"{_INPUT}/surface_classification"
        surface = np.ma.filled(dataset[kinds][(0, *box)] & 0x03, 3) if has(dataset, kinds) else None
        total = int(np.prod(product["qa_value"].shape))
    picked = air[lines - lines.min(), across - across.min()] if len(table) else np.empty((0, air.shape[-1]))
    table = table.rename(columns={"qa_value": "qa", "scanline": "row", "ground_pixel": "column"})
    if surface is not None and len(table):
        table["surface"] = np.array(SURFACES)[surface[lines - lines.min(), across - across.min()]]
        table["glint"] = table["surface"] == "water"  # over water only the sun's reflection is bright enough
    return table.assign(**layers(picked), coastal=False), total


def _refuse_damage(dataset: netCDF4.Dataset) -> None:
    """ValueError if a file contradicts itself."""
    product = dataset["PRODUCT"]
    for name in ("scanline", "ground_pixel"):
        damage.refuse_unordered(product[name][:], name)
    good = np.ma.filled(product["qa_value"][:] >= 0.5, False)
    places = [np.ma.filled(product[name][:], np.nan) for name in ("latitude", "longitude")]
    damage.refuse_lost_places(good, *places)
    told = pd.to_datetime(np.asarray(product["time_utc"][0]).astype(str)).tz_localize(None).to_numpy()
    since = [np.ma.asarray(product[name][:])[0] for name in ("time", "delta_time")]
    counted = _EPOCH + np.ma.filled(since[0].astype(np.int64) * 1000 + since[1], _NEVER).astype("timedelta64[ms]")
    damage.refuse_clocks_that_differ(told, counted)
    name = str(getattr(dataset, "id", ""))
    if name and f"_{int(dataset.orbit):05d}_" not in name:
        raise ValueError(f"orbit {int(dataset.orbit)} is not that of its id {name}")
