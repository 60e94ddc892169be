"""How does one pixel's footprint leave as a file that others read? As CF NetCDF, every hour, dense."""

import os
import uuid
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stilt_assets.errors import StoreError, UsageError
from stilt_assets.footprint import UNITS
from stilt_assets.grid import CRS
from stilt_assets.matrix import EPOCH, HOUR, Layout, layout_of
from stilt_assets.receptor import Receptor, receptors_from
from stilt_assets.recipes import Desk
from stilt_assets.simulation import Status
from stilt_assets.whole import read_outcomes

ABOUT = {
    "Conventions": "CF-1.8",
    "institution": "not stated",
    "history": "exported by stilt-assets",
    "references": "Lin et al. 2003, doi:10.1029/2002JD003161; Fasoli et al. 2018, doi:10.5194/gmd-11-2813-2018",
    "comment": "Times are left edges of UTC hours, bounded by time_bnds; hours without influence are zero.",
}


def export_pixel(desk: Desk, pixel: int, target: Path) -> str:
    """
    Write the footprint of a pixel of the current result to `target`; the pixel's status (ok or empty) is returned.

    `foot` (time, lat, lon), float32, ppm m2 s µmol-1, as it was gridded (before the Jacobian's quantization); `time`
    runs over every UTC hour, oldest first. UsageError if there is no such pixel or no footprint of it.
    """
    names = desk.record.current
    if "footprints" not in names:
        raise UsageError(f"{desk.record.key} has no footprints yet; make them with: stilt-assets run {desk.record.key}")
    store = desk.store
    place = store.file(store.result(desk.record.key, names["pixels"]), "receptors.parquet")
    receptors = receptors_from(store.table(place))
    if not 0 <= pixel < len(receptors):
        raise UsageError(f"{desk.record.key} has pixels 0 to {len(receptors) - 1}, no pixel {pixel}")
    made_from = desk.record.results[names["footprints"]]["made_from"]
    particles = desk.record.results[names["particles"]]["made_from"]
    grid = type(desk.grid)(**made_from["grid"])
    layout = layout_of([receptors[pixel]], particles["hours_back"], grid)
    if desk.record.results[names["pixels"]]["digests"]["receptors"] != particles["receptors"]:
        raise UsageError(
            f"the footprints of {desk.record.key} are of earlier pixels; run: stilt-assets run {desk.record.key}"
        )
    outcomes = {row["pixel"]: row for row in read_outcomes(store, store.result(desk.record.key, names["footprints"]))}
    outcome = outcomes.get(pixel, {"status": "missing", "reason": "it was not run"})
    if outcome["status"] not in (Status.ok.name, Status.empty.name):
        raise UsageError(f"pixel {pixel} of {desk.record.key} has no footprint: {outcome['reason']}")
    foot = _dense(desk, pixel, layout)
    if target.is_dir() or not target.name:
        raise StoreError(f"cannot write {target}: it is a folder")
    if not target.absolute().parent.is_dir():
        raise StoreError(f"cannot write {target}: there is no folder {target.parent}")
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        dataset = _as_dataset(foot, layout, receptors[pixel], f"{desk.record.key}, pixel {pixel}", names["footprints"])
        bare: dict[Any, Any] = {name: {"_FillValue": None} for name in dataset.variables}
        bare["foot"] |= {"zlib": True, "complevel": 4}
        dataset.to_netcdf(beside, engine="netcdf4", encoding=bare)
        os.replace(beside, target)  # noqa: PTH105
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return outcome["status"]


def _dense(desk: Desk, pixel: int, layout: Layout) -> np.ndarray:
    store, folder = desk.store, desk.store.result(desk.record.key, desk.record.current["footprints"])
    foot = np.zeros((layout.hours, *layout.grid.shape), np.float32)
    for path in store.packs(folder):
        table = store.table(path, where=("row", "==", pixel))
        hour = layout.time_of(np.zeros(len(table), int), table["hour"].to_numpy())
        foot[hour, table["y"].to_numpy(), table["x"].to_numpy()] = table["foot"].to_numpy()
    return foot


def _as_dataset(foot: np.ndarray, layout: Layout, receptor: Receptor, title: str, source: str) -> xr.Dataset:
    grid, half = layout.grid, layout.grid.resolution / 2
    clock = {"units": "hours since 1970-01-01 00:00:00", "calendar": "standard", "standard_name": "time"}
    edges = (layout.first_hour - EPOCH) / HOUR + np.arange(layout.hours + 1.0)
    release = (receptor.time.astimezone(UTC) - EPOCH) / HOUR
    points = {
        "time": edges[:-1],
        "lat": grid.lat,
        "lon": grid.unwrap(grid.lon),
    }
    facts = {
        "time": clock | {"axis": "T"},
        "lat": {"units": "degrees_north", "standard_name": "latitude", "axis": "Y"},
        "lon": {"units": "degrees_east", "standard_name": "longitude", "axis": "X"},
    }
    reach = {"time": (0, 1), "lat": (-half, half), "lon": (-half, half)}
    axes = {name: ((name,), values, facts[name] | {"bounds": f"{name}_bnds"}) for name, values in points.items()}
    bounds = {
        f"{name}_bnds": ((name, "bnds"), np.add.outer(values, np.array(reach[name], dtype=float)))
        for name, values in points.items()
    }
    places = {
        "receptor_time": ((), release, clock | {"long_name": "release of the particles"}),
        "receptor_longitude": ((), receptor.longitude, {"units": "degrees_east", "long_name": "receptor longitude"}),
        "receptor_latitude": ((), receptor.latitude, {"units": "degrees_north", "long_name": "receptor latitude"}),
        "receptor_top": ((), receptor.top, {"units": "m", "standard_name": "height", "positive": "up"}),
    }
    what = {"units": UNITS, "long_name": "sensitivity of the column to surface fluxes", "cell_methods": "time: sum"}
    where = {"grid_mapping": "crs", "coordinates": "receptor_longitude receptor_latitude receptor_time receptor_top"}
    variables = {"foot": (("time", "lat", "lon"), foot, what | where), "crs": ((), np.int32(0), CRS)}
    about = {"title": f"Footprint of {title}", "source": f"stilt-assets, {source}"}
    return xr.Dataset(variables | bounds | places, axes, ABOUT | about)
