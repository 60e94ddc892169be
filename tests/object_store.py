"""
An S3 server of this machine, and a door to it that can be made to stick.

The server is moto's, in a process of its own. Before it stands an HTTP proxy in threads of the test's process, whose
faults are switched on and off while requests come. Both listen on 127.0.0.1 at free ports and end with the test.
"""

import contextlib
import http.client
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import fsspec
import pytest

BUCKET = "bucket"
_ANSWERS = {
    "slow down": (503, "SlowDown", "Please reduce your request rate."),
    "deny": (403, "AccessDenied", "Access Denied"),
    "break": (500, "InternalError", "We encountered an internal error. Please try again."),
}
_PER_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}

Kind = Literal["drop", "cut", "refuse", "slow down", "deny", "break", "delay"]


@dataclass
class Fault:
    """What is wrong with which requests."""

    kind: Kind
    methods: tuple[str, ...] = ()  # all if empty
    path: str = ""  # what the path and query must hold
    times: int | None = None  # requests that meet it, all if None
    seconds: float = 0.0  # of a delay

    def meets(self, method: str, path: str) -> bool:
        """Whether a request meets it; one time fewer is left then."""
        if (self.methods and method not in self.methods) or self.path not in path or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: "FaultyProxy"

    def handle_error(self, *_: object) -> None:
        """Clients go when they like."""


class FaultyProxy:
    """Passes requests on to a port of this machine, unless a fault is switched on."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.seen: list[tuple[str, str]] = []  # method and path of each request
        self.fault: Fault | None = None
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()
        self._server = self._bound(0)
        self.port: int = self._server.server_address[1]
        self._listening = False
        self._listen()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def _bound(self, port: int) -> _Server:
        server = _Server(("127.0.0.1", port), _Handler, bind_and_activate=False)
        server.proxy = self
        server.server_bind()
        return server

    def _listen(self) -> None:
        if not self._listening:
            self._server.server_activate()
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
            self._listening = True

    def _hang_up(self) -> None:
        if self._listening:
            self._server.shutdown()
            self._listening = False
        self._server.server_close()
        for each in list(self.open):
            reset(each)

    def have(self, kind: Kind, *methods: str, path: str = "", times: int | None = None, seconds: float = 0.0) -> None:
        """Switch a fault on, for requests of these methods (all if none) whose path and query hold `path`."""
        self.mend()
        if kind == "refuse":
            self._hang_up()
            self._server = self._bound(self.port)  # bound and not listening: connections are refused
        else:
            self.fault = Fault(kind, methods, path, times, seconds)

    def mend(self) -> None:
        """Switch all faults off."""
        self.fault = None
        self._listen()

    @contextmanager
    def having(self, kind: Kind, *methods: str, path: str = "", times: int | None = None) -> Iterator[None]:
        """A fault for the length of a block."""
        self.have(kind, *methods, path=path, times=times)
        try:
            yield
        finally:
            self.mend()

    def met(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets."""
        with self.lock:
            self.seen.append((method, path))
            return self.fault if self.fault and self.fault.meets(method, path) else None

    def close(self) -> None:
        """End it."""
        self._hang_up()


def reset(connection: socket.socket) -> None:
    """End a connection so that the other side sees a reset."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def setup(self) -> None:
        super().setup()
        self.server.proxy.open.add(self.connection)

    def finish(self) -> None:
        self.server.proxy.open.discard(self.connection)
        super().finish()

    def do_any(self) -> None:
        body = self._body()
        fault = self.server.proxy.met(self.command, self.path)
        if fault and fault.kind == "delay":
            time.sleep(fault.seconds)
        elif fault and fault.kind == "drop":
            self._hang_up()
            return
        elif fault and fault.kind in _ANSWERS:
            self._refuse(*_ANSWERS[fault.kind])
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.proxy.upstream, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _PER_HOP}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            self._pass_on(answer, answer.read(), cut=bool(fault and fault.kind == "cut"))
        finally:
            upstream.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_any

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return content

    def _hang_up(self) -> None:
        reset(self.connection)
        self.close_connection = True

    def _refuse(self, status: int, code: str, message: str) -> None:
        content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self._send(b"" if self.command == "HEAD" else content, len(content))

    def _pass_on(self, answer: http.client.HTTPResponse, content: bytes, cut: bool) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _PER_HOP | {"server", "date"}:
                self.send_header(name, value)
        size = int(answer.getheader("Content-Length") or len(content)) if self.command == "HEAD" else len(content)
        self._send(content[: len(content) // 2] if cut else content, size)
        if cut:
            self._hang_up()

    def _send(self, content: bytes, size: int) -> None:
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


@dataclass
class ObjectStore:
    """A bucket, and the proxy through which its clients come."""

    proxy: FaultyProxy
    url: str = f"s3://{BUCKET}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to find the bucket."""
        return {
            "AWS_ENDPOINT_URL": self.proxy.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """An S3 server with one empty bucket."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server:
        proxy = FaultyProxy(int(server.stdout.readline()))
        try:
            bucket = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
            bucket.request("PUT", f"/{BUCKET}", headers={"Authorization": "AWS4-HMAC-SHA256 Credential=testing/x/s3"})
            assert bucket.getresponse().status == 200
            bucket.close()
            yield ObjectStore(proxy)
        finally:
            proxy.close()
            server.stdin.close()


@contextmanager
def reached(store: ObjectStore) -> Iterator[ObjectStore]:
    """This process finds the bucket for the length of a block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        s3 = fsspec.get_filesystem_class("s3")
        s3.clear_instance_cache()
        yield store
        s3.clear_instance_cache()


def _serve() -> None:
    """Serve S3 until the standard input ends, as it does when the process that started this one is gone."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _serve()
