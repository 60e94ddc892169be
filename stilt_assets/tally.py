"""
How does the work go, all scenes together?

Counted from the scenes' records and from packs that were finished lately. A look reads a bounded number of files,
however many scenes the store has: those that change first, those that rest in turn. Nothing is written.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from stilt_assets import arrivals
from stilt_assets.errors import DamagedError, StoreError
from stilt_assets.facts import HOUR, Facts, facts_of
from stilt_assets.faults import steadily
from stilt_assets.filesystem import opened
from stilt_assets.scene import is_key, load_records
from stilt_assets.settings import Settings, is_url
from stilt_assets.store import Store
from stilt_assets.table import read_outcomes_file
from stilt_assets.whole import summary_of

STATES = ("registered", "started", "footprints", "done")  # told of even where there is none
_RECORDS = 500  # that a look reads, at most
_RESTING = 60  # of these that are done, at least if there are so many
_FOLDERS = 100  # of scenes under way that a look lists, at most
_PACKS = 500  # whose outcomes a look reads, at most
_LOOKUPS = 100  # times of objects that a look asks for, at most
_RECENT = 20  # scenes whose own cost is told
_WRITTEN = ("mtime", "LastModified", "last_modified", "updated")  # as file systems call the time of a change


@dataclass(frozen=True)
class Finished:
    """A pack that is whole."""

    size: int  # bytes of its outcomes
    time: float  # s since 1970
    outcomes: Mapping[str, Any]  # as `pack.summary_of` counts them


@dataclass(frozen=True)
class Waiting:
    """Retrievals that are not done, in one state."""

    number: int = 0
    oldest: float = 0.0  # s since the oldest one arrived, as far as that is known; 0 if none waits


@dataclass
class Count:
    """All scenes together."""

    states: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(STATES, 0)))
    with_gaps: int = 0
    unread: int = 0  # scenes whose record no look has read yet
    unreadable: int = 0  # scenes without a sound record
    oldest_record: float = 0.0  # s since the record was read that was read longest ago
    pixels: Counter[str] = field(default_factory=lambda: Counter(ok=0, empty=0, failed=0, missing=0))
    failed: Counter[str] = field(default_factory=Counter)  # pixels by reason
    dropped: Counter[str] = field(default_factory=Counter)  # pixels by reason
    rate: float = 0.0  # pixels per second that got an outcome in the last hour
    seconds: float = 0.0  # of workers
    dollars: dict[str, float] = field(default_factory=dict)  # by what they are paid for; what has no price is left out
    bytes: Counter[str] = field(default_factory=Counter)  # of all results, by stage
    recent: dict[str, tuple[float, float | None]] = field(default_factory=dict)  # seconds, dollars by scene
    waiting: dict[str, Waiting] = field(default_factory=dict)  # by state; `unread` of files that nobody has read


class Tally:
    """What looks at a store have found so far."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self._facts: dict[str, Facts] = {}
        self._read: dict[str, float] = {}  # s since 1970, by scene
        self._packs: dict[str, dict[str, Finished]] = {}  # of scenes under way or closed lately, by path
        self._listed: dict[str, float] = {}  # s since 1970, by scene
        self._times: dict[str, float | None] = {}  # of retrieval objects, by URL

    def look(self, now: float, first: Collection[str] = ()) -> Count:
        """
        Look once more, at the scenes `first` before others; `now` is in s since 1970.

        StoreError if the store or the retrievals cannot be listed or read.
        """
        names = [name for name in self.store.scene_names() if is_key(name)]
        self._forget_all_but(names)
        chosen = self._to_read(names, first)
        for record in load_records(self.store, chosen, sound_only=True):
            self._facts[record.key] = facts_of(record)
        self._read |= dict.fromkeys(chosen, now)
        self._look_at_packs(now)
        return self._count(names, now)

    # ---- records

    def _forget_all_but(self, names: Sequence[str]) -> None:
        there = set(names)
        for kept in (self._facts, self._read, self._packs, self._listed):
            for name in kept.keys() - there:
                del kept[name]

    def _to_read(self, names: Sequence[str], first: Collection[str]) -> list[str]:
        """Scenes whose records this look reads: what moves, what is new, what is open, and some of what rests."""
        known = sorted(self._facts.keys() & set(names), key=lambda name: self._read[name])
        moving = [name for name in known if self._facts[name].under_way]
        asked = [name for name in names if name in first]
        new = [name for name in names if name not in self._read]
        without = sorted(self._read.keys() - self._facts.keys(), key=lambda name: self._read[name])
        chosen = dict.fromkeys([*asked[: _RECORDS // 4], *moving[: _RECORDS // 4]])
        for name in (*new, *without, *(name for name in known if not self._facts[name].resting)):
            if len(chosen) >= _RECORDS - _RESTING:
                break
            chosen[name] = None
        resting = (name for name in known if self._facts[name].resting and name not in chosen)
        chosen |= dict.fromkeys(islice(resting, _RECORDS - len(chosen)))
        return list(chosen)

    # ---- packs

    def _look_at_packs(self, now: float) -> None:
        """Read the outcomes of packs that became whole since the last look, of scenes where that may happen."""
        moving = {name: each for name, each in self._facts.items() if each.under_way or _closed_lately(each, now)}
        self._packs = {name: packs for name, packs in self._packs.items() if name in moving}
        to_list = sorted(moving, key=lambda name: self._listed.get(name, 0.0))[:_FOLDERS]
        left = _PACKS
        for name in to_list:
            folder = self.store.result(name, moving[name].under_way or moving[name].latest)
            there = _whole_packs(self.store, self.store.file(folder, "outcomes"))
            known = {path: each for path, each in self._packs.get(name, {}).items() if _same(there.get(path), each)}
            new = list(there.keys() - known.keys())[:left]
            left -= len(new)
            known |= _finished(self.store, {path: there[path] for path in new}, now)
            self._packs[name], self._listed[name] = known, now

    # ---- sums

    def _count(self, names: Sequence[str], now: float) -> Count:
        count, prices = Count(), self.settings.prices
        count.unread = sum(name not in self._read for name in names)
        count.unreadable = len(self._read) - len(self._facts)
        count.oldest_record = max((now - each for each in self._read.values()), default=0.0)
        for name, facts in self._facts.items():
            count.states[facts.state] += 1
            count.with_gaps += bool(facts.gaps)
            count.dropped.update(facts.dropped)
            count.bytes.update(facts.bytes)
            self._add_pixels(count, name, facts)
            seconds = self._seconds(name)
            count.seconds += seconds
            for part, dollars in facts.bill(prices, seconds).parts.items():
                if dollars is not None:
                    count.dollars[part] = count.dollars.get(part, 0.0) + dollars
        lately = (each for packs in self._packs.values() for each in packs.values() if 0 <= now - each.time < HOUR)
        count.rate = sum(each.outcomes["pixels"] for each in lately) / HOUR
        closed = sorted((facts.closed, name) for name, facts in self._facts.items() if facts.closed)[-_RECENT:]
        for _, name in closed:
            seconds = self._seconds(name)
            count.recent[name] = (seconds, self._facts[name].bill(prices, seconds).dollars)
        count.waiting = self._waiting(now)
        return count

    def _under_way(self, name: str) -> list[Mapping[str, Any]]:
        """Outcomes of whole packs of footprints that are being made."""
        return [each.outcomes for each in self._packs.get(name, {}).values()] if self._facts[name].under_way else []

    def _seconds(self, name: str) -> float:
        return self._facts[name].seconds + sum(outcomes["seconds"] for outcomes in self._under_way(name))

    def _add_pixels(self, count: Count, name: str, facts: Facts) -> None:
        found = self._under_way(name) if facts.under_way else [facts.counted] if facts.counted else []
        for outcomes in found:
            count.pixels.update({status: outcomes[status] for status in ("ok", "empty", "failed")})
            count.failed.update(outcomes["reasons"])
        count.pixels["missing"] += max(facts.pixels - sum(outcomes["pixels"] for outcomes in found), 0)

    # ---- what waits

    def _waiting(self, now: float) -> dict[str, Waiting]:
        """Files that nobody has read, and scenes that are not done, by state; scenes that only run on demand aside."""
        known = arrivals.noted(self.store)
        unread = [each for each in arrivals.listed(self.settings.retrievals) if each.id not in known]
        since, budget = self.settings.arrivals.since, [_LOOKUPS]
        ages: dict[str, list[float | None]] = {"unread": [], **{state: [] for state in STATES[:-1]}}
        for each in unread:
            ages["unread"].append(each.modified or self._time_of(each.location, budget))
        for facts in self._facts.values():
            if facts.retrieval and not facts.resting and (since is None or facts.time.date() >= since):
                ages.setdefault(facts.state, []).append(facts.arrived or self._time_of(facts.retrieval, budget))
        return {state: _oldest(times, now) for state, times in ages.items()}

    def _time_of(self, location: str, budget: list[int]) -> float | None:
        """When an object came, s since 1970; None if nobody can tell, or not before a later look."""
        if location in self._times or not is_url(location) or budget[0] <= 0:
            return self._times.get(location)
        budget[0] -= 1
        fs = opened(location, "the retrieval file")
        try:
            told = steadily("looking for", location, lambda: fs.modified(location))
        except StoreError as error:
            if error.reason != "not_found":
                raise
            told = None
        except NotImplementedError:  # web servers tell no time
            told = None
        self._times[location] = told.timestamp() if told else None
        return self._times[location]


def _oldest(times: Iterable[float | None], now: float) -> Waiting:
    times = list(times)
    return Waiting(len(times), max((now - each for each in times if each is not None), default=0.0))


def _closed_lately(facts: Facts, now: float) -> bool:
    return facts.closed is not None and now - facts.closed < HOUR and bool(facts.latest)


def _same(there: tuple[int, float | None] | None, known: Finished) -> bool:
    return there is not None and there[0] == known.size and there[1] in (None, known.time)


def _whole_packs(store: Store, folder: str) -> dict[str, tuple[int, float | None]]:
    """Bytes and time (s since 1970, if the store tells it) of the packs' outcomes in a folder, by path."""

    def look() -> list[dict[str, Any]]:
        try:
            return store.fs.ls(folder, detail=True)
        except FileNotFoundError:
            return []

    found = {}
    for entry in steadily("listing", folder, look):
        name = entry["name"].rsplit("/", 1)[-1]
        if name.startswith("pack=") and name.endswith(".parquet"):
            when = next((entry[each] for each in _WRITTEN if entry.get(each)), None)
            seconds = when.timestamp() if isinstance(when, datetime) else when
            found[store.file(folder, name)] = (int(entry["size"]), seconds)
    return found


def _finished(store: Store, there: Mapping[str, tuple[int, float | None]], now: float) -> dict[str, Finished]:
    """What packs hold; one whose time is not known was finished just `now`."""
    found = {}
    for path, content in store.read_many(there, as_far_as_there=True).items():
        size, when = there[path]
        try:
            rows = read_outcomes_file(content, path)[0]
        except DamagedError:
            rows = []
        found[path] = Finished(size, now if when is None else when, summary_of(rows))
    return found
