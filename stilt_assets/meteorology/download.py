"""
How does a file of a server become one of this machine, whole and as it is there?

What came before a failure is kept and added to. The whole is checked against the size and every checksum that the
server tells; without one, sizes agree and the records' own checksums are left to tell (the aggregate asks them all).
"""

import hashlib
import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c

from stilt_assets.errors import MeteorologyError
from stilt_assets.faults import in_words, redacted
from stilt_assets.meteorology.server import ChangedError, Remote, look, pour

_BLOCK = 4 * 2**20  # bytes
_TRIES = 3  # of a file that changes, or is not what its checksum says
_log = logging.getLogger(__name__)


class _Crc32:
    """zlib's checksum, as hashlib has its own."""

    def __init__(self) -> None:
        self._sum = 0

    def update(self, data: bytes) -> None:
        """Go on with more bytes."""
        self._sum = zlib.crc32(data, self._sum)

    def digest(self) -> bytes:
        """Four bytes, the highest first."""
        return self._sum.to_bytes(4, "big")


_SUMS: dict[str, Callable[[], Any]] = {
    "sha256": hashlib.sha256,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "crc32c": google_crc32c.Checksum,
    "crc32": _Crc32,
}


def sums_of(path: Path, names: set[str]) -> dict[str, str]:
    """Checksums of a file, hex by algorithm, read once."""
    sums = {name: _SUMS[name]() for name in names}
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            for each in sums.values():
                each.update(block)
    return {name: each.digest().hex() for name, each in sums.items()}


def fetch(
    remote: Remote, part: Path, begin: Callable[[Remote], None], stopped: Callable[[], bool] = lambda: False
) -> tuple[Remote, dict[str, str]]:
    """
    Bring `part` to all bytes of a file: the file as it was found in the end, and its checksums, sha256 among them.

    `begin` is told before bytes of another content than the part's come. MeteorologyError if the file goes on changing,
    vanishes, or is not what the server's checksum says; StoreError if the server does not answer.
    """
    why = ""
    for _ in range(_TRIES):
        try:
            with in_words("fetching", remote.url):
                pour(remote, part, stopped)
                sums = sums_of(part, {"sha256", *(remote.digests.keys() & _SUMS.keys())})
        except ChangedError:
            why = "it changes while it is read"
        else:
            wrong = [name for name, value in remote.digests.items() if sums.get(name, value) != value]
            if not wrong:
                _to_disk(part)
                return remote, sums
            why = f"its {wrong[0]} is {sums[wrong[0]]}, not {remote.digests[wrong[0]]} as the server says"
        _log.info("%s: %s; once more from its beginning", redacted(remote.url), why)
        part.unlink(missing_ok=True)
        there = look(remote.url)
        if there is None:
            raise MeteorologyError(f"{redacted(remote.url)} was taken away while it was read; run again")
        remote = there
        begin(remote)
    raise MeteorologyError(f"{redacted(remote.url)} cannot be had: {why}, {_TRIES} times; run again later")


def _to_disk(part: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
