"""
How do the hours, cells and levels of a scene become one file?

Every record's checksum is verified first. Whole time steps are copied byte for byte; records that are left out with
their levels change no other; a crop packs each field anew.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
from arlmet import GridWindow, RecordSet

from stilt_assets.errors import MeteorologyError, MeteorologyGapError
from stilt_assets.meteorology import KM_PER_DEGREE, SIDES, Need, rule
from stilt_assets.meteorology.sources import DAMAGE, Source
from stilt_assets.receptor import Receptor
from stilt_assets.scene import sha256_of

CODE = "2"
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

    Raises MeteorologyError if a record is damaged, files differ in grid or levels, an hour is missing (and says which),
    or no receptor lies inside.
    """
    with _opened(sources) as steps:
        grid = steps[0].grid
        _have_all_hours(product, steps, need)
        if _outside(grid, receptors) == len(receptors):
            raise MeteorologyError(
                f"no pixel lies inside the {product} files ({grid.nx}x{grid.ny} cells): wrong region?"
            )
        choice = rule.choose(steps, need)
        kept = _write(steps, choice, folder)
        facts = {"product": product, "hours": [f"{step.time:%Y-%m-%dT%HZ}" for step in steps]}
        facts |= _box_facts(grid, kept, choice, receptors) | _level_facts(steps[0].vertical_axis, choice)
    certificate = facts | {
        "ends": choice.ends,
        "widened": int(need.widened),
        "sha256": sha256_of(folder / NAME),
        "sources": [{"name": source.path.name, "sha256": digests[source.path]} for source in sources],
    }
    (folder / "certificate.json").write_text(json.dumps(certificate, indent=2) + "\n")
    return certificate


def _have_all_hours(product: str, steps: Sequence[RecordSet], need: Need) -> None:
    """MeteorologyGapError unless the steps follow one another evenly and bracket what is needed."""
    times = [step.time.to_pydatetime().replace(tzinfo=UTC) for step in steps]
    spacing = min((later - earlier for earlier, later in pairwise(times)), default=timedelta(hours=1))
    first, last = min(times[0], need.hours[0]), max(times[-1], need.hours[-1])
    even = {times[0] + spacing * number for number in range(-(-(last - times[0]) // spacing) + 1)}
    early = {need.hours[0]} if first < times[0] else set()
    missing = sorted((even | early) - {*times})
    if missing:
        raise MeteorologyGapError(product, ", ".join(sorted({step.file.path.name for step in steps})), missing)


# ---- what the certificate says


def _box_facts(grid: arlmet.Grid, kept: arlmet.Grid, choice: rule.Choice, places: Sequence[Receptor]) -> dict[str, Any]:
    size = _cell_km(grid)
    return {
        "box": _extent(kept),
        "box_needed": _extent(grid.subset(choice.needed)),
        "cells": [kept.nx, kept.ny],
        "cells_needed": [choice.needed.nx, choice.needed.ny],
        "cells_of_files": [grid.nx, grid.ny],
        "reach_km": {side: round(cells * size, 1) for side, cells in zip(SIDES, choice.reach, strict=True)},
        "wind": [round(speed, 2) for speed in choice.wind],
        "pixels_outside": _outside(kept, places),
        "margins_km": _margins(kept, places),
    }


def _level_facts(axis: arlmet.VerticalAxis, choice: rule.Choice) -> dict[str, Any]:
    heights = [round(height, 1) for height in choice.heights]
    return {
        "levels": [float(level) for level in axis.levels[: choice.levels]],
        "levels_needed": choice.levels_needed,
        "levels_of_files": len(axis.levels),
        "lid": heights[choice.levels - 1] if heights else None,
        "level_below_lid": heights[choice.levels - 2] if heights else None,
        "lid_felt_from": heights[choice.levels - 1 - rule.FELT_BELOW] if heights else None,
        "mixed_layer": choice.mixed_layer and round(choice.mixed_layer, 1),
    }


# ---- the sources


@contextmanager
def _opened(sources: Sequence[Source]) -> Iterator[list[RecordSet]]:
    """The needed time steps of the sources, each record of which is what was written."""
    steps: list[RecordSet] = []
    with ExitStack() as stack:
        for source in sources:
            try:
                file = stack.enter_context(arlmet.File(source.path))
                for hour in source.hours:
                    steps.append(_verified(file[hour.replace(tzinfo=None).isoformat()], source.path.name))
            except DAMAGE as error:
                raise MeteorologyError(f"{source.path.name} is damaged: {' '.join(str(error).split())}") from error
            if (file.grid, file.vertical_axis) != (steps[0].grid, steps[0].vertical_axis):
                raise MeteorologyError(f"{source.path.name} and {steps[0].file.path.name} differ in grid or levels")
        yield steps


def _verified(step: RecordSet, name: str) -> RecordSet:
    for record in [each for whole in step.records for each in (whole, *whole.diffs)]:
        what = f"{record.variable} at level {record.level}, {step.time:%Y-%m-%d %H}Z"
        if not _agrees(record.header, step):
            raise MeteorologyError(f"{name} is damaged: {what}, contradicts itself in its header")
        if not record.verify_checksum():
            raise MeteorologyError(f"{name} is damaged: {what}, fails its checksum")
    return step


def _agrees(header: arlmet.Header, step: RecordSet) -> bool:
    """Whether a header has its step's hour, and the precision that follows from its exponent: 2^exponent / 254."""
    if header.time != step.time or not np.isfinite(header.initial_value) or not -126 <= header.exponent <= 127:
        return False
    precision = 2.0**header.exponent / 254.0
    return abs(header.precision - precision) <= 1e-5 * precision


# ---- the file


def _write(steps: Sequence[RecordSet], choice: rule.Choice, folder: Path) -> arlmet.Grid:
    """Write the chosen part of the steps; the grid that was kept."""
    grid, of_files = steps[0].grid, len(steps[0].vertical_axis.levels)
    if choice.window != grid.full_window():
        return _cut_out(steps, choice.window, choice.levels, folder / NAME)
    if choice.levels == of_files:
        _copy(steps, folder / NAME)
        return grid
    whole = folder / "hours.arl"
    _copy(steps, whole)
    arlmet.extract_subset(whole, folder / NAME, levels=range(choice.levels))
    whole.unlink()
    return grid


def _copy(steps: Sequence[RecordSet], target: Path) -> None:
    with target.open("wb") as out:
        for step in steps:
            with step.file.path.open("rb") as raw:
                raw.seek(step.position)
                left = (1 + sum(1 + len(record.diffs) for record in step.records)) * step.record_length
                while left:
                    block = raw.read(min(left, _COPY))
                    if not block:
                        raise MeteorologyError(f"{step.file.path.name} ends inside {step.time:%Y-%m-%d %H}Z")
                    out.write(block)
                    left -= len(block)


def _cut_out(steps: Sequence[RecordSet], window: GridWindow, levels: int, target: Path) -> arlmet.Grid:
    grid, axis = steps[0].grid.subset(window), steps[0].vertical_axis
    lowest = arlmet.VerticalAxis.from_flag(axis.flag, axis.levels[:levels], offset=axis.offset)
    with arlmet.File(target, mode="w", source=steps[0].source, grid=grid, vertical_axis=lowest) as out:
        for step in steps:
            made = out.create_recordset(step.time, forecast=step.forecast)
            for record in (each for each in step.records if each.level < levels):
                made.create_datarecord(
                    record.variable,
                    record.level,
                    forecast=record.forecast,
                    data=record.read(window),
                    diff=[correction.variable for correction in record.diffs],
                )
            out.flush()
    with arlmet.File(target) as file:
        return file.grid  # as the file's header rounds it


# ---- places


def _places(grid: arlmet.Grid, receptors: Sequence[Receptor]) -> tuple[np.ndarray, np.ndarray]:
    lon = np.array([receptor.longitude for receptor in receptors])
    lat = np.array([receptor.latitude for receptor in receptors])
    x, y = grid.fractional_indices(lon, lat)
    return np.asarray(x, dtype=float), np.asarray(y, dtype=float)


def _outside(grid: arlmet.Grid, receptors: Sequence[Receptor]) -> int:
    x, y = _places(grid, receptors)
    last = grid.nx if grid.wraps_lon else grid.nx - 1
    return int(np.sum(~((x >= 0) & (x <= last) & (y >= 0) & (y <= grid.ny - 1))))


def _extent(grid: arlmet.Grid) -> list[float]:
    """West, south, east, north of a grid's points, degrees; on a projected grid they need not meet in a corner."""
    coords = grid.calculate_coords()
    lon, lat = (np.asarray(coords[name][1]) for name in ("lon", "lat"))
    lon = np.sort(lon.ravel() % 360.0)
    gaps = [later - earlier for earlier, later in pairwise([*lon, lon[0] + 360.0])]
    widest = int(np.argmax(gaps))  # the gap that the grid leaves: it goes from its east side to its west side
    west, east = lon[(widest + 1) % len(lon)], lon[widest]
    west, east = ((edge + 180.0) % 360.0 - 180.0 for edge in (west, east))
    return [round(float(edge), 4) for edge in (west, lat.min(), east, lat.max())]


def _cell_km(grid: arlmet.Grid) -> float:
    """The height of a cell, km."""
    return KM_PER_DEGREE * abs(grid.projection.tangent_lat) if grid.is_latlon else grid.projection.grid_size


def _margins(grid: arlmet.Grid, receptors: Sequence[Receptor]) -> dict[str, float]:
    """Distance of the outermost release points to the grid's sides, km; negative outside."""
    x, y = _places(grid, receptors)
    sides = {"west": x.min(), "south": y.min(), "east": grid.nx - 1 - x.max(), "north": grid.ny - 1 - y.max()}
    return {side: round(float(cells) * _cell_km(grid), 1) for side, cells in sides.items()}
