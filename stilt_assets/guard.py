"""
Does a slower model that is trusted agree with the particles of a scene?

A few pixels, drawn by the particles' own id, run once more with both models; what they say is compared as two runs of
one model would be. A judgement stands as long as the same is asked.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stilt_assets.agreement import Judgement, judge, pixels_that
from stilt_assets.errors import CannotExecuteError, DamagedError
from stilt_assets.pack import Packs
from stilt_assets.pixel import Workplace
from stilt_assets.progress import Progress
from stilt_assets.rerun import FOLDER, Rerun, Told, by_chance, is_lost
from stilt_assets.scene import digest
from stilt_assets.store import Store
from stilt_assets.workers import Share

_JUDGEMENT = "judgement.json"
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


@dataclass(frozen=True)
class Left:
    """What the models have still to do before a guard can judge."""

    followed: Mapping[str, int]  # pixels by the model that moves them
    gridded: int  # pixels of kept particles, of both models


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

    `work` and `share` are the scene's own. What ran before is not run again, and a judgement of the same stands. `tell`
    hears how far the one model is, then the other. StoppedError when `stopped` says so. If the model that is trusted
    cannot run here, nothing is judged, and the next time it is asked again.
    """
    packs, drawn = work.packs, guard.draw(len(share.receptors))
    old, scene = _standing(guard, packs, drawn), _outcomes(packs, share.packs, drawn)
    said = digest(
        json.dumps([[row[name] for name in ("pixel", "status", "reason", "row_sum")] for row in scene.values()])
    )
    if old and old.get("outcomes", said) == said:
        return _judgement_in(old)
    theirs, ours = (Rerun(model, packs, files) for model in (guard.reference, work.simulation.transport))
    try:
        theirs.run(drawn, work, share, tell, stopped, again=not old)
    except CannotExecuteError as error:
        judgement = _not_asked(f"{guard.reference} could not be asked: {error}")
    else:
        ours.run(drawn, work, share, tell, stopped, again=not old)
        judgement = _judged(scene, ours.told(drawn), theirs.told(drawn))
        if packs.keep == "endpoints":
            packs.store.remove(packs.store.file(packs.particles, FOLDER))
    content = asdict(judgement) | {"drawn": drawn, "reference": guard.reference, "outcomes": said}
    _write(packs, (json.dumps(content) + "\n").encode())
    return judgement


def judgement_of(store: Store, footprints: str) -> Judgement | None:
    """What the guard said of a scene's footprints; None if it was not asked. DamagedError if it cannot be read."""
    content = _content(store, footprints)
    return _judgement_in(content) if content else None


def standing_judgement(guard: Guard, packs: Packs, pixels: int) -> Judgement | None:
    """What such a guard said of a scene of so many pixels, by its packs; None if it would have to judge first."""
    content = _standing(guard, packs, guard.draw(pixels))
    return _judgement_in(content) if content else None


def left_to_run(guard: Guard, transport: str, packs: Packs, pixels: int, files: int | None) -> Left:
    """
    What each model, the scene's `transport` too, has still to do before the guard can judge.

    `packs` are the scene's, of so many pixels, with `files` for those that lie aside at most; nothing is left while a
    judgement stands.
    """
    drawn = guard.draw(pixels)
    if _standing(guard, packs, drawn):
        return Left({}, 0)
    left = {model: Rerun(model, packs, files).left(drawn, again=True) for model in (guard.reference, transport)}
    followed = {model: count for model, (count, _) in left.items() if count}
    return Left(followed, sum(gridded for _, gridded in left.values()))


def _content(store: Store, footprints: str) -> dict[str, Any] | None:
    path = _place(store, footprints)
    if not store.exists(path):
        return None
    return store.json(path, "agrees", "line", "numbers", "drawn", "reference")


def _judgement_in(content: Mapping[str, Any]) -> Judgement:
    return Judgement(content["agrees"], content["line"], content["numbers"], content.get("asked", True))


def _standing(guard: Guard, packs: Packs, drawn: Sequence[int]) -> dict[str, Any] | None:
    """A judgement of the same pixels and the same model, as it was written; None of a guard that could not ask."""
    try:
        content = _content(packs.store, packs.footprints)
    except DamagedError:  # it judges once more, by what has run
        return None
    if content is None or (content["drawn"], content["reference"]) != (list(drawn), guard.reference):
        return None
    return content if content.get("asked", content["numbers"]["pixels"] > 0) else None


def _write(packs: Packs, content: bytes) -> None:
    """Put a judgement in its place, if another one or none is there."""
    place = _place(packs.store, packs.footprints)
    if packs.store.read_if_there(place) != content:
        packs.store.write(place, content)


def _place(store: Store, footprints: str) -> str:
    return store.file(footprints, FOLDER, _JUDGEMENT)


def _outcomes(packs: Packs, members: Mapping[int, Any], drawn: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """The scene's outcomes of drawn pixels, by pixel."""
    chosen = set(drawn)
    numbers = {number: part for number, part in members.items() if not chosen.isdisjoint(part.tolist())}
    rows = {row["pixel"]: row for rows in packs.whole(numbers).values() for row in rows}
    return {pixel: rows[pixel] for pixel in drawn if pixel in rows}


def _judged(scene: Mapping[int, Mapping[str, Any]], ours: Mapping[int, Told], theirs: Mapping[int, Told]) -> Judgement:
    ran, asked = ({pixel: each.outcome for pixel, each in side.items()} for side in (ours, theirs))
    told = [pixel for pixel in scene if not any(map(by_chance, (scene[pixel], ran[pixel], asked[pixel])))]
    if not told:
        return _not_asked(f"no pixel could be compared: by chance {pixels_that(len(scene), 'fail')}")
    other = [pixel for pixel in told if not _same(scene[pixel], ran[pixel])]
    parted = [pixel for pixel in told if is_lost(ran[pixel]) != is_lost(asked[pixel])]
    both = [(one, two) for one, two in ((ours[each].sample, theirs[each].sample) for each in told) if one and two]
    wrong = [
        *([f"{pixels_that(len(other), 'run')} otherwise than in the scene, the first is {other[0]}"] if other else []),
        *([f"{pixels_that(len(parted), 'fail')} with one model only, the first is {parted[0]}"] if parted else []),
    ]
    if not both and not wrong:
        which = "the only pixel fails" if len(told) == 1 else f"all {len(told)} pixels fail"
        return Judgement(True, f"{which} with both models", {"pixels": len(told)})
    judgement = judge(both)
    return replace(judgement, agrees=judgement.agrees and not wrong, line="; ".join([*wrong, judgement.line]))


def _not_asked(line: str) -> Judgement:
    return Judgement(False, f"{line}; the next run asks again", {"pixels": 0}, asked=False)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    alike = one["status"] == other["status"] and one["reason"] == other["reason"]
    return alike and math.isclose(one["row_sum"], other["row_sum"], rel_tol=_SAME)
