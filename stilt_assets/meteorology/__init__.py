"""
Which meteorology does a scene need?

Answered from the receptors alone, before any file is touched: whole hours, and where and how high particles start.
`sources` finds the files that hold the hours, `rule` says which of their cells and levels it takes, `aggregate` makes
the one file that all pixels of a scene share, and `proof` asks the particles whether that was enough.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

KM_PER_DEGREE = 111.195  # along a meridian
SIDES = ("west", "south", "east", "north")  # of a grid: the first column, first row, last column, last row
Box = tuple[float, float, float, float]  # west, south, east, north, degrees; west > east crosses the antimeridian


@dataclass(frozen=True)
class Need:
    """What a scene needs of the meteorology, and what the rule may not find out by itself."""

    hours: tuple[datetime, ...]  # UTC, whole, oldest first
    box: Box  # of the release points
    top: float  # m above ground, the highest release
    hours_back: int
    wind: float | None = None  # m s-1 in all directions; the files' own if None
    widened: bool = False  # twice the reach and all levels: the crop of the rule was too small


def hours_needed(first: datetime, last: datetime, hours_back: int) -> tuple[datetime, ...]:
    """Whole hours that bracket backward runs released between `first` and `last`, oldest first."""
    start = (first - timedelta(hours=hours_back)).replace(minute=0, second=0, microsecond=0)
    whole = last.replace(minute=0, second=0, microsecond=0)
    end = whole if whole == last else whole + timedelta(hours=1)
    return tuple(start + timedelta(hours=hour) for hour in range(round((end - start) / timedelta(hours=1)) + 1))


def box_of(longitude: npt.ArrayLike, latitude: npt.ArrayLike) -> Box:
    """
    The box that holds all points, to a millionth of a degree.

    Longitudes are taken the short way round, so that points on both sides of the antimeridian stay together.
    """
    lon = np.unwrap(np.asarray(longitude, dtype=float), period=360.0)
    south, north = (round(float(edge(latitude)), 6) for edge in (np.min, np.max))
    if lon.max() - lon.min() >= 360.0:
        return -180.0, south, 180.0, north
    west, east = (round((float(edge) + 180.0) % 360.0 - 180.0, 6) for edge in (lon.min(), lon.max()))
    return west, south, east, north


def need_of(receptors: pa.Table, hours_back: int, *, wind: float | None = None, widened: bool = False) -> Need:
    """What a scene of these receptors, the rows of `receptors.parquet`, needs."""
    (edges,) = receptors.group_by([]).aggregate([("time", "min"), ("time", "max"), ("top", "max")]).to_pylist()
    return Need(
        hours=hours_needed(edges["time_min"], edges["time_max"], hours_back),
        box=box_of(receptors["longitude"], receptors["latitude"]),
        top=edges["top_max"],
        hours_back=hours_back,
        wind=wind,
        widened=widened,
    )
