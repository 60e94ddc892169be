"""Processes of Dagster are killed; the scene goes on, and ends as if nothing had happened."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from place import BIN, KEY, Place, contents

from stilt_assets.defs.lost import end_lost

ROOT = Path(__file__).resolve().parents[1]
HERE = str(Path(__file__).parent)
MATERIALIZE = ("dagster", "asset", "materialize", "-m", "stilt_assets.definitions", "--select", "group:scene")


class Instance:
    """A Dagster instance of its own, with a scene of still air whose pixels take their time."""

    def __init__(self, folder: Path, shared: Path, seconds: float) -> None:
        settings = {"simulation__transport": "still_air:StillAir", "simulation__particles": 4}
        self.place = Place(folder / "place", shared, packs__pixels=2, packs__shards=3, **settings)
        self.wish(seconds)
        self.home = folder / "home"
        self.home.mkdir()
        shutil.copy(ROOT / "dagster_home" / "dagster.yaml", self.home)
        self.environment = self.place.environment(DAGSTER_HOME=str(self.home), PYTHONPATH=HERE)
        self.log = folder / "log"
        self.started: list[subprocess.Popen[bytes]] = []
        self.run("stilt-assets", "scenes", "add", str(self.place.retrieval))

    def wish(self, seconds: float) -> None:
        (self.place.folder / "still_air.json").write_text(json.dumps({"seconds": seconds}))

    def start(self, *words: str, **more: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [str(BIN / words[0]), *words[1:]],
                cwd=ROOT,
                env=self.environment | more,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def run(self, *words: str, **more: str) -> None:
        process = self.start(*words, **more)
        assert process.wait(900) == 0, self.log.read_text()[-3000:]

    def end(self) -> None:
        """End every process that was started, and those that they started, by their environment."""
        mark = f"DAGSTER_HOME={self.home}".encode()
        for each in self.started:
            each.kill()
            each.wait()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environ.read_bytes().split(b"\0"):
                    os.kill(int(environ.parent.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue

    def ran(self) -> list[int]:
        """Pixels in the order in which they were run."""
        file = self.place.folder / "ran"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def wait_until(self, so: Callable[[], bool]) -> None:
        end = time.monotonic() + 200
        while not so():
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def jacobian(self) -> dict[str, bytes]:
        return contents(self.place.result("jacobian"))


@pytest.fixture
def instance(tmp_path: Path, shared: Path) -> Iterator[Instance]:
    made = Instance(tmp_path, shared, seconds=1.0)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> dict[str, bytes]:
    """The Jacobian of a scene to which nothing happened."""
    settings = {"simulation__transport": "still_air:StillAir", "simulation__particles": 4}
    place = Place(tmp_path_factory.mktemp("peace"), shared, **settings)
    place.add()
    place.cli("run", KEY, PYTHONPATH=HERE)
    return contents(place.result("jacobian"))


def test_a_killed_run_costs_only_the_pixels_under_way(instance: Instance, peace: dict[str, bytes]) -> None:
    run = instance.start(*MATERIALIZE, "--partition", KEY)
    instance.wait_until(lambda: len(instance.ran()) >= 3)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    with dagster_of(instance) as dagster:
        assert [each.status for each in dagster.get_runs()] == [dg.DagsterRunStatus.STARTED]
        assert end_lost(dagster) == [each.run_id for each in dagster.get_runs()]
        assert [each.status for each in dagster.get_runs()] == [dg.DagsterRunStatus.FAILURE]
        assert end_lost(dagster) == []
    instance.wish(0)
    instance.run(*MATERIALIZE, "--partition", KEY)
    assert instance.jacobian() == peace
    assert set(instance.ran()) == set(range(9))
    assert len(instance.ran()) <= 9 + 2  # of two workers


def test_a_killed_step_is_started_again_by_itself(instance: Instance, peace: dict[str, bytes]) -> None:
    instance.wish(2.0)
    run = instance.start(*MATERIALIZE, "--partition", KEY, STILT_ASSETS_EXECUTOR="multiprocess")
    pattern = re.compile(r" - (\d+) - footprints\.run_shard\[packs_2_to_3\] - STEP_START")
    instance.wait_until(lambda: pattern.search(instance.log.read_text()) is not None and len(instance.ran()) >= 5)
    step = pattern.search(instance.log.read_text())
    assert step
    os.kill(int(step[1]), signal.SIGKILL)
    instance.wish(0)
    assert run.wait(900) == 0, instance.log.read_text()[-3000:]
    assert 'Started re-execution (attempt # 2) of step "footprints.run_shard[packs_2_to_3]"' in instance.log.read_text()
    assert instance.jacobian() == peace
    assert len(instance.ran()) <= 9 + 2


def test_a_killed_daemon_costs_nothing(instance: Instance, peace: dict[str, bytes]) -> None:
    daemon = instance.start("dagster-daemon", "run", "-w", "workspace.yaml")
    partition = json.dumps({"dagster/partition": KEY})
    instance.run("dagster", "job", "launch", "-w", "workspace.yaml", "-j", "scene", "--tags", partition)
    instance.wait_until(lambda: len(instance.ran()) >= 3)
    daemon.kill()
    instance.start("dagster-daemon", "run", "-w", "workspace.yaml")
    instance.wait_until(lambda: (instance.place.scene / "scene.json").exists() and "jacobian" in current(instance))
    assert instance.jacobian() == peace
    assert sorted(instance.ran()) == list(range(9))


def test_a_scene_outlives_the_end_of_all_processes(instance: Instance, peace: dict[str, bytes]) -> None:
    """As when a machine restarts: nobody is left who could say that the run failed."""
    instance.start("dagster-daemon", "run", "-w", "workspace.yaml")
    partition = json.dumps({"dagster/partition": KEY})
    instance.run("dagster", "job", "launch", "-w", "workspace.yaml", "-j", "scene", "--tags", partition)
    instance.wait_until(lambda: len(instance.ran()) >= 3)
    with dagster_of(instance) as dagster:
        assert end_lost(dagster) == []  # it lives
    instance.end()
    instance.wish(0)
    instance.start("dagster-daemon", "run", "-w", "workspace.yaml")
    instance.wait_until(lambda: (instance.place.scene / "scene.json").exists() and "jacobian" in current(instance))
    assert instance.jacobian() == peace
    with dagster_of(instance) as dagster:
        # One that was asked for, and perhaps one of the sensor `arrivals`, which may end before the other is repeated.
        instance.wait_until(lambda: any(run.parent_run_id for run in dagster.get_runs()))
        runs = dagster.get_runs()
        failed = {run.run_id for run in runs if run.status == dg.DagsterRunStatus.FAILURE}
        assert failed == {run.parent_run_id for run in runs if run.parent_run_id}
        assert failed
    assert len(instance.ran()) <= 9 + 4  # of two workers of each


@contextmanager
def dagster_of(instance: Instance) -> Iterator[dg.DagsterInstance]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(instance.home))
        with dg.DagsterInstance.get() as dagster:
            yield dagster


def current(instance: Instance) -> dict[str, str]:
    return json.loads((instance.place.scene / "scene.json").read_text())["current"]
