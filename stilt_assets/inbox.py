"""
What is done about the files that are there: those that arrived since the last look, and those of given days?

A look reads some files, puts their scenes into the store, wishes for their runs, and notes what became of each file,
in this order. Whatever stops it, the next look does the rest: a file without a note is read again, a wish stays until
a later look has seen that its run was asked for.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from time import monotonic
from typing import Any

from stilt_assets import arrivals
from stilt_assets.arrivals import Arrival, Note
from stilt_assets.catalog import Coverage, enter, look_into
from stilt_assets.errors import RetrievalError, StoreError, WorkersKilledError
from stilt_assets.issue import issue_of
from stilt_assets.scene import Scene
from stilt_assets.settings import Settings
from stilt_assets.store import Store

SECONDS = 40.0  # after which a look begins no further file: Dagster gives a tick 60
SETTLED = 60.0  # s that a file has not changed: nobody writes it any more
YOUNG = 600.0  # s: a younger file that cannot be read may be half of one
TRIES = 3  # of a file whose reader was killed
_WISHES = "wishes"
_REMEMBERED = 200  # young files whose stamps a cursor holds, at most


def _nothing(_: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Wish:
    """A scene that waits for its run to be asked for."""

    key: str
    issue: str  # start of the sha256 of its retrieval file

    @property
    def run_key(self) -> str:
        """The same for the same scene from the same file: it is run once."""
        return f"{self.key}:{self.issue}"

    @property
    def name(self) -> str:
        """Of its file in the store."""
        return f"{self.key}.{self.issue}"


def wishes(store: Store) -> list[Wish]:
    """Scenes that wait for their runs to be asked for, the newest first."""
    names = store.names(store.beside(_WISHES))
    return sorted((Wish(*name.split(".", 1)) for name in names if "." in name), key=lambda each: each.key, reverse=True)


def wish(store: Store, wanted: Wish) -> None:
    """Let a scene wait for its run."""
    store.write(store.beside(_WISHES, wanted.name), b"")


@dataclass(frozen=True)
class Taken:
    """What became of a file, as a line and as a note."""

    arrival: Arrival
    note: Note
    found: Sequence[Coverage] = ()  # empty if the file was not read anew

    @property
    def line(self) -> str:
        """For people."""
        if self.note.state == "refused":
            return f"set aside until it changes: {self.note.why}"
        told = [f"{each.target}: {each.pixels} good pixels, {each.became or 'no'} scene" for each in self.found]
        return f"{self.arrival.name}: {'; '.join(told) or self.note.state}"


@dataclass
class Cursor:
    """What one look leaves to the next, beside what the store holds."""

    asked: list[str] = field(default_factory=list)  # names of wishes whose runs this look asks for
    young: list[str] = field(default_factory=list)  # ids of files that may still be written
    tries: dict[str, int] = field(default_factory=dict)  # of files whose reader was killed, by id

    @classmethod
    def from_text(cls, text: str | None) -> "Cursor":
        """The cursor that a text holds; a new one if that is none."""
        try:
            given = json.loads(text or "{}")
            return cls(**{name: given[name] for name in ("asked", "young", "tries") if name in given})
        except (ValueError, TypeError):
            return cls()

    @property
    def text(self) -> str:
        """As Dagster keeps it."""
        return json.dumps(vars(self), separators=(",", ":"))


@dataclass(frozen=True)
class Look:
    """What one look found."""

    cursor: Cursor
    asked: Sequence[Wish]
    taken: Sequence[Taken]
    waiting: int  # files for a later look
    trouble: str = ""  # why it ended early


def take_in(arrival: Arrival, settings: Settings, store: Store, tell: Callable[[Sequence[str]], None]) -> Taken | None:
    """
    Put the scenes of a file into the store; `tell` gets their keys before the note is made.

    None if the file is gone or changed while it was read. RetrievalError if it cannot be read.
    """
    try:
        seen = look_into(arrival.location, settings)
    except (RetrievalError, WorkersKilledError):
        if arrivals.again(arrival.location) != arrival:
            return None
        raise
    if arrivals.again(arrival.location) != arrival:
        return None
    found = enter(seen, settings, store, newer_only=True)
    keys = sorted(each.scene.key for each in found if each.scene)
    tell(keys)
    if not keys:
        state = "nothing"
    elif all(each.became == "older" for each in found if each.scene):
        state = "older"
    else:
        state = "taken in"
    note = Note(
        arrivals.shown(arrival),
        arrival.stamp,
        state,
        sha256=seen.facts["sha256"],
        product=next((each.product for each in found), ""),
        keys=keys,
        targets=_asked(settings),
    )
    return Taken(arrival, note, found)


def _asked(settings: Settings) -> dict[str, Any]:
    return {name: list(target.bounds) for name, target in settings.targets.items()}


def refused(arrival: Arrival, error: Exception) -> Taken:
    """A file that cannot be read."""
    return Taken(arrival, Note(arrivals.shown(arrival), arrival.stamp, "refused", str(error)))


# ---- what arrived since the last look


def look(
    settings: Settings,
    store: Store,
    before: str | None,
    *,
    room: int,
    now: float,
    tell: Callable[[Sequence[str]], None] = _nothing,
) -> Look:
    """
    Take in files that arrived, and ask for the runs of at most `room` scenes; `before` is the last look's cursor.

    `now` is in s since 1970. `tell` gets the keys of scenes before anything is noted. StoreError if the files cannot
    be listed; if the store fails later, what was done stands and the answer tells of it.
    """
    last = Cursor.from_text(before)
    for name in last.asked:
        store.remove(store.beside(_WISHES, name))
    known = arrivals.noted(store)
    new = arrivals.newest_first(each for each in arrivals.listed(settings.retrievals) if each.id not in known)
    ready, young = _sorted_out(new, last, now)
    begun, taken, tries, trouble = monotonic(), list[Taken](), dict[str, int](), ""
    for arrival in ready[: settings.arrivals.files]:
        if monotonic() - begun > SECONDS:
            break
        try:
            one = _take(arrival, settings, store, last.tries.get(arrival.id, 0), now, tell)
        except _KilledOnceMoreError as error:
            tries[arrival.id] = error.times
            continue
        except StoreError as error:
            trouble = str(error)
            break
        if one is not None:
            taken.append(one)
    asked = wishes(store)[: max(room, 0)]
    tries |= {name: count for name, count in last.tries.items() if name not in tries and name in {a.id for a in new}}
    tries = {name: count for name, count in tries.items() if name not in {one.arrival.id for one in taken}}
    cursor = Cursor([each.name for each in asked], [each.id for each in young[:_REMEMBERED]], tries)
    return Look(cursor, asked, taken, len(new) - len(taken), trouble)


def _sorted_out(new: Sequence[Arrival], last: Cursor, now: float) -> tuple[list[Arrival], list[Arrival]]:
    """Files that are whole as far as one can see, and those that may still be written."""
    seen = set(last.young)
    whole = [each.modified is None or each.id in seen or now - each.modified > SETTLED for each in new]
    ready = [each for each, is_whole in zip(new, whole, strict=True) if is_whole]
    return ready, [each for each, is_whole in zip(new, whole, strict=True) if not is_whole]


class _KilledOnceMoreError(Exception):
    def __init__(self, times: int) -> None:
        super().__init__(times)
        self.times = times


def _take(
    arrival: Arrival, settings: Settings, store: Store, tries: int, now: float, tell: Callable[[Sequence[str]], None]
) -> Taken | None:
    try:
        one = take_in(arrival, settings, store, tell)
    except RetrievalError as error:
        if arrival.modified is not None and abs(now - arrival.modified) < YOUNG:
            return None  # it may be half of a file
        one = refused(arrival, error)
    except WorkersKilledError as error:
        if tries + 1 < TRIES:
            raise _KilledOnceMoreError(tries + 1) from error
        one = refused(arrival, error)
    if one is not None:
        for each in one.found:
            if each.scene and each.became != "older" and _is_recent(each.scene, settings):
                wish(store, Wish(each.scene.key, one.note.sha256[:12]))
        arrivals.note(store, arrival, one.note)
    return one


def _is_recent(scene: Scene, settings: Settings) -> bool:
    since = settings.arrivals.since
    return since is None or scene.time.date() >= since


# ---- files of given days


def days_between(first: date, last: date) -> list[date]:
    """All days from the first to the last."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def files_of_days(settings: Settings, first: date, last: date) -> list[Arrival]:
    """
    Files that may hold pixels of these days (UTC), as their names say, oldest first.

    A name that says no day may hold any.
    """

    def may(arrival: Arrival) -> bool:
        issue = issue_of(arrival.name)
        return issue is None or (issue.days[0] <= last and issue.days[1] >= first)

    return [each for each in reversed(arrivals.newest_first(arrivals.listed(settings.retrievals))) if may(each)]


def take_in_files(
    files: Iterable[Arrival],
    settings: Settings,
    store: Store,
    tell: Callable[[Sequence[str]], None] = _nothing,
    say: Callable[[str], None] = lambda _: None,
) -> list[Taken]:
    """
    Put the scenes of files into the store, whatever their age; a file that was asked the same before is not read.

    A file that cannot be read is among the answers; `say` is told of the others. Nothing waits for a run afterwards.
    """
    files = list(files)
    known, asked, taken = arrivals.notes_of(store, files), _asked(settings), list[Taken]()
    there = set(store.scene_names())
    for arrival in files:
        old = known.get(arrival.id)
        if old is not None and (old.state == "refused" or (old.targets == asked and there.issuperset(old.keys))):
            taken.append(Taken(arrival, old))
            tell(old.keys)
            continue
        try:
            one = take_in(arrival, settings, store, tell)
        except (RetrievalError, WorkersKilledError) as error:
            one = refused(arrival, error)
        if one is None:
            say(f"{arrival.name} changed while it was read; take it in again later")
            continue
        if one.note.state != "refused":
            say(one.line)
        if old is not None or one.note.state != "refused":
            arrivals.note(store, arrival, one.note)
        taken.append(one)
    return taken


def scenes_of(
    taken: Iterable[Taken], first: date, last: date, target: str | None = None, product: str | None = None
) -> dict[date, list[str]]:
    """Keys of the scenes of files, by their day (UTC); of one target and one product only, if they are given."""
    found: dict[date, set[str]] = {day: set() for day in days_between(first, last)}
    for one in taken:
        for key in one.note.keys:
            scene = Scene.from_key(key)
            day = scene.time.date()
            if day in found and target in (None, scene.target) and product in (None, one.note.product):
                found[day].add(key)
    return {day: sorted(keys) for day, keys in found.items()}
