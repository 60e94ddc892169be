"""
What is noted of a receptor's particles, minute by minute, while they fly?

Rows in fixed point, with the near-field correction in them: those of all particles if they are kept, otherwise only
those that touched the ground's air, which are all that gridding needs. And, for every particle, its last row and
whether it came near an end of the meteorology.
"""

from math import exp, inf, sqrt
from typing import Any, NamedTuple

import numpy as np

from stilt_assets.meteorology.proof import Edges
from stilt_assets.meteorology.rule import ENDS_BEFORE, NEAR
from stilt_assets.particles import STEPS
from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.gridding import (
    Floats,
    Integers,
    Longs,
    Rows,
    Shorts,
    Singles,
    Spread,
    no_spread,
    note_spread,
)

EXTRA = ("foot_no_hnf_dilution", "mlht", "dens", "samt", "sigw", "tlgr")
_KEPT = {"endpoints": 0, "core": 1, "full": 2}
_MOLAR_MASS = 0.02897  # kg mol-1, of PYSTILT's near-field correction
_SURFACE_SHARE = 0.5  # of the mixed layer, `veght`
_LON, _LAT, _PRESSURE = (float(STEPS[name]) for name in ("lon", "lat", "pressure"))


class Ends(NamedTuple):
    """Where the meteorology ends, in its own columns and rows."""

    low_x: float  # a particle at a smaller x came near the western side
    low_y: float
    high_x: float  # or at a larger
    high_y: float
    felt_from: Singles  # (y, x) m above ground, where the lid is felt; (0, 0) if not known


UNBOUNDED = Ends(-inf, -inf, inf, inf, np.zeros((0, 0), "f4"))


class Log(NamedTuple):
    """What is noted. Arrays of rows are longer than what is in them."""

    kept: int  # 0: rows of influence; 1: all rows; 2: and their EXTRA
    turn: bool  # whether the grid crosses the antimeridian
    start: Longs  # (minutes + 1,) as `Rows`
    particle: Shorts  # (row,)
    lon: Integers
    lat: Integers
    foot: Singles
    zagl: Shorts  # (row,) steps; empty unless all rows are kept
    pressure: Shorts
    extra: Singles  # (row, EXTRA); empty unless they are kept
    spread: Spread
    there: Integers  # (2, particle) lon, lat of those that still fly
    plume: Floats  # (particle,) height that its influence is mixed to, m
    last_age: Shorts  # (particle,) min, 0 before its first row
    last_lon: Integers
    last_lat: Integers
    last_zagl: Shorts
    last_pressure: Shorts
    near: Any  # (particle,) int8: came near a side
    high: Any  # (particle,) int8: felt the lid


def ends_of(edges: Edges) -> Ends:
    """The same as arrays and numbers that compiled code reads."""
    grid = edges.grid
    west, south, east, north = (float(ENDS_BEFORE[side] + NEAR) if cut else -inf for side, cut in enumerate(edges.cut))
    felt = np.zeros((0, 0), "f4") if edges.felt_from is None else edges.felt_from.astype("f4")
    return Ends(west, south, grid.nx - 1.0 - east, grid.ny - 1.0 - north, felt)


def new_log(release_heights: Floats, minutes: int, keep: str, *, turn: bool) -> Log:
    """A log of so many minutes in which nothing is noted yet; `release_heights` (particle,) m above ground."""
    count = len(release_heights)
    last = [np.zeros(count, kind) for kind in ("i2", "i4", "i4", "i2", "i2", "i1", "i1")]
    names = ("particle", "lon", "lat", "foot", "zagl", "pressure")
    rows = [np.empty(0, kind) for kind in ("i2", "i4", "i4", "f4", "i2", "i2")]
    return Log(
        _KEPT[keep],
        turn,
        np.zeros(minutes + 1, "i8"),
        **dict(zip(names, rows, strict=True)),
        extra=np.empty((0, len(EXTRA)), "f4"),
        spread=no_spread(minutes),
        there=np.empty((2, count), "i4"),
        plume=release_heights.astype("f8"),
        **dict(zip(Log._fields[-7:], last, strict=True)),
    )


def with_room(log: Log, minute: int, more: int) -> Log:
    """The log, with room for `more` minutes after `minute`."""
    used, needed = int(log.start[minute]), int(log.start[minute]) + more * len(log.plume)
    names = ["particle", "lon", "lat", "foot", *(("zagl", "pressure") if log.kept else ())]
    names += ["extra"] if log.kept > 1 else []
    if needed <= len(log.particle):
        return log
    return log._replace(**{name: _longer(getattr(log, name), used, max(needed, 2 * used)) for name in names})


def _longer(values: np.ndarray, used: int, size: int) -> np.ndarray:
    longer = np.empty((size, *values.shape[1:]), values.dtype)
    longer[:used] = values[:used]
    return longer


@compiled
def note_minute(minute: int, flight: Any, ends: Ends, log: Log) -> None:
    """Note a minute, counted from 1, after which `flight` shows its particles; for each only up to its last."""
    row, there = log.start[minute - 1], 0
    for i in range(len(flight.flies)):
        if flight.flies[i] != 1:
            continue
        lon = np.int32(np.rint(flight.lon[i] * _LON))
        lat = np.int32(np.rint(flight.lat[i] * _LAT))
        log.there[0, there], log.there[1, there] = lon, lat
        there += 1
        log.last_age[i], log.last_lon[i], log.last_lat[i] = -minute, lon, lat
        log.last_zagl[i] = np.int16(np.rint(flight.zagl[i]))
        log.last_pressure[i] = np.int16(np.rint(flight.pres[i] * _PRESSURE))
        _note_ends(i, flight, ends, log)
        foot = _corrected(minute, i, flight, log)
        if log.kept or foot > 0.0:
            log.particle[row], log.lon[row], log.lat[row], log.foot[row] = i + 1, lon, lat, foot
            _note_more(row, i, flight, log)
            row += 1
    log.start[minute] = row
    note_spread(log.spread, minute, log.there[0, :there], log.there[1, :there], log.turn)


@compiled
def _note_ends(i: int, flight: Any, ends: Ends, log: Log) -> None:
    x, y = flight.x[i], flight.y[i]
    if not (ends.low_x <= x <= ends.high_x and ends.low_y <= y <= ends.high_y):
        log.near[i] = 1
    if len(ends.felt_from):
        row = min(max(int(np.rint(y)), 0), ends.felt_from.shape[0] - 1)
        column = min(max(int(np.rint(x)), 0), ends.felt_from.shape[1] - 1)
        if flight.zagl[i] > ends.felt_from[row, column]:
            log.high[i] = 1


@compiled
def _note_more(row: int, i: int, flight: Any, log: Log) -> None:
    if log.kept:
        log.zagl[row], log.pressure[row] = log.last_zagl[i], log.last_pressure[i]
    if log.kept > 1:
        log.extra[row, 0], log.extra[row, 1], log.extra[row, 2] = flight.foot[i], flight.mlht[i], flight.dens[i]
        log.extra[row, 3], log.extra[row, 4], log.extra[row, 5] = flight.samt[i], flight.sigw[i], flight.tlgr[i]


@compiled
def _corrected(minute: int, i: int, flight: Any, log: Log) -> float:
    """
    A particle's `foot`, diluted in no more air than its plume has reached (STILT-R's `calc_plume_dilution`).

    The plume grows from the release height with the turbulence that the particle meets near the ground.
    """
    samt, scale = flight.samt[i], flight.tlgr[i]
    if samt == 0.0:
        return flight.foot[i]
    seconds = 60.0 * minute
    way = scale * seconds + scale * scale * exp(-seconds / scale) - 1.0
    log.plume[i] += samt * sqrt(2.0) * flight.sigw[i] * sqrt(way)
    if log.plume[i] < _SURFACE_SHARE * flight.mlht[i]:
        return _MOLAR_MASS / (log.plume[i] * flight.dens[i]) * samt * 60.0
    return flight.foot[i]


# ---- what is made of it


def rows_of(log: Log) -> Rows:
    """The rows that gridding takes."""
    end = int(log.start[-1])
    return Rows(log.start, log.particle[:end], log.lon[:end], log.lat[:end], log.foot[:end])


def kept_of(log: Log) -> dict[str, np.ndarray]:
    """All rows in the form in which particles are kept, if they are: by hour back, particle and age."""
    age, order = _by_particle(log.start, log.particle[: int(log.start[-1])], len(log.plume))
    columns = {"particle": log.particle, "age": age, "lon": log.lon, "lat": log.lat, "zagl": log.zagl}
    columns |= {"pressure": log.pressure, "foot": log.foot}
    kept = {name: values[order] for name, values in columns.items()}
    return kept | {name: log.extra[order, k] for k, name in enumerate(EXTRA)} if log.kept > 1 else kept


@compiled(allocates=True)
def _by_particle(start: Longs, particle: Shorts, count: int) -> tuple[Shorts, Longs]:
    """Ages of rows that come by minute and particle, and their order by hour, particle and minute."""
    age, order = np.empty(len(particle), np.int16), np.empty(len(particle), np.int64)
    minutes = len(start) - 1
    for first in range(0, minutes, 60):
        last = min(first + 60, minutes)
        free = np.zeros(count + 1, np.int64)
        for row in range(start[first], start[last]):
            free[particle[row]] += 1
        free[0] = start[first]
        for each in range(1, count + 1):
            free[each] += free[each - 1]
        for minute in range(first, last):
            for row in range(start[minute], start[minute + 1]):
                age[row] = -minute - 1
                order[free[particle[row] - 1]] = row
                free[particle[row] - 1] += 1
    return age, order


def last_rows(log: Log) -> dict[str, np.ndarray]:
    """Each particle's last row in fixed point: arrays (particle,)."""
    number = np.arange(1, len(log.plume) + 1, dtype="i2")
    names = ("age", "lon", "lat", "zagl", "pressure")
    return {"particle": number} | {name: getattr(log, f"last_{name}") for name in names}
