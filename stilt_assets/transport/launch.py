"""
How does a program become one that dies with its worker and stays within its limits?

A script that is run with `python -I -S launch.py PARENT DATA FILE PROGRAM`: it takes on the limits and becomes the
program. No code of a worker runs between fork and exec, which a worker's threads could leave hanging.
"""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

CANNOT_START = 126  # exit code, with the reason as the last line of the log
_PR_SET_PDEATHSIG = 1  # prctl(2)


def _die_with(parent: int) -> None:
    """Let Linux kill this process, and what it becomes, when the thread that started it ends."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before that
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        # A machine out of memory ends this program, which can be run again, before the worker that waits for it.
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


def _limit(what: int, size: int) -> None:
    """Lower a limit to `size` bytes; -1 leaves it."""
    _, hard = resource.getrlimit(what)
    if size >= 0:
        resource.setrlimit(what, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def main() -> None:
    """Become the program; exit with CANNOT_START if it does not start."""
    parent, data, file = map(int, sys.argv[1:4])
    program = sys.argv[4]
    _die_with(parent)
    # Python ignores it, and a program whose writes fail in silence would go on without a word.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    _limit(resource.RLIMIT_FSIZE, file)
    _limit(resource.RLIMIT_DATA, data)
    try:
        os.execv(program, [program])  # noqa: S606  # nosec B606: the program of the installed package, without a shell
    except OSError as error:
        print(f"{Path(program).name} does not start: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(CANNOT_START)


if __name__ == "__main__":
    main()
