"""
How does STILT's own model, `hycs_std`, move the particles of one receptor?

The only file that knows PYSTILT's `hycs_std`. Its exit code says nothing: a run is good if its log says so, its
WARNING file knows of no gap, its particles can be, and the last is as old as it should be or all have left the domain.
"""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from stilt.exceptions import HYSPLITNotFoundError
from stilt.particles import add_release_heights, correct_near_field
from stilt.receptors import ColumnReceptor, PointReceptor
from stilt.transport.hysplit import HysplitConfig
from stilt.transport.hysplit.driver import PARTICLE_COLUMNS, write_inputs
from stilt.transport.hysplit.model import hysplit_version

from stilt_assets import scratch
from stilt_assets.errors import CannotExecuteError, DiskFullError, OverBudgetError, TransportError
from stilt_assets.receptor import Receptor
from stilt_assets.scene import digest
from stilt_assets.simulation import Limits, Simulation, seed_of
from stilt_assets.transport.particles import check_numbers, check_ways, left_through_the_edge
from stilt_assets.transport.program import memory_of_this_process, run_program

CODE = "1"
_THE_USERS = ("n_hours", "numpar", "seed")  # settings that the simulation gives
_COMPLETE = "Complete Hysplit"
_ONE_LEFT = "off spatial domain of all grids"  # said of the first particle to leave, and nothing of a gap after it
_ROW = 135  # bytes per particle and minute in PARTICLE_STILT.DAT
_REST = 2**20  # bytes of all other files of a run
# Of its static arrays hycs_std v5.1.0 touches 82 MiB and leaves 232; with the least that it allocates it holds 104.
_UNTOUCHED = 232 * 2**20
_LEAST = 104 * 2**20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
# What hycs_std v5.1.0 writes to its log or WARNING file, and the reason it stands for, the telling ones first.
_PHRASES = {
    "particles released may exceed MAXPAR": "particle_limit",
    "memory allocation": "out_of_memory",
    "Memory allocation failed": "out_of_memory",
    "Cannot allocate memory": "out_of_memory",
    "Allocation would exceed memory limit": "out_of_memory",
    "all source points off all meteo grids": "outside_meteorology",
    "start location outside of domain": "outside_meteorology",
    "Start height in extrapolation region": "above_meteorology",
    "Start height above mdl domain": "above_meteorology",
    "start point not within (x,y,t) any data file": "meteorology_ends",
    "start time after end of meteorology data": "meteorology_ends",
    "no more meteorology": "meteorology_ends",
    "too much time between files": "meteorology_ends",
    "no meteo data at current time": "meteorology_ends",
    "no data at current time on any grid": "meteorology_ends",
    "meteorological data time interval varies": "meteorology_ends",
    "Fortran runtime error": "fortran_error",
    "ERROR": "fortran_error",
    "Error:": "fortran_error",
}


class Hysplit:
    """`hycs_std` of PYSTILT, one process per receptor."""

    def identity(self, simulation: Simulation) -> Mapping[str, Any]:
        """Version of the build and of PYSTILT, and a digest of every setting that is not the user's."""
        try:
            build = hysplit_version()
        except OSError as error:
            raise CannotExecuteError(f"hycs_std is not installed: {error}") from error
        settings = _config(simulation, seed=0).settings()
        fixed = {name: value for name, value in settings.items() if name not in _THE_USERS}
        return {
            "code": CODE,
            "hycs_std": build,
            "pystilt": version("pystilt"),
            "setup": digest(repr(sorted(fixed.items())))[:12],
        }

    def scratch_needed(self, simulation: Simulation) -> int:
        """Bytes of files that a pixel's run writes to scratch, all of which are gone when it has ended."""
        return _ROW * simulation.particles * simulation.hours_back * 60 + _REST

    def run(self, receptor: Receptor, simulation: Simulation, meteorology: Path, limits: Limits) -> pd.DataFrame:
        """Follow a receptor's particles back in a scratch folder of its own, which is gone afterwards."""
        place = _place_of(receptor)
        config = _config(simulation, seed_of(receptor, simulation))
        needed = self.scratch_needed(simulation)
        if limits.scratch is not None and needed > limits.scratch:
            what = f"a pixel needs {needed / 2**20:.1f} MiB of scratch, {limits.scratch / 2**20:.1f} are allowed"
            raise OverBudgetError(f"{what}; raise `packs.scratch` or take fewer particles or hours")
        with _no_room_is_a_full_disk(), scratch.folder() as folder:
            scratch.needs_room(folder, needed, "a pixel")
            _prepare(folder, place, config, meteorology)
            try:
                particles = _particles(folder, config, receptor, simulation, meteorology, limits)
            except TransportError:
                scratch.needs_room(folder, _REST, "a pixel")  # hycs_std says nothing of a full disk
                raise
        return _corrected(particles, place, config)


def _place_of(receptor: Receptor) -> ColumnReceptor | PointReceptor:
    where = {"time": receptor.time, "longitude": receptor.longitude, "latitude": receptor.latitude}
    if receptor.bottom == receptor.top:
        return PointReceptor(**where, altitude=receptor.bottom)
    return ColumnReceptor(**where, bottom=receptor.bottom, top=receptor.top)


def _config(simulation: Simulation, seed: int) -> HysplitConfig:
    # outdt=-1 leaves out PARTICLE.DAT, which nobody reads: a tenth of the time, the same particles.
    return HysplitConfig(  # pyright: ignore[reportCallIssue]
        n_hours=-simulation.hours_back, numpar=simulation.particles, krand=2, seed=seed, kmix0=150, outdt=-1
    )


@contextmanager
def _no_room_is_a_full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise DiskFullError(f"no room left in the scratch folder: {error}; free some or set TMPDIR") from error


def _prepare(folder: Path, place: ColumnReceptor | PointReceptor, config: HysplitConfig, meteorology: Path) -> None:
    try:
        # A short relative path: hycs_std cuts longer ones.
        (folder / "meteorology.arl").symlink_to(meteorology.absolute())
        write_inputs(folder, place, config, [Path("meteorology.arl")])
    except HYSPLITNotFoundError as error:
        raise CannotExecuteError(f"hycs_std cannot run here: {error}") from error


def _particles(
    folder: Path,
    config: HysplitConfig,
    receptor: Receptor,
    simulation: Simulation,
    meteorology: Path,
    limits: Limits,
) -> pd.DataFrame:
    """Particles that `hycs_std` made in a folder, or TransportError."""
    messages = _execute(folder, limits)
    particles = _read(folder / "PARTICLE_STILT.DAT", config.varsiwant)
    check_numbers(particles)
    check_ways(particles, receptor, simulation)
    last = -particles["age"].min()
    if last < 60 * simulation.hours_back and not (
        _ONE_LEFT in messages and left_through_the_edge(particles, meteorology)
    ):
        raise TransportError("ended_early", f"the last particle is {last:.0f} min old, said to be complete")
    return particles


def _execute(folder: Path, limits: Limits) -> str:
    """Run `hycs_std`; its messages, or TransportError."""
    log = folder / "stilt.log"
    code = run_program("./hycs_std", log, limits.timeout, _may_allocate(limits.memory), limits.scratch)
    messages = "\n".join(path.read_text(errors="replace") for path in (log, folder / "WARNING") if path.exists())
    for phrase, reason in _PHRASES.items():
        if phrase in messages:
            line = next(line for line in messages.splitlines() if phrase in line)
            raise TransportError(reason, f"hycs_std: {' '.join(line.split())}")
    if _COMPLETE not in messages:
        raise TransportError("incomplete", f"hycs_std ended with code {code} without saying '{_COMPLETE}'")
    return messages


def _may_allocate(memory: int | None) -> int | None:
    """Bytes that `hycs_std` may allocate, static arrays included, to stay with this process below `memory` bytes."""
    worker = memory_of_this_process()
    if memory is None or worker is None:
        return None
    if memory < _LEAST:
        what = f"hycs_std alone needs {_LEAST / 2**20:.0f} MiB of memory, {memory / 2**20:.0f} are allowed"
        raise OverBudgetError(f"{what}; raise `packs.memory`")
    left = memory - worker
    if left < _LEAST:
        what = f"{max(left, 0) / 2**20:.0f} MiB are left for hycs_std beside its worker of {worker / 2**20:.0f}"
        raise TransportError("out_of_memory", f"{what}, it needs {_LEAST / 2**20:.0f}")
    return left + _UNTOUCHED


def _read(path: Path, variables: Sequence[str]) -> pd.DataFrame:
    names = [PARTICLE_COLUMNS.get(name, name) for name in variables]
    try:
        particles = pd.read_csv(path, sep=r"\s+", skiprows=1, header=None, names=names, dtype=float, engine="c")
    except FileNotFoundError as error:
        raise TransportError("no_particles", "hycs_std wrote no particles") from error
    except MemoryError as error:
        raise TransportError("out_of_memory", f"no room to read {path.stat().st_size} bytes of particles") from error
    except ValueError as error:
        if "out of memory" in str(error):
            raise TransportError("out_of_memory", f"reading particles: {error}") from error
        raise TransportError("unreadable_particles", f"hycs_std wrote what is no number: {error}") from error
    if particles.empty:
        raise TransportError("no_particles", "hycs_std wrote no particles")
    return particles


def _corrected(particles: pd.DataFrame, place: ColumnReceptor | PointReceptor, config: HysplitConfig) -> pd.DataFrame:
    if isinstance(place, PointReceptor):
        released = particles.assign(release_height=place.altitude)
    else:
        released = add_release_heights(particles, place)
    corrected = correct_near_field(released, place, config.veght)
    foot = corrected["foot"].to_numpy()
    if not (np.isfinite(foot) & (foot >= 0)).all():
        raise TransportError("unreadable_particles", "the near-field correction gives what is no influence")
    return corrected
