"""
How do the packs of a scene become its footprints, whoever runs them?

A scene is planned once, its packs are run in shares that know nothing of each other, and it is closed once: only the
plan and the closing write the scene's record. On one machine one process does all three; on many, each share is a
step of its own.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from stilt_assets import pack
from stilt_assets.choosing import CERTIFICATE
from stilt_assets.cut import cut
from stilt_assets.errors import DamagedError, MeteorologyGapError, NoArchiveError
from stilt_assets.meteorology import aggregate
from stilt_assets.meteorology.proof import Edges, Verdict, edges_of, judge
from stilt_assets.pixel import Workplace
from stilt_assets.reasons import is_transient
from stilt_assets.receptor import kernels_from, receptors_from
from stilt_assets.recipes import (
    Desk,
    footprints_recipe,
    kept_elsewhere,
    meteorology_recipe,
    particles_recipe,
    pixels_recipe,
)
from stilt_assets.result import Done, as_before, current, finish, mending
from stilt_assets.scene import Recipe, digest, sha256_of
from stilt_assets.stages import make_meteorology
from stilt_assets.worker import cores
from stilt_assets.workers import Progress, Share, run_packs

_LID_TOO_LOW = {"above_meteorology", "no_particles"}  # how a pixel fails if the aggregate has too few levels


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
        """The shard of that name."""
        _, first, _, last = name.split("_")
        return cls(int(first), int(last))


def shards_of(numbers: Sequence[int], at_most: int) -> list[Shard]:
    """Packs, by number, in `at_most` shards of neighbours, as even as can be."""
    return [Shard(int(part[0]), int(part[-1])) for part in np.array_split(numbers, at_most) if len(part)]


@dataclass(frozen=True)
class Footprints:
    """What there is to know before a pack of a scene is run."""

    desk: Desk
    pixels: Recipe
    meteorology: Recipe
    particles: Recipe
    recipe: Recipe

    @classmethod
    def of(cls, desk: Desk) -> "Footprints":
        """As the settings want them now. UsageError if pixels or meteorology must be made first."""
        pixels = current(desk, pixels_recipe(desk))
        meteorology = current(desk, meteorology_recipe(desk, pixels)[0])
        particles = particles_recipe(desk, pixels, meteorology)
        return cls(desk, pixels, meteorology, particles, footprints_recipe(desk, pixels, particles))

    @property
    def at_most(self) -> int:
        """
        Pixels per pack.

        How the scene is cut belongs to its particles' files: another pack size leaves those that are there as they are.
        """
        known = self.desk.record.results
        same = next((known[name] for name in (self.particles.name, *self._elsewhere) if name in known), None)
        return same["pack_pixels"] if same else self.desk.settings.packs.pixels

    @property
    def _elsewhere(self) -> list[str]:
        return kept_elsewhere(self.desk, self.particles)

    @property
    def packs(self) -> pack.Packs:
        """Where the packs keep what they make."""
        desk, known = self.desk, self.desk.record.results
        folders = [name for name in self._elsewhere if known[name]["pack_pixels"] == self.at_most]
        kept_from = [desk.store.result(desk.record.key, name) for name in folders]
        return pack.Packs(
            desk.store, desk.folder(self.particles), desk.folder(self.recipe), desk.settings.keep, kept_from
        )

    def cut(self) -> dict[int, np.ndarray]:
        """Pixel numbers of each pack, by its number."""
        table = self.desk.table(self.pixels, "receptors.parquet")
        packs = cut(table["longitude"].to_pylist(), table["latitude"].to_pylist(), self.at_most)
        return dict(enumerate(packs))

    @property
    def certificate(self) -> dict[str, Any]:
        """What the meteorology says of itself."""
        return self.desk.store.json(self.desk.store.file(self.desk.folder(self.meteorology), CERTIFICATE), "ends")

    def edges(self, file: Path, path: str) -> Edges:
        """Where the meteorology in `file`, the store's `path`, ends. DamagedError if its bytes are not the same."""
        certificate = self.certificate
        if sha256_of(file) != certificate["sha256"]:
            raise DamagedError(f"{path} is damaged: its sha256 is not its certificate's", path)
        return edges_of(certificate, file)

    def judged(self, outcomes: Sequence[Mapping[str, Any]]) -> Verdict:
        """Whether the crop of the meteorology was large enough, as the particles say."""
        names = ("near_edge", "near_lid", "left_domain")
        edge, lid, left = (np.array([row[name] for row in outcomes], dtype=float) for name in names)
        lid[[row["reason"] in _LID_TOO_LOW for row in outcomes]] = 1.0
        return judge(edge, lid, left, self.certificate)

    @property
    def entry(self) -> dict:
        """What the record says of them."""
        return self.desk.record.results.get(self.recipe.name, {})


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
    made, chosen = Footprints.of(desk), desk.settings.packs
    members = {number: pixels for number, pixels in made.cut().items() if shard.first <= number <= shard.last}
    share = Share(
        members,
        frozenset(made.packs.whole(members)),
        receptors_from(desk.table(made.pixels, "receptors.parquet")),
        kernels_from(desk.table(made.pixels, "kernels.parquet")),
    )
    path = desk.store.file(desk.folder(made.meteorology), aggregate.NAME)
    with desk.store.local(path) as file:
        edges = made.edges(file, path)
        workers = chosen.workers or cores()
        work = Workplace(made.packs, desk.simulation, desk.grid, file, edges, desk.limits, chosen.attempts, workers)
        run_packs(work, share, chosen.files, tell, stopped)


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
    outcomes = sorted((row for rows in whole.values() for row in rows), key=lambda row: row["pixel"])
    told = digest(json.dumps([[row["pixel"], row["status"], row["reason"]] for row in outcomes]))
    entry = desk.record.begin(made.recipe)
    if "summary" in entry and entry["digests"]["outcomes"] == told and desk.record.under_way != made.recipe.name:
        desk.record.finish(made.particles, desk.record.results[made.particles.name]["summary"])
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
    return finish(desk, made.recipe, pack.summary_of(outcomes) | expected | size | crop, started)


def make_footprints(
    desk: Desk,
    tell: Callable[[Progress], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
    *,
    retry_failed: bool = False,
    expected: Mapping[str, Any] | None = None,
) -> Done:
    """
    Trajectories, endpoints, footprints and outcomes, pack by pack, in this process and its workers.

    If the crop of the meteorology turns out too small, `say` is told, and all is done once more with a wider one. What
    the whole scene is `expected` to cost is kept.
    """
    run = _run_all(desk, tell, stopped, retry_failed, expected)
    verdict = widen_if_too_small(desk)
    if verdict.can_be_widened:
        say(f"{verdict.line}; once more with a wider one")
        run = _run_all(desk, tell, stopped, retry_failed, expected)
    done = close_footprints(desk)
    if not run:
        pixels, packs = (done.summary[name] for name in ("pixels", "packs"))
        tell(Progress(pixels, pixels, packs, packs))
    return done


def _run_all(
    desk: Desk,
    tell: Callable[[Progress], None],
    stopped: Callable[[], bool],
    retry_failed: bool,
    expected: Mapping[str, Any] | None,
) -> list[Shard]:
    shards = shards_of(plan_footprints(desk, retry_failed=retry_failed, expected=expected), 1)
    for shard in shards:
        run_shard(desk, shard, tell, stopped)
    return shards
