"""
What does a WFM-DOAS TROPOMI CH4 file hold? (`ESACCI-GHG-L2-CH4-CO-TROPOMI-WFMD-*.nc`)

A day of all orbits. Layout: the names of `cci`, beside carbon monoxide (Schneising et al. 2019,
doi:10.5194/amt-12-6771-2019, and the product's user guide). Written from these documents; no real file was at hand.
"""

from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd

from stilt_assets.retrieval import cci
from stilt_assets.retrieval.tropomi import has

NAME = "ESACCI-GHG-L2-CH4-CO-TROPOMI-WFMD"
NEEDED = (*cci.names_of("xch4"), "longitude_corners", "latitude_corners")

_LAND, _WATER = 0.8, 0.2  # shares of land from which, and up to which, a pixel is all of one kind


def recognises(dataset: netCDF4.Dataset) -> bool:
    """Whether a file has this layout."""
    return not dataset.groups and {"xch4", "xco", "pressure_weight"} <= set(dataset.variables)


def missing(dataset: netCDF4.Dataset) -> list[str]:
    """Needed variables that a file lacks."""
    return [name for name in NEEDED if not has(dataset, name)]


def instrument(_: netCDF4.Dataset) -> str:
    """What looked."""
    return "tropomi-wfmd"


def read(path: Path, bounds: tuple[float, float, float, float]) -> tuple[pd.DataFrame, int]:
    """Pixels of a file near `bounds`, good or not, and the number of all its pixels."""
    with netCDF4.Dataset(path) as dataset:
        table, total = cci.read_soundings(dataset, "xch4", path, bounds)
        rows, block = cci.near(dataset, bounds)
        for name in ("longitude", "latitude"):
            table[f"{name}_bounds"] = list(cci.floats(dataset[f"{name}_corners"], block)[rows - block.start])
        if has(dataset, "land_fraction"):
            land = cci.floats(dataset["land_fraction"], block)[rows - block.start]
            share = land / 100.0 if np.nanmax(land, initial=0.0) > 1.0 else land  # percent, or a share
            table["surface"] = np.select([share >= _LAND, share <= _WATER], ["land", "water"], "mixed")
            table["glint"] = table["surface"] == "water"
        if has(dataset, "altitude"):
            table["surface_altitude"] = cci.floats(dataset["altitude"], block)[rows - block.start]
    return table, total
