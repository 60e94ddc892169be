"""
What in a meteorology file or a simulation does the native model not cover?

It covers what has been proved point by point; everything else is told by name.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import arlmet

from stilt_assets.simulation import Simulation

AXES = (arlmet.SigmaAxis, arlmet.HybridAxis)
_GROUND = ("PRSS", "SHGT", "T02M", "U10M", "V10M", "USTR", "SHTF", "RGHS")
_UPPER = ("TEMP", "UWND", "VWND", "WWND", "SPHU")  # RELH is read, and not proved


def covers(meteorology: Path, simulation: Simulation) -> list[str]:
    """Why the native model does not take this, a line a reason; empty if it does."""
    del simulation  # every simulation that our settings can say is covered
    with arlmet.File(meteorology) as file:
        return list(_uncovered(file))


def _uncovered(file: arlmet.File) -> Iterator[str]:
    if not isinstance(file.vertical_axis, AXES):
        yield f"levels of kind {file.vertical_axis.coord_system} are not covered"
    cone = abs(file.grid.projection.cone_angle)
    if file.grid.is_latlon or cone in (0.0, 90.0):
        yield "grids that are not on a Lambert cone are not covered"
    times = file.times
    if len({later - sooner for sooner, later in pairwise(times)}) != 1:
        yield "times that are not equally spaced, or only one, are not covered"
    for time in times:
        step = file[time]
        missing = [name for name in _GROUND if (0, name) not in step]
        above = range(1, len(step.vertical_axis.levels))
        missing += [name for name in _UPPER if not all((level, name) in step for level in above)]
        if missing:
            yield f"no {', '.join(missing)} at {time:%Y-%m-%d %H}Z"
            return
