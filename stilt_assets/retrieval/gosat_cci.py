"""
What does a GOSAT file of the Climate Change Initiative hold? (`ESACCI-GHG-L2-{CH4,CO2}-GOSAT-{OCPR,SRFP,…}-*.nc`)

A day of soundings, XCH4 in ppb or XCO2 in ppm; also the continuations of other projects in the same layout. Layout: the
names of `cci` (Parker et al. 2020, doi:10.5194/essd-12-3383-2020, and the products' user guides). A sounding looks at a
circle of 10.5 km, whose place alone is in the file; levels below the ground are fill. Written from these documents; no
real file was at hand.
"""

import re
from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd

from stilt_assets.retrieval import cci
from stilt_assets.retrieval.tropomi import has

NAME = "ESACCI-GHG-L2-GOSAT"
_DIAMETER = 10.5 / 111.195  # degrees of latitude, of the circle that a sounding looks at
_ALGORITHM = re.compile(r"-GOSAT-([A-Za-z0-9]+)-\d{8}")


def recognises(dataset: netCDF4.Dataset) -> bool:
    """Whether a file has this layout."""
    names = set(dataset.variables)
    gosats_own = {"exposure_id", "gain", "retr_flag"}
    return not dataset.groups and bool({"xch4", "xco2"} & names) and bool(gosats_own & names)


def gas_of(dataset: netCDF4.Dataset) -> str:
    """The gas that a file holds: xch4 or xco2."""
    return "xch4" if "xch4" in dataset.variables else "xco2"


def missing(dataset: netCDF4.Dataset) -> list[str]:
    """Needed variables that a file lacks."""
    return [name for name in cci.names_of(gas_of(dataset)) if not has(dataset, name)]


def instrument(dataset: netCDF4.Dataset) -> str:
    """What looked, at which gas, and who retrieved: files of one day over one target are scenes of their own."""
    algorithm = _ALGORITHM.search(Path(dataset.filepath()).name)
    words = ("gosat", gas_of(dataset)[1:], *((algorithm[1].lower(),) if algorithm else ()))
    return "-".join(words)


def read(path: Path, bounds: tuple[float, float, float, float]) -> tuple[pd.DataFrame, int]:
    """Pixels of a file near `bounds`, good or not, and the number of all its pixels."""
    with netCDF4.Dataset(path) as dataset:
        table, total = cci.read_soundings(dataset, gas_of(dataset), path, bounds)
        rows, block = cci.near(dataset, bounds)
        at = rows - block.start
        for name in ("surface_altitude", "altitude"):
            if has(dataset, name) and dataset[name].ndim == 1:
                table["surface_altitude"] = cci.floats(dataset[name], block)[at]
                break
        flag = next((name for name in ("retr_flag", "flag_sunglint") if has(dataset, name)), None)
        if flag:
            table["glint"] = cci.floats(dataset[flag], block)[at] == 1
            table["surface"] = np.where(table["glint"], "water", "land")
    return table.assign(**_squares(table)), total


def _squares(table: pd.DataFrame) -> dict[str, list[np.ndarray]]:
    """Corners of the square around each circle, counter-clockwise, degrees."""
    lon, lat = table["longitude"].to_numpy()[:, None], table["latitude"].to_numpy()[:, None]
    east, north = np.array([[-0.5, 0.5, 0.5, -0.5], [-0.5, -0.5, 0.5, 0.5]]) * _DIAMETER
    across = (lon + east / np.cos(np.radians(np.clip(lat, -89.0, 89.0))) + 180.0) % 360.0 - 180.0
    return {"longitude_bounds": list(across), "latitude_bounds": list(np.clip(lat + north, -90.0, 90.0))}
