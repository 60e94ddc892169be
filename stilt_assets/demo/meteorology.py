"""
Which weather blows over the demo scene?

A made-up day over a made-up valley, written as one ARL file that HYSPLIT reads. NOTHING here is observed or forecast:
every field is a smooth formula, chosen so that the fields agree with each other. The ground heats a mixed layer that
digs itself into a stable air mass (encroachment: heat given = area between the two potential temperature profiles),
surface pressure follows from the warmed column, drainage turns into up-valley wind, and in the evening a cold layer
cuts the mixed layer off from the ground. The day lasts ten hours, less than in July, so that the file holds all of it.

Axes: x east, y north, on a Lambert grid that is tangent at its own centre. Hours are UTC hours since 00Z of `DAY`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import arlmet
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DAY = datetime(2023, 7, 15)  # UTC
HOURS = range(12, 25)  # UTC; 24 is 00Z of the next day
SOURCE = "DEMO"  # the ARL header's four letters for the model

CENTRE_LON, CENTRE_LAT = -111.9, 40.6  # degrees east, degrees north
SPACING = 3.0  # km
NX, NY = 60, 54  # cells
SIGMA = (
    *(1.0, 0.999, 0.996, 0.9905, 0.981, 0.967, 0.949, 0.9275, 0.904, 0.8785),
    *(0.85, 0.8185, 0.784, 0.7465, 0.706, 0.6625, 0.616, 0.567, 0.5195, 0.47675),
)  # pressure over surface pressure; the first is the ground

G, R_DRY, CP = 9.80665, 287.05, 1004.675  # m s-2, J kg-1 K-1, J kg-1 K-1: R/cp = 2/7
EARTH = 6371.2e3  # m
KARMAN = 0.4
HEAT_CAPACITY = 0.99 * CP  # J m-3 K-1, air at 860 hPa and 303 K

UP_VALLEY = np.radians(160.0)  # azimuth, clockwise from north
FLOOR, RISE = 1300.0, 0.002  # m above sea level at the centre; m per m up the valley
RIDGES = ((-30e3, 14e3, 600.0), (38e3, 20e3, 900.0))  # across the valley, m: place of the crest, half-width, height

SUNRISE, SUNSET = 12.5, 22.5  # UTC hours
AVAILABLE = 750.0  # W m-2 at noon, shared by sensible and latent heat
SUNSHINE = 950.0  # W m-2 at noon
NIGHT_FLUX = -30.0  # W m-2
NIGHT_DEFICIT = 400.0  # K m, cold air at sunrise: temperature deficit integrated over height
COLD_DEPTH, WARM_DEPTH = 80.0, 30.0  # m, e-folding depth of the cold layer by night, of the warm one by day
SKIN_EXCESS = 0.4  # K at noon
SHALLOWEST = 100.0  # m, mixed layer of the night

THETA, STABILITY = 305.0, 4e-3  # K at FLOOR; K m-1: virtual potential temperature of the undisturbed air
PRESSURE = 870.0  # hPa at FLOOR in the undisturbed air
MOISTURE, MOISTURE_DEPTH = 0.007, 2500.0  # kg kg-1 at the ground before mixing; m, e-folding depth

ALOFT, SHEAR, TOWARDS = 1.5, 0.8e-3, np.radians(70.0)  # m s-1; m s-1 per m; azimuth the general wind blows to
DRAINAGE, BREEZE, BREEZE_DEPTH, BREEZE_WIDTH = -1.5, 3.0, 800.0, 20e3  # m s-1 up the valley: night, day; m; m
DOWNSLOPE, UPSLOPE, SLOPE_DEPTH = -0.7, 1.2, 250.0  # m s-1 on the steepest slope: night, day; m
BREEZE_HOURS = (13.5, 24.5)  # UTC, between them the breezes blow with the day's sign and back
SURFACE_LAYER = 150.0  # m, above it the ground does not slow the wind
LIFT_DEPTH = 1000.0  # m, e-folding depth of the lift over slopes


def plane(lon: npt.ArrayLike, lat: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Metres east and north of the centre on the plane that the formulas live on."""
    x = EARTH * np.cos(np.radians(CENTRE_LAT)) * np.radians(np.asarray(lon, float) - CENTRE_LON)
    return x, EARTH * np.radians(np.asarray(lat, float) - CENTRE_LAT)


def terrain(lon: npt.ArrayLike, lat: npt.ArrayLike) -> Floats:
    """Height of the ground, m above sea level."""
    return Columns(np.asarray(lon, float), np.asarray(lat, float), 0.0).ground


def surface_pressure(lon: npt.ArrayLike, lat: npt.ArrayLike, hour: float) -> Floats:
    """Pressure at the ground, hPa."""
    return Columns(np.asarray(lon, float), np.asarray(lat, float), hour).surface_pressure


def exner(pressure: npt.ArrayLike) -> Floats:
    """Temperature over potential temperature at a pressure in hPa."""
    return (np.asarray(pressure, float) / 1000.0) ** (R_DRY / CP)


@dataclass(frozen=True)
class Columns:
    """Made-up air over some places, `(...)`, at one hour; heights `z` are m above ground, `(...)` or `(level, ...)`."""

    lon: Floats  # degrees east
    lat: Floats  # degrees north
    hour: float  # UTC

    @cached_property
    def valley(self) -> tuple[Floats, Floats]:
        """Metres up the valley and, at right angles, to the east of its axis."""
        x, y = plane(self.lon, self.lat)
        sin, cos = np.sin(UP_VALLEY), np.cos(UP_VALLEY)
        return x * sin + y * cos, -x * cos + y * sin

    @cached_property
    def relief(self) -> Floats:
        """Height of the ridges above the valley floor, m."""
        across = self.valley[1]
        return np.sum([top * np.exp(-(((across - at) / wide) ** 2) / 2) for at, wide, top in RIDGES], axis=0)

    @cached_property
    def ground(self) -> Floats:
        """Height of the ground, m above sea level."""
        return FLOOR + RISE * self.valley[0] + self.relief

    @cached_property
    def slope(self) -> tuple[Floats, Floats]:
        """Rise of the ground to the east and to the north, m per m."""
        across = self.valley[1]
        steps = [(at - across) / wide**2 * top * np.exp(-(((across - at) / wide) ** 2) / 2) for at, wide, top in RIDGES]
        sin, cos, steep = np.sin(UP_VALLEY), np.cos(UP_VALLEY), np.sum(steps, axis=0)
        return RISE * sin - steep * cos, RISE * cos + steep * sin

    @cached_property
    def roughness(self) -> Floats:
        """Roughness length, m: fields on the floor, woods on the ridges."""
        return 0.1 + 0.4 * self.relief / 900.0

    @cached_property
    def dryness(self) -> Floats:
        """Share of the available energy that is sensible heat: the floor is watered, the ridges are not."""
        return 0.45 + 0.15 * self.relief / 900.0

    @cached_property
    def day_share(self) -> float:
        """Share of the day that is over, 0 before sunrise, 1 after sunset."""
        return float(np.clip((self.hour - SUNRISE) / (SUNSET - SUNRISE), 0.0, 1.0))

    @cached_property
    def sun(self) -> float:
        """Sunshine, 1 at noon."""
        return float(np.sin(np.pi * self.day_share)) if 0.0 < self.day_share < 1.0 else 0.0

    @cached_property
    def heat_flux(self) -> Floats:
        """Sensible heat from the ground, W m-2, positive upwards."""
        return self.dryness * AVAILABLE * self.sun if self.sun else np.full_like(self.relief, NIGHT_FLUX)

    @cached_property
    def heated(self) -> Floats:
        """Heat that the day has given so far, K m: the integral of `heat_flux` over the capacity."""
        seconds = 3600 * (SUNSET - SUNRISE) / np.pi * (1 - np.cos(np.pi * self.day_share))
        return self.dryness * AVAILABLE * seconds / HEAT_CAPACITY

    @cached_property
    def cold(self) -> Floats:
        """What is left of the cold layer at the ground, K m."""
        hourly = -NIGHT_FLUX * 3600 / HEAT_CAPACITY
        morning = np.maximum(NIGHT_DEFICIT - hourly * max(SUNRISE - self.hour, 0.0) - self.heated, 0.0)
        return morning + hourly * max(self.hour - SUNSET, 0.0)

    @cached_property
    def mixed(self) -> Floats:
        """Depth of the air that this day has mixed, m: what remains of it overhead after sunset, too."""
        return np.sqrt(SHALLOWEST**2 + 2 * np.maximum(self.heated - NIGHT_DEFICIT, 0.0) / STABILITY)

    @cached_property
    def mixing_height(self) -> Floats:
        """Depth of the air that the ground mixes now, m."""
        return self.mixed if self.sun else np.full_like(self.relief, SHALLOWEST)

    @cached_property
    def mixed_theta(self) -> Floats:
        """Virtual potential temperature of the mixed air, K."""
        return THETA + STABILITY * (self.ground + self.mixed - FLOOR)

    @cached_property
    def mixed_exner(self) -> Floats:
        """Exner function at the top of the mixed air: above it the air is undisturbed."""
        return exner(PRESSURE) - G / (CP * STABILITY) * np.log(self.mixed_theta / THETA)

    @cached_property
    def surface_pressure(self) -> Floats:
        """Pressure at the ground, hPa, of a hydrostatic column."""
        return 1000.0 * (self.mixed_exner + G * self.mixed / (CP * self.mixed_theta)) ** (CP / R_DRY)

    def height(self, pressure: Floats) -> Floats:
        """Height above ground, m, at which a hydrostatic column has a pressure in hPa."""
        here = exner(pressure)
        below = self.mixed - (here - self.mixed_exner) * CP * self.mixed_theta / G
        theta = THETA * np.exp((exner(PRESSURE) - here) * CP * STABILITY / G)
        return np.where(here > self.mixed_exner, below, (theta - THETA) / STABILITY + FLOOR - self.ground)

    def humidity(self, z: npt.ArrayLike) -> Floats:
        """Specific humidity, kg kg-1: the morning's profile above, its mean in the mixed air."""
        share = self.mixed / MOISTURE_DEPTH
        mean = MOISTURE * (1 - np.exp(-share)) / share
        return np.where(np.less(z, self.mixed), mean, MOISTURE * np.exp(-np.asarray(z, float) / MOISTURE_DEPTH))

    def theta(self, z: npt.ArrayLike) -> Floats:
        """Virtual potential temperature, K: constant in the mixed air but for the cold or warm layer at the ground."""
        height = np.asarray(z, float)
        undisturbed = THETA + STABILITY * (self.ground + np.maximum(height, self.mixed) - FLOOR)
        cold = self.cold / COLD_DEPTH * np.exp(-height / COLD_DEPTH)
        return undisturbed - cold + SKIN_EXCESS * self.sun * np.exp(-height / WARM_DEPTH)

    def temperature(self, z: npt.ArrayLike, pressure: Floats) -> Floats:
        """Temperature, K, at heights z where the pressure is `pressure` hPa."""
        return self.theta(z) * exner(pressure) / (1 + 0.61 * self.humidity(z))

    def wind(self, z: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Wind to the east and to the north, m s-1: a general wind that grows with height, valley and slope breezes."""
        height = np.asarray(z, float)
        begin, end = BREEZE_HOURS
        turn = np.sin(np.pi * np.clip((self.hour - begin) / (end - begin), 0.0, 1.0)) ** 2
        general = ALOFT + SHEAR * height
        breeze = (DRAINAGE + (BREEZE - DRAINAGE) * turn) * np.exp(-((height / BREEZE_DEPTH) ** 2))
        breeze = breeze * np.exp(-((self.valley[1] / BREEZE_WIDTH) ** 2) / 2)
        steepest = max(0.6 * top / wide for _, wide, top in RIDGES)
        slope = (DOWNSLOPE + (UPSLOPE - DOWNSLOPE) * turn) / steepest * np.exp(-height / SLOPE_DEPTH)
        drag = np.minimum(np.log1p(height / self.roughness) / np.log1p(SURFACE_LAYER / self.roughness), 1.0)
        east = general * np.sin(TOWARDS) + breeze * np.sin(UP_VALLEY) + slope * self.slope[0]
        north = general * np.cos(TOWARDS) + breeze * np.cos(UP_VALLEY) + slope * self.slope[1]
        return drag * east, drag * north

    @cached_property
    def friction_velocity(self) -> Floats:
        """Friction velocity, m s-1, of the wind at 10 m over the roughness."""
        return np.maximum(KARMAN * np.hypot(*self.wind(10.0)) / np.log1p(10.0 / self.roughness), 0.05)

    def turbulence(self, z: Floats) -> Floats:
        """Turbulent kinetic energy, m2 s-2: half the squared convective velocity at the ground, none above."""
        lift = np.maximum(self.heat_flux, 0.0) / HEAT_CAPACITY * G / self.mixed_theta * self.mixing_height
        return 0.01 + 0.5 * lift ** (2 / 3) * np.clip(1 - z / self.mixing_height, 0.0, 1.0)


def surface_fields(air: Columns) -> Iterator[tuple[str, Floats]]:
    """ARL names and fields `(y, x)` at the ground, in ARL's units (hPa, K, m s-1, W m-2, m, %)."""
    pressure, none = air.surface_pressure, np.zeros_like(air.ground)
    warmth, east_north = air.temperature(2.0, pressure), air.wind(10.0)
    saturation = np.exp(21.4 - 5351.0 / warmth)  # hPa, as HYSPLIT turns humidities into each other
    yield "SHGT", air.ground
    yield "TPP1", none
    yield "T02M", warmth
    yield "RH2M", np.minimum(100.0 * air.humidity(2.0) * pressure / (0.622 * saturation), 100.0)
    yield from zip(("U10M", "V10M"), east_north, strict=True)
    yield "PRSS", pressure
    yield "LHTF", (1 - air.dryness) * AVAILABLE * air.sun
    yield "SHTF", air.heat_flux
    yield "USTR", air.friction_velocity
    yield "RGHS", air.roughness
    yield "DSWF", none + SUNSHINE * air.sun
    yield "PBLH", air.mixing_height
    yield "TCLD", none


def level_fields(air: Columns) -> Iterator[tuple[str, Floats]]:
    """ARL names and fields `(level, y, x)` above the ground, in ARL's units (hPa, K, m s-1, hPa s-1, kg kg-1)."""
    pressure = np.multiply.outer(np.array(SIGMA[1:]), air.surface_pressure)
    z = air.height(pressure)
    warmth, (east, north) = air.temperature(z, pressure), air.wind(z)
    rising = (east * air.slope[0] + north * air.slope[1]) * np.exp(-z / LIFT_DEPTH)
    density = 100.0 * pressure / (R_DRY * warmth * (1 + 0.61 * air.humidity(z)))
    yield "TEMP", warmth
    yield "UWND", east
    yield "VWND", north
    yield "WWND", -density * G * rising / 100.0
    yield "SPHU", air.humidity(z)
    yield "TKEN", air.turbulence(z)
    yield "PRES", pressure


def write_meteorology(path: Path) -> Path:
    """Write the made-up day as one ARL file, hourly; the same bytes from the same libraries."""
    axis = arlmet.SigmaAxis(levels=SIGMA)
    with arlmet.File(path, mode="w", source=SOURCE, vertical_axis=axis) as file:
        grid = file.create_grid(
            nx=NX,
            ny=NY,
            pole_lat=90.0,
            pole_lon=0.0,
            tangent_lat=CENTRE_LAT,
            tangent_lon=CENTRE_LON,
            grid_size=SPACING,
            orientation=0.0,
            cone_angle=CENTRE_LAT,
            sync_x=(NX + 1) / 2,
            sync_y=(NY + 1) / 2,
            sync_lat=CENTRE_LAT,
            sync_lon=CENTRE_LON,
        )
        coordinates = grid.calculate_coords()
        for hour in HOURS:
            air = Columns(coordinates["lon"][1], coordinates["lat"][1], float(hour))
            step = file.create_recordset((DAY + timedelta(hours=hour)).isoformat(), forecast=0)
            for name, field in surface_fields(air):
                step.create_datarecord(name, 0, forecast=0, data=field, diff="DIFR" if name == "TPP1" else None)
            for name, fields in level_fields(air):
                for level, field in enumerate(fields, start=1):
                    step.create_datarecord(name, level, forecast=0, data=field, diff="DIFW" if name == "WWND" else None)
            file.flush()
    return path
