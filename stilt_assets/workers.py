"""
Who runs the packs?

Worker processes side by side, one pixel each at a time; a stop takes effect at the next pixel. A pixel whose failure
may not hold another time runs again, with more time, or on its own with more memory, as the table of reasons says. A
worker that the system kills costs a second attempt of its pixel, not the scene (`mishaps`).
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stilt_assets import scratch
from stilt_assets.errors import BusyError, DamagedError, OverBudgetError, StoppedError
from stilt_assets.mishaps import Mishaps
from stilt_assets.pixel import Job, Workplace, give_up
from stilt_assets.progress import Progress
from stilt_assets.reasons import REASONS, Remedy
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import FusedTransport
from stilt_assets.transport import transport_named
from stilt_assets.turns import Turns
from stilt_assets.whole import Files
from stilt_assets.worker import end_workers, finish, pool_of, run

_POLL = 0.2  # s between looks at whether to stop
_PATIENCE = 1  # times that all tries of a pixel may take, after which others who hold a pack and finish none are stuck


@dataclass(frozen=True)
class Share:
    """The packs that one process runs: members (pixel numbers) by the pack's number, and what each pixel needs."""

    packs: Mapping[int, np.ndarray]
    whole: frozenset[int]  # numbers of those that need not run
    receptors: Mapping[int, Receptor]  # by pixel
    kernels: Mapping[int, Kernel]


def run_packs(
    work: Workplace,
    share: Share,
    files: int | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """
    Give every pixel of every pack an outcome, and every pack its files. What is there already is not run again.

    At most `files` files of unfinished pixels are kept at a time. Raises StoppedError when `stopped` says so, after
    the pixels under way have finished; OverBudgetError or DiskFullError, before any pixel runs, if the scratch files
    of the workers or the files of a pack have no room.
    """
    Run(work, share, files, tell, stopped).to_the_end()


class Run:
    """The packs of a share while they are run."""

    def __init__(
        self,
        work: Workplace,
        share: Share,
        files: int | None,
        tell: Callable[[Progress], None],
        stopped: Callable[[], bool],
    ) -> None:
        self.work, self.share, self.files, self.tell, self.stopped = work, share, files, tell, stopped
        self.whole = set(share.whole)
        self.pixels = sum(map(len, share.packs.values()))
        self.in_whole = sum(len(share.packs[number]) for number in self.whole)  # pixels of whole packs
        self.waiting = deque(number for number in share.packs if number not in self.whole)
        self.left: dict[int, set[int]] = {}  # pixels of opened packs that have no outcome yet
        self.jobs: deque[Job | int] = deque()  # pixels to run and, by number, packs to finish
        self.running: dict[Future[Any], Job | int] = {}
        self.mishaps = Mishaps(work.attempts)
        self.held: dict[int, ExitStack] = {}  # locks of opened packs
        self.turns = Turns(work.packs, _PATIENCE * 2**work.attempts * work.limits.timeout)
        self.keepers = work.packs.keepers(self.waiting) if self.waiting else {}  # folders with particles, by pack
        self.begun = work.packs.begun() if self.waiting else set[int]()  # by whoever stopped halfway
        self.brought = 0  # pixels that got their outcome here

    def progress(self) -> Progress:
        """How far it is now."""
        packs = self.share.packs
        under_way = sum(len(packs[number]) - len(left) for number, left in self.left.items())
        return Progress(self.in_whole + under_way, self.pixels, len(self.whole), len(packs), self.brought)

    def to_the_end(self) -> None:
        """Run until all packs are whole."""
        count = self.work.workers
        if not self.waiting:
            self.tell(self.progress())
            return
        _see_that_scratch_fits(self.work)
        scratch.sweep()
        self.tell(self.progress())
        try:
            with _prepared(self.work):
                while self.left or self.waiting:
                    try:
                        with pool_of(self.work, count) as pool, _ended_if_broken():
                            self._drain(pool, count)
                    except BrokenProcessPool:
                        scratch.sweep()
                        self._after_a_death()
        finally:
            for held in self.held.values():
                held.close()

    def _drain(self, pool: ProcessPoolExecutor, count: int) -> None:
        while True:
            while not self.stopped() and len(self.running) < (1 if self.mishaps.one_at_a_time else count):
                job = self._next()
                if job is None:
                    break
                self._submit(pool, job)
            if not self.running:
                if not self.turns.taken or self.stopped():
                    break
                self.tell(replace(self.progress(), waits=self.turns.wait()))
                continue
            done, _ = wait(self.running, timeout=_POLL, return_when=FIRST_COMPLETED)
            for future in done:
                again = future.result()  # raises what a worker raised
                self._note(self.running.pop(future), again)
        if self.left or self.waiting:
            state = self.progress()
            raise StoppedError(f"stopped with {state.pixels_done} of {state.pixels} pixels done; run again to go on")

    # ---- what to do next

    def _next(self) -> Job | int | None:
        if self.mishaps.has_suspects:
            return None if self.running else self.mishaps.take()
        for _ in range(len(self.waiting)):
            number = self.waiting[0]
            if self.jobs or not (self.turns.has_come(number) and self._has_room_for(number)):
                break
            self._open(self.waiting.popleft())
        return self.jobs.popleft() if self.jobs else None

    def _has_room_for(self, number: int) -> bool:
        """Whether the files of one more pack's pixels keep to the budget; they wait for other packs to be whole."""
        pixels = len(self.share.packs[number])
        if self.files is None or pixels + sum(len(self.share.packs[each]) for each in self.left) <= self.files:
            return True
        if not self.left:
            raise OverBudgetError(
                f"pack {number} keeps {pixels} files until it is whole, packs.files allows {self.files}: raise it or "
                "lower packs.pixels"
            )
        return False

    def _open(self, number: int) -> None:
        members = self.share.packs[number].tolist()
        self.held[number] = ExitStack()
        try:
            self.held[number].enter_context(self.work.packs.alone(number))
        except BusyError as error:  # its turn comes once more, after what its holder does with it
            self.turns.pass_by(number, error)
            self.begun.add(number)
            self.waiting.append(number)
            return
        self.turns.take(number)
        if self.work.packs.is_whole(number, members):
            self._put_down(number)
            return
        self.work.packs.needs_room(len(members), self.work.simulation)
        left = self.left[number] = self.work.packs.open(number, members, begun=number in self.begun)
        if not left:
            self.jobs.append(number)
        kept = self._kept(number) if left else None
        self.jobs.extend(self._job(number, pixel, kept) for pixel in sorted(left))

    def _kept(self, number: int) -> Files | None:
        """The particles of a pack, here as long as it is held, if a folder keeps them."""
        if number not in self.keepers:
            return None
        try:
            return self.held[number].enter_context(self.work.packs.lent(self.keepers[number], number))
        except DamagedError:
            return None

    def _job(self, number: int, pixel: int, kept: Files | None = None) -> Job:
        return Job(number, self.share.receptors[pixel], self.share.kernels[pixel], self.work.limits, kept)

    def _submit(self, pool: ProcessPoolExecutor, job: Job | int) -> None:
        try:
            if isinstance(job, int):
                future: Future[Any] = pool.submit(finish, job, self.share.packs[job].tolist())
            else:
                future = pool.submit(run, job)
        except (
            BrokenProcessPool,
            EOFError,
            ConnectionError,
        ) as error:  # the latter: of the server that workers come from
            self.mishaps.refuse(job)
            raise BrokenProcessPool(str(error)) from error
        self.running[future] = job

    # ---- what became of it

    def _note(self, job: Job | int, again: Any) -> None:
        self.mishaps.came_back()
        if isinstance(job, int):
            self._finished(job, again)
        elif again:
            alone = REASONS[again].remedy is Remedy.retry_larger
            (self.mishaps.suspect if alone else self.jobs.append)(job.once_more(again))
        else:
            self.jobs.extendleft(self._count_in(job))
        self.tell(self.progress())

    def _finished(self, number: int, damaged: set[int]) -> None:
        if damaged:
            self.mishaps.damage(number, self.work.packs.file(number, "outcomes"))
            self.left[number] = damaged
            self.jobs.extend(self._job(number, pixel) for pixel in sorted(damaged))
            return
        del self.left[number]
        self._put_down(number)

    def _put_down(self, number: int) -> None:
        self.whole.add(number)
        self.in_whole += len(self.share.packs[number])
        self.held.pop(number).close()

    def _count_in(self, job: Job) -> list[int]:
        """Count a pixel as done; its pack, if that can be finished now."""
        self.brought += 1
        self.left[job.pack].discard(job.receptor.pixel)
        return [] if self.left[job.pack] else [job.pack]

    def _after_a_death(self) -> None:
        """Sort out what ran when the system killed a worker."""
        under_way = list[Job | int]()
        for future, job in self.running.items():
            if future.done() and future.exception() is None:
                self._note(job, future.result())
            else:
                under_way.append(job)
        self.running.clear()
        if lost := self.mishaps.die(under_way):
            message = f"{lost.attempt} workers were killed while they ran this pixel: out of memory?"
            give_up(self.work, lost, "killed", message)
            for number in self._count_in(lost):
                self.mishaps.suspect_first(number)


def _prepared(work: Workplace) -> AbstractContextManager[None]:
    """What all workers share, if the transport model shares anything, made ready and held for the block."""
    transport = transport_named(work.simulation.transport)
    if isinstance(transport, FusedTransport):
        return transport.prepare(work.simulation, work.meteorology)
    return nullcontext()


@contextmanager
def _ended_if_broken() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        end_workers()
        raise


def _see_that_scratch_fits(work: Workplace) -> None:
    """OverBudgetError or DiskFullError unless the scratch files of all workers have room."""
    needed = transport_named(work.simulation.transport).scratch_needed(work.simulation)
    allowed = work.limits.scratch
    if allowed is not None and needed > allowed:
        raise OverBudgetError(
            f"a pixel needs {needed / 2**20:.1f} MiB of scratch, packs.scratch allows {allowed / 2**20:.1f}: raise it "
            "or lower simulation.particles"
        )
    scratch.needs_room(scratch.root(), work.workers * needed, f"a pixel for each of {work.workers} workers")
