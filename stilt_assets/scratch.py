"""
What does this machine lend to a process that may be killed at any moment?

Private folders that are gone with their owner, one copy of a file for all, and locks: everything in one folder per
user below TMPDIR. Each thing lies beside a lock that its owner holds; a lock that nobody holds marks what the dead
left behind, and the next one who comes sweeps it away.

Containers of one machine have a TMPDIR each. A folder of the machine that all of them see, named by
STILT_ASSETS_SHARED_SCRATCH, then holds the copies, STILT_ASSETS_SHARED_SCRATCH_GB of them at most: locks are the
kernel's, which they share. A copy there outlives its last user by an hour, unless its room is needed: the next
container may begin when the last has ended.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep, time
from typing import IO, TypeVar

from stilt_assets.errors import BusyError, DamagedError, DiskFullError, StoreError, UsageError
from stilt_assets.faults import in_words, redacted

SHARED_VARIABLE = "STILT_ASSETS_SHARED_SCRATCH"
SIZE_VARIABLE = "STILT_ASSETS_SHARED_SCRATCH_GB"  # 1e9 bytes
_Thing = TypeVar("_Thing")
_PRIVATE, _COPIES, _LOCKS = "private", "copies", "locks"
_ROOMS = (_PRIVATE, _COPIES, _LOCKS)
_OUTLIVES = 3600.0  # s that a copy of the machine's outlives its last user
MOMENT = 0.25  # s that a sweep may hold a lock
_GLANCE = 0.05  # s between looks at a lock that is held


def root() -> Path:
    """The folder below TMPDIR that holds all of this user's; made if it is not there, refused if it is not ours."""
    return _ours_in(Path(tempfile.gettempdir()), "set TMPDIR to a folder of yours")


def _ours_in(folder: Path, do: str) -> Path:
    place = folder / f"stilt-assets-{os.getuid()}"
    with in_words("making", place):
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        facts = place.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise StoreError(f"{place} is not this user's folder; remove it or {do}", "denied")
        if facts.st_mode & 0o077:
            place.chmod(0o700)
        for name in _ROOMS:
            (place / name).mkdir(mode=0o700, exist_ok=True)
    return place


def needs_room(place: Path, size: int, what: str, do: str = "free some or set TMPDIR") -> None:
    """DiskFullError unless `size` bytes fit beside `place`; copies that nobody uses make room for others."""
    free = shutil.disk_usage(place).free
    if _are_shared() and place == copies():
        free, do = _made_free(place, size), f"wait, free some or raise {SIZE_VARIABLE}"
    if free < size:
        raise DiskFullError(
            f"no room left in {place}: {free / 2**20:.1f} MiB free, {what} needs {size / 2**20:.1f}; {do}"
        )


# ---- the copies of a machine


def copies() -> Path:
    """The folder of all copies: of this TMPDIR, or the one that all containers of this machine see."""
    if not _are_shared():
        return root() / _COPIES
    given = os.environ[SHARED_VARIABLE]
    if not Path(given).is_dir():
        raise UsageError(f"{SHARED_VARIABLE} is {given}, which is no folder here: mount one, or unset it")
    return _ours_in(Path(given), f"set {SHARED_VARIABLE} to a folder of yours") / _COPIES


def _are_shared() -> bool:
    return bool(os.environ.get(SHARED_VARIABLE))


def _most() -> float:
    """Bytes that the copies of a machine may take."""
    given = os.environ.get(SIZE_VARIABLE) or "inf"
    try:
        return float(given) * 1e9
    except ValueError:
        raise UsageError(f"{SIZE_VARIABLE} is '{given}', which is no number of 10^9 bytes") from None


def _made_free(place: Path, size: int) -> float:
    """Bytes that are free for one more copy, after those went that were not used for longest, as far as needed."""
    names = {path.with_suffix("") for path in place.iterdir() if path.suffix in (".lock", ".part")}
    unused = sorted(names, key=_last_use)
    while True:
        free = min(shutil.disk_usage(place).free, _most() - sum(map(_size_of, place.iterdir())))
        if free >= size or not unused:
            return free
        drop(unused.pop(0))


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # somebody made room meanwhile
        return 0


def _last_use(copy: Path) -> float:
    try:
        return lock_of(copy).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _may_be_used_again(place: Path) -> bool:
    return _are_shared() and place.parent == copies() and place.exists() and time() - _last_use(place) < _OUTLIVES


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
def alone(name: str, patience: float = MOMENT) -> Iterator[None]:
    """Be the only process of this user and machine that holds `name`; BusyError if another does for `patience` s."""
    lock = lock_of(root() / _LOCKS / _digest(name))
    end = monotonic() + patience
    while True:
        with _in_words(held(lock, fcntl.LOCK_EX | fcntl.LOCK_NB), lock) as mine:
            if mine:
                try:
                    with in_words("locking", lock):
                        mine.truncate(0)
                        owner = f" ({os.getpid()}, since {datetime.now(UTC):%Y-%m-%dT%H:%MZ})"
                        os.write(mine.fileno(), owner.encode())  # past the buffer, which closing would write once more
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return
        if monotonic() > end:
            break
        sleep(_GLANCE)
    raise BusyError(f"another process works on {redacted(name)}{_owner(lock)}; wait for it or stop it")


def _owner(lock: Path) -> str:
    """Who holds a lock and since when, as far as it says."""
    try:
        return lock.read_text()
    except FileNotFoundError:
        return ""


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
    One copy of a file for all processes of this user that see `copies()`, gone with the last of them.

    `name` stands for the file's bytes; `fetch` writes them, `size` in number if given, to the path that it is given.
    """
    sweep()
    place = copies() / _digest(f"{name} {size}")
    lock, fetching, sound = lock_of(place), _fetching(place), True
    try:
        with _in_words(held(lock, fcntl.LOCK_SH), lock):  # nobody drops it meanwhile
            with _in_words(held(fetching, fcntl.LOCK_EX), fetching):  # waits while somebody fetches
                try:
                    if not _is_whole(place, size):
                        _fetch(place, fetch, name, size)
                finally:
                    fetching.unlink(missing_ok=True)
            yield place
    except DamagedError:  # not to be met again by the next user
        sound = False
        raise
    finally:
        with suppress(FileNotFoundError):  # somebody cleaned up below TMPDIR meanwhile
            os.utime(lock, (time(), time()) if sound else (0.0, 0.0))
            if not _may_be_used_again(place):
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


def _fetching(place: Path) -> Path:
    """The lock of who fetches it; all who use it hold the other one meanwhile."""
    return place.with_name(f"{place.name}.fetching")


# ---- what the dead left


def drop(place: Path) -> bool:
    """Remove what lies beside a lock that nobody holds, and the lock; whether that was so."""
    with held(lock_of(place), fcntl.LOCK_EX | fcntl.LOCK_NB) as mine:
        if mine:
            for left in (place, _part_of(place), _fetching(place)):
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
        rooms = {*(here / name for name in _ROOMS), copies()}
        left = {entry.with_suffix("") for room in rooms for entry in room.iterdir()}
        return sum(drop(place) for place in left if not _may_be_used_again(place))
