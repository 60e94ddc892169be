"""
Which files of archives does this machine hold, and which may go?

One copy for all processes of a user, fetched by one of them while the others wait. A file that somebody uses is never
removed; of the others those go first that were not used for longest, as soon as a new one needs their room.

Beside `name` lie `.name.json`, what the server said of it and its sha256, with the time of its last use; `.name.lock`;
and `.name.part`, what has come so far of it.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep
from typing import Any

from stilt_assets import disk, scratch
from stilt_assets.errors import BusyError, MeteorologyError, OverBudgetError
from stilt_assets.faults import in_words
from stilt_assets.meteorology.download import fetch
from stilt_assets.meteorology.server import Remote
from stilt_assets.scene import sha256_of

_GLANCE = 0.2  # s between looks at a file that somebody else fetches
_GB = 1e9


@dataclass(frozen=True)
class Lent:
    """A file of the cache, there for as long as it is lent."""

    path: Path
    remote: Remote
    sha256: str
    checked: tuple[str, ...]  # checksums of the server's that the bytes agree with


@dataclass(frozen=True)
class Cache:
    """A folder that holds at most `size` bytes."""

    folder: Path
    size: float

    def known(self, name: str, remote: Remote) -> str:
        """The sha256 of a file that is here as the server describes it; empty if it is not."""
        return self._note(name).get("sha256", "") if self._is_here(name, remote) else ""

    @contextmanager
    def lent(self, wanted: Sequence[tuple[str, Remote]], at_once: int) -> Iterator[list[Lent]]:
        """
        Files by name (a path below the cache's folder) and description, in that order, fetched if they are not here.

        OverBudgetError if they cannot all be here at once, BusyError while others use what would have to go; if the
        block finds them damaged (MeteorologyError), those that are not what was fetched will be fetched again.
        """
        self._fits(wanted)
        gone = threading.Event()
        with ExitStack() as stack:
            with in_words("using", self.folder), ThreadPoolExecutor(at_once) as pool:
                try:
                    files = list(pool.map(lambda item: self._hold(stack, item[0], item[1], gone), wanted))
                finally:
                    gone.set()
                    pool.shutdown(wait=True, cancel_futures=True)
            try:
                yield files
            except MeteorologyError:
                for name, file in zip((name for name, _ in wanted), files, strict=True):
                    if sha256_of(file.path) != file.sha256:
                        self._beside(name, "json").unlink(missing_ok=True)
                raise

    def _fits(self, wanted: Sequence[tuple[str, Remote]]) -> None:
        total = sum(remote.size for _, remote in wanted)
        if total > self.size:
            raise OverBudgetError(
                f"a scene needs {total / _GB:.3g} GB of meteorology at once, and meteorology.cache_size is "
                f"{self.size / _GB:.3g}: raise it"
            )

    # ---- one file

    def _beside(self, name: str, what: str) -> Path:
        place = self.folder / name
        return place.with_name(f".{place.name}.{what}")

    def _note(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self._beside(name, "json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _is_here(self, name: str, remote: Remote) -> bool:
        note, place = self._note(name), self.folder / name
        same = (note.get("url"), note.get("size"), note.get("tag")) == (remote.url, remote.size, remote.tag)
        return same and "sha256" in note and place.exists() and place.stat().st_size == remote.size

    def _hold(self, stack: ExitStack, name: str, remote: Remote, gone: threading.Event) -> Lent:
        """The file, locked against removal until the stack ends."""
        lock = self._beside(name, "lock")
        with in_words("making", lock.parent):
            lock.parent.mkdir(parents=True, exist_ok=True)
        while not gone.is_set():
            with ExitStack() as mine:
                if mine.enter_context(scratch.held(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)) and self._is_here(
                    name, remote
                ):
                    os.utime(self._beside(name, "json"))
                    stack.push(mine.pop_all())
                    return self._lent(name, remote)
            with ExitStack() as mine:
                file = mine.enter_context(scratch.held(lock, fcntl.LOCK_EX | fcntl.LOCK_NB))
                if file and not self._is_here(name, remote):
                    remote = self._fetch(name, remote, gone)
                    fcntl.flock(file, fcntl.LOCK_SH)
                    stack.push(mine.pop_all())
                    return self._lent(name, remote)
            sleep(_GLANCE)
        raise BusyError("stopped waiting for a file of the cache, as another one could not be had")

    def _lent(self, name: str, remote: Remote) -> Lent:
        note = self._note(name)
        return Lent(self.folder / name, remote, note["sha256"], tuple(note["checked"]))

    def _fetch(self, name: str, remote: Remote, gone: threading.Event) -> Remote:
        part = self._beside(name, "part")

        def begin(other: Remote) -> None:
            self._make_room(name, other)

        note = self._note(name)
        if (note.get("url"), note.get("size"), note.get("tag")) != (remote.url, remote.size, remote.tag):
            part.unlink(missing_ok=True)
        (self.folder / name).unlink(missing_ok=True)
        begin(remote)
        remote, sums = fetch(remote, part, begin, gone.is_set)
        with in_words("keeping", part):
            part.replace(self.folder / name)
        checked = sorted(name for name in remote.digests if name in sums)
        self._write_note(name, remote, sha256=sums["sha256"], checked=checked)
        return remote

    def _write_note(self, name: str, remote: Remote, **more: Any) -> None:
        known = {key: value for key, value in asdict(remote).items() if key != "digests"}
        with in_words("writing", self.folder):
            disk.write(self._beside(name, "json"), (json.dumps(known | more) + "\n").encode())

    # ---- room

    def _make_room(self, name: str, remote: Remote) -> None:
        """Take a place of the file's size, and remove what was not used for longest until all fits."""
        with scratch.held(self.folder / ".room", fcntl.LOCK_EX):
            self._write_note(name, remote)
            taken = {other: self._note(other).get("size", 0) for other in self._names()}
            left = sorted(taken.keys() - {name}, key=self._last_use)
            while sum(taken.values()) > self.size and left:
                if self._remove(left[0]):
                    del taken[left[0]]
                del left[0]
            if sum(taken.values()) > self.size:
                self._beside(name, "json").unlink(missing_ok=True)
                raise BusyError(
                    f"no room in {self.folder} for {remote.size / _GB:.3g} GB: others use what is there; "
                    "wait, or raise meteorology.cache_size"
                )
        have = self._beside(name, "part").stat().st_size if self._beside(name, "part").exists() else 0
        scratch.needs_room(self.folder, remote.size - have, name, "free some or set meteorology.cache")

    def _names(self) -> list[str]:
        notes = self.folder.rglob(".*.json")
        return [str(note.relative_to(self.folder).with_name(note.name[1:-5])) for note in notes]

    def _last_use(self, name: str) -> float:
        try:
            return self._beside(name, "json").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _remove(self, name: str) -> bool:
        """Remove a file that nobody uses or fetches; whether that was so."""
        with scratch.held(self._beside(name, "lock"), fcntl.LOCK_EX | fcntl.LOCK_NB) as file:
            for left in ("part", "json", "lock") if file else ():
                self._beside(name, left).unlink(missing_ok=True)
            if file:
                (self.folder / name).unlink(missing_ok=True)
            return file is not None
