"""
Is a result what it should be?

Questions to a result, answered as plain values: whether it passes, a line for people, numbers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from stilt_assets.agreement import Judgement
from stilt_assets.arrays import opened_group, read_array
from stilt_assets.simulation import Status
from stilt_assets.store import Store


@dataclass(frozen=True)
class Answer:
    """The answer to one question."""

    passed: bool
    line: str
    numbers: Mapping[str, float | int]


def few_pixels_lost(outcomes: Sequence[Mapping[str, Any]], tolerance: float) -> Answer:
    """Whether at most `tolerance` (share) of a scene's pixels failed."""
    reasons = Counter(row["reason"] for row in outcomes if row["status"] == Status.failed.name)
    lost = reasons.total()
    share = lost / len(outcomes) if outcomes else 0.0
    why = ", ".join(
        f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    )
    line = f"{lost} of {len(outcomes)} pixels lost ({share:.1%}), {tolerance:.1%} tolerated" + (
        f": {why}" if why else ""
    )
    return Answer(
        share <= tolerance, line, {"lost": lost, "pixels": len(outcomes), "share": share, "tolerance": tolerance}
    )


def no_gaps(outcomes: Sequence[Mapping[str, Any]]) -> Answer:
    """Whether every row of the Jacobian has a footprint or is known to be empty."""
    lost = Counter(row["reason"] for row in outcomes if row["status"] == Status.failed.name)
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(lost.items()))
    line = f"complete with {lost.total()} gaps: {why}" if lost else "complete"
    return Answer(not lost, line, {"gaps": lost.total(), "pixels": len(outcomes)})


def crop_was_large_enough(footprints: Mapping[str, Any]) -> Answer:
    """What the particles say of the meteorology's crop, from the summary of a scene's footprints."""
    return Answer(footprints["crop_was_large_enough"], footprints["crop"], {})


def native_agrees_with_hysplit(footprints: Mapping[str, Any], judgement: Judgement | None) -> Answer:
    """Whether the guard believes the particles, from the summary of a scene's footprints and what it said."""
    line = footprints.get("guard", f"nothing to compare: {footprints.get('transport', 'hysplit')}")
    return Answer(footprints.get("guard_agrees", True), line, judgement.numbers if judgement else {})


def jacobian_is_physical(path: Any, store: Store, footprints: str, pixels: int) -> Answer:
    """
    Whether H is finite and not negative, has a row per pixel, and row sums that equal the footprint files'.

    `path` is what zarr opens. Sums may differ by the quantization of each entry and by float32's rounding.
    """
    data, indptr = read_array(path, "H/data"), read_array(path, "H/indptr")
    keepbits: Any = opened_group(path)["H"].attrs["keepbits"]
    wrong: list[str] = []
    if len(indptr) - 1 != pixels:
        wrong.append(f"{len(indptr) - 1} rows for {pixels} pixels")
    if not np.isfinite(data).all():
        wrong.append(f"{int((~np.isfinite(data)).sum())} entries are not finite")
    if (data < 0).any():
        wrong.append(f"{int((data < 0).sum())} entries are negative")
    difference = 0.0
    if not wrong:
        sums = np.array([data[start:stop].sum(dtype=float) for start, stop in pairwise(indptr)])
        expected = _sums_of_packs(store, footprints, pixels)
        allowed = 2.0 ** -(1 + (23 if keepbits is None else keepbits)) + 1e-6
        difference = float(np.max(np.abs(sums - expected) / np.maximum(expected, 1e-30), initial=0.0))
        if difference > allowed:
            wrong.append(
                f"row sums differ from the footprint files' by up to {difference:.1e}, {allowed:.1e} is rounding"
            )
    line = (
        "; ".join(wrong)
        or f"{pixels} rows, {len(data)} entries, row sums within {difference:.1e} of the footprint files'"
    )
    return Answer(not wrong, line, {"rows": len(indptr) - 1, "entries": len(data), "largest_difference": difference})


def _sums_of_packs(store: Store, footprints: str, pixels: int) -> np.ndarray:
    total = np.zeros(pixels)
    for path in store.packs(footprints):
        table = store.table(path, ["row", "foot"])
        np.add.at(total, table["row"].to_numpy(), table["foot"].to_numpy().astype(float))
    return total
