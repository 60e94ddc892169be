"""Which places do we want scenes of, and on which cells?"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from stilt_assets.grid import Grid
from stilt_assets.settings.typed import Strict

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
    """A place whose scenes we want."""

    bounds: tuple[float, float, float, float] = Field(description="west, south, east, north of the pixels, degrees")
    grid: GridSettings
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
