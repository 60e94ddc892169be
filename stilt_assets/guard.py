"""
Does a slower model that is trusted agree with the particles of a scene?

A few pixels, drawn by the particles' own id, run once more with both models; what they say is compared as two runs of
one model would be. All of it lies below the scene's particles and footprints.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from stilt_assets.agreement import Judgement, Sample, judge, sample_of
from stilt_assets.errors import CannotExecuteError, DamagedError
from stilt_assets.pack import Packs
from stilt_assets.pixel import Workplace
from stilt_assets.progress import Progress
from stilt_assets.reasons import is_transient
from stilt_assets.scene import digest
from stilt_assets.simulation import Status
from stilt_assets.store import Store
from stilt_assets.workers import Share, run_packs

_FOLDER, _JUDGEMENT = "guard", "judgement.json"
_PACK = 256  # pixels
_SAME = 1e-5  # relative, of the sums of a row that one model made twice


@dataclass(frozen=True)
class Guard:
    """What is compared with what."""

    particles: str  # id of the scene's particles
    reference: str  # the transport model that is trusted
    share: float  # of the scene's pixels
    at_least: int  # pixels

    def count(self, of: int) -> int:
        """How many of so many pixels are drawn."""
        return min(of, max(self.at_least, math.ceil(self.share * of)))

    def draw(self, of: int) -> list[int]:
        """Some of a scene's pixels 0 to `of` - 1, rising: always the same ones for the same particles."""
        return sorted(sorted(range(of), key=lambda pixel: digest(self.particles, str(pixel)))[: self.count(of)])


def compare(
    guard: Guard,
    work: Workplace,
    share: Share,
    files: int | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Judgement:
    """
    Run the drawn pixels once more with both models, and judge; the judgement stays with the scene's footprints.

    `work` and `share` are the scene's own. What ran before is not run again. `tell` hears how far the one model is,
    then the other. StoppedError when `stopped` says so.
    """
    drawn = guard.draw(len(share.receptors))
    try:
        theirs = _Rerun(guard.reference, drawn, work, share).run(files, tell, stopped)
    except CannotExecuteError as error:
        judgement = Judgement(False, f"{guard.reference} could not be asked: {error}", {"pixels": 0})
    else:
        ours = _Rerun(work.simulation.transport, drawn, work, share).run(files, tell, stopped)
        judgement = _judged(_outcomes(work.packs, share.packs, drawn), ours, theirs)
    content = asdict(judgement) | {"drawn": drawn, "reference": guard.reference}
    work.packs.store.write(_place(work.packs.store, work.packs.footprints), (json.dumps(content) + "\n").encode())
    return judgement


def judgement_of(store: Store, footprints: str) -> Judgement | None:
    """What the guard said of a scene's footprints; None if it was not asked. DamagedError if it cannot be read."""
    path = _place(store, footprints)
    if not store.exists(path):
        return None
    content = store.json(path, "agrees", "line", "numbers")
    return Judgement(content["agrees"], content["line"], content["numbers"])


def left_to_run(guard: Guard, transport: str, packs: Packs, pixels: int) -> dict[str, int]:
    """
    Pixels that each model, the scene's `transport` too, has still to run before the guard can judge.

    `packs` are the scene's, of so many pixels; nothing is left once it has judged.
    """
    try:
        if judgement_of(packs.store, packs.footprints):
            return {}
    except DamagedError:  # it judges once more, by what has run
        pass
    drawn = guard.draw(pixels)
    members, left = _cut(drawn), dict[str, int]()
    for model in (guard.reference, transport):
        whole = _packs_of(model, drawn, packs).whole(members)
        left[model] = sum(len(part) for number, part in members.items() if number not in whole)
    return left


def _cut(drawn: Sequence[int]) -> dict[int, np.ndarray]:
    return dict(enumerate(np.array_split(np.array(drawn, "i8"), max(math.ceil(len(drawn) / _PACK), 1))))


def _packs_of(transport: str, drawn: Sequence[int], packs: Packs) -> Packs:
    """Where the guard's packs of a model lie: below those of the scene."""
    name = digest(transport, *map(str, drawn))[:12]
    particles, footprints = (packs.store.file(home, _FOLDER, name) for home in (packs.particles, packs.footprints))
    return Packs(packs.store, particles, footprints, "core")


def _place(store: Store, footprints: str) -> str:
    return store.file(footprints, _FOLDER, _JUDGEMENT)


class _Rerun:
    """Drawn pixels, moved by one model."""

    def __init__(self, transport: str, drawn: Sequence[int], work: Workplace, share: Share) -> None:
        self.members = _cut(drawn)
        self.number = {pixel: number for number, part in self.members.items() for pixel in part.tolist()}
        self.packs = _packs_of(transport, drawn, work.packs)
        self.work = replace(work, packs=self.packs, simulation=replace(work.simulation, transport=transport))
        self.share = replace(share, packs=self.members, whole=frozenset(self.packs.whole(self.members)))

    def run(self, files: int | None, tell: Callable[[Progress], None], stopped: Callable[[], bool]) -> "_Rerun":
        """Itself, once all its pixels have an outcome."""
        run_packs(self.work, self.share, files, tell, stopped)
        self.packs.store.remove(self.packs.store.unfinished(self.packs.footprints))
        return self

    def outcomes(self) -> dict[int, Mapping[str, Any]]:
        """Outcomes by pixel."""
        return _outcomes(self.packs, self.members, self.number)

    def sample(self, pixel: int) -> Sample:
        """What a pixel's particles say. DamagedError if they are not there."""
        number = self.number[pixel]
        found = self.packs.kept_particles(self.packs.particles, number, pixel)
        if found is None:
            path = self.packs.file(number, "trajectories")
            raise DamagedError(f"{path} lacks pixel {pixel}: run again", path)
        return sample_of(*found, self.share.kernels[pixel], self.work.grid, self.work.simulation.hours_back)


def _outcomes(
    packs: Packs, members: Mapping[int, np.ndarray], pixels: Sequence[int] | Mapping[int, int]
) -> dict[int, Mapping[str, Any]]:
    """Outcomes of some pixels, by pixel."""
    numbers = {number: part for number, part in members.items() if any(pixel in pixels for pixel in part.tolist())}
    return {row["pixel"]: row for rows in packs.whole(numbers).values() for row in rows if row["pixel"] in pixels}


def _judged(scene: Mapping[int, Mapping[str, Any]], ours: _Rerun, theirs: _Rerun) -> Judgement:
    ran, asked = ours.outcomes(), theirs.outcomes()
    told = [pixel for pixel in scene if not _by_chance(scene[pixel], ran[pixel], asked[pixel])]
    other = [pixel for pixel in told if not _same(scene[pixel], ran[pixel])]
    parted = [pixel for pixel in told if _is_lost(ran[pixel]) != _is_lost(asked[pixel])]
    both = [pixel for pixel in told if not _is_lost(ran[pixel]) and not _is_lost(asked[pixel])]
    wrong = [
        *(f"{len(other)} pixels run otherwise than in the scene, the first is {pixel}" for pixel in other[:1]),
        *(f"{len(parted)} pixels fail with one model only, the first is {pixel}" for pixel in parted[:1]),
    ]
    if told and not both and not wrong:
        return Judgement(True, f"all {len(told)} pixels fail with both models", {"pixels": len(told)})
    judgement = judge([(ours.sample(pixel), theirs.sample(pixel)) for pixel in both])
    return replace(judgement, agrees=judgement.agrees and not wrong, line="; ".join([*wrong, judgement.line]))


def _by_chance(*outcomes: Mapping[str, Any]) -> bool:
    """Whether an outcome says nothing of the model."""
    return any(row["reason"] and is_transient(row["reason"]) for row in outcomes)


def _is_lost(outcome: Mapping[str, Any]) -> bool:
    return outcome["status"] == Status.failed.name


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    alike = one["status"] == other["status"] and one["reason"] == other["reason"]
    return alike and math.isclose(one["row_sum"], other["row_sum"], rel_tol=_SAME)
