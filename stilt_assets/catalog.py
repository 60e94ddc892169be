"""
Which scenes are there?

A retrieval file makes a scene of every target that it has good pixels of. The store is the catalog.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stilt_assets.errors import UnknownSceneError
from stilt_assets.meteorology import box_of
from stilt_assets.recipes import Desk, choice_of, stamped
from stilt_assets.retrieval import Retrieval, read_retrieval
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
    counted: Mapping[str, Any] = field(default_factory=dict)  # JSON values: what the scene can be weighed by


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
    """What a retrieval file holds of each target. RetrievalError if it cannot be read."""
    found = []
    for name, target in settings.targets.items():
        retrieval = read_retrieval(location, target.bounds)
        if not len(retrieval.pixels):
            found.append(Coverage(name, None, 0, retrieval.dropped))
            continue
        scene = Scene(retrieval.time, retrieval.instrument, name)
        found.append(Coverage(name, scene, len(retrieval.pixels), retrieval.dropped, counted_in(retrieval)))
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
        choice = choice_of(Desk(record, settings, store))
        record.retrieval = facts | {"counted": {**coverage.counted, "choice": choice}}
        record.changed.add("retrieval")
        record.save(store)
    return found
