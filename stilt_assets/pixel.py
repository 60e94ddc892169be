"""
How does one pixel get from its receptor to its cells?

Kept particles are gridded again; only without them does the transport model run. What a pixel made is put aside at
once, so that a stop at any moment costs only the pixels under way.
"""

import errno
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np

from stilt_assets.errors import TransportError
from stilt_assets.footprint import grid_particles, mc_error
from stilt_assets.grid import Grid
from stilt_assets.meteorology.proof import Edges
from stilt_assets.pack import Packs
from stilt_assets.particles import STEPS, column_weights, endpoints_of, kept_form, releases_of
from stilt_assets.reasons import is_transient
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Flown, FusedTransport, Limits, Outcome, Simulation, Status, Transport, seed_of
from stilt_assets.table import Arrays
from stilt_assets.transport import transport_named
from stilt_assets.whole import Files


@dataclass(frozen=True)
class Workplace:
    """All that a worker needs to know of a scene."""

    packs: Packs
    simulation: Simulation
    grid: Grid
    meteorology: Path
    edges: Edges  # of the meteorology
    limits: Limits  # of a pixel's first attempt
    attempts: int = 3  # of a pixel whose failure may not hold another time
    workers: int = 1  # processes side by side


@dataclass(frozen=True)
class Job:
    """One pixel to do."""

    pack: int
    receptor: Receptor
    kernel: Kernel
    limits: Limits
    kept: Files | None = None  # that may hold its particles
    attempt: int = 1

    def once_more(self, reason: str) -> "Job":
        """The same pixel, after it failed for `reason`."""
        return replace(self, attempt=self.attempt + 1, limits=self.limits.after(reason))


def run_pixel(work: Workplace, job: Job) -> str:
    """
    From a receptor to its cells; what it made is put aside when this returns.

    A reason is returned instead, and nothing put aside, if the pixel failed and should be tried once more.
    """
    started = monotonic()
    transport, kept = transport_named(work.simulation.transport), None

    def put_aside(outcome: Outcome, made: dict[str, Arrays]) -> None:
        told = replace(outcome, seconds=round(monotonic() - started, 3), attempts=0 if kept else job.attempt)
        work.packs.put_aside(job.pack, told, made)

    try:
        kept = job.kept and job.kept.particles(job.receptor.pixel)
        if isinstance(transport, FusedTransport) and not kept:
            put_aside(*_flown(work, job, transport))
        else:
            put_aside(*_gridded(work, job, transport, *(kept or _transported(work, job, transport))))
    except (TransportError, MemoryError, OSError, ImportError) as error:
        if not isinstance(error, TransportError | MemoryError) and not _is_for_memory(error):
            raise
        reason = error.reason if isinstance(error, TransportError) else "out_of_memory"
        if is_transient(reason) and job.attempt < work.attempts:
            return reason
        put_aside(_lost(work, job, reason, str(error) or "the worker's own memory did not do"), {})
    return ""


def _is_for_memory(error: OSError | ImportError) -> bool:
    """Whether a file or a library could not be opened because this process may have no more memory."""
    return getattr(error, "errno", None) == errno.ENOMEM or "failed to map segment" in str(error)


def give_up(work: Workplace, job: Job, reason: str, message: str) -> None:
    """Count a pixel as failed that no worker could run to its end."""
    work.packs.put_aside(job.pack, _lost(work, job, reason, message), {})


def _lost(work: Workplace, job: Job, reason: str, message: str) -> Outcome:
    seed = seed_of(job.receptor, work.simulation)
    return Outcome(job.receptor.pixel, Status.failed, reason, message, job.attempt, 0.0, 0, seed)


def _transported(work: Workplace, job: Job, transport: Transport) -> tuple[Arrays, Arrays]:
    particles = transport.run(job.receptor, work.simulation, work.meteorology, job.limits)
    return kept_form(particles, full=work.packs.keep == "full"), releases_of(particles)


def _flown(work: Workplace, job: Job, transport: FusedTransport) -> tuple[Outcome, dict[str, Arrays]]:
    """What becomes of a pixel whose particles are gridded as they move."""
    receptor, keep = job.receptor, work.packs.keep
    flown = transport.fly(
        receptor, job.kernel, work.grid, work.simulation, work.meteorology, work.edges, keep, job.limits
    )
    return _made(work, job, flown)


def _gridded(
    work: Workplace, job: Job, transport: Transport, kept: Arrays, releases: Arrays
) -> tuple[Outcome, dict[str, Arrays]]:
    """What becomes of a pixel of particles in their kept form."""
    omega = column_weights(releases, job.kernel)
    if isinstance(transport, FusedTransport):
        cells, error = transport.cells_of(kept, releases, omega, job.receptor, work.grid)
    else:
        cells = grid_particles(kept, releases, omega, job.receptor, work.grid)
        error = mc_error(kept, releases, omega, work.grid)
    lon, lat, zagl = (kept[name] / STEPS[name] for name in ("lon", "lat", "zagl"))
    near_edge, near_lid = work.edges.shares(lon, lat, zagl, kept["particle"])
    flown = Flown(
        cells=cells,
        ends=endpoints_of(kept, releases),
        kept=kept,
        mc_error=error,
        near_edge=near_edge,
        near_lid=near_lid,
    )
    return _made(work, job, flown)


def _made(work: Workplace, job: Job, flown: Flown) -> tuple[Outcome, dict[str, Arrays]]:
    cells, ends = flown.cells, flown.ends
    outcome = Outcome(
        pixel=job.receptor.pixel,
        status=Status.ok if len(cells.foot) else Status.empty,
        reason="",
        message="",
        attempts=job.attempt,
        seconds=0.0,
        particles=len(ends["particle"]),
        seed=seed_of(job.receptor, work.simulation),
        row_sum=float(cells.foot.sum(dtype=float)),
        mc_error=flown.mc_error,
        left_domain=float(np.mean(ends["age"] > -60 * work.simulation.hours_back)),
        near_edge=flown.near_edge,
        near_lid=flown.near_lid,
        pressure_difference=float(ends["surface_pressure"][0] - job.kernel.surface_pressure),
    )
    made = {"cells": {"hour": cells.hour, "y": cells.y, "x": cells.x, "foot": cells.foot}, "endpoints": ends}
    return outcome, made | ({"trajectories": flown.kept} if "trajectories" in work.packs.kinds else {})
