"""
Where does every result live?

The only module that joins paths. Whatever it writes appears whole or not at all: on a disk it is written beside its
place and renamed, on an object store an object is whole by nature and a folder's marker is uploaded last.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from stilt_assets.errors import BusyError, DiskFullError, StoreError
from stilt_assets.settings import is_url

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def _in_words(doing: str, where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        other = error.filename if isinstance(error.filename, str) and error.filename not in where else ""
        what = (error.strerror or str(error)) + (f" ({other})" if other else "")
        if error.errno in _FULL:
            raise DiskFullError(f"no room left while {doing} {where}; free some space and run again") from error
        raise StoreError(f"{doing} {where} failed: {what}") from error


def _to_disk(folder: Path) -> None:
    """See that what was written outlives a power cut."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


@dataclass(frozen=True)
class Store:
    """A folder or URL (`gs://…`, `s3://…`) below which all results lie."""

    root: str

    @property
    def fs(self) -> Any:
        """The file system behind `root`."""
        try:
            return fsspec.core.url_to_fs(self.root)[0]
        except (ImportError, ValueError) as error:
            raise StoreError(f"cannot open the store {self.root}: {error}") from error

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    # ---- places

    def _join(self, *parts: str) -> str:
        return "/".join((self.root.rstrip("/"), *parts))

    def record(self, key: str) -> str:
        """A scene's `scene.json`."""
        return self._join("scenes", key, "scene.json")

    def result(self, key: str, name: str) -> str:
        """The folder of one result, such as `pixels-3fa2c1d09b7e`."""
        return self._join("scenes", key, name)

    def file(self, folder: str, *names: str) -> str:
        """A file below a result's folder."""
        return "/".join((folder, *names))

    def pack(self, folder: str, number: int, *kind: str) -> str:
        """A pack's parquet file, below `kind` if given."""
        return self.file(folder, *kind, f"pack={number:05d}.parquet")

    def packs(self, folder: str, *kind: str) -> list[str]:
        """The pack files that are there, in the order of their numbers."""
        place = self.file(folder, *kind)
        return [self.file(place, name) for name in self.names(place) if name.startswith("pack=")]

    def unfinished(self, folder: str, *names: str) -> str:
        """What a pack that is not yet whole keeps of its finished pixels."""
        return self.file(folder, "unfinished", *names)

    def scenes(self) -> list[str]:
        """Keys of all scenes, oldest first."""
        folder = self._join("scenes")
        return [name for name in self.names(folder) if self.exists(self.record(name))]

    # ---- bytes

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        with _in_words("looking for", path):
            return self.fs.exists(path)

    def names(self, folder: str) -> list[str]:
        """Sorted names in a folder; none if it is not there."""
        fs = self.fs
        fs.invalidate_cache()
        with _in_words("listing", folder):
            try:
                return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(folder, detail=False))
            except FileNotFoundError:
                return []

    def read(self, path: str) -> bytes:
        """All bytes of a file. StoreError if it cannot be read."""
        with _in_words("reading", path):
            return self.fs.cat_file(path)

    def table(
        self, path: str, columns: Sequence[str] | None = None, where: tuple[str, str, Any] | None = None
    ) -> pa.Table:
        """Rows of a parquet file: those for which `where` holds; no more of the file is read than they need."""
        with _in_words("reading", path), self.fs.open(path, "rb") as file:
            return pq.read_table(file, columns=columns and list(columns), filters=where and [where])

    def write(self, path: str, content: bytes) -> None:
        """Put a file in its place, whole. DiskFullError or StoreError if that cannot be done."""
        with _in_words("writing", path):
            if not self.is_local:
                self.fs.pipe_file(path, content)
                return
            place = Path(self.fs._strip_protocol(path))
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
            try:
                with beside.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(place)
            finally:
                beside.unlink(missing_ok=True)

    def size(self, path: str) -> int:
        """Bytes of a file, or of all files of a folder."""
        with _in_words("measuring", path):
            return int(self.fs.du(path)) if self.fs.exists(path) else 0

    def remove(self, path: str) -> None:
        """Take a file or folder away, if it is there."""
        with _in_words("removing", path):
            if self.fs.exists(path):
                self.fs.rm(path, recursive=True)

    @contextmanager
    def building(self, folder: str, marker: str) -> Iterator[Path]:
        """
        A local folder to fill, which becomes `folder` when the block ends well and vanishes otherwise.

        On an object store the file `marker` is uploaded last; readers take a folder without it as not there.
        """
        with _in_words("building", folder):
            if self.is_local:
                place = Path(self.fs._strip_protocol(folder))
                place.parent.mkdir(parents=True, exist_ok=True)
                work = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
            else:
                place, work = None, Path(tempfile.mkdtemp(prefix="stilt-assets-"))
            try:
                yield work
                if place is None:
                    self._upload(work, folder, marker)
                elif not (place / marker).exists():
                    shutil.rmtree(place, ignore_errors=True)  # a folder without its marker is none
                    work.chmod(0o755)
                    _to_disk(work)
                    work.rename(place)
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def _upload(self, work: Path, folder: str, marker: str) -> None:
        files = sorted(
            (path for path in work.rglob("*") if path.is_file()),
            key=lambda path: path.relative_to(work) == Path(marker),
        )
        for path in files:
            self.fs.put_file(str(path), self.file(folder, path.relative_to(work).as_posix()))

    @contextmanager
    def alone(self, folder: str) -> Iterator[None]:
        """Be the only process of this machine that works in a folder; BusyError if another one does."""
        name = hashlib.sha256(folder.encode()).hexdigest()[:16]
        with (Path(tempfile.gettempdir()) / f"stilt-assets-{os.getuid()}-{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError(f"another process works in {folder}; wait for it or stop it") from error
            try:
                yield
            finally:
                Path(file.name).unlink(missing_ok=True)

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A file as a path of this machine, for programs that read only those."""
        if self.is_local:
            yield Path(self.fs._strip_protocol(path))
            return
        with tempfile.TemporaryDirectory(prefix="stilt-assets-") as folder:
            copy = Path(folder) / path.rsplit("/", 1)[-1]
            with _in_words("fetching", path):
                self.fs.get_file(path, str(copy))
            yield copy


def open_store(root: str) -> Store:
    """The store at a folder or URL; a URL of an unknown kind raises StoreError at once."""
    store = Store(root if is_url(root) else str(Path(root).absolute()))
    _ = store.fs
    return store
