"""
What does a grid of points hold, as the same table?

Nothing was measured: value, error and prior are NaN. A point at a height counts as it is; a column counts with a unit
kernel. Both are kernels of one level, which hold at any pressure.
"""

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from stilt_assets.retrieval.reading import Retrieval
from stilt_assets.settings import GridSettings, GridTargetSettings

CODE = "1"
INSTRUMENT = "grid"
NAME = "grid of points"
_UNMEASURED = ("surface_altitude", "surface_pressure", "zenith", "azimuth", "value", "uncertainty")


def places_of(target: GridTargetSettings) -> pd.DataFrame:
    """Longitude, latitude (degrees), row and column of each point; of a grid from south to north, then west to east."""
    if not isinstance(target.points, GridSettings):
        lon, lat = np.array(target.points, dtype=float).T
        return pd.DataFrame({"longitude": lon, "latitude": lat, "row": np.arange(len(lon)), "column": 0})
    grid = target.points.grid
    row, column = (each.ravel() for each in np.mgrid[: grid.nlat, : grid.nlon])
    return pd.DataFrame({"longitude": grid.lon[column], "latitude": grid.lat[row], "row": row, "column": column})


def extent_of(target: GridTargetSettings, top: float) -> tuple[float, float]:
    """Bottom and top of the receptors, m above ground: the same for points at a height."""
    return (0.0, target.top or top) if target.height is None else (target.height, target.height)


def points_at(target: GridTargetSettings, time: datetime, top: float) -> Retrieval:
    """The points at a time (UTC), columns up to `top` (m above ground) unless the target says otherwise."""
    table = places_of(target).astype({"row": np.int32, "column": np.int32})
    count = len(table)
    half = target.points.resolution / 2.0 if isinstance(target.points, GridSettings) else 0.0
    bottom, highest = extent_of(target, top)
    corners = {
        name: list(table[name].to_numpy()[:, None] + half * np.array(signs))
        for name, signs in (("longitude", [-1, 1, 1, -1]), ("latitude", [-1, -1, 1, 1]))
    }
    profiles: dict[str, Any] = {"ak": 1.0, "ak_pressure": np.nan, "apriori": np.nan, "layer_weight": 1.0}
    table = table.assign(
        pixel=np.arange(count, dtype=np.int32),
        sounding_id=[f"point_{number}" for number in range(count)],
        time=pd.Timestamp(time).tz_convert("UTC").tz_localize(None),
        units="ppm",
        qa=1.0,
        bottom=bottom,
        top=highest,
        **dict.fromkeys(_UNMEASURED, np.nan),
        **{f"{name}_bounds": values for name, values in corners.items()},
        **{name: list(np.full((count, 1), value)) for name, value in profiles.items()},
        pressure_levels=list(np.full((count, 2), np.nan)),
    )
    return Retrieval(INSTRUMENT, NAME, table, {})
