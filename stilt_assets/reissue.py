"""
What did a new issue of a retrieval change?

Counted by sounding, from the tables of a scene's pixels: where particles start, and how the column is weighed. Only a
sounding that starts elsewhere, or is new, needs particles of its own.
"""

from collections.abc import Mapping

import pyarrow as pa

Sounding = Mapping[str, object]
_PLACES = ("time", "longitude", "latitude", "bottom", "top")
_KERNELS = ("pressure", "kernel", "surface_pressure")


def soundings(pixels: pa.Table, receptors: pa.Table, kernels: pa.Table) -> dict[str, tuple[Sounding, Sounding]]:
    """Place and kernel of each sounding, by its id, from tables with a row per pixel in the same order."""
    places = receptors.select([name for name in _PLACES if name in receptors.column_names]).to_pylist()
    weights = kernels.select(list(_KERNELS)).to_pylist()
    return dict(zip(pixels["sounding_id"].to_pylist(), zip(places, weights, strict=True), strict=True))


def changes(
    before: Mapping[str, tuple[Sounding, Sounding]], after: Mapping[str, tuple[Sounding, Sounding]]
) -> dict[str, int]:
    """How many soundings stayed the same, have another kernel, start elsewhere, are new, or are gone."""
    shared = before.keys() & after.keys()
    moved = {name for name in shared if before[name][0] != after[name][0]}
    other = {name for name in shared - moved if before[name][1] != after[name][1]}
    return {
        "same": len(shared - moved - other),
        "other_kernel": len(other),
        "moved": len(moved),
        "new": len(after.keys() - before.keys()),
        "gone": len(before.keys() - after.keys()),
    }
