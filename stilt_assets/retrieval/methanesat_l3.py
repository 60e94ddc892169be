"""
What does a MethaneSAT Level 3 file hold? (`MethaneSAT_L3_*.nc`: XCH4 on a regular grid of longitude and latitude)

Cells of 45 m, finer than what is seen, made by spreading Level 2 pixels out (Sun et al. 2018,
doi:10.5194/amt-11-6679-2018): their errors go together. So a pixel here is a block of cells of about 1 km, with the
mean of those that have a value, if at least half of them do. The file has no profiles: kernel and prior are those of
the whole column, 1 and nothing where it lacks them. It has no error: a block's is that of one Level 2 pixel over the
root of the Level 2 pixels that fit into it. Written from the public description; no real file was at hand.
"""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pandas as pd

from stilt_assets.retrieval import damage
from stilt_assets.retrieval.methanesat import UNCERTAINTY, floats, inside, span_of
from stilt_assets.retrieval.tropomi import has

NAME = "MethaneSAT_L3"
NEEDED = ("lat", "lon", "xch4", "num_samples", "apriori_data/surface_pressure")
_PIXEL = 1.0  # km, about, along a side
_LEVEL_2 = 0.110 * 0.400  # km2, of a Level 2 pixel
_KM = 111.195  # of a degree of latitude
_TOP = 0.1  # hPa
_KERNEL, _PRIOR = "co2proxy_fit_diagnostics/ch4_averaging_kernel_mean", "apriori_data/xch4"


def recognises(dataset: netCDF4.Dataset) -> bool:
    """Whether a file has this layout."""
    return {"lat", "lon", "xch4", "num_samples"} <= set(dataset.variables)


def missing(dataset: netCDF4.Dataset) -> list[str]:
    """Needed variables and attributes that a file lacks."""
    times = [f"the attribute {name}" for name in ("time_coverage_start", "time_coverage_end")]
    return [name for name in NEEDED if not has(dataset, name)] + [
        name for name in times if name.rsplit(" ", 1)[-1] not in dataset.ncattrs()
    ]


def instrument(_: netCDF4.Dataset) -> str:
    """What looked."""
    return "methanesat-l3"


def blocks(values: np.ndarray, size: tuple[int, int], seen: np.ndarray) -> np.ndarray:
    """Means (block row, block column) of the cells of each block that are `seen`; a rest at the far sides goes."""
    rows, columns = (cells // side for cells, side in zip(values.shape, size, strict=True))
    whole = slice(rows * size[0]), slice(columns * size[1])
    cut = (rows, size[0], columns, size[1])
    counts = seen[whole].reshape(cut).sum(axis=(1, 3))
    sums = np.where(seen[whole], values[whole], 0.0).reshape(cut).sum(axis=(1, 3))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def read(path: Path, bounds: tuple[float, float, float, float]) -> tuple[pd.DataFrame, int]:
    """Pixels of a file near `bounds`, good or not, and the number of all its pixels."""
    with netCDF4.Dataset(path) as dataset:
        lat, lon = floats(dataset, "lat"), floats(dataset, "lon")
        for name, values in (("lat", lat), ("lon", lon)):
            damage.refuse_unordered(values, name)
        cell = float(lat[1] - lat[0]), float(lon[1] - lon[0])
        wide = cell[1] * float(np.cos(np.radians(lat.mean())))
        size = max(1, round(_PIXEL / _KM / cell[0])), max(1, round(_PIXEL / _KM / wide))
        xch4 = floats(dataset, "xch4")
        seen = np.isfinite(xch4) & (floats(dataset, "num_samples") > 0)
        share = blocks(seen.astype(float), size, np.ones_like(seen))
        middle_lat, middle_lon = (
            blocks(values, size, np.ones_like(seen)) for values in np.meshgrid(lat, lon, indexing="ij")
        )
        row, column = np.nonzero(inside(middle_lon, middle_lat, bounds))
        first, last = span_of(dataset)

        def mean(name: str) -> np.ndarray:
            return blocks(floats(dataset, name), size, seen)[row, column]

        area = size[0] * cell[0] * size[1] * wide * _KM**2 * share[row, column]
        table = pd.DataFrame(
            {
                "sounding_id": [f"{path.stem}_{y}_{x}" for y, x in zip(row, column, strict=True)],
                "time": pd.Timestamp(first + (last - first) / 2),
                "longitude": middle_lon[row, column],
                "latitude": middle_lat[row, column],
                "value": blocks(xch4, size, seen)[row, column],
                "uncertainty": UNCERTAINTY / np.sqrt(np.maximum(area / _LEVEL_2, 1.0)),
                "units": "ppb",
                "surface_pressure": mean("apriori_data/surface_pressure"),
                "qa": share[row, column],
                "good": share[row, column] >= 0.5,
                "coastal": False,
                "row": row.astype(np.int32),
                "column": column.astype(np.int32),
            },
            index=pd.RangeIndex(len(row)),
        )
        half = size[1] * cell[1] / 2.0, size[0] * cell[0] / 2.0
        return table.assign(**_corners(table, *half), **_column(dataset, table, mean)), middle_lat.size


def _corners(table: pd.DataFrame, east: float, north: float) -> dict[str, Any]:
    """Corners of each block, counter-clockwise, degrees."""
    lon = table["longitude"].to_numpy()[:, None] + np.array([-1, 1, 1, -1]) * east
    lat = table["latitude"].to_numpy()[:, None] + np.array([-1, -1, 1, 1]) * north
    return {"longitude_bounds": list((lon + 180.0) % 360.0 - 180.0), "latitude_bounds": list(lat)}


def _column(dataset: netCDF4.Dataset, table: pd.DataFrame, mean: Any) -> dict[str, Any]:
    """Profiles of one layer, the whole column, and what else the file may have."""
    surface = table["surface_pressure"].to_numpy()
    kernel = mean(_KERNEL) if has(dataset, _KERNEL) else np.ones(len(table))
    prior = mean(_PRIOR) if has(dataset, _PRIOR) else table["value"].to_numpy()
    kernel = kernel if has(dataset, _PRIOR) else np.ones(len(table))  # a kernel says nothing without its prior
    rest: dict[str, Any] = {
        "pressure_levels": [np.array([pressure, _TOP]) for pressure in surface],
        "ak_pressure": [np.array([pressure / 2.0]) for pressure in surface],
        "ak": list(kernel[:, None]),
        "apriori": list(prior[:, None]),
        "layer_weight": list(np.ones((len(table), 1))),
    }
    if has(dataset, "geolocation/terrain_height"):
        rest["surface_altitude"] = mean("geolocation/terrain_height") * _to_metres(dataset)
    return rest


def _to_metres(dataset: netCDF4.Dataset) -> float:
    return 1.0 if str(getattr(dataset["geolocation/terrain_height"], "units", "km")) == "m" else 1000.0
