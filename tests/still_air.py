"""
A transport in which nothing moves: all influence stays in the receptor's own cell.

Named in settings as `still_air:StillAir`, with this folder on PYTHONPATH. What it costs and when it fails is said by a
file `still_air.json` in any folder above the meteorology, which workers of every kind of program find:

    {"seconds": 0.03,                       that a pixel takes
     "drift": 0.2,                          degrees that particles go west in an hour
     "scale_height": 8000,                  m in which the pressure falls to 1/e of itself
     "scratch": 65536,                      bytes that it writes to its scratch folder
     "too_much": 1.3,                       times that `DoubtfulAir` says more than it should
     "mended": true,                        whether `NoAir` starts
     "faults": {"7": "timeout", "9": "die", "5": "once timeout"}}   what goes wrong with which pixel, * is any

Beside it, `ran` gets eight bytes for each pixel that is run.
"""

import errno
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stilt_assets import scratch
from stilt_assets.errors import CannotExecuteError, DiskFullError, TransportError
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Limits, Simulation, seed_of

WISHES = "still_air.json"
SCALE_HEIGHT = 8000.0  # m
SURFACE = 850.0  # hPa


class StillAir:
    """A fake."""

    def identity(self, simulation: Simulation) -> Mapping[str, Any]:
        """Nothing but its name."""
        return {"code": "still air"}

    def scratch_needed(self, simulation: Simulation) -> int:
        """Nothing to speak of."""
        return 0

    def run(self, receptor: Receptor, simulation: Simulation, meteorology: Path, limits: Limits) -> pd.DataFrame:
        """Particles that stay where they are, with a touch of chance in how much they weigh."""
        home = next((folder for folder in meteorology.parents if (folder / WISHES).exists()), None)
        wishes = json.loads((home / WISHES).read_text()) if home else {}
        if home:
            self._obey(receptor.pixel, home, wishes)
        return self._particles(receptor, simulation, wishes)

    def _obey(self, pixel: int, home: Path, wishes: Mapping[str, Any]) -> None:
        with scratch.folder() as folder:
            try:
                (folder / "particles").write_bytes(bytes(wishes.get("scratch", 0)))
            except OSError as error:
                raise DiskFullError(f"no room left in {folder.parent}") from error
            self._misbehave(
                wishes.get("faults", {}).get(str(pixel), wishes.get("faults", {}).get("*", "")), home / f"once-{pixel}"
            )
            time.sleep(wishes.get("seconds", 0))
        with (home / "ran").open("ab", buffering=0) as file:
            file.write(f"{pixel:7d}\n".encode())

    def _misbehave(self, fault: str, mark: Path) -> None:
        if not fault or (fault.startswith("once") and mark.exists()):
            return
        mark.touch()
        reason = fault.removeprefix("once ")
        if reason == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if reason == "disk_full":
            raise DiskFullError("no room left, as it was told")
        if reason == "no_memory":
            raise OSError(errno.ENOMEM, "Cannot allocate memory", "a folder that it looks into")
        if reason == "no_library":
            raise ImportError("library.so: failed to map segment from shared object")
        raise TransportError(reason, "still air was told to fail")

    def _particles(self, receptor: Receptor, simulation: Simulation, wishes: Mapping[str, Any]) -> pd.DataFrame:
        count, minutes = simulation.particles, 60 * simulation.hours_back
        height = (np.arange(count) + 0.5) / count * receptor.top
        foot = np.random.default_rng(seed_of(receptor, simulation)).uniform(1e-4, 2e-4, count)
        number = np.arange(count)
        age, particle = (each.ravel() for each in np.meshgrid(-np.arange(1, minutes + 1), number, indexing="ij"))
        return pd.DataFrame(
            {
                "particle": particle + 1,
                "age": age.astype(float),
                "lon": receptor.longitude + wishes.get("drift", 0.0) * age / 60,
                "lat": receptor.latitude,
                "zagl": height[particle],
                "pres": SURFACE * np.exp(-height[particle] / wishes.get("scale_height", SCALE_HEIGHT)),
                "foot": foot[particle],
                "release_height": height[particle],
            }
        )


class DoubtfulAir(StillAir):
    """The same with other numbers of chance, to be believed only if `StillAir` agrees."""

    reference = "still_air:StillAir"

    def _particles(self, receptor: Receptor, simulation: Simulation, wishes: Mapping[str, Any]) -> pd.DataFrame:
        particles = super()._particles(receptor, replace(simulation, seed=simulation.seed + 1), wishes)
        return particles.assign(foot=particles["foot"] * wishes.get("too_much", 1.0))


class LoneAir(DoubtfulAir):
    """One whose reference does not start on this machine."""

    reference = "still_air:NoAir"


def _wishes(meteorology: Path) -> list[Path]:
    return [folder / WISHES for folder in meteorology.parents if (folder / WISHES).exists()]


class NoAir(StillAir):
    """A program that does not start."""

    def run(self, receptor: Receptor, simulation: Simulation, meteorology: Path, limits: Limits) -> pd.DataFrame:
        """Nothing, unless it was mended."""
        if not any(json.loads(path.read_text()).get("mended") for path in _wishes(meteorology)):
            raise CannotExecuteError("no air here")
        return super().run(receptor, simulation, meteorology, limits)
