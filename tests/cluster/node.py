"""How does a node of ours serve a real API server? It runs each pod, says what becomes of it, and shows its log."""

import http.server
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cluster import kubeconfig
from cluster.container import Room
from cluster.control_plane import ControlPlane
from cluster.faults import Faults
from cluster.kubelet import NODE, Kubelet
from cluster.objects import Change, Object, RefusedError
from cluster.remote import Remote, place

TOKENS = "/var/run/secrets/kubernetes.io/serviceaccount"  # where a pod that may speak to the API finds its token
_SEEN = 1.0  # s in which the controller of Jobs sees how a pod ended, before that is taken away


class Node(Kubelet):
    """The only node; there is no scheduler."""

    look = 0.5

    def __init__(self, plane: ControlPlane, faults: Faults, folder: Path, namespace: str) -> None:
        server = urlsplit(plane.url)
        assert server.hostname is not None
        assert server.port is not None
        self.remote: Remote = plane.objects()
        super().__init__(self.remote, faults, folder, (server.hostname, server.port))
        self.plane, self.taken = plane, dict[str, Object]()  # pods by their names
        self.logs = _Logs(self, plane)
        self.in_thread(self.logs.serve_forever, 0.1)
        self.remote.create("nodes", "", _said(self.logs.server_port))
        for kind, act in (("pods", self._seen), ("jobs", lambda _: None)):
            self.in_thread(self.remote.follow, kind, namespace, self.closing, act)

    def close(self) -> None:
        """End everything."""
        self.logs.shutdown()
        self.logs.server_close()
        super().close()

    def _seen(self, change: Change) -> None:
        pod = change.object
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        if change.how != "ADDED":
            return
        self.taken[name] = pod
        here = {"metadata": {"name": name}, "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}}
        try:
            self.remote.ask("POST", place("pods", namespace, name, "binding"), here)
        except RefusedError:
            assert not self.is_there("pods", pod)
            return
        self.run(pod)

    def over(self, pod: Object, succeeded: bool) -> None:
        """A pod that was to go is gone once nothing of it runs."""
        if not self.is_there("pods", pod):
            self.closing.wait(_SEEN)
            self.remote.bury("pods", pod)

    def words(self, pod: Object, words: list[str]) -> list[str]:
        """The command of a pod's container, which speaks to the API with the pod's own rights."""
        ours = self.kubeconfig_of(pod)
        return [word.replace(str(self.folder / "kubeconfig"), str(ours)) for word in words]

    def kubeconfig_of(self, pod: Object) -> Path:
        """Of a pod: with the token that was mounted for its account, or with none."""
        room = Room(self.place_of(pod), self.folder / NODE)
        mounted = room.mounts(pod, self.objects).get(TOKENS)
        file = self.place_of(pod) / "kubeconfig"
        user = {"token": (mounted / "token").read_text()} if mounted else {}
        file.write_text(kubeconfig(self.plane.url, self.plane.certificate.read_bytes(), user))
        return file


class _Logs(http.server.ThreadingHTTPServer):
    """Where the API server asks for what a pod wrote."""

    daemon_threads = True

    def __init__(self, node: Node, plane: ControlPlane) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.node = node
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(plane.certificate, plane.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        url = urlsplit(self.path)  # /containerLogs/NAMESPACE/POD/CONTAINER
        log = self.server.node.log(self.server.node.taken[url.path.split("/")[3]])
        lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
        wanted = parse_qs(url.query).get("tailLines")
        said = b"".join(lines[-int(wanted[0]) :] if wanted else lines)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Nothing is told."""


def _said(port: int) -> Object:
    """A node with plenty of everything."""
    status: Object = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{"type": "Ready", "status": "True"}],
        "capacity": {"cpu": "64", "memory": "256Gi", "pods": "110"},
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "status": status}
