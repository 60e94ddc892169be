"""
Which rows and columns does H have, and what stands in them?

Columns run time first (UTC hours, oldest first), then lat, then lon; row i is pixel i. CSR from pack files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from stilt_assets.errors import UsageError
from stilt_assets.grid import Grid
from stilt_assets.receptor import Receptor
from stilt_assets.store import Store

HOUR = timedelta(hours=1)
_BLOCK = 2**22  # bytes
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Layout:
    """The columns of H: UTC hours (left edges, oldest first) on a grid."""

    first_hour: datetime
    hours: int
    grid: Grid
    ends: np.ndarray  # (pixel,) index of the hour after each pixel's release

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.ends), self.hours * self.grid.nlat * self.grid.nlon

    def time_of(self, row: np.ndarray, hour: np.ndarray) -> np.ndarray:
        """Index on the time axis of `hour` hours back of pixel `row`."""
        return self.ends[row] - 1 - hour


def layout_of(receptors: Sequence[Receptor], hours_back: int, grid: Grid) -> Layout:
    """The smallest run of UTC hours that holds every pixel's particles."""
    releases = [receptor.time.astimezone(UTC) for receptor in receptors]
    whole = [time.replace(minute=0, second=0, microsecond=0) for time in releases]
    ends = [hour if hour == time else hour + HOUR for hour, time in zip(whole, releases, strict=True)]
    first = min(whole) - hours_back * HOUR
    counts = np.array([round((end - first) / HOUR) for end in ends])
    return Layout(first, int(counts.max()), grid, counts)


@dataclass(frozen=True)
class Rows:
    """H in memory or on scratch: CSR with the time steps of each row marked."""

    indptr: np.ndarray  # (m + 1,) int64
    indices: np.ndarray  # (nnz,) int32
    data: np.ndarray  # (nnz,) float32, ppm m2 s µmol-1
    time_ptr: np.ndarray  # (m, hours + 1) int32, offsets within the row


def _packs(store: Store, footprints: str, columns: Sequence[str]) -> Iterator[Mapping[str, np.ndarray]]:
    for path in store.packs(footprints):
        table = store.table(path, columns)
        yield {column: table[column].to_numpy() for column in columns}


def rows_of(store: Store, footprints: str, layout: Layout, scratch: Path) -> Rows:
    """The rows of H from pack files, each row in the order of its columns; large arrays lie in `scratch`."""
    m, n = layout.shape
    if n > np.iinfo(np.int32).max:
        raise UsageError(f"H would have {n} columns, more than 2**31: choose a coarser grid or fewer hours")
    per_hour = np.zeros((m, layout.hours), dtype=np.int64)
    for cells in _packs(store, footprints, ["row", "hour"]):
        np.add.at(per_hour, (cells["row"], layout.time_of(cells["row"], cells["hour"])), 1)
    indptr = np.concatenate([[0], np.cumsum(per_hour.sum(axis=1))]).astype(np.int64)
    time_ptr = np.concatenate([np.zeros((m, 1), np.int64), np.cumsum(per_hour, axis=1)], axis=1).astype(np.int32)
    size = max(int(indptr[-1]), 1)
    indices, data = _on_disk(scratch / "indices", np.int32, size), _on_disk(scratch / "data", np.float32, size)
    for cells in _packs(store, footprints, ["row", "hour", "y", "x", "foot"]):
        row = cells["row"].astype(np.int64)
        time = layout.time_of(row, cells["hour"])
        column = (time * layout.grid.nlat + cells["y"]) * layout.grid.nlon + cells["x"]
        order = np.lexsort((column, row))
        row = row[order]
        place = indptr[row] + np.arange(len(row)) - np.searchsorted(row, row)
        indices[place], data[place] = column[order], cells["foot"][order]
    return Rows(indptr, indices[: indptr[-1]], data[: indptr[-1]], time_ptr)


def _on_disk(path: Path, kind: type, size: int) -> np.ndarray:
    """An array in a file whose room is taken at once: a full disk is an error here, and a bus error later."""
    with path.open("wb") as file:
        block = bytes(_BLOCK)
        for start in range(0, size * np.dtype(kind).itemsize, _BLOCK):
            file.write(block[: size * np.dtype(kind).itemsize - start])
    return np.memmap(path, kind, "r+", shape=(size,))
