"""
How does a scene ask for particles of `native`?

The model behind `transport: native`: one door for workers, which follow and grid a pixel at a time in one thread each
over meteorology that was decoded once for the machine.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stilt_assets.errors import SettingsError
from stilt_assets.grid import Cells, Grid
from stilt_assets.meteorology.proof import Edges
from stilt_assets.particles import STEPS
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Flown, Limits, Simulation
from stilt_assets.transport.native import decoded
from stilt_assets.transport.native.coverage import covers
from stilt_assets.transport.native.flight import Air, Course, air_of, fly, followed, made_ready
from stilt_assets.transport.native.gridding import gridded, kept_rows
from stilt_assets.transport.native.log import EXTRA, UNBOUNDED, kept_of

CODE = "3"  # of what moves particles
GRIDDING = "native-1"  # of what makes cells of them


class Native:
    """A model of our own with the answers of `hycs_std`, whose particles become cells as they move."""

    reference = "hysplit"  # the model that a guard compares it with

    def identity(self, simulation: Simulation) -> Mapping[str, Any]:
        """Versions of engine and decoding, and of the packages that read meteorology and weigh particles."""
        packages = {name: version(name) for name in ("arlmet", "pystilt")}
        device = {} if simulation.device == "cpu" else {"device": simulation.device}
        return {"code": CODE, "decoding": decoded.CODE, **packages, **device}

    def gridding(self) -> str:
        """The version of what makes cells of particles."""
        return GRIDDING

    def scratch_needed(self, simulation: Simulation) -> int:  # noqa: ARG002  the protocol's signature
        """No file is written for a pixel."""
        return 0

    @contextmanager
    def prepare(self, simulation: Simulation, meteorology: Path) -> Iterator[None]:
        """Decode the meteorology and compile what reads it, once for all processes of a machine."""
        refused = covers(meteorology, simulation)
        if refused:
            raise SettingsError(f"native does not cover this: {'; '.join(refused)}; set `transport: hysplit`")
        with decoded.prepared(meteorology):
            self.load(meteorology)
            yield

    def load(self, meteorology: Path) -> None:
        """Map decoded meteorology, and compile what reads it or load its machine code."""
        made_ready(_air(meteorology).met)

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
        """Follow a receptor's particles back and grid them. TransportError with the pixel's reason."""
        return fly(Course(_air(meteorology), receptor, simulation), kernel, grid, edges, keep, limits)

    def cells_of(
        self,
        kept: Mapping[str, np.ndarray],
        releases: Mapping[str, np.ndarray],
        omega: np.ndarray,
        receptor: Receptor,
        grid: Grid,
    ) -> tuple[Cells, float]:
        """The same cells and `mc_error`, or those of another kernel or grid, from particles in their kept form."""
        by_number = omega[np.argsort(releases["particle"])]
        return gridded(*kept_rows(kept, grid), by_number, grid, -receptor.time.minute % 60)

    def run(self, receptor: Receptor, simulation: Simulation, meteorology: Path, limits: Limits) -> pd.DataFrame:
        """Follow a receptor's particles back: a row per particle and minute, with all that `keep: full` keeps."""
        course = Course(_air(meteorology), receptor, simulation)
        log, _ = followed(course, UNBOUNDED, "full", limits)
        kept = kept_of(log)
        table = {name: kept[name].astype(float) for name in ("particle", "age", "foot", *EXTRA)}
        table |= {name: kept[name] / STEPS[name] for name in ("lon", "lat", "zagl")}
        table |= {"pres": kept["pressure"] / STEPS["pressure"]}
        return pd.DataFrame(table | {"release_height": course.release_heights[kept["particle"] - 1]})


def _air(meteorology: Path) -> Air:
    """The decoded meteorology of a file, opened once by this process while the file stays what it is."""
    facts = meteorology.stat()
    return _opened(meteorology, facts.st_ino, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=2)
def _opened(meteorology: Path, *_: int) -> Air:
    return air_of(decoded.opened(meteorology))
