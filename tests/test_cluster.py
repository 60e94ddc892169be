"""The cluster of the tests is one: what Kubernetes would refuse it refuses, and what becomes of a Job it says."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster import NAMESPACE, Cluster, PodFault, cluster
from kubernetes import client
from kubernetes.client.rest import ApiException


@pytest.fixture(scope="module")
def k8s() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(scope="module")
def api(k8s: Cluster) -> client.ApiClient:
    return client.ApiClient(client.Configuration(host=k8s.url))


@pytest.fixture
def batch(api: client.ApiClient) -> client.BatchV1Api:
    return client.BatchV1Api(api)


@pytest.fixture
def pods(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


def job(name: str, script: str = "true", **spec: Any) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "dagster", "image": "image", "command": ["sh", "-c", script]}
    container["env"] = [{"name": "DAGSTER_RUN_STEP_KEY", "value": name}, *spec.pop("env", [])]
    container |= spec.pop("container", {})
    pod = {"restartPolicy": "Never", "containers": [container]} | spec.pop("pod", {})
    template = {"metadata": {"labels": {"step": name} | spec.pop("labels", {})}, "spec": pod}
    whole = {"backoffLimit": 0, "template": template} | spec
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": whole}


def until(seen: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := seen()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found


def ended(batch: client.BatchV1Api, name: str) -> Any:
    def status() -> Any:
        found: Any = batch.read_namespaced_job_status(name, NAMESPACE)
        return found.status if found.status.conditions else None

    return until(status)


def pod_of(pods: client.CoreV1Api, name: str) -> Any:
    found: Any = pods.list_namespaced_pod(NAMESPACE, label_selector=f"job-name={name}")
    (pod,) = found.items
    return pod


def said_by(pods: client.CoreV1Api, name: str) -> str:
    answer: Any = pods.read_namespaced_pod_log(name, NAMESPACE, _preload_content=False)
    return answer.data.decode()


def test_a_container_gets_the_variables_of_its_manifest_and_no_others(
    k8s: Cluster, batch: client.BatchV1Api, pods: client.CoreV1Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_TEST", "no pod sees this")
    k8s.put_config_map("map", {"FROM_MAP": "a", "TWICE": "of the map"})
    k8s.put_secret("secret", {"word": "b"})
    source = {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "word"}}}
    given = [source, {"name": "TWICE", "value": "its own"}, {"name": "TMPDIR", "value": "/scratch/deep"}]
    mounted: dict[str, Any] = {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}
    mounted["envFrom"] = [{"configMapRef": {"name": "map"}}]
    of_pod = {"volumes": [{"name": "scratch", "emptyDir": {}}]}
    batch.create_namespaced_job(NAMESPACE, job("env", "env; pwd", env=given, container=mounted, pod=of_pod))
    assert ended(batch, "env").succeeded == 1
    name = pod_of(pods, "env").metadata.name
    *lines, folder = said_by(pods, name).splitlines()
    seen = dict(line.split("=", 1) for line in lines)
    assert set(seen) - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        *("PATH", "HOME", "HOSTNAME", "TMPDIR", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"),
        *("FROM_MAP", "FROM_SECRET", "TWICE", "DAGSTER_RUN_STEP_KEY"),
    }
    assert (seen["FROM_MAP"], seen["FROM_SECRET"], seen["TWICE"], seen["HOSTNAME"]) == ("a", "b", "its own", name)
    assert seen["TMPDIR"].startswith(f"{folder}/")
    assert seen["TMPDIR"].endswith("/deep")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"labels": {"key": "packs[0]"}}, "no value of a label"),
        ({"labels": {"key": "x" * 64}}, "no value of a label"),
        ({"pod": {"restartPolicy": "Always"}}, "restartPolicy"),
        ({"backofLimit": 0}, "backofLimit"),
        ({"container": {"volumeMounts": [{"name": "none", "mountPath": "/x"}]}}, "'none' not found"),
        ({"container": {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}}}, "less than or equal"),
        ({"container": {"resources": {"requests": {"memory": "4 GB"}}}}, "quantities"),
    ],
)
def test_what_kubernetes_refuses_is_refused(batch: client.BatchV1Api, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ApiException) as refused:
        batch.create_namespaced_job(NAMESPACE, job("wrong", **wrong))
    assert refused.value.status == 422
    assert told in str(refused.value.body)


def test_a_name_is_short_and_taken_once(batch: client.BatchV1Api) -> None:
    with pytest.raises(ApiException, match="422"):
        batch.create_namespaced_job(NAMESPACE, job("Upper"))
    with pytest.raises(ApiException, match="422"):
        batch.create_namespaced_job(NAMESPACE, job("x" * 64))
    batch.create_namespaced_job(NAMESPACE, job("x" * 63))
    with pytest.raises(ApiException, match="409"):
        batch.create_namespaced_job(NAMESPACE, job("x" * 63))


def test_a_job_tries_again_as_often_as_it_says_and_is_forgotten_in_time(
    batch: client.BatchV1Api, pods: client.CoreV1Api
) -> None:
    batch.create_namespaced_job(NAMESPACE, job("again", "exit 3", backoffLimit=2))
    assert ended(batch, "again").failed == 3
    found: Any = pods.list_namespaced_pod(NAMESPACE, label_selector="job-name=again")
    assert [pod.status.container_statuses[0].state.terminated.exit_code for pod in found.items] == [3, 3, 3]
    batch.create_namespaced_job(NAMESPACE, job("brief", ttlSecondsAfterFinished=0))
    until(lambda: "brief" not in {each.metadata.name for each in batch.list_namespaced_job(NAMESPACE).items})


def test_a_job_that_waits_longer_than_its_deadline_fails_and_its_pod_is_gone(
    k8s: Cluster, batch: client.BatchV1Api, pods: client.CoreV1Api
) -> None:
    k8s.faults.put(PodFault("ErrImagePull", "late"))
    batch.create_namespaced_job(NAMESPACE, job("late", activeDeadlineSeconds=1))
    assert until(lambda: pod_of(pods, "late").status.container_statuses)[0].state.waiting.reason == "ErrImagePull"
    assert [each.reason for each in ended(batch, "late").conditions] == ["DeadlineExceeded"]
    found: Any = pods.list_namespaced_pod(NAMESPACE, label_selector="job-name=late")
    assert found.items == []


@pytest.mark.parametrize(
    ("fate", "phase", "code", "reason"),
    [
        ("OOMKilled", "Failed", 137, None),
        ("Evicted", "Failed", 137, "Evicted"),
        ("Preempted", "Failed", 143, "Terminated"),
    ],
)
def test_who_is_killed_is_dead_with_all_that_it_started(
    k8s: Cluster, batch: client.BatchV1Api, pods: client.CoreV1Api, fate: Any, phase: str, code: int, reason: str | None
) -> None:
    name = fate.lower()
    k8s.faults.put(PodFault(fate, name, after="here"))
    batch.create_namespaced_job(NAMESPACE, job(name, "sleep 60 & echo here $!; wait"))
    assert ended(batch, name).failed == 1
    pod = until(lambda: next((p for p in [pod_of(pods, name)] if p.status.phase == phase), None))
    assert (pod.status.container_statuses[0].state.terminated.exit_code, pod.status.reason) == (code, reason)
    child = int(said_by(pods, pod.metadata.name).split()[-1])
    until(lambda: not is_alive(child))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_watch_tells_what_happens_to_the_end(k8s: Cluster, batch: client.BatchV1Api) -> None:
    since = k8s.objects.version
    batch.create_namespaced_job(NAMESPACE, job("seen"))
    ended(batch, "seen")
    seen = [change.how for change in k8s.objects.watch("jobs", NAMESPACE, since, 0.5)]
    assert seen[0] == "ADDED"
    assert set(seen[1:]) == {"MODIFIED"}
