"""
How do a scene's footprints become one matrix that an inverse model opens?

H is written as CSR: row i is pixel i, columns run time first, then lat, then lon. Empty and failed pixels keep their
row. One writer, after every pack has its outcomes.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr
from numcodecs import BitRound
from zarr.codecs import BloscCodec

from stilt_assets import scratch
from stilt_assets.footprint import UNITS
from stilt_assets.grid import CRS
from stilt_assets.matrix import EPOCH, HOUR, Layout, Rows, rows_of
from stilt_assets.simulation import Status
from stilt_assets.store import Store
from stilt_assets.zarr_folder import zarr_folder

CODE = "1"
NAME = "jacobian.zarr"
MARKER = f"{NAME}/zarr.json"  # written last
_CHUNK, _SHARD = 2**18, 2**24  # entries
_ROWS = 256  # rows per chunk of a dense array


def prior_term(pixels: pa.Table) -> np.ndarray:
    """What the retrieval carries of its prior (pixel,), in its units: the sum over layers of w (1 - A) x_a."""
    if "prior_term" in pixels.column_names:  # of pixels that were made of several: the mean of theirs
        return pixels["prior_term"].to_numpy()
    weight, kernel, prior = (np.stack(pixels[name].to_pylist()) for name in ("layer_weight", "ak", "apriori"))
    return np.sum(weight * (1.0 - kernel) * prior, axis=1)


@dataclass(frozen=True)
class Scenery:
    """What a Jacobian is made of, besides its rows."""

    pixels: pa.Table
    outcomes: Sequence[Mapping[str, Any]]
    layout: Layout
    aggregates: Mapping[str, float]  # resolution (degrees) by name
    keepbits: int | None
    facts: Mapping[str, Any]  # attributes of the root: where it comes from


def write_jacobian(folder: Path, store: Store, footprints: str, scenery: Scenery) -> dict[str, Any]:
    """Write `jacobian.zarr` into `folder` from pack files; a summary is returned."""
    with scratch.folder() as aside, zarr_folder(folder / NAME) as target:
        rows = rows_of(store, footprints, scenery.layout, aside)
        root = zarr.open_group(target, mode="w", zarr_format=3, attributes={"Conventions": "CF-1.8", **scenery.facts})
        sums = _sums(rows)
        _write_obs(root.create_group("obs"), scenery, rows, sums)
        _write_state(root.create_group("state"), scenery.layout)
        _write_h(root, scenery, rows)
        aggregates = root.create_group("Hagg")
        for name, resolution in scenery.aggregates.items():
            _write_aggregate(aggregates.create_group(name), scenery.layout, resolution, rows)
        total = _write_diag(root.create_group("diag"), scenery, rows)
        with warnings.catch_warnings():
            # zarr-python warns that other readers may not know v3's consolidated metadata; they need not.
            warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
            zarr.consolidate_metadata(target)
        return {
            "shape": list(scenery.layout.shape),
            "nnz": len(rows.data),
            "total": float(sums.sum()),
            "largest_cell": float(total.max(initial=0.0)),
            "gaps": sum(row["status"] not in ("ok", "empty") for row in scenery.outcomes),
        }


def _put(group: zarr.Group, name: str, values: Any, dims: Sequence[str], **attributes: Any) -> None:
    """Write one array; a whole one at a time, as they are small."""
    values = np.asarray(values)
    text = values.dtype.kind in "OUT"
    chunks = tuple(
        max(1, min(size, _ROWS if place == 0 and values.ndim > 1 else _CHUNK))
        for place, size in enumerate(values.shape)
    )
    array = group.create_array(
        name,
        shape=values.shape,
        dtype="str" if text else values.dtype,
        chunks=chunks if values.ndim else "auto",
        compressors=_codec(),
        dimension_names=list(dims),
        attributes=attributes,
        fill_value="" if text else math.nan if values.dtype.kind == "f" else 0,
    )
    array[...] = values.astype(object) if text else values


def _codec() -> BloscCodec:
    return BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")


def _blocks(rows: Rows) -> Iterator[tuple[slice, np.ndarray, slice]]:
    """Rows some at a time: which ones, the row (within the block) of each of their entries, and which entries."""
    for start in range(0, len(rows.indptr) - 1, _ROWS):
        stop = min(start + _ROWS, len(rows.indptr) - 1)
        row = np.repeat(np.arange(stop - start), np.diff(rows.indptr[start : stop + 1]))
        yield slice(start, stop), row, slice(int(rows.indptr[start]), int(rows.indptr[stop]))


def _sums(rows: Rows) -> np.ndarray:
    """Sum of each row (m,), float64."""
    sums = np.zeros(len(rows.indptr) - 1)
    for chosen, row, part in _blocks(rows):
        sums[chosen] = np.bincount(row, weights=rows.data[part], minlength=chosen.stop - chosen.start)
    return sums


def _write_obs(group: zarr.Group, scenery: Scenery, rows: Rows, sums: np.ndarray) -> None:
    pixels, m = scenery.pixels, scenery.layout.shape[0]
    units = pixels["units"][0].as_py() if m else ""
    by_pixel = {row["pixel"]: row for row in scenery.outcomes}
    outcomes = [by_pixel.get(pixel, {}) for pixel in range(m)]
    status = np.array([Status[row.get("status", "missing")] for row in outcomes], dtype=np.int8)
    background = np.full(m, np.nan)
    prior = prior_term(pixels)
    value = pixels["value"].to_numpy()
    since = [(time - EPOCH) // timedelta(milliseconds=1) for time in pixels["time"].to_pylist()]

    def put(name: str, values: Any, **attributes: Any) -> None:
        _put(group, name, values, ["obs"], **attributes)

    put("pixel", np.arange(m, dtype=np.int32), long_name="row of H, and of pixels.parquet")
    put(
        "time",
        np.array(since, dtype=np.int64),
        units="milliseconds since 1970-01-01 00:00:00",
        calendar="proleptic_gregorian",
        standard_name="time",
    )
    put("longitude", pixels["longitude"].to_numpy(), units="degrees_east", standard_name="longitude")
    put("latitude", pixels["latitude"].to_numpy(), units="degrees_north", standard_name="latitude")
    put("value", value, units=units, long_name="retrieved column-average dry-air mole fraction")
    put("uncertainty", pixels["uncertainty"].to_numpy(), units=units, long_name="one-sigma error of value")
    put("prior_term", prior, units=units, long_name="sum over layers of w (1 - A) x_a")
    put("background", background, units=units, long_name="modelled background; NaN: no concentration field was given")
    put("z", value - prior - background, units=units, long_name="value - prior_term - background")
    put("status", status, flag_values=[int(s) for s in Status], flag_meanings=" ".join(s.name for s in Status))
    put("reason", np.array([row.get("reason", "") for row in outcomes], dtype=object), long_name="why a pixel failed")
    put("nnz", np.diff(rows.indptr), long_name="entries in the row")
    put("row_sum", sums, units=UNITS, long_name="sum of the row, before quantization")
    error = np.array([row.get("mc_error", math.nan) for row in outcomes], dtype=np.float64)
    put(
        "mc_error",
        error,
        units=UNITS,
        long_name="estimated standard error of row_sum, from two halves of the particles",
    )


def _write_state(group: zarr.Group, layout: Layout) -> None:
    first = round((layout.first_hour - EPOCH) / HOUR)
    edges = first + np.arange(layout.hours + 1, dtype=np.int64)
    time = {"units": "hours since 1970-01-01 00:00:00", "calendar": "proleptic_gregorian"}
    grid = layout.grid
    _put(
        group,
        "time",
        edges[:-1],
        ["time"],
        **time,
        standard_name="time",
        long_name="left edge of a UTC hour",
        bounds="time_bnds",
        axis="T",
    )
    _put(group, "time_bnds", np.stack([edges[:-1], edges[1:]], axis=1), ["time", "bnds"], **time)
    _put(group, "lat", grid.lat, ["lat"], units="degrees_north", standard_name="latitude", axis="Y")
    _put(group, "lon", grid.lon, ["lon"], units="degrees_east", standard_name="longitude", axis="X")
    _put(group, "cell_area", grid.cell_area, ["lat", "lon"], units="m2", standard_name="cell_area", grid_mapping="crs")
    _put(group, "crs", np.int32(0), [], **CRS)


def _h_attributes(scenery: Scenery, entries: int) -> dict[str, Any]:
    m, n = scenery.layout.shape
    kept = f"{scenery.keepbits} bits of the mantissa kept, rounded to nearest even"
    kinds = {"pointers_to_1": "int64", "indices_1": "int32", "values": "float32"}
    sparse = {"version": "0.1", "format": "CSR", "shape": [m, n], "number_of_stored_values": entries}
    return {
        "encoding-type": "csr_matrix",
        "encoding-version": "0.1.0",
        "shape": [m, n],
        "binsparse": sparse | {"data_types": kinds},
        "units": UNITS,
        "row": "obs",
        "column_order": ["time", "lat", "lon"],
        "quantization": "none" if scenery.keepbits is None else kept,
        "keepbits": scenery.keepbits,
        "dry_air": "none",
    }


def _write_h(root: zarr.Group, scenery: Scenery, rows: Rows) -> None:
    group = root.create_group("H", attributes=_h_attributes(scenery, len(rows.data)))
    _put(group, "indptr", rows.indptr, ["obs_edge"])
    _put(group, "time_ptr", rows.time_ptr, ["obs", "time_edge"], long_name="where each time step begins within the row")
    for name, values in (("indices", rows.indices), ("data", rows.data)):
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(_CHUNK,),
            shards=(_SHARD,),
            compressors=_codec(),
            dimension_names=["entry"],
            attributes={"units": UNITS} if name == "data" else {},
            fill_value=0,
        )
        for start in range(0, len(values), _SHARD):
            block = np.ascontiguousarray(values[start : start + _SHARD])
            array[start : start + len(block)] = quantized(block, scenery.keepbits) if name == "data" else block


def quantized(values: np.ndarray, keepbits: int | None) -> np.ndarray:
    """float32 values with `keepbits` bits of their mantissa, rounded to nearest even; all of them if None."""
    if keepbits is None or not len(values):
        return values
    return np.asarray(BitRound(keepbits).encode(values.copy())).view(np.float32)


def _write_aggregate(group: zarr.Group, layout: Layout, resolution: float, rows: Rows) -> None:
    """A dense copy of H on blocks; a block's column is the sum of its cells'."""
    grid, m = layout.grid, layout.shape[0]
    blocks = grid.coarsened(resolution)
    count = blocks.nlat * blocks.nlon
    block_of = grid.block_of(resolution)
    time, lat, lon = np.meshgrid(np.arange(layout.hours), blocks.lat, blocks.lon, indexing="ij")
    first = round((layout.first_hour - EPOCH) / HOUR)
    area = np.bincount(block_of, weights=grid.cell_area.ravel(), minlength=count)
    _put(
        group,
        "time",
        first + time.ravel().astype(np.int64),
        ["state"],
        units="hours since 1970-01-01 00:00:00",
        calendar="proleptic_gregorian",
    )
    _put(group, "lat", lat.ravel(), ["state"], units="degrees_north", standard_name="latitude")
    _put(group, "lon", lon.ravel(), ["state"], units="degrees_east", standard_name="longitude")
    _put(group, "cell_area", np.tile(area, layout.hours), ["state"], units="m2")
    dense = group.create_array(
        "H",
        shape=(m, layout.hours * count),
        dtype="f4",
        chunks=(min(m, _ROWS), layout.hours * count),
        compressors=_codec(),
        dimension_names=["obs", "state"],
        attributes={"units": UNITS, "coordinates": "time lat lon cell_area"},
        fill_value=0,
    )
    for chosen, row, part in _blocks(rows):
        step, cell = np.divmod(rows.indices[part], grid.nlat * grid.nlon)
        place = (row * layout.hours + step) * count + block_of[cell]
        size = (chosen.stop - chosen.start) * layout.hours * count
        sums = np.bincount(place, weights=rows.data[part], minlength=size)
        dense[chosen] = sums.reshape(-1, layout.hours * count).astype("f4")


def _write_diag(group: zarr.Group, scenery: Scenery, rows: Rows) -> np.ndarray:
    layout = scenery.layout
    cells, m, hours = layout.grid.nlat * layout.grid.nlon, layout.shape[0], int(layout.hours)
    flat, count, by_hour = np.zeros(cells), np.zeros(cells, np.int64), np.zeros((m, hours))
    for chosen, row, part in _blocks(rows):
        step, cell = np.divmod(rows.indices[part], cells)
        flat += np.bincount(cell, weights=rows.data[part], minlength=cells)
        count += np.bincount(np.unique(row * cells + cell) % cells, minlength=cells)
        place = row * hours + layout.ends[chosen][row] - 1 - step
        sums = np.bincount(place, weights=rows.data[part], minlength=(chosen.stop - chosen.start) * hours)
        by_hour[chosen] = sums.reshape(-1, hours)
    total = flat.reshape(layout.grid.shape)
    left = {outcome["pixel"]: outcome["left_domain"] for outcome in scenery.outcomes}
    _put(
        group, "total_footprint", total.astype("f4"), ["lat", "lon"], units=UNITS, long_name="sum over pixels and hours"
    )
    _put(
        group,
        "obs_count",
        count.reshape(layout.grid.shape).astype("i4"),
        ["lat", "lon"],
        long_name="pixels that see the cell",
    )
    _put(
        group,
        "cumulative_foot",
        np.cumsum(by_hour, axis=1).astype("f4"),
        ["obs", "hour"],
        units=UNITS,
        long_name="sum of the row up to that hour back",
    )
    _put(
        group,
        "left_domain",
        np.array([left.get(pixel, math.nan) for pixel in range(m)]),
        ["obs"],
        long_name="share of particles that ended before the run did",
    )
    return total
