"""A webhook on loopback: it keeps what is posted, and answers as it is told to."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Receiver:
    """What came, and what is answered."""

    port: int = 0
    got: list[dict[str, Any]] = field(default_factory=list)  # bodies that were taken
    heads: list[dict[str, str]] = field(default_factory=list)
    tried: int = 0
    answers: list[int] = field(default_factory=list)  # statuses to come, 200 afterwards; 0 hangs up without one
    refuses: str = ""  # bodies with this word in them get 400

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/T000/B000/s3cr3t"

    @property
    def texts(self) -> list[str]:
        return [body["text"] for body in self.got]


class _Handler(http.server.BaseHTTPRequestHandler):
    receiver: Receiver

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        there = self.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        there.tried += 1
        status = there.answers.pop(0) if there.answers else 200
        if there.refuses and there.refuses in body.decode():
            status = 400
        if status == 0:
            self.close_connection = True
            return
        if status == 200:
            there.got.append(json.loads(body))
            there.heads.append(dict(self.headers))
        self.send_response(status)
        if status // 100 == 3:
            self.send_header("Location", f"http://127.0.0.1:{there.port}/elsewhere")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    handler = type("Handler", (_Handler,), {"receiver": receiver})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
