"""
What does a worker process do?

It runs one pixel after the other, each at one of the machine's cores, and ends with the process that began it.
"""

import multiprocessing
import os
import resource
import signal
import tempfile
import threading
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, resource_tracker

from stilt_assets import scratch
from stilt_assets.errors import UsageError
from stilt_assets.pixel import Job, Workplace, run_pixel
from stilt_assets.simulation import FusedTransport
from stilt_assets.transport import transport_named

_FOR_THE_MAIN_PROCESS = (signal.SIGINT, signal.SIGTERM)


def cores() -> int:
    """Cores that this process may use: STILT_ASSETS_CORES, where a container sees more than it has asked for."""
    given = os.environ.get("STILT_ASSETS_CORES", "")
    if given.isdigit() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pool_of(work: Workplace, count: int) -> ProcessPoolExecutor:
    """
    Worker processes, begun anew from a server that has imported all they need.

    UsageError if TMPDIR is so long that no socket can lie there.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stilt_assets.worker"])
    # A signal to the whole process group, as Slurm and `timeout` send it, must not end the server that workers come
    # from: it inherits a mask that blocks what only the main process answers. Python's tracker unblocks both when it
    # begins, so it begins first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_MAIN_PROCESS)
    try:
        forkserver.ensure_running()
    except OSError as error:
        if "too long" not in str(error):
            raise
        raise UsageError(
            f"TMPDIR is too long for the sockets of workers: {tempfile.gettempdir()}; choose a shorter one"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(work,))


def end_workers() -> None:
    """Kill what is left of a broken pool: workers ignore SIGTERM; one may wait for a lock that the dead one held."""
    for each in multiprocessing.active_children():
        each.kill()


_workplace: Workplace


def _begin(work: Workplace) -> None:
    global _workplace  # noqa: PLW0603  a pool's initializer has no other place to put things
    _workplace = work
    for number in _FOR_THE_MAIN_PROCESS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_main_process, daemon=True).start()
    transport = transport_named(work.simulation.transport)
    if isinstance(transport, FusedTransport):
        transport.load(work.meteorology)


def _end_with_the_main_process() -> None:
    main = multiprocessing.parent_process()
    if main is not None:
        main.join()
        os._exit(1)


def run(job: Job) -> str:
    """Run a pixel; the reason if it should be tried once more."""
    with scratch.slot(_core(), max(_workplace.workers, cores())):
        _may_hold(job.limits.memory)  # it is a pixel's, not that of what happens between pixels
        try:
            return run_pixel(_workplace, job)
        finally:
            _may_hold(None)


def _core() -> str:
    """A name for this process's cores: jobs of a batch system that have other cores do not take turns with it."""
    own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return f"core-{zlib.crc32(repr(own).encode()):08x}"


def _may_hold(memory: int | None) -> None:
    """Limit the memory (bytes) of this process, as far as the system lets it."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = [limit for limit in (memory, hard) if limit not in (None, resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(most, default=resource.RLIM_INFINITY), hard))


def finish(number: int, members: list[int]) -> set[int]:
    """Write the files of a pack; pixels that must run again first."""
    return _workplace.packs.finish(number, members)
