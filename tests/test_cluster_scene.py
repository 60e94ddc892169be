"""A scene on a cluster: a pod for its run and one for each step, Postgres, a store in a bucket, and what goes wrong."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from cluster import RUN, Object, PodFault, RequestFault, cluster, who_is
from cluster.rules import quantity
from cluster.world import Release, Scene, World, in_peace, release_of, world_at
from dagster._daemon.monitoring import run_monitoring
from place import KEY
from taxonomy import causes

from stilt_assets.pod import TYPICAL

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")  # Dagster's daemon
STEPS = {
    "pixels",
    "meteorology",
    "footprints.plan",
    "footprints.widen",
    "footprints.guard",
    "footprints.close",
    "jacobian",
    "footprints_few_pixels_lost",
    "footprints_crop_was_large_enough",
    "footprints_native_agrees_with_hysplit",
    "jacobian_no_gaps",
    "jacobian_jacobian_is_physical",
}
SHARDS = {f"footprints.run_shard[packs_{name}]" for name in ("0_to_1", "2_to_3", "4_to_4")}


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> dict[str, bytes]:
    return in_peace(tmp_path_factory.mktemp("peace"), shared)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return release_of(tmp_path_factory.mktemp("deploy") / "checkout")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, shared: Path, release: Release) -> Iterator[World]:
    with cluster() as running, world_at(tmp_path_factory.mktemp("world"), shared, release, running) as made:
        yield made


@dataclass(frozen=True)
class Undisturbed:
    """What a scene leaves to which nothing happened."""

    runs: list[dg.DagsterRun]
    jobs: dict[str, Object]
    jacobian: dict[str, bytes]
    failures: list[tuple[str | None, str]]


@pytest.fixture(scope="module")
def undisturbed(world: World) -> Undisturbed:
    with world.scene("undisturbed") as scene:
        scene.dagster.ask_for(KEY)
        runs = scene.dagster.to_the_end()
        failures = scene.dagster.said(runs[0], dg.DagsterEventType.STEP_FAILURE)
        return Undisturbed(runs, scene.jobs(), scene.jacobian(), failures)


def test_a_scene_of_three_shards_makes_the_same_bytes(undisturbed: Undisturbed, peace: dict[str, bytes]) -> None:
    assert undisturbed.failures == []
    assert [run.status for run in undisturbed.runs] == [dg.DagsterRunStatus.SUCCESS]
    assert undisturbed.jacobian == peace
    assert set(undisturbed.jobs) == STEPS | SHARDS | {RUN}


def container(job: Object) -> dict[str, Any]:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return only


def test_the_job_of_a_shard_says_what_it_needs_and_may_do_nothing_else(undisturbed: Undisturbed) -> None:
    (run,) = undisturbed.runs
    job = undisturbed.jobs["footprints.run_shard[packs_0_to_1]"]
    pod = job["spec"]["template"]["spec"]
    labels = {
        "app.kubernetes.io/component": "step_worker",
        "app.kubernetes.io/instance": "dagster",
        "app.kubernetes.io/name": "dagster",
        "app.kubernetes.io/part-of": "dagster",
        "app.kubernetes.io/version": dg.__version__,
        "dagster/code-location": "stilt_assets",
        "dagster/job": "ASSET_JOB",
        "dagster/op": "footprints.run_shard-packs_0_to_1",
        "dagster/run-id": run.run_id,
    }
    assert job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"] == labels
    assert {key: value for key, value in job["spec"].items() if key != "template"} == {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": 86400,
        "activeDeadlineSeconds": 172800,
    }
    assert pod["restartPolicy"] == "Never"
    assert pod["serviceAccountName"] == "pack"
    assert pod["automountServiceAccountToken"] is False
    assert pod["nodeSelector"] == {"stilt-assets/pool": "packs"}
    assert pod["tolerations"] == [
        {"key": "stilt-assets/pool", "operator": "Equal", "value": "packs", "effect": "NoSchedule"}
    ]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container(job)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_steps_ask_for_what_the_scene_is(undisturbed: Undisturbed) -> None:
    asked = {who: container(job)["resources"] for who, job in undisturbed.jobs.items()}
    shard, matrix = asked["footprints.run_shard[packs_0_to_1]"], asked["jacobian"]
    assert shard["requests"]["cpu"] == "1000m"  # packs.workers
    assert shard["requests"]["memory"] == shard["limits"]["memory"]
    assert shard != TYPICAL["run_shard"].resources
    assert matrix != TYPICAL["jacobian"].resources
    assert "cpu" not in shard["limits"]
    assert asked["footprints.plan"] == TYPICAL["plan"].resources
    assert {"name": "STILT_ASSETS_CORES", "value": "1"} in container(undisturbed.jobs["jacobian"])["env"]


def test_no_secret_is_in_a_job(undisturbed: Undisturbed, world: World) -> None:
    password = world.postgres.environment["DAGSTER_PG_PASSWORD"]
    reference = {"secretKeyRef": {"name": "db-secret", "key": "postgresql-password"}}
    for job in undisturbed.jobs.values():
        assert {"name": "DAGSTER_PG_PASSWORD", "valueFrom": reference} in container(job)["env"]
        assert {"configMapRef": {"name": "environment"}} in container(job)["envFrom"]
        assert password not in json.dumps(job)


def test_the_pod_of_a_run_lies_on_no_spot_node_and_may_make_jobs(undisturbed: Undisturbed) -> None:
    pod = undisturbed.jobs[RUN]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "run"
    assert pod["automountServiceAccountToken"] is True
    assert "tolerations" not in pod
    assert undisturbed.jobs[RUN]["spec"]["backoffLimit"] == 0


# ---- what goes wrong


def slowly(scene: Scene, seconds: float) -> None:
    """Let each pixel take so long, so that something can happen to its pod meanwhile."""
    (scene.cluster.folder / "still_air.json").write_text(json.dumps({"seconds": seconds}))


@causes("pod_lost", "pod_memory", "no_image", "no_start", "not_scheduled")
def test_whatever_becomes_of_the_pods_of_steps_the_jacobian_is_the_undisturbed_one(
    world: World, peace: dict[str, bytes]
) -> None:
    first, second, third = sorted(SHARDS)
    faults = world.cluster.faults
    faults.put(
        RequestFault("429", "pixels", times=2),
        RequestFault("500 after it was made", "footprints.plan"),
        PodFault("NodeGone", "meteorology"),
        PodFault("OOMKilled", re.escape(first), after="2 of 4 pixels"),
        PodFault("Deleted", re.escape(first), after="3 of 4 pixels"),
        PodFault("Preempted", re.escape(second), after="1 of 4 pixels"),
        PodFault("ErrImagePull", re.escape(third)),
        PodFault("Unschedulable", "footprints.guard"),
        PodFault("CreateContainerConfigError", "footprints.widen"),
        PodFault("Killed", "footprints_few_pixels_lost"),
        PodFault("Evicted", "jacobian"),
    )
    with world.scene("steps") as scene:
        slowly(scene, 1.0)
        scene.dagster.ask_for(KEY)
        (run,) = scene.dagster.to_the_end()
        assert run.status == dg.DagsterRunStatus.SUCCESS, scene.dagster.said(run, dg.DagsterEventType.STEP_FAILURE)
        assert [each for each in faults.waiting if each.times] == []
        assert scene.tried_again(run) == {
            "meteorology": {"pod_lost"},
            first: {"pod_memory", "pod_lost"},
            second: {"pod_lost"},
            third: {"no_image"},
            "footprints.guard": {"not_scheduled"},
            "footprints.widen": {"no_start"},
            "footprints_few_pixels_lost": {"pod_lost"},
            "jacobian": {"pod_lost"},
        }
        assert scene.jacobian() == peace
        asked = [memory_of(job) for job in world.cluster.jobs() if is_of(job, run) and who_is(job) == first]
        assert asked == [asked[0], 2 * asked[0], 2 * asked[0]]  # only who lacked memory gets more
        assert [pod for pod in world.cluster.pods() if pod["status"]["phase"] == "Pending"] == []


def is_of(job: Object, run: dg.DagsterRun) -> bool:
    return job["metadata"]["labels"]["dagster/run-id"] == run.run_id


def memory_of(job: Object) -> float:
    return quantity(container(job)["resources"]["requests"]["memory"])


def test_whatever_becomes_of_the_pod_of_a_run_another_run_ends_the_scene(
    world: World, peace: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cluster.faults.put(
        RequestFault("429", RUN),
        *(PodFault(fate, RUN) for fate in ("ErrImagePull", "Unschedulable", "Killed")),
        PodFault("OOMKilled", RUN, after="run_shard[packs_4_to_4]"),
        PodFault("Preempted", RUN, after="footprints.guard"),
    )
    with world.scene("runs") as scene:
        slowly(scene, 2.5)
        scene.dagster.ask_for(KEY)
        for number in (2, 3, 4):  # runs that never begin
            scene.dagster.until(lambda runs, number=number: len(runs) == number and waits_for_good(world, runs[-1]))
            with monkeypatch.context() as patch:
                patch.setattr(run_monitoring, "get_current_timestamp", lambda: time.time() + 3600)
                scene.dagster.turn()
        runs = scene.dagster.to_the_end()
        assert [run.status.value for run in runs] == 6 * ["FAILURE"] + ["SUCCESS"]
        told = [
            " ".join(words for _, words in scene.dagster.said(run, dg.DagsterEventType.RUN_FAILURE)) for run in runs
        ]
        assert ["not found" in told[1], "nodes are available" in told[2], "137" in told[3]] == [True, True, True]
        assert "OOMKilled" in told[4]
        assert scene.jacobian() == peace
        left = [change.object for change in world.cluster.objects.changes if (change.kind, change.how) == DELETED]
        assert {who_is(job) for job in left if is_of(job, runs[4])} <= SHARDS
        assert {who_is(job) for job in left if is_of(job, runs[4])}
        steps = [who_is(job) for run in runs for job in world.cluster.jobs() if is_of(job, run)]
        assert steps.count("pixels") == steps.count("meteorology") == 1  # what was done is not done again


DELETED = ("jobs", "DELETED")


def waits_for_good(world: World, run: dg.DagsterRun) -> bool:
    """Whether a run's pod will never say that it runs: it waits, or was killed at once."""
    pods = [pod for pod in world.cluster.pods() if is_of(pod, run)]
    return any(pod["status"]["phase"] == "Failed" or why(pod) for pod in pods)


def why(pod: Object) -> bool:
    waiting = any("waiting" in each["state"] for each in pod["status"].get("containerStatuses") or [])
    return waiting or any(each.get("reason") == "Unschedulable" for each in pod["status"]["conditions"])


def test_nobody_asked_for_what_the_role_of_runs_does_not_allow(
    undisturbed: Undisturbed, world: World, release: Release
) -> None:
    allowed = {(verb, kind) for rule in release.role["rules"] for verb in rule["verbs"] for kind in rule["resources"]}
    assert {("create", "jobs"), ("get", "jobs/status"), ("list", "pods")} <= world.cluster.asked <= allowed
