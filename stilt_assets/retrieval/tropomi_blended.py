"""
What does a blended TROPOMI+GOSAT CH4 file hold? (`S5P_BLND_L2__CH4____*.nc`)

Layout and the rule for coastal pixels: Balasus et al. 2023, doi:10.5194/amt-16-3787-2023. No viewing angles.
"""

from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd
from stilt.observations.readers import read_tropomi_ch4

from stilt_assets.retrieval import damage
from stilt_assets.retrieval.tropomi import SURFACES, has, layers, ranges

NAME = "S5P_BLND_L2__CH4___"
NEEDED = (
    *("latitude", "longitude", "time_utc", "qa_value", "latitude_bounds", "longitude_bounds", "chi_square_SWIR"),
    *(f"methane_mixing_ratio{name}" for name in ("", "_precision", "_bias_corrected", "_blended")),
    *("surface_pressure", "pressure_interval", "surface_altitude", "surface_classification"),
    *("methane_profile_apriori", "dry_air_subcolumns", "column_averaging_kernel"),
)
_CHI_SQUARE_LIMIT = 20_000.0


def recognises(dataset: netCDF4.Dataset) -> bool:
    """Whether a file has this layout."""
    return not dataset.groups and "methane_mixing_ratio_blended" in dataset.variables


def missing(dataset: netCDF4.Dataset) -> list[str]:
    """Needed variables that a file lacks."""
    return [name for name in NEEDED if not has(dataset, name)]


def instrument(_: netCDF4.Dataset) -> str:
    """What looked."""
    return "tropomi-blended"


def read(path: Path, bounds: tuple[float, float, float, float]) -> tuple[pd.DataFrame, int]:
    """Pixels of a file near `bounds`, good or not, and the number of all its pixels."""
    table = read_tropomi_ch4(path, **ranges(bounds))
    place = np.array([int(name.rsplit("_", 1)[1]) for name in table["sounding_id"]], dtype=np.int32)
    with netCDF4.Dataset(path) as dataset:
        total = len(dataset["latitude"])
        air = dataset["dry_air_subcolumns"][:][place]
        surface = np.asarray(dataset["surface_classification"][:][place]) & 0x03
        told = pd.to_datetime(np.asarray(dataset["time_utc"][:]).astype(str)).tz_localize(None)
        damage.refuse_clock_that_goes_back(told.to_numpy())
        good = np.ma.filled(dataset["qa_value"][:] >= 0.5, False)
        lat_lon = [np.ma.filled(dataset[name][:], np.nan) for name in ("latitude", "longitude")]
        damage.refuse_lost_places(good, *lat_lon)
        chi = np.ma.filled(dataset["chi_square_SWIR"][:][place].astype(float), np.inf)
    coastal = (surface == 3) | ((surface == 2) & (chi > _CHI_SQUARE_LIMIT))
    table = table.rename(columns={"qa_value": "qa"}).assign(row=place, column=np.int32(0))
    kinds = {"surface": np.array(SURFACES)[surface], "glint": surface == SURFACES.index("water")}
    return table.assign(**layers(air), coastal=coastal, **kinds), total
