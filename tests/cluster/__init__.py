"""
A Kubernetes cluster of this machine, for tests: the part of the API that dagster-k8s uses, and a kubelet that runs the
program of each Job as a process group of its own.

No container is made: a process sees this machine's files. It gets the variables of its manifest and no others, a folder
of its own, and a mount's path in a variable stands for a folder of the pod or of its node. Limits of memory are not
kept; what happens to pods is said by faults.
"""

import base64
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from cluster.controller import Controller
from cluster.faults import RUN, Faults, PodFault, RequestFault
from cluster.kubelet import Kubelet, clear, who_is
from cluster.objects import Object, Objects
from cluster.server import Server

__all__ = ["NAMESPACE", "RUN", "Cluster", "Object", "PodFault", "RequestFault", "cluster", "kubeconfig", "who_is"]
NAMESPACE = "stilt"


@dataclass
class Cluster:
    """A cluster while it runs."""

    folder: Path
    url: str  # of its API
    objects: Objects
    faults: Faults
    kubelet: Kubelet
    asked: set[tuple[str, str]]  # verbs and resources that were asked for, as a role names them

    @property
    def kubeconfig(self) -> Path:
        """How clients reach it."""
        return self.folder / "kubeconfig"

    def put_config_map(self, name: str, data: Mapping[str, str]) -> None:
        """Keep a config map."""
        self.objects.create("configmaps", NAMESPACE, {"metadata": {"name": name}, "data": dict(data)})

    def put_secret(self, name: str, data: Mapping[str, str]) -> None:
        """Keep a secret."""
        hidden = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.objects.create("secrets", NAMESPACE, {"metadata": {"name": name}, "data": hidden})

    def jobs(self) -> list[Object]:
        """All Jobs that were ever made, as they were posted."""
        return [each.object for each in self.objects.changes if (each.kind, each.how) == ("jobs", "ADDED")]

    def pods(self) -> list[Object]:
        """All pods that there are."""
        return self.objects.list("pods", NAMESPACE)

    def log(self, pod: Object) -> str:
        """What a pod wrote."""
        file = self.kubelet.log(pod)
        return file.read_text(errors="replace") if file.exists() else ""


def kubeconfig(url: str, authority: bytes = b"", user: Mapping[str, Any] = MappingProxyType({})) -> str:
    """How a client reaches an API server, and as whom; `authority` says whose certificate is believed."""
    there = {"server": url}
    if authority:
        there["certificate-authority-data"] = base64.b64encode(authority).decode()
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": there}],
        "users": [{"name": "test", "user": dict(user)}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "test", "namespace": NAMESPACE}}],
    }
    return yaml.safe_dump(content)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster with one node and nothing on it. All that it started ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="k8s-", dir="/tmp"))
    objects, faults = Objects(), Faults()
    with Server(objects, faults) as server:
        server.kubelet = Controller(objects, faults, folder, ("127.0.0.1", server.server_address[1]))
        listener = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        listener.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            made = Cluster(folder, url, objects, faults, server.kubelet, server.asked)
            made.kubeconfig.write_text(kubeconfig(url))
            yield made
        finally:
            server.kubelet.close()
            server.shutdown()
            listener.join(10)
            clear(folder)
