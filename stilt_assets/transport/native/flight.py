"""
How does one receptor get from its release to its cells?

Its particles fly an hour at a time in compiled code that holds no lock of Python's: a minute, what is noted of it, and
the next. Between hours the clock is looked at.
"""

from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

import numpy as np
import pandas as pd

from stilt_assets.errors import TransportError
from stilt_assets.grid import Grid
from stilt_assets.meteorology.proof import Edges
from stilt_assets.particles import column_weights, releases_of
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Flown, Limits, Simulation, seed_of
from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.draws import slab_height
from stilt_assets.transport.native.engine import Flight, Met, fly_minute, met_of, new_flight, start
from stilt_assets.transport.native.gridding import Floats, crosses, gridded, kept_rows
from stilt_assets.transport.native.layout import HEIGHTS, LID, Bytes, Decoded
from stilt_assets.transport.native.log import (
    UNBOUNDED,
    Ends,
    Log,
    ends_of,
    kept_of,
    last_rows,
    new_log,
    note_minute,
    rows_of,
    with_room,
)

Column = tuple[float, float, float, float]  # longitude, latitude, degrees; bottom and top, m above ground

_HOUR = 60  # minutes


class Air(NamedTuple):
    """Decoded meteorology that receptors are followed back through."""

    met: Met
    reached: Bytes  # (time,) see `layout`


def air_of(decoded: Decoded) -> Air:
    """Decoded meteorology as receptors are followed through it."""
    return Air(met_of(decoded), decoded.reached)


@dataclass(frozen=True)
class Course:
    """One receptor's way back through decoded meteorology."""

    air: Air
    receptor: Receptor
    simulation: Simulation

    @property
    def minute(self) -> int:
        """Of the release, since 1970."""
        return round(self.receptor.time.timestamp() / 60)

    @property
    def minutes(self) -> int:
        """That particles are followed back."""
        return _HOUR * self.simulation.hours_back

    @property
    def release_heights(self) -> Floats:
        """Heights (particle,) that particles stand for, m above ground: the middles of even slabs of the column."""
        receptor, count = self.receptor, self.simulation.particles
        return np.linspace(receptor.bottom, receptor.top, 2 * count + 1)[1::2]


def fly(course: Course, kernel: Kernel, grid: Grid, edges: Edges, keep: str, limits: Limits) -> Flown:
    """From a receptor to its cells. TransportError with the pixel's reason."""
    log, releases = followed(course, ends_of(edges), keep, limits, turn=crosses(grid))
    omega = column_weights(releases, kernel)
    cells, error = gridded(rows_of(log), log.spread, omega, grid, -course.minute % _HOUR)
    return Flown(
        cells=cells,
        ends=last_rows(log) | {name: values for name, values in releases.items() if name != "particle"},
        kept=kept_of(log) if log.kept else {},
        mc_error=error,
        near_edge=float(np.mean(log.near)),
        near_lid=float("nan") if edges.felt_from is None else float(np.mean(log.high)),
    )


def made_ready(met: Met) -> None:
    """Compile what flies and grids, or load it as it was kept, so that no pixel's time is spent on it."""
    nobody, grid = new_flight(0), Grid(0.0, 0.0, 1.0, 1.0, 1.0)
    log = new_log(np.zeros(0), 1, "core", turn=False)
    start_all(met, nobody, np.uint64(0), (0.0, 0.0, 0.0, 0.0), 0)
    _fly_on(met, nobody, np.uint64(0), 0, 1, 1, UNBOUNDED, log)
    gridded(rows_of(log), log.spread, np.zeros(0), grid, 0)
    gridded(*kept_rows(kept_of(log), grid), np.zeros(0), grid, 0)


def followed(
    course: Course, ends: Ends, keep: str, limits: Limits, *, turn: bool = False
) -> tuple[Log, dict[str, np.ndarray]]:
    """What was noted of a receptor's particles, and their releases. TransportError with the pixel's reason."""
    started, minutes = monotonic(), course.minutes
    log, flight = new_log(course.release_heights, minutes, keep, turn=turn), _released(course)
    seed, releases = np.uint64(seed_of(course.receptor, course.simulation)), dict[str, np.ndarray]()
    first = 1
    while first <= minutes:
        last = min((first // _HOUR + 1) * _HOUR, minutes) if releases else 1
        log = with_room(log, first - 1, last - first + 1)
        fly_on = _fly_on if course.simulation.device == "cpu" else _fly_on_a_card
        flying = fly_on(course.air.met, flight, seed, course.minute, first, last, ends, log)
        _check(log, flight, first - 1, last)
        if first == 1:
            releases = _releases(course, flight, flying)
        if monotonic() - started > limits.timeout:
            raise TransportError("timeout", f"{last} of {minutes} minutes took longer than {limits.timeout:g} s")
        if not flying:
            log.start[last:] = log.start[last]
            break
        first = last + 1
    return log, releases


@compiled
def _fly_on(
    met: Met, flight: Flight, seed: np.uint64, release: int, first: int, last: int, ends: Ends, log: Log
) -> int:
    """Fly and note the minutes from `first` to `last` after a release; how many particles fly on."""
    flying = 0
    for minute in range(first, last + 1):
        flying = fly_minute(met, flight, seed, minute - 1, release - minute + 1)
        note_minute(minute, flight, ends, log)
    return flying


def _fly_on_a_card(
    met: Met, flight: Flight, seed: np.uint64, release: int, first: int, last: int, ends: Ends, log: Log
) -> int:
    """The same by a CUDA card, whose minutes are noted here."""
    from stilt_assets.transport.native.cuda import card_with, retold

    story = card_with(met).fly([flight], [int(seed)], [release], first, last)
    flies = flight.flies.copy()
    for minute in range(first, last + 1):
        retold(story, 0, minute - first, flight)
        note_minute(minute, flight, ends, log)
    flight.flies[:] = flies
    return int(flies.sum())


def _released(course: Course) -> Flight:
    """Particles at their places. TransportError if the meteorology does not reach there, or not so far back."""
    met, receptor, release = course.air.met, course.receptor, course.minute
    last = met.first + (met.times - 1) * met.spacing
    if not met.first <= release - course.minutes < release <= last:
        missing = "before its first" if met.first > release - course.minutes else "after its last"
        raise TransportError("meteorology_ends", f"the meteorology has no hours {missing}, which the pixel needs")
    needs_air_up_to(course.air, receptor.top, release)
    flight = new_flight(course.simulation.particles)
    seed = np.uint64(seed_of(receptor, course.simulation))
    column = (receptor.longitude, receptor.latitude, receptor.bottom, receptor.top)
    if not start_all(met, flight, seed, column, release):
        place = f"{receptor.longitude:.4f} E, {receptor.latitude:.4f} N"
        raise TransportError("outside_meteorology", f"{place} lies outside the meteorology's {met.nx}x{met.ny} cells")
    if flight.zeta.max() >= LID:
        above = f"the column's top, {receptor.top:g} m above ground, lies above the model's {LID:g} m above sea level"
        raise TransportError("above_meteorology", f"{above}; lower `simulation.top`")
    return flight


def needs_air_up_to(air: Air, top: float, minute: int) -> None:
    """
    TransportError if a release at `top` m above ground, in a minute since 1970, is higher than the meteorology.

    As `hycs_std` has it: a release may lie above the meteorology's own levels, up to the second of the model's levels
    that those do not reach in the south-western column at the time after the release; not corrected for terrain.
    """
    reached = air.reached[-((air.met.first - minute) // air.met.spacing)]
    limit = min((LID, *HEIGHTS[reached + 1 : reached + 2]))
    if top >= limit:
        above = f"the column's top, {top:g} m above ground, lies above the meteorology, which serves up to {limit:g} m"
        raise TransportError("above_meteorology", f"{above}; lower `simulation.top`")


@compiled
def start_all(met: Met, flight: Flight, seed: np.uint64, column: Column, minute: int) -> bool:
    """Put all particles to their places; whether those are inside the meteorology."""
    longitude, latitude, bottom, top = column
    inside, count = 0, len(flight.flies)
    for i in range(count):
        height = slab_height(seed, i, count, bottom, top)
        inside += start(met, flight, i, seed, longitude, latitude, height, minute)
    return inside == count


def _releases(course: Course, flight: Flight, flying: int) -> dict[str, np.ndarray]:
    """Releases of particles that have flown for a minute, which each must have."""
    count = course.simulation.particles
    if flying < count:
        raise TransportError(
            "outside_meteorology", f"{count - flying} of {count} particles left the meteorology in their first minute"
        )
    number = np.arange(1.0, count + 1)
    first = {"particle": number, "age": -1.0, "zagl": flight.zagl, "pres": flight.pres}
    return releases_of(pd.DataFrame(first | {"release_height": course.release_heights}))


def _check(log: Log, flight: Flight, first: int, last: int) -> None:
    """TransportError unless what minutes brought forth, `first` to before `last` from 0, can be."""
    foot, flies = log.foot[log.start[first] : log.start[last]], flight.flies == 1
    for name, values in (("foot", foot), *((name, getattr(flight, name)[flies]) for name in ("lon", "zagl", "pres"))):
        if not np.isfinite(values).all():
            raise TransportError("unreadable_particles", f"these particles cannot be: `{name}` is not a number")
    if (foot < 0).any():
        raise TransportError("unreadable_particles", f"these particles cannot be: `foot` down to {foot.min():g}")
