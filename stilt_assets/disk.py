"""
How does something appear on a disk whole or not at all?

It is made beside its place, under a name that begins with a dot, and renamed. Readers pass over such names; who was
killed while making one leaves it to the next who makes something there.
"""

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from stilt_assets import scratch

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}  # some network disks have none


def is_begun(name: str) -> bool:
    """Whether a name is that of something which is being made, or was when its maker was killed."""
    return name.startswith(".")


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")


def write(place: Path, content: bytes) -> None:
    """Put a file in its place. Writers of the same place take turns; each begins anew what a killed one left."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.part")
    with ExitStack() as stack:
        try:
            file = cast("IO[bytes]", stack.enter_context(scratch.held(beside, fcntl.LOCK_EX)))  # it waits
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            beside.unlink(missing_ok=True)
            beside = _beside(place)
            file = stack.enter_context(beside.open("ab"))
        unfinished = stack.enter_context(ExitStack())
        unfinished.callback(beside.unlink, missing_ok=True)
        file.truncate(0)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        beside.replace(place)
        unfinished.pop_all()


@contextmanager
def building(place: Path, marker: str) -> Iterator[Path]:
    """A folder to fill, which becomes `place` when the block ends well, unless `place` is there with its `marker`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    sweep(place.parent)
    work = _beside(place)
    with _claimed(work):
        work.mkdir()
        yield work
        _to_disk(work)
        with _claimed(place.with_name(f".{place.name}.new")):
            if not (place / marker).exists():
                shutil.rmtree(place, ignore_errors=True)  # a folder without its marker is none
                work.rename(place)


def remove(place: Path) -> None:
    """Take a file or folder away, if it is there: a folder at once, so that nobody sees half of it."""
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
        return
    sweep(place.parent)
    away = _beside(place)
    with _claimed(away), suppress(FileNotFoundError):  # somebody else took it away meanwhile
        place.rename(away)


def sweep(folder: Path) -> None:
    """Remove what killed processes had begun in a folder."""
    for lock in folder.glob(".*.lock"):
        try:
            scratch.drop(lock.with_suffix(""))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise


@contextmanager
def _claimed(place: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(scratch.claimed(place))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            scratch.lock_of(place).unlink(missing_ok=True)
            stack.callback(shutil.rmtree, place, ignore_errors=True)
        yield


def _to_disk(folder: Path) -> None:
    """See that what was written outlives a power cut."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
