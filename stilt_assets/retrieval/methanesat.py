"""
What does a MethaneSAT Level 2 file hold? (`MethaneSAT_L2_post_*.nc`, after the CO2-proxy's post-processing)

Pixels of 110 m x 400 m along and across the track; kernels and priors on 19 layers, top first, in ppb, on the pressure
grid of the University of Leicester's GOSAT retrieval. Groups `geolocation`, `product_co2proxy` (`product` in newer
files), `co2proxy_fit_diagnostics`, `apriori_data`; flag 0 = good. Written from the product's public description (Chan
Miller et al. 2024, doi:10.5194/amt-17-5429-2024) and public programs that read such files; no real file was at hand.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pandas as pd

from stilt_assets.retrieval import damage
from stilt_assets.retrieval.tropomi import has

NAME = "MethaneSAT_L2"
UNCERTAINTY = (
    35.0  # ppb, of pixels whose file has no error: the larger of the 22 to 35 that the public description says
)
_PRODUCTS = ("product_co2proxy", "product")
_SIGMA = np.linspace(1.0, 0.0, 14)  # of the troposphere's layer boundaries, ground to tropopause
_STRATOSPHERE = (80.0, 50.0, 10.0, 1.0, 0.1)  # hPa, of the boundaries above the next one
_RESULTS = ("xch4_co2proxy", "main_quality_flag")
_NEEDED = (
    *(f"geolocation/{name}" for name in ("longitude", "latitude", "longitude_bounds", "latitude_bounds")),
    *(f"apriori_data/{name}" for name in ("surface_pressure", "tropopause_pressure", "ch4_profile")),
    "co2proxy_fit_diagnostics/ch4_averaging_kernel",
)


def product_of(dataset: netCDF4.Dataset) -> str:
    """The group of the results, whose name has changed; empty if there is none."""
    return next((name for name in _PRODUCTS if has(dataset, f"{name}/xch4_co2proxy")), "")


def recognises(dataset: netCDF4.Dataset) -> bool:
    """Whether a file has this layout."""
    return bool(product_of(dataset))


def missing(dataset: netCDF4.Dataset) -> list[str]:
    """Needed variables and attributes that a file lacks."""
    names = (*(f"{product_of(dataset)}/{name}" for name in _RESULTS), *_NEEDED)
    times = [f"the attribute {name}" for name in ("time_coverage_start", "time_coverage_end")]
    return [name for name in names if not has(dataset, name)] + [
        name for name in times if name.rsplit(" ", 1)[-1] not in dataset.ncattrs()
    ]


def instrument(_: netCDF4.Dataset) -> str:
    """What looked."""
    return "methanesat"


def floats(dataset: netCDF4.Dataset, name: str) -> np.ndarray:
    """Values as float64, fill values as NaN."""
    values = np.ma.filled(np.ma.asarray(dataset[name][:]).astype(float), np.nan)
    return np.where(np.abs(values) > 1e30, np.nan, values)


def inside(lon: np.ndarray, lat: np.ndarray, bounds: tuple[float, float, float, float]) -> np.ndarray:
    """Which places lie within bounds, as far as they can be told apart without the antimeridian."""
    west, south, east, north = bounds
    across = (lon >= west) & (lon <= east) if west < east else np.isfinite(lon)
    return across & (lat >= south) & (lat <= north)


def boundaries(surface: np.ndarray, tropopause: np.ndarray) -> np.ndarray:
    """Pressures (pixel, 20) of layers' boundaries, hPa, ground first: 13 even layers to the tropopause, 6 above."""
    lower = tropopause[:, None] + _SIGMA * (surface - tropopause)[:, None]
    upper = np.broadcast_to(_STRATOSPHERE, (len(surface), len(_STRATOSPHERE)))
    between = (lower[:, -1:] + upper[:, :1]) / 2.0
    return np.concatenate([lower, between, upper], axis=1)


def span_of(dataset: netCDF4.Dataset) -> tuple[datetime, datetime]:
    """UTC, without a zone: when a file's first and last line were seen, as its attributes say."""
    told = (str(dataset.getncattr(f"time_coverage_{end}")) for end in ("start", "end"))
    first, last = (datetime.fromisoformat(time).astimezone(UTC).replace(tzinfo=None) for time in told)
    if not first <= last <= first + timedelta(hours=1):
        raise ValueError(f"time_coverage_start {first} and time_coverage_end {last} contradict each other")
    return first, last


def metres(dataset: netCDF4.Dataset, name: str) -> np.ndarray:
    """Terrain heights in m; files that say no unit have km."""
    values = floats(dataset, name)
    return values if str(getattr(dataset[name], "units", "km")) == "m" else values * 1000.0


def read(path: Path, bounds: tuple[float, float, float, float]) -> tuple[pd.DataFrame, int]:
    """Pixels of a file near `bounds`, good or not, and the number of all its pixels."""
    with netCDF4.Dataset(path) as dataset:
        group = product_of(dataset)
        lon, lat = (floats(dataset, f"geolocation/{name}") for name in ("longitude", "latitude"))
        good = np.ma.filled(dataset[f"{group}/main_quality_flag"][:] == 0, False)
        damage.refuse_lost_places(good, lat, lon)
        along, across = np.nonzero(inside(lon, lat, bounds))
        first, last = span_of(dataset)
        seconds = along * ((last - first) / max(lon.shape[0] - 1, 1)).total_seconds()
        table = pd.DataFrame(
            {
                "sounding_id": [f"{path.stem}_{line}_{column}" for line, column in zip(along, across, strict=True)],
                "time": pd.Timestamp(first) + pd.to_timedelta(seconds, unit="s"),
                "longitude": lon[along, across],
                "latitude": lat[along, across],
                "value": floats(dataset, f"{group}/xch4_co2proxy")[along, across],
                "units": "ppb",
                "qa": good[along, across].astype(float),
                "good": good[along, across],
                "coastal": False,
                "row": along.astype(np.int32),
                "column": across.astype(np.int32),
            },
            index=pd.RangeIndex(len(along)),
        )
        return table.assign(**_rest(dataset, group, along, across)), lon.size


def _rest(dataset: netCDF4.Dataset, group: str, along: np.ndarray, across: np.ndarray) -> dict[str, Any]:
    """Errors, corners, heights, angles and profiles of the pixels at (along, across)."""

    def layers(name: str) -> np.ndarray:
        return floats(dataset, name)[::-1, along, across].T  # (pixel, layer), ground first

    surface = floats(dataset, "apriori_data/surface_pressure")[along, across]
    levels = boundaries(surface, floats(dataset, "apriori_data/tropopause_pressure")[along, across])
    rest: dict[str, Any] = {
        "uncertainty": np.full(len(along), UNCERTAINTY),
        "surface_pressure": surface,
        "pressure_levels": list(levels),
        "ak_pressure": list((levels[:, 1:] + levels[:, :-1]) / 2.0),
        "ak": list(layers("co2proxy_fit_diagnostics/ch4_averaging_kernel")),
        "apriori": list(layers("apriori_data/ch4_profile")),
        "layer_weight": list(-np.diff(levels, axis=1) / (levels[:, :1] - levels[:, -1:])),
    }
    if has(dataset, f"{group}/xch4_co2proxy_randerr"):
        rest["uncertainty"] = floats(dataset, f"{group}/xch4_co2proxy_randerr")[along, across]
    for name in ("longitude", "latitude"):
        rest[f"{name}_bounds"] = list(floats(dataset, f"geolocation/{name}_bounds")[:, along, across].T)
    for name, variable in (("zenith", "vza"), ("azimuth", "vaa")):
        if has(dataset, f"geolocation/{variable}"):
            rest[name] = floats(dataset, f"geolocation/{variable}")[along, across] % 360.0
    if has(dataset, "geolocation/terrain_height"):
        rest["surface_altitude"] = metres(dataset, "geolocation/terrain_height")[along, across]
    return rest
