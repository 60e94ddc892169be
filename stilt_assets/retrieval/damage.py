"""
What does no intact file hold?

Compressed values carry a checksum, the tables that lead to them and texts do not. So values must be possible, and
what a file says twice must agree: the place of a pixel and its corners, its air and its pressure, its time and its
scanline's. Limits are wide: they stand between what a retrieval may find and what only a damaged file says.
"""

import numpy as np
import pandas as pd

from stilt_assets.errors import RetrievalError

# name: lowest, highest, unit
_LIMITS = {
    "surface_pressure": (300.0, 1_100.0, "hPa"),
    "surface_altitude": (-500.0, 9_000.0, "m"),
    "zenith": (0.0, 90.0, "degrees"),
    "azimuth": (0.0, 360.0, "degrees"),
    "qa": (0.0, 1.0, ""),
    "ak": (-5.0, 10.0, ""),
    "layer_weight": (0.0, 1.0, ""),
    "latitude_bounds": (-90.0, 90.0, "degrees"),
    "longitude_bounds": (-180.0, 180.0, "degrees"),
}
_OF_A_GAS = {
    "ppb": {"value": (500.0, 10_000.0), "uncertainty": (0.0, 1_000.0), "apriori": (0.0, 10_000.0)},
    "ppm": {"value": (200.0, 1_000.0), "uncertainty": (0.0, 100.0), "apriori": (0.0, 1_000.0)},
}
_TOP = 1.0  # hPa, the pressure at the top of the last layer at most
_AIR = 0.05  # share by which a column's dry air and its surface pressure may differ
_G, _MOLAR_MASS = 9.80665, 0.0289652  # m s-2; kg mol-1, dry air
_OFF_CENTRE = 0.25  # of a pixel's extent, between its place and the mean of its corners
_NEAR_A_POLE = 85.0  # degrees north or south, beyond which the mean of longitudes says nothing
_CLOCKS = np.timedelta64(5, "ms")


def refuse_holes(reason: pd.Series, name: str) -> None:
    """RetrievalError if most good pixels lack something: a lost part of the file reads as fill values."""
    good = ~reason.isin(["low_quality", "coastal"])
    lacking = reason.isin(["no_value", "no_kernel"])
    if lacking.sum() > good.sum() / 2:
        raise RetrievalError(f"{name} is damaged: {lacking.sum()} of {good.sum()} good pixels lack a value or a kernel")


def refuse_impossible(pixels: pd.DataFrame, name: str) -> None:
    """RetrievalError if a pixel says what cannot be or contradicts itself."""
    if not len(pixels):
        return
    unit_of_all = str(pixels["units"].iloc[0])
    limits = {name: (*ends, unit_of_all) for name, ends in _OF_A_GAS[unit_of_all].items()} | _LIMITS
    for column, (low, high, unit) in limits.items():
        if column not in pixels:  # of those that a product may lack
            continue
        values = _rows(pixels, column)
        wrong = ~((values >= low) & (values <= high))
        if wrong.any():
            found = f"{values[wrong][0]:g} {unit}".rstrip()
            raise RetrievalError(f"{name} is damaged: {column} {found} of {_first(pixels, wrong)} cannot be")
    for what, wrong in _contradictions(pixels).items():
        if wrong.any():
            raise RetrievalError(f"{name} is damaged: {what} of {_first(pixels, wrong)} contradict each other")


def refuse_lost_places(good: np.ndarray, latitude: np.ndarray, longitude: np.ndarray) -> None:
    """ValueError if a good pixel has no place."""
    lost = good & ~(np.isfinite(latitude) & np.isfinite(longitude))
    if lost.any():
        raise ValueError(f"{lost.sum()} good pixel(s) have no latitude or longitude")


def refuse_unordered(values: np.ndarray, what: str) -> None:
    """ValueError unless values rise from each to the next."""
    if np.ma.is_masked(values) or np.any(np.diff(np.asarray(values)) <= 0):
        raise ValueError(f"{what} does not rise from one to the next")


def refuse_clocks_that_differ(told: np.ndarray, counted: np.ndarray) -> None:
    """ValueError unless two series of times (datetime64) are the same."""
    neither = np.isnat(told) & np.isnat(counted)
    if not np.all(neither | (np.abs(told - counted) <= _CLOCKS)):
        raise ValueError("time_utc and delta_time differ")


def refuse_clock_that_goes_back(told: np.ndarray) -> None:
    """ValueError unless times (datetime64) of successive pixels never fall and last less than an orbit and a bit."""
    if np.isnat(told).any() or np.any(np.diff(told) < np.timedelta64(0)):
        raise ValueError("time_utc goes back from one pixel to the next")
    if len(told) and told[-1] - told[0] > np.timedelta64(3, "h"):
        raise ValueError("time_utc lasts longer than an orbit")


def _rows(pixels: pd.DataFrame, column: str) -> np.ndarray:
    """A column as floats: (pixel, 1), or (pixel, level) of arrays."""
    values = list(pixels[column])
    stacked = np.stack(values) if isinstance(values[0], np.ndarray) else np.asarray(values)[:, None]
    return stacked.astype(float)


def _first(pixels: pd.DataFrame, wrong: np.ndarray) -> str:
    return f"pixel {pixels['sounding_id'].iloc[int(np.argmax(wrong.reshape(len(pixels), -1).any(axis=1)))]}"


def _contradictions(pixels: pd.DataFrame) -> dict[str, np.ndarray]:
    """For each pair of facts, which pixels (pixel,) they contradict each other of."""
    levels, middles = _rows(pixels, "pressure_levels"), _rows(pixels, "ak_pressure")
    pressure = pixels["surface_pressure"].to_numpy()
    found = {
        "time and scanline": pixels["time"].isna().to_numpy(),
        "surface pressure and dry air": ~(np.abs(_air(pixels) / pressure - 1.0) <= _AIR),
        "surface pressure and pressure interval": ~(np.abs(levels[:, -1]) <= _TOP),
        "pressure levels": ~(np.all(np.diff(levels) < 0, axis=1) & np.all(np.diff(middles) < 0, axis=1)),
        "place and corners": _off_centre(pixels),
    }
    if "altitude_levels" in pixels:
        heights, ground = _rows(pixels, "altitude_levels"), pixels["surface_altitude"].to_numpy()
        found["surface altitude and altitude levels"] = np.abs(heights[:, 0] - ground) > 1.0
    return found


def _air(pixels: pd.DataFrame) -> np.ndarray:
    """Pressure (pixel,) that a column's dry air makes, hPa; from the sum of its weights if no column is told."""
    if "air" in pixels:
        return pixels["air"].to_numpy() * _MOLAR_MASS * _G / 100.0
    return _rows(pixels, "layer_weight").sum(axis=1) * pixels["surface_pressure"].to_numpy()


def _off_centre(pixels: pd.DataFrame) -> np.ndarray:
    lat, lon = pixels["latitude"].to_numpy(), pixels["longitude"].to_numpy()
    north = _rows(pixels, "latitude_bounds") - lat[:, None]
    east = (_rows(pixels, "longitude_bounds") - lon[:, None] + 180.0) % 360.0 - 180.0
    off_north, off_east = (
        np.abs(corners.mean(axis=1)) > _OFF_CENTRE * (corners.max(axis=1) - corners.min(axis=1))
        for corners in (north, east)
    )
    return (off_north | off_east) & (np.abs(lat) < _NEAR_A_POLE)
