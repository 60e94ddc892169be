"""
Who runs the packs?

Worker processes side by side, one pixel each at a time; a stop takes effect at the next pixel. A worker that the
system kills costs a second attempt of its pixel, not the scene.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import forkserver

import numpy as np

from stilt_assets.errors import StiltAssetsError, StoppedError
from stilt_assets.pixel import Job, Workplace, give_up, run_pixel
from stilt_assets.receptor import Kernel, Receptor

_ATTEMPTS = 3  # of a pixel under which workers are killed
_DEATHS = 9  # of workers in a row, after which the machine is to blame
_POLL = 0.2  # s between looks at whether to stop
_FOR_THE_MAIN_PROCESS = (signal.SIGINT, signal.SIGTERM)


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
        self._reopen()
        before = work.packs.finished_pixels()
        opened = (number for number in range(len(packs)) if number not in self.whole)
        self.left = {number: set(packs[number].tolist()) - before for number in opened}
        self.jobs = self._jobs(receptors, kernels)
        self.running: dict[Future, Job | int] = {}
        self.refused: list[Job | int] = []  # a broken pool did not take them
        self.suspects: list[Job | int] = []  # ran when a worker was killed: each runs again on its own
        self.on_its_own = False
        self.deaths = 0  # of workers, one after the other

    def _reopen(self) -> None:
        """Take whole packs apart whose lost pixels may do better now."""
        for number in sorted(self.whole):
            again = self.work.packs.lost_for_now(number)
            if again:
                self.work.packs.reopen(number, again)
                self.whole.discard(number)

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
        while self.left:
            try:
                with _pool(self.work, count) as pool:
                    self._drain(pool, count)
            except BrokenProcessPool:
                self._after_a_death()

    def _drain(self, pool: ProcessPoolExecutor, count: int) -> None:
        while True:
            while not self.stopped() and len(self.running) < (1 if self.suspects or self.on_its_own else count):
                job = self._next()
                if job is None:
                    break
                self._submit(pool, job)
            if not self.running:
                break
            done, _ = wait(self.running, timeout=_POLL, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()  # raises what a worker raised
                self._note(pool, self.running.pop(future))
        if self.left:
            state = self.progress()
            raise StoppedError(f"stopped with {state.pixels_done} of {state.pixels} pixels done; run again to go on")

    def _next(self) -> Job | int | None:
        if self.suspects:
            self.on_its_own = True
            return self.suspects.pop(0)
        return next(self.jobs, None)

    def _submit(self, pool: ProcessPoolExecutor, job: Job | int) -> None:
        try:
            if isinstance(job, int):
                future = pool.submit(_finish, job, self.packs[job].tolist())
            else:
                future = pool.submit(_run, job)
        except BrokenProcessPool:
            self.refused.append(job)
            raise
        self.running[future] = job

    def _after_a_death(self) -> None:
        """Sort out what ran when the system killed a worker: only a job that ran on its own is charged with it."""
        jobs = self.refused.copy()
        for future, job in self.running.items():
            if future.done() and future.exception() is None:
                self.suspects += self._count_in(job)
            else:
                jobs.append(job)
        self.running.clear()
        self.refused.clear()
        self.on_its_own = False
        self.deaths += 1
        if self.deaths > _DEATHS:
            raise StiltAssetsError(f"{self.deaths} workers were killed one after the other: out of memory?")
        retries = [self._once_more(job) for job in jobs] if len(jobs) == 1 else jobs
        self.suspects = [*(job for job in retries if job is not None), *self.suspects]

    def _note(self, pool: ProcessPoolExecutor, job: Job | int) -> None:
        self.deaths = 0
        self.on_its_own = False
        for pack in self._count_in(job):
            self._submit(pool, pack)
        self.tell(self.progress())

    def _count_in(self, job: Job | int) -> list[int]:
        """Count a job as done; the packs that can be finished now."""
        if isinstance(job, int):
            self.whole.add(job)
            del self.left[job]
            return []
        self.left[job.pack].discard(job.receptor.pixel)
        return [] if self.left[job.pack] else [job.pack]

    def _once_more(self, job: Job | int) -> Job | int | None:
        """What to do again after a worker was killed under a job."""
        if isinstance(job, int):
            return job
        if job.attempt < _ATTEMPTS:
            return replace(job, attempt=job.attempt + 1)
        give_up(self.work, job, "killed", f"{_ATTEMPTS} workers were killed while they ran this pixel: out of memory?")
        return next(iter(self._count_in(job)), None)


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
    threading.Thread(target=_end_with_the_main_process, daemon=True).start()


def _end_with_the_main_process() -> None:
    main = multiprocessing.parent_process()
    if main is not None:
        main.join()
        os._exit(1)


def _run(job: Job) -> None:
    run_pixel(_workplace, job)


def _finish(number: int, pixels: list[int]) -> None:
    _workplace.packs.finish(number, pixels)
