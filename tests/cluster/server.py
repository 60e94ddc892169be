"""How does a client reach the cluster? Over HTTP on loopback, as the Kubernetes API that dagster-k8s uses."""

import http.server
import json
import re
import socket
import struct
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cluster.controller import Controller
from cluster.faults import Faults
from cluster.kubelet import who_is
from cluster.objects import Objects, RefusedError
from cluster.rules import check_job

_PLACE = re.compile(
    r"/(?:api|apis/batch)/v1/namespaces/(?P<namespace>[^/]+)/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>[a-z]+))?"
)
_KINDS = {"jobs": "Job", "pods": "Pod", "events": "Event", "configmaps": "ConfigMap", "secrets": "Secret"}
_GROUPS = {"jobs": "batch/v1"}
_VERSION = {"major": "1", "minor": "33", "gitVersion": "v1.33.0", "platform": "linux/amd64"}


class Server(http.server.ThreadingHTTPServer):
    """The API server of one cluster."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, objects: Objects, faults: Faults) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects, self.faults = objects, faults
        self.kubelet: Controller
        self.asked: set[tuple[str, str]] = set()  # verb and resource, as a role names them

    def handle_error(self, *_: object) -> None:
        """Clients go when they like."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def do_DELETE(self) -> None:
        self._answered(self._delete)

    def log_message(self, *_: object) -> None:
        """Nothing is told."""

    def _answered(self, act: Any) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        self.body = json.loads(self.rfile.read(length)) if length else {}
        try:
            if url.path in ("/version", "/version/"):
                return self._say(200, _VERSION)
            found = _PLACE.fullmatch(url.path)
            if found is None or found["kind"] not in _KINDS:
                raise RefusedError(404, "NotFound", f"the server could not find the requested resource {url.path}")
            self.namespace, self.kind, self.name, self.part = found.group("namespace", "kind", "name", "part")
            act()
        except RefusedError as error:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": error.code}
            self._say(error.code, status | {"reason": error.reason, "message": str(error)})

    def _say(self, code: int, content: Any) -> None:
        said = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(said)))
        if code == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(said)

    def _note(self, verb: str) -> None:
        self.server.asked.add((verb, f"{self.kind}/{self.part}" if self.part else self.kind))

    # ---- what is asked

    def _get(self) -> None:
        objects = self.server.objects
        if self.name:
            self._note("get")
            found = objects.get(self.kind, self.namespace, self.name)
            self._say(200, self._log(found) if self.part == "log" else self._typed(found))
        elif self.query.get("watch") in ("true", "1", "True"):
            self._note("watch")
            self._watch()
        else:
            self._note("list")
            self._list()

    def _list(self) -> None:
        objects = self.server.objects
        selectors = (self.query.get("labelSelector", ""), self.query.get("fieldSelector", ""))
        found = [self._typed(each) for each in objects.list(self.kind, self.namespace, *selectors)]
        metadata = {"resourceVersion": str(objects.version)}
        version = _GROUPS.get(self.kind, "v1")
        self._say(
            200, {"kind": f"{_KINDS[self.kind]}List", "apiVersion": version, "metadata": metadata, "items": found}
        )

    def _typed(self, found: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": _GROUPS.get(self.kind, "v1"), "kind": _KINDS[self.kind]} | found

    def _log(self, pod: dict[str, Any]) -> str:
        log = self.server.kubelet.log(pod)
        lines = log.read_text(errors="replace").splitlines(keepends=True) if log.exists() else []
        return "".join(lines[-int(self.query.get("tailLines", len(lines))) :] if lines else [])

    def _watch(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        since = int(self.query.get("resourceVersion") or 0)
        seconds = min(float(self.query.get("timeoutSeconds") or 300), 300)
        for change in self.server.objects.watch(self.kind, self.namespace, since, seconds):
            said = {"type": change.how, "object": self._typed(change.object)}
            self.wfile.write(json.dumps(said).encode() + b"\n")
            self.wfile.flush()

    def _post(self) -> None:
        self._note("create")
        fault = self.server.faults.of_request(who_is(self.body)) if self.kind == "jobs" else None
        if fault and fault.answer == "429":
            raise RefusedError(429, "TooManyRequests", "the server has received too many requests, try again later")
        if fault and fault.answer == "503":
            raise RefusedError(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        if fault and fault.answer == "drop":
            self._drop()
            return
        made = self._create()
        if fault:
            raise RefusedError(500, "InternalError", "etcdserver: request timed out")
        self._say(201, self._typed(made))

    def _create(self) -> dict[str, Any]:
        if self.kind == "jobs":
            check_job(self.body)
            self.body["status"] = {}
        made = self.server.objects.create(self.kind, self.namespace, self.body)
        if self.kind == "jobs":
            self.server.kubelet.begin(made)
        return made

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _delete(self) -> None:
        self._note("delete")
        assert self.name is not None
        found = self.server.objects.get(self.kind, self.namespace, self.name)
        if self.kind == "jobs":
            policy = self.query.get("propagationPolicy") or self.body.get("propagationPolicy") or "Orphan"
            self.server.kubelet.delete_job(found, pods=policy != "Orphan")  # batch/v1 leaves pods unless it is told
        elif self.kind == "pods":
            self.server.kubelet.delete_pod(found)
        else:
            self.server.objects.delete(self.kind, self.namespace, self.name)
        self._say(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
