"""How does one pixel's footprint leave as a file that others read? As CF NetCDF, every hour, dense."""

import io
import os
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pyarrow.parquet as pq

from stilt_assets.errors import StoreError, UsageError
from stilt_assets.footprint import UNITS
from stilt_assets.matrix import Layout, layout_of
from stilt_assets.receptor import Receptor, receptors_from
from stilt_assets.recipes import Desk


def export_pixel(desk: Desk, pixel: int, target: Path) -> None:
    """
    Write the footprint of a pixel of the current result to `target`.

    `foot` (time, lat, lon), float32, ppm m2 s µmol-1, as it was gridded (before the Jacobian's quantization); `time`
    runs over every UTC hour, oldest first. UsageError if there is no such pixel or no footprint of it.
    """
    names = desk.record.current
    if "footprints" not in names:
        raise UsageError(f"{desk.record.key} has no footprints yet; make them with: stilt-assets run {desk.record.key}")
    store = desk.store
    table = pq.read_table(
        io.BytesIO(store.read(store.file(store.result(desk.record.key, names["pixels"]), "receptors.parquet")))
    )
    receptors = receptors_from(table)
    if not 0 <= pixel < len(receptors):
        raise UsageError(f"{desk.record.key} has pixels 0 to {len(receptors) - 1}, no pixel {pixel}")
    made_from = desk.record.results[names["footprints"]]["made_from"]
    particles = desk.record.results[names["particles"]]["made_from"]
    grid = type(desk.grid)(**made_from["grid"])
    layout = layout_of([receptors[pixel]], particles["hours_back"], grid)
    foot = _dense(desk, pixel, layout)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        with netCDF4.Dataset(beside, "w", format="NETCDF4") as dataset:
            _fill(dataset, foot, layout, receptors[pixel], f"{desk.record.key}, pixel {pixel}", names["footprints"])
        os.replace(beside, target)  # noqa: PTH105
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _dense(desk: Desk, pixel: int, layout: Layout) -> np.ndarray:
    store, folder = desk.store, desk.store.result(desk.record.key, desk.record.current["footprints"])
    foot = np.zeros((layout.hours, *layout.grid.shape), np.float32)
    for name in store.names(folder):
        if name.startswith("pack="):
            table = pq.read_table(io.BytesIO(store.read(store.file(folder, name))), filters=[("row", "==", pixel)])
            hour = layout.time_of(np.zeros(len(table), int), table["hour"].to_numpy())
            foot[hour, table["y"].to_numpy(), table["x"].to_numpy()] = table["foot"].to_numpy()
    return foot


def _fill(
    dataset: netCDF4.Dataset, foot: np.ndarray, layout: Layout, receptor: Receptor, title: str, source: str
) -> None:
    grid = layout.grid
    dataset.setncatts(
        {
            "Conventions": "CF-1.8",
            "title": f"Footprint of {title}",
            "source": f"stilt-assets, {source}",
            "history": "exported by stilt-assets",
            "institution": "not stated",
            "references": "Lin et al. 2003, doi:10.1029/2002JD003161; Fasoli et al. 2018, doi:10.5194/gmd-11-2813-2018",
            "comment": "Times are left edges of UTC hours; hours without influence are zero.",
        }
    )
    for name, size in (("time", layout.hours), ("lat", grid.nlat), ("lon", grid.nlon), ("bnds", 2)):
        dataset.createDimension(name, size)

    def put(name: str, kind: str, dims: tuple[str, ...], values: Any, **facts: object) -> None:
        made = dataset.createVariable(name, kind, dims, zlib=bool(dims), complevel=4)  # pyright: ignore[reportArgumentType, reportCallIssue]
        made.setncatts(facts)
        made[...] = values

    hours = [layout.first_hour + step * timedelta(hours=1) for step in range(layout.hours + 1)]
    units = "hours since 1970-01-01 00:00:00"
    edges = np.asarray(netCDF4.date2num([hour.replace(tzinfo=None) for hour in hours], units))
    put(
        "time",
        "f8",
        ("time",),
        edges[:-1],
        units=units,
        calendar="standard",
        standard_name="time",
        axis="T",
        bounds="time_bnds",
    )
    put("time_bnds", "f8", ("time", "bnds"), np.stack([edges[:-1], edges[1:]], axis=1))
    half = grid.resolution / 2
    for name, centre, cf, unit, axis in (
        ("lat", grid.lat, "latitude", "degrees_north", "Y"),
        ("lon", grid.lon, "longitude", "degrees_east", "X"),
    ):
        put(name, "f8", (name,), centre, standard_name=cf, long_name=cf, units=unit, axis=axis, bounds=f"{name}_bnds")
        put(f"{name}_bnds", "f8", (name, "bnds"), np.stack([centre - half, centre + half], axis=1))
    put(
        "crs",
        "i4",
        (),
        0,
        grid_mapping_name="latitude_longitude",
        semi_major_axis=6378137.0,
        inverse_flattening=298.257223563,
    )
    facts = {
        "units": UNITS,
        "long_name": "sensitivity of the column to surface fluxes",
        "grid_mapping": "crs",
        "cell_methods": "time: sum",
    }
    put(
        "foot",
        "f4",
        ("time", "lat", "lon"),
        foot,
        **facts,
        coordinates="receptor_longitude receptor_latitude receptor_time",
    )
    release = netCDF4.date2num(receptor.time.replace(tzinfo=None), units)
    put(
        "receptor_time",
        "f8",
        (),
        release,
        units=units,
        calendar="standard",
        standard_name="time",
        long_name="release of the particles",
    )
    put(
        "receptor_longitude",
        "f8",
        (),
        receptor.longitude,
        units="degrees_east",
        standard_name="longitude",
        long_name="receptor longitude",
    )
    put(
        "receptor_latitude",
        "f8",
        (),
        receptor.latitude,
        units="degrees_north",
        standard_name="latitude",
        long_name="receptor latitude",
    )
    put(
        "receptor_top",
        "f8",
        (),
        receptor.top,
        units="m",
        standard_name="height",
        long_name="top of the release column above ground",
        positive="up",
    )
