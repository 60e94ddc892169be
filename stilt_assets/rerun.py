"""
What do some pixels of a scene say if they run once more, with one model?

What their particles say stays with the scene's footprints, and needs the particles themselves no more. All of it lies
in folders of the guard, below the scene's.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from stilt_assets.store import rows_in
from stilt_assets.workers import Share, run_packs

FOLDER = "guard"
_PACK = 256  # pixels
_UNITS = {"foot": UNITS, "lon": "degrees_east", "lat": "degrees_north", "zagl": "m"}
_OUTCOME = ("pixel", "status", "reason", "row_sum")
_TOLD = pa.schema(  # one row; `foot` is (particle, hour back), row by row
    [("pixel", pa.int32()), ("status", pa.string()), ("reason", pa.string()), ("row_sum", pa.float64())]
    + [("times", pa.int32())]
    + [pa.field(name, pa.list_(pa.float64()), metadata={"units": unit}) for name, unit in _UNITS.items()]
)


@dataclass(frozen=True)
class Told:
    """What one model said of a pixel."""

    outcome: Mapping[str, Any]  # its status, reason and row_sum
    sample: Sample | None  # None of a pixel that failed
    times: int  # that it has run


def is_lost(outcome: Mapping[str, Any]) -> bool:
    """Whether a pixel failed."""
    return outcome["status"] == Status.failed.name


def by_chance(outcome: Mapping[str, Any]) -> bool:
    """Whether an outcome says nothing of the model."""
    return bool(outcome["reason"]) and is_transient(outcome["reason"])


class Rerun:
    """
    Pixels moved by one model, some today and some more another time: what has told does not run again.

    Those of one time are cut into packs, in a folder that their numbers name; what a pixel tells is a file of `_TOLD`.
    """

    def __init__(self, transport: str, packs: Packs, files: int | None = None) -> None:
        """Below the folders of the scene's packs, with `files` for pixels that lie aside at most."""
        name = digest(transport)[:12]
        self.transport, self.store, self.files = transport, packs.store, files
        self._particles, self._footprints = (
            self.store.file(home, FOLDER, name) for home in (packs.particles, packs.footprints)
        )

    def left(self, drawn: Sequence[int], *, again: bool) -> tuple[int, int]:
        """How many pixels `run` would move, and how many of kept particles it would only grid."""
        packs, members, _ = self._cut(drawn, again)
        whole = packs.whole(members)
        waiting = packs.left({number: part.tolist() for number, part in members.items() if number not in whole})
        gridded = sum(len(waiting[number]) for number in (packs.keepers(waiting) if waiting else ()))
        return sum(map(len, waiting.values())) - gridded, gridded

    def run(
        self,
        drawn: Sequence[int],
        work: Workplace,
        share: Share,
        tell: Callable[[Progress], None],
        stopped: Callable[[], bool],
        *,
        again: bool,
    ) -> None:
        """Have all drawn pixels told, and `again` those lost by chance. `work` and `share` are the scene's."""
        packs, members, times = self._cut(drawn, again)
        if not members:
            return
        work = replace(work, packs=packs, simulation=replace(work.simulation, transport=self.transport))
        share = replace(share, packs=members, whole=frozenset(packs.whole(members)))
        run_packs(work, share, self.files, tell, stopped)
        try:
            for number, part in members.items():
                self._tell(number, part.tolist(), times, work, share)
        except DamagedError as error:  # of files that are not the scene's, which is to stay as it is
            if self._silent(times):
                self.store.remove_files([packs.file(number, "outcomes") for number in members])
                raise StoreError(str(error), "damaged") from error

    def told(self, drawn: Sequence[int]) -> dict[int, Told]:
        """What each drawn pixel said. StoreError if one has not run."""
        found = self._found(drawn)
        if missing := set(drawn) - set(found):
            raise StoreError(f"{self._footprints} lacks {len(missing)} of its pixels: run again", "damaged")
        return found

    def _cut(self, drawn: Sequence[int], again: bool) -> tuple[Packs, dict[int, np.ndarray], dict[int, int]]:
        """Pixels that are still to tell, in packs, and how many times each has run."""
        found = self._found(drawn)
        left = [pixel for pixel in drawn if pixel not in found or (again and by_chance(found[pixel].outcome))]
        times = {pixel: found[pixel].times if pixel in found else 0 for pixel in left}
        name = digest(*(f"{pixel} {count}" for pixel, count in times.items()))[:12]
        particles, footprints = (self.store.file(home, name) for home in (self._particles, self._footprints))
        parts = math.ceil(len(left) / min(_PACK, self.files or _PACK))
        members = dict(enumerate(np.array_split(np.array(left, "i8"), parts))) if left else {}
        return Packs(self.store, particles, footprints, "core"), members, times

    def _silent(self, times: Mapping[int, int]) -> list[int]:
        """Pixels that have told nothing since they had run so many times."""
        found = self._found(list(times))
        return [pixel for pixel, count in times.items() if pixel not in found or found[pixel].times <= count]

    def _found(self, pixels: Sequence[int]) -> dict[int, Told]:
        """What was told and is sound, by pixel in their order."""
        there = set(self.store.names(self.store.file(self._footprints, "told")))
        paths = {pixel: path for pixel in pixels if (path := self._place(pixel)).rsplit("/", 1)[-1] in there}
        contents = self.store.read_many(paths.values(), as_far_as_there=True)
        found = {}
        for pixel, path in paths.items():
            try:
                found[pixel] = _told(rows_in(io.BytesIO(contents[path]), path))
            except (DamagedError, KeyError):  # it runs again; or somebody took it away meanwhile
                continue
        return found

    def _place(self, pixel: int) -> str:
        return self.store.file(self._footprints, "told", f"pixel={pixel:07d}.parquet")

    def _tell(
        self, number: int, pixels: Sequence[int], times: Mapping[int, int], work: Workplace, share: Share
    ) -> None:
        """Write what the pixels of a whole pack say, unless another process has done so."""
        silent = self._silent({pixel: times[pixel] for pixel in pixels})
        if not silent:
            return
        path = work.packs.file(number, "outcomes")
        rows = {row["pixel"]: row for row in work.packs.whole({number: pixels}).get(number, [])}
        with work.packs.lent(work.packs.particles, number) as files:
            for pixel in silent:
                if pixel not in rows:
                    raise DamagedError(f"{path} lacks pixel {pixel}: run again", path)
                sample = None
                if not is_lost(rows[pixel]):
                    particles = files.particles(pixel)
                    if particles is None:
                        raise DamagedError(f"{path} has no particles of pixel {pixel}: run again", path)
                    sample = sample_of(*particles, share.kernels[pixel], work.grid, work.simulation.hours_back)
                self.store.write(self._place(pixel), _content(rows[pixel], times[pixel] + 1, sample))


def _content(outcome: Mapping[str, Any], times: int, sample: Sample | None) -> bytes:
    said = {"foot": sample.foot.ravel(), **sample.places} if sample else {}
    row = {name: outcome[name] for name in _OUTCOME} | {"times": times} | said
    content = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist([row], schema=_TOLD),
        content,
        compression="zstd",
        use_dictionary=False,
        write_page_checksum=True,
    )
    return content.getvalue()


def _told(table: pa.Table) -> Told:
    (row,) = table.select([*_OUTCOME, "times"]).to_pylist()
    outcome = {name: row[name] for name in _OUTCOME}
    if is_lost(outcome):
        return Told(outcome, None, row["times"])
    foot, *places = (table[name][0].values.to_numpy() for name in ("foot", *PLACES))
    sample = Sample(foot.reshape(len(places[0]), -1), dict(zip(PLACES, places, strict=True)))
    return Told(outcome, sample, row["times"])
