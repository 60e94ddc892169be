"""
How do the packs of a scene run on a cluster with Slurm?

As one job array: each of its tasks takes some packs, in `stilt-assets shard` on a node that needs the store and no
database. A task whose time is nearly up stops at the next pixel and is queued again. Whatever else ends a task (a
preemption, a node that dies, somebody's scancel), what it finished stays, and what is left is submitted again as long
as that brings pixels.
"""

import logging
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

import numpy as np

from stilt_assets.errors import SlurmError, StoppedError
from stilt_assets.faults import in_words
from stilt_assets.plan import Footprints
from stilt_assets.pod import requests_of_scene
from stilt_assets.progress import Progress
from stilt_assets.recipes import Desk
from stilt_assets.scene import digest
from stilt_assets.settings import SlurmSettings, load_slurm
from stilt_assets.shard import Here, Runner, Shard, shards_of
from stilt_assets.slurm.commands import Queued, asked, cancel, queue, release
from stilt_assets.slurm.held import Held

_log = logging.getLogger(__name__)
_Said = TypeVar("_Said")
_AWAY = 1800.0  # s that Slurm may give no answer: a controller is restarted or moved in less
_GLANCE = 0.2  # s between looks at whether to stop
# Why a task waits that will never start; one that is held may.
_STUCK = ("BadConstraints", "PartitionConfig", "PartitionTimeLimit", "InvalidAccount", "InvalidQOS")
_LINE = 300  # characters of a log


@dataclass(frozen=True)
class Slurm:
    """Packs run in jobs of Slurm."""

    chosen: SlurmSettings

    def shards_of(self, numbers: Sequence[int], at_most: int) -> list[Shard]:  # noqa: ARG002  `Here` needs it
        """One shard: a step submits jobs for all packs and waits for them."""
        return shards_of(numbers, 1)

    def run(
        self,
        desk: Desk,
        shard: Shard,
        tell: Callable[[Progress], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Run the packs of a shard that are not whole, in at most `packs.shards` jobs at a time.

        StoppedError when `stopped` says so, once the jobs are cancelled. SlurmError if Slurm refuses them, gives no
        answer, or if they end again and again without a pixel more, or no node begins them.
        """
        _Watch(self.chosen, desk, shard, tell, stopped).to_the_end()


class _Watch:
    """The packs of a shard while jobs run them."""

    def __init__(
        self,
        chosen: SlurmSettings,
        desk: Desk,
        shard: Shard,
        tell: Callable[[Progress], None],
        stopped: Callable[[], bool],
    ) -> None:
        self.chosen, self.desk, self.tell, self.stopped = chosen, desk, tell, stopped
        self.made = Footprints.of(desk)
        self.members = _members(self.made, shard)
        self.name = name_of(self.made)
        self.folder = Path(chosen.logs)
        self.why: set[str] = set()  # states of the jobs when they were looked at last

    def to_the_end(self) -> None:
        """Submit, wait and look what is left, until nothing is."""
        in_vain, before = 0, dict[int, set[int]]()
        try:
            while left := self._left():
                in_vain = in_vain + 1 if left == before else 0
                if in_vain >= self.chosen.attempts:
                    raise SlurmError(f"jobs {self.name} ended {in_vain} times without a further pixel{self._told()}")
                before = left
                if not self._patiently(lambda: queue(self.name)):  # those of a run that was killed go on
                    self._submit(sorted(left))
                self._wait()
        except BaseException:
            cancel(self.name)
            raise

    def _left(self) -> dict[int, set[int]]:
        """As the function of that name, and tell it."""
        left = _left(self.made, self.members)
        self._progress(self.members.keys() - left)
        return left

    def _progress(self, whole: Collection[int]) -> None:
        pixels, done = sum(map(len, self.members.values())), sum(len(self.members[number]) for number in whole)
        self.tell(Progress(done, pixels, len(whole), len(self.members)))

    # ---- jobs

    def _submit(self, numbers: Sequence[int]) -> None:
        with in_words("making", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        parts = np.array_split(numbers, min(self.desk.settings.packs.shards, len(numbers)))
        shards = [Shard(int(part[0]), int(part[-1])).name for part in parts]
        script = script_of(self.chosen, self.desk.record.key, shards)
        words = options_of(self.chosen, self.name, len(shards), self.folder, self.chosen.memory or self._memory())
        number = asked("sbatch", ["--parsable", *words], script).strip()
        _log.info("%s: %d jobs submitted as %s", self.desk.record.key, len(shards), number)

    def _memory(self) -> int:
        """MiB of a job, as the scene needs it with a worker on each core."""
        packs = self.desk.settings.packs.model_copy(update={"workers": self.chosen.cpus})
        desk = replace(self.desk, settings=self.desk.settings.model_copy(update={"packs": packs}))
        return -(-requests_of_scene(desk)["run_shard"].memory // 2**20)

    def _patiently(self, question: Callable[[], _Said]) -> _Said:
        """What Slurm says to a question; asked again while it gives no answer, for half an hour at most."""
        begun = monotonic()
        while True:
            try:
                return question()
            except SlurmError as error:
                if error.reason != "slurm_away" or monotonic() - begun > _AWAY:
                    raise
                _log.warning("%s; asking again", error)
            self._pause()

    def _wait(self) -> None:
        """Until no job of ours waits or runs."""
        held = Held(self.name, self.chosen.attempts, lambda number: self._patiently(lambda: release(number)))
        while True:
            self._pause()
            there = self._patiently(lambda: queue(self.name))
            stuck = [job for job in there if any(why in job.why for why in _STUCK)]
            if stuck:
                raise SlurmError(f"a job of {self.name} will never start: {stuck[0]}", "slurm_refused")
            if not there:
                return
            held.look(there)
            self._say_why_none_runs(there)
            written = set(self.desk.store.packs(self.made.packs.footprints, "outcomes"))
            self._progress([n for n in self.members if self.made.packs.file(n, "outcomes") in written])

    def _say_why_none_runs(self, there: Sequence[Queued]) -> None:
        """Once for each reason, where every job waits."""
        why = {f"{job.state} {job.why}" for job in there}
        if why != self.why and not any(job.runs for job in there):
            _log.warning("jobs %s wait: %s", self.name, ", ".join(sorted(why)))
        self.why = why

    def _pause(self) -> None:
        end = monotonic() + self.chosen.look
        while monotonic() < end:
            if self.stopped():
                raise StoppedError("stopped; its jobs are cancelled, what they finished is kept: run again to go on")
            sleep(min(_GLANCE, self.chosen.look))

    def _told(self) -> str:
        """Where to look, and the last line of the last log."""
        logs = sorted(self.folder.glob(f"{self.name}-*.log"), key=lambda path: path.stat().st_mtime)
        if not logs:
            return f"; no log is in {self.folder}: do all nodes see that folder?"
        lines = logs[-1].read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it is empty")
        return f"; {logs[-1]}: {last[:_LINE]}"


def name_of(made: Footprints) -> str:
    """The one name of the jobs of a scene's footprints in a store."""
    return f"stilt-{made.recipe.id}-{digest(made.desk.store.root)[:6]}"


def options_of(chosen: SlurmSettings, name: str, tasks: int, logs: Path, memory: int) -> list[str]:
    """Options of sbatch for an array of so many tasks, with so many MiB of memory each."""
    given = {"partition": chosen.partition, "account": chosen.account, "qos": chosen.qos}
    given |= {"constraint": chosen.constraint, "time": chosen.time, "cpus-per-task": chosen.cpus}
    given |= {"mem": f"{memory}M", "job-name": name, "nodes": 1, "ntasks": 1}
    given |= {
        "array": f"0-{tasks - 1}" + (f"%{chosen.at_once}" if chosen.at_once else ""),
        # To the script alone, which becomes the program. Slurm ends jobs with SIGTERM; this one says why.
        "signal": f"B:USR1@{chosen.grace}",
        "output": str(logs / "%x-%A_%a.log"),
        "open-mode": "append",
    }
    fixed = ["--requeue"]  # a job that is preempted, or whose node dies, starts again by itself
    return [*(f"--{option}={value}" for option, value in given.items() if value is not None), *fixed, *chosen.options]


def script_of(chosen: SlurmSettings, key: str, shards: Sequence[str]) -> str:
    """What each task does: a shell that becomes the command for the task's shard."""
    words = [sys.executable, "-P", "-c", "from stilt_assets.cli import main; main()", "shard", key]
    return "\n".join(
        [
            "#!/bin/sh",
            *chosen.setup,
            f'export TMPDIR="{chosen.scratch}"',
            f"set -- {' '.join(map(shlex.quote, shards))}",
            'shift "$SLURM_ARRAY_TASK_ID"',
            f'exec {shlex.join(words)} "$1" --workers "${{SLURM_CPUS_PER_TASK:-{chosen.cpus}}}"',
            "",
        ]
    )


def _members(made: Footprints, shard: Shard) -> dict[int, list[int]]:
    """Pixels of each pack of a shard, by the pack's number."""
    return {n: part.tolist() for n, part in made.cut(shard.first, shard.last).items()}


def _left(made: Footprints, members: Mapping[int, Sequence[int]]) -> dict[int, set[int]]:
    """Pixels that must run, by number of their pack."""
    whole = made.packs.whole(members)
    partly = {number: pixels for number, pixels in members.items() if number not in whole}
    return made.packs.left(partly) if partly else {}


def runner_of(executor: str) -> Runner:
    """Who runs packs under an executor of that name (as STILT_ASSETS_EXECUTOR has it). SettingsError of slurm.yaml."""
    return Slurm(load_slurm()) if executor == "slurm" else Here()
