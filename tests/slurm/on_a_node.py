"""
A scene through a real Slurm, and what may become of its jobs: always the undisturbed Jacobian.

Not among the tests that every change must pass: `make slurm-test` runs it, on a machine with Debian's slurm-wlm.
"""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from place import HERE, KEY, Place, contents, in_still_air, short_folder
from slurm_node import Node, missing, node

PIXELS = 9
pytestmark = pytest.mark.skipif(bool(missing()), reason=f"not on this machine: {', '.join(missing())}")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="sl", dir="/tmp") as folder, node(Path(folder)) as here:
        yield here


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


class Scene:
    """A scene whose packs run in jobs, on air that takes its time."""

    def __init__(self, place: Place, slurm: Node, seconds: float, **asked: object) -> None:
        self.place, self.slurm = place, slurm
        (place.folder / "still_air.json").write_text(json.dumps({"seconds": seconds}))
        scratch = place.folder / "t"  # still air finds its wishes above the meteorology, which jobs copy there
        scratch.mkdir(exist_ok=True)
        chosen = {"look": 1, "cpus": 1, "time": 30, "grace": 5, "memory": 500, "partition": "low"}
        chosen |= {"scratch": str(scratch), **asked}
        (place.folder / "slurm.yaml").write_text(yaml.safe_dump(chosen))

    def start(self) -> subprocess.Popen[str]:
        more = {"STILT_ASSETS_EXECUTOR": "slurm", "STILT_ASSETS_SLURM": str(self.place.folder / "slurm.yaml")}
        return self.place.start("stilt-assets", "run", KEY, PYTHONPATH=str(HERE), **more, **self.slurm.environment)

    def ran(self) -> list[int]:
        """Pixels that air was moved for, as often as it was."""
        log = self.place.folder / "ran"
        return [int(line) for line in log.read_text().split()] if log.exists() else []

    def wait_for(self, pixels: int) -> None:
        end = time.monotonic() + 600
        while len(self.ran()) < pixels:
            assert time.monotonic() < end, self.slurm.jobs()
            time.sleep(0.05)

    def running(self) -> str:
        return next(job for job, state in self.slurm.jobs().items() if state == "RUNNING")

    def pids(self) -> list[int]:
        """Processes of its jobs."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and f"shard {KEY}".replace(" ", "\0") in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
        return found


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> dict[str, bytes]:
    """The Jacobian of a scene to which nothing happened, without Slurm."""
    place = made(tmp_path_factory.mktemp("peace"), shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        place.make()
    return contents(place.result("jacobian"))


def made(folder: Path, shared: Path) -> Place:
    return in_still_air(folder, shared, workers=1, shards=2)


# ---- what may happen


def nothing(_scene: Scene, _run: subprocess.Popen[str]) -> None: ...


def requeued(scene: Scene, _run: subprocess.Popen[str]) -> None:
    scene.slurm.ask("scontrol", "requeue", scene.running())


def cancelled(scene: Scene, _run: subprocess.Popen[str]) -> None:
    scene.slurm.ask("scancel", scene.running())


def preempted(scene: Scene, _run: subprocess.Popen[str]) -> None:
    scene.slurm.ask("sbatch", "--partition=high", "--ntasks=2", "--output=/dev/null", script="#!/bin/sh\nsleep 3\n")


def killed(scene: Scene, _run: subprocess.Popen[str]) -> None:
    for pid in scene.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def node_lost(scene: Scene, _run: subprocess.Popen[str]) -> None:
    name = scene.slurm.ask("sinfo", "--noheader", "--partition=low", "--format", "%n").strip().split("\n")[0]
    scene.slurm.ask("scontrol", "update", f"nodename={name}", "state=down", "reason=test")
    time.sleep(2)
    if "down" in scene.slurm.ask(
        "sinfo", "--noheader", "--partition=low", "--format", "%T"
    ):  # a node that answers comes back by itself
        scene.slurm.ask("scontrol", "update", f"nodename={name}", "state=resume")


def run_killed(scene: Scene, run: subprocess.Popen[str]) -> None:
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


def run_stopped(scene: Scene, run: subprocess.Popen[str]) -> None:
    run.send_signal(signal.SIGTERM)
    _, told = run.communicate(timeout=300)
    assert run.returncode == 3, told
    end = time.monotonic() + 120
    while jobs := scene.slurm.jobs():
        assert time.monotonic() < end, jobs
        time.sleep(0.2)


TROUBLES = (nothing, requeued, cancelled, preempted, killed, node_lost, run_killed, run_stopped)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_whatever_becomes_of_its_jobs_the_jacobian_is_the_same(
    slurm: Node, folder: Path, shared: Path, peace: dict[str, bytes], trouble: Callable[..., None]
) -> None:
    scene = Scene(made(folder, shared), slurm, seconds=1.0)
    run = scene.start()
    if trouble is not nothing:
        scene.wait_for(2)
    trouble(scene, run)
    if run.returncode is not None:
        run = scene.start()
    _, told = run.communicate(timeout=900)
    assert run.returncode == 0, told
    assert contents(scene.place.result("jacobian")) == peace
    assert set(scene.ran()) == set(range(PIXELS))
    # Two jobs had a pixel under way: Slurm gives them KillWait to end it, a fault does not.
    assert len(scene.ran()) <= PIXELS + (2 if trouble in (killed, node_lost) else 0)


def test_a_job_whose_time_limit_comes_near_is_queued_again_and_goes_on(
    slurm: Node, folder: Path, shared: Path, peace: dict[str, bytes]
) -> None:
    place = made(folder, shared)
    place.change(packs__shards=1)
    # Slurm tells it 30 s before its time is up, or up to 60 s earlier: after 210 s at the latest, when not all is done.
    scene = Scene(place, slurm, seconds=24.0, time=4, grace=30)
    run = scene.start()
    _, told = run.communicate(timeout=1200)
    assert run.returncode == 0, told
    (log,) = (place.folder / "slurm-logs").glob("*.log")  # of one array, however often its task began
    assert "nearly up" in log.read_text()
    assert sorted(scene.ran()) == list(range(PIXELS))  # none was lost, none ran twice
    assert contents(place.result("jacobian")) == peace


@pytest.fixture
def healed(slurm: Node) -> Iterator[None]:
    """Two nodes, in use again afterwards."""
    yield
    for name in ("first", "second"):
        (slurm.folder / "sick" / name).unlink(missing_ok=True)
        slurm.heal(name)


@pytest.mark.usefixtures("healed")
def test_a_job_that_its_node_cannot_begin_is_released_and_runs_on_another(
    slurm: Node, folder: Path, shared: Path, peace: dict[str, bytes]
) -> None:
    slurm.sicken("first")
    scene = Scene(made(folder, shared), slurm, seconds=1.0, partition="two")
    run = scene.start()
    _, told = run.communicate(timeout=900)
    assert run.returncode == 0, told
    assert "(launch failed requeued held); released, 1 of 3 times" in told
    assert "drain" in slurm.ask("sinfo", "--noheader", "--nodes=first", "--format", "%T")
    assert sorted(scene.ran()) == list(range(PIXELS))
    assert contents(scene.place.result("jacobian")) == peace


@pytest.mark.usefixtures("healed")
def test_jobs_that_no_node_can_begin_are_given_up_in_one_line(slurm: Node, folder: Path, shared: Path) -> None:
    scene = Scene(made(folder, shared), slurm, seconds=1.0, partition="two", attempts=1)
    run = scene.start()
    end = time.monotonic() + 900
    while run.poll() is None:  # somebody takes the nodes into use again and again, and they are not well
        assert time.monotonic() < end, slurm.jobs()
        for name in ("first", "second"):
            slurm.sicken(name)
            slurm.heal(name)
        time.sleep(0.5)
    _, told = run.communicate()
    assert (run.returncode, scene.ran()) == (1, [])
    assert "are held, after " in told.splitlines()[-1]
    assert slurm.jobs() == {}


def test_the_real_model_runs_in_jobs(slurm: Node, folder: Path, shared: Path) -> None:
    """`hycs_std`, from meteorology that was copied to the node's own disk."""
    settings = {"packs": {"pixels": 4, "workers": 1, "shards": 3}}
    alone, together = (Place(folder / name, shared, **settings) for name in ("alone", "together"))
    alone.add()
    alone.make()
    together.add()
    run = Scene(together, slurm, seconds=0.0).start()
    _, told = run.communicate(timeout=900)
    assert run.returncode == 0, told
    assert contents(together.result("jacobian")) == contents(alone.result("jacobian"))


def test_a_partition_that_is_none_is_told(slurm: Node, folder: Path, shared: Path) -> None:
    run = Scene(made(folder, shared), slurm, seconds=0.0, partition="nowhere").start()
    _, told = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "invalid partition specified: nowhere" in told.splitlines()[-1]
