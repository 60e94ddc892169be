"""
Which scenes are there?

A retrieval file makes a scene of every target that it has good pixels of. The store is the catalog.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stilt_assets.errors import UnknownSceneError
from stilt_assets.recipes import stamped
from stilt_assets.retrieval import read_retrieval
from stilt_assets.scene import Record, Scene, load_record
from stilt_assets.settings import Settings, is_url
from stilt_assets.store import Store


@dataclass(frozen=True)
class Coverage:
    """What a file holds of one target."""

    target: str
    scene: Scene | None  # None without a good pixel
    pixels: int
    dropped: Mapping[str, int]


def coverage_of(location: str, settings: Settings) -> list[Coverage]:
    """What a retrieval file holds of each target. RetrievalError if it cannot be read."""
    found = []
    for name, target in settings.targets.items():
        retrieval = read_retrieval(location, target.bounds)
        scene = Scene(retrieval.time, retrieval.instrument, name) if len(retrieval.pixels) else None
        found.append(Coverage(name, scene, len(retrieval.pixels), retrieval.dropped))
    return found


def register(location: str, settings: Settings, store: Store) -> list[Coverage]:
    """Put the scenes of a retrieval file into the store; a known scene learns where its file is now."""
    place = location if is_url(location) else str(Path(location).absolute())
    found = coverage_of(place, settings)
    facts = {"path": place} | stamped(place, {})
    for coverage in found:
        if coverage.scene is None:
            continue
        key = coverage.scene.key
        try:
            record = load_record(store, key)
        except UnknownSceneError:
            record = Record(key, {})
        record.retrieval = facts
        record.changed.add("retrieval")
        record.save(store)
    return found
