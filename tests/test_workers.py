"""What becomes of the jobs when the system kills workers."""

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stilt_assets import workers
from stilt_assets.errors import StiltAssetsError
from stilt_assets.grid import Grid
from stilt_assets.pack import Packs, read_outcomes
from stilt_assets.pixel import Workplace
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Outcome, Simulation, Status
from stilt_assets.store import open_store

COUNT = 5


@dataclass
class Fate:
    """Which pixels kill the worker that runs them, and how often; pools that break before a submission."""

    deadly: dict[int, int] = field(default_factory=dict)
    broken_after: list[int] = field(default_factory=list)
    ran: list[int] = field(default_factory=list)


class Pool:
    """Runs jobs in this process; breaks as the fate says."""

    def __init__(self, work: Workplace, fate: Fate) -> None:
        self.work, self.fate, self.broken = work, fate, False
        self.left = fate.broken_after.pop(0) if fate.broken_after else 10**6
        self.waiting: list[Future] = []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, _call: Any, what: Any, pixels: Any = None) -> Future:
        if self.broken or self.left == 0:
            raise BrokenProcessPool
        self.left -= 1
        future: Future = Future()
        self.waiting.append(future)
        if isinstance(what, int):
            self.work.packs.finish(what, pixels)
            future.set_result(None)
            return future
        pixel = what.receptor.pixel
        if self.fate.deadly.get(pixel, 0):
            self.fate.deadly[pixel] -= 1
            self.broken = True
            for other in self.waiting:
                if not other.done():
                    other.set_exception(BrokenProcessPool())
            return future
        self.fate.ran.append(pixel)
        self.work.packs.put_aside(Outcome(pixel, Status.empty, "", "", what.attempt, 0.0, 2, 1), {})
        future.set_result(None)
        return future


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: Fate, count: int = 3) -> list[dict[str, Any]]:
    store = open_store(str(tmp_path / "store"))
    packs = Packs(store, store.result("key", "particles-0"), store.result("key", "footprints-0"), "endpoints")
    work = Workplace(packs, Simulation("hysplit", 2, 2, 0), Grid(0, 0, 1, 1, 1), tmp_path, 1.0)
    time = datetime(2019, 5, 30, 9, tzinfo=UTC)
    receptors = [Receptor(pixel, time, 0.5, 0.5, 0, 100) for pixel in range(COUNT)]
    kernels = [Kernel(np.ones(1), np.ones(1), 1.0)] * COUNT
    monkeypatch.setattr(workers, "_pool", lambda work, _count: Pool(work, fate))
    cut = [np.arange(3), np.arange(3, COUNT)]
    workers.run_packs(work, cut, receptors, kernels, count)
    return read_outcomes(store, packs.footprints)


def test_all_pixels_of_all_packs_have_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row["pixel"] for row in run(tmp_path, monkeypatch, Fate())] == list(range(COUNT))


@pytest.mark.parametrize("after", range(8))
def test_a_pool_that_is_found_broken_loses_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    rows = run(tmp_path, monkeypatch, Fate(broken_after=[after, after]))
    assert [(row["pixel"], row["status"]) for row in rows] == [(pixel, "empty") for pixel in range(COUNT)]


def test_a_pixel_that_kills_its_worker_costs_its_neighbours_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run(tmp_path, monkeypatch, Fate(deadly={1: 100}))
    assert [row["pixel"] for row in rows if row["status"] == "failed"] == [1]
    assert [row["reason"] for row in rows] == ["", "killed", "", "", ""]
    assert [row["attempts"] for row in rows] == [1, 3, 1, 1, 1]


def test_a_worker_that_was_killed_once_costs_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run(tmp_path, monkeypatch, Fate(deadly={0: 1, 4: 1}))
    assert {row["status"] for row in rows} == {"empty"}


def test_a_machine_that_kills_every_worker_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StiltAssetsError, match="workers were killed one after the other"):
        run(tmp_path, monkeypatch, Fate(broken_after=[0] * 100))
