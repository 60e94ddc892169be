"""
Which meteorology does a scene take, and has better arrived since?

A choice stands once an aggregate was made of it: a scene that goes on, or runs again, asks only the sources that come
before its own in the settings, and nobody if there are none. So a scene that ran on a forecast takes the analysis once
all of its hours are there, and no other scene changes under way.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stilt_assets.errors import MeteorologyGapError, NoArchiveError, StoreError, UnknownTargetError
from stilt_assets.meteorology import Box, Need, hours_needed
from stilt_assets.meteorology.offers import Offer, cache_of, survey, taken
from stilt_assets.meteorology.server import Remote
from stilt_assets.meteorology.sources import Source, find_sources
from stilt_assets.recipes import (
    Desk,
    as_wide,
    as_wide_as_told,
    made_of,
    meteorology_need,
    meteorology_recipe,
    stamped_sources,
    standing_choice,
)
from stilt_assets.result import is_there
from stilt_assets.scene import Recipe, load_records
from stilt_assets.settings import Settings
from stilt_assets.settings.meteorology import ARCHIVES, FORECASTS
from stilt_assets.store import Store

CERTIFICATE = "certificate.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """A scene's meteorology files, on this machine."""

    recipe: Recipe
    need: Need  # of the crop that the recipe asks for
    sources: Sequence[Source]
    files: Mapping[str, Any]  # facts of each source's file, in the same order

    @property
    def digests(self) -> dict[Path, str]:
        """The sha256 of each file."""
        facts = self.files.values()
        return {source.path: each["sha256"] for source, each in zip(self.sources, facts, strict=True)}


@dataclass(frozen=True)
class Choice:
    """Where a scene's meteorology comes from."""

    desk: Desk
    need: Need  # of the rule's own crop
    product: str
    recipe: Recipe | None  # None as long as nobody knows the files' bytes
    sources: Sequence[Source] = ()
    files: Mapping[str, Any] = field(default_factory=dict)
    offer: Offer | None = None

    @property
    def to_fetch(self) -> str:
        """A line that says what of an archive is still to come to this machine; empty if all is here."""
        cache = cache_of(self.desk.settings.meteorology)
        size = self.offer.bytes_to_fetch(cache) if self.offer else 0
        return f"meteorology fetching {size / 1e9:.3g} GB of {self.product} into {cache.folder}" if size else ""

    def note(self, recipe: Recipe, files: Mapping[str, Any]) -> None:
        """Tell the scene's record of the source and its files."""
        entry = self.desk.record.begin(recipe)
        entry["files"] = dict(files)
        if self.offer:
            entry["source"] = {"name": self.offer.source, "forecast": self.offer.forecast}

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        """The files, there while the block lasts. Errors of the archive, its cache and the files."""
        if self.offer and self.offer.files:
            with taken(self.desk.settings.meteorology, self.offer) as (sources, files):
                yield self._with(sources, files)
        elif self.sources:
            yield self._with(self.sources, self.files)
        else:  # the files were gone, and now the aggregate is too
            sources = find_sources(self.product, self.desk.settings.meteorology.wanted[0], self.need.hours)
            yield self._with(sources, stamped_sources(sources, self.files))

    def _with(self, sources: Sequence[Source], files: Mapping[str, Any]) -> Opened:
        recipe = _recipe(self.desk, self.need, self.product, [each["sha256"] for each in files.values()])
        return Opened(recipe, as_wide(self.need, recipe), sources, files)


def choose(desk: Desk, pixels: Recipe, *, stays: bool = False) -> Choice:
    """
    The source that a scene's meteorology is made of; with `stays` the one that it was made of.

    MeteorologyGapError if no source does, StoreError if a server does not answer.
    """
    chosen = desk.settings.meteorology
    need = meteorology_need(desk, pixels)
    if chosen.is_one_folder:
        recipe, _, sources, files = meteorology_recipe(desk, pixels)
        return Choice(desk, need, recipe.made_from["product"], recipe, sources, files)
    old = standing_choice(desk, need)
    if old is None:
        return _of_offer(desk, need, survey(chosen, need, domain_of(desk)), {})
    source = old["source"]["name"]
    better = None if stays else _better(desk, need, chosen.wanted[: chosen.wanted.index(source)])
    if better is None:
        recipe = as_wide_as_told(desk.record, old["made_from"])
        if is_there(desk, recipe, CERTIFICATE):
            return Choice(desk, need, recipe.made_from["product"], recipe, (), old["files"], _as_it_was(old))
        better = survey(chosen, need, domain_of(desk), [source])
    return _of_offer(desk, need, better, old["files"])


def _better(desk: Desk, need: Need, among: tuple[str, ...]) -> Offer | None:
    """What a source before the present one has; None also while its server does not answer."""
    try:
        return survey(desk.settings.meteorology, need, domain_of(desk), among) if among else None
    except (MeteorologyGapError, NoArchiveError) as error:
        _log.info("meteorology of %s stays: %s", desk.record.key, error)
    except StoreError as error:
        if error.reason not in {"unreachable", "throttled"}:
            raise
        _log.warning("meteorology of %s stays as it is for now: %s", desk.record.key, error)
    return None


def _as_it_was(old: Mapping[str, Any]) -> Offer:
    return Offer(old["source"]["name"], old["made_from"]["product"], old["source"]["forecast"])


def _of_offer(desk: Desk, need: Need, offer: Offer, recorded: Mapping[str, Any]) -> Choice:
    if offer.source in ARCHIVES:
        known = offer.digests_known(cache_of(desk.settings.meteorology), recorded)
        if known is None:
            return Choice(desk, need, offer.product, None, offer=offer)
        told = zip((each.remote for each in offer.files), known, strict=True)
        files = {
            remote.url: {"checked": [], **recorded.get(remote.url, {}), **remote.as_facts(digest)}
            for remote, digest in told
        }
        return Choice(desk, need, offer.product, _recipe(desk, need, offer.product, known), (), files, offer)
    files = stamped_sources(offer.sources, recorded)
    recipe = _recipe(desk, need, offer.product, [each["sha256"] for each in files.values()])
    return Choice(desk, need, offer.product, recipe, offer.sources, files, offer)


def _recipe(desk: Desk, need: Need, product: str, digests: list[str]) -> Recipe:
    return as_wide_as_told(desk.record, made_of(need, product, digests))


def domain_of(desk: Desk) -> Box:
    """The box of the scene's footprints, degrees."""
    grid = desk.target.grid
    return grid.west, grid.south, grid.east, grid.north


# ---- forecasts


def superseded_meteorology(desk: Desk, asked: dict[str, Remote | None] | None = None) -> Offer | None:
    """
    The analysis that holds all hours of a scene whose meteorology is a forecast; None if there is none, or no forecast.

    `asked` keeps what servers said, by address, for the next scene. StoreError if a server does not answer.
    """
    now = desk.record.result_of("meteorology") or {}
    source, wanted = now.get("source", {}), desk.settings.meteorology.wanted
    if not source.get("forecast") or source["name"] not in wanted:
        return None
    analyses = [name for name in wanted[: wanted.index(source["name"])] if name not in FORECASTS]
    try:
        need = _need_told(now["made_from"])
        return survey(desk.settings.meteorology, need, domain_of(desk), analyses, asked) if analyses else None
    except (MeteorologyGapError, NoArchiveError):
        return None


def _need_told(made_from: Mapping[str, Any]) -> Need:
    first, last = (datetime.strptime(hour, "%Y-%m-%dT%HZ").replace(tzinfo=UTC) for hour in made_from["hours"])
    west, south, east, north = made_from["release"]["box"]
    return Need(
        hours_needed(first, last, 0), (west, south, east, north), made_from["release"]["top"], made_from["hours_back"]
    )


@dataclass(frozen=True)
class Due:
    """A scene that ran on a forecast, and the analysis that it may run on now."""

    key: str
    offer: Offer


def due_for_analysis(settings: Settings, store: Store, now: datetime) -> list[Due]:
    """
    Scenes of the last `meteorology.await_analysis` days before `now` (UTC) that are due to run again, oldest first.

    StoreError if a server does not answer.
    """
    chosen = settings.meteorology
    if not chosen.await_analysis or not set(FORECASTS) & set(chosen.wanted):
        return []
    oldest = now - timedelta(days=chosen.await_analysis)
    keys = [key for key in store.scene_names() if key >= f"{oldest:%Y%m%dT%H%MZ}" and store.exists(store.record(key))]
    asked: dict[str, Remote | None] = {}
    due = []
    for record in load_records(store, keys):
        try:
            offer = superseded_meteorology(Desk(record, settings, store), asked)
        except UnknownTargetError:
            continue
        if offer:
            due.append(Due(record.key, offer))
    return due
