"""
What changes a particle, who moves it, and what became of a pixel?

The settings of a simulation, the one door to every transport model, and the outcomes.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from stilt_assets.grid import Cells, Grid
from stilt_assets.meteorology.proof import Edges
from stilt_assets.reasons import REASONS, Remedy
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.scene import digest

_SEEDS = 10**9


class Status(IntEnum):
    """What became of a pixel."""

    missing = 0
    ok = 1
    empty = 2  # a result: no influence in the grid
    failed = 3


@dataclass(frozen=True)
class Outcome:
    """What became of one pixel, and why: a row of `outcomes/`."""

    pixel: int
    status: Status
    reason: str  # why it failed, empty otherwise
    message: str
    attempts: int  # runs of the transport model; 0 if kept particles were gridded again
    seconds: float
    particles: int
    seed: int
    row_sum: float = 0.0  # ppm m2 s µmol-1
    mc_error: float = float("nan")  # of row_sum, from two halves of the particles
    left_domain: float = float("nan")  # share of particles that ended before the run did
    near_edge: float = float("nan")  # share of particles that came within a cell of where the crop ends them
    near_lid: float = float("nan")  # share of particles that came so high that they felt the meteorology's lid
    pressure_difference: float = float("nan")  # hPa, the model's surface pressure less the retrieval's


@dataclass(frozen=True)
class Simulation:
    """The settings that change a particle, those of the receptor aside."""

    transport: str
    hours_back: int
    particles: int
    seed: int
    device: str = "cpu"  # what `native` runs on


@dataclass(frozen=True)
class Limits:
    """What one pixel may take of a machine."""

    timeout: float  # s
    memory: int | None = None  # bytes, of a worker and the programs it starts
    scratch: int | None = None  # bytes, of files while it runs

    def after(self, reason: str) -> "Limits":
        """What it may take the next time, after it failed for `reason`."""
        remedy = REASONS[reason].remedy
        if remedy is Remedy.retry_longer:
            return replace(self, timeout=2 * self.timeout)
        if remedy is Remedy.retry_larger and self.memory:
            return replace(self, memory=2 * self.memory)
        return self


@runtime_checkable
class Transport(Protocol):
    """A model that moves particles."""

    def identity(self, simulation: Simulation) -> Mapping[str, Any]:
        """What of the model shapes its particles: version, build, fixed settings (JSON values)."""
        ...

    def scratch_needed(self, simulation: Simulation) -> int:
        """Bytes of scratch files that one pixel needs while it runs."""
        ...

    def run(self, receptor: Receptor, simulation: Simulation, meteorology: Path, limits: Limits) -> pd.DataFrame:
        """
        Follow a receptor's particles back.

        One row per particle and minute with at least `particle` (1..n), `age` (min, negative), `lon`, `lat` (degrees),
        `zagl` (m), `pres` (hPa), `foot` (ppm m2 s µmol-1, near-field corrected) and `release_height` (m above ground).
        Raises TransportError with the pixel's reason.
        """
        ...


@dataclass(frozen=True)
class Flown:
    """What a fused transport made of one pixel."""

    cells: Cells
    ends: dict[str, np.ndarray]  # each particle's last row and release, as endpoints are kept
    kept: dict[str, np.ndarray]  # its rows in their kept form; empty unless they are kept
    mc_error: float
    near_edge: float
    near_lid: float


@runtime_checkable
class FusedTransport(Transport, Protocol):
    """A model that grids particles while it moves them, over meteorology that all workers of a machine share."""

    def gridding(self) -> str:
        """The version of what makes cells of particles."""
        ...

    def prepare(self, simulation: Simulation, meteorology: Path) -> AbstractContextManager[None]:
        """Make ready what all workers share, and hold it for the block. SettingsError if the model refuses either."""
        ...

    def load(self, meteorology: Path) -> None:
        """Open what is shared in this process, and load what the model needs, before its memory is limited."""
        ...

    def fly(
        self,
        receptor: Receptor,
        kernel: Kernel,
        grid: Grid,
        simulation: Simulation,
        meteorology: Path,
        edges: Edges,
        keep: str,
        limits: Limits,
    ) -> Flown:
        """Follow a receptor's particles back and grid them. Raises TransportError with the pixel's reason."""
        ...

    def cells_of(
        self,
        kept: Mapping[str, np.ndarray],
        releases: Mapping[str, np.ndarray],
        omega: np.ndarray,
        receptor: Receptor,
        grid: Grid,
    ) -> tuple[Cells, float]:
        """The same cells and `mc_error`, or those of another kernel or grid, from particles in their kept form."""
        ...


def seed_of(receptor: Receptor, simulation: Simulation) -> int:
    """The seed of a receptor's random numbers: it follows from place, time, column and the scene's seed alone."""
    place = (
        f"{receptor.time:%Y%m%d%H%M} {receptor.longitude!r} {receptor.latitude!r} {receptor.bottom!r} {receptor.top!r}"
    )
    return int(digest(place, str(simulation.seed))[:15], 16) % _SEEDS
