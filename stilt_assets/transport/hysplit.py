"""
How does STILT's own model, `hycs_std`, move the particles of one receptor?

The only file that knows PYSTILT's `hycs_std`. Its exit code says nothing: a run is good if its log says so, its
WARNING file knows of no gap, and its last particle is as old as it should be or all have left the domain.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from stilt.exceptions import HYSPLITNotFoundError
from stilt.particles import add_release_heights, correct_near_field
from stilt.receptors import ColumnReceptor
from stilt.transport.hysplit import HysplitConfig
from stilt.transport.hysplit.driver import PARTICLE_COLUMNS, write_inputs
from stilt.transport.hysplit.model import hysplit_version

from stilt_assets.errors import DiskFullError, StiltAssetsError, TransportError
from stilt_assets.receptor import Receptor
from stilt_assets.scene import digest
from stilt_assets.simulation import Simulation, seed_of

CODE = "1"
_THE_USERS = ("n_hours", "numpar", "seed")  # settings that the simulation gives
_COMPLETE = "Complete Hysplit"
_ALL_LEFT = "off spatial domain of all grids"
_ROW = 135  # bytes per particle and minute in PARTICLE_STILT.DAT
_REST = 2**20  # bytes of all other files of a run
# What hycs_std v5.1.0 writes to its log or WARNING file, and the reason it stands for, the telling ones first.
_PHRASES = {
    "all source points off all meteo grids": "outside_meteorology",
    "Start height in extrapolation region": "above_meteorology",
    "start point not within (x,y,t) any data file": "meteorology_gap",
    "start time after end of meteorology data": "meteorology_gap",
    "no more meteorology": "meteorology_gap",
    "too much time between files": "meteorology_gap",
    "no meteo data at current time": "meteorology_gap",
    "no data at current time on any grid": "meteorology_gap",
    "meteorological data time interval varies": "meteorology_gap",
    "Fortran runtime error": "fortran_error",
}


class Hysplit:
    """`hycs_std` of PYSTILT, one process per receptor."""

    def identity(self, simulation: Simulation) -> Mapping[str, Any]:
        """Version of the build and of PYSTILT, and a digest of every setting that is not the user's."""
        try:
            build = hysplit_version()
        except OSError as error:
            raise StiltAssetsError(f"hycs_std is not installed: {error}") from error
        settings = _config(simulation, seed=0).settings()
        fixed = {name: value for name, value in settings.items() if name not in _THE_USERS}
        return {
            "code": CODE,
            "hycs_std": build,
            "pystilt": version("pystilt"),
            "setup": digest(repr(sorted(fixed.items())))[:12],
        }

    def run(self, receptor: Receptor, simulation: Simulation, meteorology: Path, timeout: float) -> pd.DataFrame:
        """Follow a column's particles back in a scratch folder of its own, which is gone afterwards."""
        column = ColumnReceptor(
            time=receptor.time,
            longitude=receptor.longitude,
            latitude=receptor.latitude,
            bottom=receptor.bottom,
            top=receptor.top,
        )
        config = _config(simulation, seed_of(receptor, simulation))
        with tempfile.TemporaryDirectory(prefix="stilt-assets-") as name:
            folder = Path(name)
            try:
                # A short relative path: hycs_std cuts longer ones.
                (folder / "meteorology.arl").symlink_to(meteorology.absolute())
                write_inputs(folder, column, config, [Path("meteorology.arl")])
            except HYSPLITNotFoundError as error:
                raise StiltAssetsError(f"hycs_std cannot run here: {error}") from error
            _needs_room(folder, _ROW * simulation.particles * simulation.hours_back * 60)
            try:
                messages = _execute(folder, timeout)
                particles = _read(folder / "PARTICLE_STILT.DAT", config.varsiwant)
            except TransportError:
                _needs_room(folder, 0)  # hycs_std says nothing of a full disk
                raise
        if particles["age"].min() > -60 * simulation.hours_back and _ALL_LEFT not in messages:
            raise TransportError(
                "ended_early", f"the last particle is {particles['age'].min():.0f} min old, said to be complete"
            )
        return correct_near_field(add_release_heights(particles, column), column, config.veght)


def _config(simulation: Simulation, seed: int) -> HysplitConfig:
    # outdt=-1 leaves out PARTICLE.DAT, which nobody reads: a tenth of the time, the same particles.
    return HysplitConfig(  # pyright: ignore[reportCallIssue]
        n_hours=-simulation.hours_back, numpar=simulation.particles, krand=2, seed=seed, kmix0=150, outdt=-1
    )


def _needs_room(folder: Path, size: int) -> None:
    """DiskFullError unless `size` bytes and a run's small files fit beside `folder`."""
    free = shutil.disk_usage(folder).free
    if free < size + _REST:
        what = f"{free / 2**20:.1f} MiB free, a pixel needs {(size + _REST) / 2**20:.1f}"
        raise DiskFullError(f"no room left in the scratch folder {folder.parent}: {what}; free some or set TMPDIR")


def _execute(folder: Path, timeout: float) -> str:
    """Run `hycs_std` in its own process group; its messages, or TransportError."""
    log = folder / "stilt.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["./hycs_std"], cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TransportError("timeout", f"hycs_std ran longer than {timeout:g} s") from error
        finally:
            _end(process)
    messages = "\n".join(path.read_text(errors="replace") for path in (log, folder / "WARNING") if path.exists())
    for phrase, reason in _PHRASES.items():
        if phrase in messages:
            line = next(line for line in messages.splitlines() if phrase in line)
            raise TransportError(reason, f"hycs_std: {' '.join(line.split())}")
    if code < 0:
        raise TransportError("killed", f"hycs_std was ended by signal {signal.Signals(-code).name}")
    if _COMPLETE not in messages:
        raise TransportError("incomplete", f"hycs_std ended with code {code} without saying '{_COMPLETE}'")
    return messages


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(path: Path, variables: Sequence[str]) -> pd.DataFrame:
    names = [PARTICLE_COLUMNS.get(name, name) for name in variables]
    try:
        particles = pd.read_csv(path, sep=r"\s+", skiprows=1, header=None, names=names, dtype=float, engine="c")
    except FileNotFoundError as error:
        raise TransportError("no_particles", "hycs_std wrote no particles") from error
    except ValueError as error:
        raise TransportError("unreadable_particles", f"hycs_std wrote what is no number: {error}") from error
    if particles.empty:
        raise TransportError("no_particles", "hycs_std wrote no particles")
    if particles.isna().to_numpy().any():
        raise TransportError("unreadable_particles", "hycs_std wrote a row that lacks numbers")
    return particles
