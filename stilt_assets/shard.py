"""
How do the packs of a scene become its footprints, whoever runs them?

A scene is planned once, its packs are run in shares that know nothing of each other, and it is closed once: only the
plan and the closing write the scene's record. On one machine one process does all three; on many, each share is a
step of its own.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Protocol

import numpy as np

from stilt_assets.agreement import Judgement
from stilt_assets.errors import DamagedError, MeteorologyGapError, NoArchiveError, UsageError
from stilt_assets.guard import compare
from stilt_assets.meteorology.proof import Verdict
from stilt_assets.plan import Footprints
from stilt_assets.progress import Progress, waits_in_lines
from stilt_assets.reasons import is_transient
from stilt_assets.recipes import Desk
from stilt_assets.result import Done, as_before, finish, mending
from stilt_assets.scene import digest
from stilt_assets.stages import make_meteorology
from stilt_assets.whole import summary_of
from stilt_assets.workers import run_packs


class Runner(Protocol):
    """Who runs the packs of a scene."""

    def shards_of(self, numbers: Sequence[int], at_most: int) -> list["Shard"]:
        """Packs, by number, in the shards that one step takes each."""
        ...

    def run(
        self,
        desk: Desk,
        shard: "Shard",
        tell: Callable[[Progress], None] = ...,
        stopped: Callable[[], bool] = ...,
    ) -> None:
        """Run the packs of a shard that are not whole. StoppedError when `stopped` says so."""
        ...


@dataclass(frozen=True)
class Shard:
    """Packs that one step takes: those from `first` to `last` that are not whole."""

    first: int
    last: int

    @property
    def name(self) -> str:
        """As it is called in logs and steps."""
        return f"packs_{self.first}_to_{self.last}"

    @classmethod
    def from_name(cls, name: str) -> "Shard":
        """The shard of that name. UsageError if it is none."""
        found = re.fullmatch(r"packs_(\d{1,9})_to_(\d{1,9})", name, re.ASCII)
        if not found:
            raise UsageError(f"'{name}' names no packs; it must be such as packs_0_to_12")
        return cls(int(found[1]), int(found[2]))


def shards_of(numbers: Sequence[int], at_most: int) -> list[Shard]:
    """Packs, by number, in `at_most` shards of neighbours, as even as can be."""
    return [Shard(int(part[0]), int(part[-1])) for part in np.array_split(numbers, at_most) if len(part)]


def to_do(
    made: Footprints, packs: Mapping[int, np.ndarray], *, retry_failed: bool = False
) -> tuple[list[int], dict[int, set[int]]]:
    """
    Numbers of the packs that are not whole, and by number the pixels of whole ones that would run again: they failed.

    With `retry_failed` all that did, otherwise those whose reason may not hold another time, if the scene has not
    closed or closed `retry_failed_after` ago.
    """
    whole = made.packs.whole(packs)
    again = {
        number: {row["pixel"] for row in rows if row["reason"] and _runs_again(made, row["reason"], retry_failed)}
        for number, rows in whole.items()
    }
    return [number for number in packs if number not in whole], {n: pixels for n, pixels in again.items() if pixels}


@mending
def plan_footprints(
    desk: Desk, *, retry_failed: bool = False, reopen: bool = True, expected: Mapping[str, Any] | None = None
) -> list[int]:
    """
    Numbers of the packs of a scene that are not whole; none if its footprints are closed.

    Pixels of whole packs that failed run again as `to_do` says, unless `reopen` is false. What the whole scene is
    `expected` to cost (JSON values) is kept in its record.
    """
    made = Footprints.of(desk)
    packs = made.cut()
    left, again = to_do(made, packs, retry_failed=retry_failed)
    for number, pixels in again.items() if reopen else ():
        made.packs.reopen(number, pixels)
        left.append(number)
    if left or "summary" not in made.entry:
        made.packs.forget_all_but(packs)
        desk.record.begin(made.particles, pack_pixels=made.at_most)
        desk.record.begin(made.recipe, pack_pixels=made.at_most, **({"expected": dict(expected)} if expected else {}))
        desk.record.go_under_way(made.recipe.name)
        desk.record.save(desk.store)
    return sorted(left)


def _runs_again(made: Footprints, reason: str, retry_failed: bool) -> bool:
    if retry_failed or not is_transient(reason):
        return retry_failed
    closed = made.entry.get("closed")
    after = timedelta(hours=made.desk.target.retry_failed_after)
    return closed is None or datetime.now(UTC) - datetime.fromisoformat(closed) >= after


@mending
def run_shard(
    desk: Desk,
    shard: Shard,
    tell: Callable[[Progress], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Run the packs of a shard that are not whole. StoppedError when `stopped` says so."""
    made = Footprints.of(desk)
    share = made.share(made.cut(shard.first, shard.last))
    with made.workplace() as work:
        run_packs(work, share, desk.settings.packs.files, tell, stopped)


class Here:
    """Packs run in workers of this machine."""

    def shards_of(self, numbers: Sequence[int], at_most: int) -> list[Shard]:
        """As many shards as there may be steps."""
        return shards_of(numbers, at_most)

    def run(
        self,
        desk: Desk,
        shard: Shard,
        tell: Callable[[Progress], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """In this process and its workers."""
        run_shard(desk, shard, tell, stopped)


@mending
def ask_the_guard(
    desk: Desk, stopped: Callable[[], bool] = lambda: False, say: Callable[[str], None] = lambda _: None
) -> Judgement | None:
    """
    Compare a scene whose packs are whole with the model that is trusted; None if its own is.

    `say` is told for whom it waits, if other processes hold what it needs.
    If they disagree and the settings want it, the particles are distrusted: all packs must run with the other model.
    """
    made = Footprints.of(desk)
    if made.guard is None:
        return None
    with made.workplace() as work:
        tell = waits_in_lines(lambda line: say(f"guard {line}"))
        judgement = compare(made.guard, work, made.share(made.cut()), desk.settings.packs.files, tell, stopped)
    if judgement.disagrees and desk.runs_again_in_doubt:
        desk.record.distrusted[made.guard.particles] = judgement.line
        desk.record.save(desk.store)
    return judgement


@mending
def widen_if_too_small(desk: Desk) -> Verdict:
    """
    The particles' verdict on the crop of the meteorology.

    If it was too small and may be widened, a wider one is made, which becomes the scene's: its packs must all run.
    """
    made = Footprints.of(desk)
    verdict = made.judged([row for rows in made.packs.whole(made.cut()).values() for row in rows])
    if verdict.can_be_widened:
        before = dict(desk.record.widened)
        desk.record.widen(made.meteorology, verdict.line)
        try:
            make_meteorology(desk, stays=True)
        except (MeteorologyGapError, NoArchiveError) as error:
            desk.record.widened = before
            return replace(
                verdict, can_be_widened=False, line=f"{verdict.line}; it cannot be widened any more: {error}"
            )
    return verdict


@mending
def close_footprints(desk: Desk) -> Done:
    """Sum a scene's outcomes up and make its footprints the current ones. DamagedError if a pack is not whole."""
    started, made = monotonic(), Footprints.of(desk)
    packs = made.cut()
    whole = made.packs.whole(packs)
    left = [number for number in packs if number not in whole]
    if left:
        # The folder's name, and no pack's: a pack that waits for some of its pixels keeps what the others made.
        first, folder = made.packs.file(left[0], "outcomes"), made.packs.footprints
        raise DamagedError(
            f"{len(left)} packs of {desk.record.key} are not whole, the first is {first}: run again", folder
        )
    desk.store.sweep(desk.folder(made.meteorology))
    outcomes = sorted((row for rows in whole.values() for row in rows), key=lambda row: row["pixel"])
    told = digest(json.dumps([[row["pixel"], row["status"], row["reason"]] for row in outcomes]))
    entry, trust = desk.record.begin(made.recipe), made.trust
    if _is_closed(desk, made, told) and entry["summary"].get("guard") == trust.get("guard"):
        desk.record.finish(made.particles, desk.record.results[made.particles.name]["summary"], made=False)
        return as_before(desk, made.recipe, started)
    entry["digests"] = {"outcomes": told}
    entry["closed"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S+00:00}"
    desk.store.remove(desk.store.unfinished(made.packs.footprints))
    kept = {"keep": desk.settings.keep, "bytes": desk.store.size(desk.folder(made.particles))}
    desk.record.finish(made.particles, kept)
    size = {"packs": len(packs), "bytes": desk.store.size(desk.folder(made.recipe))}
    verdict = made.judged(outcomes)
    crop = {"crop_was_large_enough": verdict.enough, "crop": verdict.line}
    expected = {"seconds_expected": entry["expected"]["seconds"]} if "expected" in entry else {}
    return finish(desk, made.recipe, summary_of(outcomes) | expected | size | crop | trust, started)


def _is_closed(desk: Desk, made: Footprints, outcomes: str) -> bool:
    same = "summary" in made.entry and made.entry["digests"]["outcomes"] == outcomes
    return same and desk.record.under_way != made.recipe.name


def make_footprints(
    desk: Desk,
    tell: Callable[[Progress], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
    *,
    retry_failed: bool = False,
    expected: Mapping[str, Any] | None = None,
    runner: Runner | None = None,
) -> Done:
    """
    Trajectories, endpoints, footprints and outcomes, pack by pack, by `runner`: in this process, if nobody is named.

    If the crop of the meteorology turns out too small, or the guard does not believe the particles and the settings
    want it, `say` is told, and all is done once more, with a wider one or with the model that is trusted. What the
    whole scene is `expected` to cost is kept.
    """

    def run_all() -> list[Shard]:
        numbers = plan_footprints(desk, retry_failed=retry_failed, expected=expected)
        found = shards_of(numbers, 1)
        for shard in found:
            (runner or Here()).run(desk, shard, tell, stopped)
        return found

    mover = Footprints.of(desk).mover
    if mover.why:
        say(f"transport: {mover.line}")
    run = run_all()
    verdict = widen_if_too_small(desk)
    if verdict.can_be_widened:
        say(f"{verdict.line}; once more with a wider one")
        run = run_all()
    judgement = ask_the_guard(desk, stopped, say)
    if judgement:
        say(f"guard: {judgement.line}")
        if judgement.disagrees and desk.runs_again_in_doubt:
            say(f"transport: {Footprints.of(desk).mover.line}; once more")
            run = run_all()
    done = close_footprints(desk)
    if not run:
        pixels, packs = (done.summary[name] for name in ("pixels", "packs"))
        tell(Progress(pixels, pixels, packs, packs))
    return done
