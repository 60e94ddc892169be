"""
What does this machine lend to a process that may be killed at any moment?

Private folders that are gone with their owner, one copy of a file for all, and locks: everything in one folder per
user below TMPDIR. Each thing lies beside a lock that its owner holds; a lock that nobody holds marks what the dead
left behind, and the next one who comes sweeps it away.
"""

import fcntl
import hashlib
import os
import random
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import IO, TypeVar

from stilt_assets.errors import BusyError, DiskFullError, StoreError
from stilt_assets.faults import in_words, redacted

_Thing = TypeVar("_Thing")
_PRIVATE, _COPIES, _LOCKS = "private", "copies", "locks"
_ROOMS = (_PRIVATE, _COPIES, _LOCKS)
_GLANCES = 5  # at a lock that is held: a sweep holds each for a moment
_GLANCE = 0.05  # s between them, and between looks at a copy that others are about to fetch or to drop


def root() -> Path:
    """The folder below TMPDIR that holds all of this user's; made if it is not there, refused if it is not ours."""
    place = Path(tempfile.gettempdir()) / f"stilt-assets-{os.getuid()}"
    with in_words("making", place):
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        facts = place.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise StoreError(
                f"{place} is not this user's folder; remove it or set TMPDIR to a folder of yours", "denied"
            )
        if facts.st_mode & 0o077:
            place.chmod(0o700)
        for name in _ROOMS:
            (place / name).mkdir(mode=0o700, exist_ok=True)
    return place


def needs_room(place: Path, size: int, what: str, do: str = "free some or set TMPDIR") -> None:
    """DiskFullError unless `size` bytes fit beside `place`."""
    free = shutil.disk_usage(place).free
    if free < size:
        raise DiskFullError(
            f"no room left in {place}: {free / 2**20:.1f} MiB free, {what} needs {size / 2**20:.1f}; {do}"
        )


# ---- locks


@contextmanager
def held(lock: Path, how: int) -> Iterator[IO[bytes] | None]:
    """A lock file, open and locked for the block; None if somebody else holds it and `how` does not wait."""
    while True:
        with lock.open("ab") as file:
            try:
                fcntl.flock(file, how)
            except BlockingIOError:
                yield None
                return
            if _is_at(file, lock):
                yield file
                return


def _is_at(file: IO[bytes], place: Path) -> bool:
    """Whether an open file is still the one at its place: whoever held its lock before may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), place.stat())
    except FileNotFoundError:
        return False


def lock_of(place: Path) -> Path:
    """The lock beside a place."""
    return place.with_name(f"{place.name}.lock")


@contextmanager
def _in_words(block: AbstractContextManager[_Thing], where: Path) -> Iterator[_Thing]:
    """A block whose beginning is told in words if it fails; what happens inside is not."""
    with ExitStack() as stack:
        with in_words("locking", where):
            thing = stack.enter_context(block)
        yield thing


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Be the only process of this user and machine that holds `name`; BusyError if another one does."""
    lock = lock_of(root() / _LOCKS / _digest(name))
    for _ in range(_GLANCES):
        with _in_words(held(lock, fcntl.LOCK_EX | fcntl.LOCK_NB), lock) as mine:
            if mine:
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return
        sleep(_GLANCE)
    raise BusyError(f"another process works on {redacted(name)}; wait for it or stop it")


@contextmanager
def slot(name: str, count: int) -> Iterator[None]:
    """One of `count` places that this machine has for this user's `name`; waits until one is free."""
    locks = [lock_of(root() / _LOCKS / f"{name}-{number}") for number in range(count)]
    while True:
        for lock in locks:
            with _in_words(held(lock, fcntl.LOCK_EX | fcntl.LOCK_NB), lock) as mine:
                if mine:
                    yield
                    return
        sleep(_GLANCE)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


# ---- folders


@contextmanager
def claimed(place: Path) -> Iterator[None]:
    """The right to make a folder at a new `place`; what is there afterwards, or after a kill, is dropped."""
    lock = lock_of(place)
    with held(lock, fcntl.LOCK_EX):
        try:
            yield
        finally:
            shutil.rmtree(place, ignore_errors=True)
            lock.unlink(missing_ok=True)


@contextmanager
def folder() -> Iterator[Path]:
    """A private folder, gone afterwards; one whose owner was killed goes with the next `sweep`."""
    place = root() / _PRIVATE / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    with _in_words(claimed(place), place):
        with in_words("making", place):
            place.mkdir(mode=0o700)
        yield place


@contextmanager
def copy_of(name: str, fetch: Callable[[Path], None], size: int | None = None) -> Iterator[Path]:
    """
    One copy of a file for all processes of this user and machine, gone with the last of them.

    `name` stands for the file's bytes; `fetch` writes them, `size` in number if given, to the path that it is given.
    """
    sweep()
    place = root() / _COPIES / _digest(f"{name} {size}")
    lock = lock_of(place)
    try:
        while True:
            with _in_words(held(lock, fcntl.LOCK_SH), lock):  # waits while somebody fetches
                if _is_whole(place, size):
                    yield place
                    return
            with _in_words(held(lock, fcntl.LOCK_EX | fcntl.LOCK_NB), lock) as mine:
                if mine and not _is_whole(place, size):
                    _fetch(place, fetch, name, size)
            if not mine:
                sleep(random.uniform(0, _GLANCE))
    finally:
        with suppress(FileNotFoundError):  # somebody cleaned up below TMPDIR meanwhile
            drop(place)


def _is_whole(place: Path, size: int | None) -> bool:
    return place.exists() and size in (None, place.stat().st_size)


def _fetch(place: Path, fetch: Callable[[Path], None], name: str, size: int | None) -> None:
    beside = _part_of(place)
    beside.unlink(missing_ok=True)
    fetch(beside)
    if not _is_whole(beside, size):
        got = beside.stat().st_size if beside.exists() else 0
        raise StoreError(f"fetching {redacted(name)} ended after {got} of {size} bytes", "unreachable")
    beside.replace(place)


def _part_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.part")


# ---- what the dead left


def drop(place: Path) -> bool:
    """Remove what lies beside a lock that nobody holds, and the lock; whether that was so."""
    with held(lock_of(place), fcntl.LOCK_EX | fcntl.LOCK_NB) as mine:
        if mine:
            for left in (place, _part_of(place)):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)
            lock_of(place).unlink(missing_ok=True)
        return mine is not None


def sweep() -> int:
    """Remove what killed processes left behind; how many things that were."""
    here = root()
    with in_words("sweeping", here):
        left = {entry.with_suffix("") for name in _ROOMS for entry in (here / name).iterdir()}
        return sum(drop(place) for place in left)
