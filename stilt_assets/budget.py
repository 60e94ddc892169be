"""
What do many scenes cost together, and may they?
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stilt_assets.ahead import Sizes
from stilt_assets.errors import DamagedError, OverLimitsError, RetrievalError, UnknownTargetError
from stilt_assets.meteorology.server import Remote
from stilt_assets.pod import see_that_they_fit
from stilt_assets.preview import Experience, Preview, preview_of
from stilt_assets.prices import Bill, bill_of
from stilt_assets.recipes import Desk
from stilt_assets.scene import load_records
from stilt_assets.settings import CeilingSettings, Settings
from stilt_assets.store import Store

_ASKED = 8  # scenes of many whose meteorology is looked up; the others are taken to be like them
_UNITS = {"pixels": "pixels", "cpu_hours": "CPU hours", "dollars": "dollars", "gigabytes": "GB", "objects": "objects"}


@dataclass(frozen=True)
class Total:
    """What many scenes would cost together."""

    previews: Sequence[Preview]
    skipped: Mapping[str, str]  # scenes that cannot be weighed, and why
    looked_up: int  # scenes whose meteorology was looked up
    gigabytes_in: float  # 1e9 bytes of meteorology to download, each file once
    bill: Bill
    cost_told: str  # where the CPU hours come from

    def sum(self, name: str) -> float:
        """The sum of a number over the scenes."""
        return sum(getattr(each, name) for each in self.previews)

    @property
    def between(self) -> tuple[float, float] | None:
        """CPU hours, 90 %, if all scenes err alike; None if it cannot be told."""
        running = [each for each in self.previews if each.cpu_hours]
        if not running or any(each.between is None for each in running):
            return None
        low, high = (sum(each.between[side] for each in running if each.between) for side in (0, 1))
        return low, high

    @property
    def numbers(self) -> dict[str, Any]:
        """The sums: JSON values."""
        names = ("pixels", "to_follow", "to_grid", "packs", "packs_left", "cpu_hours", "gigabytes", "objects")
        dofs = [each.dofs for each in self.previews if each.dofs is not None]
        return {
            "scenes": len(self.previews),
            "scenes_with_work": sum(bool(each.stages or each.to_guard) for each in self.previews),
            **{name: self.sum(name) for name in (*names, "requests")},
            "to_guard": dict(sum((Counter(each.to_guard) for each in self.previews), Counter())),
            "between": self.between,
            "gigabytes_in": self.gigabytes_in,
            "dollars": self.bill.dollars,
            "dollars_by": dict(self.bill.parts),
            "dofs": float(np.sum(dofs)) if dofs else None,
        }

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, with all scenes."""
        facts = {"skipped": dict(self.skipped), "looked_up": self.looked_up, "cost_told": self.cost_told}
        return {"total": self.numbers, **facts, "scenes": [each.as_json() for each in self.previews]}


def preview_of_many(keys: Sequence[str], settings: Settings, store: Store, *, retry_failed: bool = False) -> Total:
    """
    What registered scenes would cost together.

    Meteorology is looked up for a few of those that lack it, and the others are taken to be like them.
    """
    known, asked = Experience.of(store), dict[str, Remote | None]()
    desks = {record.key: Desk(record, settings, store) for record in load_records(store, keys)}
    lacking = [key for key, desk in desks.items() if "meteorology" not in desk.record.current]
    first = {lacking[n] for n in np.unique(np.linspace(0, len(lacking) - 1, _ASKED).astype(int))} if lacking else set()
    found: dict[str, Preview] = {}
    skipped: dict[str, str] = {}
    for key in [*sorted(first), *(key for key in desks if key not in first)]:
        try:
            found[key] = preview_of(desks[key], known, asked if key in first else None, retry_failed=retry_failed)
        except (UnknownTargetError, RetrievalError, DamagedError) as error:
            skipped[key] = str(error)
        if len(found) + len(skipped) == len(first) and known.sizes.per_hour is None:
            known = replace(known, sizes=_sizes([each for each in found.values() if each.weather.size]))
    previews = [found[key] for key in keys if key in found]
    coming = _download([found[key] for key in first if key in found], len(lacking))
    total = Total(previews, skipped, len(first), coming, Bill({}), previews[0].cost_told if previews else "")
    sums = (total.sum("cpu_hours"), total.sum("gigabytes"), total.sum("requests"), coming)
    return replace(total, bill=bill_of(settings.prices, *sums))


def _sizes(previews: Sequence[Preview]) -> Sizes:
    if not previews:
        return Sizes()
    return Sizes(float(np.median([each.weather.size / each.weather.hours for each in previews])))


def _download(looked_up: Sequence[Preview], lacking: int) -> float:
    """1e9 bytes of files of the scenes that were looked up, each once, as many times as there are scenes to one."""
    files = {url: size for each in looked_up for url, size in each.weather.to_download.items()}
    return sum(files.values()) / 1e9 * lacking / max(len(looked_up), 1)


def hold_to(
    weighed: Preview | Total, settings: Settings, which: str, what: str, lifted: str = "with --beyond-limits"
) -> None:
    """OverLimitsError if `what` would pass a limit of the settings; `which` is scene or backfill."""
    ceiling: CeilingSettings = getattr(settings.limits, which)
    needs = _needs(weighed)
    over = [
        f"{_short(needs[name])} {unit} (limits.{which}.{name} is {limit:g})"
        for name, unit in _UNITS.items()
        if (limit := getattr(ceiling, name)) is not None and needs[name] > limit
    ]
    if over:
        raise OverLimitsError(
            f"{what} would need {', '.join(over)}; raise the limit, ask for less, or go beyond it {lifted}"
        )


def hold_to_nodes(weighed: Preview | Total, settings: Settings) -> None:
    """OverBudgetError if a pod of a scene would fit on no node of the settings: nobody would ever start it."""
    for each in weighed.previews if isinstance(weighed, Total) else (weighed,):
        see_that_they_fit(each.scene, each.pods, settings.cluster.node)


def _needs(weighed: Preview | Total) -> dict[str, float]:
    def of(name: str) -> float:
        return weighed.sum(name) if isinstance(weighed, Total) else getattr(weighed, name)

    needs = {name: of(name) for name in ("cpu_hours", "gigabytes", "objects")}
    return needs | {"pixels": of("to_follow") + of("to_grid"), "dollars": weighed.bill.dollars or 0.0}


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"
