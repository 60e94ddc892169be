"""
How do rows of particles become cells without a table?

The cells of PYSTILT's `calc_footprint` (which are STILT-R's), made an hour at a time from rows in fixed point, so that
rows which were kept give the same cells as the pass that made them. The grid's lines are PYSTILT's to the last bit: a
position of four decimals often lies on one.
"""

from collections.abc import Mapping
from math import cos, exp, floor, radians, sqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stilt_assets.grid import Cells, Grid
from stilt_assets.particles import STEPS
from stilt_assets.transport.native.compiled import compiled

Shorts = npt.NDArray[np.int16]
Integers = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Box = tuple[int, int, int, int]  # first and last row, first and last column

_STEPS = float(STEPS["lon"])
_TURN = 360 * STEPS["lon"]
_WIDEST = 2**20  # cells from a kernel's middle to its end; only a mean latitude within metres of a pole asks for more
_FAR = -(2**30)  # the cell of a row that reaches none of the grid's


class Rows(NamedTuple):
    """Rows of one receptor's particles, minute by minute, in each by particle; those of no influence may be missing."""

    start: Longs  # (minutes + 1,) the first row of each minute, and the end of the last
    particle: Shorts  # (row,) from 1 on
    lon: Integers  # (row,) in steps, -180 to 180 degrees
    lat: Integers  # (row,) in steps
    foot: Singles  # (row,) ppm m2 s µmol-1, near-field corrected


class Spread(NamedTuple):
    """How far all particles lie from each other, minute by minute: arrays (minutes,)."""

    particles: Longs
    variance: Floats  # of longitudes and of latitudes, summed, degrees2
    latitude: Floats  # mean, degrees


class Lines(NamedTuple):
    """Where cells along one side of a grid begin: cell `i` of the padded side at `start + i * step`, degrees."""

    start: float
    step: float
    pad: int  # cells before the grid's first
    cells: int  # of the grid
    low: float  # rows from here
    high: float  # to below here count
    turn: bool  # whether longitudes are taken from 0 to 360 degrees


def no_spread(minutes: int) -> Spread:
    """The spread of minutes that nothing is known of."""
    return Spread(np.zeros(minutes, np.int64), np.zeros(minutes), np.zeros(minutes))


@compiled
def note_spread(spread: Spread, minute: int, lon: Integers, lat: Integers, turn: bool) -> None:
    """
    Note the spread of the particles at `lon`, `lat` (particle,), in steps, in a minute counted from 1.

    Sums of whole numbers: the same in whatever order particles come.
    """
    count = len(lon)
    spread.particles[minute - 1] = count
    if count == 0:
        return
    middle_lon, middle_lat = lon[0] % _TURN if turn else lon[0], lat[0]
    x = x2 = y = y2 = 0
    for each in range(count):
        east = np.int64((lon[each] % _TURN if turn else lon[each]) - middle_lon)
        north = np.int64(lat[each] - middle_lat)
        x += east
        x2 += east * east
        y += north
        y2 += north * north
    spread.latitude[minute - 1] = (middle_lat + y / count) / _STEPS
    if count > 1:
        squares = (x2 - x * (x / count)) + (y2 - y * (y / count))
        spread.variance[minute - 1] = max(squares, 0.0) / (count - 1) / (_STEPS * _STEPS)


@compiled(allocates=True)
def widths_of(spread: Spread) -> Floats:
    """
    Widths (minutes,) of the smoothing kernel, degrees, for the time since each particle's first row (STILT-R's rule).

    A minute that only one particle is left in has the width of the last that held two.
    """
    widths = np.zeros(len(spread.particles))
    for k in range(len(widths)):
        if spread.particles[k] > 1:
            width = 0.06 * spread.variance[k] ** 0.25 * sqrt(k / 1440.0)
            widths[k] = width / cos(radians(spread.latitude[k]))
        elif k > 0:
            widths[k] = widths[k - 1]
    return widths


def crosses(grid: Grid) -> bool:
    """Whether a grid crosses the antimeridian, so that longitudes are taken from 0 to 360 degrees."""
    return grid.west > grid.east


def gridded(rows: Rows, spread: Spread, omega: Floats, grid: Grid, to_whole_hour: int) -> tuple[Cells, float]:
    """The footprint of rows, as `cells_of`, and the error of its sum, from its halves of odd and even particles."""
    halves = difference_of_halves(rows, omega, grid.west, grid.span, grid.south, grid.north)
    return cells_of(rows, spread, omega, grid, to_whole_hour), abs(halves)


def cells_of(rows: Rows, spread: Spread, omega: Floats, grid: Grid, to_whole_hour: int) -> Cells:
    """
    The footprint of rows, each counted with its particle's omega (particle,); a negative omega counts as none.

    The particles set out `to_whole_hour` minutes before a UTC hour is full.
    """
    widths = widths_of(spread)
    widest = float(widths.max(initial=0.0))
    x = _lines(grid.west, grid.east, grid.nlon, grid.resolution, widest, turn=crosses(grid))
    y = _lines(grid.south, grid.north, grid.nlat, grid.resolution, widest)
    hours = (np.arange(len(widths)) + to_whole_hour) // 60
    columns = [(np.zeros(0, "i1"), np.zeros(0, "i2"), np.zeros(0, "i2"), np.zeros(0, "f4"))]
    for hour in range(int(hours.max(initial=-1)), -1, -1):
        first, last = (int(np.searchsorted(hours, each)) for each in (hour, hour + 1))
        layer = _layer(rows, first, last, widths, omega, x, y)
        columns.append((np.full(len(layer[0]), hour, "i1"), *layer))
    return Cells(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _lines(low: float, high: float, cells: int, step: float, widest: float, *, turn: bool = False) -> Lines:
    if turn:
        low, high = ((edge % 360.0 + 360.0) % 360.0 for edge in (low, high))
    half = _half(widest, step)
    pad = 1 + 2 * half
    return Lines(low - pad * step, step, pad, cells, low - half * step, high + half * step, turn)


@compiled
def _half(width: float, step: float) -> int:
    """Cells from a kernel's middle to its end."""
    return int(min(floor(3.0 * width / step), _WIDEST))


@compiled(allocates=True)
def _kernel(width: float, step: float) -> Floats:
    """One side of the smoothing kernel (2 half + 1,): its sum is 1."""
    half = _half(width, step)
    side = np.ones(2 * half + 1)
    if half > 0:
        for i in range(-half, half + 1):
            side[i + half] = exp(-((i * step) ** 2) / (2.0 * width * width))
    return side / side.sum()


@compiled(allocates=True)
def _layer(
    rows: Rows, first: int, last: int, widths: Floats, omega: Floats, x: Lines, y: Lines
) -> tuple[Shorts, Shorts, Singles]:
    """Rows, columns and influence of cells in the minutes from `first` to before `last`, counted from 0."""
    begin, end = rows.start[first], rows.start[last]
    places = np.empty((2, end - begin), np.int32)
    held, reached = _places(rows, first, last, widths, x, y, places)
    layer = np.zeros((max(reached[1] - reached[0] + 1, 0), max(reached[3] - reached[2] + 1, 0)))
    sums = np.zeros((max(held[1] - held[0] + 1, 0), max(held[3] - held[2] + 1, 0)))
    touched = np.empty((2, end - begin), np.int32)
    for minute in range(first, last):
        count = 0
        for each in range(rows.start[minute], rows.start[minute + 1]):
            share = rows.foot[each] * omega[rows.particle[each] - 1]
            i, j = places[0, each - begin], places[1, each - begin]
            if i != _FAR and share > 0.0:
                if sums[i - held[0], j - held[2]] == 0.0:
                    touched[0, count], touched[1, count] = i, j
                    count += 1
                sums[i - held[0], j - held[2]] += share
        along, across = _kernel(widths[minute], y.step), _kernel(widths[minute], x.step)
        for each in range(count):
            i, j = touched[0, each], touched[1, each]
            _stamp(layer, i - reached[0], j - reached[2], sums[i - held[0], j - held[2]], along, across)
            sums[i - held[0], j - held[2]] = 0.0
    return _not_zero(layer, reached[0], reached[2])


@compiled
def _places(rows: Rows, first: int, last: int, widths: Floats, x: Lines, y: Lines, places: Integers) -> tuple[Box, Box]:
    """
    Put down the row and column of each row's cell: `places` (2, row).

    The boxes of those cells that reach the grid, which may lie around it, and of the grid's cells that they reach.
    """
    south, north, west, east = 2**30, -(2**30), 2**30, -(2**30)
    begin, along, across = rows.start[first], 0, 0
    for minute in range(first, last):
        up, out = _half(widths[minute], y.step), _half(widths[minute], x.step)
        along, across = max(along, up), max(across, out)
        for each in range(rows.start[minute], rows.start[minute + 1]):
            places[0, each - begin] = _FAR
            lon, lat = _degrees(rows.lon[each], x.turn), _degrees(rows.lat[each], y.turn)
            if rows.foot[each] > 0.0 and x.low <= lon < x.high and y.low <= lat < y.high:
                i, j = _cell(lat, y), _cell(lon, x)
                if -up <= i < y.cells + up and -out <= j < x.cells + out:
                    places[0, each - begin], places[1, each - begin] = i, j
                    south, north, west, east = min(south, i), max(north, i), min(west, j), max(east, j)
    reached = (
        max(south - along, 0),
        min(north + along, y.cells - 1),
        max(west - across, 0),
        min(east + across, x.cells - 1),
    )
    return (south, north, west, east), reached


@compiled
def _degrees(steps: int, turn: bool) -> float:
    place = steps / _STEPS
    return (place % 360.0 + 360.0) % 360.0 if turn else place


@compiled
def _cell(place: float, lines: Lines) -> int:
    """The cell that holds a place, counted from the grid's first."""
    i = int((place - lines.start) / lines.step)
    while lines.start + (i + 1) * lines.step <= place:
        i += 1
    while lines.start + i * lines.step > place:
        i -= 1
    return i - lines.pad


@compiled
def _stamp(layer: Floats, row: int, column: int, share: Any, along: Floats, across: Floats) -> None:
    """Add a share, smoothed around its cell; what falls beside the layer is lost."""
    up, out = len(along) // 2, len(across) // 2
    low, high = max(column - out, 0), min(column + out + 1, layer.shape[1])
    for i in range(max(row - up, 0), min(row + up + 1, layer.shape[0])):
        part = share * along[i - row + up]
        for j in range(low, high):
            layer[i, j] += part * across[j - column + out]


@compiled(allocates=True)
def _not_zero(layer: Floats, south: int, west: int) -> tuple[Shorts, Shorts, Singles]:
    """Cells of a layer whose influence is not zero in single precision, from south to north, west to east."""
    count = 0
    for i in range(layer.shape[0]):
        for j in range(layer.shape[1]):
            count += np.float32(layer[i, j]) != 0.0
    y, x, foot = np.empty(count, np.int16), np.empty(count, np.int16), np.empty(count, np.float32)
    count = 0
    for i in range(layer.shape[0]):
        for j in range(layer.shape[1]):
            if np.float32(layer[i, j]) != 0.0:
                y[count], x[count], foot[count] = south + i, west + j, layer[i, j]
                count += 1
    return y, x, foot


@compiled(allocates=True)
def difference_of_halves(rows: Rows, omega: Floats, west: float, span: float, south: float, north: float) -> float:
    """The influence inside a grid of particles of even number less that of odd ones, before smoothing."""
    halves = np.zeros(2)
    for each in range(len(rows.foot)):
        lon, lat = rows.lon[each] / _STEPS, rows.lat[each] / _STEPS
        turns = np.rint((west + span / 2 - lon) / 360.0)
        lon = lon + 360.0 * turns if turns != 0.0 else lon
        if west <= lon < west + span and south <= lat < north:
            halves[rows.particle[each] % 2] += rows.foot[each] * omega[rows.particle[each] - 1]
    return halves[0] - halves[1]


# ---- rows that were kept


def kept_rows(kept: Mapping[str, np.ndarray], grid: Grid) -> tuple[Rows, Spread]:
    """Rows in the order of minutes, and their spread, of particles in their kept form."""
    minutes = -int(kept["age"].min(initial=0))
    start, order = _by_minute(kept["age"], minutes)
    rows = Rows(start, *(kept[name][order] for name in ("particle", "lon", "lat", "foot")))
    return rows, _spread_of(rows, crosses(grid))


@compiled(allocates=True)
def _spread_of(rows: Rows, turn: bool) -> Spread:
    minutes = len(rows.start) - 1
    spread = Spread(np.zeros(minutes, np.int64), np.zeros(minutes), np.zeros(minutes))
    for minute in range(1, minutes + 1):
        begin, end = rows.start[minute - 1], rows.start[minute]
        note_spread(spread, minute, rows.lon[begin:end], rows.lat[begin:end], turn)
    return spread


@compiled(allocates=True)
def _by_minute(age: Shorts, minutes: int) -> tuple[Longs, Longs]:
    """The first row of each minute in the order of minutes, and that order; rows of a minute keep theirs."""
    start, order = np.zeros(minutes + 1, np.int64), np.empty(len(age), np.int64)
    for each in age:
        start[-each] += 1
    for minute in range(1, minutes + 1):
        start[minute] += start[minute - 1]
    free = start.copy()
    for each in range(len(age)):
        order[free[-age[each] - 1]] = each
        free[-age[each] - 1] += 1
    return start, order
