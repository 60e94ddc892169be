"""
Can these particles be?

Questions to particles that a model wrote, before anything is made of them: each is a number, was released where it
should be, goes on minute by minute and moves no faster than air does.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stilt_assets.errors import TransportError
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Simulation

_KM_PER_DEGREE = 111.2
_FASTEST = 30.0  # km a minute, 500 m/s: no wind on Earth does that
_ASTRAY = 1000.0  # m that a particle may rise or sink in its first minute, its slab aside
_RANGES = {"lon": (-180.0, 360.0), "lat": (-90.0, 90.0), "zagl": (-1.0, 50_000.0), "pres": (1.0, 1200.0)}
_EDGE = 2.0  # cells


def check_numbers(particles: pd.DataFrame) -> None:
    """TransportError `unreadable_particles` unless all are finite, in range, and no `foot` is negative."""
    values = particles.to_numpy()
    if not np.isfinite(values).all():
        name = particles.columns[~np.isfinite(values).all(axis=0)][0]
        raise _cannot_be(f"`{name}` is not a number everywhere")
    for name, (low, high) in _RANGES.items():
        if name in particles and not particles[name].between(low, high).all():
            raise _cannot_be(f"`{name}` from {particles[name].min():g} to {particles[name].max():g}")
    if (particles["foot"] < 0).any():
        raise _cannot_be(f"`foot` down to {particles['foot'].min():g}")


def check_ways(particles: pd.DataFrame, receptor: Receptor, simulation: Simulation) -> None:
    """
    TransportError `unreadable_particles` unless each particle goes its way from the receptor without a gap or a leap.

    All of `simulation.particles`, numbered from 1, with a row for every minute from age -1 to their last.
    """
    count, minutes = simulation.particles, 60 * simulation.hours_back
    number, minute = particles["particle"].to_numpy(), -particles["age"].to_numpy()
    if ((number % 1 != 0) | (number < 1) | (number > count)).any():
        raise _cannot_be(f"a particle's number is not one of 1 to {count}")
    if ((minute % 1 != 0) | (minute < 1) | (minute > minutes)).any():
        raise _cannot_be(f"an age is not a whole minute of 1 to {minutes} back")
    rows = np.bincount(number.astype(int) - 1, minlength=count)
    if (rows == 0).any():
        raise _cannot_be(f"{np.count_nonzero(rows)} of {count} particles have a way")
    order = np.lexsort((minute, number))
    starts = np.cumsum(rows) - rows
    if (minute[order] != np.arange(len(minute)) - np.repeat(starts, rows) + 1).any():
        raise _cannot_be("a particle's minutes are not one after the other")
    lon, lat = particles["lon"].to_numpy()[order], particles["lat"].to_numpy()[order]
    start_lon, start_lat = np.roll(lon, 1), np.roll(lat, 1)
    start_lon[starts], start_lat[starts] = receptor.longitude, receptor.latitude
    way = _km(start_lon, start_lat, lon, lat)
    if way.max() > _FASTEST:
        raise _cannot_be(f"a particle moves {way.max():.0f} km in a minute")
    height = particles["zagl"].to_numpy()[order][starts]
    slab = (receptor.top - receptor.bottom) / count
    astray = np.abs(height - receptor.bottom - (np.arange(count) + 0.5) * slab).max()
    if astray > slab + _ASTRAY:
        raise _cannot_be(f"a particle starts {astray:.0f} m above or below its place")


def left_through_the_edge(particles: pd.DataFrame, meteorology: Path) -> bool:
    """
    Whether all particles ended beside the meteorology's edge, as those do that leave it.

    Beside: within two cells and the longest way of their last minute. False if the meteorology cannot be read.
    """
    import arlmet  # of no use to a run whose particles stay

    try:
        with arlmet.File(meteorology) as file:
            grid = file.grid
    except arlmet.ARLFormatError:
        return False
    last = particles.sort_values(["particle", "age"], ascending=[True, False]).groupby("particle").tail(2)
    lon, lat, number = (last[name].to_numpy() for name in ("lon", "lat", "particle"))
    x, y = (np.asarray(each, dtype=float) for each in grid.fractional_indices(lon, lat))
    goes_on = np.diff(number, prepend=np.nan) == 0
    step = np.hypot(np.diff(x, prepend=x[:1]), np.diff(y, prepend=y[:1]))[goes_on].max(initial=0.0)
    to_the_edge = np.minimum(y, grid.ny - 1 - y)
    if not grid.wraps_lon:
        to_the_edge = np.minimum(to_the_edge, np.minimum(x, grid.nx - 1 - x))
    ends = np.append(np.diff(number) != 0, True)
    return bool((to_the_edge[ends] <= _EDGE + step).all())


def _km(lon: np.ndarray, lat: np.ndarray, other_lon: np.ndarray, other_lat: np.ndarray) -> np.ndarray:
    """Great-circle distance by the haversine, km; stays exact for points that nearly coincide."""
    up, across = np.radians(other_lat - lat) / 2, np.radians(other_lon - lon) / 2
    half = np.sin(up) ** 2 + np.cos(np.radians(lat)) * np.cos(np.radians(other_lat)) * np.sin(across) ** 2
    return 2 * np.degrees(np.arcsin(np.sqrt(np.minimum(half, 1.0)))) * _KM_PER_DEGREE


def _cannot_be(what: str) -> TransportError:
    return TransportError("unreadable_particles", f"these particles cannot be: {what}")
