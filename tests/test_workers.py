"""What becomes of the jobs when the system kills workers."""

import shutil
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stilt_assets import workers
from stilt_assets.errors import DamagedError, DiskFullError, OverBudgetError, WorkersKilledError
from stilt_assets.grid import Grid
from stilt_assets.meteorology.proof import Edges
from stilt_assets.pack import Packs
from stilt_assets.pixel import Job, Workplace, run_pixel
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Limits, Outcome, Simulation, Status
from stilt_assets.store import open_store
from stilt_assets.whole import read_outcomes
from stilt_assets.workers import Share

COUNT = 5


@dataclass
class Fate:
    """Which pixels kill the worker that runs them, and how often; pools that break before a submission."""

    deadly: dict[int, int] = field(default_factory=dict)
    failing: dict[int, list[str]] = field(default_factory=dict)  # reasons of a pixel's first attempts
    broken_after: list[int] = field(default_factory=list)
    broken_by: type[Exception] = BrokenProcessPool
    damaged: dict[int, int] = field(default_factory=dict)  # how often the first pixel of a pack comes back damaged
    ran: list[int] = field(default_factory=list)
    given: list[tuple[int, Limits]] = field(default_factory=list)  # pixel and its limits
    together: list[list[int]] = field(default_factory=lambda: [[]])  # pixels that ran side by side
    aside: list[int] = field(default_factory=list)  # files of unfinished pixels, after each pixel


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
            raise self.fate.broken_by
        self.left -= 1
        future: Future = Future()
        self.waiting.append(future)
        if isinstance(what, int):
            if self.fate.damaged.get(what):
                self.fate.damaged[what] -= 1
                future.set_result({pixels[0]})
                return future
            future.set_result(self.work.packs.finish(what, pixels))
            return future
        pixel = what.receptor.pixel
        if self.fate.deadly.get(pixel, 0):
            self.fate.deadly[pixel] -= 1
            self.broken = True
            for other in self.waiting:
                if not other.done():
                    other.set_exception(BrokenProcessPool())
            return future
        self.fate.given.append((pixel, what.limits))
        self.fate.together[-1].append(pixel)
        if self.fate.failing.get(pixel):
            future.set_result(self.fate.failing[pixel].pop(0))
            return future
        self.fate.ran.append(pixel)
        self.work.packs.put_aside(what.pack, Outcome(pixel, Status.empty, "", "", what.attempt, 0.0, 2, 1), {})
        self.fate.aside.append(sum(len(self.work.packs.aside(number)) for number in range(COUNT)))
        future.set_result("")
        return future


def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: Fate, count: int = 3, files: int | None = None, **limits: Any
) -> list[dict[str, Any]]:
    store = open_store(str(tmp_path / "store"))
    packs = Packs(store, store.result("key", "particles-0"), store.result("key", "footprints-0"), "endpoints")
    simulation, edges = Simulation("hysplit", 2, 2, 0), Edges(None, (False,) * 4, None)  # pyright: ignore
    work = Workplace(packs, simulation, Grid(0, 0, 1, 1, 1), tmp_path, edges, Limits(1.0, **limits), workers=count)
    time = datetime(2019, 5, 30, 9, tzinfo=UTC)
    receptors = {pixel: Receptor(pixel, time, 0.5, 0.5, 0, 100) for pixel in range(COUNT)}
    kernels = dict.fromkeys(range(COUNT), Kernel(np.ones(1), np.ones(1), 1.0))
    monkeypatch.setattr(workers, "pool_of", lambda work, _count: Pool(work, fate))
    real_wait = workers.wait

    def wait(futures: Any, **how: Any) -> Any:
        if fate.together[-1]:
            fate.together.append([])
        return real_wait(futures, **how)

    monkeypatch.setattr(workers, "wait", wait)
    share = Share({0: np.arange(3), 1: np.arange(3, COUNT)}, frozenset(), receptors, kernels)
    workers.run_packs(work, share, files)
    return read_outcomes(store, packs.footprints)


def test_all_pixels_of_all_packs_have_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row["pixel"] for row in run(tmp_path, monkeypatch, Fate())] == list(range(COUNT))


@pytest.mark.parametrize("broken_by", [BrokenProcessPool, EOFError, ConnectionResetError])
@pytest.mark.parametrize("after", range(8))
def test_a_pool_that_is_found_broken_loses_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, broken_by: type[Exception]
) -> None:
    rows = run(tmp_path, monkeypatch, Fate(broken_after=[after, after], broken_by=broken_by))
    assert [(row["pixel"], row["status"]) for row in rows] == [(pixel, "empty") for pixel in range(COUNT)]


def test_a_pixel_that_kills_its_worker_costs_its_neighbours_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run(tmp_path, monkeypatch, Fate(deadly={1: 100}))
    assert [row["pixel"] for row in rows if row["status"] == "failed"] == [1]
    assert [row["reason"] for row in rows] == ["", "killed", "", "", ""]
    assert [row["attempts"] for row in rows] == [1, 3, 1, 1, 1]


def test_a_pack_whose_last_pixel_is_lost_is_whole_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run(tmp_path, monkeypatch, Fate(deadly={3: 100, 4: 100}))
    assert [row["reason"] for row in rows] == ["", "", "", "killed", "killed"]
    assert [row["attempts"] for row in rows] == [1, 1, 1, 3, 3]


def test_a_worker_that_was_killed_once_costs_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run(tmp_path, monkeypatch, Fate(deadly={0: 1, 4: 1}))
    assert {row["status"] for row in rows} == {"empty"}


def test_a_machine_that_kills_every_worker_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkersKilledError, match="workers were killed one after the other"):
        run(tmp_path, monkeypatch, Fate(broken_after=[0] * 100))


def test_a_timeout_is_tried_again_with_twice_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fate = Fate(failing={2: ["timeout", "timeout"]})
    rows = run(tmp_path, monkeypatch, fate)
    assert [limits.timeout for pixel, limits in fate.given if pixel == 2] == [1.0, 2.0, 4.0]
    assert {limits.timeout for pixel, limits in fate.given if pixel != 2} == {1.0}
    assert [row["attempts"] for row in rows] == [1, 1, 3, 1, 1]


def test_a_pixel_without_memory_is_tried_again_on_its_own_with_twice_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fate = Fate(failing={1: ["out_of_memory"]})
    rows = run(tmp_path, monkeypatch, fate, memory=300)
    assert [limits.memory for pixel, limits in fate.given if pixel == 1] == [300, 600]
    assert [pixels for pixels in fate.together if pixels] == [[0, 1, 2], [1], [3, 4]]
    assert {row["status"] for row in rows} == {"empty"}


def test_a_reason_that_says_nothing_of_time_or_memory_changes_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fate = Fate(failing={0: ["incomplete"]})
    run(tmp_path, monkeypatch, fate, memory=300)
    assert [limits for pixel, limits in fate.given if pixel == 0] == [Limits(1.0, 300)] * 2


@pytest.mark.parametrize(("files", "most"), [(None, 5), (5, 5), (3, 3)])
def test_a_budget_of_files_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int | None, most: int) -> None:
    fate = Fate()
    rows = run(tmp_path, monkeypatch, fate, count=5, files=files)
    assert len(rows) == COUNT
    assert max(fate.aside) == most


def test_a_pack_that_is_larger_than_the_budget_of_files_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fate = Fate()
    with pytest.raises(OverBudgetError, match=r"pack 0 keeps 3 files until it is whole, packs\.files allows 2"):
        run(tmp_path, monkeypatch, fate, files=2)
    assert fate.ran == []


def test_scratch_beyond_its_budget_is_refused_before_a_pixel_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fate = Fate()
    with pytest.raises(OverBudgetError, match=r"a pixel needs 1\.0 MiB of scratch, packs.scratch allows 0\.5"):
        run(tmp_path, monkeypatch, fate, scratch=2**19)
    assert fate.ran == []


def test_a_disk_that_cannot_hold_a_pack_is_told_before_a_pixel_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fate = Fate()
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 500))
    monkeypatch.setattr(workers, "_see_that_scratch_fits", lambda *_: None)
    with pytest.raises(DiskFullError, match="no room left"):
        run(tmp_path, monkeypatch, fate)
    assert fate.ran == []


def test_a_damaged_pixel_runs_again_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fate = Fate(damaged={1: 2})
    assert len(run(tmp_path, monkeypatch, fate)) == COUNT
    assert sorted(fate.ran) == [0, 1, 2, 3, 3, 3, 4]


def test_damage_without_end_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DamagedError, match="pack 1 made is damaged again and again"):
        run(tmp_path, monkeypatch, Fate(damaged={1: 1000}))


class NoRoom(Packs):
    """Puts no result aside that has particles, as its worker has no memory left."""

    def put_aside(self, number: int, outcome: Outcome, made: Any) -> None:
        """MemoryError for what is large."""
        if made:
            raise MemoryError
        super().put_aside(number, outcome, made)


class NotReadable:
    """Kept particles for which a worker has no memory."""

    def particles(self, _: int) -> None:
        """As pyarrow says it."""
        raise MemoryError("malloc of size 1440000 failed")


@pytest.mark.parametrize("kept", [None, NotReadable()])
def test_a_worker_without_memory_for_what_a_pixel_made_or_kept_loses_no_more_than_that(
    tmp_path: Path, kept: Any
) -> None:
    store = open_store(str(tmp_path / "store"))
    packs = NoRoom(store, store.result("key", "particles-0"), store.result("key", "footprints-0"), "endpoints")
    simulation, grid = Simulation("still_air:StillAir", 2, 2, 0), Grid(0, 0, 1, 1, 1)
    edges: Any = SimpleNamespace(shares=lambda *_: (0.0, 0.0))
    work = Workplace(packs, simulation, grid, tmp_path, edges, Limits(1.0), workers=1, attempts=2)
    receptor = Receptor(0, datetime(2019, 5, 30, 9, tzinfo=UTC), 0.5, 0.5, 0, 100)
    job = Job(0, receptor, Kernel(np.ones(1), np.ones(1), 1.0), Limits(1.0), attempt=1, kept=kept)
    assert run_pixel(work, job) == "out_of_memory"
    assert run_pixel(work, replace(job, attempt=2)) == ""
    packs.finish(0, [0])
    (row,) = read_outcomes(store, packs.footprints)
    assert (row["status"], row["reason"], row["attempts"]) == ("failed", "out_of_memory", 2)
