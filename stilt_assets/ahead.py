"""
Which meteorology would a scene take, and how large is it, before anything is fetched or cut?
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import arlmet
import numpy as np

from stilt_assets.choosing import domain_of
from stilt_assets.errors import MeteorologyError, StoreError
from stilt_assets.meteorology import Need, rule
from stilt_assets.meteorology.archives import PRODUCTS
from stilt_assets.meteorology.offers import Offer, cache_of, survey
from stilt_assets.meteorology.server import Remote
from stilt_assets.meteorology.sources import Source, find_sources, grid_of, held_by
from stilt_assets.recipes import Desk
from stilt_assets.scene import Record

_WIND = 15.0  # m s-1 in all directions, for the size of a crop that nobody has made
_LEVELS = 25  # of an aggregate, before there is one


@dataclass(frozen=True)
class Weather:
    """The meteorology of a scene, made or not."""

    hours: int
    levels: int
    size: float  # bytes of the aggregate
    made: bool  # it is there
    known: str  # how size and levels are known
    product: str = ""
    files: Sequence[str] = ()  # names or addresses
    to_download: Mapping[str, int] = field(default_factory=dict)  # bytes by address, of files that are not here
    missing: str = ""  # why no source does
    looked_up: bool = True  # or nobody was asked


@dataclass(frozen=True)
class Sizes:
    """Bytes per hour and levels of the aggregates that there are, the middle ones."""

    per_hour: float | None = None
    levels: int = _LEVELS

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Sizes":
        """As the scenes that ran have them."""
        made = [entry["summary"] for record in records if (entry := record.result_of("meteorology"))]
        if not made:
            return cls()
        per_hour = np.median([each["bytes"] / each["hours"] for each in made])
        return cls(float(per_hour), round(float(np.median([each["levels"] for each in made]))))


def made_weather(summary: Mapping[str, Any]) -> Weather:
    """The meteorology that a scene has."""
    hours, levels, size = (summary[name] for name in ("hours", "levels", "bytes"))
    return Weather(hours, levels, size, True, "made", summary["product"], summary["files"])


def weather_ahead(desk: Desk, need: Need, sizes: Sizes, asked: dict[str, Remote | None] | None) -> Weather:
    """
    The meteorology that a scene would take; nobody is asked without `asked`, which holds what servers have said.

    What its files lack is told and no error: there is nothing to stop yet.
    """
    hours = len(need.hours)
    size = sizes.per_hour * hours if sizes.per_hour else 0.0
    known = "as earlier scenes have it" if sizes.per_hour else "not known: no scene has any yet"
    if asked is None:
        return Weather(hours, sizes.levels, size, False, known, looked_up=False)
    chosen = desk.settings.meteorology
    try:
        offer = _offer(desk, need, asked)
        if not sizes.per_hour:
            size, known = _size_of(offer, need), "guessed from its files, with a wind of 15 m s-1"
    except (MeteorologyError, StoreError) as error:
        return Weather(hours, sizes.levels, size, False, known, missing=str(error))
    cache = cache_of(chosen)
    here = {each.remote.url for each in offer.files if cache.known(each.place, each.remote)}
    missing = {each.remote.url: each.remote.size for each in offer.files if each.remote.url not in here}
    names = [*(each.remote.url for each in offer.files), *(each.path.name for each in offer.sources)]
    return Weather(hours, sizes.levels, size, False, known, offer.product, names, missing)


def _offer(desk: Desk, need: Need, asked: dict[str, Remote | None]) -> Offer:
    chosen = desk.settings.meteorology
    if not chosen.is_one_folder:
        return survey(chosen, need, domain_of(desk), asked=asked)
    folder = chosen.wanted[0]
    product = chosen.product_of(folder)
    return Offer(folder, product, sources=tuple(find_sources(product, folder, need.hours)))


def _size_of(offer: Offer, need: Need) -> float:
    """Bytes of an aggregate of these files; those of an archive are taken to hold no other hours."""
    if offer.files:
        return offer.size * _share(PRODUCTS[offer.source].grid, need)
    return sum(map(_bytes_of, offer.sources)) * _share(grid_of(offer.sources), need)


def _bytes_of(source: Source) -> float:
    return source.path.stat().st_size * len(source.hours) / max(len(held_by(source.path)), 1)


def _share(grid: arlmet.Grid | None, need: Need) -> float:
    """The share of a grid's cells, of the whole earth without one, that a crop for some wind would keep."""
    reach = (need.wind or _WIND) * 3.6 * need.hours_back  # km
    if grid is None:
        west, south, east, north = need.box
        degrees = 2 * reach / 111.195
        share = ((east - west) % 360.0 + degrees) * (north - south + degrees) / (360.0 * 180.0)
    else:
        cells = reach / (111.195 * abs(grid.projection.tangent_lat) if grid.is_latlon else grid.projection.grid_size)
        try:
            window, _ = rule.window_of(grid, rule.span_of(grid, need.box), [cells] * 4)
        except MeteorologyError:  # none of its cells is there: told when the scene runs
            return 1.0
        share = window.nx * window.ny / (grid.nx * grid.ny)
    return share if share <= 1.0 - rule.WORTH_OF_CELLS else 1.0
