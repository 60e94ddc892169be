"""
How is what the pixels of a pack made kept?

A pack is up to 256 pixels that lie near each other: the unit of work and of files. What finished pixels made lies
aside until the last one has its outcome; then the pack's files appear. Whoever writes a file twice writes the same.
"""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stilt_assets.bucket import AT_ONCE
from stilt_assets.errors import DamagedError
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
    unpacked,
)
from stilt_assets.whole import PARTICLES, Before, Files, before, lent, rows_if_whole

Made = tuple[dict[str, Any], dict[str, Arrays]]  # an outcome as a plain row, and columns by kind of file
_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, RuntimeError, struct.error)
_HOURS_PER_GROUP = 6
_BEGUN = re.compile(r"(?:pack|again)=(\d+)(?:\.json)?")
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
        return (*PARTICLES, "cells") if self.keep != "endpoints" else ("endpoints", "cells")

    def file(self, number: int, kind: str) -> str:
        """A pack's file of one kind."""
        folder = self.particles if kind in PARTICLES else self.footprints
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
        self.store.write(self._pixel(number, outcome.pixel), content.getvalue())

    def _pixel(self, number: int, pixel: int) -> str:
        return self._aside(number, f"pixel={pixel:07d}.npz")

    def _picked_up(self, path: str, data: bytes | None) -> Made:
        if data is None:
            raise DamagedError(f"{path} is gone", path)
        with intact(path, *_DAMAGE), np.load(io.BytesIO(data)) as content:
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
        asked = {
            number: self.file(number, "outcomes")
            for number in members
            if _name(self.file(number, "outcomes")) in there and _name(self._again(number)) not in opened
        }
        contents = store.read_many(asked.values(), as_far_as_there=True)
        found: dict[int, list[dict[str, Any]]] = {}
        for number, path in asked.items():
            rows = rows_if_whole(
                path, contents.get(path), members[number], {kind: sizes[kind].get(_name(path)) for kind in self.kinds}
            )
            if rows is not None:
                found[number] = rows
        return found

    def is_whole(self, number: int, pixels: Iterable[int]) -> bool:
        """Whether a pack is whole, as its own files say: one request, of a pack that nobody has finished."""
        path = self.file(number, "outcomes")
        content = self.store.read_if_there(path)
        if content is None or self.store.read_if_there(self._again(number)) is not None:
            return False
        sizes = {kind: self.store.sizes(self._folder(kind)).get(_name(path)) for kind in self.kinds}
        return rows_if_whole(path, content, pixels, sizes) is not None

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
        content = self.store.read_if_there(path)
        if content is None:
            return None
        try:
            with intact(path, ValueError, TypeError):
                return {int(pixel) for pixel in json.loads(content)}
        except DamagedError:
            return None

    def _left(self, number: int, members: Sequence[int], again: set[int] | None) -> set[int]:
        return (set(members) if again is None else again & set(members)) - self.aside(number)

    def left(self, members: Mapping[int, Sequence[int]]) -> dict[int, set[int]]:
        """Pixels that must run of packs that are not whole, by number; only packs that were begun are looked into."""
        begun = self.begun()
        return {
            number: self._left(number, pixels, self._to_run_again(number)) if number in begun else set(pixels)
            for number, pixels in members.items()
        }

    def begun(self) -> set[int]:
        """Numbers of packs that are not whole and of which something lies aside, in one listing."""
        names = self.store.names(self.store.unfinished(self.footprints))
        return {int(found[1]) for name in names if (found := _BEGUN.fullmatch(name))}

    def open(self, number: int, members: Sequence[int], *, begun: bool = True) -> set[int]:
        """
        Pixels of a pack that is not whole which must run; of what is damaged nothing is left.

        Nobody looks what lies aside of a pack that was not `begun`.
        """
        again = self._to_run_again(number) if begun else None
        if again is None:
            # if the outcomes are there, the pack is damaged
            self.store.remove_files([self._again(number), self.file(number, "outcomes")])
        return self._left(number, members, again) if begun else set(members)

    def finish(self, number: int, members: Sequence[int]) -> set[int]:
        """
        Write the files of a pack whose pixels all have an outcome; the outcomes last: they say that it is whole.

        Pixels whose files are damaged are returned instead; they must run again first.
        """
        aside, damaged = self.aside(number), set[int]()
        sheets = {kind: Parquet(self._schema(kind)) for kind in self.kinds}
        outcomes = []
        for pixel, made in self._all_made(number, members, aside):
            if made is None:
                damaged.add(pixel)
                continue
            outcomes.append(made[0])
            for kind, columns in made[1].items():
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
        self._clear(number, aside)
        return set()

    def _clear(self, number: int, aside: Iterable[int]) -> None:
        """Take away what lay aside of a pack that is whole now."""
        if self.store.is_local:
            self.store.remove(self._again(number))  # first: with it alone its pixels would run again
            self.store.remove(self._aside(number))
        else:
            self.store.remove_files([self._again(number)])
            self.store.remove_files([self._pixel(number, pixel) for pixel in aside])

    def _all_made(self, number: int, members: Sequence[int], aside: set[int]) -> Iterator[tuple[int, Made | None]]:
        """What each pixel made: aside, or in the pack's files of before; None if that is damaged."""
        with ExitStack() as stack:
            old = None if set(members) <= aside else stack.enter_context(self._before(number))
            for start in range(0, len(members), AT_ONCE):
                part = members[start : start + AT_ONCE]
                paths = {pixel: self._pixel(number, pixel) for pixel in part if pixel in aside}
                contents = self.store.read_many(paths.values(), as_far_as_there=True)
                for pixel in part:
                    try:
                        if pixel in paths:
                            yield pixel, self._picked_up(paths[pixel], contents.get(paths[pixel]))
                        else:
                            yield pixel, old.made(pixel) if old else None
                    except DamagedError:
                        yield pixel, None

    def _schema(self, kind: str) -> Any:
        return {"cells": CELLS, "endpoints": ENDPOINTS, "trajectories": TRAJECTORIES.get(self.keep)}[kind]

    def _before(self, number: int) -> AbstractContextManager[Before]:
        return before(self.store, self.file(number, "outcomes"), {kind: self.file(number, kind) for kind in self.kinds})

    def _forget(self, number: int, damaged: set[int], aside: set[int]) -> None:
        """See that damaged pixels run again."""
        for pixel in damaged & aside:
            self.store.remove(self._pixel(number, pixel))
        if damaged - aside:
            known = self._to_run_again(number) or set()
            self.store.write(self._again(number), json.dumps(sorted(damaged | known)).encode())

    # ---- particles that are kept

    def keepers(self, numbers: Iterable[int]) -> dict[int, str]:
        """The folders that hold particles for every minute, by number of the pack, of those packs that have one."""
        found: dict[int, str] = {}
        for folder in (self.particles, *self.kept_from):
            each = [set(self.store.names(self.store.file(folder, kind))) for kind in PARTICLES]
            names = set.intersection(*each)
            found |= {n: folder for n in numbers if n not in found and _name(self.file(n, "outcomes")) in names}
        return found

    def lent(self, folder: str, number: int) -> AbstractContextManager[Files]:
        """The particles of a pack that `folder` keeps, on this machine. DamagedError if they are gone."""
        return lent(self.store, {kind: self.store.pack(folder, number, kind) for kind in PARTICLES})

    def kept_particles(self, folder: str, number: int, pixel: int) -> tuple[Arrays, Arrays] | None:
        """A pixel's particles and releases as `folder` keeps them; None if it does not."""
        try:
            with self.lent(folder, number) as files:
                return files.particles(pixel)
        except DamagedError:
            return None


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _add(sheet: Parquet, kind: str, pixel: int, columns: Arrays) -> None:
    if kind != "trajectories":
        sheet.add(pixel, columns)
        return
    group = (-columns["age"].astype(int) - 1) // 60 // _HOURS_PER_GROUP
    for each in np.unique(group):
        sheet.add(pixel, columns, np.flatnonzero(group == each))
