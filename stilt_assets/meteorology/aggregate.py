"""
How do the hours and the box of a scene become one file?

Whole time steps are copied byte for byte, every record's checksum is verified, and the box is cut out if it is
smaller than the files' grid (which packs each field anew). All levels stay.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import arlmet
import numpy as np

from stilt_assets.errors import MeteorologyError
from stilt_assets.meteorology import KM_PER_DEGREE, Box, Need
from stilt_assets.meteorology.sources import Source
from stilt_assets.receptor import Receptor

CODE = "1"
NAME = "meteorology.arl"
_COPY = 16 * 2**20  # bytes per read


def make_aggregate(
    folder: Path,
    product: str,
    need: Need,
    sources: Sequence[Source],
    receptors: Sequence[Receptor],
    digests: Mapping[Path, str],
) -> dict[str, Any]:
    """
    Write `meteorology.arl` and `certificate.json` into `folder`; the certificate is returned.

    Raises MeteorologyError if a record is damaged, files differ in grid or levels, or no receptor lies inside.
    """
    whole = folder / "hours.arl"
    _copy_hours(sources, whole)
    with arlmet.File(whole) as file:
        grid, levels = file.grid, [float(level) for level in file.vertical_axis.levels]
        times = [f"{time:%Y-%m-%dT%HZ}" for time in file.times]
    outside = _outside(grid, receptors)
    if outside == len(receptors):
        raise MeteorologyError(f"no pixel lies inside the {product} files ({grid.nx}x{grid.ny} cells): wrong region?")
    _crop(whole, folder / NAME, grid, need.box)
    with arlmet.File(folder / NAME) as file:
        kept = file.grid
    whole.unlink(missing_ok=True)
    certificate = {
        "product": product,
        "hours": times,
        "levels": levels,
        "box": _extent(kept),
        "box_needed": list(need.box),
        "cells": [kept.nx, kept.ny],
        "cells_of_files": [grid.nx, grid.ny],
        "pixels_outside": _outside(kept, receptors),
        "margins_km": _margins(kept, receptors),
        "sources": [{"name": source.path.name, "sha256": digests[source.path]} for source in sources],
    }
    (folder / "certificate.json").write_text(json.dumps(certificate, indent=2) + "\n")
    return certificate


def _copy_hours(sources: Sequence[Source], target: Path) -> None:
    layout: tuple[Any, Any, Path] | None = None
    with target.open("wb") as out:
        for source in sources:
            try:
                with arlmet.File(source.path) as file, source.path.open("rb") as raw:
                    layout = layout or (file.grid, file.vertical_axis, source.path)
                    if (file.grid, file.vertical_axis) != layout[:2]:
                        raise MeteorologyError(f"{source.path.name} and {layout[2].name} differ in grid or levels")
                    for hour in source.hours:
                        _copy_hour(file[hour.replace(tzinfo=None).isoformat()], raw, out, source.path.name)
            except arlmet.ARLFormatError as error:
                raise MeteorologyError(f"{source.path.name} is damaged: {error}") from error


def _copy_hour(step: Any, raw: Any, out: Any, name: str) -> None:
    records = [each for record in step.records for each in (record, *record.diffs)]
    for record in records:
        _ = record.header  # raises ARLFormatError if its name or level is not what the index says
        if not record.verify_checksum():
            what = f"{record.variable} at level {record.level}, {step.time:%Y-%m-%d %H}Z"
            raise MeteorologyError(f"{name} is damaged: {what}, fails its checksum")
    raw.seek(step.position)
    left = (1 + len(records)) * step.record_length
    while left:
        block = raw.read(min(left, _COPY))
        if not block:
            raise MeteorologyError(f"{name} ends inside {step.time:%Y-%m-%d %H}Z")
        out.write(block)
        left -= len(block)


def _crop(whole: Path, target: Path, grid: arlmet.Grid, box: Box) -> None:
    """Cut `box` out of `whole`, widened until it holds the box's every corner and ARL's index record fits."""
    for widening in (*np.linspace(0.0, 1.0, 21), 2.0, 4.0, 8.0, 16.0):
        window = _window(grid, _widened(box, float(widening)))
        if window == grid.full_window():
            whole.rename(target)
            return
        if not _holds(grid, window, box):
            continue
        try:
            arlmet.extract_subset(whole, target, bbox=_widened(box, float(widening)))
            return
        except ValueError as error:
            if "too small" not in str(error):
                raise MeteorologyError(f"cannot crop the meteorology to {box}: {error}") from error
    whole.rename(target)


def _widened(box: Box, share: float) -> Box:
    west, south, east, north = box
    if share == 0.0:
        return box
    span = (east - west) % 360.0
    across, along = min(span * share, (359.0 - span) / 2), (north - south) * share
    west, east = (round((edge + 180.0) % 360.0 - 180.0, 6) for edge in (west - across, east + across))
    return west, max(south - along, -90.0), east, min(north + along, 90.0)


def _window(grid: arlmet.Grid, box: Box) -> arlmet.GridWindow:
    try:
        return grid.window_from_bbox(box)
    except ValueError as error:
        raise MeteorologyError(f"the meteorology does not reach {box} (west, south, east, north): {error}") from error


def _holds(grid: arlmet.Grid, window: arlmet.GridWindow, box: Box) -> bool:
    """Whether a window holds all that the files have of a box: on a projected grid its sides are curved."""
    west, south, east, north = box
    across, along = np.linspace(west, east if east > west else east + 360.0, 33), np.linspace(south, north, 33)
    lon = np.concatenate([across, across, np.full(33, across[0]), np.full(33, across[-1])])
    lat = np.concatenate([np.full(33, south), np.full(33, north), along, along])
    x, y = (np.asarray(index) for index in grid.fractional_indices((lon + 180.0) % 360.0 - 180.0, lat))
    x, y = np.clip(x, 0, grid.nx - 1), np.clip(y, 0, grid.ny - 1)
    inside_x = (x >= window.x_start - 0.5) & (x <= window.x_stop - 0.5)
    return bool(np.all(inside_x & (y >= window.y_start - 0.5) & (y <= window.y_stop - 0.5)))


def _places(grid: arlmet.Grid, receptors: Sequence[Receptor]) -> tuple[np.ndarray, np.ndarray]:
    lon = np.array([receptor.longitude for receptor in receptors])
    lat = np.array([receptor.latitude for receptor in receptors])
    x, y = grid.fractional_indices(lon, lat)
    return np.asarray(x, dtype=float), np.asarray(y, dtype=float)


def _outside(grid: arlmet.Grid, receptors: Sequence[Receptor]) -> int:
    x, y = _places(grid, receptors)
    return int(np.sum(~((x >= 0) & (x <= grid.nx - 1) & (y >= 0) & (y <= grid.ny - 1))))


def _extent(grid: arlmet.Grid) -> list[float]:
    """West, south, east, north of a grid's points, degrees; on a projected grid they need not meet in a corner."""
    coords = grid.calculate_coords()
    lon, lat = (np.asarray(coords[name][1]) for name in ("lon", "lat"))
    return [round(float(edge), 4) for edge in (lon.min(), lat.min(), lon.max(), lat.max())]


def _margins(grid: arlmet.Grid, receptors: Sequence[Receptor]) -> dict[str, float]:
    """Distance of the outermost release points to the grid's sides, km; negative outside."""
    x, y = _places(grid, receptors)
    size = grid.projection.grid_size
    if grid.is_latlon:
        size = KM_PER_DEGREE * float(np.diff(grid.calculate_coords()["lat"][1][:2])[0])
    sides = {"west": x.min(), "south": y.min(), "east": grid.nx - 1 - x.max(), "north": grid.ny - 1 - y.max()}
    return {side: round(float(cells) * float(size), 1) for side, cells in sides.items()}
