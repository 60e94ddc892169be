"""
Where are a receptor's particles a minute later, and how much of the ground's air have they met?

All particles of one receptor go back by one minute at a time, in place; nothing is kept of a minute unless its reader
does so. Directions are those of the grid, times are minutes since 1970, heights are zeta (see `layout`).
"""

from math import exp, floor, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import uint64

from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.draws import RELEASE, normal, stream_of
from stilt_assets.transport.native.geometry import metres_per_cell, on_from_centre, to_grid, turned
from stilt_assets.transport.native.layout import DENSITY, HEIGHTS, LID, SIGMA_W, Decoded
from stilt_assets.transport.native.turbulence import SURFACE_SHARE, column_of, mix
from stilt_assets.transport.native.winds import (
    SCALAR,
    Met,
    air,
    blend,
    drift,
    height_index,
    inside,
    level_of,
    moment_of,
    over_ground,
    place_of,
    wind,
)

Numbers = npt.NDArray[np.float64]
HORIZONTAL = 0.5  # share of the vertical variance that each horizontal direction has
MEMORY = exp(-60.0 / 10800.0)  # of horizontal turbulence, a minute later: `hscale`
FRESH = sqrt(1.0 - MEMORY * MEMORY)
MOLAR_MASS = 0.02886  # kg mol-1
_PRINTED = 1000.0  # per m s-1: steps of the sigma_w that hycs_std prints, and that near-field corrections are made of
EARTH = ("lon", "lat", "per_x", "per_y", "bend_x_lon", "bend_x_lat", "bend_y_lon", "bend_y_lat")
LON, LAT, PER_X, PER_Y, BEND_X, _, BEND_Y, _ = range(len(EARTH))  # PER: cells per minute of a wind of 1 m s-1


class Flight(NamedTuple):
    """One receptor's particles: where they are, what they remember, and what their last minute was like."""

    flies: npt.NDArray[np.int8]  # (particle,) 1 until it leaves the meteorology
    x: Numbers  # columns
    y: Numbers  # rows
    zeta: Numbers
    ratio: Numbers  # w'/sigma_w
    gust_x: Numbers  # m s-1; at the release a share of what the first minute's end has
    gust_y: Numbers
    lon: Numbers  # degrees
    lat: Numbers
    zagl: Numbers  # m above ground
    pres: Numbers  # hPa
    dens: Numbers  # of dry air, kg m-3
    foot: Numbers  # ppm m2 s µmol-1, before the near-field correction
    samt: Numbers  # share of the minute below SURFACE_SHARE of the mixed layer
    mlht: Numbers  # m above ground
    sigw: Numbers  # m s-1, in steps of _PRINTED
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
        depth=((LID - decoded.terrain.astype("f8")) / LID).reshape(ny * nx, 1),
        earth=earth_of(nx, ny, decoded.projection),
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


@compiled(allocates=True)
def earth_of(nx, ny, projection):
    """
    Where cells are on the earth: a table (y * x, EARTH) that is bilinear between them but for its bends.

    Between two columns a share s apart from the western one, longitude and latitude bend away from the straight line by
    s(1 - s) times their half second difference; what is left is of third order, 0.1 mm for 3 km cells, 0.3 m for 30.
    """
    table = np.zeros((ny * nx, len(EARTH)))
    for row in range(ny):
        for column in range(nx):
            cell = table[row * nx + column]
            x, y = column + 0.0, row + 0.0
            centre = on_from_centre(x, y, projection)
            sides = on_from_centre(x - 1.0, y, projection), on_from_centre(x + 1.0, y, projection)
            ends = on_from_centre(x, y - 1.0, projection), on_from_centre(x, y + 1.0, projection)
            width, height = metres_per_cell(centre[1], projection)
            cell[LON], cell[LAT], cell[PER_X], cell[PER_Y] = centre[0], centre[1], 60.0 / width, 60.0 / height
            for item in range(2):
                cell[BEND_X + item] = centre[item] - 0.5 * (sides[0][item] + sides[1][item])
                cell[BEND_Y + item] = centre[item] - 0.5 * (ends[0][item] + ends[1][item])
    return table


@compiled(error_model="numpy")
def start(met, flight, i, seed, longitude, latitude, height, minute):
    """Put a particle to a place, m above ground, with draws of its own for its turbulence. False if it is outside."""
    x, y = to_grid(longitude, latitude, met.projection)
    flight.flies[i] = 0
    if not inside(met, x, y):
        return False
    moment, place = moment_of(met, minute), place_of(met, x, y)
    # hycs_std takes the ground of the first guess of the first minute's end, at a height not corrected for terrain yet.
    u, v, _ = wind(met, place, moment, height)
    zeta = height / over_ground(met, met.depth, place_of(met, x - u, y - v), 0)
    flight.x[i], flight.y[i], flight.zeta[i] = x, y, zeta
    flight.lon[i], flight.lat[i], flight.zagl[i] = longitude, latitude, height
    stream = stream_of(uint64(seed), uint64(i), uint64(RELEASE))
    stream, flight.ratio[i] = normal(stream)
    stream, flight.gust_x[i] = normal(stream)
    stream, flight.gust_y[i] = normal(stream)
    flight.flies[i] = 1
    return True


@compiled(**SCALAR)
def horizontal_sigma(met, place, moment, zeta):
    """Standard deviation of each horizontal wind, m s-1: variances between columns, times and levels are linear."""
    index = height_index(zeta)
    k = level_of(index)
    share = max(index - (k + 1), 0.0)
    here, after = moment.columns + place.ground, moment.columns + place.ground + met.nx * met.ny
    sooner = _variance(met, here, k, share, place)
    variance = sooner + moment.later * (_variance(met, after, k, share, place) - sooner)
    return sqrt(HORIZONTAL * variance)


@compiled(**SCALAR)
def _variance(met, column, k, share, place):
    """Of w', m2 s-2, between four columns at one time and two levels."""
    a, b = _variance_of(met, column, k, share), _variance_of(met, column + met.nx, k, share)
    a += place.east * (_variance_of(met, column + 1, k, share) - a)
    b += place.east * (_variance_of(met, column + met.nx + 1, k, share) - b)
    return a + place.north * (b - a)


@compiled(**SCALAR)
def _variance_of(met, column, k, share):
    extra = met.extra[uint64(column)]
    low = met.turbulence[uint64(column), uint64(k + (k > extra)), SIGMA_W]
    high = met.turbulence[uint64(column), uint64(k + 1 + (k + 1 > extra)), SIGMA_W]
    return low * low + share * (high * high - low * low)


@compiled(**SCALAR)
def air_below(met, place, moment, zeta):
    """
    Dry air between the ground and a zeta, kg m-2 of zeta, in stairs.

    Up to the highest level that is below `zeta` a level's density holds down to the level under it; above, its own.
    """
    density = blend(met, met.wind, place, moment, 0, DENSITY)
    mass, k, low = 0.0, 1, min(met.heights[0], zeta)
    mass = density * low
    while met.heights[uint64(k)] < zeta:
        density = blend(met, met.wind, place, moment, k, DENSITY)
        mass += density * (met.heights[uint64(k)] - low)
        low = met.heights[uint64(k)]
        k += 1
    return mass + density * (zeta - low)


@compiled(**SCALAR)
def move(met, flight, i, seed, age, now, before):
    """
    One particle from a minute to the minute before; 1, or 0 if it had left: the minute it leaves in is its last.

    The mean wind is taken twice: for the way of a particle that turbulence leaves alone, and again at the heights that
    turbulence brings it to, half a minute along the profile where it was and half where it would be.
    """
    x, y, ratio = flight.x[i], flight.y[i], flight.ratio[i]
    if not inside(met, x, y):
        flight.flies[i] = 0
        return 0
    stream = stream_of(uint64(seed), uint64(i), uint64(age))
    place = place_of(met, x, y)
    mean_x, mean_y, zeta = drift(met, place, now, before, x, y, flight.zeta[i])
    moment, column = now, column_of(met, x, y, now)
    foot = below = mixed = sigma = scale = 0.0
    for half in range(2):
        if half == 1:
            moment, place, column = before, place_of(met, mean_x, mean_y), column_of(met, mean_x, mean_y, before)
        depth = over_ground(met, met.depth, place, 0)
        zeta, ratio, east, north, low, sigma, scale, stream = mix(
            met, place, moment, column, depth, zeta, ratio, stream, 0.5
        )
        x, y = x - east, y - north
        mixed += 0.5 * column.height
        if low > 0.0:
            below += low
            foot += low / (depth * air_below(met, place, moment, SURFACE_SHARE * column.height / depth))
    sigma_u = horizontal_sigma(met, place, before, zeta)
    kept = MEMORY * sigma_u if age == 0 else MEMORY
    stream, chance = normal(stream)
    flight.gust_x[i] = kept * flight.gust_x[i] + FRESH * sigma_u * chance
    stream, chance = normal(stream)
    flight.gust_y[i] = kept * flight.gust_y[i] + FRESH * sigma_u * chance
    x -= flight.gust_x[i] * over_ground(met, met.earth, place, PER_X)
    y -= flight.gust_y[i] * over_ground(met, met.earth, place, PER_Y)
    flight.x[i], flight.y[i], flight.zeta[i], flight.ratio[i] = x, y, zeta, ratio
    flight.foot[i], flight.samt[i] = foot * (60.0 * MOLAR_MASS), below
    flight.mlht[i], flight.tlgr[i] = mixed, scale * 60.0
    flight.sigw[i] = floor(sigma * _PRINTED + 0.5) / _PRINTED
    tell(met, flight, i, before)
    return 1


@compiled(**SCALAR)
def move_still(met, flight, i, now, before):
    """One particle along the mean wind alone (`nturb=1`); 1, or 0 if it has left."""
    x, y = flight.x[i], flight.y[i]
    if not inside(met, x, y):
        flight.flies[i] = 0
        return 0
    x, y, zeta = drift(met, place_of(met, x, y), now, before, x, y, flight.zeta[i])
    flight.x[i], flight.y[i], flight.zeta[i] = x, y, zeta
    tell(met, flight, i, before)
    return 1


@compiled(**SCALAR)
def tell(met, flight, i, moment):
    """Fill in where a particle is on the earth, and the air around it."""
    x, y, zeta = flight.x[i], flight.y[i], flight.zeta[i]
    place = place_of(met, x, y)
    bent_x, bent_y = place.east * (1.0 - place.east), place.north * (1.0 - place.north)
    cell = uint64(place.ground)
    lon = over_ground(met, met.earth, place, LON)
    lat = over_ground(met, met.earth, place, LAT)
    lon += bent_x * met.earth[cell, BEND_X] + bent_y * met.earth[cell, BEND_Y]
    lat += bent_x * met.earth[cell, BEND_X + 1] + bent_y * met.earth[cell, BEND_Y + 1]
    flight.lon[i], flight.lat[i] = turned(lon), lat
    flight.zagl[i] = zeta * over_ground(met, met.depth, place, 0)
    flight.pres[i], flight.dens[i] = air(met, place, moment, zeta)


@compiled(error_model="numpy")
def fly_minute(met, flight, seed, age, minute):
    """All particles of a receptor from `minute` to the minute before; how many fly on. `age` counts from 0."""
    now, before = moment_of(met, minute), moment_of(met, minute - 1)
    flying = 0
    for i in range(len(flight.flies)):
        if flight.flies[i] == 1:
            flying += move(met, flight, i, seed, age, now, before)
    return flying


@compiled(error_model="numpy")
def fly_still(met, flight, minute):
    """As `fly_minute`, without turbulence."""
    now, before = moment_of(met, minute), moment_of(met, minute - 1)
    flying = 0
    for i in range(len(flight.flies)):
        if flight.flies[i] == 1:
            flying += move_still(met, flight, i, now, before)
    return flying


@compiled(error_model="numpy")
def fly_back(met, flight, seed, release, minutes):
    """All particles of a receptor from their release back by so many minutes; how many fly on."""
    flying = 0
    for age in range(minutes):
        flying = fly_minute(met, flight, seed, age, release - age)
    return flying
