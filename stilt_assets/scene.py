"""
What is one scene, what is it called, and what made each of its results?

A result's name ends in the hash of all that made it (a `Recipe`): settings, the bytes or ids of its inputs, versions
of code and model. A scene's record, `scene.json`, keeps every recipe, so that the difference can be told.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stilt_assets.errors import DamagedError, UnknownSceneError, UsageError
from stilt_assets.store import Store

IMAGE_VARIABLE = "STILT_ASSETS_IMAGE"  # name and digest of the container image that a deployment runs
STAGES = ("pixels", "meteorology", "particles", "footprints", "jacobian")
_TURN = 60.0  # s that another process may take to save a record
_PARTS = ("retrieval", "current", "results", "superseded", "under_way")
_RESULT = re.compile(rf"({'|'.join(STAGES)})-[0-9a-f]{{12}}", re.ASCII)  # one folder's name, never a path
_KEY = re.compile(r"(?P<time>\d{8}T\d{4}Z)_(?P<instrument>[A-Za-z0-9-]+)_(?P<target>[A-Za-z0-9_-]+)", re.ASCII)


@dataclass(frozen=True, order=True)
class Scene:
    """One overpass of one target."""

    time: datetime  # UTC, to the minute
    instrument: str
    target: str

    @property
    def key(self) -> str:
        """The scene's one name everywhere: partition key, folder, log line. Time first: keys sort by time."""
        return f"{self.time:%Y%m%dT%H%MZ}_{self.instrument}_{self.target}"

    @classmethod
    def from_key(cls, key: str) -> "Scene":
        """The scene of that name. UsageError if it is no scene's name."""
        parts = _KEY.fullmatch(key)
        if parts is None:
            raise UsageError(f"'{key}' is no scene key; one looks like 20190530T0958Z_tropomi_slc")
        try:
            time = datetime.strptime(parts["time"], "%Y%m%dT%H%MZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise UsageError(f"'{key}' is no scene key: {error}") from error
        return cls(time, parts["instrument"], parts["target"])


def is_key(name: str) -> bool:
    """Whether a name is a scene's."""
    try:
        Scene.from_key(name)
    except UsageError:
        return False
    return True


def digest(*contents: bytes | str) -> str:
    """sha256 (hex) of contents, each with its length, so that no two sequences collide."""
    total = hashlib.sha256()
    for content in contents:
        data = content.encode() if isinstance(content, str) else content
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.hexdigest()


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Recipe:
    """All that makes one result of one stage: JSON values by name."""

    stage: str
    made_from: Mapping[str, Any]

    @property
    def id(self) -> str:
        """12 hex digits of the sha256 over the recipe."""
        return digest(self.stage, json.dumps(self.made_from, sort_keys=True, separators=(",", ":")))[:12]

    @property
    def name(self) -> str:
        """The result's name: stage and id."""
        return f"{self.stage}-{self.id}"

    def differences(self, before: Mapping[str, Any]) -> list[str]:
        """What differs from an earlier recipe, a line each."""
        new, old = _flat(self.made_from), _flat(before)
        return [
            f"{name} was {_short(old.get(name))}, is {_short(new.get(name))}"
            for name in sorted(new.keys() | old.keys())
            if new.get(name) != old.get(name)
        ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {name: leaf for key, part in value.items() for name, leaf in _flat(part, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): value}


def _short(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:12]}…"


@dataclass
class Record:
    """What `scene.json` says: where the scene comes from, its results, which are current, which were before."""

    key: str
    retrieval: dict[str, Any]
    current: dict[str, str] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    superseded: list[dict[str, Any]] = field(default_factory=list)
    under_way: str = ""  # the footprints that are being made
    widened: dict[str, str] = field(default_factory=dict)  # ids of meteorology whose crop was too small, and why
    distrusted: dict[str, str] = field(default_factory=dict)  # ids of particles that the guard did not believe, and why
    changed: set[str] = field(default_factory=set, compare=False)  # what of it this process has changed

    @property
    def scene(self) -> Scene:
        """The scene itself."""
        return Scene.from_key(self.key)

    def result_of(self, stage: str) -> dict[str, Any] | None:
        """The entry of a stage's current result."""
        name = self.current.get(stage)
        return None if name is None else self.results.get(name)

    def begin(self, recipe: Recipe, **facts: Any) -> dict[str, Any]:
        """The entry of a result, made if it is new."""
        return self.results.setdefault(recipe.name, {"made_from": dict(recipe.made_from), **facts})

    def go_under_way(self, name: str) -> None:
        """Say which footprints are being made now; none if empty."""
        self.under_way = name
        self.changed.add("under_way")

    def widen(self, recipe: Recipe, why: str) -> None:
        """Say why the crop of a meteorology was too small; from now on its recipe asks for a wider one."""
        if not recipe.made_from["widened"]:
            self.widened.setdefault(recipe.id, why)

    def finish(self, recipe: Recipe, summary: Mapping[str, Any], *, made: bool = True) -> None:
        """
        Make a result the current one of its stage and say what differs from the one before.

        A container's image is named beside what it made; it is no part of what a result is.
        """
        entry = self.begin(recipe)
        if made:
            entry.pop("image", None)
            if image := os.environ.get(IMAGE_VARIABLE):
                entry["image"] = image
        entry["summary"] = dict(summary)
        self.changed |= {recipe.stage, recipe.name}
        if recipe.stage == "footprints":
            self.go_under_way("")
        before = self.current.get(recipe.stage)
        if before and before != recipe.name:
            differs = recipe.differences(self.results[before]["made_from"])
            self.superseded = [entry for entry in self.superseded if entry["result"] not in (before, recipe.name)]
            self.superseded.append({"result": before, "by": recipe.name, "differs": differs})
        self.current[recipe.stage] = recipe.name

    def save(self, store: Store) -> None:
        """
        Write `scene.json`, if it differs, with what another process has put there meanwhile.

        Processes of one user that share a TMPDIR take turns; BusyError if one of them does not come to its end. Of two
        others that do it in the same milliseconds the later one wins.
        """
        path = store.record(self.key)
        with store.alone(path, _TURN):
            self._save(store, path)

    def _save(self, store: Store, path: str) -> None:
        before = store.read_if_there(path)
        if before is not None:
            self._take_over(_record_in(before, path, self.key))
        scene = self.scene
        content = {
            "scene": self.key,
            "time": f"{scene.time:%Y-%m-%dT%H:%MZ}",
            "instrument": scene.instrument,
            "target": scene.target,
            "retrieval": self.retrieval,
            "current": {stage: self.current[stage] for stage in STAGES if stage in self.current},
            "results": self.results,
            "superseded": self.superseded,
            "under_way": self.under_way,
            "widened": self.widened,
            "distrusted": self.distrusted,
        }
        data = (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
        if before != data:
            store.write(path, data)

    def _take_over(self, there: "Record") -> None:
        """Keep of the record in the store whatever this process has not changed."""
        if "retrieval" in self.changed:
            self.retrieval |= _issues_before(self.retrieval, there.retrieval)
        elif there.retrieval.get("path") != self.retrieval.get("path"):
            self.retrieval = there.retrieval
        if "under_way" not in self.changed:
            self.under_way = there.under_way
        self.widened = there.widened | self.widened
        self.distrusted = there.distrusted | self.distrusted
        others = {name: entry for name, entry in there.results.items() if name not in self.changed}
        self.results = self.results | others
        self.current = there.current | {stage: name for stage, name in self.current.items() if stage in self.changed}
        entries = {entry["result"]: entry for entry in (*there.superseded, *self.superseded)}
        self.superseded = [entry for name, entry in entries.items() if name not in self.current.values()]


def _issues_before(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The issues of a scene's retrieval that were before this one, if any, the latest last."""
    earlier = list(before.get("earlier", []))
    if before and before.get("sha256") != now.get("sha256"):
        earlier.append({name: before[name] for name in ("path", "sha256") if name in before})
    return {"earlier": earlier} if earlier else {}


def load_record(store: Store, key: str) -> Record:
    """A registered scene's record. UnknownSceneError if there is none, DamagedError if it is none."""
    Scene.from_key(key)
    path = store.record(key)
    content = store.read_if_there(path)
    if content is None:
        raise UnknownSceneError(
            f"scene '{key}' is not in the store {store}; register it with: stilt-assets scenes add FILE"
        )
    return _record_in(content, path, key)


def load_records(store: Store, keys: Sequence[str], *, sound_only: bool = False) -> list[Record]:
    """
    The records of scenes that the store is known to have, read side by side.

    DamagedError if one is damaged, StoreError if one is gone; with `sound_only` such are passed over.
    """
    paths = {store.record(Scene.from_key(key).key): key for key in keys}
    records = []
    for path, content in store.read_many(paths, as_far_as_there=sound_only).items():
        try:
            records.append(_record_in(content, path, paths[path]))
        except DamagedError:
            if not sound_only:
                raise
    return records


def _record_in(data: bytes, path: str, key: str) -> Record:
    try:
        content = json.loads(data)
        names = [*content["current"].values(), *content["results"], *filter(None, [content["under_way"]])]
        told = {part: content.get(part, {}) for part in ("widened", "distrusted")}
        record = Record(key, *(content[part] for part in _PARTS), **told)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise DamagedError(f"{path} is no scene.json; remove it and register the scene again", path) from None
    wrong = [name for name in names if not (isinstance(name, str) and _RESULT.fullmatch(name))]
    if wrong or not isinstance(record.retrieval, dict):
        raise DamagedError(
            f"{path} is no scene.json: it names what is no result; remove it and register the scene again",
            path,
        )
    return record
