"""A run whose process is gone is told as failed, and no other."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import dagster as dg
import pytest

from stilt_assets import alive
from stilt_assets.alive import Process
from stilt_assets.defs.lost import end_lost, lost_runs, told

TELL = """
import json, time, dataclasses
from stilt_assets.alive import Process
print(json.dumps(dataclasses.asdict(Process.own())), flush=True)
time.sleep(600)
"""
STARTED, FAILURE, SUCCESS = (getattr(dg.DagsterRunStatus, name) for name in ("STARTED", "FAILURE", "SUCCESS"))


def own() -> Process:
    process = Process.own()
    assert process
    return process


# ---- processes


def test_this_process_is_not_gone() -> None:
    assert not own().is_gone()


def test_a_process_is_gone_once_it_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", TELL], stdout=subprocess.PIPE) as other:
        assert other.stdout
        process = Process(**json.loads(other.stdout.readline()))
        assert process.pid == other.pid
        assert not process.is_gone()
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert process.is_gone()  # nobody has taken note of it: it is still listed
        other.wait()
        assert process.is_gone()


def test_a_number_that_was_given_away_again_is_another_process() -> None:
    assert replace(own(), since=own().since - 1).is_gone()


@pytest.mark.parametrize("pid", [1, 2**22 + 1])  # one that there is, one that there cannot be
def test_a_process_of_another_container_or_machine_may_live(monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    monkeypatch.setattr(alive, "_machine", lambda: "here 17")
    other = replace(own(), pid=pid, since=3)
    assert not replace(other, numbers=own().numbers + 1).is_gone()
    assert not replace(other, boot="another", machine="there 18").is_gone()


def test_a_machine_that_restarted_has_lost_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "_machine", lambda: "here 17")
    before = replace(own(), boot="the one before", began=1e9)
    assert before.is_gone()
    monkeypatch.setattr(alive, "_machine", str)  # it cannot be told from others
    assert not replace(before, machine="").is_gone()


def test_a_copy_of_a_machine_that_was_there_before_a_process_has_not_lost_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "_machine", lambda: "here 17")
    assert not replace(own(), boot="the copy's").is_gone()


def test_a_process_knows_when_it_began() -> None:
    with subprocess.Popen([sys.executable, "-c", TELL], stdout=subprocess.PIPE) as other:
        assert other.stdout
        began = json.loads(other.stdout.readline())["began"]
        other.kill()
    assert 0 < began - own().began < time.time() - own().began + 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a set of process numbers")
def test_where_another_container_s_processes_are_shown_nothing_is_told() -> None:
    words = [
        "unshare",
        "--fork",
        "--pid",
        sys.executable,
        "-c",
        "from stilt_assets.alive import Process as P; print(P.own())",
    ]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "None\n"


# ---- runs


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@dg.op
def look(context: dg.OpExecutionContext) -> None:
    """Look for lost runs while one runs, this one."""
    kept = context.instance.get_run_by_id(context.run_id)
    assert kept
    assert json.loads(kept.tags["stilt_assets/process"]) == {"run": context.run_id, **asdict(own())}
    assert end_lost(context.instance) == []


@dg.job(executor_def=told(dg.in_process_executor))
def looks() -> None:
    """A run that looks for lost ones."""
    look()


def a_run(instance: dg.DagsterInstance, process: Process, run: str | None = None) -> str:
    """A run that is under way in a process, or so it was told of `run`."""
    made = instance.create_run_for_job(looks, status=STARTED)
    instance.add_run_tags(
        made.run_id, {"stilt_assets/process": json.dumps({"run": run or made.run_id, **asdict(process)})}
    )
    return made.run_id


def status(instance: dg.DagsterInstance, run: str) -> dg.DagsterRunStatus:
    kept = instance.get_run_by_id(run)
    assert kept
    return kept.status


GONE = replace(own(), since=1)


def test_a_run_writes_down_its_process_and_is_left_alone(instance: dg.DagsterInstance) -> None:
    with dg.execute_job(dg.reconstructable(looks), instance) as result:
        assert result.success
        assert status(instance, result.run_id) == SUCCESS


def test_only_runs_whose_own_process_is_gone_are_told_as_failed(instance: dg.DagsterInstance) -> None:
    lost, lives = a_run(instance, GONE), a_run(instance, own())
    repeats = a_run(instance, GONE, run=lost)  # it has the tags of the run that it repeats, and has not begun
    silent = instance.create_run_for_job(looks, status=STARTED).run_id
    with dg.build_sensor_context(instance) as context:
        said = lost_runs(context)
    assert isinstance(said, dg.SkipReason)
    assert said.skip_message == "1 lost"
    assert status(instance, lost) == FAILURE
    assert [status(instance, run) for run in (lives, repeats, silent)] == [STARTED] * 3


def test_a_run_that_ends_while_somebody_looks_has_ended_as_it_says(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(instance, GONE)

    def ends(_: Process) -> bool:
        kept = instance.get_run_by_id(run)
        assert kept
        instance.report_run_canceled(kept)
        return True

    monkeypatch.setattr(Process, "is_gone", ends)
    assert end_lost(instance) == []
    assert status(instance, run) == dg.DagsterRunStatus.CANCELED
