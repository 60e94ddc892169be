"""
Which cells and which levels of its files does a scene need?

Cells: the box of the release points, grown hour by hour backward by the strongest wind that blows there, each side by
the wind from there, is where particles can come from. Levels: the lowest lid that particles do not feel. A cut that
saves little is not made: a crop packs each field anew, which is other numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from arlmet import Grid, GridWindow, RecordSet

from stilt_assets.errors import MeteorologyError
from stilt_assets.meteorology import SIDES, Box, Need
from stilt_assets.meteorology.weather import Floats, cell_size, level_heights, mixed_layer, strongest_wind

# Measured with hycs_std v5.1.0 on twelve hours of 3 km HRRR over mountains (59 x 41 cells, 20 levels up to 5 km).
# It ends a particle 1 cell before the west and south side and 2 before the east and north (569 particles that left).
ENDS_BEFORE = (1, 1, 2, 2)  # cells, in the order of SIDES
NEAR = 1  # cells; a particle that comes so near to its end might have ended in another packing of the fields
# A particle feels a lid from up to 1.9 levels below it: the first particles that differed between two lids were there.
FELT_BELOW = 2  # levels
# The model's own mixed layer was 1.53 times the files' or less, for 99 % of particles at whole hours.
MIXED_LAYER_TIMES = 1.5
# In h hours 99 % of particles rose by no more than 750 h m and came no higher than 430 h m above both the files'
# deepest mixed layer and their release top (48 runs of 200 particles over 3 to 10 hours, tops of 10 m to 4 km).
RISE = 450.0  # m per hour
# Three standard deviations of horizontal turbulence: 3 sqrt(2 s**2 T t) with s = 1 m s-1 and T = 200 s (VSCALEU).
SPREAD = 60.0  # m per square root of a second
FASTEST = 150.0  # m s-1; no wind is faster
# hycs_std reads all records of its hours in every run: 49 times the cells cost 8 % more time, 36 levels 30 to 40 % more
# than 20, but 20 cost no more than 9. So a cut must leave out at least this share.
WORTH_OF_CELLS = 0.5
WORTH_OF_LEVELS = 0.25
_POLE = 90.0 - 1e-6  # degrees
_SHALLOWEST = FELT_BELOW + 2  # levels, the ground included
_ROOM = tuple(cells + NEAR for cells in ENDS_BEFORE)  # cells beyond a particle that is not near an end


@dataclass(frozen=True)
class Span:
    """A box in cells of a grid, from 0; on a grid around the Earth columns count on across its seam."""

    west: float
    south: float
    east: float
    north: float

    def grown(self, reach: Floats) -> "Span":
        """This box, wider by `reach` (4,) cells in the order of SIDES."""
        west, south, east, north = (float(cells) for cells in reach)
        return Span(self.west - west, self.south - south, self.east + east, self.north + north)


@dataclass(frozen=True)
class Choice:
    """What the rule takes of the files, and what it saw."""

    window: GridWindow  # that is kept
    needed: GridWindow  # that would be enough, as far as the files go
    levels: int  # kept, the ground included
    levels_needed: int
    reach: tuple[float, ...]  # cells between the release points and where particles can come from, as SIDES
    wind: tuple[float, ...]  # m s-1 below the lid, the strongest component in each step, oldest first
    mixed_layer: float | None  # m, the deepest; None if the files do not tell
    heights: tuple[float, ...]  # m above ground of each level of the files, the lowest of each; empty: not told
    ends: dict[str, str]  # who ends each side and the lid: `files`, `crop`, or `none` where the grid goes round


def span_of(grid: Grid, box: Box) -> Span:
    """Where the points of a box lie in a grid. On a projected grid the box's sides are curved."""
    west, south, east, north = box
    width = (east - west) % 360.0 if east - west != 360.0 else 360.0
    if grid.is_latlon:
        around, (first, low) = 360.0 / grid.projection.tangent_lon, grid.origin
        middle = (grid.nx - 1) / 2
        x = (west - first) / grid.projection.tangent_lon
        x = middle + (x - middle + around / 2) % around - around / 2
        y = [(edge - low) / grid.projection.tangent_lat for edge in (south, north)]
        return Span(x, y[0], x + width / grid.projection.tangent_lon, y[1])
    across, along = west + np.linspace(0.0, width, 33), np.linspace(south, north, 33)
    lon = np.concatenate([across, across, np.full(33, across[0]), np.full(33, across[-1])])
    lat = np.concatenate([np.full(33, south), np.full(33, north), along, along])
    columns, rows = grid.fractional_indices((lon + 180.0) % 360.0 - 180.0, lat)
    return Span(float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max()))


def window_of(grid: Grid, span: Span, more: Sequence[float] = (0, 0, 0, 0)) -> tuple[GridWindow, int]:
    """
    The cells around a span and `more` cells at each side, as far as the grid goes; and the first column, unwrapped.

    MeteorologyError if none of the grid's cells is there.
    """
    wide = _round_the_poles(grid, span.grown(np.asarray(more, dtype=float)))
    x, y = (
        [int(np.floor(wide.west)), int(np.ceil(wide.east)) + 1],
        [int(np.floor(wide.south)), int(np.ceil(wide.north)) + 1],
    )
    y = [max(y[0], 0), min(y[1], grid.ny)]
    if grid.wraps_lon and x[1] - x[0] >= grid.nx:
        x = [0, grid.nx]
    elif not grid.wraps_lon:
        x = [max(x[0], 0), min(x[1], grid.nx)]
    if x[0] >= x[1] or y[0] >= y[1]:
        raise MeteorologyError(f"the meteorology does not reach the pixels: its cells are {grid.nx}x{grid.ny}")
    start = x[0] % grid.nx if grid.wraps_lon else x[0]
    return GridWindow(start, start + x[1] - x[0], y[0], y[1]), x[0]


def _round_the_poles(grid: Grid, span: Span) -> Span:
    """The span itself, or all columns if it goes over a pole of a grid that does: what is beyond lies on this side."""
    last, spacing = grid.ny - 1, grid.projection.tangent_lat
    low = span.south < 0 and grid.wraps_lon and grid.origin[1] <= -_POLE
    high = span.north > last and grid.wraps_lon and grid.origin[1] + last * spacing >= _POLE
    if not low and not high:
        return span
    south = min(span.south, 2 * last - span.north) if high else span.south
    return Span(0, south, grid.nx, max(span.north, -span.south) if low else span.north)


def choose(steps: Sequence[RecordSet], need: Need) -> Choice:
    """
    What a scene needs of consecutive time steps of one grid, oldest first.

    MeteorologyError if the files do not reach the release points or hold no wind.
    """
    grid, of_files = steps[0].grid, len(steps[0].vertical_axis.levels)
    released, size = span_of(grid, need.box), cell_size(grid)
    window, _ = window_of(grid, released)
    levels = min(_levels_needed(steps, window, need)[0], of_files)
    while True:
        reach, wind = _reach(steps, released, size, levels, need.wind)
        reach = (2.0 if need.widened else 1.0) * reach
        window, _ = window_of(grid, released.grown(reach), _ROOM)
        enough, mixed, heights = _levels_needed(steps, window, need)
        if enough <= levels:
            break
        levels = enough
    saves = of_files - levels >= WORTH_OF_LEVELS * of_files and not need.widened
    kept = levels if saves else of_files
    cells = _kept(grid, window, steps, kept)
    ends = _ends(grid, cells) | {"lid": "crop" if kept < of_files else "files"}
    told = (tuple(float(speed) for speed in wind), mixed, heights, ends)
    return Choice(cells, window, kept, levels, tuple(float(each) for each in reach), *told)


def _levels_needed(
    steps: Sequence[RecordSet], window: GridWindow, need: Need
) -> tuple[int, float | None, tuple[float, ...]]:
    """The lowest count of levels whose lid is not felt; all if the files do not tell. With what was read for it."""
    of_files = len(steps[0].vertical_axis.levels)
    depths = [mixed_layer(step, window) for step in steps]
    known = [depth for depth in depths if depth is not None]
    mixed = max(known) if len(known) == len(depths) else None
    fields = [level_heights(step, window) for step in steps]
    if any(field is None for field in fields):
        return of_files, mixed, ()
    heights = np.min([field.min(axis=(1, 2)) for field in fields if field is not None], axis=0)
    told = tuple(float(height) for height in heights)
    if mixed is None:
        return of_files, mixed, told
    free = max(MIXED_LAYER_TIMES * mixed, need.top) + RISE * need.hours_back  # m, which the lid must not be felt at
    clear = np.flatnonzero(heights >= free)
    enough = int(clear[0]) + FELT_BELOW + 1 if len(clear) else of_files
    return min(max(enough, _SHALLOWEST), of_files), mixed, told


def _reach(
    steps: Sequence[RecordSet], released: Span, size: Floats, levels: int, given: float | None
) -> tuple[Floats, list[float]]:
    """How far beyond the release points particles can come from, cells (4,); the strongest wind of each step, m s-1."""
    reach, winds = np.zeros(4), []
    seconds = (steps[-1].time - steps[0].time).total_seconds()
    for earlier, later in reversed(list(pairwise(steps))):
        more, wind = _reach_of_a_step(earlier, later, released.grown(reach), size, levels, given)
        reach, winds = reach + more, [wind, *winds]
    window, _ = window_of(steps[0].grid, released.grown(reach))
    smallest = _sizes(size, window).min(axis=(1, 2))
    return reach + SPREAD * seconds**0.5 / np.tile(smallest, 2), winds


def _reach_of_a_step(
    earlier: RecordSet, later: RecordSet, span: Span, size: Floats, levels: int, given: float | None
) -> tuple[Floats, float]:
    """
    How far a span grows backward from one time step to the one before, cells (4,), and the strongest wind in it.

    No particle moves farther than the strongest wind of the box that it stays in: the smallest such box.
    """
    grid, seconds = later.grid, (later.time - earlier.time).total_seconds()
    fastest = FASTEST * seconds / np.tile(_sizes(size, window_of(grid, span)[0]).min(axis=(1, 2)), 2)
    window, first = window_of(grid, span, np.minimum(fastest, max(grid.nx, grid.ny)).tolist())
    wind = np.full((4, *window.shape), given) if given else _winds(earlier, later, window, levels)
    # What comes from the west blows to the east.
    cells = np.roll(wind, 2, axis=0) * seconds / np.tile(_sizes(size, window), (2, 1, 1))
    goes_round = grid.wraps_lon and window.nx == grid.nx
    reach = np.zeros(4)
    while True:
        box = _round_the_poles(grid, span.grown(reach))
        x = slice(None) if goes_round else _between(box.west - first, box.east - first, window.nx)
        y = _between(box.south - window.y_start, box.north - window.y_start, window.ny)
        more = cells[:, y, x].max(axis=(1, 2))
        if np.all(more <= reach):
            return reach, float(wind[:, y, x].max())
        reach = np.maximum(reach, more)


def _winds(earlier: RecordSet, later: RecordSet, window: GridWindow, levels: int) -> Floats:
    return np.fmax(*(strongest_wind(step, window, levels) for step in (earlier, later)))


def _between(low: float, high: float, cells: int) -> slice:
    """The cells that a particle between two places reads, the nearest ones if both lie outside."""
    first = min(max(int(np.floor(low)), 0), cells - 1)
    return slice(first, max(min(int(np.ceil(high)) + 1, cells), first + 1))


def _sizes(size: Floats, window: GridWindow) -> Floats:
    columns = np.arange(window.x_start, window.x_stop) % size.shape[2]
    return size[:, window.y_slice][:, :, columns]


def cells_needed(steps: Sequence[RecordSet], levels: int) -> int:
    """The fewest cells of a grid whose records hold ARL's index: 108 bytes, 8 for each level, 8 for each record."""
    most = max(sum(1 + len(each.diffs) for each in step.records if each.level < levels) for step in steps)
    return 108 + 8 * (levels + most)


def _kept(grid: Grid, needed: GridWindow, steps: Sequence[RecordSet], levels: int) -> GridWindow:
    """The window that is cut out: widened until an ARL index fits, and the whole grid if it saves little."""
    least = cells_needed(steps, levels)
    while needed.nx * needed.ny < least and needed != grid.full_window():
        needed = _one_wider(grid, needed)
    return needed if needed.nx * needed.ny <= (1.0 - WORTH_OF_CELLS) * grid.nx * grid.ny else grid.full_window()


def _one_wider(grid: Grid, window: GridWindow) -> GridWindow:
    low, high = max(window.y_start - 1, 0), min(window.y_stop + 1, grid.ny)
    if not grid.wraps_lon:
        return GridWindow(max(window.x_start - 1, 0), min(window.x_stop + 1, grid.nx), low, high)
    if window.nx + 2 > grid.nx:
        return GridWindow(0, grid.nx, low, high)
    start = (window.x_start - 1) % grid.nx
    return GridWindow(start, start + window.nx + 2, low, high)


def _ends(grid: Grid, window: GridWindow) -> dict[str, str]:
    """Who ends each side."""
    round_the_earth = grid.wraps_lon and window.nx == grid.nx
    whole = {
        "west": window.x_start == 0 and not grid.wraps_lon,
        "south": window.y_start == 0,
        "east": window.x_stop == grid.nx and not grid.wraps_lon,
        "north": window.y_stop == grid.ny,
    }
    return {
        side: "none" if round_the_earth and side in ("west", "east") else "files" if whole[side] else "crop"
        for side in SIDES
    }
