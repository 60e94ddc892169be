"""Packs in jobs of Slurm: what is asked of it, and whatever becomes of jobs, the same Jacobian."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from place import KEY, Place, contents, lived_in
from slurm_stub import Stub, installed

from stilt_assets.definitions import defs
from stilt_assets.errors import SettingsError, SlurmError, StoppedError
from stilt_assets.plan import Footprints
from stilt_assets.progress import Progress
from stilt_assets.settings import SlurmSettings, load_slurm
from stilt_assets.shard import Here, Shard, plan_footprints, run_shard
from stilt_assets.slurm import Slurm, name_of, options_of, runner_of, script_of
from stilt_assets.slurm.commands import Queued
from stilt_assets.slurm.held import Held
from stilt_assets.slurm.job import run_in_a_job
from stilt_assets.stages import make_meteorology, make_pixels

ROOT = Path(__file__).parents[1]
PIXELS = 9


@pytest.fixture
def place(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Five packs of nine pixels, on air that does not move."""
    with lived_in(shared, monkeypatch, workers=1, shards=2) as place:
        yield place


@pytest.fixture
def stub(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with installed(place.folder / "slurm", monkeypatch) as stub:
        yield stub


def slurm(place: Place, **asked: object) -> Slurm:
    """With scratch below the place: still air finds its wishes above the meteorology, which jobs copy there."""
    (place.folder / "t").mkdir(exist_ok=True)
    chosen = {"look": 0.2, "cpus": 1, "scratch": str(place.folder / "t"), "logs": str(place.folder / "logs")}
    return Slurm(SlurmSettings(**chosen | asked))  # pyright: ignore[reportArgumentType]


def wish(place: Place, seconds: float) -> None:
    (place.folder / "still_air.json").write_text(json.dumps({"seconds": seconds}))


def ran(place: Place) -> list[int]:
    log = place.folder / "ran"
    return sorted(int(line) for line in log.read_text().split()) if log.exists() else []


def pixels_of(place: Place, *packs: int) -> list[int]:
    cut = Footprints.of(place.desk()).cut()
    return sorted(int(pixel) for number in packs for pixel in cut[number])


def peace(place: Place, shared: Path, name: str = "peace") -> dict[str, bytes]:
    """The Jacobian of a scene to which nothing happens."""
    quiet = Place(place.folder / name, shared, **{key: place.settings[key] for key in ("simulation", "packs")})
    quiet.add()
    quiet.make()
    return contents(quiet.result("jacobian"))


def planned(place: Place) -> list[int]:
    desk = place.desk()
    make_pixels(desk)
    make_meteorology(desk)
    return plan_footprints(desk)


class Meanwhile(threading.Thread):
    """Does something once so many pixels ran."""

    def __init__(self, place: Place, pixels: int, act) -> None:
        super().__init__(daemon=True)
        self.place, self.pixels, self.act = place, pixels, act
        self.start()

    def run(self) -> None:
        while len(ran(self.place)) < self.pixels:
            time.sleep(0.01)
        self.act()


def test_dagster_runs_a_scene_in_one_array_and_a_job_that_is_killed_costs_its_pixel(
    place: Place, stub: Stub, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish(place, 0.3)
    (place.folder / "slurm.yaml").write_text(yaml.safe_dump(slurm(place).chosen.model_dump()))
    monkeypatch.setenv("STILT_ASSETS_SLURM", str(place.folder / "slurm.yaml"))
    killer = Meanwhile(place, 2, lambda: stub.signal(signal.SIGKILL))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("scenes", [KEY])
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            partition_key=KEY,
            instance=instance,
            asset_selection=[dg.AssetKey(name) for name in ("pixels", "meteorology", "footprints", "jacobian")],
            run_config={"resources": {"runner": {"config": {"executor": "slurm"}}}},
        )
    killer.join()
    shards = {event.step_key for event in result.all_events if event.step_key and "run_shard[" in event.step_key}
    assert shards == {"footprints.run_shard[packs_0_to_4]"}
    assert [each["script"].split("set -- ")[1].split("\n")[0] for each in stub.asked][:1] == [
        "packs_0_to_2 packs_3_to_4"
    ]
    assert len(stub.asked) == 2
    assert set(ran(place)) == set(range(PIXELS))
    assert len(ran(place)) <= PIXELS + 2  # each of two jobs had one under way
    assert contents(place.result("jacobian")) == peace(place, shared)


def test_a_cancelled_job_ends_its_pixel_and_one_whose_time_is_nearly_up_is_queued_again(
    place: Place, stub: Stub
) -> None:
    place.change(packs__shards=1)
    planned(place)
    wish(place, 0.3)
    asked: list[bool] = []
    runner, whole = slurm(place), Shard(0, 4)
    Meanwhile(place, 1, lambda: asked.append(True))
    with pytest.raises(StoppedError, match="jobs are cancelled"):
        runner.run(place.desk(), whole, stopped=lambda: bool(asked))
    while stub.tasks():
        time.sleep(0.02)
    before = len(ran(place))
    assert 1 <= before < PIXELS - 2
    Meanwhile(place, before + 2, stub.warn)
    runner.run(place.desk(), whole)
    assert (len(stub.asked), stub.requeued) == (2, ["2_0"])
    assert ran(place) == list(range(PIXELS))  # none was lost, none ran twice


def in_a_job(place: Place, patch: pytest.MonkeyPatch) -> Path:
    """A file that is there when the job that this process is has been queued again."""
    queued, scontrol = place.folder / "queued", place.folder / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $* >{queued}\n")
    scontrol.chmod(0o755)
    patch.setenv("SLURM_JOB_ID", "7")
    patch.setenv("PATH", str(scontrol.parent))
    return queued


def test_a_job_whose_time_is_up_before_a_pixel_is_done_is_not_queued_for_ever(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(place)
    queued = in_a_job(place, monkeypatch)
    with pytest.raises(StoppedError):
        run_in_a_job(place.desk(), Shard(0, 4), lambda _: None, lambda: False, lambda: True)
    assert not queued.exists()


def test_what_others_brought_and_what_is_tried_again_is_not_what_a_job_brought(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(place)
    wish(place, 0)
    first, second = pixels_of(place, 0)
    with pytest.raises(StoppedError):
        run_shard(place.desk(), Shard(0, 0), stopped=lambda: bool(ran(place)))
    assert ran(place) == [first]
    (place.folder / "still_air.json").write_text(json.dumps({"faults": {second: "incomplete"}}))
    queued = in_a_job(place, monkeypatch)
    told: list[Progress] = []
    tried = place.folder / f"once-{second}"
    with pytest.raises(StoppedError):
        run_in_a_job(place.desk(), Shard(0, 0), told.append, lambda: False, tried.exists)
    assert [each.pixels_done for each in told] == [0, 1]  # one is there: another job's
    assert not queued.exists()


def test_jobs_of_a_run_that_was_killed_are_waited_for_and_not_doubled(place: Place, stub: Stub) -> None:
    planned(place)
    over = place.folder / "over"
    stub.submit(name_of(Footprints.of(place.desk())), f"until [ -e {over} ]; do sleep 0.1; done")
    told: list[Progress] = []

    def tell(state: Progress) -> None:
        told.append(state)
        if len(told) == 3:  # once before it looks at the queue, and at each look that finds a job
            over.touch()

    with pytest.raises(SlurmError, match="ended 1 times"):
        slurm(place, setup=["exit 7"], attempts=1).run(place.desk(), Shard(0, 4), tell)
    assert over.exists()
    assert stub.asked == []


def test_jobs_that_end_in_vain_are_given_up_with_the_last_line_of_their_log(place: Place, stub: Stub) -> None:
    planned(place)
    runner = slurm(place, setup=["echo module: command not found", "exit 7"], attempts=2)
    with pytest.raises(SlurmError, match="ended 2 times without a further pixel") as caught:
        runner.run(place.desk(), Shard(0, 4))
    assert (caught.value.reason, caught.value.transient) == ("slurm_jobs", True)
    assert len(stub.asked) == 2


@pytest.mark.parametrize(
    ("trouble", "said", "reason"),
    [
        ({"refuse": "sbatch: error: invalid partition specified: nowhere"}, "invalid partition", "slurm_refused"),
        ({"stuck": "PartitionConfig"}, "will never start: 1_0 PENDING PartitionConfig", "slurm_refused"),
    ],
)
def test_what_can_never_run_is_told_and_cancelled(
    place: Place, stub: Stub, trouble: dict[str, str], said: str, reason: str
) -> None:
    planned(place)
    for name, content in trouble.items():
        (stub.folder / name).write_text(content)
    with pytest.raises(SlurmError, match=said) as caught:
        slurm(place, setup=["exec sleep 600"]).run(place.desk(), Shard(0, 4))
    assert (caught.value.reason, caught.value.transient) == (reason, False)
    end = time.monotonic() + 60
    while stub.tasks() and time.monotonic() < end:
        time.sleep(0.02)
    left = stub.tasks()
    assert left == {}, [Path(f"/proc/{pid}/status").read_text() for pid in left.values()]


def launches_fail(stub: Stub, **times: int) -> None:
    """Nodes cannot begin a task, named by its index as in _0, so many times."""
    (stub.folder / "launches").write_text(json.dumps({task.removeprefix("_"): count for task, count in times.items()}))


def test_a_job_that_a_node_cannot_begin_is_released_and_nothing_else_stops(place: Place, stub: Stub, caplog) -> None:
    planned(place)
    wish(place, 0.3)
    launches_fail(stub, _1=2)
    slurm(place).run(place.desk(), Shard(0, 4))
    assert (len(stub.asked), stub.released) == (1, ["1_1", "1_1"])
    assert ran(place) == list(range(PIXELS))
    told = [line for line in caplog.messages if "could not begin" in line]
    assert told == [
        f"a node could not begin job 1_1 (launch failed requeued held); released, {times} of 3 times"
        for times in (1, 2)
    ]


def test_a_job_that_no_node_begins_ends_the_step_when_the_others_are_done(place: Place, stub: Stub) -> None:
    planned(place)
    wish(place, 0.3)
    launches_fail(stub, _0=99)
    with pytest.raises(SlurmError, match="are held, after 2 releases: 1_0 PENDING launch failed") as caught:
        slurm(place, attempts=2).run(place.desk(), Shard(0, 4))
    assert (caught.value.reason, caught.value.transient) == ("slurm_jobs", True)
    assert ran(place) == pixels_of(place, 3, 4)  # of the other job
    assert stub.held() == []


def held(*tasks: int, why: str = "launch failed requeued held") -> list[Queued]:
    return [Queued(f"7_{task}", "PENDING", why) for task in tasks]


RUNS, WAITS = Queued("7_9", "RUNNING", "None"), Queued("7_[5-8]", "PENDING", "Priority")


def test_held_jobs_are_released_together_only_while_another_runs() -> None:
    released: list[str] = []
    jobs = Held("stilt-1", 3, released.append)
    jobs.look([*held(0, 1), WAITS])
    assert released == []  # the next to run will show whether nodes are well
    for state, why in (("CONFIGURING", "None"), ("COMPLETING", "launch failed requeued held")):
        jobs.look([*held(0, 1), WAITS, Queued("7_2", state, why)])
        assert released == []  # it may be a node that cannot begin it
    jobs.look([*held(0, 1), WAITS, RUNS])
    assert released == ["7_0", "7_1"]
    jobs.look(held(0, 1, 2))
    assert released[2:] == ["7_2"]  # one, and which was released least
    jobs.look([WAITS])
    assert len(released) == 3


def test_a_job_is_released_as_often_as_was_asked_for_and_no_more() -> None:
    released: list[str] = []
    jobs = Held("stilt-1", 2, released.append)
    for _ in range(5):
        jobs.look([*held(3), RUNS])
    assert released == ["7_3", "7_3"]
    with pytest.raises(SlurmError, match="stilt-1 has left are held, after 2 releases: 7_3 PENDING launch failed"):
        jobs.look(held(3))


def test_where_no_job_begins_not_every_job_is_tried_in_vain() -> None:
    released: list[str] = []
    jobs = Held("stilt-1", 3, released.append)
    for _ in range(3):
        jobs.look(held(*range(50)))
    with pytest.raises(SlurmError, match="after 3 releases"):
        jobs.look(held(*range(50)))
    assert released == ["7_0", "7_1", "7_2"]


@pytest.mark.parametrize(
    ("why", "times"),
    [
        ("launch failure limit exceeded requeued held", 1),
        ("user_env_retrieval_failed_requeued_held", 1),
        ("JobHoldMaxRequeue", 1),
        ("JobHeldUser", 0),
        ("job requeued in held state", 0),
    ],
)
def test_what_a_person_holds_is_left_to_the_person(why: str, times: int) -> None:
    released: list[str] = []
    Held("stilt-1", 3, released.append).look([*held(0, why=why), RUNS])
    assert len(released) == times


def test_a_job_that_only_others_may_release_stays_held_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_number: str) -> None:
        raise SlurmError("scontrol: access denied", "slurm_refused")

    Held("stilt-1", 1, refuse).look([*held(0), RUNS])
    (line,) = caplog.messages
    assert line.endswith("was not released, 1 of 1 times: scontrol: access denied")


def test_a_controller_that_is_away_for_a_while_is_asked_again(place: Place, stub: Stub) -> None:
    planned(place)
    (stub.folder / "away").write_text("3")
    with pytest.raises(SlurmError, match="ended 1 times"):
        slurm(place, setup=["exit 7"], attempts=1).run(place.desk(), Shard(0, 4))
    assert (stub.folder / "away").read_text() == "0"


def test_why_jobs_wait_is_said_once(place: Place, stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    planned(place)
    (stub.folder / "stuck").write_text("Priority")
    with pytest.raises(SlurmError, match="ended 1 times"):
        slurm(place, setup=["sleep 1", "exit 7"], attempts=1).run(place.desk(), Shard(0, 4))
    (line,) = (line for line in caplog.messages if "wait" in line)
    assert line.endswith("wait: PENDING Priority")


def test_progress_counts_the_packs_of_the_shard_and_no_others(place: Place, stub: Stub) -> None:
    planned(place)
    run_shard(place.desk(), Shard(0, 1))
    told: list[Progress] = []
    with pytest.raises(SlurmError, match="ended 1 times"):
        slurm(place, setup=["sleep 1", "exit 7"], attempts=1).run(place.desk(), Shard(1, 4), told.append)
    assert len(told) > 2
    assert {(each.packs_done, each.packs) for each in told} == {(1, 4)}
    assert {(each.pixels_done, each.pixels) for each in told} == {(2, 7)}


def test_without_slurm_the_run_says_where_to_start_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(place)
    monkeypatch.setenv("PATH", str(place.folder))
    with pytest.raises(SlurmError, match="no squeue on this machine"):
        slurm(place).run(place.desk(), Shard(0, 4))


# ---- what is asked for


def test_options_are_those_of_the_settings() -> None:
    chosen = SlurmSettings(partition="spot", time=30, grace=60, cpus=16, at_once=4, options=["--exclude=n7"])  # pyright: ignore[reportCallIssue]
    assert options_of(chosen, "stilt-1", 12, Path("/logs"), 900) == [
        "--partition=spot",
        "--time=30",
        "--cpus-per-task=16",
        "--mem=900M",
        "--job-name=stilt-1",
        "--nodes=1",
        "--ntasks=1",
        "--array=0-11%4",
        "--signal=B:USR1@60",
        "--output=/logs/%x-%A_%a.log",
        "--open-mode=append",
        "--requeue",
        "--exclude=n7",
    ]


def test_a_task_becomes_the_command_of_its_shard() -> None:
    chosen = SlurmSettings(setup=["module load gcc"], scratch="$LOCAL/tmp")  # pyright: ignore[reportCallIssue]
    lines = script_of(chosen, KEY, ["packs_0_to_2", "packs_3_to_4"]).splitlines()
    assert lines[:5] == [
        "#!/bin/sh",
        "module load gcc",
        'export TMPDIR="$LOCAL/tmp"',
        "set -- packs_0_to_2 packs_3_to_4",
        'shift "$SLURM_ARRAY_TASK_ID"',
    ]
    assert lines[5].startswith("exec ")
    assert lines[5].endswith(f'shard {KEY} "$1" --workers "${{SLURM_CPUS_PER_TASK:-8}}"')


def test_memory_is_what_the_scene_needs_with_a_worker_on_each_core(place: Place, stub: Stub) -> None:
    planned(place)
    asked = []
    for cpus in (1, 9):
        with pytest.raises(SlurmError):
            slurm(place, setup=["exit 7"], attempts=1, cpus=cpus).run(place.desk(), Shard(0, 4))
        (memory,) = (word for word in stub.asked[-1]["words"] if word.startswith("--mem="))
        asked.append(int(memory.removeprefix("--mem=").removesuffix("M")))
    assert asked[1] - asked[0] > 8 * 200  # MiB of a worker and its program


def test_the_settings_of_the_checkout_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(ROOT / "dagster_home"))
    monkeypatch.delenv("STILT_ASSETS_SLURM", raising=False)
    logs = str(ROOT / "dagster_home" / "slurm-logs")
    assert load_slurm() == SlurmSettings(logs=logs)  # pyright: ignore[reportCallIssue]
    assert runner_of("slurm") == Slurm(load_slurm())
    assert isinstance(runner_of("in_process"), Here)


def test_a_time_that_is_over_before_a_pixel_begins_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILT_ASSETS_SLURM", str(tmp_path / "slurm.yaml"))
    (tmp_path / "slurm.yaml").write_text("time: 3\ngrace: 119\n")
    assert load_slurm().grace == 119
    (tmp_path / "slurm.yaml").write_text("time: 3\ngrace: 120\n")
    with pytest.raises(SettingsError, match="time"):
        load_slurm()


def test_a_wrong_key_is_told_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slurm.yaml").write_text("partitions: spot\n")
    monkeypatch.setenv("STILT_ASSETS_SLURM", str(tmp_path / "slurm.yaml"))
    with pytest.raises(SettingsError, match="did you mean 'partition'"):
        load_slurm()
