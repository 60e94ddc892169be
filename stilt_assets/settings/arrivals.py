"""How do scenes come: by themselves as files arrive, or by a template of a place and a span of days?"""

from datetime import date, timedelta
from typing import Self

from pydantic import Field, model_validator

from stilt_assets.settings.typed import Name, Strict


class ArrivalSettings(Strict):
    """What is done about a file that arrives."""

    files: int = Field(
        20, ge=1, le=1000, description="files that are read at a time (each tick of the sensor), at most"
    )
    in_flight: int = Field(20, ge=1, le=1000, description="runs of arrived scenes that wait or run at a time, at most")
    since: date | None = Field(
        None, description="day, UTC; scenes of earlier days are registered and run only when somebody asks for them"
    )


class CollectionSettings(Strict):
    """A historical collection: which scenes of a span of days belong together."""

    target: Name = Field(description="name of a target")
    product: Name | None = Field(None, description="product of the files, such as S5P_L2__CH4___; any if not given")
    first: date = Field(alias="from", description="first day, UTC")
    to: date = Field(description="day after the last one, UTC")

    @model_validator(mode="after")
    def _has_days(self) -> Self:
        if self.to <= self.first:
            raise ValueError("to must be later than from: it is the day after the last one")
        return self

    @property
    def days(self) -> tuple[date, date]:
        """First and last day."""
        return self.first, self.to - timedelta(days=1)
