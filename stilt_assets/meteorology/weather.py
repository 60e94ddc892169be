"""
How strong is the wind, how deep is the mixed layer, and how high is each level?

Read from the records of one time step, and of these only a window of cells. Winds are along the grid's own axes, as
ARL files hold them and as HYSPLIT moves particles.
"""

from collections.abc import Sequence

import arlmet
import numpy as np
import numpy.typing as npt
from arlmet import GridWindow, RecordSet

from stilt_assets.errors import MeteorologyError
from stilt_assets.meteorology import KM_PER_DEGREE

Floats = npt.NDArray[np.floating]
_MIXED_LAYER = ("PBLH", "HPBL")  # m above ground, as HYSPLIT's metset.f knows it
_EARTH = KM_PER_DEGREE * 180e3 / np.pi  # m, radius
_NEAREST_POLE = 89.9  # degrees; a cell of a grid in longitudes has no width at the pole


def strongest_wind(step: RecordSet, window: GridWindow, levels: int) -> Floats:
    """
    Wind towards west, south, east and north of the grid: `(4, y, x)` m s-1, the strongest below level `levels`.

    A side that no wind blows to has 0. MeteorologyError if the step holds no wind.
    """
    strongest = np.zeros((4, *window.shape), "f4")
    found = 0
    for level in range(1, levels):
        for side, name in ((2, "UWND"), (3, "VWND")):
            if (level, name) in step:
                wind = step[(level, name)].read(window)
                np.fmax(strongest[side], wind, out=strongest[side])
                np.fmax(strongest[side - 2], -wind, out=strongest[side - 2])
                found += 1
    if not found:
        raise MeteorologyError(f"{step.file.path.name} holds no UWND and VWND at {step.time:%Y-%m-%d %H}Z")
    return strongest


def mixed_layer(step: RecordSet, window: GridWindow) -> float | None:
    """The deepest mixed layer, m; None if the step does not hold it everywhere."""
    for name in _MIXED_LAYER:
        if (0, name) in step:
            depth = step[(0, name)].read(window)
            return None if np.isnan(depth).any() else float(depth.max())
    return None


def level_heights(step: RecordSet, window: GridWindow) -> Floats | None:
    """
    Heights of all levels, `(level, y, x)` m above ground, the ground (0) first; None if the step does not tell.

    From the dry temperature, so no higher than HYSPLIT's own, which are up to 1 % more.
    """
    axis = step.vertical_axis
    if isinstance(axis, arlmet.TerrainAxis):
        return np.broadcast_to(axis.levels[:, None, None], (len(axis.levels), *window.shape))
    above = range(1, len(axis.levels))
    ground = np.zeros((1, *window.shape))
    if isinstance(axis, arlmet.PressureAxis):
        heights, terrain = _stacked(step, window, "HGTS", above), _stacked(step, window, "SHGT", [0])
        return None if heights is None or terrain is None else np.concatenate([ground, heights - terrain])
    surface, warmth = _stacked(step, window, "PRSS", [0]), _stacked(step, window, "TEMP", above)
    if surface is None or warmth is None:
        return None
    pressure = _stacked(step, window, "PRES", above)
    if isinstance(axis, arlmet.WrfAxis):
        if pressure is None:
            return None
        heights = axis.to_height_agl(surface_pressure=surface[0], temperature=_last(warmth), pressure=_last(pressure))
        return np.concatenate([ground, _first(heights)])
    below = _stacked(step, window, "T02M", [0])
    warmth = np.concatenate([warmth[:1] if below is None else below, warmth])
    pressure = None if pressure is None else np.concatenate([surface, pressure])
    heights = axis.to_height_agl(
        surface_pressure=surface[0],
        temperature=_last(warmth),
        pressure=None if pressure is None else _last(pressure),
    )
    return _first(heights)


def _stacked(step: RecordSet, window: GridWindow, name: str, levels: Sequence[int]) -> Floats | None:
    if not all((level, name) in step for level in levels):
        return None
    fields = np.stack([step[(level, name)].read(window) for level in levels])
    return None if np.isnan(fields).any() else fields


def _last(fields: Floats) -> Floats:
    return np.moveaxis(fields, 0, -1)


def _first(fields: Floats) -> Floats:
    return np.moveaxis(fields, -1, 0)


def cell_size(grid: arlmet.Grid) -> Floats:
    """Distance between neighbouring cells along x and along y, `(2, ny, nx)` m."""
    coords = grid.calculate_coords()
    lon, lat = (np.radians(coords[name][1]) for name in ("lon", "lat"))
    if grid.is_latlon:
        across, along = np.radians(grid.projection.tangent_lon), np.radians(grid.projection.tangent_lat)
        width = np.cos(np.clip(lat, -np.radians(_NEAREST_POLE), np.radians(_NEAREST_POLE))) * abs(across)
        sizes = np.stack([width, np.full(grid.ny, abs(along))])[:, :, None]
        return (_EARTH * np.broadcast_to(sizes, (2, grid.ny, grid.nx))).astype("f4")
    place = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    steps = (np.linalg.norm(np.diff(place, axis=axis), axis=0) for axis in (2, 1))
    across, along = steps
    return (
        _EARTH * np.stack([np.pad(across, ((0, 0), (0, 1)), "edge"), np.pad(along, ((0, 1), (0, 0)), "edge")])
    ).astype("f4")
