"""Which places do we want scenes of, when, and on which cells?"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from stilt_assets.grid import Grid
from stilt_assets.settings.pixels import PixelSettings
from stilt_assets.settings.typed import Strict

_MOST_POINTS = 1_000_000  # of a grid of points
_ROOM = 1e-3  # degrees between the outermost points and their box
_EVERY = {"hourly": 1, "3-hourly": 3, "6-hourly": 6, "12-hourly": 12, "daily": 24}  # hours
_MOST_CELLS = 32_767  # along a side of a grid: footprints keep a cell's place in two bytes


class GridSettings(Strict):
    """The cells of a footprint, degrees."""

    west: float = Field(ge=-180, le=180, description="degrees east")
    south: float = Field(ge=-90, le=90, description="degrees north")
    east: float = Field(ge=-180, le=180, description="degrees east; smaller than west across the antimeridian")
    north: float = Field(ge=-90, le=90, description="degrees north")
    resolution: float = Field(ge=1e-4, le=10, description="degrees")

    @model_validator(mode="after")
    def _has_whole_cells(self) -> Self:
        if self.north <= self.south:
            raise ValueError("north must be greater than south")
        if self.west == self.east:
            raise ValueError("east must differ from west")
        grid = self.grid
        for name, extent, cells in (
            ("west to east", grid.span, grid.nlon),
            ("south to north", self.north - self.south, grid.nlat),
        ):
            if abs(extent - cells * self.resolution) > 1e-6 or cells < 1:
                raise ValueError(
                    f"{name} ({extent:g} degrees) is no whole number of cells of {self.resolution:g} degrees"
                )
            if cells > _MOST_CELLS:
                raise ValueError(f"{name} are {cells} cells, more than {_MOST_CELLS}")
        return self

    @property
    def grid(self) -> Grid:
        """The same as a plain value."""
        return Grid(self.west, self.south, self.east, self.north, self.resolution)


class AggregateSettings(Strict):
    """A coarser copy of the Jacobian."""

    resolution: float = Field(gt=0, le=360, description="degrees; a whole multiple of the grid's")


class TargetSettings(Strict):
    """A place whose scenes we want: what retrievals hold of it."""

    kind: Literal["retrieval", "grid"] = Field("retrieval", description="retrieval, or a grid of points")
    bounds: tuple[float, float, float, float] = Field(description="west, south, east, north of the pixels, degrees")
    grid: GridSettings
    pixels: PixelSettings = PixelSettings()  # pyright: ignore[reportCallIssue]
    aggregate: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], AggregateSettings] = Field(default_factory=dict)
    tolerance: float = Field(0.05, ge=0, le=1, description="share of pixels that may fail before the scene does")
    retry_failed_after: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="hours after which pixels that failed for a transient reason run again; 0: at each run",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        west, south, east, north = self.bounds
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90 and west != east):
            raise ValueError("bounds are west, south, east, north in degrees, south below north")
        for name, block in self.aggregate.items():
            cells = block.resolution / self.grid.resolution
            if cells < 1 or abs(cells - round(cells)) > 1e-6:
                raise ValueError(
                    f"aggregate.{name}.resolution is no whole multiple of {self.grid.resolution:g} degrees"
                )
        return self


Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Places = Annotated[list[tuple[Longitude, Latitude]], Field(min_length=1, max_length=_MOST_POINTS)]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


def _form_of_points(given: Any) -> str:
    return "[list]" if isinstance(given, list | tuple) else "[cells]"


def _form_of_times(given: Any) -> str:
    return "[list]" if isinstance(given, list | tuple) else "[step]"


class GridTargetSettings(TargetSettings):
    """A grid of points that we want scenes of at set times, without a retrieval."""

    bounds: tuple[float, float, float, float] = Field(description="box of the points, degrees: follows from them")
    points: Annotated[
        Annotated[GridSettings, Tag("[cells]")] | Annotated[Places, Tag("[list]")], Discriminator(_form_of_points)
    ] = Field(description="the centres of a grid's cells, or a list of [longitude, latitude], degrees")
    height: float | None = Field(None, ge=0, le=20_000, description="m above ground, of points; columns if not given")
    top: float | None = Field(
        None, gt=0, le=20_000, description="m above ground, of columns; simulation.top if not given"
    )
    times: Annotated[
        Annotated[Literal["hourly", "3-hourly", "6-hourly", "12-hourly", "daily"], Tag("[step]")]
        | Annotated[list[Clock], Field(min_length=1, max_length=1440), Tag("[list]")],
        Discriminator(_form_of_times),
    ] = Field("hourly", description="times of day (UTC) of scenes: a step from midnight, or a list of HH:MM")
    lag: int = Field(0, ge=0, le=8784, description="hours after a scene's time that its schedule asks for it")

    @model_validator(mode="before")
    @classmethod
    def _takes_its_box_from_its_points(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name in ("bounds", "pixels"):
            if name in given:
                raise ValueError(f"{name} belongs to targets of retrievals, not to those of kind grid")
        return given | {"bounds": _box_of(given.get("points"))}

    @model_validator(mode="after")
    def _is_a_point_or_a_column(self) -> Self:
        if self.height is not None and self.top is not None:
            raise ValueError("give height for points or top for columns, not both")
        if isinstance(self.points, GridSettings) and self.points.grid.nlat * self.points.grid.nlon > _MOST_POINTS:
            raise ValueError(f"points are more than {_MOST_POINTS}")
        return self

    @property
    def clocks(self) -> list[timedelta]:
        """Times of day of its scenes, UTC, in their order."""
        if isinstance(self.times, str):
            return [timedelta(hours=hour) for hour in range(0, 24, _EVERY[self.times])]
        return sorted({timedelta(hours=int(clock[:2]), minutes=int(clock[3:])) for clock in self.times})

    @property
    def crons(self) -> list[str]:
        """When its schedule ticks (UTC), as cron says it."""
        times = sorted({(clock + timedelta(hours=self.lag)) % timedelta(days=1) for clock in self.clocks})
        return [f"{time.seconds % 3600 // 60} {time.seconds // 3600} * * *" for time in times]

    def scenes_between(self, start: datetime, end: datetime) -> list[datetime]:
        """Times (UTC) of its scenes from `start` to before `end`, oldest first."""
        midnight = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        days = range((end - midnight) // timedelta(days=1) + 1)
        times = (midnight + timedelta(days=day) + clock for day in days for clock in self.clocks)
        return [time for time in times if start <= time < end]


def _box_of(points: Any) -> tuple[float, float, float, float]:
    """The box of points as they are typed, with a little room; anything if they are none, which is told elsewhere."""
    try:
        if isinstance(points, dict):
            return tuple(float(points[side]) for side in ("west", "south", "east", "north"))  # pyright: ignore[reportReturnType]
        lon, lat = np.array(points, dtype=float).T
        lon = np.unwrap(np.sort(lon), period=360.0)
        west, east = ((edge + 180.0) % 360.0 - 180.0 for edge in (lon.min() - _ROOM, lon.max() + _ROOM))
        south, north = max(lat.min() - _ROOM, -90.0), min(lat.max() + _ROOM, 90.0)
        return float(west), float(south), float(east), float(north)
    except (KeyError, TypeError, ValueError):
        return -1.0, -1.0, 1.0, 1.0


def _kind_of(given: Any) -> str:
    kind = given.get("kind") if isinstance(given, dict) else getattr(given, "kind", None)
    return "[grid]" if kind == "grid" else "[retrieval]"


AnyTarget = Annotated[
    Annotated[TargetSettings, Tag("[retrieval]")] | Annotated[GridTargetSettings, Tag("[grid]")],
    Discriminator(_kind_of),
]
