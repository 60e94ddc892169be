"""
Who runs the packs?

Worker processes side by side, one pixel each at a time; a stop takes effect at the next pixel. A worker that the
system kills costs a second attempt of its pixel, not the scene.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import forkserver

import numpy as np

from stilt_assets.errors import StoppedError
from stilt_assets.pixel import Job, Workplace, give_up, run_pixel
from stilt_assets.receptor import Kernel, Receptor

_ATTEMPTS = 3
_POLL = 0.2  # s between looks at whether to stop
_FOR_THE_MAIN_PROCESS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Progress:
    """How far the packs of a scene are."""

    pixels_done: int
    pixels: int
    packs_done: int
    packs: int


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_packs(
    work: Workplace,
    packs: Sequence[np.ndarray],
    receptors: Sequence[Receptor],
    kernels: Sequence[Kernel],
    workers: int,
    tell: Callable[[Progress], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """
    Give every pixel of every pack an outcome, and every pack its files. What is there already is not run again.

    Raises StoppedError when `stopped` says so, after the pixels under way have finished.
    """
    Run(work, packs, receptors, kernels, tell, stopped).with_workers(workers)


class Run:
    """The packs of a scene while they are run."""

    def __init__(
        self,
        work: Workplace,
        packs: Sequence[np.ndarray],
        receptors: Sequence[Receptor],
        kernels: Sequence[Kernel],
        tell: Callable[[Progress], None],
        stopped: Callable[[], bool],
    ) -> None:
        self.work, self.packs, self.tell, self.stopped = work, packs, tell, stopped
        self.whole = {number for number in range(len(packs)) if work.packs.is_whole(number)}
        before = work.packs.finished_pixels()
        self.left = {
            number: set(pixels.tolist()) - before for number, pixels in enumerate(packs) if number not in self.whole
        }
        self.jobs = self._jobs(receptors, kernels)
        self.running: dict[Future, Job | int] = {}

    def _jobs(self, receptors: Sequence[Receptor], kernels: Sequence[Kernel]) -> Iterator[Job | int]:
        """Pixels to run and, by number, packs to finish whose pixels all ran before."""
        for number, left in list(self.left.items()):
            if not left:
                yield number
            for pixel in sorted(left):
                yield Job(number, receptors[pixel], kernels[pixel])

    def progress(self) -> Progress:
        """How far it is now."""
        pixels = sum(len(members) for members in self.packs)
        return Progress(pixels - sum(map(len, self.left.values())), pixels, len(self.whole), len(self.packs))

    def with_workers(self, count: int) -> None:
        """Run until all packs are whole."""
        self.tell(self.progress())
        if not self.left:
            return
        again: list[Job | int] = []
        while True:
            try:
                with _pool(self.work, count) as pool:
                    self._drain(pool, count, again)
                return
            except BrokenProcessPool:
                again = [retry for job in self.running.values() if (retry := self._once_more(job)) is not None]
                self.running.clear()

    def _drain(self, pool: ProcessPoolExecutor, count: int, again: list[Job | int]) -> None:
        while True:
            while len(self.running) < count and not self.stopped():
                job = again.pop() if again else next(self.jobs, None)
                if job is None:
                    break
                self._submit(pool, job)
            if not self.running:
                break
            done, _ = wait(self.running, timeout=_POLL, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()  # raises what a worker raised
                self._note(pool, self.running.pop(future))
        if self.stopped() and self.left:
            state = self.progress()
            raise StoppedError(f"stopped with {state.pixels_done} of {state.pixels} pixels done; run again to go on")

    def _submit(self, pool: ProcessPoolExecutor, job: Job | int) -> None:
        future = pool.submit(_finish, job, self.packs[job].tolist()) if isinstance(job, int) else pool.submit(_run, job)
        self.running[future] = job

    def _note(self, pool: ProcessPoolExecutor, job: Job | int) -> None:
        if isinstance(job, int):
            self.whole.add(job)
            del self.left[job]
        else:
            self._has_outcome(job)
            if not self.left[job.pack]:
                self._submit(pool, job.pack)
        self.tell(self.progress())

    def _has_outcome(self, job: Job) -> None:
        self.left[job.pack].discard(job.receptor.pixel)

    def _once_more(self, job: Job | int) -> Job | int | None:
        """What to do again after a worker was killed under a job."""
        if isinstance(job, int):
            return job
        if job.attempt < _ATTEMPTS:
            return replace(job, attempt=job.attempt + 1)
        give_up(self.work, job, "killed", f"{_ATTEMPTS} workers were killed while they ran this pixel: out of memory?")
        self._has_outcome(job)
        return job.pack if not self.left[job.pack] else None


def _pool(work: Workplace, count: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stilt_assets.workers"])
    # A signal to the whole process group, as Slurm and `timeout` send it, must not end the server that workers come
    # from: it inherits a mask that blocks what only the main process answers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_MAIN_PROCESS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(work,))


_workplace: Workplace


def _begin(work: Workplace) -> None:
    global _workplace  # noqa: PLW0603  a pool's initializer has no other place to put things
    _workplace = work
    for number in _FOR_THE_MAIN_PROCESS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(job: Job) -> None:
    run_pixel(_workplace, job)


def _finish(number: int, pixels: list[int]) -> None:
    _workplace.packs.finish(number, pixels)
