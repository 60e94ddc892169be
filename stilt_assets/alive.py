"""
Is a process gone, of which somebody wrote down which one it was?

A number does not tell: the system gives it away again, and other machines and containers have the same ones. The
kernel's own id since its start, the container's set of numbers and the process's first moment do.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_SINCE, _STATE = 19, 0  # fields of /proc/PID/stat behind the name, as proc(5) has them: starttime, state
_DEAD = ("Z", "X")


@dataclass(frozen=True)
class Process:
    """One process of all times and machines."""

    machine: str  # its name and its system's id; empty if the system has none
    boot: str  # of the kernel since it started
    numbers: int  # the set of numbers that `pid` is of: each container has its own
    pid: int
    since: int  # ticks from the kernel's start to the process's

    @classmethod
    def own(cls) -> "Process | None":
        """This one; None on a system that does not tell (only Linux does)."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            numbers = Path("/proc/self/ns/pid").stat().st_ino
        except OSError:
            return None
        since = _since(os.getpid())
        return cls(_machine(), boot, numbers, os.getpid(), since) if since else None

    def is_gone(self) -> bool:
        """Whether it has ended for certain; False if that cannot be told from here."""
        here = Process.own()
        if here is None:
            return False
        if here.boot != self.boot:
            return bool(self.machine) and here.machine == self.machine  # the machine has started anew since
        if here.numbers != self.numbers:
            return False
        try:
            os.kill(self.pid, 0)  # asks only
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        since = _since(self.pid)
        return since is not None and since != self.since


def _machine() -> str:
    try:
        system = Path("/etc/machine-id").read_text().strip()
    except OSError:
        system = ""
    return f"{platform.node()} {system}" if system else ""


def _since(pid: int) -> int | None:
    """When a process began, in ticks; 0 of one that only waits for its parent to notice; None if nobody tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return 0 if fields[_STATE] in _DEAD else int(fields[_SINCE])
