"""
What does a server have of a file, and how do its bytes come here?

Plain http(s), as public buckets and their mirrors speak it. An answer that is not 200, 206 or 404 is a failure of the
server, never "not there".
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

from stilt_assets.errors import StoppedError, StoreError
from stilt_assets.faults import redacted, steadily

_PATIENCE = (10.0, 60.0)  # s to wait for a connection, and for the next bytes
_BLOCK = 2**17  # bytes: what a broken connection may lose
_PLAIN = {"Accept-Encoding": "identity"}  # bytes as they are stored
_GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_MD5 = re.compile(r"[0-9a-f]{32}", re.ASCII)
_DIGESTS = ("sha256", "crc32c", "crc32", "sha1")  # of Amazon's headers


class ChangedError(Exception):
    """The server's file is no longer the one that it was."""


@dataclass(frozen=True)
class Remote:
    """A file as its server describes it."""

    url: str
    size: int  # bytes
    tag: str  # what the server changes with the content: its ETag, or the time of its last change
    digests: Mapping[str, str] = field(default_factory=dict, compare=False)  # hex by algorithm, as the server says

    def as_facts(self, sha256: str) -> dict[str, Any]:
        """What a record keeps of the file, whose bytes have that sha256."""
        return {"size": self.size, "tag": self.tag, "sha256": sha256}


def look(url: str) -> Remote | None:
    """What the server says of a file; None if it has none. StoreError if it does not say."""

    def ask() -> Remote | None:
        headers = _PLAIN | {"x-amz-checksum-mode": "ENABLED"}
        with requests.head(url, headers=headers, timeout=_PATIENCE, allow_redirects=True) as answer:
            if answer.status_code in _GONE:
                return None
            answer.raise_for_status()
            size = answer.headers.get("Content-Length", "")
            if not size.isdigit():
                raise StoreError(f"{redacted(url)} does not tell its size: no server of files?", "store")
            return Remote(url, int(size), _tag(answer.headers), _digests(answer.headers))

    return steadily("asking for", url, ask)


def _tag(headers: Mapping[str, str]) -> str:
    return headers.get("ETag") or headers.get("Last-Modified") or ""


def _digests(headers: Mapping[str, str]) -> dict[str, str]:
    """Checksums of the whole content, hex by algorithm, as Google, Amazon and plain servers tell them."""
    said = [part.strip().partition("=")[::2] for part in headers.get("x-goog-hash", "").split(",")]
    said += [(name, headers.get(f"x-amz-checksum-{name}", "")) for name in _DIGESTS]
    said += [("md5", headers.get("Content-MD5", ""))]
    found = {name: _hex(value) for name, value in said if value and "-" not in value}  # 3 parts: "…-3"
    tag = headers.get("ETag", "").strip('"')
    amazon = any(name.lower().startswith("x-amz") for name in headers)
    if amazon and _MD5.fullmatch(tag) and "kms" not in headers.get("x-amz-server-side-encryption", ""):
        found.setdefault("md5", tag)
    return {name: value for name, value in found.items() if value}


def _hex(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).hex()
    except ValueError:
        return ""


def pour(remote: Remote, part: Path, stopped: Callable[[], bool] = lambda: False) -> None:
    """
    Add to `part` what it lacks of a file; what came before a failure stays.

    Raises ChangedError if the file is another one by now, StoreError if the server fails or ends too early.
    """

    def ask() -> None:
        have = part.stat().st_size if part.exists() else 0
        if have == remote.size:
            return
        headers = _PLAIN | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(remote.url, headers=headers, timeout=_PATIENCE, stream=True) as answer:
            if answer.status_code in (*_GONE, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
                raise ChangedError(remote.url)
            answer.raise_for_status()
            if _tag(answer.headers) != remote.tag:
                raise ChangedError(remote.url)
            _write(answer, part, have if answer.status_code == HTTPStatus.PARTIAL_CONTENT else 0, stopped)
        if part.stat().st_size < remote.size:
            raise StoreError(f"{redacted(remote.url)} ended after {part.stat().st_size} bytes", "unreachable")
        if part.stat().st_size > remote.size:
            raise ChangedError(remote.url)

    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            steadily("fetching", remote.url, ask)
            return
        except StoreError as error:
            came = (part.stat().st_size if part.exists() else 0) > before
            if not came or error.reason not in {"throttled", "unreachable"}:
                raise


def _write(answer: Any, part: Path, start: int, stopped: Callable[[], bool]) -> None:
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(start)
        file.seek(start)
        for block in answer.iter_content(_BLOCK):
            file.write(block)
            if stopped():
                raise StoppedError("stopped while meteorology was being fetched; what came is kept")
