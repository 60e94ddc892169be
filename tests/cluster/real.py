"""What is a cluster with a real control plane? Our accounts, roles and quota on its API server, and a node of ours."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster import NAMESPACE, Cluster, kubeconfig
from cluster.control_plane import ControlPlane, control_plane
from cluster.faults import Faults
from cluster.kubelet import clear
from cluster.node import Node
from cluster.objects import Object
from cluster.remote import place

_OURS = {  # that a namespace has before anything runs in it
    "NetworkPolicy": "networkpolicies",
    "ResourceQuota": "resourcequotas",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ServiceAccount": "serviceaccounts",
}


@contextmanager
def real_cluster(found: Sequence[Object], kind: type[Node]) -> Iterator[tuple[Cluster, ControlPlane]]:
    """A control plane with a release's objects, and one node. All that it started ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="k8s-", dir="/tmp"))
    own, faults = folder / "plane", Faults()
    own.mkdir()
    try:
        with control_plane(own) as plane:
            objects = plane.objects()
            objects.create("namespaces", "", {"metadata": {"name": NAMESPACE}})
            for each in found:
                if each["kind"] in _OURS:
                    objects.create(_OURS[each["kind"]], NAMESPACE, each)
            file = folder / "kubeconfig"
            user = {"token": token_of(plane, "launcher")}
            file.write_text(kubeconfig(plane.url, plane.certificate.read_bytes(), user))
            node = kind(plane, faults, folder, NAMESPACE)
            try:
                yield Cluster(folder, plane.url, node.remote, faults, node, set()), plane
            finally:
                node.close()
    finally:
        clear(folder)


def token_of(plane: ControlPlane, account: str) -> str:
    """A token of a service account, as the API server gives it to a pod."""
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 14400}}
    path = place("serviceaccounts", NAMESPACE, account, "token")
    return plane.objects().ask("POST", path, asked)["status"]["token"]
