"""
`sbatch`, `squeue`, `scancel` and `scontrol` as small programs: a task is a shell of this machine in its own session.

Run as `python slurm_stub.py FOLDER PROGRAM WORDS…`; `installed` makes commands of them. In FOLDER, `asked` has what
sbatch was asked for, a line of JSON each, and `requeued` and `released` a line for each task that was queued again or
released; files that a test puts there make trouble: `refuse` (what sbatch says instead), `away` (times that squeue does
not answer), `stuck` (why a task waits for ever), `launches` (JSON: by the task's index, how many nodes cannot begin
it).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


class Stub:
    """A cluster without a queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self) -> str:
        """Make the commands; their folder, for PATH."""
        commands = self.folder / "bin"
        commands.mkdir(parents=True)
        for name in ("sbatch", "squeue", "scancel", "scontrol"):
            words = f"{sys.executable} -I -S {Path(__file__)} {self.folder} {name}"
            (commands / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            (commands / name).chmod(0o755)
        return str(commands)

    @property
    def asked(self) -> list[dict]:
        """What sbatch was asked for: words and script."""
        log = self.folder / "asked"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def tasks(self, name: str = "") -> dict[str, int]:
        """Process groups of the tasks of that name which run, by number."""
        found = {}
        for place in sorted(self.folder.glob("task-*")):
            told = place.read_text().split()
            if len(told) == 2 and told[0].startswith(name):
                found[place.name.removeprefix("task-")] = int(told[1])
        return found

    def signal(self, number: int) -> None:
        """Send a signal to all processes of all tasks, as Slurm does when it ends them."""
        for group in self.tasks().values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)

    def warn(self) -> None:
        """Tell the scripts of all tasks, and nothing that they began, that their time is nearly up."""
        for pid in self.tasks().values():
            os.kill(pid, signal.SIGUSR1)

    @property
    def requeued(self) -> list[str]:
        """Tasks that were queued again."""
        return self._noted("requeued")

    @property
    def released(self) -> list[str]:
        """Tasks that were released."""
        return self._noted("released")

    def put(self, number: str, words: str) -> None:
        """Write down whole what a task does now."""
        part = self.folder / f"part-{number}-{os.getpid()}"
        part.write_text(words)
        part.rename(self.folder / f"task-{number}")

    def note(self, what: str, number: str) -> None:
        """Write down what was done with a task."""
        with (self.folder / what).open("a") as file:
            file.write(f"{number}\n")

    def _noted(self, what: str) -> list[str]:
        log = self.folder / what
        return log.read_text().split() if log.exists() else []

    def held(self, name: str = "") -> list[str]:
        """Tasks of that name that no node could begin, and that nobody has released."""
        told = {place.name.removeprefix("task-"): place.read_text() for place in sorted(self.folder.glob("task-*"))}
        return [number for number, words in told.items() if words.startswith(name) and words.endswith(" is held")]

    def submit(self, name: str, script: str, tasks: int = 1) -> int:
        """Start tasks."""
        number = 1 + len(self.asked)
        for task in range(tasks):
            words = [sys.executable, "-I", "-S", __file__, str(self.folder), "task", name, f"{number}_{task}", script]
            nowhere = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
            os.posix_spawn(words[0], words, os.environ, file_actions=nowhere)  # nobody waits for it
            while not (self.folder / f"task-{number}_{task}").exists():
                time.sleep(0.01)
        return number


@contextlib.contextmanager
def installed(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """Its commands first on PATH, for the block; then no task runs any more."""
    stub = Stub(folder)
    patch.setenv("PATH", f"{stub.install()}:{os.environ['PATH']}")
    yield stub
    stub.signal(signal.SIGKILL)


def option(words: list[str], name: str, otherwise: str = "") -> str:
    """The value of an option, given as --name=value or --name value."""
    for number, word in enumerate(words):
        if word.startswith(f"--{name}="):
            return word.split("=", 1)[1]
        if word == f"--{name}":
            return words[number + 1]
    return otherwise


def sbatch(stub: Stub, words: list[str]) -> None:
    """Submit the script of the standard input."""
    script = sys.stdin.read()
    refuse = stub.folder / "refuse"
    if refuse.exists():
        sys.exit(refuse.read_text())
    tasks = int(option(words, "array", "0-0").split("%")[0].split("-")[1]) + 1
    log = option(words, "output")
    number = stub.submit(option(words, "job-name"), f"exec >>{log.replace('%x-%A_%a', 'job')} 2>&1\n{script}", tasks)
    with (stub.folder / "asked").open("a") as file:
        file.write(json.dumps({"words": words, "script": script}) + "\n")
    print(number)


def squeue(stub: Stub, words: list[str]) -> None:
    """List tasks that run, and those that are held."""
    away, stuck = stub.folder / "away", stub.folder / "stuck"
    if away.exists() and int(away.read_text()):
        away.write_text(str(int(away.read_text()) - 1))
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    for number in stub.tasks(option(words, "name")):
        print(f"{number} PENDING {stuck.read_text()}" if stuck.exists() else f"{number} RUNNING None")
    for number in stub.held(option(words, "name")):
        print(f"{number} PENDING launch failed requeued held")


def scancel(stub: Stub, words: list[str]) -> None:
    """End tasks."""
    for group in stub.tasks(option(words, "name")).values():
        os.killpg(group, signal.SIGTERM)
    for number in stub.held(option(words, "name")):
        stub.put(number, "ended")


def scontrol(stub: Stub, words: list[str]) -> None:
    """Queue a task again: it ends, and begins anew. Or release one that is held."""
    what, number = words
    if what == "release":
        assert number in stub.held()
        stub.note("released", number)
        return
    assert what == "requeue"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is one of the task's processes
    group = stub.tasks()[number]
    stub.note("requeued", number)
    os.killpg(group, signal.SIGTERM)


def task(stub: Stub, words: list[str]) -> None:
    """Run a task to its end, as often as it is queued again."""
    name, number, script = words
    given = {"SLURM_JOB_ID": number, "SLURM_ARRAY_TASK_ID": number.split("_")[1], "SLURM_CPUS_PER_TASK": "1"}
    place, begun = stub.folder / f"task-{number}", 0
    launches = stub.folder / "launches"
    for failed in range(json.loads(launches.read_text()).get(number.split("_")[1], 0) if launches.exists() else 0):
        stub.put(number, f"{name} is held")
        while stub.released.count(number) == failed:
            if place.read_text() == "ended":
                return
            time.sleep(0.02)
    while begun <= stub.requeued.count(number):
        begun += 1
        process = subprocess.Popen(["/bin/sh", "-c", script], env=os.environ | given, start_new_session=True)
        stub.put(number, f"{name} {process.pid}")
        process.wait()
    stub.put(number, "ended")


if __name__ == "__main__":
    {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "scontrol": scontrol, "task": task}[sys.argv[2]](
        Stub(Path(sys.argv[1])), sys.argv[3:]
    )
