"""
What follows when the system kills a worker, or what pixels made comes back damaged?

Of several jobs that ran when a worker died nobody knows which one did it: each runs again on its own, and only a job
that ran on its own is charged with a death.
"""

from collections import Counter, deque
from collections.abc import Sequence

from stilt_assets.errors import DamagedError, WorkersKilledError
from stilt_assets.pixel import Job

_DEATHS = 9  # of workers in a row, after which the machine is to blame


class Mishaps:
    """Jobs that run on their own, and what a run has borne; a job is a pixel or, by number, a pack to finish."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts  # of a pixel, and of a pack's damage
        self._suspects: deque[Job | int] = deque()  # each runs on its own, in this order
        self._refused: list[Job | int] = []  # a broken pool did not take them
        self._runs_alone = False  # whether a suspect is under way
        self._deaths = 0  # of workers, one after the other
        self._damages: Counter[int] = Counter()  # times that pixels of a pack came back damaged

    # ---- jobs on their own

    @property
    def has_suspects(self) -> bool:
        """Whether the next job is to run on its own."""
        return bool(self._suspects)

    @property
    def one_at_a_time(self) -> bool:
        """Whether no job may run beside another."""
        return self.has_suspects or self._runs_alone

    def suspect(self, job: Job | int) -> None:
        """Let a job run on its own, after the suspects that there are."""
        self._suspects.append(job)

    def suspect_first(self, job: Job | int) -> None:
        """Let a job run on its own, before the suspects that there are."""
        self._suspects.appendleft(job)

    def take(self) -> Job | int:
        """The next suspect, which is now under way."""
        self._runs_alone = True
        return self._suspects.popleft()

    # ---- what happens

    def came_back(self) -> None:
        """Note that a worker has lived to bring a job back."""
        self._deaths = 0
        self._runs_alone = False

    def refuse(self, job: Job | int) -> None:
        """Note that a broken pool did not take a job."""
        self._refused.append(job)

    def die(self, under_way: Sequence[Job | int]) -> Job | None:
        """
        Note the death of a worker: what was `under_way` and what was refused become the first suspects.

        The pixel that is not tried once more, if it was alone and has had all its attempts. WorkersKilledError if
        one worker after the other dies.
        """
        self._runs_alone = False
        self._deaths += 1
        if self._deaths > _DEATHS:
            raise WorkersKilledError(f"{self._deaths} workers were killed one after the other: out of memory?")
        again, lost = list(under_way), None
        alone = again[0] if len(again) == 1 and not self._refused else None
        if isinstance(alone, Job):
            may_again = alone.attempt < self.attempts
            again, lost = ([alone.once_more("killed")], None) if may_again else ([], alone)
        self._suspects = deque([*again, *self._refused, *self._suspects])
        self._refused.clear()
        return lost

    def damage(self, number: int, path: str) -> None:
        """Note damage to a pack, whose outcomes lie at `path`. DamagedError if that happens again and again."""
        self._damages[number] += 1
        if self._damages[number] > self.attempts:
            raise DamagedError(f"what pixels of pack {number} made is damaged again and again; is {path} well?", path)
