"""
Where are a receptor's particles a minute later, and how much of the ground's air have they met?

All particles of one receptor go back by one minute at a time, in place; nothing is kept of a minute unless its reader
does so. Directions are those of the grid, times are minutes since 1970, heights are zeta (see `layout`).
"""

from math import exp, sqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, uint64

from stilt_assets.transport.native.draws import normal, stream_of
from stilt_assets.transport.native.geometry import Projection, metres_per_cell, to_degrees, to_grid
from stilt_assets.transport.native.layout import DENSITY, HEIGHTS, LID, SIGMA_W, Decoded
from stilt_assets.transport.native.turbulence import (
    SURFACE_SHARE,
    column_of,
    first_not_below,
    layer_at,
    mix,
    mixed_layer,
)
from stilt_assets.transport.native.winds import air, blend, depth_of, drift, inside, place_of

Numbers = npt.NDArray[np.float64]
HORIZONTAL = 0.5  # share of the vertical variance that each horizontal direction has
MEMORY = exp(-60.0 / 10800.0)  # of horizontal turbulence, a minute later: `hscale`
FRESH = sqrt(1.0 - MEMORY * MEMORY)
MOLAR_MASS = 0.02886  # kg mol-1
AT_RELEASE = -1  # the minute of the draws that particles start with


class Met(NamedTuple):
    """Decoded meteorology with its columns in a row: time, then y, then x."""

    wind: Any  # (column, level, WIND) float32, see `layout`
    pressure: Any  # (column, level, 1) float32, hPa
    turbulence: Any  # (column, level + 1, TURBULENCE) float32
    extra: Any  # (column,) int8
    mixed_layer: Any  # (column,) float32
    depth: Numbers  # (y * x,) metres above ground per m of zeta
    heights: Numbers  # (level,) zeta
    nx: int
    ny: int
    times: int
    first: int
    spacing: int
    projection: Projection


class Flight(NamedTuple):
    """One receptor's particles: where they are, what they remember, and what their last minute was like."""

    flies: npt.NDArray[np.int8]  # (particle,) 1 until it leaves the meteorology
    x: Numbers  # columns
    y: Numbers  # rows
    zeta: Numbers
    ratio: Numbers  # w'/sigma_w
    gust_x: Numbers  # m s-1
    gust_y: Numbers
    lon: Numbers  # degrees
    lat: Numbers
    zagl: Numbers  # m above ground
    pres: Numbers  # hPa
    dens: Numbers  # of dry air, kg m-3
    foot: Numbers  # ppm m2 s µmol-1, before the near-field correction
    samt: Numbers  # share of the minute below SURFACE_SHARE of the mixed layer
    mlht: Numbers  # m above ground
    sigw: Numbers  # m s-1
    tlgr: Numbers  # s


def met_of(decoded: Decoded) -> Met:
    """The same memory as the engine reads it."""
    times, ny, nx = decoded.mixed_layer.shape
    columns = times * ny * nx
    return Met(
        wind=decoded.wind.reshape(columns, *decoded.wind.shape[3:]),
        pressure=decoded.pressure.reshape(columns, -1, 1),
        turbulence=decoded.turbulence.reshape(columns, *decoded.turbulence.shape[3:]),
        extra=decoded.extra.reshape(columns),
        mixed_layer=decoded.mixed_layer.reshape(columns),
        depth=((LID - decoded.terrain.astype("f8")) / LID).ravel(),
        heights=np.array(HEIGHTS),
        nx=nx,
        ny=ny,
        times=times,
        first=int(decoded.first),
        spacing=int(decoded.spacing),
        projection=decoded.projection,
    )


def new_flight(particles: int) -> Flight:
    """Room for a receptor's particles; one row of memory an array."""
    rows = np.zeros((len(Flight._fields) - 1, particles))
    return Flight(np.ones(particles, dtype="i1"), *rows)


@njit(cache=True, nogil=True)
def start(met, flight, i, seed, longitude, latitude, height, minute):
    """Put a particle to a place, m above ground, with draws of its own for its turbulence. False if it is outside."""
    x, y = to_grid(longitude, latitude, met.projection)
    flight.flies[i] = 0
    if not inside(met, x, y):
        return False
    place = place_of(met, x, y, minute)
    depth = depth_of(met, place)
    flight.x[i], flight.y[i], flight.zeta[i] = x, y, height / depth
    flight.lon[i], flight.lat[i], flight.zagl[i] = longitude, latitude, height
    stream = stream_of(uint64(seed), uint64(i), uint64(AT_RELEASE))
    stream, flight.ratio[i] = normal(stream)
    sigma = horizontal_sigma(met, place, height / depth)
    stream, chance = normal(stream)
    flight.gust_x[i] = sigma * chance
    stream, chance = normal(stream)
    flight.gust_y[i] = sigma * chance
    flight.flies[i] = 1
    return True


@njit(cache=True, nogil=True)
def horizontal_sigma(met, place, zeta):
    """Standard deviation of each horizontal wind, m s-1, bilinear between columns."""
    here, east, north, later = place
    mixed = mixed_layer(met, here, later)
    depth = met.depth[here % (met.nx * met.ny)]
    layer = layer_at(met, zeta, first_not_below(met, mixed / depth))
    return sqrt(HORIZONTAL) * blend(met, met.turbulence, place, layer, SIGMA_W)


@njit(cache=True, nogil=True)
def move(met, flight, i, seed, age, minute):
    """
    One particle from `minute` to the minute before, `age` minutes after its release. False if it has left.

    The mean wind is taken twice: for the way of a particle that turbulence leaves alone, and again at the heights that
    turbulence brings it to, half a minute along the profile where it was and half where it would be.
    """
    stream = stream_of(uint64(seed), uint64(i), uint64(age))
    x, y, zeta = flight.x[i], flight.y[i], flight.zeta[i]
    mean_x, mean_y, zeta = drift(met, x, y, zeta, minute)
    if not inside(met, mean_x, mean_y):
        flight.flies[i] = 0
        return False
    place = place_of(met, x, y, minute)
    column, later = column_of(met, x, y, minute)
    depth = depth_of(met, place)
    mixed = mixed_layer(met, column, later)
    zeta, ratio, east, north, below, sigma, scale, stream = mix(
        met, place, column, later, depth, zeta, flight.ratio[i], stream, 0.5
    )
    foot = 0.0
    if below > 0.0:
        foot = below / air_below(met, place, SURFACE_SHARE * mixed / depth, depth)
    place = place_of(met, mean_x, mean_y, minute - 1)
    column, later = column_of(met, mean_x, mean_y, minute - 1)
    depth = depth_of(met, place)
    mixed_after = mixed_layer(met, column, later)
    zeta, ratio, east_after, north_after, below_after, sigma, scale, stream = mix(
        met, place, column, later, depth, zeta, ratio, stream, 0.5
    )
    if below_after > 0.0:
        foot += below_after / air_below(met, place, SURFACE_SHARE * mixed_after / depth, depth)
    x, y = x - east - east_after, y - north - north_after
    sigma_u = horizontal_sigma(met, place, zeta)
    stream, chance = normal(stream)
    gust_x = MEMORY * flight.gust_x[i] + FRESH * sigma_u * chance
    stream, chance = normal(stream)
    gust_y = MEMORY * flight.gust_y[i] + FRESH * sigma_u * chance
    width, height = metres_per_cell(flight.lat[i], met.projection)
    x, y = x - 60.0 * gust_x / width, y - 60.0 * gust_y / height
    if not inside(met, x, y):
        flight.flies[i] = 0
        return False
    flight.x[i], flight.y[i], flight.zeta[i] = x, y, zeta
    flight.ratio[i], flight.gust_x[i], flight.gust_y[i] = ratio, gust_x, gust_y
    flight.samt[i] = below + below_after
    flight.foot[i] = foot * 60.0 * MOLAR_MASS
    flight.mlht[i] = 0.5 * (mixed + mixed_after)
    flight.sigw[i], flight.tlgr[i] = sigma, scale * 60.0
    tell(met, flight, i, minute - 1)
    return True


@njit(cache=True, nogil=True)
def tell(met, flight, i, minute):
    """Fill in where a particle is on the earth, and the air around it."""
    x, y, zeta = flight.x[i], flight.y[i], flight.zeta[i]
    place = place_of(met, x, y, minute)
    flight.lon[i], flight.lat[i] = to_degrees(x, y, met.projection)
    flight.zagl[i] = zeta * depth_of(met, place)
    flight.pres[i], flight.dens[i] = air(met, place, zeta)


@njit(cache=True, nogil=True)
def air_below(met, place, zeta, depth):
    """Dry air between the ground and a zeta, kg m-2: a level's density holds up to the next."""
    mass, k, low = 0.0, 0, 0.0
    while True:
        high = min(met.heights[k + 1], zeta)
        mass += (high - low) * blend(met, met.wind, place, k, DENSITY)
        if high >= zeta:
            return mass * depth
        low = high
        k += 1


@njit(cache=True, nogil=True)
def move_still(met, flight, i, minute):
    """One particle along the mean wind alone: `nturb=1`."""
    mean_x, mean_y, zeta = drift(met, flight.x[i], flight.y[i], flight.zeta[i], minute)
    if not inside(met, mean_x, mean_y):
        flight.flies[i] = 0
        return False
    flight.x[i], flight.y[i], flight.zeta[i] = mean_x, mean_y, zeta
    tell(met, flight, i, minute - 1)
    return True


@njit(cache=True, nogil=True)
def fly_minute(met, flight, seed, age, minute, turbulent=True):
    """All particles of a receptor from `minute` to the minute before; how many fly on. `age` counts from 0."""
    count = 0
    for i in range(len(flight.flies)):
        if flight.flies[i] == 1:
            count += move(met, flight, i, seed, age, minute) if turbulent else move_still(met, flight, i, minute)
    return count
