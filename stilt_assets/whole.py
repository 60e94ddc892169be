"""
What do the files of a whole pack hold?

An outcome of each of its pixels, with the sizes of its other files, and the rows that each pixel made.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stilt_assets.errors import DamagedError, StoreError
from stilt_assets.faults import in_words
from stilt_assets.simulation import Status
from stilt_assets.store import Store, rows_in
from stilt_assets.table import Arrays, read_outcomes_file

PARTICLES = ("trajectories", "endpoints")  # kinds of files that hold them


@dataclass(frozen=True)
class Files:
    """Files of a pack by kind, on this machine: their places in the store, and here."""

    places: Mapping[str, tuple[str, Path]]

    def rows(self, kind: str, pixel: int) -> Arrays:
        """What one pixel made, by column. DamagedError if its rows are not what was written."""
        path, here = self.places[kind]
        by = "row" if kind == "cells" else "pixel"
        with there(path), in_words("reading", path), here.open("rb") as file:
            table = rows_in(file, path, where=(by, "==", pixel))
        return {name: table[name].to_numpy() for name in table.column_names if name != by}

    def particles(self, pixel: int) -> tuple[Arrays, Arrays] | None:
        """A pixel's particles and their releases; None if the files do not hold them, whole."""
        try:
            kept, ends = (self.rows(kind, pixel) for kind in PARTICLES)
        except DamagedError:
            return None
        names = ("particle", "release_height", "release_pressure", "weight", "surface_pressure")
        return (kept, {name: ends[name] for name in names}) if len(kept["age"]) else None


@dataclass(frozen=True)
class Before:
    """What a pack's pixels made before some of them run again."""

    outcomes: Mapping[int, dict[str, Any]]  # by pixel
    files: Files | None  # None if one of them is gone

    def made(self, pixel: int) -> tuple[dict[str, Any], dict[str, Arrays]] | None:
        """A pixel's outcome and its columns by kind; None if they are not known. DamagedError as `rows`."""
        row = self.outcomes.get(pixel)
        if row is None:
            return None
        if row["status"] == Status.failed.name:
            return row, {}
        return self.files and (row, {kind: self.files.rows(kind, pixel) for kind in self.files.places})


@contextmanager
def before(store: Store, outcomes: str, paths: Mapping[str, str]) -> Iterator[Before]:
    """What the files of a pack, by kind, and its outcomes hold, as far as they are sound, for the length of a block."""
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        files = None
        with suppress(DamagedError):
            rows = outcomes_at(store, outcomes)
            files = stack.enter_context(lent(store, paths))
        yield Before({row["pixel"]: row for row in rows}, files)


@contextmanager
def lent(store: Store, paths: Mapping[str, str]) -> Iterator[Files]:
    """Files of a pack, by kind, for the length of a block. DamagedError if one is gone."""
    with ExitStack() as stack:
        places = {}
        for kind, path in paths.items():
            with there(path):
                places[kind] = (path, stack.enter_context(store.local(path)))
        yield Files(places)


@contextmanager
def there(path: str) -> Iterator[None]:
    """A file that is gone is damaged: somebody else takes packs apart, too."""
    try:
        yield
    except StoreError as error:
        if error.reason != "not_found":
            raise
        raise DamagedError(f"{path} is gone", path) from error


def outcomes_at(store: Store, path: str) -> list[dict[str, Any]]:
    """Outcomes of a pack. DamagedError if they are gone or not what was written."""
    with there(path):
        return read_outcomes_file(store.read(path), path)[0]


def rows_if_whole(
    path: str, content: bytes | None, pixels: Iterable[int], sizes: Mapping[str, int | None]
) -> list[dict[str, Any]] | None:
    """Outcomes that a file holds, if they are of these pixels and of files in these sizes; None otherwise."""
    if content is None:
        return None
    try:
        rows, expected = read_outcomes_file(content, path)
    except DamagedError:
        return None
    return rows if [row["pixel"] for row in rows] == list(pixels) and expected == sizes else None


def read_outcomes(store: Store, footprints: str, *, sound_only: bool = False) -> list[dict[str, Any]]:
    """
    Outcomes of all packs that have some, as plain rows, in the order of their pixels.

    DamagedError if a file is damaged or goes while it is read; with `sound_only` it is passed over.
    """
    rows: list[dict[str, Any]] = []
    paths = store.packs(footprints, "outcomes")
    contents = store.read_many(paths, as_far_as_there=True)
    for path in paths:
        try:
            if path not in contents:
                raise DamagedError(f"{path} is gone", path)
            rows += read_outcomes_file(contents[path], path)[0]
        except DamagedError:
            if not sound_only:
                raise
    return sorted(rows, key=lambda row: row["pixel"])


def summary_of(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and sums of outcomes: JSON values."""
    by_status = {status.name: sum(row["status"] == status.name for row in outcomes) for status in Status if status}
    reasons = sorted({row["reason"] for row in outcomes if row["reason"]})
    return {
        "pixels": len(outcomes),
        **by_status,
        "reasons": {reason: sum(row["reason"] == reason for row in outcomes) for reason in reasons},
        "particles": sum(row["particles"] for row in outcomes),
        "seconds": round(math.fsum(row["seconds"] for row in outcomes), 1),
    }
