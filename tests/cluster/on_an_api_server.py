"""
A scene on a real etcd, kube-apiserver and controller-manager, each pod with the rights of its own account and no more.

Not among the tests that every change must pass: `make cluster-test` runs it, on a machine that has the programs of a
control plane (`tests/cluster/control_plane.sh`) and, for pods as containers, the image (`make check_image`).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from place import KEY

from cluster import NAMESPACE, PodFault, control_plane
from cluster.containers import ContainerNode
from cluster.containers import missing as no_containers
from cluster.control_plane import ControlPlane
from cluster.faults import RUN
from cluster.kubelet import NODE
from cluster.node import Node
from cluster.objects import RefusedError
from cluster.real import real_cluster, token_of
from cluster.world import HERE, Release, World, in_peace, release_of, world_at

pytestmark = [
    pytest.mark.skipif(bool(control_plane.missing()), reason=control_plane.missing()),
    pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning"),  # Dagster's daemon
]
SHARED_SCRATCH = f"{NODE}/var/lib/stilt-assets"
LONG = 3000  # s


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return release_of(tmp_path_factory.mktemp("deploy") / "checkout")


# ---- rights


@pytest.fixture(scope="module")
def plane(release: Release) -> Iterator[ControlPlane]:
    with real_cluster(release.objects, Node) as (_, made):
        print(f"\nkube-apiserver {made.version}")
        yield made


def answer(plane: ControlPlane, account: str, method: str, path: str) -> int:
    """How the API server answers an account; 400 and 422 for what it may do, and does not say well."""
    seen = plane.objects(token_of(plane, account) if account else "")
    try:
        seen.ask(method, path, {} if method == "POST" else None)
    except RefusedError as error:
        return error.code
    return 200


@pytest.mark.parametrize(
    ("account", "may", "not_"),
    [
        (
            "launcher",
            ("GET jobs", "POST jobs", "GET pods", "GET events"),
            ("POST pods", "GET secrets", "POST configmaps"),
        ),
        ("run", ("GET jobs", "POST jobs", "GET pods", "GET events"), ("POST pods", "GET secrets", "GET configmaps")),
        (
            "reader",
            ("GET jobs", "GET pods", "GET events", "GET configmaps"),
            ("POST jobs", "DELETE pods", "GET secrets"),
        ),
        ("pack", (), ("GET jobs", "POST jobs", "GET pods", "GET secrets", "GET configmaps")),
        ("code", (), ("GET jobs", "POST jobs", "GET pods", "GET secrets", "GET configmaps")),
    ],
)
def test_an_account_may_do_its_own_and_nothing_else(
    plane: ControlPlane, account: str, may: tuple[str, ...], not_: tuple[str, ...]
) -> None:
    def asked(what: str, namespace: str = NAMESPACE) -> int:
        method, kind = what.split()
        group = "apis/batch/v1" if kind == "jobs" else "api/v1"
        return answer(plane, account, method, f"{group}/namespaces/{namespace}/{kind}")

    assert {asked(what) for what in may} <= {200, 400, 422}
    assert {what for what in not_ if asked(what) != 403} == set()
    assert asked("GET pods", "kube-system") == 403


def test_who_says_no_name_may_nothing(plane: ControlPlane) -> None:
    assert answer(plane, "", "GET", f"api/v1/namespaces/{NAMESPACE}/pods") in (401, 403)


# ---- a scene


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> dict[str, bytes]:
    return in_peace(tmp_path_factory.mktemp("peace"), shared)


@pytest.fixture(scope="module", params=["processes", "containers"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared: Path, release: Release
) -> Iterator[World]:
    kind = {"processes": Node, "containers": ContainerNode}[request.param]
    if kind is ContainerNode and (reason := no_containers()):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp(request.param)
    with real_cluster(release.objects, kind) as (cluster, _), world_at(folder, shared, release, cluster) as made:
        if isinstance(cluster.kubelet, ContainerNode):
            made.logs = Path("/tmp/logs")  # what is written there is the pod's own
            cluster.kubelet.shown = (HERE, shared, folder)
            folder.chmod(0o755)  # an image's user is not the one who runs this
        yield made


def test_pods_are_killed_and_evicted_and_the_jacobian_is_the_undisturbed_one(
    world: World, peace: dict[str, bytes]
) -> None:
    first, second, third = (f"footprints.run_shard[packs_{name}]" for name in ("0_to_1", "2_to_3", "4_to_4"))
    world.cluster.faults.put(
        PodFault("ErrImagePull", "meteorology"),
        PodFault("Unschedulable", "footprints.plan"),
        PodFault("OOMKilled", re.escape(first), after="2 of 4 pixels"),
        PodFault("Evicted", re.escape(second), after="1 of 4 pixels"),
        PodFault("Killed", re.escape(third)),
        PodFault("Killed", RUN, after="footprints.guard"),
        PodFault("Killed", "jacobian"),
    )
    scratch = world.cluster.folder / SHARED_SCRATCH
    scratch.mkdir(parents=True)
    (scratch / "still_air.json").write_text(json.dumps({"seconds": 1.0}))
    with world.scene("killed") as scene:
        scene.dagster.ask_for(KEY)
        runs = scene.dagster.to_the_end(LONG)
        failures = [scene.dagster.said(run, dg.DagsterEventType.STEP_FAILURE) for run in runs]
        assert [run.status.value for run in runs] == ["FAILURE", "SUCCESS"], failures
        assert [each for each in world.cluster.faults.waiting if each.times] == []
        assert [scene.tried_again(run) for run in runs] == [
            {
                "meteorology": {"no_image"},
                "footprints.plan": {"not_scheduled"},
                first: {"pod_memory"},
                second: {"pod_lost"},
                third: {"pod_lost"},
            },
            {"jacobian": {"pod_lost"}},
        ]
        assert scene.jacobian() == peace
        accounts = {job["spec"]["template"]["spec"]["serviceAccountName"] for job in world.cluster.jobs()}
        assert accounts == {"run", "pack"}
