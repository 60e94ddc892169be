"""
Is a process gone, of which somebody wrote down which one it was?

A number does not tell: the system gives it away again, and other machines and containers have the same ones. The
kernel's own id since its start, the container's set of numbers and the process's first moment do. A machine has started
anew if it began after the process did: copies of a machine may have its name and id, too, but were there before.
"""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

_SINCE, _STATE = 19, 0  # fields of /proc/PID/stat behind the name, as proc(5) has them: starttime, state
_DEAD = ("Z", "X")
_TICKS = os.sysconf("SC_CLK_TCK")  # in a second
_ID = re.compile(r"[0-9a-f]{32}")  # of a system, as machine-id(5) has it


@dataclass(frozen=True)
class Process:
    """One process of all times and machines."""

    machine: str  # its name and its system's id; empty if the system has none
    boot: str  # of the kernel since it started
    numbers: int  # the set of numbers that `pid` is of: each container has its own
    pid: int
    since: int  # ticks from the kernel's start to the process's
    began: float  # s since 1970 by the machine's clock

    @classmethod
    def own(cls) -> "Process | None":
        """This one; None on a system that does not tell (only Linux does)."""
        pid = os.getpid()
        try:
            if Path("/proc/self").readlink() != Path(str(pid)):  # it shows another container's processes
                return None
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            numbers = Path("/proc/self/ns/pid").stat().st_ino
            began = _started()
        except OSError:
            return None
        since = _since(pid)
        return cls(_machine(), boot, numbers, pid, since, began + since / _TICKS) if since else None

    def is_gone(self) -> bool:
        """Whether it has ended for certain; False if that cannot be told from here."""
        here = Process.own()
        if here is None:
            return False
        if here.boot != self.boot:
            return bool(self.machine) and here.machine == self.machine and _started() > self.began
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
    return f"{platform.node()} {system}" if _ID.fullmatch(system) else ""


def _started() -> float:
    """When this machine's kernel began, s since 1970 by its clock."""
    (line,) = (line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return float(line.split()[1])


def _since(pid: int) -> int | None:
    """When a process began, in ticks; 0 of one that only waits for its parent to notice; None if nobody tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return 0 if fields[_STATE] in _DEAD else int(fields[_SINCE])
