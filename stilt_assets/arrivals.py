"""
Which retrieval files are there, and what became of each?

Files are listed where retrievals arrive, in a folder or an object store. What became of one is noted in the store under
a name made of its place and its stamp: a file that changes is a new arrival.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stilt_assets.errors import DamagedError, StoreError
from stilt_assets.faults import in_words, intact, redacted, steadily
from stilt_assets.filesystem import opened
from stilt_assets.issue import issue_of, name_of
from stilt_assets.scene import digest
from stilt_assets.settings import is_url
from stilt_assets.store import Store

SUFFIXES = (".nc", ".nc4", ".h5", ".he5", ".hdf5")
_FOLDER = "arrivals"


@dataclass(frozen=True)
class Arrival:
    """A file as it was listed."""

    location: str  # path or URL
    size: int  # bytes
    stamp: str  # another one once the content has changed: size and time of a file, ETag of an object
    modified: float | None  # s since 1970; None of an object, which appears whole

    @property
    def id(self) -> str:
        """16 hex digits that stand for this content at this place."""
        return digest(self.location, self.stamp)[:16]

    @property
    def name(self) -> str:
        """The file's name."""
        return name_of(self.location)


@dataclass(frozen=True)
class Note:
    """What became of a file."""

    file: str
    stamp: str
    state: str  # taken in, older, nothing or refused
    why: str = ""  # a line, if it was refused
    sha256: str = ""
    product: str = ""
    keys: Sequence[str] = ()  # of the scenes that it holds
    targets: Mapping[str, Any] | None = None  # what was asked of it: JSON values by target


def listed(retrievals: str) -> list[Arrival]:
    """
    Retrieval files in a folder and its subfolders, in the order of their names.

    StoreError if the folder is not there or a part of it cannot be listed: never half a list.
    """
    if not is_url(retrievals):
        with in_words("listing", retrievals):
            return sorted(_on_disk(Path(retrievals)), key=lambda each: each.location)
    fs = opened(retrievals, "the retrievals")
    found = steadily("listing", retrievals, lambda: fs.find(retrievals, detail=True))
    named = ((fs.unstrip_protocol(name), facts) for name, facts in found.items() if _is_one(name))
    return sorted((_object(url, facts) for url, facts in named), key=lambda each: each.location)


def _is_one(name: str) -> bool:
    """Whether a name is that of a retrieval file; hidden ones are being copied."""
    last = name.rsplit("/", 1)[-1]
    return last.endswith(SUFFIXES) and not last.startswith(".")


def _on_disk(folder: Path) -> Iterator[Arrival]:
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in filter(_is_one, names):
            arrival = again(str(Path(parent, name).absolute()))
            if arrival is not None:
                yield arrival


def _object(url: str, facts: Mapping[str, Any]) -> Arrival:
    mark = facts.get("ETag") or facts.get("etag") or facts.get("md5Hash") or facts.get("mtime") or facts.get("created")
    return Arrival(url, int(facts["size"]), f"{facts['size']}-{str(mark).strip(chr(34))}", None)


def again(location: str) -> Arrival | None:
    """The file at a place as it is now; None if it is gone."""
    if is_url(location):
        fs = opened(location, "the retrieval file")
        try:
            return _object(location, steadily("looking for", location, lambda: fs.info(location)))
        except StoreError as error:
            if error.reason == "not_found":
                return None
            raise
    try:
        facts = Path(location).stat()
    except FileNotFoundError:
        return None
    return Arrival(location, facts.st_size, f"{facts.st_size}-{facts.st_mtime_ns}", facts.st_mtime)


# ---- notes


def noted(store: Store) -> set[str]:
    """Ids of all arrivals that there is a note of."""
    return {name.removesuffix(".json") for name in store.names(store.beside(_FOLDER)) if name.endswith(".json")}


def note(store: Store, arrival: Arrival, kept: Note) -> None:
    """Put down what became of a file."""
    content = json.dumps(asdict(kept), indent=2, ensure_ascii=False) + "\n"
    store.write(store.beside(_FOLDER, f"{arrival.id}.json"), content.encode())


def note_of(store: Store, arrival: Arrival) -> Note | None:
    """What became of a file; None if that is not known."""
    path = store.beside(_FOLDER, f"{arrival.id}.json")
    try:
        with intact(path, TypeError):
            return Note(**store.json(path))
    except DamagedError:
        return None
    except StoreError as error:
        if error.reason != "not_found":
            raise
        return None


def notes_of(store: Store, arrivals: Iterable[Arrival]) -> dict[str, Note]:
    """What became of files, by their ids, as far as that is known."""
    known = noted(store)
    found = {each.id: note_of(store, each) for each in arrivals if each.id in known}
    return {name: each for name, each in found.items() if each is not None}


def newest_first(arrivals: Iterable[Arrival]) -> list[Arrival]:
    """Files by what their names say of when they were measured, the newest first; those that say nothing last."""

    def start(arrival: Arrival) -> tuple[str, str]:
        issue = issue_of(arrival.name)
        return (f"{issue.start:%Y%m%dT%H%M%S}" if issue else "", arrival.location)

    return sorted(arrivals, key=start, reverse=True)


def shown(arrival: Arrival) -> str:
    """A file's place without credentials."""
    return redacted(arrival.location)
