"""
What becomes of a job that a node could not begin?

Slurm holds it until its owner releases it, and as a rule takes the node out of use. So a release costs the cluster a
node, if nodes are well and it is the job that they cannot begin: jobs are released together only while another one of
them runs, otherwise one is released to try.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence

from stilt_assets.errors import SlurmError
from stilt_assets.slurm.commands import Queued

_log = logging.getLogger(__name__)
_HELD = re.compile(r"requeued[ _]held$|^JobHoldMaxRequeue$")  # "launch failed" and other words come before


class Held:
    """Jobs of one name that are held, and how often each was released."""

    def __init__(self, name: str, attempts: int, release: Callable[[str], None]) -> None:
        self.name, self.attempts, self.release = name, attempts, release
        self.released = Counter[str]()  # times, by number of the job
        self.tried = 0  # times that one was released while all were held

    def look(self, there: Sequence[Queued]) -> None:
        """
        Release what is held among all jobs of the name, each `attempts` times at most.

        SlurmError if all are held, and were so `attempts` times or may be released no more.
        """
        held = [job for job in there if _HELD.search(job.why)]
        again = sorted((job for job in held if self.released[job.number] < self.attempts), key=self._times)
        if len(held) < len(there):
            for job in again if any(job.state == "RUNNING" for job in there if job not in held) else ():
                self._release(job)
        elif held:
            if not again or self.tried == self.attempts:
                raise SlurmError(
                    f"all jobs that {self.name} has left are held, after {self.released.total()} releases: {held[0]}; "
                    "nodes cannot begin them: sinfo -R may say why"
                )
            self.tried += 1
            self._release(again[0])

    def _times(self, job: Queued) -> int:
        return self.released[job.number]

    def _release(self, job: Queued) -> None:
        self.released[job.number] += 1
        times = f"{self.released[job.number]} of {self.attempts} times"
        try:
            self.release(job.number)
            _log.warning("a node could not begin job %s (%s); released, %s", job.number, job.why, times)
        except SlurmError as error:
            if error.reason == "slurm_away":
                raise
            _log.warning("job %s is held (%s) and was not released, %s: %s", job.number, job.why, times, error)
