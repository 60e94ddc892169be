"""
How is a file read that can bring the NetCDF library down?

Damage at the right place makes HDF5's C code loop, crash or ask for all memory there is. So a process of its own
reads each file, forked from a small server that has imported all it needs; it has a limit of time and memory, and
leaves its answer as an Arrow file. The server lives as long as the process that asks.
"""

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import IO

import pyarrow as pa

from stilt_assets.errors import RetrievalError, WorkersKilledError
from stilt_assets.retrieval.reading import Bounds, Retrieval, read_here
from stilt_assets.scratch import folder

SECONDS, SECONDS_PER_MIB = 120, 2  # that a file may take; all pixels of a whole orbit take less than a minute
MEMORY = 4 * 2**30  # bytes, beside what the process begins with
_PAGE = os.sysconf("SC_PAGE_SIZE")
_REFUSED = 3  # exit code of a process that found a file damaged
_SERVE = "from stilt_assets.retrieval.apart import serve; serve()"


def read_apart(path: Path, bounds: Bounds, name: str) -> Retrieval:
    """As `read_here`, in a process of its own. RetrievalError too if that crashes or needs too much time or memory."""
    seconds = SECONDS + int(path.stat().st_size / 2**20 * SECONDS_PER_MIB)
    with folder() as place:
        answer = place / "answer"
        request = {"path": str(path), "bounds": bounds, "name": name, "answer": str(answer), "seconds": seconds}
        code = _server.ask(request | {"memory": MEMORY})
        if code == _REFUSED:
            raise RetrievalError(answer.read_text())
        if code != 0:
            raise _ended(code, name, seconds)
        return _unpacked(answer)


def _ended(code: int, name: str, seconds: int) -> RetrievalError | WorkersKilledError:
    """What it means that the process that read a file ended with `code`; a signal's number is negative."""
    if code == -signal.SIGKILL:
        return WorkersKilledError(f"the process that read {name} was killed: out of memory?")
    if code == -signal.SIGALRM:
        return RetrievalError(f"{name} is damaged: reading it did not end within {seconds} s")
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return RetrievalError(f"{name} is damaged: reading it ended {how}")


class _Server:
    """The process that readers are forked from; begun when it is first asked, and again when it is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}  # by who began it: one that was forked begins its own

    def ask(self, request: dict) -> int:
        """The exit code of the reader; a signal's number is negative."""
        with self._lock:
            answered = False
            try:
                requests, replies = self._running()
                requests.write(json.dumps(request).encode() + b"\n")
                requests.flush()
                code = int(replies.readline())
                answered = True
            except (BrokenPipeError, ValueError) as error:
                raise WorkersKilledError(f"the reader of {request['name']} was killed: out of memory?") from error
            finally:
                if not answered:
                    self._end()
            return code

    def _running(self) -> tuple[IO[bytes], IO[bytes]]:
        process = self._processes.get(os.getpid())
        if process is None or process.poll() is not None:
            self._end()
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _SERVE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # a signal to the whole group asks the main process to stop
            )
            self._processes[os.getpid()] = process
        if process.stdin is None or process.stdout is None:
            raise ValueError("the reader has no pipes")
        return process.stdin, process.stdout

    def _end(self) -> None:
        process = self._processes.pop(os.getpid(), None)
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(BrokenPipeError):
            process.communicate()

    def close(self) -> None:
        """End the server, if this process has one."""
        with self._lock:
            self._end()


_server = _Server()
atexit.register(_server.close)


# ---- in the processes apart


def serve() -> None:
    """Fork a reader for each request (a line of JSON) of standard input; answer with its exit code, a line."""
    warnings.simplefilter("ignore")
    with os.fdopen(os.dup(1), "wb", buffering=0) as replies:
        os.dup2(2, 1)  # what libraries print must not mix with replies
        for line in sys.stdin.buffer:
            reader = os.fork()
            if reader == 0:
                os._exit(_read(json.loads(line)))
            _, status = os.waitpid(reader, 0)
            replies.write(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _read(request: dict) -> int:
    """Read a file within limits and leave the answer; the exit code."""
    _limit(request["seconds"], request["memory"])
    answer = Path(request["answer"])
    try:
        _pack(read_here(Path(request["path"]), tuple(request["bounds"]), request["name"]), answer)
    except RetrievalError as error:
        answer.write_text(str(error))
        return _REFUSED
    return 0


def _limit(seconds: int, memory: int) -> None:
    """Let the system end this process after `seconds`, and give it no more than `memory` bytes; no core file."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sizes = Path("/proc/self/statm")
    if sizes.exists():
        begun = int(sizes.read_text().split()[0]) * _PAGE
        resource.setrlimit(resource.RLIMIT_AS, (begun + memory, begun + memory))


def _pack(found: Retrieval, answer: Path) -> None:
    facts = {"instrument": found.instrument, "product": found.product, "dropped": dict(found.dropped)}
    table = pa.Table.from_pandas(found.pixels, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"facts": json.dumps(facts).encode()})
    with pa.OSFile(str(answer), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _unpacked(answer: Path) -> Retrieval:
    with pa.OSFile(str(answer), "rb") as file, pa.ipc.open_file(file) as reader:
        table = reader.read_all()
    facts = json.loads(table.schema.metadata[b"facts"])
    return Retrieval(facts["instrument"], facts["product"], table.to_pandas(), facts["dropped"])
