"""
Which of the sources does a scene take its meteorology from?

The first, in the order of the settings, whose cells hold the scene's domain and whose files hold all of its hours.
Servers are asked what they have, and nothing is fetched for it: a server that fails is a failure, never a reason to
take the next source.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from stilt_assets.errors import MeteorologyGapError, NoArchiveError, NoSourceError
from stilt_assets.meteorology import Box, Need
from stilt_assets.meteorology.archives import PRODUCTS, Product, holds
from stilt_assets.meteorology.cache import Cache
from stilt_assets.meteorology.server import Remote, look
from stilt_assets.meteorology.sources import Source, find_sources, grid_of, sources_of
from stilt_assets.scene import digest
from stilt_assets.settings import MeteorologySettings

_GB = 1e9


@dataclass(frozen=True)
class RemoteFile:
    """A file of an archive, and the hours (UTC) that it is to give."""

    place: str  # in the cache
    remote: Remote
    hours: tuple[datetime, ...]


@dataclass(frozen=True)
class Offer:
    """What one source has for a scene."""

    source: str  # an archive's name or a folder, as the settings say it
    product: str
    forecast: bool = False
    files: tuple[RemoteFile, ...] = ()  # of an archive
    sources: tuple[Source, ...] = ()  # of a folder

    @property
    def id(self) -> str:
        """12 hex digits that stand for the content of the archive's files, as far as their server tells it."""
        return digest(*(f"{each.remote.url} {each.remote.size} {each.remote.tag}" for each in self.files))[:12]

    @property
    def size(self) -> int:
        """Bytes of the archive's files."""
        return sum(each.remote.size for each in self.files)

    def bytes_to_fetch(self, cache: Cache) -> int:
        """Bytes of the archive's files that the cache does not hold."""
        return sum(each.remote.size for each in self.files if not cache.known(each.place, each.remote))

    def digests_known(self, cache: Cache, recorded: Mapping[str, Any]) -> list[str] | None:
        """The sha256 of each file, if the cache or a record (facts by URL) knows them all without fetching any."""
        found = [cache.known(each.place, each.remote) or _recorded(each.remote, recorded) for each in self.files]
        return found if all(found) else None


def _recorded(remote: Remote, recorded: Mapping[str, Any]) -> str:
    facts = recorded.get(remote.url, {})
    return facts.get("sha256", "") if (facts.get("size"), facts.get("tag")) == (remote.size, remote.tag) else ""


def cache_of(chosen: MeteorologySettings) -> Cache:
    """The cache that the settings name."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(chosen.cache) if chosen.cache else home / "stilt-assets" / "meteorology"
    return Cache(folder, chosen.cache_size * _GB)


def survey(
    chosen: MeteorologySettings,
    need: Need,
    domain: Box,
    among: Sequence[str] | None = None,
    asked: dict[str, Remote | None] | None = None,
) -> Offer:
    """
    The offer of the first source, `among` those of the settings, that holds the domain (degrees) and all hours.

    `asked` holds what servers have said before, by address, and is added to. Raises
    MeteorologyGapError that says of each source why it does not do, StoreError if a server does not answer.
    """
    errors: list[MeteorologyGapError | NoArchiveError] = []
    names = chosen.wanted if among is None else among
    for name in names:
        try:
            if name in PRODUCTS:
                return _of_archive(chosen, PRODUCTS[name], need, domain, {} if asked is None else asked)
            return _of_folder(chosen, name, need, domain)
        except (MeteorologyGapError, NoArchiveError) as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise NoSourceError([str(error) for error in errors])


def _of_folder(chosen: MeteorologySettings, folder: str, need: Need, domain: Box) -> Offer:
    product = chosen.product_of(folder)
    sources = find_sources(product, folder, need.hours)
    if not (holds(grid_of(sources), domain) and holds(grid_of(sources), need.box)):
        raise NoSourceError([f"{product} in {folder} does not cover the domain"])
    return Offer(folder, product, sources=tuple(sources))


def _of_archive(
    chosen: MeteorologySettings, product: Product, need: Need, domain: Box, asked: dict[str, Remote | None]
) -> Offer:
    name = chosen.product_of(product.name)
    base = chosen.mirrors.get(product.name, product.base).rstrip("/")
    if not (product.covers(domain) and product.covers(need.box)):
        raise NoSourceError([f"{name} does not cover the domain"])
    steps = product.steps(need.hours)
    found = _there([[f"{base}/{path}" for path in product.paths(step)] for step in steps], chosen.at_once, asked)
    missing = [step for step, path in zip(steps, found, strict=True) if path is None]
    if missing:
        raise MeteorologyGapError(name, base, missing)
    hours: dict[str, list[datetime]] = {}
    for step, remote in zip(steps, found, strict=True):
        if remote:
            hours.setdefault(remote.url, []).append(step)
    remotes = {remote.url: remote for remote in found if remote}
    files = [
        RemoteFile(f"{product.name}{url.removeprefix(base)}", remotes[url], tuple(held)) for url, held in hours.items()
    ]
    return Offer(product.name, name, product.forecast, tuple(files))


def _there(candidates: Sequence[Sequence[str]], at_once: int, asked: dict[str, Remote | None]) -> list[Remote | None]:
    """For each list of addresses the first that its server has; all first ones are asked side by side, and so on."""
    found: list[Remote | None] = [None] * len(candidates)
    for rank in range(max(map(len, candidates), default=0)):
        turn = {n: urls[rank] for n, urls in enumerate(candidates) if found[n] is None and rank < len(urls)}
        new = [url for url in dict.fromkeys(turn.values()) if url not in asked]
        with ThreadPoolExecutor(at_once) as pool:
            asked.update(zip(new, pool.map(look, new), strict=True))
        for number, url in turn.items():
            found[number] = asked[url]
    return found


@contextmanager
def taken(chosen: MeteorologySettings, offer: Offer) -> Iterator[tuple[list[Source], dict[str, dict[str, Any]]]]:
    """
    The offer's files on this machine while the block lasts, and what is known of each: by URL size, tag, sha256.

    MeteorologyGapError if a file lacks an hour that it is to give; other errors as the cache raises them.
    """
    wanted = [(each.place, each.remote) for each in offer.files]
    with cache_of(chosen).lent(wanted, chosen.at_once) as lent:
        files = {each.remote.url: {"checked": list(each.checked), **each.remote.as_facts(each.sha256)} for each in lent}
        hours = {each.path: file.hours for each, file in zip(lent, offer.files, strict=True)}
        yield sources_of(offer.product, hours), files
