"""
How do many objects come and go, and a large one?

Side by side, as a request waits for the network most of its time. An object is whole by nature; a folder of objects is
whole once its marker is there, which is uploaded last.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from stilt_assets.errors import StoreError
from stilt_assets.faults import redacted, steadily

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")
AT_ONCE = 16  # requests
PART = 8 * 2**20  # bytes that one request fetches of a large object
_PARTS_UP = 4  # parts of a large object that s3fs puts at a time, 50 MiB each; gcsfs puts one after the other


def at_once(act: Callable[[_Item], _Value], items: Sequence[_Item]) -> list[_Value]:
    """What `act` returns for each item, side by side; the first failure ends it."""
    if len(items) < 2:
        return [act(item) for item in items]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return list(pool.map(act, items))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def upload(fs: Any, work: Path, folder: str, marker: str) -> None:
    """Put the files below `work` into a folder, the file `marker` last."""

    def put(path: Path) -> None:
        place = f"{folder}/{path.relative_to(work).as_posix()}"
        steadily("writing", place, lambda: fs.put_file(str(path), place, max_concurrency=_PARTS_UP))

    at_once(put, sorted(path for path in work.rglob("*") if path.is_file() and path != work / marker))
    put(work / marker)


def fetch(fs: Any, path: str, size: int, copy: Path) -> None:
    """Write an object of `size` bytes to a file, in parts that are tried again each for itself."""

    def get(start: int) -> None:
        stop = min(start + PART, size)
        content = steadily("fetching", path, lambda: fs.cat_file(path, start=start, end=stop))
        if os.pwrite(file.fileno(), content, start) != stop - start:
            got = f"{len(content)} of {stop - start} bytes"
            raise StoreError(f"fetching {redacted(path)} gave {got} from byte {start} on", "unreachable")

    with copy.open("wb") as file:
        at_once(get, range(0, size, PART))


def remove(fs: Any, path: str) -> None:
    """Take an object, or all objects of a folder, away. StoreError if some of them stay."""
    found = fs.find(path)
    remove_known(fs, found)
    if found and found != [fs._strip_protocol(path)] and fs.find(path):
        raise StoreError(f"removing {redacted(path)} failed: some of it is still there", "denied")


def remove_known(fs: Any, paths: Sequence[str]) -> None:
    """Take objects away, as far as they are there; s3fs passes over those of many that it could not delete."""
    with suppress(FileNotFoundError):
        if len(paths) == 1:
            fs.rm_file(paths[0])
        elif paths:
            fs.rm(list(paths))
