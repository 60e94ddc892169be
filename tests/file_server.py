"""
A server of files on loopback, as a public bucket or a plain mirror is one, behind a door that can be made to stick.

What it says of a file follows Google's, Amazon's or a plain server's ways; contents may change while it runs.
"""

import base64
import hashlib
import http.server
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import google_crc32c
from object_store import FaultyProxy


@dataclass
class Files:
    """What the server has: contents by path, which begins with a slash."""

    contents: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)  # more of them, of every answer
    tags: bool = True  # whether it has ETags
    ranges: bool = True  # whether it knows them
    at_most: int | None = None  # bytes of one answer, which says that this is all
    breaks: int = 0  # answers to come that end halfway, against what they promise
    last: int | None = None  # GETs that are answered; later ones get 503, or nothing at all if `hangs_up`
    hangs_up: bool = False
    changes: dict[str, list[bytes]] = field(default_factory=dict)  # contents that each GET of a path puts there
    gets: list[tuple[str, int]] = field(default_factory=list)  # path and first byte of each GET


def google_hash(content: bytes, *names: str) -> str:
    """The header x-goog-hash of a content."""
    sums = {"md5": hashlib.md5(content).digest(), "crc32c": google_crc32c.Checksum(content).digest()}
    return ",".join(f"{name}={base64.b64encode(sums[name]).decode()}" for name in names)


def crc32(content: bytes) -> str:
    """Amazon's way of writing zlib's checksum."""
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Files

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        content = self.files.contents.get(self.path)
        if content is None:
            self._answer(404, b"", 0)
        else:
            self._answer(200, b"", len(content), self._facts(content))

    def do_GET(self) -> None:
        files = self.files
        content = files.contents.get(self.path)
        if content is None:
            self._answer(404, b"", 0)
            return
        if files.last is not None and len(files.gets) >= files.last:
            self._fail()
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and files.ranges else 0
        files.gets.append((self.path, start))
        if start >= len(content):
            self._answer(416, b"", 0)
            return
        part = content[start:][: files.at_most]
        facts = self._facts(content)
        if asked and files.ranges:
            facts["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
        self._answer(206 if asked and files.ranges else 200, part, len(part), facts)
        if files.changes.get(self.path):
            files.contents[self.path] = files.changes[self.path].pop(0)

    def _fail(self) -> None:
        if self.files.hangs_up:
            self.close_connection = True
        else:
            self._answer(503, b"", 0)

    def _facts(self, content: bytes) -> dict[str, str]:
        tag = {"ETag": f'"v{zlib.crc32(content)}"'} if self.files.tags else {}
        return tag | self.files.headers

    def _answer(self, status: int, content: bytes, size: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if content and self.files.breaks:
            self.files.breaks -= 1
            self.close_connection = True
            content = content[: len(content) // 2]
        self.wfile.write(content)


@dataclass
class Mirror:
    """A server, and the door through which its clients come."""

    files: Files
    proxy: FaultyProxy

    @property
    def door(self) -> str:
        """The address behind which faults are switched on and off."""
        return self.proxy.url

    @property
    def url(self) -> str:
        """The server's own address."""
        return f"http://127.0.0.1:{self.proxy.upstream}"


@contextmanager
def file_server() -> Iterator[Mirror]:
    """An empty server."""
    files = Files()
    handler = type("Handler", (_Handler,), {"files": files})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    proxy = FaultyProxy(server.server_address[1])
    try:
        yield Mirror(files, proxy)
    finally:
        proxy.close()
        server.shutdown()
        server.server_close()
        thread.join()
