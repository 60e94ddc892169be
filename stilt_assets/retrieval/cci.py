"""
What do the files of ESA's Greenhouse Gases Climate Change Initiative have in common?

One sounding dimension, no groups, and the same names: Buchwitz et al., GHG-CCI Product Specification Document. Numbers
are those of the documents (hPa, ppb or ppm) whatever a units string says; valid ranges and fill values count. Kernels
lie on layers (one fewer than `pressure_levels`) or on levels.
"""

from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd

from stilt_assets.retrieval import damage
from stilt_assets.retrieval.tropomi import ranges

FILL = -999.0  # and all below it; -9999.99 in most files
UNITS = {"xch4": "ppb", "xco2": "ppm"}
_HUGE = 1e30  # NetCDF's own fill value and its kind
_FAINTER = 1e-3  # share by which each level above the last pressure lies higher


def names_of(gas: str) -> tuple[str, ...]:
    """Variables that every file of a gas (xch4 or xco2) has."""
    shared = ("time", "longitude", "latitude", "pressure_levels", "pressure_weight", "sensor_zenith_angle")
    own = (gas, f"{gas}_uncertainty", f"{gas}_averaging_kernel", f"{gas}_quality_flag", f"{gas[1:]}_profile_apriori")
    return shared + own


def floats(variable: netCDF4.Variable, rows: slice | tuple = slice(None)) -> np.ndarray:
    """Values as float64; fill values, and all outside a valid range, as NaN."""
    values = np.ma.filled(np.ma.asarray(variable[rows]).astype(float), np.nan)
    return np.where((values <= FILL) | (values > _HUGE), np.nan, values)


def times(dataset: netCDF4.Dataset, rows: slice = slice(None)) -> pd.Series:
    """UTC times, without a zone, of `time` in seconds since what its units say."""
    variable = dataset["time"]
    origin = pd.Timestamp(str(getattr(variable, "units", "")).partition("since ")[2] or "1970-01-01")
    return pd.Series(pd.to_datetime(floats(variable, rows), unit="s", origin=origin.tz_localize(None)))


def near(dataset: netCDF4.Dataset, bounds: tuple[float, float, float, float]) -> tuple[np.ndarray, slice]:
    """Indices of the soundings near `bounds`, and the slice of the file that holds them."""
    lon, lat = floats(dataset["longitude"]), floats(dataset["latitude"])
    inside = np.isfinite(lon) & np.isfinite(lat)
    for values, (low, high) in zip((lat, lon), ranges(bounds).values(), strict=False):
        inside &= (values >= low) & (values <= high)
    (rows,) = np.nonzero(inside)
    return rows, slice(int(rows.min()), int(rows.max()) + 1) if len(rows) else slice(0, 0)


def read_soundings(
    dataset: netCDF4.Dataset, gas: str, path: Path, bounds: tuple[float, float, float, float]
) -> tuple[pd.DataFrame, int]:
    """The soundings near `bounds`, good or not, with all that both products have; and the number of all soundings."""
    flag = np.ma.filled(dataset[f"{gas}_quality_flag"][:] == 0, False)
    damage.refuse_lost_places(flag, floats(dataset["latitude"]), floats(dataset["longitude"]))
    rows, block = near(dataset, bounds)
    at = rows - block.start

    def pick(name: str) -> np.ndarray:
        return floats(dataset[name], block)[at]

    table = pd.DataFrame(
        {
            "sounding_id": [f"{path.stem}_{row}" for row in rows],
            "time": times(dataset, block).to_numpy()[at],
            "longitude": pick("longitude"),
            "latitude": pick("latitude"),
            "zenith": pick("sensor_zenith_angle"),
            "value": pick(gas),
            "uncertainty": pick(f"{gas}_uncertainty"),
            "qa": flag[rows].astype(float),
            "good": flag[rows],
            "coastal": False,
            "row": rows.astype(np.int32),
            "column": np.int32(0),
        },
        index=pd.RangeIndex(len(rows)),
    )
    parts = (pick(name) for name in (f"{gas}_averaging_kernel", f"{gas[1:]}_profile_apriori", "pressure_weight"))
    profiles = profiles_of(pick("pressure_levels"), *parts)
    return table.assign(units=UNITS[gas], **profiles), len(flag)


def profiles_of(levels: np.ndarray, kernel: np.ndarray, prior: np.ndarray, weight: np.ndarray) -> dict[str, object]:
    """
    Columns of a table from profiles (sounding, level or layer): surface first, levels below the ground left out.

    Levels that are left out are made up for above the last one, without weight, so that all profiles have one length.
    """
    if kernel.shape[1] not in (levels.shape[1], levels.shape[1] - 1):
        raise ValueError(f"kernels of {kernel.shape[1]} values on {levels.shape[1]} pressure levels")
    if len(levels) and np.nanmedian(levels[:, 0] - levels[:, -1]) < 0:
        levels, kernel, prior, weight = (values[:, ::-1] for values in (levels, kernel, prior, weight))
    below = np.where(levels > 0, 0, 1).cumprod(axis=1).sum(axis=1)  # levels that lie below the ground
    levels, kernel, prior, weight = (_raised(values, below) for values in (levels, kernel, prior, weight))
    for count in set(below[(below > 0) & (below < levels.shape[1])]):
        chosen = below == count
        faint = 1.0 - _FAINTER * np.arange(1, count + 1)
        levels[chosen, -count:] = levels[chosen, -count - 1, None] * faint
        kernel[chosen, -count:], prior[chosen, -count:] = (
            values[chosen, -count - 1, None] for values in (kernel, prior)
        )
        weight[chosen, -count:] = 0.0
    on_levels = kernel.shape[1] == levels.shape[1]
    return {
        "surface_pressure": levels[:, 0],
        "pressure_levels": list(levels),
        "ak_pressure": list(levels if on_levels else (levels[:, 1:] + levels[:, :-1]) / 2.0),
        "ak": list(kernel),
        "apriori": list(prior),
        "layer_weight": list(weight),
    }


def _raised(values: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Each row moved down by as many places as it has levels below the ground."""
    places = np.arange(values.shape[1]) + below[:, None]
    return np.take_along_axis(values, np.minimum(places, values.shape[1] - 1), axis=1)
