"""
Where do the processes of containers come from?

A server that has imported what every worker of Dagster imports, for each import would cost some 5 s of CPU in each of
the fifteen pods of a scene. It reads requests, a JSON object a line, from its standard input and answers on its
standard output; `dagster …` goes on in a fork of it, any other program is executed. So does the server that the workers
of a shard are forked from, which would import for 2 s. When the input ends it kills what it has started, and ends.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterable
from multiprocessing import util
from typing import Any, NoReturn

PRELOADED = (
    "dagster._cli",
    "dagster_gcp.gcs.compute_log_manager",
    "dagster_k8s",
    "dagster_postgres",
    "gcsfs",
    "matplotlib",
    "psycopg2",
    "xarray",
    "zarr",
    "stilt_assets.defs.assets",
    "stilt_assets.defs.checks",
    "stilt_assets.defs.schedules",
    "stilt_assets.defs.sensors",
    "stilt_assets.defs.analysis",
    "stilt_assets.worker",
)


def serve() -> list[str]:
    """Answer requests; returns in a child only, with the words of its command."""
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    children: set[int] = set()
    buffered = b""
    _tell({"ready": True})
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
            _bury(children)
        if 0 in ready:
            got = os.read(0, 65536)
            if not got:
                break
            *lines, buffered = (buffered + got).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if request["words"][0] == "dagster":
                    _preload()
                pid = os.fork()
                if not pid:
                    return _begin(request, (woken, wake))
                children.add(pid)
                _tell({"id": request["id"], "pid": pid})
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    os._exit(0)


def _preload() -> None:
    """Import once, when it is first needed, and keep the collector of garbage away from what is imported."""
    if PRELOADED[-1] in sys.modules:
        return
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or each child would go through 400,000 objects, again and again: 2 s of CPU, most of it at its end


def _tell(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def _bury(children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.suppress(ProcessLookupError):  # what the container's first process leaves ends with it
            os.killpg(pid, signal.SIGKILL)
        children.discard(pid)
        _tell({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _begin(request: dict[str, Any], pipes: tuple[int, int]) -> list[str]:
    """Become the first process of a container: a group, a folder, a log and an environment of its own."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for each in pipes:
        os.close(each)
    os.chdir(request["folder"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in ((0, nothing), (1, log), (2, log)):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    words = request["words"]
    if words[0] != "dagster":
        try:
            os.execvpe(words[0], words, os.environ)
        except OSError as error:
            print(f"exec: {words[0]}: {error}", file=sys.stderr, flush=True)
            os._exit(127)
    sys.path[1:1] = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    _keep_a_server_of_workers()
    return words


def _leave(code: int) -> NoReturn:
    """End as Python ends, but do not take apart what was imported: 0.25 s of CPU, and a copy of all that it touches."""
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]  what Python itself calls
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


# ---- the server that a pool of workers is forked from


def _keep_a_server_of_workers() -> None:
    """A fork that becomes it when `multiprocessing` asks for a new Python; made now, while no thread runs."""
    asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        asking.close()
        _become_a_server_of_workers(asked)
    asked.close()
    as_ever = util.spawnv_passfds

    def spawn(path: str, words: list[str], kept: Iterable[int]) -> int:
        if "multiprocessing.forkserver" not in words[-1]:
            return as_ever(path, words, kept)
        util.spawnv_passfds = as_ever  # the next one, should this one die
        numbers = [*map(int, kept)]
        blocked = [*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))]
        said = {"code": words[-1], "numbers": numbers, "blocked": blocked, "environment": dict(os.environ)}
        with asking:
            try:
                socket.send_fds(asking, [json.dumps(said).encode()], numbers)
            except BrokenPipeError:
                return as_ever(path, words, numbers)
        return pid

    util.spawnv_passfds = spawn


def _become_a_server_of_workers(asked: socket.socket) -> NoReturn:
    """Wait for the word, and run its code with what a new Python would have been given."""
    content, files, _, _ = socket.recv_fds(asked, 2**20, 8)
    if not content:
        os._exit(0)
    said = json.loads(content)
    lowest = max(*said["numbers"], *files) + 1
    aside = [fcntl.fcntl(file, fcntl.F_DUPFD, lowest) for file in files]
    os.closerange(3, lowest)
    for file, number in zip(aside, said["numbers"], strict=True):
        os.dup2(file, number)
        os.close(file)
    signal.pthread_sigmask(signal.SIG_SETMASK, said["blocked"])
    os.environ.clear()
    os.environ.update(said["environment"])
    try:
        exec(said["code"], {})  # as `python -c` would
    finally:
        os._exit(0)


if __name__ == "__main__":
    del sys.path[0]  # this folder: no program of a container sees it
    sys.argv = serve()
    try:
        importlib.import_module("dagster._cli").main()
    except SystemExit as left:
        if not isinstance(left.code, int):
            raise
        _leave(left.code)
