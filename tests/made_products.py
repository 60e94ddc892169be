"""Files of made-up values in the true layouts of products of which no real file is at hand."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

FILL = -9999.99
LON, LAT = np.array([-112.0, -111.9, -111.8, -111.7]), np.array([40.5, 40.6, 40.55, 40.7])
WFMD: dict[str, Any] = {
    "pressure_levels": [[860.0, 540.0, 260.0, 0.2]] * 2 + [[850.0, 530.0, 250.0, 0.2]] * 2,
    "kernel": [[1.1, 1.0, 0.5], [1.2, 0.9, 0.4], [1.05, 1.0, 0.6], [1.0, 0.95, 0.7]],
    "weight": [0.375, 0.325, 0.3],
    "prior": [1900.0, 1880.0, 1500.0],
}
GOSAT: dict[str, Any] = {
    "pressure_levels": [[first, 600.0, 300.0, 0.5] for first in (900.0, FILL, 1010.0, 880.0)],
    "kernel": [[1.0, 0.9, 0.7, 0.3], [FILL, 0.9, 0.7, 0.3], [1.1, 1.0, 0.6, 0.2], [1.0, 0.9, 0.8, 0.4]],
    "weight": [[0.2, 0.3, 0.3, 0.2], [FILL, 0.5, 0.3, 0.2], [0.2, 0.3, 0.3, 0.2], [0.2, 0.3, 0.3, 0.2]],
    "prior": [1.0, 0.99, 0.95, 0.7],  # shares of what is at the ground
}
L2: dict[str, Any] = {"kernel": np.linspace(0.55, 1.07, 19)}  # top first, as in the file
L3: dict[str, Any] = {"value": 1905.0}


def change(path: Path, copy: Path, act: Callable[[netCDF4.Dataset], None]) -> Path:
    """A copy of a file with something changed in it."""
    shutil.copyfile(path, copy)
    with netCDF4.Dataset(copy, "a") as dataset:
        act(dataset)
    return copy


def put(dataset: Any, name: str, dims: tuple[str, ...], values: Any, kind: str = "f4", **attributes: Any) -> None:
    """One variable with its values; floats have the fill value of their product."""
    fill = {"fill_value": np.float32(attributes.pop("fill", FILL))} if kind == "f4" else {}
    variable = dataset.createVariable(name, kind, dims, **fill)
    variable.setncatts(attributes)
    variable[:] = np.asarray(values)


def _soundings(path: Path, gas: str, levels: Any, profiles: dict[str, Any], layer: str) -> netCDF4.Dataset:
    """What both products of the Climate Change Initiative hold, four soundings of which the last is bad."""
    dataset = netCDF4.Dataset(path, "w")
    for name, size in (("sounding_dim", 4), ("level_dim", 4), ("layer_dim", 3), ("corners_dim", 4)):
        dataset.createDimension(name, size)
    one = ("sounding_dim",)
    seconds = 1689278287.0 + np.array([0.0, 1.0, 2.0, 5.0])  # 2023-07-13 19:58:07
    put(dataset, "time", one, seconds, "f8", units="seconds since 1970-01-01 00:00:00")
    put(dataset, "longitude", one, LON, units="degrees_east")
    put(dataset, "latitude", one, LAT, units="degrees_north")
    put(dataset, "sensor_zenith_angle", one, [10.0, 11.0, 12.0, 13.0])
    put(dataset, "solar_zenith_angle", one, [30.0, 30.1, 30.2, 30.3])
    ground = 1890.0 if gas == "xch4" else 415.0
    put(dataset, gas, one, ground + np.array([0.0, 3.0, -2.0, 1.0]), units="1e-9")
    put(dataset, f"{gas}_uncertainty", one, [10.0, 12.0, 11.0, 10.0])
    put(dataset, f"{gas}_quality_flag", one, [0, 0, 0, 1], "i1")
    put(dataset, "pressure_levels", ("sounding_dim", "level_dim"), levels)
    for name, values in profiles.items():
        put(dataset, name, ("sounding_dim", layer), values)
    return dataset


def write_wfmd(folder: Path) -> Path:
    """A day of WFM-DOAS, on layers."""
    path = folder / "ESACCI-GHG-L2-CH4-CO-TROPOMI-WFMD-20230713-fv4.nc"
    profiles = {
        "pressure_weight": [WFMD["weight"]] * 4,
        "xch4_averaging_kernel": WFMD["kernel"],
        "ch4_profile_apriori": [WFMD["prior"]] * 4,
    }
    with _soundings(path, "xch4", WFMD["pressure_levels"], profiles, "layer_dim") as dataset:
        put(dataset, "xco", ("sounding_dim",), [90.0, 91.0, 92.0, 93.0])
        put(dataset, "altitude", ("sounding_dim",), [1300.0, 1310.0, 1400.0, 1500.0])
        for name, middle, half in (("longitude", LON, [-0.05, 0.05, 0.05, -0.05]), ("latitude", LAT, [-0.03] * 2)):
            corners = np.array([*half, *np.negative(half)] if len(half) == 2 else half)
            put(dataset, f"{name}_corners", ("sounding_dim", "corners_dim"), middle[:, None] + corners)
    return path


def write_gosat(folder: Path, gas: str = "xch4") -> Path:
    """A day of GOSAT, on levels, the second sounding over high ground."""
    path = folder / f"ESACCI-GHG-L2-{gas[1:].upper()}-GOSAT-OCPR-20230713-fv7.2.nc"
    ground = 1890.0 if gas == "xch4" else 415.0
    profiles = {
        "pressure_weight": GOSAT["weight"],
        f"{gas}_averaging_kernel": GOSAT["kernel"],
        f"{gas[1:]}_profile_apriori": [np.array(GOSAT["prior"]) * ground] * 4,
    }
    with _soundings(path, gas, GOSAT["pressure_levels"], profiles, "level_dim") as dataset:
        put(dataset, "retr_flag", ("sounding_dim",), [0, 0, 1, 0], "i1")
        put(dataset, "gain", ("sounding_dim",), [1, 1, 0, 1], "i1")
        put(dataset, "surface_altitude", ("sounding_dim",), [1000.0, 4300.0, 0.0, 1200.0])
    return path


def write_l2(folder: Path, *without: str, results: str = "product_co2proxy") -> Path:
    """Three lines of two pixels of MethaneSAT, the last one bad, seen in 32 s; without some variables."""
    path = folder / "MethaneSAT_L2_post_20240911T203025_20240911T203057.nc"
    shape, two = (3, 2), ("along_track", "across_track")
    y, x = np.mgrid[:3, :2]

    def _put(holder: Any, name: str, *values: Any, **attributes: Any) -> None:
        if name not in without:
            put(holder, name, *values, **attributes)

    with netCDF4.Dataset(path, "w") as dataset:
        dataset.setncatts({"time_coverage_start": "2024-09-11T20:30:25Z", "time_coverage_end": "2024-09-11T20:30:57Z"})
        for name, size in (("along_track", 3), ("across_track", 2), ("level", 19), ("corner", 4)):
            dataset.createDimension(name, size)
        names = ("geolocation", results, "co2proxy_fit_diagnostics", "apriori_data")
        place, product, diagnostics, prior = (dataset.createGroup(name) for name in names)
        lon, lat = -112.0 + 0.0013 * x, 40.5 + 0.0036 * y
        sides = {"longitude": (lon, 0.0013 * np.array([-0.5, 0.5, 0.5, -0.5]))}
        sides["latitude"] = (lat, 0.0036 * np.array([-0.5, -0.5, 0.5, 0.5]))
        for name, (middle, corners) in sides.items():
            _put(place, name, two, middle, "f8")
            _put(place, f"{name}_bounds", ("corner", *two), middle + corners[:, None, None], "f8")
        _put(place, "terrain_height", two, np.full(shape, 1.3), units="km")
        _put(place, "vza", two, np.full(shape, 21.0))
        _put(place, "vaa", two, np.full(shape, -90.0))
        _put(product, "xch4_co2proxy", two, 1900.0 + y + 10 * x)
        _put(product, "xch4_co2proxy_randerr", two, np.full(shape, 24.0))
        _put(product, "main_quality_flag", two, np.array([[0, 0], [0, 0], [0, 1]]), "i1")
        kernel, profile = L2["kernel"], np.linspace(300.0, 2000.0, 19)
        for holder, name, column in ((diagnostics, "ch4_averaging_kernel", kernel), (prior, "ch4_profile", profile)):
            _put(holder, name, ("level", *two), np.broadcast_to(column[:, None, None], (19, *shape)))
        _put(prior, "surface_pressure", two, 870.0 - y)
        _put(prior, "tropopause_pressure", two, np.full(shape, 110.0))
    return path


def write_l3(folder: Path, *without: str) -> Path:
    """Two rows of three blocks of 22 x 17 cells of MethaneSAT's grid; most of the last block was not seen."""
    path = folder / "MethaneSAT_L3_20240911T203025_20240911T203057.nc"
    lat, lon = 40.5 + 0.0004 * np.arange(44), -112.0 + 0.0007 * np.arange(51)
    shape, two = (len(lat), len(lon)), ("lat", "lon")
    samples = np.full(shape, 1.5)
    samples[23:, 35:] = 0.0
    xch4 = np.where(samples > 0, L3["value"], np.nan)
    with netCDF4.Dataset(path, "w") as dataset:
        dataset.setncatts({"time_coverage_start": "2024-09-11T20:30:25Z", "time_coverage_end": "2024-09-11T20:30:57Z"})
        for name, values in (("lat", lat), ("lon", lon)):
            dataset.createDimension(name, len(values))
            put(dataset, name, (name,), values, "f8")
        put(dataset, "xch4", two, np.ma.masked_invalid(xch4), fill=1e36)
        put(dataset, "num_samples", two, samples, fill=1e36)
        prior, place, diagnostics = (
            dataset.createGroup(name) for name in ("apriori_data", "geolocation", "co2proxy_fit_diagnostics")
        )
        if "surface_pressure" not in without:
            put(prior, "surface_pressure", two, np.full(shape, 850.0), fill=1e36)
        put(prior, "xch4", two, np.full(shape, 1880.0), fill=1e36)
        put(place, "terrain_height", two, np.full(shape, 1.4), fill=1e36, units="km")
        put(diagnostics, "ch4_averaging_kernel_mean", two, np.full(shape, 0.96), fill=1e36)
    return path
