"""
How does a Jacobian differ from the one that it superseded?

Told pixel by pixel, in three numbers. Footprints a and b are summed over their hours first, cells (lat, lon):

    overlap   sum over cells of min(a / sum(a), b / sum(b)): 1 for the same shape, 0 if they share no cell
    ratio     new row sum over old row sum
    shift_km  distance of their centres of mass (weighted mean of unit vectors, on a sphere)

Seeds alone make some of it: `ratio_error` is what the particles' own noise (mc_error) lets one expect of the ratio.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stilt_assets.arrays import opened_group, read_array
from stilt_assets.errors import DamagedError, UsageError
from stilt_assets.faults import intact
from stilt_assets.jacobian import MARKER, NAME
from stilt_assets.recipes import Desk
from stilt_assets.store import Store

SUMMARY, PIXELS = "difference.json", "difference.parquet"
_EARTH = 6371.0  # km
_ROWS = 256  # read at once
_log = logging.getLogger(__name__)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """What changed from one Jacobian of a scene to another."""

    summary: dict[str, Any]  # JSON values
    pixels: pa.Table  # a row per pixel that both have: pixel_old, pixel_new, overlap, ratio, ratio_error, shift_km

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, a pixel's numbers None where they are not known."""
        rows = [
            {name: None if np.isnan(value) else value for name, value in row.items()} for row in self.pixels.to_pylist()
        ]
        return self.summary | {"by_pixel": rows}

    @property
    def line(self) -> str:
        """The same in a line for people."""
        known = {name: f"{value:.3g}" if isinstance(value, float) else "-" for name, value in self.summary.items()}
        return (
            f"difference  from {self.summary['old']}: {self.summary['compared']} pixels compared, overlap "
            f"{known['overlap_median']}, row sums x {known['ratio_median']}, plumes moved by "
            f"{known['shift_km_median']} km (medians)"
        )


# ---- one Jacobian


class _Side:
    """A Jacobian, read some rows at a time."""

    def __init__(self, store: Store, key: str, name: str) -> None:
        self.path = store.file(store.result(key, name), *NAME.split("/"))
        if not store.exists(store.file(store.result(key, name), *MARKER.split("/"))):
            raise DamagedError(f"{self.path} is not there: its Jacobian cannot be compared", self.path)
        with intact(self.path, KeyError, ValueError):
            self.root = opened_group(self.path)
            lat, lon = (read_array(self.path, f"state/{each}").astype(float) for each in ("lat", "lon"))
            self.grid = (lat, lon)
            self.indptr = read_array(self.path, "H/indptr")
            self.sums = read_array(self.path, "obs/row_sum").astype(float)
            self.errors = read_array(self.path, "obs/mc_error").astype(float)
            self.places = list(
                zip(
                    read_array(self.path, "obs/time").tolist(),
                    *(np.round(read_array(self.path, f"obs/{each}"), 4).tolist() for each in ("longitude", "latitude")),
                    strict=True,
                )
            )
            made_from: Any = self.root.attrs["made_from"]
        rows, columns = (axis.ravel() for axis in np.meshgrid(np.radians(lat), np.radians(lon), indexing="ij"))
        self.vectors = np.stack([np.cos(rows) * np.cos(columns), np.cos(rows) * np.sin(columns), np.sin(rows)], axis=1)
        self.soundings = _soundings(store, key, made_from[0], len(self.places))
        self._block: tuple[int, Any, Any] = (-1, None, None)

    def shares(self, row: int) -> tuple[npt.NDArray[np.int64], Values]:
        """Cells that a row sees, ascending, and the share of each in all of its hours' influence."""
        first = row - row % _ROWS
        if self._block[0] != first:
            part = slice(int(self.indptr[first]), int(self.indptr[min(first + _ROWS, len(self.indptr) - 1)]))
            with intact(self.path, KeyError, ValueError):
                read = [np.asarray(self.root[f"H/{name}"][part]) for name in ("indices", "data")]  # pyright: ignore[reportIndexIssue, reportArgumentType]
            self._block = (first, read[0], read[1])
        start, stop = (int(self.indptr[each] - self.indptr[first]) for each in (row, row + 1))
        cell, place = np.unique(self._block[1][start:stop] % len(self.vectors), return_inverse=True)
        foot: Values = np.bincount(place, self._block[2][start:stop].astype(float), len(cell)).astype(float)
        return cell.astype(np.int64), foot / (foot.sum() or 1.0)


def _soundings(store: Store, key: str, pixels: str, count: int) -> list[str]:
    """The sounding of each row; empty names if the pixels are no longer there."""
    path = store.file(store.result(key, pixels), "pixels.parquet")
    return store.table(path, ["sounding_id"])["sounding_id"].to_pylist() if store.exists(path) else [""] * count


def _pairs(old: _Side, new: _Side) -> list[tuple[int, int]]:
    """Rows of the same pixel: of the same sounding or, where that says nothing, of the same time and place."""
    pairs = _same(old.soundings, new.soundings)
    paired_old, paired_new = ({pair[side] for pair in pairs} for side in (0, 1))
    by_place = _same(old.places, new.places)
    pairs += [pair for pair in by_place if pair[0] not in paired_old and pair[1] not in paired_new]
    return sorted(pairs)


def _same(old: Sequence[Any], new: Sequence[Any]) -> list[tuple[int, int]]:
    rows = {name: row for row, name in enumerate(new) if name}
    once = {name: row for row, name in enumerate(old) if name}
    return [(row, rows[name]) for name, row in once.items() if name in rows]


# ---- two of them


def compare(store: Store, key: str, old: str, new: str) -> Difference:
    """The difference of two results of a scene, `jacobian-<id>` each. DamagedError if one cannot be read."""
    first, second = _Side(store, key, old), _Side(store, key, new)
    pairs = _pairs(first, second)
    rows = [_row(first, second, *pair) for pair in pairs]
    names = ("overlap", "ratio", "ratio_error", "shift_km")
    columns: dict[str, Any] = {name: np.array([row[n] for row in rows], float) for n, name in enumerate(names)}
    numbers = {
        f"pixel_{side}": np.array([pair[n] for pair in pairs], np.int32) for n, side in enumerate(("old", "new"))
    }
    summary = {"scene": key, "old": old, "new": new, "pixels": len(pairs)}
    summary |= {"only_old": len(first.places) - len(pairs), "only_new": len(second.places) - len(pairs)}
    return Difference(summary | _summed(first, second, pairs, columns), pa.table(numbers | columns))


def _row(old: _Side, new: _Side, row: int, other: int) -> tuple[float, float, float, float]:
    (cells, a), (others, b) = old.shares(row), new.shares(other)
    if not (a.any() and b.any()):
        return np.nan, np.nan, np.nan, np.nan
    overlap = np.nan
    if all(np.array_equal(one, two) for one, two in zip(old.grid, new.grid, strict=True)):
        _, left, right = np.intersect1d(cells, others, assume_unique=True, return_indices=True)
        overlap = float(np.minimum(a[left], b[right]).sum())
    ratio = new.sums[other] / old.sums[row]
    noise = np.hypot(old.errors[row] / old.sums[row], new.errors[other] / new.sums[other])
    return overlap, float(ratio), float(ratio * noise), _distance(a @ old.vectors[cells], b @ new.vectors[others])


def _distance(one: Values, other: Values) -> float:
    """Great-circle distance of two directions, km."""
    one, other = (each / np.linalg.norm(each) for each in (one, other))
    return float(2 * _EARTH * np.arcsin(min(np.linalg.norm(one - other) / 2, 1.0)))


def _summed(old: _Side, new: _Side, pairs: Sequence[tuple[int, int]], columns: dict[str, Values]) -> dict[str, Any]:
    compared = ~np.isnan(columns["ratio"])
    before, after = (float(sum(side.sums[pair[n]] for pair in pairs)) for n, side in enumerate((old, new)))
    facts: dict[str, Any] = {
        "compared": int(compared.sum()),
        "ratio_of_totals": after / before if before else np.nan,
        "ratio_median": _quantile(columns["ratio"], 0.5),
        "ratio_error_median": _quantile(columns["ratio_error"], 0.5),
        "overlap_median": _quantile(columns["overlap"], 0.5),
        "overlap_of_the_lowest_tenth": _quantile(columns["overlap"], 0.1),
        "shift_km_median": _quantile(columns["shift_km"], 0.5),
        "shift_km_of_the_highest_tenth": _quantile(columns["shift_km"], 0.9),
    }
    return {name: value if np.isfinite(value) else None for name, value in facts.items()}


def _quantile(values: Values, share: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if len(known) else np.nan


# ---- kept


def tell_difference(desk: Desk, old: str | None = None) -> Difference | None:
    """
    How the scene's Jacobian differs from the one that it superseded, or from `old`; kept in the store.

    None if it superseded none, or if that one can no longer be read. UsageError if `old` is none of the scene's.
    """
    store, key, new = desk.store, desk.record.key, desk.record.current.get("jacobian")
    before = old or _superseded_by(desk, new)
    if old is not None and (old == new or not old.startswith("jacobian-") or old not in desk.record.results):
        others = sorted(name for name in desk.record.results if name.startswith("jacobian-") and name != new)
        raise UsageError(f"'{old}' is no earlier Jacobian of {key}; there are: {', '.join(others) or 'none'}")
    if new is None or before is None:
        return None
    folder = store.result(key, f"difference-{new.rpartition('-')[2]}-{before.rpartition('-')[2]}")
    try:
        if not store.exists(store.file(folder, SUMMARY)):
            _keep(store, folder, compare(store, key, before, new))
        return Difference(store.json(store.file(folder, SUMMARY), "pixels"), store.table(store.file(folder, PIXELS)))
    except DamagedError as error:
        _log.warning("the difference of %s from %s cannot be told: %s", new, before, error)
        return None


def _superseded_by(desk: Desk, new: str | None) -> str | None:
    found = [each["result"] for each in desk.record.superseded if each["by"] == new]
    return next((name for name in reversed(found) if name.startswith("jacobian-")), None)


def _keep(store: Store, folder: str, difference: Difference) -> None:
    with store.building(folder, SUMMARY) as work:
        pq.write_table(difference.pixels, work / PIXELS, compression="zstd", write_page_checksum=True)
        Path(work / SUMMARY).write_text(json.dumps(difference.summary, indent=2) + "\n")
