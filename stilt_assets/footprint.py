"""
How much does each cell matter to one pixel?

Particles, as they are kept, become cells: each particle's `foot` counts with its averaging kernel and the share of
the column's air that it stands for, PYSTILT grids and smooths them as STILT-R does, and layers are whole UTC hours.
"""

from datetime import timedelta

import numpy as np
import pandas as pd
import stilt
from stilt.exceptions import EmptyFootprint
from stilt.receptors import PointReceptor

from stilt_assets.grid import Cells, Grid
from stilt_assets.particles import STEPS
from stilt_assets.receptor import Receptor

CODE = "1"
UNITS = "ppm m2 s umol-1"


def grid_particles(
    kept: dict[str, np.ndarray], releases: dict[str, np.ndarray], omega: np.ndarray, receptor: Receptor, grid: Grid
) -> Cells:
    """The footprint of particles in their kept form, each counted with its omega (particle,)."""
    number = kept["particle"].astype(int)
    weight = np.zeros(number.max(initial=0) + 1)
    weight[releases["particle"]] = omega
    released = len(releases["particle"])
    # Ages counted from the end of the release's UTC hour make PYSTILT's hourly layers whole UTC hours; its smoothing
    # takes the time since each particle's first row, which a common shift leaves alone. `zagl` is there for its rule
    # that rows interpolated in the first 100 minutes drop out because they lack it, as STILT-R's do.
    to_whole_hour = -receptor.time.minute % 60
    particles = pd.DataFrame(
        {
            "particle": number.astype(float),
            "age": kept["age"].astype(float) - to_whole_hour,
            "lon": kept["lon"] / STEPS["lon"],
            "lat": kept["lat"] / STEPS["lat"],
            "zagl": kept["zagl"].astype(float),
            "foot": kept["foot"].astype(float) * weight[number] * released,
        }
    )
    end = (receptor.time + timedelta(minutes=to_whole_hour)).replace(tzinfo=None)
    place = PointReceptor(  # pyright: ignore[reportCallIssue]
        time=end, longitude=receptor.longitude, latitude=receptor.latitude, altitude=receptor.bottom
    )
    spec = stilt.Grid(  # pyright: ignore[reportCallIssue]
        xmin=grid.west, xmax=grid.east, ymin=grid.south, ymax=grid.north, xres=grid.resolution, yres=grid.resolution
    )
    try:
        footprint = stilt.calc_footprint(particles, place, spec)
    except EmptyFootprint:
        return _cells(np.zeros((0, *grid.shape)), np.zeros(0))
    hours = (np.datetime64(end, "h") - footprint["time"].to_numpy().astype("datetime64[h]")).astype(int)
    # Across the antimeridian PYSTILT sorts columns by longitude; ours run from west to east.
    columns = np.argsort(np.argsort(grid.lon)) if grid.west > grid.east else slice(None)
    return _cells(footprint.to_numpy()[:, :, columns], hours - 1)


def _cells(layers: np.ndarray, hours: np.ndarray) -> Cells:
    foot = layers.astype("f4")
    layer, y, x = np.nonzero(foot)
    return Cells(hours[layer].astype("i1"), y.astype("i2"), x.astype("i2"), foot[layer, y, x])


def mc_error(kept: dict[str, np.ndarray], releases: dict[str, np.ndarray], omega: np.ndarray, grid: Grid) -> float:
    """
    Estimated standard error of a row's sum, ppm m2 s µmol-1: the difference of its halves of odd and even particles.

    Each half has half the total's mean and half its variance, so the difference has the total's standard error.
    """
    number = kept["particle"].astype(int)
    weight = np.zeros(number.max(initial=0) + 1)
    weight[releases["particle"]] = omega
    lon, lat = grid.unwrap(kept["lon"] / STEPS["lon"]), kept["lat"] / STEPS["lat"]
    inside = (lon >= grid.west) & (lon < grid.west + grid.span) & (lat >= grid.south) & (lat < grid.north)
    share = np.where(inside, kept["foot"].astype(float) * weight[number], 0.0)
    return float(abs(np.sum(share[number % 2 == 0]) - np.sum(share[number % 2 == 1])))
