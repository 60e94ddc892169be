"""How does the program of a container run on this machine? As a process group, with a log, that can be killed."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_NURSERY = Path(__file__).with_name("nursery.py")


class Process:
    """The first process of a container and all that it starts."""

    def __init__(self) -> None:
        self.pid = 0
        self.code: int | None = None  # minus the signal's number if one ended it
        self.begun, self.ended = threading.Event(), threading.Event()

    def end(self, code: int) -> None:
        """It has ended."""
        self.code = code
        self.begun.set()
        self.ended.set()

    def send(self, number: int) -> None:
        """A signal to all of them."""
        if self.begun.wait(120) and not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Processes:
    """Starts programs through a nursery, and hears when they end."""

    def __init__(self, said: Path) -> None:
        environment = os.environ | {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        self._said = said
        with said.open("ab") as log:
            self._nursery = subprocess.Popen(
                [sys.executable, str(_NURSERY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._numbers = itertools.count()
        self._asked: dict[int, Process] = {}
        self._living: dict[int, Process] = {}
        self._lock, self._closed = threading.Lock(), False
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def start(self, words: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> Process:
        """Start a program; `environment` is all that it gets."""
        process, number = Process(), next(self._numbers)
        request: dict[str, Any] = {"id": number, "words": list(words), "environment": dict(environment)}
        request |= {"folder": str(folder), "log": str(log)}
        assert self._nursery.stdin is not None
        with self._lock:
            if self._closed:
                process.end(-signal.SIGKILL)
                return process
            if self._nursery.poll() is not None:
                raise RuntimeError(f"the nursery ended: {self._said.read_text()[-2000:]}")
            self._asked[number] = process
            self._nursery.stdin.write(json.dumps(request).encode() + b"\n")
            self._nursery.stdin.flush()
        return process

    def _listen(self) -> None:
        assert self._nursery.stdout is not None
        for line in self._nursery.stdout:
            answer = json.loads(line)
            if "id" in answer:
                process = self._asked.pop(answer["id"])
                process.pid = answer["pid"]
                self._living[process.pid] = process
                process.begun.set()
            elif "code" in answer:
                self._living.pop(answer["pid"]).end(answer["code"])
        for process in (*self._asked.values(), *self._living.values()):
            process.end(-signal.SIGKILL)

    def close(self) -> None:
        """End all that runs."""
        assert self._nursery.stdin is not None
        with self._lock:
            self._closed = True
            self._nursery.stdin.close()
        try:
            self._nursery.wait(20)
        except subprocess.TimeoutExpired:
            self._nursery.kill()
            self._nursery.wait()
        self._reader.join(10)
        assert self._nursery.stdout is not None
        self._nursery.stdout.close()
