"""
Which scenes are there?

A retrieval file makes a scene of each overpass of a target that it has good pixels of. The store is the catalog. A
file that holds the same overpass as an earlier one is that scene's new issue, whatever minute its own first good pixel
has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from stilt_assets.errors import UnknownSceneError, UsageError
from stilt_assets.issue import ONE_OVERPASS, is_older, issue_of, same_overpass
from stilt_assets.meteorology import box_of
from stilt_assets.recipes import Desk, choice_of, stamped
from stilt_assets.retrieval import Retrieval, read_retrieval, readable, worth_running
from stilt_assets.retrieval.overpasses import overpasses
from stilt_assets.retrieval.points import INSTRUMENT, places_of
from stilt_assets.scene import Record, Scene, load_record, load_records, sha256_of
from stilt_assets.settings import GridTargetSettings, Settings, is_url
from stilt_assets.status import gaps_of, state_of
from stilt_assets.store import Store
from stilt_assets.worth import outside_of


@dataclass(frozen=True)
class Coverage:
    """What a file holds of one target."""

    target: str
    scene: Scene | None  # None without a good pixel
    pixels: int
    dropped: Mapping[str, int]
    counted: Mapping[str, Any] = field(default_factory=dict)  # JSON values: what the scene can be weighed by
    product: str = ""
    became: str = ""  # new, known, reissued or older: what the file is to its scene
    overpass: str = ""  # the minute (UTC) in which it begins, if the file has several of the target


@dataclass(frozen=True)
class Seen:
    """What a file holds of each target, and what it is."""

    location: str  # absolute path or URL
    found: Sequence[Coverage]
    facts: Mapping[str, Any]  # path, size, sha256, product, and the time of a file


def counted_in(retrieval: Retrieval) -> dict[str, Any]:
    """
    What a scene can be weighed by before its pixels are made: how many, where (degrees), when (UTC), how uncertain.

    The error of the mean of several pixels is not in it: `uncertainty` is the middle one of the pixels'.
    """
    pixels = retrieval.pixels
    times = (pixels["time"].min().floor("min"), pixels["time"].max().floor("min"))
    return {
        "pixels": len(pixels),
        "dropped": dict(retrieval.dropped),
        "box": list(box_of(pixels["longitude"].to_list(), pixels["latitude"].to_list())),
        "times": [f"{time:%Y-%m-%dT%H:%M}+00:00" for time in times],
        "uncertainty": float(pixels["uncertainty"].median()),
        "units": str(pixels["units"].iloc[0]),
    }


def coverage_of(location: str, settings: Settings) -> list[Coverage]:
    """What a retrieval file holds of each target, an overpass each. RetrievalError if it cannot be read."""
    found = []
    for name, target in settings.targets.items():
        if isinstance(target, GridTargetSettings):
            continue
        outside = outside_of(settings, target)
        for begin, good in overpasses(read_retrieval(location, target.bounds)).items():
            found.append(_covered(name, worth_running(good, target.pixels, outside), begin))
    return found


def _covered(target: str, retrieval: Retrieval, overpass: str) -> Coverage:
    facts = {"dropped": retrieval.dropped, "product": retrieval.product, "overpass": overpass}
    if not len(retrieval.pixels):
        return Coverage(target, None, 0, **facts)
    scene = Scene(retrieval.time, retrieval.instrument, target)
    return Coverage(target, scene, len(retrieval.pixels), counted=counted_in(retrieval), **facts)


def look_into(location: str, settings: Settings) -> Seen:
    """Read a retrieval file (path or URL) once for all targets. RetrievalError if it cannot be read."""
    place = location if is_url(location) else str(Path(location).absolute())
    if not is_url(place):
        return _seen(place, coverage_of(place, settings), stamped(place, {}))
    with readable(place) as path:
        facts = {"size": path.stat().st_size, "sha256": sha256_of(path)}
        return _seen(place, coverage_of(str(path), settings), facts)


def _seen(place: str, found: Sequence[Coverage], facts: Mapping[str, Any]) -> Seen:
    product = next((each.product for each in found), "")
    return Seen(place, found, {"path": place, **facts, "product": product})


def register(location: str, settings: Settings, store: Store) -> list[Coverage]:
    """Put the scenes of a retrieval file into the store; a known scene learns where its file is now."""
    return enter(look_into(location, settings), settings, store)


def enter(seen: Seen, settings: Settings, store: Store, *, newer_only: bool = False) -> list[Coverage]:
    """
    Put the scenes of a file that was read into the store.

    The answer names each target's scene as the store has it. With `newer_only`, a scene keeps the issue that it has if
    the file is an older one.
    """
    names = store.scene_names() if any(coverage.scene for coverage in seen.found) else []
    return [_enter(coverage, seen, names, settings, store, newer_only) for coverage in seen.found]


def _enter(
    coverage: Coverage, seen: Seen, names: Sequence[str], settings: Settings, store: Store, newer_only: bool
) -> Coverage:
    if coverage.scene is None:
        return coverage
    record = _record_of(coverage.scene, seen, names, store)
    before = record.retrieval
    same = before.get("sha256") == seen.facts["sha256"]
    if newer_only and not same and is_older(issue_of(seen.location), issue_of(before.get("path", ""))):
        return replace(coverage, scene=record.scene, became="older")
    record.retrieval = dict(seen.facts) | ({"overpass": coverage.overpass} if coverage.overpass else {})
    choice = choice_of(Desk(record, settings, store))
    record.retrieval |= {"counted": {**coverage.counted, "choice": choice}}
    record.changed.add("retrieval")
    record.save(store)
    return replace(coverage, scene=record.scene, became="known" if before and same else "reissued" if before else "new")


def _record_of(scene: Scene, seen: Seen, names: Sequence[str], store: Store) -> Record:
    """The record of the scene that a file's pixels belong to: one that is there, or a new one."""
    known = [found for name in names if (found := _other_time_of(scene, name)) is not None]
    for other in sorted(known, key=lambda each: abs(each.time - scene.time)):
        try:
            record = load_record(store, other.key)
        except UnknownSceneError:  # its folder is there, and not yet its record
            continue
        there = record.retrieval.get("path")
        itself = other == scene or record.retrieval.get("sha256") == seen.facts["sha256"]
        if itself or (there and same_overpass(issue_of(seen.location), issue_of(there), other.time - scene.time)):
            return record
    return Record(scene.key, {})


def _other_time_of(scene: Scene, name: str) -> Scene | None:
    """The scene of that name, if it is of the same instrument and target and of the same hour or so."""
    if not name.endswith(f"_{scene.instrument}_{scene.target}"):
        return None
    try:
        other = Scene.from_key(name)
    except UsageError:
        return None
    near = abs(other.time - scene.time) <= ONE_OVERPASS
    return other if near and (other.instrument, other.target) == (scene.instrument, scene.target) else None


def register_grid(name: str, time: datetime, settings: Settings, store: Store) -> str:
    """Put the scene of a grid of points at a time (UTC) into the store; its key. UsageError if `name` is no grid."""
    target = settings.target(name)
    if not isinstance(target, GridTargetSettings):
        raise UsageError(f"the target '{name}' is no grid of points (kind: grid)")
    scene = Scene(time.astimezone(UTC).replace(second=0, microsecond=0), INSTRUMENT, name)
    try:
        record = load_record(store, scene.key)
    except UnknownSceneError:
        record = Record(scene.key, {})
    table = places_of(target)
    counted = {
        "pixels": len(table),
        "dropped": {},
        "box": list(box_of(table["longitude"].to_list(), table["latitude"].to_list())),
        "times": [f"{scene.time:%Y-%m-%dT%H:%M}+00:00"] * 2,
        "uncertainty": None,
        "units": "",
        "choice": choice_of(Desk(record, settings, store)),
    }
    record.retrieval = {"source": "grid", "counted": counted}
    record.changed.add("retrieval")
    record.save(store)
    return scene.key


# ---- scenes that are there


@dataclass(frozen=True)
class Chosen:
    """A scene that somebody's choice fits."""

    key: str
    state: str  # registered, started, footprints, done or reissued
    gaps: int


def chosen(
    settings: Settings, store: Store, start: date, end: date, target: str | None = None, product: str | None = None
) -> list[Chosen]:
    """
    Registered scenes from the day `start` to before the day `end` (UTC), oldest first.

    Of one target or product only, if that is given. UnknownTargetError if the settings lack the target.
    """
    if target is not None:
        settings.target(target)
    keys = [name for name in store.scene_names() if (day := _day_of(name)) is not None and start <= day < end]
    keys = [key for key in keys if target in (None, Scene.from_key(key).target)]
    there = store.are_there([store.record(key) for key in keys])
    records = load_records(store, [key for key in keys if store.record(key) in there])
    found = []
    for record in records:
        if product in (None, record.retrieval.get("product")):
            found.append(Chosen(record.key, state_of(record), gaps_of(record)))
    return found


def _day_of(name: str) -> date | None:
    try:
        return Scene.from_key(name).time.date()
    except UsageError:
        return None
