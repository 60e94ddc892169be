"""What does a result look like? Maps as PNG."""

import io
from typing import Any

import numpy as np

from stilt_assets.arrays import read_array

WIDTH = 7.0  # inches


def total_footprint_map(path: Any, title: str, dpi: int = 110) -> bytes:
    """
    A PNG of the summed footprint of a Jacobian (what zarr opens), its pixels as dots by outcome.

    Cells without influence are left white; the colours are logarithmic over the three largest decades.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lat, lon = read_array(path, "state/lat"), read_array(path, "state/lon")
    aspect = 1.0 / max(np.cos(np.radians(lat.mean())), 0.1)
    height = min(WIDTH, 0.8 * WIDTH * len(lat) / len(lon) * aspect)
    figure = Figure(figsize=(WIDTH, 1.2 + height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    half = float(lat[1] - lat[0]) / 2 if len(lat) > 1 else 0.5
    extent = (lon[0] - half, lon[0] - half + 2 * half * len(lon), lat[0] - half, lat[-1] + half)
    _draw_cells(axes, read_array(path, "diag/total_footprint"), extent)
    _draw_pixels(axes, path, west=extent[0])
    axes.set(title=title, xlabel="longitude (°E)", ylabel="latitude (°N)", aspect=aspect)
    axes.set(xlim=extent[:2], ylim=extent[2:])
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _draw_cells(axes: Any, total: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    from matplotlib.colors import LogNorm

    largest = float(total.max(initial=0.0))
    if largest > 0:
        shown = np.where(total > 0, total, np.nan)
        how = {"norm": LogNorm(largest / 1000, largest), "cmap": "viridis_r", "interpolation": "nearest"}
        picture = axes.imshow(shown, origin="lower", extent=extent, **how)
        axes.figure.colorbar(
            picture, ax=axes, label="footprint, sum over pixels and hours (ppm m² s µmol⁻¹)", shrink=0.85, extend="min"
        )


def _draw_pixels(axes: Any, path: Any, west: float) -> None:
    lon, lat, status = (read_array(path, f"obs/{name}") for name in ("longitude", "latitude", "status"))
    for code, colour, name in ((1, "black", "ok"), (2, "grey", "empty"), (3, "red", "failed"), (0, "white", "missing")):
        chosen = status == code
        if chosen.any():
            place = (lon[chosen] - west) % 360 + west
            axes.plot(place, lat[chosen], ".", color=colour, markersize=4, label=f"{chosen.sum()} {name}")
    if len(status):
        axes.legend(loc="upper right", fontsize=8, framealpha=0.9)
