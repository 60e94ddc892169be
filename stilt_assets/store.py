"""
Where does every result live?

The only module that joins paths. Whatever it writes appears whole or not at all: on a disk it is written beside its
place and renamed, on an object store an object is whole by nature and a folder's marker is uploaded last.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from stilt_assets import bucket, disk, scratch
from stilt_assets.errors import StoreError, UsageError
from stilt_assets.faults import in_words, intact, redacted, steadily
from stilt_assets.filesystem import opened
from stilt_assets.settings import is_url

_Value = TypeVar("_Value")
_Item = TypeVar("_Item")
_NAME = re.compile(r"(?!\.)[A-Za-z0-9._=-]+", re.ASCII)  # a first dot marks what is being made
_GLOB = re.compile(r"[*?\[\]]")  # fsspec takes a URL with one of these for a pattern


def _clean(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a place in the store: letters, digits and . _ = - make one")
    return name


@dataclass(frozen=True, repr=False)
class Store:
    """A folder or URL (`gs://…`, `s3://…`) below which all results lie."""

    root: str
    staged: bool = False  # whether files of a folder that other machines see too are copied before programs read them

    def __repr__(self) -> str:
        return f"Store({redacted(self.root)!r})"

    def __str__(self) -> str:
        return redacted(self.root)

    @property
    def fs(self) -> Any:
        """The file system behind `root`."""
        return opened(self.root, "the store")

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    # ---- places

    def _join(self, *parts: str) -> str:
        return "/".join((self.root.rstrip("/"), *map(_clean, parts)))

    def scene(self, key: str) -> str:
        """The folder of all that a scene makes."""
        return self._join("scenes", key)

    def record(self, key: str) -> str:
        """A scene's `scene.json`."""
        return self._join("scenes", key, "scene.json")

    def result(self, key: str, name: str) -> str:
        """The folder of one result, such as `pixels-3fa2c1d09b7e`."""
        return self._join("scenes", key, name)

    def beside(self, *names: str) -> str:
        """What is kept of no single scene, such as `arrivals/…`: a file or folder beside `scenes`."""
        return self._join(*names)

    def file(self, folder: str, *names: str) -> str:
        """A file below a result's folder. UsageError if a name is none, as of all places."""
        return "/".join((folder, *map(_clean, names)))

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
        keys = {self.record(key): key for key in self.scene_names()}
        return sorted(keys[path] for path in self.are_there(list(keys)))

    def are_there(self, paths: Sequence[str]) -> set[str]:
        """Those of some files that exist."""
        return {path for path, there in zip(paths, self._at_once(self.exists, paths), strict=True) if there}

    def scene_names(self) -> list[str]:
        """Names of all scenes' folders, oldest first, in one listing; one may still lack its `scene.json`."""
        return [name for name in self.names(self._join("scenes")) if _NAME.fullmatch(name)]

    def _here(self, path: str) -> Path:
        return Path(self.fs._strip_protocol(path))

    # ---- what is there

    def _do(self, doing: str, path: str, act: Callable[[], _Value]) -> _Value:
        if self.is_local:
            with in_words(doing, path):
                return act()
        return steadily(doing, path, act)

    def _at_once(self, act: Callable[[_Item], _Value], items: Sequence[_Item]) -> list[_Value]:
        """What `act` returns for each item, side by side on an object store; the first failure ends it."""
        return [act(item) for item in items] if self.is_local else bucket.at_once(act, items)

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""

        def look() -> bool:
            try:
                self.fs.info(path)
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

        return self._do("looking for", path, look)

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        """What a folder holds; nothing if it is not there."""
        fs = self.fs
        itself = fs._strip_protocol(folder).rstrip("/")

        def look() -> list[dict[str, Any]]:
            try:
                found = fs.ls(folder, detail=True)
            except FileNotFoundError:
                return []
            each = [entry | {"name": entry["name"].rstrip("/")} for entry in found]
            named = [entry | {"name": entry["name"].rsplit("/", 1)[-1]} for entry in each if entry["name"] != itself]
            return [entry for entry in named if not disk.is_begun(entry["name"])]

        return self._do("listing", folder, look)

    def names(self, folder: str) -> list[str]:
        """Sorted names in a folder; none if it is not there."""
        return sorted({entry["name"] for entry in self._listed(folder)})

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of each file in a folder, by its name; none if the folder is not there."""
        return {entry["name"]: entry["size"] for entry in self._listed(folder) if entry["type"] == "file"}

    def size(self, path: str) -> int:
        """Bytes of a file, or of all files of a folder but what is not there to stay."""

        def measure() -> int:
            try:
                found = self.fs.find(path, detail=True)  # `du` asks for each file once more
            except FileNotFoundError:
                return 0
            return sum(int(each["size"]) for name, each in found.items() if not disk.is_begun(name.rpartition("/")[2]))

        return self._do("measuring", path, measure)

    # ---- content

    def needs_room(self, folder: str, size: int) -> None:
        """DiskFullError unless a store on a disk has room for `size` bytes more."""
        if self.is_local:
            place = self._here(folder)
            there = next(each for each in (place, *place.parents) if each.exists())
            scratch.needs_room(there, size, "a pack", "free some")

    def read(self, path: str) -> bytes:
        """All bytes of a file. StoreError if it cannot be read."""
        return self._do("reading", path, lambda: self.fs.cat_file(path))

    def read_many(self, paths: Iterable[str], *, as_far_as_there: bool = False) -> dict[str, bytes]:
        """All bytes of files, by their paths. StoreError if one cannot be read; it may be gone `as_far_as_there`."""
        wanted = list(dict.fromkeys(paths))
        found = zip(wanted, self._at_once(self.read_if_there if as_far_as_there else self.read, wanted), strict=True)
        return {path: content for path, content in found if content is not None}

    def read_if_there(self, path: str) -> bytes | None:
        """All bytes of a file; None if it is not there. StoreError if it cannot be read."""
        try:
            return self.read(path)
        except StoreError as error:
            if error.reason != "not_found":
                raise
            return None

    def json(self, path: str, *needs: str) -> dict[str, Any]:
        """The object in a JSON file. DamagedError if it is none or lacks a key that it `needs`."""
        content = self.read(path)
        with intact(path, KeyError):
            found = json.loads(content)
            if not isinstance(found, dict):
                raise KeyError("no JSON object")
            for key in needs:
                _ = found[key]
        return found

    def table(
        self, path: str, columns: Sequence[str] | None = None, where: tuple[str, str, Any] | None = None
    ) -> pa.Table:
        """
        Rows of a parquet file: those for which `where` holds; no more of the file is read than they need.

        DamagedError if what is read is not what was written.
        """

        if where is None and not self.is_local:  # one request; to read in parts takes more than the whole
            return rows_in(pa.BufferReader(self.read(path)), path, columns)

        def look() -> pa.Table:
            with self.fs.open(path, "rb") as file:
                return rows_in(file, path, columns, where)

        return self._do("reading", path, look)

    def write(self, path: str, content: bytes) -> None:
        """Put a file in its place, whole. DiskFullError or StoreError if that cannot be done."""
        if self.is_local:
            with in_words("writing", path):
                disk.write(self._here(path), content)
        else:
            self._do("writing", path, lambda: self.fs.pipe_file(path, content))

    def remove(self, path: str) -> None:
        """Take a file or folder away, if it is there."""
        if self.is_local:
            with in_words("removing", path):
                disk.remove(self._here(path))
        else:
            self._do("removing", path, lambda: bucket.remove(self.fs, path))

    def remove_files(self, paths: Sequence[str]) -> None:
        """Take files away, as far as they are there: nobody looks for them before."""
        if self.is_local:
            for path in paths:
                self.remove(path)
        elif paths:
            self._do("removing", paths[0], lambda: bucket.remove_known(self.fs, paths))

    def sweep(self, folder: str) -> None:
        """Take away what killed processes left in a folder on a disk, as far as this user may."""
        with suppress(PermissionError, IsADirectoryError):
            disk.sweep(self._here(folder)) if self.is_local else None

    # ---- folders and copies

    @contextmanager
    def building(self, folder: str, marker: str) -> Iterator[Path]:
        """
        A local folder to fill, which becomes `folder` when the block ends well and vanishes otherwise.

        On an object store the file `marker` is uploaded last; readers take a folder without it as not there.
        """
        if self.is_local:
            with in_words("building", folder), disk.building(self._here(folder), marker) as work:
                yield work
        else:
            with in_words("building", folder), scratch.folder() as work:
                yield work
                bucket.upload(self.fs, work, folder, marker)

    def alone(self, path: str, patience: float = scratch.MOMENT) -> AbstractContextManager[None]:
        """
        Be the only process of this user and machine that works on a file or folder.

        BusyError if another one does for `patience` s; however the store is spelt: through links, too.
        """
        return scratch.alone(os.path.realpath(self._here(path)) if self.is_local else path, patience)

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A file as a path of this machine, for programs that read only those: one copy for all processes."""
        if self.is_local and not self.staged:
            yield self._here(path)
            return
        size = int(self._do("measuring", path, lambda: self.fs.info(path)["size"]))

        def fetch(copy: Path) -> None:
            scratch.needs_room(copy.parent, size, redacted(path))
            bucket.fetch(self.fs, path, size, copy)

        with scratch.copy_of(path, fetch, size) as copy:
            yield copy


def rows_in(
    file: Any, path: str, columns: Sequence[str] | None = None, where: tuple[str, str, Any] | None = None
) -> pa.Table:
    """Rows of the store's `path`, opened as `file`. DamagedError if they are not what was written."""
    with intact(path):
        filters, names = where and [where], columns and list(columns)
        return pq.read_table(file, columns=names, filters=filters, page_checksum_verification=True)


def open_store(root: str) -> Store:
    """The store at a folder or URL. UsageError if there can be none."""
    store = Store(root if is_url(root) else str(Path(root).absolute()))
    if is_url(root) and str(store) != root:
        raise UsageError(f"the store {store} names credentials: they belong in the environment, not in its URL")
    if is_url(root) and _GLOB.search(root):
        raise UsageError(f"the store {store} cannot be a URL with one of * ? [ ]")
    _ = store.fs
    return store
