"""
What does Slurm say?

Its own commands, asked once each: what they print, or one clear line of why they do not.
"""

import getpass
import logging
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from stilt_assets.errors import SlurmError

_log = logging.getLogger(__name__)
_TIMEOUT = 120.0  # s that a command may take
_LINE = 300  # characters of what it says when it fails
_NO_ANSWER = re.compile(r"unable to contact|timed out|connection refused|communication|zero bytes|try again", re.I)


@dataclass(frozen=True)
class Queued:
    """A job that waits or runs, or tasks of an array that wait together."""

    number: str  # such as 7, 7_0 or 7_[1-3]
    state: str  # as Slurm has it, such as PENDING
    why: str  # it waits

    @property
    def runs(self) -> bool:
        """Whether a node has it."""
        return self.state != "PENDING"

    def __str__(self) -> str:
        """As the queue has it."""
        return f"{self.number} {self.state} {self.why}"


def asked(program: str, words: Sequence[str], script: str | None = None) -> str:
    """What a command of Slurm prints. SlurmError if it fails, or is not there."""
    place = shutil.which(program)
    if place is None:
        raise SlurmError(f"no {program} on this machine: start the run where Slurm's commands are", "slurm_refused")
    try:
        done = subprocess.run(
            [place, *words], input=script, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{program} gave no answer in {_TIMEOUT:.0f} s", "slurm_away") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[:_LINE] or f"exit code {done.returncode}"
        raise SlurmError(f"{program}: {said}", "slurm_away" if _NO_ANSWER.search(said) else "slurm_refused")
    return done.stdout


def queue(name: str) -> list[Queued]:
    """Jobs of that name which wait or run."""
    words = ["--noheader", "--user", getpass.getuser(), "--name", name, "--format", "%i %T %r"]
    lines = (line.strip() for line in asked("squeue", words).splitlines())
    return [Queued(*[*line.split(" ", 2), "", ""][:3]) for line in lines if line]


def release(number: str) -> None:
    """Let a job that is held start."""
    asked("scontrol", ["release", number])


def cancel(name: str) -> None:
    """End the jobs of that name."""
    try:
        asked("scancel", ["--user", getpass.getuser(), "--name", name])
    except SlurmError as error:
        _log.warning("jobs %s may still run: %s", name, error)
