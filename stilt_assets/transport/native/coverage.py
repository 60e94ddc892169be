"""
What in a meteorology file or a simulation does the native model not cover?

It covers what has been proved point by point; everything else is told by name.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import arlmet

from stilt_assets.simulation import Simulation

AXES = (arlmet.SigmaAxis, arlmet.HybridAxis, arlmet.PressureAxis)
_GROUND = ("PRSS", "SHGT", "T02M", "U10M", "V10M", "USTR", "SHTF", "RGHS")
_FARTHEST_NORTH = 80.0  # degrees, and south
# Degrees. hycs_std adds each of turbulence's steps to a place in cells of single precision, and of cells of a degree it
# loses those that are slow: near the ground its particles lag behind the wind.
_WIDEST_CELL = 0.3
_UPPER = ("TEMP", "UWND", "VWND", "WWND")


def covers(meteorology: Path, simulation: Simulation) -> list[str]:
    """Why the native model does not take this, a line a reason; empty if it does."""
    del simulation  # every simulation that our settings can say is covered
    with arlmet.File(meteorology) as file:
        return list(_uncovered(file))


def _uncovered(file: arlmet.File) -> Iterator[str]:
    if not isinstance(file.vertical_axis, AXES):
        yield f"levels of kind {file.vertical_axis.coord_system} are not covered"
    yield from uncovered_cells(file.grid)
    times = file.times
    if len({later - sooner for sooner, later in pairwise(times)}) != 1:
        yield "times that are not equally spaced, or only one, are not covered"
    for time in times:
        step = file[time]
        missing = list(_missing(step))
        if missing:
            yield f"no {', '.join(missing)} at {time:%Y-%m-%d %H}Z"
            return
        if isinstance(step.vertical_axis, arlmet.PressureAxis) and _any(step, "SPHU") and _any(step, "RELH"):
            yield "both SPHU and RELH on pressure levels are not covered"  # hycs_std's answer hangs on their order
            return


def _missing(step: arlmet.RecordSet) -> Iterator[str]:
    yield from (name for name in _GROUND if (0, name) not in step)
    on_pressure = isinstance(step.vertical_axis, arlmet.PressureAxis)
    yield from (name for name in (*_UPPER, *(["HGTS"] if on_pressure else [])) if not _all(step, name))
    if not (_all(step, "SPHU") or (on_pressure and _all(step, "RELH"))):  # elsewhere RELH is read, and not proved
        yield "SPHU or RELH" if on_pressure else "SPHU"


def _all(step: arlmet.RecordSet, name: str) -> bool:
    return all((level, name) in step for level in range(1, max(len(step.vertical_axis.levels), 2)))


def _any(step: arlmet.RecordSet, name: str) -> bool:
    return any((level, name) in step for level in range(1, len(step.vertical_axis.levels)))


def uncovered_cells(grid: arlmet.Grid) -> Iterator[str]:
    """Why cells are not covered, a line a reason."""
    its = grid.projection
    if not grid.is_latlon:
        if abs(its.cone_angle) in (0.0, 90.0):
            yield "grids that are neither on a Lambert cone nor in degrees are not covered"
        return
    if grid.wraps_lon:
        yield "grids around the whole earth are not covered"
    if its.sync_lon < 0.0:
        yield "grids in degrees that begin at a longitude below 0 are not covered"  # hycs_std places them elsewhere
    if max(its.tangent_lat, its.tangent_lon) > _WIDEST_CELL:
        yield f"grids in degrees whose cells are wider than {_WIDEST_CELL:g} degrees are not covered"
    if max(-its.sync_lat, its.sync_lat + (grid.ny - 1) * its.tangent_lat) > _FARTHEST_NORTH:
        yield f"grids in degrees beyond {_FARTHEST_NORTH:g} degrees of latitude are not covered"
