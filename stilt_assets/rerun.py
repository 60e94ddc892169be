"""
What do some pixels of a scene say if they run once more, with one model?

What their particles say stays with the scene's footprints, and needs the particles themselves no more. All of it lies
in folders of the guard, below the scene's.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stilt_assets.agreement import PLACES, Sample, sample_of
from stilt_assets.errors import DamagedError, StoreError
from stilt_assets.footprint import UNITS
from stilt_assets.pack import Packs
from stilt_assets.pixel import Workplace
from stilt_assets.progress import Progress
from stilt_assets.reasons import is_transient
from stilt_assets.scene import digest
from stilt_assets.simulation import Status
from stilt_assets.whole import Files
from stilt_assets.workers import Share, run_packs

FOLDER = "guard"
_PACK = 256  # pixels
_UNITS = {"foot": UNITS, "lon": "degrees_east", "lat": "degrees_north", "zagl": "m"}
_TOLD = pa.schema(  # a row for each pixel; `foot` is (particle, hour back), row by row
    [("pixel", pa.int32()), ("status", pa.string()), ("reason", pa.string()), ("row_sum", pa.float64())]
    + [pa.field(name, pa.list_(pa.float64()), metadata={"units": unit}) for name, unit in _UNITS.items()]
)


@dataclass(frozen=True)
class Told:
    """What one model said of a pixel."""

    outcome: Mapping[str, Any]  # its status, reason and row_sum
    sample: Sample | None  # None of a pixel that failed


def is_lost(outcome: Mapping[str, Any]) -> bool:
    """Whether a pixel failed."""
    return outcome["status"] == Status.failed.name


def by_chance(outcome: Mapping[str, Any]) -> bool:
    """Whether an outcome says nothing of the model."""
    return bool(outcome["reason"]) and is_transient(outcome["reason"])


class Rerun:
    """
    Pixels moved by one model, some today and some more another time: none runs twice.

    Those of one time are cut into packs; a pack whose pixels have told all is one file of `_TOLD`.
    """

    def __init__(self, transport: str, packs: Packs) -> None:
        name = digest(transport)[:12]
        particles, footprints = (packs.store.file(home, FOLDER, name) for home in (packs.particles, packs.footprints))
        self.transport, self.store = transport, packs.store
        self.packs = Packs(packs.store, particles, footprints, "core")

    def left(self, drawn: Sequence[int], *, again: bool) -> tuple[int, int]:
        """How many pixels `run` would move, and how many of kept particles it would only grid."""
        members = self._members(drawn, again)
        whole = self.packs.whole(members)
        waiting = self.packs.left({number: part.tolist() for number, part in members.items() if number not in whole})
        keepers = self.packs.keepers(waiting) if waiting else {}
        gridded = sum(len(waiting[number] & self._kept(folder, number)) for number, folder in keepers.items())
        return sum(map(len, waiting.values())) - gridded, gridded

    def run(
        self,
        drawn: Sequence[int],
        work: Workplace,
        share: Share,
        files: int | None,
        tell: Callable[[Progress], None],
        stopped: Callable[[], bool],
        *,
        again: bool,
    ) -> None:
        """Have all drawn pixels told, and `again` those lost by chance. `work` and `share` are the scene's."""
        members = self._members(drawn, again)
        if not members:
            return
        work = replace(work, packs=self.packs, simulation=replace(work.simulation, transport=self.transport))
        share = replace(share, packs=members, whole=frozenset(self.packs.whole(members)))
        self.store.remove_files([self._place(number) for number in members])  # what is there is damaged
        try:
            run_packs(work, share, files, tell, stopped)
            for number, part in members.items():
                self._tell(number, part.tolist(), work, share)
        except DamagedError as error:  # of files that are not the scene's, which is to stay as it is
            self.store.remove_files([self.packs.file(number, "outcomes") for number in members])
            raise StoreError(str(error), "damaged") from error
        self._clear(members)

    def told(self, drawn: Sequence[int]) -> dict[int, Told]:
        """What each drawn pixel said. StoreError if one has not run."""
        found = {}
        for table in self._tables().values():
            plain = table.select(["pixel", "status", "reason", "row_sum"]).to_pylist()
            found |= {row["pixel"]: Told(row, _sample(table, n, row)) for n, row in enumerate(plain)}
        if missing := set(drawn) - set(found):
            raise StoreError(f"{self.packs.footprints} lacks {len(missing)} of its pixels: run again", "damaged")
        return {pixel: found[pixel] for pixel in drawn}

    def _members(self, drawn: Sequence[int], again: bool) -> dict[int, np.ndarray]:
        """Pixels that are still to tell, in packs by numbers that are free."""
        tables = self._tables("pixel", "reason")
        rows = {row["pixel"]: row for table in tables.values() for row in table.to_pylist()}
        left = [pixel for pixel in drawn if pixel not in rows or (again and by_chance(rows[pixel]))]
        parts = np.array_split(np.array(left, "i8"), math.ceil(len(left) / _PACK)) if left else []
        return dict(zip((number for number in count() if number not in tables), parts, strict=False))

    def _tables(self, *columns: str) -> dict[int, pa.Table]:
        """Files of what was told that are sound, by number; the later says more of a pixel."""
        found = {}
        for name in self.store.names(self.store.file(self.packs.footprints, "told")):
            number = int(name.removesuffix(".parquet"))
            try:
                found[number] = self.store.table(self._place(number), columns or None)
            except DamagedError:  # its pixels run again
                continue
        return found

    def _place(self, number: int) -> str:
        return self.store.file(self.packs.footprints, "told", f"{number:05d}.parquet")

    def _kept(self, folder: str, number: int) -> set[int]:
        """Pixels of a pack whose particles a folder keeps."""
        try:
            return set(self.store.table(self.store.pack(folder, number, "endpoints"), ["pixel"])["pixel"].to_pylist())
        except DamagedError:
            return set()

    def _tell(self, number: int, pixels: Sequence[int], work: Workplace, share: Share) -> None:
        if self.store.exists(self._place(number)):  # another process was faster
            return
        rows = self.packs.whole({number: pixels}).get(number)
        if rows is None:
            path = self.packs.file(number, "outcomes")
            raise DamagedError(f"{path} is not whole: run again", path)
        content = io.BytesIO()
        with self.packs.lent(self.packs.particles, number) as files:
            told = [_row(row, self._found(row, number, files, work, share)) for row in rows]
        pq.write_table(
            pa.Table.from_pylist(told, schema=_TOLD),
            content,
            compression="zstd",
            use_dictionary=False,
            write_page_checksum=True,
        )
        self.store.write(self._place(number), content.getvalue())

    def _found(self, row: Mapping[str, Any], number: int, files: Files, work: Workplace, share: Share) -> Sample | None:
        if is_lost(row):
            return None
        pixel = row["pixel"]
        particles = files.particles(pixel)
        if particles is None:
            path = self.packs.file(number, "trajectories")
            raise DamagedError(f"{path} lacks pixel {pixel}: run again", path)
        return sample_of(*particles, share.kernels[pixel], work.grid, work.simulation.hours_back)

    def _clear(self, numbers: Mapping[int, Any]) -> None:
        """Take away what nobody needs of packs that have told all; their particles, of use on a new grid, stay."""
        footprints = self.packs.footprints
        self.store.remove(self.store.unfinished(footprints))
        self.store.remove(self.store.file(footprints, "outcomes"))
        self.store.remove_files([self.packs.file(number, "cells") for number in numbers])


def _row(outcome: Mapping[str, Any], sample: Sample | None) -> dict[str, Any]:
    parts = {"foot": sample.foot.ravel(), **sample.places} if sample else {}
    return {name: outcome[name] for name in ("pixel", "status", "reason", "row_sum")} | parts


def _sample(table: pa.Table, row: int, outcome: Mapping[str, Any]) -> Sample | None:
    if is_lost(outcome):
        return None
    foot, *places = (table[name][row].values.to_numpy() for name in ("foot", *PLACES))
    return Sample(foot.reshape(len(places[0]), -1), dict(zip(PLACES, places, strict=True)))
