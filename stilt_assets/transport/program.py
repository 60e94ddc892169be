"""
How did a program end that ran within a pixel's limits?

It runs in a process group of its own, is ended after its time, and dies with its worker. Its end is a reason of the
table, an error of the machine or its exit code; what its exit code is worth, its caller knows.
"""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

from stilt_assets.errors import CannotExecuteError, OverBudgetError, TransportError
from stilt_assets.transport import launch

_NO_ROOM_TO_START = {errno.ENOMEM, errno.EAGAIN}
_LOADER_FAILED = 127  # of ld.so, which lacks a shared library, or was interrupted by a signal that Fortran tells of
_RECEIVED = re.compile(r"Program received signal (SIG[A-Z]+):")
_FAULTS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS, signal.SIGSYS, signal.SIGTRAP}
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def run_program(program: str, log: Path, timeout: float, data: int | None = None, file: int | None = None) -> int:
    """
    Run a program in the folder of `log`, which takes what it says; its exit code.

    `timeout` s, `data` bytes of memory that it may allocate, `file` bytes of its largest file. TransportError if it
    was ended, CannotExecuteError if it does not start, OverBudgetError if it wrote more than it may.
    """
    name = Path(program).name
    before = oom_kills()
    process = _start(program, log, data, file)
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired as error:
        raise TransportError("timeout", f"{name} ran longer than {timeout:g} s") from error
    finally:
        _end(process)
    if code < 0 or code in (launch.CANNOT_START, _LOADER_FAILED):
        said = log.read_text(errors="replace").splitlines()
        received = [found[1] for line in said if (found := _RECEIVED.match(line))]
        if received:  # the first: Fortran may fail while it tells of it
            code = -signal.Signals[received[0]]
        elif code >= 0:
            raise CannotExecuteError(said[-1] if said else f"{name} does not start")
    if code < 0:
        raise _ended_by(signal.Signals(-code), name, out_of_memory=oom_kills() > before, file=file)
    return code


def _start(program: str, log: Path, data: int | None, file: int | None) -> subprocess.Popen[bytes]:
    limits = [str(-1 if size is None else size) for size in (data, file)]
    command = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *limits, program]
    with log.open("wb") as out:
        try:
            return subprocess.Popen(
                command,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            if error.errno in _NO_ROOM_TO_START:
                raise TransportError("out_of_memory", f"no room for another process: {error.strerror}") from error
            raise CannotExecuteError(f"{program} does not start: {error}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group of a program that runs. Until it is waited for, nobody else can have its number."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ended_by(number: signal.Signals, program: str, *, out_of_memory: bool, file: int | None) -> Exception:
    what = f"{program} was ended by signal {number.name}"
    if number is signal.SIGXFSZ:
        may = f"the {file / 2**20:.1f} MiB that it may" if file else "`ulimit -f` lets it"
        return OverBudgetError(f"{program} wrote a larger file than {may}; raise `packs.scratch`")
    if number is signal.SIGKILL and out_of_memory:
        return TransportError("out_of_memory", f"{what}, by the system for want of memory")
    return TransportError("crashed" if number in _FAULTS else "killed", what)


def memory_of_this_process() -> int | None:
    """Bytes of memory that this process holds; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * resource.getpagesize()


def oom_kills() -> int:
    """How many processes of this control group the system has killed for want of memory; 0 where it does not tell."""
    try:
        groups = [line.split(":", 2) for line in _OWN_CGROUPS.read_text().splitlines()]
    except OSError:
        return 0
    for _, controllers, path in groups:
        if controllers == "":  # version 2
            name, roots = "memory.events", (_CGROUPS, _CGROUPS / "unified")
        elif "memory" in controllers.split(","):
            name, roots = "memory.oom_control", (_CGROUPS / "memory",)
        else:
            continue
        # In a container the path may be the host's; its own group is then the root of what it sees.
        for root in roots:
            for place in (root / path.lstrip("/") / name, root / name):
                counts = _numbers(place)
                if "oom_kill" in counts:
                    return counts["oom_kill"]
    return 0


def _numbers(place: Path) -> dict[str, int]:
    """A file of lines of a name and a number; empty if it cannot be read."""
    try:
        return {name: int(value) for name, value in map(str.split, place.read_text().splitlines())}
    except (OSError, ValueError):
        return {}
