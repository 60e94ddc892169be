"""Which of a target's pixels are worth running, and which become one?"""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from stilt_assets.settings.typed import Place, Strict

Surface = Literal["land", "water", "mixed"]


class AggregationSettings(Strict):
    """How neighbouring pixels become one."""

    size: int | None = Field(None, ge=2, le=100, description="pixels along and across the track that become one")
    km: float | None = Field(None, gt=0, le=500, description="km, side of the cells whose pixels become one")
    weights: Literal["inverse_variance", "equal"] = Field(
        "inverse_variance", description="what each member counts: one over its squared error, or all the same"
    )
    correlation: float = Field(0.0, ge=0, le=1, description="of the errors of any two members")
    at_least: int = Field(1, ge=1, le=10_000, description="members that a pixel must have")

    @model_validator(mode="after")
    def _has_one_measure(self) -> Self:
        if (self.size is None) == (self.km is None):
            raise ValueError("aggregate takes either size (pixels) or km")
        return self


class PixelSettings(Strict):
    """Which pixels of a target are run. Each setting is part of the names of results."""

    quality: float = Field(0.0, ge=0, le=1, description="least quality (qa) that a pixel has, beside its product's own")
    surface: tuple[Surface, ...] | None = Field(None, min_length=1, description="kinds of surface; all if not given")
    glint: bool = Field(True, description="whether pixels that look into the sun's reflection are kept")
    mask: Place | None = Field(None, description="GeoJSON file of polygons whose pixels are left out")
    inside_meteorology: bool = Field(False, description="leave out what lies outside the meteorology's cells")
    aggregate: AggregationSettings | None = Field(None, description="neighbours that become one")
    every: int = Field(1, ge=1, le=10_000, description="one in so many pixels is kept outside `core`")
    core: tuple[float, float, float, float] | None = Field(
        None, description="west, south, east, north where all pixels are kept, degrees"
    )

    @model_validator(mode="after")
    def _core_is_a_box(self) -> Self:
        if self.core is not None:
            west, south, east, north = self.core
            if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90 and west != east):
                raise ValueError("core is west, south, east, north in degrees, south below north")
            if self.every == 1:
                raise ValueError("core needs every: without it all pixels are kept anyhow")
        return self

    @property
    def given(self) -> dict[str, Any]:
        """What differs from running every good pixel as it is: JSON values, by name."""
        return self.model_dump(mode="json", exclude_defaults=True)
