"""
What is the form of a pack's files?

Parquet with a row group per pixel, units in the columns' metadata, fixed point where a column has steps, and a
checksum per page. The outcomes carry the sizes of the other files of their pack.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numcodecs import Blosc

from stilt_assets.faults import intact
from stilt_assets.footprint import UNITS
from stilt_assets.particles import CORE, FULL, STEPS

Arrays = dict[str, np.ndarray]
_CODEC = Blosc("zstd", clevel=1, shuffle=Blosc.SHUFFLE)


def _schema(kinds: Mapping[str, str], **units: str) -> pa.Schema:
    arrow = {"i1": pa.int8(), "i2": pa.int16(), "i4": pa.int32(), "f4": pa.float32(), "f8": pa.float64()}
    known = {"lon": "degrees_east", "lat": "degrees_north", "zagl": "m", "pressure": "hPa", "age": "min", "foot": UNITS}
    fields = []
    for name, kind in kinds.items():
        unit = (known | units).get(name)
        facts = {"units": unit} if unit else {}
        facts |= {"scale_factor": repr(1 / STEPS[name])} if STEPS.get(name, 1) != 1 else {}
        fields.append(pa.field(name, arrow[kind], nullable=False, metadata=facts or None))
    return pa.schema(fields)


CELLS = _schema({"row": "i4", "hour": "i1", "y": "i2", "x": "i2", "foot": "f4"})
TRAJECTORIES = {keep: _schema({"pixel": "i4"} | kinds) for keep, kinds in (("core", CORE), ("full", FULL))}
ENDPOINTS = _schema(
    {"pixel": "i4"}
    | {name: CORE[name] for name in ("particle", "age", "lon", "lat", "zagl", "pressure")}
    | dict.fromkeys(("release_height", "release_pressure", "weight", "surface_pressure"), "f8"),
    release_height="m",
    release_pressure="hPa",
    surface_pressure="hPa",
)
OUTCOMES = pa.schema(
    [
        ("pixel", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("attempts", pa.int16()),
        ("seconds", pa.float32()),
        ("particles", pa.int32()),
        ("seed", pa.int64()),
        ("row_sum", pa.float64()),
        ("mc_error", pa.float64()),
        ("left_domain", pa.float64()),
        ("near_edge", pa.float64()),
        ("near_lid", pa.float64()),
        ("pressure_difference", pa.float64()),
    ]
)


class Parquet:
    """A parquet file in memory, written a pixel at a time."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.content = io.BytesIO()
        encodings = {
            item.name: "BYTE_STREAM_SPLIT" if pa.types.is_floating(item.type) else "DELTA_BINARY_PACKED"
            for item in schema
        }
        self.writer = pq.ParquetWriter(
            self.content,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=False,
            column_encoding=encodings,
            write_page_checksum=True,
        )

    def add(self, pixel: int, columns: Arrays, rows: slice | np.ndarray = slice(None)) -> None:
        """Append rows of one pixel as a row group."""
        arrays = [pa.array(columns[name][rows]) for name in self.schema.names[1:]]
        first = pa.array(np.full(len(arrays[0]), pixel, "i4"), self.schema.field(0).type)
        self.writer.write_table(pa.Table.from_arrays([first, *arrays], schema=self.schema))

    def bytes(self) -> bytes:
        """The whole file."""
        self.writer.close()
        return self.content.getvalue()


def packed(values: np.ndarray) -> np.ndarray:
    """A column in as few bytes as can be had at once, as uint8: neighbours of a sorted integer column differ little."""
    steps = np.diff(values, prepend=values.dtype.type(0)) if values.dtype.kind == "i" else values
    return np.frombuffer(_CODEC.encode(np.ascontiguousarray(steps)) if len(values) else b"", "u1")


def unpacked(content: np.ndarray, kind: str) -> np.ndarray:
    """The column of type `kind` that was packed."""
    steps = np.frombuffer(_CODEC.decode(content.tobytes()) if len(content) else b"", kind)
    return np.cumsum(steps, dtype=steps.dtype) if steps.dtype.kind == "i" else steps


def outcomes_file(rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]) -> bytes:
    """The file of a pack's outcomes, with the sizes (bytes) of the pack's other files by kind."""
    table = pa.Table.from_pylist(list(rows), schema=OUTCOMES.with_metadata({"sizes": json.dumps(dict(sizes))}))
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd", write_page_checksum=True)
    return content.getvalue()


def read_outcomes_file(content: bytes, path: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows of a pack's outcomes and the sizes of its other files. DamagedError if that is not what `content` holds."""
    with intact(path, KeyError, ValueError):
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
        return table.to_pylist(), json.loads((table.schema.metadata or {})[b"sizes"])
