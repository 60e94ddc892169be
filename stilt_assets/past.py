"""
What have scenes that ran taken?

Outcomes of some packs of some scenes: enough to learn from, and few requests however many scenes the store has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stilt_assets.cost import Sample, Work
from stilt_assets.errors import DamagedError
from stilt_assets.information import PER_HOUR
from stilt_assets.scene import Recipe, Record, digest, is_key, load_records
from stilt_assets.simulation import Status
from stilt_assets.store import Store
from stilt_assets.table import read_outcomes_file

_SCENES = 40  # that have run, to learn from
_LOOKED_AT = 400  # scenes at most, to find these
_AT_ONCE = 80  # records read side by side
_PACKS = 4  # of a scene


@dataclass(frozen=True)
class Past:
    """Scenes that have run, at least in part, and what packs of theirs took."""

    records: Sequence[Record]
    samples: Sequence[Sample]
    strength: float | None  # of footprints, a share of PER_HOUR for each hour back: the scenes' middle one


def past_of(store: Store) -> Past:
    """What some scenes of a store took: always the same ones, chosen by a hash of their keys."""
    paths = {path: record for record in _that_ran(store) for path in _some_packs(store, record)}
    contents = store.read_many(paths, as_far_as_there=True)  # a pack that runs again just now is gone
    samples: list[Sample] = []
    sums: dict[str, list[float]] = {}  # each pixel's share of PER_HOUR times hours back, by scene
    for path, content in contents.items():
        record = paths[path]
        work = work_behind(record, _ran(record))
        rows = _rows(content, path)
        if work is None or not rows:
            continue
        samples += _samples(record.key, work, rows)
        sums.setdefault(record.key, []).extend(row["row_sum"] / (PER_HOUR * work.hours_back) for row in rows)
    strengths = [float(np.sqrt(np.mean(np.square(each)))) for each in sums.values()]
    records = {record.key: record for record in paths.values()}
    return Past(list(records.values()), samples, float(np.median(strengths)) if strengths else None)


def _that_ran(store: Store) -> Iterator[Record]:
    keys = sorted(filter(is_key, store.scene_names()), key=digest)[:_LOOKED_AT]
    found = 0
    for start in range(0, len(keys), _AT_ONCE):
        for record in load_records(store, keys[start : start + _AT_ONCE], sound_only=True):
            if _ran(record) and found < _SCENES:
                found += 1
                yield record
        if found >= _SCENES:
            return


def _ran(record: Record) -> str:
    """The name of a scene's footprints, those under way if no others are there."""
    return record.current.get("footprints", "") or record.under_way


def _some_packs(store: Store, record: Record) -> list[str]:
    there = store.packs(store.result(record.key, _ran(record)), "outcomes")
    return [there[n] for n in np.unique(np.linspace(0, len(there) - 1, _PACKS).round().astype(int))] if there else []


def _rows(content: bytes, path: str) -> list[dict[str, Any]]:
    """Outcomes of pixels that were followed to their end; none of a damaged file."""
    try:
        rows = read_outcomes_file(content, path)[0]
    except DamagedError:
        return []
    return [row for row in rows if row["status"] in (Status.ok.name, Status.empty.name)]


def _samples(scene: str, work: Work, rows: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """What the pixels of a pack took, those apart whose kept particles were gridded."""
    found = []
    for kept in (False, True):
        chosen = [row for row in rows if kept is (row["attempts"] == 0)]
        # The seconds are those of the last attempt, and nobody knows those of the ones before it.
        seconds = sum(row["seconds"] * max(row["attempts"], 1) for row in chosen)
        if seconds > 0:
            found.append(Sample(scene, replace(work, kept=kept), len(chosen), seconds))
    return found


def work_behind(record: Record, footprints: str) -> Work | None:
    """What a pixel of these footprints needed; None if the record does not know it any more."""
    made_from = record.results.get(footprints, {}).get("made_from", {})
    particles = _particles_behind(record, made_from.get("particles", ""))
    weather = record.results.get(f"meteorology-{particles.get('meteorology')}", {}).get("summary")
    if not particles or not weather:
        return None
    return Work(
        particles["transport"],
        particles["particles"],
        particles["hours_back"],
        weather["hours"],
        weather["bytes"] / 1e9,
        weather["levels"],
    )


def _particles_behind(record: Record, id_: str) -> Mapping[str, Any]:
    """What made particles of that id, which does not depend on what of them is kept."""
    for name, entry in record.results.items():
        made_from = {part: value for part, value in entry["made_from"].items() if part != "keep"}
        if name.startswith("particles-") and Recipe("particles", made_from).id == id_:
            return made_from
    return {}
