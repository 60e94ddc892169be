"""
Which meteorology does a scene need?

Answered from the receptors alone, before any file is touched: whole hours and a box. `sources` finds the files that
hold them, `aggregate` makes the one file that all pixels of a scene share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from stilt_assets.receptor import Receptor

KM_PER_DEGREE = 111.195  # along a meridian
Box = tuple[float, float, float, float]  # west, south, east, north, degrees; west > east crosses the antimeridian


@dataclass(frozen=True)
class Need:
    """What a scene needs of the meteorology."""

    hours: tuple[datetime, ...]  # UTC, whole, oldest first
    box: Box


def hours_needed(first: datetime, last: datetime, hours_back: int) -> tuple[datetime, ...]:
    """Whole hours that bracket backward runs released between `first` and `last`, oldest first."""
    start = (first - timedelta(hours=hours_back)).replace(minute=0, second=0, microsecond=0)
    whole = last.replace(minute=0, second=0, microsecond=0)
    end = whole if whole == last else whole + timedelta(hours=1)
    return tuple(start + timedelta(hours=hour) for hour in range(round((end - start) / timedelta(hours=1)) + 1))


def box_needed(longitude: Sequence[float], latitude: Sequence[float], hours_back: int, wind: float) -> Box:
    """
    The box that holds all release points and what a wind of `wind` m/s carries there in `hours_back` hours.

    Longitudes are taken the short way round, so that points on both sides of the antimeridian stay together.
    """
    reach = wind * 3.6 * hours_back  # km
    south = max(min(latitude) - reach / KM_PER_DEGREE, -90.0)
    north = min(max(latitude) + reach / KM_PER_DEGREE, 90.0)
    lon = np.unwrap(np.asarray(longitude, dtype=float), period=360.0)
    widest = max(abs(south), abs(north))
    margin = reach / (KM_PER_DEGREE * np.cos(np.radians(widest)))
    if widest == 90.0 or lon.max() - lon.min() + 2 * margin >= 360.0:
        return -180.0, float(south), 180.0, float(north)
    west, east = (float(_wrapped(edge)) for edge in (lon.min() - margin, lon.max() + margin))
    return west, float(south), east, float(north)


def _wrapped(lon: float) -> float:
    return (lon + 180.0) % 360.0 - 180.0


def need_of(receptors: Sequence[Receptor], hours_back: int, wind: float) -> Need:
    """What a scene of these receptors needs."""
    times = [receptor.time for receptor in receptors]
    box = box_needed([r.longitude for r in receptors], [r.latitude for r in receptors], hours_back, wind)
    return Need(hours_needed(min(times), max(times), hours_back), box)
