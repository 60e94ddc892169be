"""The executor for Kubernetes: when it is chosen, what a deployment says to it, and how it reads the fate of a pod."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from kubernetes import client

from stilt_assets import definitions
from stilt_assets.defs.fates import fate_of, why_it_waits
from stilt_assets.defs.kubernetes import PatientBatchApi, Pods, kubernetes_executor
from stilt_assets.defs.metadata import in_one_line
from stilt_assets.errors import UsageError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_an_executor_that_is_not_there_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"STILT_ASSETS_EXECUTOR is 'k8s'; it is one of in_process, .*kubernetes"):
        definitions.executor_named("k8s")
    monkeypatch.setattr(definitions, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"kubernetes, which needs: pip install 'stilt-assets\[kubernetes\]'"):
        definitions.executor_named("kubernetes")


def test_kubernetes_is_loaded_only_by_who_chooses_it() -> None:
    program = "import sys, stilt_assets.definitions; print([n for n in sys.modules if n.startswith('kubernetes')])"
    done = subprocess.run([sys.executable, "-Wignore", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_instance_that_starts_no_pods_is_told() -> None:
    given: Any = SimpleNamespace(instance=dg.DagsterInstance.ephemeral(), executor_config={})
    with pytest.raises(UsageError, match="set DAGSTER_HOME to dagster_home/kubernetes"):
        kubernetes_executor.executor_creation_fn(given)  # pyright: ignore[reportOptionalCall]


def test_a_deployment_says_where_steps_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Pods.from_environment().spec("run_shard") == {}
    monkeypatch.setenv("STILT_ASSETS_POOL_PACKS", "spot")
    monkeypatch.setenv("STILT_ASSETS_POOL_STEPS", "quiet")
    monkeypatch.setenv("STILT_ASSETS_STEP_SERVICE_ACCOUNT", "pack")
    pods = Pods.from_environment()
    nodes = {work: pods.spec(work)["node_selector"] for work in ("run_shard", "guard", "meteorology", "plan", "")}
    spot, quiet = {"stilt-assets/pool": "spot"}, {"stilt-assets/pool": "quiet"}
    assert nodes == {"run_shard": spot, "guard": spot, "meteorology": quiet, "plan": quiet, "": quiet}
    assert pods.spec("plan")["service_account_name"] == "pack"
    monkeypatch.setenv("STILT_ASSETS_NODE_PATIENCE", "an hour")
    with pytest.raises(UsageError, match="STILT_ASSETS_NODE_PATIENCE is 'an hour', which is no whole number"):
        Pods.from_environment()


def pod(phase: str, reason: str | None = None, taken: bool = True, **state: Any) -> client.V1Pod:
    placed = client.V1PodCondition(type="PodScheduled", status=str(taken), message="0/3 nodes")
    status = client.V1ContainerStatus(
        name="dagster",
        image="",
        image_id="",
        ready=False,
        restart_count=0,
        state=client.V1ContainerState(**state),
    )
    return client.V1Pod(
        metadata=client.V1ObjectMeta(creation_timestamp=NOW - timedelta(seconds=400)),
        status=client.V1PodStatus(phase=phase, reason=reason, conditions=[placed], container_statuses=[status]),
    )


def ended(code: int, reason: str) -> client.V1ContainerStateTerminated:
    return client.V1ContainerStateTerminated(exit_code=code, reason=reason)


def waiting(reason: str) -> client.V1ContainerStateWaiting:
    return client.V1ContainerStateWaiting(reason=reason, message="of this")


@pytest.mark.parametrize(
    ("pods", "reason", "told"),
    [
        ([pod("Failed", terminated=ended(137, "OOMKilled"))], "pod_memory", "more memory"),
        ([pod("Failed", reason="Evicted", terminated=ended(137, "Error"))], "pod_lost", "Evicted"),
        ([pod("Failed", terminated=ended(1, "Error"))], "pod_lost", "ended with 1"),
        ([], "pod_lost", "gone"),
    ],
)
def test_a_lost_pod_says_why(pods: list[client.V1Pod], reason: str, told: str) -> None:
    assert fate_of(pods).reason == reason
    assert told in fate_of(pods).line


@pytest.mark.parametrize(
    ("given", "image", "node", "reason"),
    [
        (pod("Pending", waiting=waiting("ImagePullBackOff")), 399, 9999, "no_image"),
        (pod("Pending", waiting=waiting("ImagePullBackOff")), 401, 9999, None),
        (pod("Pending", waiting=waiting("CreateContainerConfigError")), 399, 9999, "no_start"),
        (pod("Pending", waiting=waiting("ContainerCreating")), 1, 1, None),
        (pod("Pending", taken=False), 1, 399, "not_scheduled"),
        (pod("Pending", taken=False), 1, 401, None),
        (pod("Running", running=client.V1ContainerStateRunning()), 1, 1, None),
    ],
)
def test_a_pod_may_wait_so_long_and_no_longer(given: client.V1Pod, image: int, node: int, reason: str | None) -> None:
    found = why_it_waits([given], NOW, image, node)
    assert (found and found.reason) == reason


def test_who_is_asked_for_patience_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, slept = [429, 429, 201], []

    def post(self: Any, *_: Any, **__: Any) -> int:
        answer = answers.pop(0)
        if answer != 201:
            raise client.ApiException(status=answer)
        return answer

    monkeypatch.setattr(client.BatchV1Api, "create_namespaced_job", post)
    monkeypatch.setattr("stilt_assets.defs.kubernetes.time.sleep", slept.append)
    assert PatientBatchApi().create_namespaced_job("stilt", {}) == 201
    assert slept == [1, 2]
    answers[:] = [503]
    with pytest.raises(client.ApiException, match="503"):
        PatientBatchApi().create_namespaced_job("stilt", {})
    answers[:] = 9 * [429]
    with pytest.raises(client.ApiException, match="429"):
        PatientBatchApi().create_namespaced_job("stilt", {})


def test_who_ends_a_program_of_his_own_ends_it() -> None:
    with pytest.raises(DagsterExecutionInterruptedError), in_one_line():
        raise DagsterExecutionInterruptedError
