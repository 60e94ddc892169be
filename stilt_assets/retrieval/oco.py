"""
What does an OCO-2 Lite file hold? (`oco2_LtCO2_*.nc4`; OCO-3's have the same layout)

Layout: OCO-2 & OCO-3 Data Product User's Guide. Kernels, priors and weights lie on 20 levels, space to surface. Written
with a file of made-up values in the true layout; no real file was at hand.
"""

from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd
from stilt.observations.readers import read_oco2

from stilt_assets.retrieval import damage
from stilt_assets.retrieval.tropomi import has, ranges

NAME = "OCO2_L2_Lite_FP"
NEEDED = (
    *("sounding_id", "time", "latitude", "longitude", "vertex_latitude", "vertex_longitude"),
    *("xco2", "xco2_uncertainty", "xco2_apriori", "xco2_quality_flag", "xco2_averaging_kernel"),
    *("pressure_levels", "pressure_weight", "co2_profile_apriori", "solar_zenith_angle", "sensor_zenith_angle"),
    *(f"Sounding/{name}" for name in ("solar_azimuth_angle", "sensor_azimuth_angle", "altitude", "land_fraction")),
    *(f"Sounding/{name}" for name in ("operation_mode", "orbit", "footprint")),
    "Retrieval/psurf",
)
_GLINT = 1  # of operation_mode
_LAND, _WATER = 80.0, 20.0  # percent of land from which, and up to which, a pixel is all of one kind


def recognises(dataset: netCDF4.Dataset) -> bool:
    """Whether a file has this layout."""
    return "Sounding" in dataset.groups and "xco2" in dataset.variables


def missing(dataset: netCDF4.Dataset) -> list[str]:
    """Needed variables that a file lacks."""
    return [name for name in NEEDED if not has(dataset, name)]


def instrument(dataset: netCDF4.Dataset) -> str:
    """What looked: the file says it, in its name or its attributes."""
    told = " ".join([Path(dataset.filepath()).name, *(str(dataset.getncattr(name)) for name in dataset.ncattrs())])
    return "oco3" if "oco3" in told.lower().replace("-", "").replace("_", "") else "oco2"


def read(path: Path, bounds: tuple[float, float, float, float]) -> tuple[pd.DataFrame, int]:
    """Pixels of a file near `bounds`, good or not, and the number of all its pixels."""
    table = read_oco2(path, **ranges(bounds))
    with netCDF4.Dataset(path) as dataset:
        identity = np.asarray(dataset["sounding_id"][:])
        damage.refuse_unordered(identity, "sounding_id")
        good = np.ma.filled(dataset["xco2_quality_flag"][:] == 0, False)
        damage.refuse_lost_places(good, *(np.ma.filled(dataset[name][:], np.nan) for name in ("latitude", "longitude")))
        footprint = np.ma.filled(dataset["Sounding/footprint"][:].astype(np.int32), 0)
    frames = np.unique(identity // 10)  # the last digit is the footprint's
    picked = np.searchsorted(identity, table["sounding_id"].astype(np.int64))
    land = table["land_fraction"].to_numpy()
    return table.rename(columns={"pressure_weight": "layer_weight"}).assign(
        qa=table["good"].astype(float),
        coastal=False,
        row=np.searchsorted(frames, identity[picked] // 10).astype(np.int32),
        column=(footprint[picked] - 1).astype(np.int32),
        surface=np.select([land >= _LAND, land <= _WATER], ["land", "water"], "mixed"),
        glint=table["operation_mode"].to_numpy() == _GLINT,
    ), len(identity)
