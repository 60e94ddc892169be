"""
Where and when do a pixel's particles start, and how much does each height count?

A vertical column from the ground to `top` over the pixel's centre, at its minute, and its averaging kernel by
pressure. What belongs to the satellite's file format is in `retrieval`.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stilt_assets.retrieval import Retrieval

PIXELS = pa.schema(
    [
        ("pixel", pa.int32()),
        ("sounding_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("longitude", pa.float64()),
        ("latitude", pa.float64()),
        ("longitude_bounds", pa.list_(pa.float64())),
        ("latitude_bounds", pa.list_(pa.float64())),
        ("surface_altitude", pa.float64()),
        ("surface_pressure", pa.float64()),
        ("zenith", pa.float64()),
        ("azimuth", pa.float64()),
        ("value", pa.float64()),
        ("uncertainty", pa.float64()),
        ("units", pa.string()),
        ("pressure_levels", pa.list_(pa.float64())),
        ("ak", pa.list_(pa.float64())),
        ("ak_pressure", pa.list_(pa.float64())),
        ("apriori", pa.list_(pa.float64())),
        ("layer_weight", pa.list_(pa.float64())),
        ("qa", pa.float64()),
        ("row", pa.int32()),
        ("column", pa.int32()),
    ]
)
_MEMBER = pa.struct([("row", pa.int32()), ("column", pa.int32()), ("weight", pa.float64())])
# What pixels that were made of several have beside: their members' places in the source and weights, and the weighted
# mean of what each member carries of its prior.
OF_SEVERAL = [pa.field("members", pa.list_(_MEMBER)), pa.field("prior_term", pa.float64())]
RECEPTORS = pa.schema(
    [
        ("pixel", pa.int32()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("longitude", pa.float64()),
        ("latitude", pa.float64()),
        ("bottom", pa.float64()),
        ("top", pa.float64()),
    ]
)
KERNELS = pa.schema(
    [
        ("pixel", pa.int32()),
        ("pressure", pa.list_(pa.float64())),
        ("kernel", pa.list_(pa.float64())),
        ("surface_pressure", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Receptor:
    """A column that particles start from, evenly in height; a point if its bottom is its top."""

    pixel: int
    time: datetime  # UTC, to the minute: the transport model knows no seconds
    longitude: float  # degrees east
    latitude: float  # degrees north
    bottom: float  # m above ground
    top: float  # m above ground


@dataclass(frozen=True)
class Kernel:
    """A pixel's averaging kernel."""

    pressure: np.ndarray  # (level,) hPa
    value: np.ndarray  # (level,) normalised, 1
    surface_pressure: float  # hPa, the retrieval's


def write_pixels(folder: Path, retrieval: Retrieval, top: float) -> None:
    """
    Write `pixels.parquet`, `receptors.parquet` and `kernels.parquet`.

    Receptors are columns from the ground to `top` (m above ground), unless the pixels say their own `bottom` and `top`.
    """
    pixels = retrieval.pixels
    column = {"bottom": 0.0, "top": float(top)}
    receptors = pixels[["pixel", "longitude", "latitude"]].assign(
        time=pixels["time"].dt.floor("min"), **{name: pixels.get(name, value) for name, value in column.items()}
    )
    own = ("kernel_pressure", "kernel") if "kernel" in pixels else ("ak_pressure", "ak")
    kernels = pixels.assign(pressure=pixels[own[0]], kernel=pixels[own[1]])
    columns = pa.schema([*PIXELS, *(field for field in OF_SEVERAL if field.name in pixels)])
    for name, table, schema in (
        ("receptors", receptors, RECEPTORS),
        ("kernels", kernels, KERNELS),
        ("pixels", pixels, columns),
    ):
        pq.write_table(_table(table, schema), folder / f"{name}.parquet", compression="zstd", write_page_checksum=True)


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    columns = [
        pa.array(list(frame[item.name]), item.type)
        if pa.types.is_list(item.type)
        else pa.array(frame[item.name], item.type)
        if not pa.types.is_timestamp(item.type)
        else pa.array(frame[item.name].dt.tz_localize("UTC"), item.type)
        for item in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def receptors_from(table: pa.Table) -> list[Receptor]:
    """Receptors in the order of their pixels, from `receptors.parquet`."""
    return [Receptor(**row) for row in table.to_pylist()]


def kernels_from(table: pa.Table) -> list[Kernel]:
    """Kernels in the order of their pixels, from `kernels.parquet`."""
    surface = table["surface_pressure"].to_numpy()
    profiles = zip(table["pressure"].to_pylist(), table["kernel"].to_pylist(), surface, strict=True)
    return [Kernel(np.array(pressure, float), np.array(kernel), float(ground)) for pressure, kernel, ground in profiles]
