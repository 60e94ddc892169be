"""
How is what the pixels of a pack made kept?

A pack is up to 256 pixels that lie near each other: the unit of work and of files. What finished pixels made lies
aside until the last one has its outcome; then the pack's files appear. Whoever writes a file twice writes the same.
"""

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stilt_assets.errors import DamagedError, StoreError
from stilt_assets.faults import intact
from stilt_assets.particles import CORE, FULL
from stilt_assets.simulation import Outcome, Simulation, Status
from stilt_assets.store import Store
from stilt_assets.table import (
    CELLS,
    ENDPOINTS,
    TRAJECTORIES,
    Arrays,
    Parquet,
    outcomes_file,
    packed,
    read_outcomes_file,
    unpacked,
)

Made = tuple[dict[str, Any], dict[str, Arrays]]  # an outcome as a plain row, and columns by kind of file
_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, RuntimeError, struct.error)
_HOURS_PER_GROUP = 6
_PACKED = 3  # times that a column is smaller than in memory, aside and in its file together; 4 to 5 were measured
_BYTES_PER_END = 100  # of a particle in the endpoints and of the cells that it reaches


@dataclass(frozen=True)
class Packs:
    """Where the packs of a scene keep what they made."""

    store: Store
    particles: str  # folder in the store
    footprints: str  # folder in the store
    keep: str  # full, core or endpoints
    kept_from: Sequence[str] = ()  # folders of the same particles, cut into the same packs

    @property
    def kinds(self) -> tuple[str, ...]:
        """What a pack's files hold, its outcomes aside."""
        return ("trajectories", "endpoints", "cells") if self.keep != "endpoints" else ("endpoints", "cells")

    def file(self, number: int, kind: str) -> str:
        """A pack's file of one kind."""
        folder = self.particles if kind in ("trajectories", "endpoints") else self.footprints
        return self.store.pack(folder, number, *(() if kind == "cells" else (kind,)))

    def _folder(self, kind: str) -> str:
        return self.file(0, kind).rsplit("/", 1)[0]

    # ---- pixels of packs that are not whole

    def _aside(self, number: int, *names: str) -> str:
        return self.store.unfinished(self.footprints, f"pack={number:05d}", *names)

    def put_aside(self, number: int, outcome: Outcome, made: Mapping[str, Arrays]) -> None:
        """Keep what a pixel made until its pack is whole."""
        arrays = {
            f"{table}.{name}.{values.dtype.str}": packed(values)
            for table, columns in made.items()
            for name, values in columns.items()
        }
        content = io.BytesIO()
        np.savez(content, outcome=np.array(json.dumps(asdict(outcome))), **arrays)  # pyright: ignore[reportArgumentType]
        self.store.write(self._aside(number, f"pixel={outcome.pixel:07d}.npz"), content.getvalue())

    def _pick_up(self, number: int, pixel: int) -> Made:
        path = self._aside(number, f"pixel={pixel:07d}.npz")
        with _there(path), intact(path, *_DAMAGE), np.load(io.BytesIO(self.store.read(path))) as content:
            outcome = json.loads(str(content["outcome"]))
            made: dict[str, Arrays] = {}
            for table, column, kind in (name.split(".") for name in content.files if "." in name):
                made.setdefault(table, {})[column] = unpacked(content[f"{table}.{column}.{kind}"], kind)
        return outcome | {"status": Status(outcome["status"]).name}, made

    def aside(self, number: int) -> set[int]:
        """Pixels of a pack that lie aside."""
        names = self.store.names(self._aside(number))
        return {int(name.removeprefix("pixel=").removesuffix(".npz")) for name in names if name.startswith("pixel=")}

    # ---- packs

    def needs_room(self, pixels: int, simulation: Simulation) -> None:
        """DiskFullError unless the disk of the store, if it is one, holds what so many pixels make."""
        per_row = sum(np.dtype(kind).itemsize for kind in {"core": CORE, "full": FULL}.get(self.keep, {}).values())
        rows = simulation.particles * simulation.hours_back * 60
        self.store.needs_room(
            self.footprints, pixels * (rows * per_row // _PACKED + simulation.particles * _BYTES_PER_END)
        )

    def whole(self, members: Mapping[int, Iterable[int]]) -> dict[int, list[dict[str, Any]]]:
        """
        Outcomes of those packs that are whole, by number; `members` are the pixels of each pack that is asked for.

        A whole pack has an outcome of each member, and its files in the size that was written.
        """
        store = self.store
        there = set(store.names(self._folder("outcomes")))
        opened = set(store.names(store.unfinished(self.footprints))) if there else set()
        sizes = {kind: store.sizes(self._folder(kind)) for kind in self.kinds if there}
        found: dict[int, list[dict[str, Any]]] = {}
        for number, pixels in members.items():
            path = self.file(number, "outcomes")
            name = path.rsplit("/", 1)[-1]
            if name not in there or self._again(number).rsplit("/", 1)[-1] in opened:
                continue
            try:
                rows, expected = _outcomes_at(store, path)
            except DamagedError:
                continue
            if [row["pixel"] for row in rows] == list(pixels) and expected == {
                kind: sizes[kind].get(name) for kind in self.kinds
            }:
                found[number] = rows
        return found

    def forget_all_but(self, numbers: Iterable[int]) -> None:
        """Remove packs that the scene does not have: it was cut in another way once."""
        names = {self.file(number, "outcomes").rsplit("/", 1)[-1] for number in numbers}
        for kind in ("outcomes", *self.kinds):
            folder = self._folder(kind)
            for name in self.store.names(folder):
                if name.startswith("pack=") and name not in names:
                    self.store.remove(self.store.file(folder, name))

    def alone(self, number: int) -> AbstractContextManager[None]:
        """Be the only process of this machine that works on a pack; BusyError if another one does."""
        return self.store.alone(self.file(number, "outcomes"))

    def reopen(self, number: int, pixels: set[int]) -> None:
        """Let pixels of a whole pack run again; what its other pixels made is kept."""
        self.store.remove(self._aside(number))  # a process that was killed may have left it
        self.store.write(self._again(number), json.dumps(sorted(pixels)).encode())

    def _again(self, number: int) -> str:
        return self.store.unfinished(self.footprints, f"again={number:05d}.json")

    def _to_run_again(self, number: int) -> set[int] | None:
        """Pixels of a reopened pack that run again; None if it is not, or if nobody knows any more."""
        path = self._again(number)
        if not self.store.exists(path):
            return None
        try:
            with intact(path, ValueError, TypeError):
                return {int(pixel) for pixel in json.loads(self.store.read(path))}
        except DamagedError:
            return None

    def left(self, number: int, members: Sequence[int]) -> set[int]:
        """Pixels of a pack that is not whole which must run."""
        again = self._to_run_again(number)
        return (set(members) if again is None else again & set(members)) - self.aside(number)

    def open(self, number: int, members: Sequence[int]) -> set[int]:
        """Pixels of a pack that is not whole which must run; of what is damaged nothing is left."""
        if self._to_run_again(number) is None:
            self.store.remove(self._again(number))
            self.store.remove(self.file(number, "outcomes"))  # if it is there, the pack is damaged
        return self.left(number, members)

    def finish(self, number: int, members: Sequence[int]) -> set[int]:
        """
        Write the files of a pack whose pixels all have an outcome; the outcomes last: they say that it is whole.

        Pixels whose files are damaged are returned instead; they must run again first.
        """
        aside, damaged = self.aside(number), set[int]()
        before = {} if set(members) <= aside else self._outcomes_before(number)
        sheets = {kind: Parquet(self._schema(kind)) for kind in self.kinds}
        outcomes = []
        for pixel in members:
            try:
                if pixel in aside:
                    outcome, made = self._pick_up(number, pixel)
                else:
                    outcome, made = self._made_before(before, number, pixel)
            except DamagedError:
                damaged.add(pixel)
                continue
            outcomes.append(outcome)
            for kind, columns in made.items():
                if kind in sheets:
                    _add(sheets[kind], kind, pixel, columns)
        if damaged:
            self._forget(number, damaged, aside)
            return damaged
        contents = {kind: sheets[kind].bytes() for kind in self.kinds}
        for kind, content in contents.items():
            self.store.write(self.file(number, kind), content)
        sizes = {kind: len(content) for kind, content in contents.items()}
        self.store.write(self.file(number, "outcomes"), outcomes_file(outcomes, sizes))
        self.store.remove(self._aside(number))
        self.store.remove(self._again(number))
        return set()

    def _schema(self, kind: str) -> Any:
        return {"cells": CELLS, "endpoints": ENDPOINTS, "trajectories": TRAJECTORIES.get(self.keep)}[kind]

    def _outcomes_before(self, number: int) -> dict[int, dict[str, Any]]:
        try:
            return {row["pixel"]: row for row in _outcomes_at(self.store, self.file(number, "outcomes"))[0]}
        except DamagedError:
            return {}

    def _made_before(self, before: Mapping[int, dict[str, Any]], number: int, pixel: int) -> Made:
        if pixel not in before:
            raise DamagedError(f"{self.file(number, 'outcomes')} lacks pixel {pixel}", self.file(number, "outcomes"))
        if before[pixel]["status"] == Status.failed.name:
            return before[pixel], {}
        return before[pixel], {kind: self._rows_of(self.file(number, kind), kind, pixel) for kind in self.kinds}

    def _forget(self, number: int, damaged: set[int], aside: set[int]) -> None:
        """See that damaged pixels run again."""
        for pixel in damaged & aside:
            self.store.remove(self._aside(number, f"pixel={pixel:07d}.npz"))
        if damaged - aside:
            known = self._to_run_again(number) or set()
            self.store.write(self._again(number), json.dumps(sorted(damaged | known)).encode())

    # ---- particles that are kept

    def keeper(self, number: int) -> str | None:
        """The folder that holds particles of a pack for every minute, if one does."""
        for folder in (self.particles, *self.kept_from):
            if all(self.store.exists(self.store.pack(folder, number, kind)) for kind in ("trajectories", "endpoints")):
                return folder
        return None

    def kept_particles(self, folder: str, number: int, pixel: int) -> tuple[Arrays, Arrays] | None:
        """A pixel's particles and releases as `folder` keeps them; None if it does not."""
        try:
            kept, ends = (
                self._rows_of(self.store.pack(folder, number, kind), kind, pixel)
                for kind in ("trajectories", "endpoints")
            )
        except DamagedError:
            return None
        names = ("particle", "release_height", "release_pressure", "weight", "surface_pressure")
        return (kept, {name: ends[name] for name in names}) if len(kept["age"]) else None

    def _rows_of(self, path: str, kind: str, pixel: int) -> Arrays:
        by = "row" if kind == "cells" else "pixel"
        with _there(path):
            table = self.store.table(path, where=(by, "==", pixel))
        return {name: table[name].to_numpy() for name in table.column_names if name != by}


@contextmanager
def _there(path: str) -> Iterator[None]:
    """A file that is gone is damaged: somebody else takes packs apart, too."""
    try:
        yield
    except StoreError as error:
        if error.reason != "not_found":
            raise
        raise DamagedError(f"{path} is gone", path) from error


def _add(sheet: Parquet, kind: str, pixel: int, columns: Arrays) -> None:
    if kind != "trajectories":
        sheet.add(pixel, columns)
        return
    group = (-columns["age"].astype(int) - 1) // 60 // _HOURS_PER_GROUP
    for each in np.unique(group):
        sheet.add(pixel, columns, np.flatnonzero(group == each))


def _outcomes_at(store: Store, path: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    with _there(path):
        return read_outcomes_file(store.read(path), path)


def read_outcomes(store: Store, footprints: str, *, sound_only: bool = False) -> list[dict[str, Any]]:
    """
    Outcomes of all packs that have some, as plain rows, in the order of their pixels.

    DamagedError if a file is damaged; with `sound_only` it is passed over.
    """
    rows: list[dict[str, Any]] = []
    for path in store.packs(footprints, "outcomes"):
        try:
            rows += _outcomes_at(store, path)[0]
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
