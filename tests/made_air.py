"""Air that was made up: decoded meteorology whose winds and turbulence one can do by hand."""

import numpy as np

from stilt_assets.transport.native.engine import Met, earth_of
from stilt_assets.transport.native.flight import Air
from stilt_assets.transport.native.layout import HEIGHTS, LEVELS, THIN

NX, NY, HOURS = 40, 30, 3
FIRST = 26_000_000  # minutes since 1970
RADIUS = 6_371_200.0
# Cells of 3 km on a Mercator map around 40 N: kind, cone, centre, cells per radian, column and row of its origin.
_SCALE = RADIUS * np.cos(np.radians(40.0)) / 3000.0
PROJECTION = (1.0, 0.0, -111.0, _SCALE, 20.0, 15.0 - _SCALE * np.arcsinh(np.tan(np.radians(40.0))))


def made_air(
    *,
    wind: tuple[float, float, float] = (0.0, 0.0, 0.0),
    mixed_layer: float = 1000.0,
    sigma: float = 0.5,
    timescale: float = 200.0,
    profile: tuple[float, ...] = (),
    above: tuple[float, float] = (0.01, 100.0),
    scale_height: float = 8000.0,
) -> Met:
    """
    A flat box with one wind (cells, cells and m per minute), sigma_w (m s-1) and time scale (s) in its mixed layer.

    `profile` has sigma_w of the lowest layers instead; `above` sigma_w and time scale over the mixed layer.
    """
    columns, heights = HOURS * NY * NX, np.array(HEIGHTS)
    extra = int(np.searchsorted(heights, mixed_layer))
    feet = np.r_[
        0.0, heights[1 : extra + 1], heights[extra] + THIN * (heights[extra + 1] - heights[extra]), heights[extra + 1 :]
    ]
    winds = np.zeros((columns, LEVELS, 4), "f4")
    winds[..., :3], winds[..., 3] = wind, 1.2 * np.exp(-heights / scale_height)
    turbulence = np.empty((columns, LEVELS + 1, 2), "f4")
    turbulence[:] = np.where((feet < mixed_layer)[:, None], (sigma, timescale), above)
    turbulence[:, : len(profile), 0] = profile
    return Met(
        wind=winds,
        pressure=np.broadcast_to((1000 * np.exp(-heights / 8000.0)).astype("f4")[:, None], (columns, LEVELS, 1)).copy(),
        turbulence=turbulence,
        extra=np.full(columns, extra, "i1"),
        mixed_layer=np.full(columns, mixed_layer, "f4"),
        depth=np.ones((NY * NX, 1)),
        earth=earth_of(NX, NY, PROJECTION),
        heights=heights,
        nx=NX,
        ny=NY,
        times=HOURS,
        first=FIRST,
        spacing=60,
        projection=PROJECTION,
    )


def full(met: Met) -> Air:
    """The same with levels of its own all the way up."""
    return Air(met, np.full(HOURS, LEVELS, "i1"))
