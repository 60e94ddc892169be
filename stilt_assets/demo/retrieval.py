"""
What did the satellite see over the demo scene?

A made-up methane retrieval in the exact layout of TROPOMI's operational level 2 product (S5P L2 CH4, processor 2.5):
its groups, dimensions, types, fill values, scale factors and units, profiles from the top of the atmosphere down.
NOTHING here is measured: thirty pixels on a tilted swath over the demo's valley, a smooth background, and a plume
downwind of a place where nothing stands. Ground and surface pressure are those of the demo's meteorology. Pixels that
a retrieval would reject keep their qa_value below 0.5; of those with 0, every retrieved value is fill.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import netCDF4
import numpy as np
import numpy.typing as npt

from stilt_assets.demo.meteorology import DAY, EARTH, R_DRY, Columns, Floats, G, plane

NAME = "S5P_DEMO_L2__CH4____20230715T203000_20230715T203100_00001_03_000000_20230716T000000.nc"
START = datetime(2023, 7, 15, 20, 30)  # UTC, of the first scanline
EPOCH = datetime(2010, 1, 1)  # UTC, of the product's `time`
SCAN_STEP = timedelta(milliseconds=840)

SCANLINES, GROUND_PIXELS, LAYERS = 5, 6, 12
FIRST_LON, FIRST_LAT = -112.09, 40.47  # degrees, pixel (0, 0)
ALONG_TRACK = (-0.015, 0.049)  # degrees east, north per scanline: 5.6 km
ACROSS_TRACK = (0.083, 0.0133)  # degrees east, north per ground pixel: 7.2 km
CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))  # in pixels along and across, counter-clockwise
EMPTY, DOUBTFUL = ((0, 5), (3, 1)), ((2, 4), (4, 2))  # scanline, ground pixel with qa 0; with qa 0.4

MOLAR_MASS = 0.02896  # kg mol-1, dry air
MODEL_TOP = 62900.0  # m above sea level, the product's height for pressure 0
WARMTH, LAPSE = 296.0, 6.5e-3  # K at the ground, K m-1: heights of the pressure levels
BACKGROUND, NORTHWARD = 1890.0, 6.0  # ppb, ppb per degree
SOURCE_LON, SOURCE_LAT, STRENGTH = -112.0, 40.56, 90.0  # degrees; ppb km, the plume integrated across
PLUME_HEIGHT = 500.0  # m above ground, where the wind carries the plume
UNCORRECTED = 1.004  # column before over column after the bias correction
PRECISION = 1.5  # ppb

PIXEL = ("time", "scanline", "ground_pixel")
LINE = ("time", "scanline")
IN_PRODUCT, IN_SUPPORT = "longitude latitude", "/PRODUCT/longitude /PRODUCT/latitude"
GEOLOCATIONS = "PRODUCT/SUPPORT_DATA/GEOLOCATIONS"
DETAILED_RESULTS = "PRODUCT/SUPPORT_DATA/DETAILED_RESULTS"
INPUT_DATA = "PRODUCT/SUPPORT_DATA/INPUT_DATA"
METADATA = (
    *("QA_STATISTICS", "ALGORITHM_SETTINGS", "GRANULE_DESCRIPTION"),
    *("ISO_METADATA", "EOP_METADATA", "ESA_METADATA"),
)
FILL = {"i4": np.int32(-2147483647), "f4": np.float32(9.96921e36), "u1": np.uint8(255)}

METHANE = "dry_atmosphere_mole_fraction_of_methane"
MOLECULES = {"multiplication_factor_to_convert_to_molecules_percm2": np.float32(6.022141e19)}
DEGREES = {"units": "degree", "valid_max": np.float32(180.0), "coordinates": IN_SUPPORT}
ZENITH, AZIMUTH = DEGREES | {"valid_min": np.float32(0.0)}, DEGREES | {"valid_min": np.float32(-180.0)}
QUALITY = {
    **{"units": "1", "scale_factor": np.float32(0.01), "add_offset": np.float32(0.0)},
    **{"valid_min": np.uint8(0), "valid_max": np.uint8(100), "coordinates": IN_PRODUCT},
}
COVER = {"flag_masks": np.array([3, 249], "u1"), "flag_values": np.array([0, 64], "u1")}


@dataclass(frozen=True)
class Layout:
    """Where and how the product keeps one variable, in the order of the file."""

    group: str
    name: str
    dtype: str
    dimensions: tuple[str, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)


def product_layout() -> Iterator[Layout]:
    """Coordinates and results."""
    one, ppb = {"units": "1"}, {"units": "1e-9", "coordinates": IN_PRODUCT}
    yield Layout("PRODUCT", "scanline", "i4", ("scanline",), one | {"axis": "Y"})
    yield Layout("PRODUCT", "ground_pixel", "i4", ("ground_pixel",), one | {"axis": "X"})
    yield Layout("PRODUCT", "time", "i4", ("time",), {"units": f"seconds since {EPOCH}", "axis": "T"})
    yield Layout("PRODUCT", "corner", "i4", ("corner",), one)
    yield Layout("PRODUCT", "layer", "i4", ("layer",), {"axis": "Z", "positive": "down"})
    yield Layout("PRODUCT", "level", "i4", ("level",), {"axis": "Z", "positive": "down"})
    yield Layout("PRODUCT", "delta_time", "i4", LINE, {"units": f"milliseconds since {DAY}"})
    yield Layout("PRODUCT", "time_utc", "str", LINE)
    yield Layout("PRODUCT", "qa_value", "u1", PIXEL, QUALITY)
    for name, units, most in (("latitude", "degrees_north", 90.0), ("longitude", "degrees_east", 180.0)):
        limits = {"valid_min": np.float32(-most), "valid_max": np.float32(most)}
        bounds = {"bounds": f"/{GEOLOCATIONS}/{name}_bounds"}
        yield Layout("PRODUCT", name, "f4", PIXEL, {"units": units, "standard_name": name} | limits | bounds)
    yield Layout("PRODUCT", "methane_mixing_ratio", "f4", PIXEL, ppb | {"standard_name": METHANE})
    error = {"standard_name": f"{METHANE} standard_error"}
    yield Layout("PRODUCT", "methane_mixing_ratio_precision", "f4", PIXEL, ppb | error)
    yield Layout("PRODUCT", "methane_mixing_ratio_bias_corrected", "f4", PIXEL, ppb | {"standard_name": METHANE})


def support_layout() -> Iterator[Layout]:
    """Angles, kernels and what the retrieval started from."""
    for body in ("solar", "viewing"):
        yield Layout(GEOLOCATIONS, f"{body}_zenith_angle", "f4", PIXEL, ZENITH)
        yield Layout(GEOLOCATIONS, f"{body}_azimuth_angle", "f4", PIXEL, AZIMUTH)
    yield Layout(GEOLOCATIONS, "latitude_bounds", "f4", (*PIXEL, "corner"))
    yield Layout(GEOLOCATIONS, "longitude_bounds", "f4", (*PIXEL, "corner"))
    places, layers = {"coordinates": IN_SUPPORT}, (*PIXEL, "layer")
    yield Layout(DETAILED_RESULTS, "column_averaging_kernel", "f4", layers, places | {"units": "1"})
    yield Layout(INPUT_DATA, "surface_altitude", "f4", PIXEL, places | {"units": "m"})
    cover = places | COVER | {"flag_meanings": "land land+shrubland"}
    yield Layout(INPUT_DATA, "surface_classification", "u1", PIXEL, cover)
    yield Layout(INPUT_DATA, "methane_profile_apriori", "f4", layers, places | MOLECULES | {"units": "mol m-2"})
    yield Layout(INPUT_DATA, "altitude_levels", "f4", (*PIXEL, "level"), places | {"units": "m"})
    yield Layout(INPUT_DATA, "dry_air_subcolumns", "f4", layers, places | MOLECULES | {"units": "mol m-2"})
    yield Layout(INPUT_DATA, "surface_pressure", "f4", PIXEL, places | {"units": "Pa"})
    yield Layout(INPUT_DATA, "pressure_interval", "f4", PIXEL, places | {"units": "Pa"})


def place(along: npt.ArrayLike, across: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Longitude and latitude, degrees, of fractional scanlines and ground pixels."""
    y, x = np.asarray(along, float), np.asarray(across, float)
    lon = FIRST_LON + ALONG_TRACK[0] * y + ACROSS_TRACK[0] * x
    return lon, FIRST_LAT + ALONG_TRACK[1] * y + ACROSS_TRACK[1] * x


def sun(lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """Zenith angle and azimuth of the sun at `START`, degrees, azimuth clockwise from north in -180..180."""
    day = START.timetuple().tm_yday
    tilt = np.radians(23.44) * np.sin(2 * np.pi * (day - 81) / 365)
    angle = np.radians(15 * (START.hour + START.minute / 60 - 12) + lon)
    north, high = np.radians(lat), np.sin(tilt)
    zenith = np.arccos(np.sin(north) * high + np.cos(north) * np.cos(tilt) * np.cos(angle))
    east = -np.sin(angle) * np.cos(tilt)
    azimuth = np.arctan2(east, high * np.cos(north) - np.cos(tilt) * np.sin(north) * np.cos(angle))
    return np.degrees(zenith), np.degrees(azimuth)


def enhancement(lon: Floats, lat: Floats) -> Floats:
    """Methane that the made-up plume adds to the column, ppb: a widening ribbon downwind of its source."""
    source = Columns(np.array(SOURCE_LON), np.array(SOURCE_LAT), START.hour + START.minute / 60)
    east, north = source.wind(PLUME_HEIGHT) / np.hypot(*source.wind(PLUME_HEIGHT))
    x, y = np.subtract(plane(lon, lat), np.reshape(plane(SOURCE_LON, SOURCE_LAT), (2, *(1,) * lon.ndim))) / 1e3
    along, across = x * east + y * north, y * east - x * north
    width = 3.0 + 0.15 * np.maximum(along, 0.0)
    begins = 0.5 * (1 + np.tanh(along / 3.0))
    return begins * STRENGTH / (width * np.sqrt(2 * np.pi)) * np.exp(-((across / width) ** 2) / 2)


def profiles(pressure: Floats, ground: Floats) -> dict[str, Floats]:
    """What the retrieval knows of each layer, top first, from surface pressure in Pa and ground height in m."""
    interval = pressure[..., None] / LAYERS
    levels = interval * np.arange(LAYERS + 1)  # Pa
    middle = (levels[..., 1:] + levels[..., :-1]) / 200.0  # hPa
    share = np.maximum(levels[..., 1:], 1.0) / pressure[..., None]
    heights = ground[..., None] + WARMTH / LAPSE * (1 - share ** (R_DRY * LAPSE / G))  # of the layers' lower edges
    air = interval / (G * (1 - 2 * heights / EARTH) * MOLAR_MASS)
    return {
        "column_averaging_kernel": 1.065 - 0.48 * np.exp(-middle / 112.0),
        "dry_air_subcolumns": air,
        "methane_profile_apriori": air * (1940.0 + 0.03 * middle) * 1e-9 * (1 - 0.9 * np.exp(-middle / 36.0)),
        "altitude_levels": np.concatenate([np.full_like(heights[..., :1], MODEL_TOP), heights], axis=-1),
        "pressure_interval": interval[..., 0],
    }


def retrieved(lon: Floats, lat: Floats) -> dict[str, Floats]:
    """Everything on pixels `(scanline, ground_pixel, ...)`, in the product's units; before any is rejected."""
    air = Columns(lon, lat, START.hour + START.minute / 60)
    column = BACKGROUND + NORTHWARD * (lat - FIRST_LAT) + enhancement(lon, lat)
    zenith, azimuth = sun(lon, lat)
    across = np.broadcast_to(np.arange(GROUND_PIXELS, dtype=np.float64), lon.shape)
    return {
        "latitude": lat,
        "longitude": lon,
        "methane_mixing_ratio": column * UNCORRECTED,
        "methane_mixing_ratio_precision": np.full(lon.shape, PRECISION),
        "methane_mixing_ratio_bias_corrected": column,
        "solar_zenith_angle": zenith,
        "solar_azimuth_angle": azimuth,
        "viewing_zenith_angle": 12.0 + 0.56 * across,
        "viewing_azimuth_angle": -97.0 - 0.1 * across,
        "surface_altitude": air.ground,
        "surface_classification": np.full(lon.shape, 64.0),
        "surface_pressure": 100.0 * air.surface_pressure,
        **profiles(100.0 * air.surface_pressure, air.ground),
    }


def reject(pixels: dict[str, Floats]) -> dict[str, npt.NDArray[np.generic]]:
    """The same pixels as masked arrays with their `qa_value`: without retrieved values where that is 0."""
    quality = np.ones(pixels["longitude"].shape)
    for qa, places in ((0.0, EMPTY), (0.4, DOUBTFUL)):
        quality[tuple(zip(*places, strict=True))] = qa
    kept = {"latitude", "longitude", "surface_altitude", "surface_classification", "altitude_levels"}
    kept |= {name for name in pixels if name.endswith("_angle")}
    made: dict[str, npt.NDArray[np.generic]] = {"qa_value": quality}
    for name, value in pixels.items():
        empty = (quality == 0.0).reshape(quality.shape + (1,) * (value.ndim - 2))
        made[name] = value if name in kept else np.ma.array(value, mask=np.broadcast_to(empty, value.shape))
    return made


def coordinates() -> dict[str, npt.NDArray[np.generic]]:
    """Indices, times and pixel corners."""
    sizes = {"scanline": SCANLINES, "ground_pixel": GROUND_PIXELS, "corner": 4, "layer": LAYERS, "level": LAYERS + 1}
    times = [START + SCAN_STEP * line for line in range(SCANLINES)]
    along, across = np.mgrid[:SCANLINES, :GROUND_PIXELS][..., None] + np.reshape(np.transpose(CORNERS), (2, 1, 1, 4))
    lon, lat = place(along, across)
    return {
        **{name: np.arange(size) for name, size in sizes.items()},
        "time": np.array((DAY - EPOCH) // timedelta(seconds=1)),
        "delta_time": np.array([(time - DAY) // timedelta(milliseconds=1) for time in times]),
        "time_utc": np.array([f"{time:%Y-%m-%dT%H:%M:%S.%f}Z" for time in times], dtype=object),
        "longitude_bounds": lon,
        "latitude_bounds": lat,
    }


def attributes() -> dict[str, object]:
    """What the file says of itself."""
    end = START + SCAN_STEP * (SCANLINES - 1)
    return {
        "Conventions": "CF-1.7",
        "title": "Made-up methane in the layout of TROPOMI/S5P Methane 1-Orbit L2 Swath",
        "summary": "MADE UP: formulas, not measurements. Not for science use.",
        "source": "stilt_assets.demo, no satellite",
        "id": NAME.removesuffix(".nc"),
        "time_reference": f"{DAY:%Y-%m-%dT%H:%M:%SZ}",
        "time_coverage_start": f"{START:%Y-%m-%dT%H:%M:%SZ}",
        "time_coverage_end": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "orbit": np.int32(1),
        "platform": "S5P",
        "sensor": "TROPOMI",
        "processing_status": "Made up",
    }


def write_retrieval(folder: Path) -> Path:
    """Write the made-up retrieval into a folder under its product name; the same bytes from the same libraries."""
    path = folder / NAME
    values = coordinates() | reject(retrieved(*place(*np.mgrid[:SCANLINES, :GROUND_PIXELS])))
    sizes = {"scanline": SCANLINES, "ground_pixel": GROUND_PIXELS, "corner": 4, "time": 1}
    with netCDF4.Dataset(path, "w", format="NETCDF4") as file:
        file.setncatts(attributes())
        product = file.createGroup("PRODUCT")
        for name, size in (sizes | {"layer": LAYERS, "level": LAYERS + 1}).items():
            product.createDimension(name, size)
        for each in (*product_layout(), *support_layout()):
            text = each.dtype == "str"
            packed = {} if text else {"zlib": True, "complevel": 4, "fill_value": FILL[each.dtype]}
            kind = str if text else each.dtype
            made = file.createGroup(each.group).createVariable(each.name, kind, each.dimensions, **packed)
            made.setncatts(dict(each.attributes))
            made[...] = values[each.name].reshape(made.shape)
        for name in METADATA:
            file.createGroup(f"METADATA/{name}")
    return path
