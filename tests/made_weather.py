"""Weather that one can do by hand: constant winds, an isothermal atmosphere whose pressure halves as it should."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
import pandas as pd
import pyarrow as pa

from stilt_assets.receptor import RECEPTORS, Receptor

DAY = pd.Timestamp("2019-05-30")
SCALE_HEIGHT = 8000.0  # m
WARMTH = SCALE_HEIGHT * 9.80665 / 287.05  # K, of air whose pressure falls by e in a scale height
SURFACE = 1000.0  # hPa
EVERY_500_M = tuple(500.0 * level for level in range(20))  # m above ground, the ground first
SPACING = 0.1  # degrees
CELL = 111.195e3 * SPACING  # m, at the equator
CELL_AN_HOUR = CELL / 3600  # m s-1

Field = float | np.ndarray | Callable[[int, int], float | np.ndarray]


def longitudes(west: float, south: float, nx: int, ny: int, spacing: float = SPACING) -> arlmet.Grid:
    """A grid in longitudes and latitudes whose first cell lies at (west, south)."""
    last = (south + (ny - 1) * spacing, west + (nx - 1) * spacing)
    projection = arlmet.Projection(*last, spacing, spacing, 0.0, 0.0, 0.0, 1.0, 1.0, south, west)
    return arlmet.Grid(projection, nx, ny)


def lambert(nx: int, ny: int, lon: float = -112.0, lat: float = 40.7, size: float = 3.0) -> arlmet.Grid:
    """A Lambert grid of `size` km, tangent at its centre."""
    centre = ((nx + 1) / 2, (ny + 1) / 2, lat, lon)
    return arlmet.Grid(arlmet.Projection(90.0, 0.0, lat, lon + 20.0, size, 0.0, lat, *centre), nx, ny)


EQUATOR = longitudes(-4.0, -3.0, 80, 60)  # column 40, row 30 is (0, 0)


def receptor_table(*receptors: Receptor) -> pa.Table:
    """What starts in it, as `receptors.parquet` has it."""
    return pa.Table.from_pylist([asdict(each) for each in receptors], schema=RECEPTORS)


def sigma(heights: Sequence[float]) -> list[float]:
    return [float(np.exp(-height / SCALE_HEIGHT)) for height in heights]


def write_weather(
    path: Path,
    grid: arlmet.Grid = EQUATOR,
    *,
    hours: Sequence[int] = range(4),
    heights: Sequence[float] = EVERY_500_M,
    axis: type[arlmet.VerticalAxis] = arlmet.SigmaAxis,
    u: Field = 0.0,
    v: Field = 0.0,
    left_out: Sequence[str] = (),
    **surface: Field,
) -> Path:
    """
    Write an ARL file; fields are numbers, arrays (y, x), or functions of hour and level that give one of them.

    `surface` replaces or adds fields of the ground, `left_out` names variables that the file lacks.
    """
    levels = {
        arlmet.PressureAxis: [SURFACE * share for share in sigma(heights)],
        arlmet.TerrainAxis: list(heights),
    }.get(axis, sigma(heights))
    ground: dict[str, Field] = {"PRSS": SURFACE, "T02M": WARMTH, "SHGT": 200.0, "PBLH": 300.0} | surface
    with arlmet.File(path, mode="w", source="MADE", grid=grid, vertical_axis=axis(levels)) as file:
        for hour in hours:
            step = file.create_recordset((DAY + timedelta(hours=hour)).isoformat(), forecast=0)

            def put(name: str, level: int, value: Any, hour: int = hour, step: Any = step) -> None:
                if name not in left_out:
                    field = value(hour, level) if callable(value) else value
                    whole = np.broadcast_to(np.asarray(field, "f4"), (grid.ny, grid.nx)).copy()
                    diff = {"WWND": "DIFW", "TPP1": "DIFR"}.get(name)
                    step.create_datarecord(name, level, forecast=0, data=whole, diff=diff)

            for name, value in ground.items():
                put(name, 0, value)
            for level in range(1, len(levels)):
                put("TEMP", level, WARMTH)
                put("UWND", level, u)
                put("VWND", level, v)
                put("WWND", level, lambda hour, level: np.add.outer(np.arange(grid.ny), np.arange(grid.nx)) * 1e-3)
                if axis is arlmet.PressureAxis:
                    put("HGTS", level, 200.0 + heights[level])
                if axis is arlmet.WrfAxis:
                    put("PRES", level, SURFACE * sigma(heights)[level])
            file.flush()
    return path
