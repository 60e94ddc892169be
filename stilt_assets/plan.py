"""
What is there to know before a pack of a scene is run?

Recipes of the scene's inputs, how its pixels are cut into packs, where the packs keep what they make, and what a
worker needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stilt_assets import pack
from stilt_assets.choosing import CERTIFICATE
from stilt_assets.cut import cut
from stilt_assets.errors import DamagedError
from stilt_assets.guard import Guard, judgement_of
from stilt_assets.meteorology import aggregate
from stilt_assets.meteorology.proof import Edges, Verdict, edges_of, judge
from stilt_assets.pixel import Workplace
from stilt_assets.receptor import kernels_from, receptors_from
from stilt_assets.recipes import (
    Desk,
    footprints_recipe,
    kept_elsewhere,
    meteorology_recipe,
    particles_and_mover,
    particles_id,
    pixels_recipe,
)
from stilt_assets.result import current
from stilt_assets.scene import Recipe, sha256_of
from stilt_assets.simulation import Simulation
from stilt_assets.transport import reference_of
from stilt_assets.transport.auto import Choice
from stilt_assets.worker import cores
from stilt_assets.workers import Share

_LID_TOO_LOW = {"above_meteorology", "no_particles"}  # how a pixel fails if the aggregate has too few levels


@dataclass(frozen=True)
class Footprints:
    """What there is to know before a pack of a scene is run."""

    desk: Desk
    pixels: Recipe
    meteorology: Recipe
    particles: Recipe
    recipe: Recipe
    mover: Choice  # of the particles

    @classmethod
    def of(cls, desk: Desk) -> "Footprints":
        """As the settings want them now. UsageError if pixels or meteorology must be made first."""
        pixels = current(desk, pixels_recipe(desk))
        return cls.over(desk, pixels, current(desk, meteorology_recipe(desk, pixels)[0]))

    @classmethod
    def over(cls, desk: Desk, pixels: Recipe, meteorology: Recipe) -> "Footprints":
        """Those of pixels and meteorology that are made."""
        particles, mover = particles_and_mover(desk, pixels, meteorology)
        return cls(desk, pixels, meteorology, particles, footprints_recipe(desk, pixels, particles), mover)

    @property
    def simulation(self) -> Simulation:
        """What changes a particle, with the model that moves it."""
        return replace(self.desk.simulation, transport=self.mover.transport)

    @property
    def guard(self) -> Guard | None:
        """What the particles are compared with; None if their model needs no guard."""
        return guard_of(self.desk, self.mover.transport, particles_id(self.particles))

    @property
    def trust(self) -> dict[str, Any]:
        """What there is to say of the model and of what the guard thinks of it: JSON values."""
        facts: dict[str, Any] = {"transport": self.mover.line}
        if self.guard is None:
            return facts
        judgement = judgement_of(self.desk.store, self.desk.folder(self.recipe))
        line = judgement.line if judgement else "not asked yet: run again"
        return facts | {"guard_agrees": bool(judgement and judgement.agrees), "guard": line}

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

    def cut(self, first: int = 0, last: int | None = None) -> dict[int, np.ndarray]:
        """Pixel numbers of each pack, by its number; of those from `first` to `last`, if given."""
        table = self.desk.table(self.pixels, "receptors.parquet")
        return cut(table["longitude"], table["latitude"], self.at_most, first, last)

    def share(self, packs: Mapping[int, np.ndarray]) -> Share:
        """What some packs need, and no more: a scene may have a hundred times as many pixels."""
        pixels = np.concatenate([np.empty(0, "i8"), *packs.values()])
        receptors, kernels = (
            self.desk.table(self.pixels, name).take(pixels) for name in ("receptors.parquet", "kernels.parquet")
        )
        return Share(
            packs,
            frozenset(self.packs.whole(packs)),
            dict(zip(pixels.tolist(), receptors_from(receptors), strict=True)),
            dict(zip(pixels.tolist(), kernels_from(kernels), strict=True)),
        )

    @contextmanager
    def workplace(self) -> Iterator[Workplace]:
        """What workers need to know, with the meteorology on this machine."""
        desk, chosen = self.desk, self.desk.settings.packs
        path = desk.store.file(desk.folder(self.meteorology), aggregate.NAME)
        with desk.store.local(path) as file:
            edges, workers = self.edges(file, path), chosen.workers or cores()
            yield Workplace(self.packs, self.simulation, desk.grid, file, edges, desk.limits, chosen.attempts, workers)

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


def guard_of(desk: Desk, transport: str, particles: str = "") -> Guard | None:
    """What particles of that id, moved by a model, are compared with; None if it needs no guard."""
    reference, chosen = reference_of(transport), desk.settings.simulation.guard
    return Guard(particles, reference, chosen.share, chosen.at_least) if reference else None
