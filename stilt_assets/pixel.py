"""
How does one pixel get from its receptor to its cells?

Kept particles are gridded again; only without them does the transport model run. What a pixel made is put aside at
once, so that a stop at any moment costs only the pixels under way.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np

from stilt_assets.errors import TransportError
from stilt_assets.footprint import column_weights, endpoints_of, grid_particles, kept_form, mc_error, releases_of
from stilt_assets.grid import Grid
from stilt_assets.pack import Arrays, Packs
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Outcome, Simulation, Status, seed_of
from stilt_assets.transport import transport_named


@dataclass(frozen=True)
class Workplace:
    """All that a worker needs to know of a scene."""

    packs: Packs
    simulation: Simulation
    grid: Grid
    meteorology: Path
    timeout: float  # s


@dataclass(frozen=True)
class Job:
    """One pixel to do."""

    pack: int
    receptor: Receptor
    kernel: Kernel
    attempt: int = 1


def run_pixel(work: Workplace, job: Job) -> Outcome:
    """From a receptor to its cells; what it made is put aside when this returns."""
    started = monotonic()
    kept = work.packs.kept_particles(job.pack, job.receptor.pixel)
    try:
        outcome, made = _gridded(work, job, *(kept or _transported(work, job)))
    except TransportError as error:
        outcome, made = _lost(work, job, error.pixel_reason, str(error)), {}
    outcome = replace(outcome, seconds=round(monotonic() - started, 3), attempts=0 if kept else job.attempt)
    work.packs.put_aside(outcome, made)
    return outcome


def give_up(work: Workplace, job: Job, reason: str, message: str) -> None:
    """Count a pixel as failed that no worker could run to its end."""
    work.packs.put_aside(_lost(work, job, reason, message), {})


def _lost(work: Workplace, job: Job, reason: str, message: str) -> Outcome:
    seed = seed_of(job.receptor, work.simulation)
    return Outcome(job.receptor.pixel, Status.failed, reason, message, job.attempt, 0.0, 0, seed)


def _transported(work: Workplace, job: Job) -> tuple[Arrays, Arrays]:
    transport = transport_named(work.simulation.transport)
    particles = transport.run(job.receptor, work.simulation, work.meteorology, work.timeout)
    return kept_form(particles, full=work.packs.keep == "full"), releases_of(particles)


def _gridded(work: Workplace, job: Job, kept: Arrays, releases: Arrays) -> tuple[Outcome, dict[str, Arrays]]:
    omega = column_weights(releases, job.kernel)
    cells = grid_particles(kept, releases, omega, job.receptor, work.grid)
    ends = endpoints_of(kept, releases)
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
        mc_error=mc_error(kept, releases, omega, work.grid),
        left_domain=float(np.mean(ends["age"] > -60 * work.simulation.hours_back)),
        pressure_difference=float(ends["surface_pressure"][0] - job.kernel.surface_pressure),
    )
    made = {"cells": {"hour": cells.hour, "y": cells.y, "x": cells.x, "foot": cells.foot}, "endpoints": ends}
    return outcome, made | ({"trajectories": kept} if work.packs.keeps_trajectories else {})
