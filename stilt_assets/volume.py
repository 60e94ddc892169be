"""
How much does a scene write?

Bytes and objects of each stage, from what the scene is, times what earlier scenes of the store were found to write.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stilt_assets.scene import Record

STAGES = ("pixels", "particles", "footprints", "jacobian")  # whose size follows from the scene; not the meteorology's
# Measured on 9 and 44 pixels of 20 and 100 particles over 2 and 6 hours, and on 1,000 particles over 24 hours.
_PIXELS, _PER_PIXEL = 6e3, 600.0  # bytes of three tables, and of a pixel in them
_PER_ROW = {"full": 4.5, "core": 3.0, "endpoints": 0.0}  # bytes of a particle's minute
_PER_END = 60.0  # bytes of a particle's end
_PER_PACK = 8e3  # bytes of a pack's cells and outcomes that do not grow
PER_CELL_KEPT, _PER_CELL_OF_H = 6.0, 2.0  # bytes
_JACOBIAN = 8e4  # bytes of all that does not grow
_SEEN = 0.027  # share of cells and hours that 1,000 particles over 24 hours reached on 200 x 200 cells
_OBJECTS, _PER_AGGREGATE = 58, 11  # of a Jacobian, and of each of its coarser copies
_ROWS, _SHARD = 256, 2**24  # rows of a dense chunk, entries of a shard


@dataclass(frozen=True)
class Load:
    """What a scene's bytes follow from."""

    pixels: int
    packs: int
    particles: int
    hours_back: int
    keep: str
    cells: int  # of the grid
    aggregates: int  # coarser copies of H

    @property
    def seen(self) -> float:
        """Entries of H, before anything is known of others."""
        minutes = self.particles * self.hours_back * 60
        return self.pixels * min(_SEEN * self.cells * self.hours_back, float(minutes))


def _formula(stage: str, load: Load, seen: float) -> float:
    rows = load.pixels * load.particles * load.hours_back * 60
    if stage == "pixels":
        return _PIXELS + _PER_PIXEL * load.pixels
    if stage == "particles":
        return _PER_ROW[load.keep] * rows + _PER_END * load.pixels * load.particles
    if stage == "footprints":
        return _PER_PACK * load.packs + PER_CELL_KEPT * seen
    return _JACOBIAN + _PER_CELL_OF_H * seen


@dataclass(frozen=True)
class Volume:
    """Bytes and objects by stage; `factors` are of earlier scenes: found / formula, the middle ones."""

    factors: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Volume":
        """As the scenes that ran have written."""
        found: dict[str, list[float]] = {}
        for record in records:
            for stage, factor in _factors(record).items():
                found.setdefault(stage, []).append(factor)
        return cls({stage: float(np.median(factors)) for stage, factors in found.items()})

    def bytes(self, stage: str, load: Load) -> float:
        """Bytes of one stage's result."""
        seen = self.factors.get("seen", 1.0) * load.seen
        return self.factors.get(stage, 1.0) * _formula(stage, load, seen)

    def objects(self, stage: str, load: Load) -> int:
        """Files or objects of one stage's result."""
        if stage == "pixels":
            return 3
        if stage == "meteorology":
            return 2
        if stage == "particles":
            return load.packs * (1 if load.keep == "endpoints" else 2)
        if stage == "footprints":
            return load.packs * 2
        shards = int(self.factors.get("seen", 1.0) * load.seen) // _SHARD
        dense = (max(load.pixels, 1) - 1) // _ROWS  # more chunks of each array with a row per pixel
        return _OBJECTS + _PER_AGGREGATE * load.aggregates + 2 * shards + (2 + load.aggregates) * dense


def _factors(record: Record) -> dict[str, float]:
    """What one scene wrote / the formula, by stage; `seen` for the entries of H."""
    summaries = {stage: (record.result_of(stage) or {}).get("summary", {}) for stage in STAGES}
    load = load_behind(record, summaries)
    if load is None or not load.pixels:
        return {}
    entries = summaries["jacobian"].get("nnz")
    factors = {"seen": entries / load.seen} if entries else {}
    for stage, summary in summaries.items():
        if "bytes" in summary and (stage in ("pixels", "particles") or entries is not None):
            factors[stage] = summary["bytes"] / max(_formula(stage, load, entries or 0), 1.0)
    return factors


def load_behind(record: Record, summaries: Mapping[str, Any]) -> Load | None:
    """What the current results of a scene follow from; None if it has no footprints."""
    made = {stage: (record.result_of(stage) or {}).get("made_from", {}) for stage in ("particles", "footprints")}
    if not made["particles"] or "packs" not in summaries["footprints"]:
        return None
    grid = made["footprints"]["grid"]
    width = grid["east"] - grid["west"] + (360.0 if grid["east"] <= grid["west"] else 0.0)
    return Load(
        pixels=summaries["footprints"]["pixels"],
        packs=summaries["footprints"]["packs"],
        particles=made["particles"]["particles"],
        hours_back=made["particles"]["hours_back"],
        keep=made["particles"]["keep"],
        cells=round(width * (grid["north"] - grid["south"]) / grid["resolution"] ** 2),
        aggregates=len((record.result_of("jacobian") or {}).get("made_from", {}).get("aggregate", {})),
    )
