"""What does a result look like? Maps as PNG."""

import io
from functools import partial
from typing import Any

import numpy as np

from stilt_assets.jacobian import read_array

WIDTH = 7.0  # inches


def total_footprint_map(path: Any, title: str, dpi: int = 110) -> bytes:
    """
    A PNG of the summed footprint of a Jacobian (what zarr opens), its pixels as dots by outcome.

    Cells without influence are left white; the colours are logarithmic over the three largest decades.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    read = partial(read_array, path)
    total, lat, lon = read("diag/total_footprint"), read("state/lat"), read("state/lon")
    x, y, status = read("obs/longitude"), read("obs/latitude"), read("obs/status")
    largest = float(total.max(initial=0.0))
    aspect = 1.0 / max(np.cos(np.radians(lat.mean())), 0.1)
    figure = Figure(
        figsize=(WIDTH, 1.2 + min(WIDTH, WIDTH * 0.8 * np.ptp(lat) / max(np.ptp(lon), 1e-6) * aspect)),
        dpi=dpi,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    step = float(lat[1] - lat[0]) / 2 if len(lat) > 1 else 0.5
    west = lon[0] - step
    extent = (west, west + 2 * step * len(lon), lat[0] - step, lat[-1] + step)
    if largest > 0:
        norm = LogNorm(largest / 1000, largest)
        picture = axes.imshow(
            np.where(total > 0, total, np.nan),
            origin="lower",
            extent=extent,
            norm=norm,
            cmap="viridis_r",
            interpolation="nearest",
        )
        figure.colorbar(picture, ax=axes, label="ppm m² s µmol⁻¹", shrink=0.85)
    for code, colour, name in ((1, "black", "ok"), (2, "grey", "empty"), (3, "red", "failed")):
        chosen = status == code
        if chosen.any():
            axes.plot(
                (x[chosen] - west) % 360 + west,
                y[chosen],
                ".",
                color=colour,
                markersize=4,
                label=f"{chosen.sum()} {name}",
            )
    axes.legend(loc="upper right", fontsize=8, framealpha=0.9)
    axes.set(
        title=title, xlabel="longitude (°E)", ylabel="latitude (°N)", xlim=extent[:2], ylim=extent[2:], aspect=aspect
    )
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
