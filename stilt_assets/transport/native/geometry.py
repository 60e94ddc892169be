"""
Where does a place on the earth lie among the grid's cells, and the other way round?

Conformal cones on HYSPLIT's sphere (Snyder 1987, p. 104 to 108, 157 and 41): Lambert, polar stereographic (cone
constant ±1) and Mercator (0), and grids in longitudes and latitudes. Cells count from 0.
"""

from math import asinh, atan, atan2, cos, exp, floor, pi, radians, sin, sqrt, tan

import arlmet

from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.layout import RADIUS

Projection = tuple[float, float, float, float, float, float]
DEGREES, MERCATOR, CONE = 0.0, 1.0, 2.0


def projection_of(grid: arlmet.Grid) -> Projection:
    """
    Six numbers that stand for a grid: kind, cone constant, longitude, scale and the cell of the projection's origin.

    For a grid in degrees: kind, cells per degree of latitude and of longitude, a zero, its western and southern edge.
    """
    its = grid.projection
    if grid.is_latlon:
        return DEGREES, 1.0 / its.tangent_lat, 1.0 / its.tangent_lon, 0.0, its.sync_lon, its.sync_lat
    size, reference = its.grid_size * 1e3, radians(its.tangent_lat)
    n = sin(radians(its.cone_angle))
    if its.cone_angle == 0.0:
        kind, scale = MERCATOR, RADIUS * cos(reference) / size
    elif abs(its.cone_angle) == 90.0:
        kind, scale = CONE, n * RADIUS * (1.0 + n * sin(reference)) / size
    else:
        kind, scale = CONE, RADIUS * cos(reference) / (n * tan(pi / 4 - reference / 2) ** n * size)
    x, y = to_grid(its.sync_lon, its.sync_lat, (kind, n, its.tangent_lon, scale, 0.0, 0.0))
    return kind, n, its.tangent_lon, scale, its.sync_x - 1.0 - x, its.sync_y - 1.0 - y


@compiled
def to_grid(longitude: float, latitude: float, projection: Projection) -> tuple[float, float]:
    """Column and row, both fractions, of a place in degrees. In degrees a column is never negative."""
    kind, n, centre, scale, x0, y0 = projection
    if kind == DEGREES:
        east = longitude - x0
        return (east - 360.0 * floor(east / 360.0)) * centre, (latitude - y0) * n
    east = longitude - centre
    angle = radians(east - 360.0 * floor((east + 180.0) / 360.0))
    if kind == MERCATOR:
        return x0 + scale * angle, y0 + scale * asinh(tan(radians(latitude)))
    radius = scale * tan(pi / 4 - radians(latitude) / 2) ** n
    return x0 + radius * sin(n * angle), y0 - radius * cos(n * angle)


@compiled
def turned(longitude: float) -> float:
    """The same longitude from -180 to below 180."""
    return longitude - 360.0 * floor((longitude + 180.0) / 360.0)


@compiled
def to_degrees(x: float, y: float, projection: Projection) -> tuple[float, float]:
    """Longitude, -180 to 180, and latitude of a column and row that may be fractions."""
    longitude, latitude = on_from_centre(x, y, projection)
    return turned(longitude), latitude


@compiled
def on_from_centre(x: float, y: float, projection: Projection) -> tuple[float, float]:
    """The same, but longitudes go on beyond 180 or -180, so that those of neighbours are neighbours."""
    kind, n, centre, scale, x0, y0 = projection
    origin = centre
    if kind == DEGREES:
        origin, longitude, latitude = x0, x0 + x / centre, y0 + y / n
    elif kind == MERCATOR:
        longitude = centre + (x - x0) / scale * (180.0 / pi)
        latitude = 90.0 - atan(exp(-(y - y0) / scale)) * (360.0 / pi)
    else:
        side = 1.0 if n > 0 else -1.0
        east, south = side * (x - x0), side * (y0 - y)
        longitude = centre + atan2(east, south) / n * (180.0 / pi)
        latitude = 90.0 - atan((sqrt(east * east + south * south) / abs(scale)) ** (1.0 / n)) * (360.0 / pi)
    return longitude - 360.0 * floor((origin + 180.0) / 360.0), latitude


@compiled
def metres_per_cell(latitude: float, projection: Projection) -> tuple[float, float]:
    """Width and height of a cell at a latitude, m."""
    kind, n, centre, scale, _, _ = projection
    if kind == DEGREES:
        degree = radians(1.0) * RADIUS
        return cos(radians(latitude)) * degree / centre, degree / n
    if kind == MERCATOR:
        size = RADIUS * cos(radians(latitude)) / scale
        return size, size
    size = RADIUS * cos(radians(latitude)) / (n * scale * tan(pi / 4 - radians(latitude) / 2) ** n)
    return size, size
