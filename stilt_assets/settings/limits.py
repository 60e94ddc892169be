"""What may a run cost, what are its parts' prices, and which prior is the expected information told for?"""

from pydantic import Field

from stilt_assets.settings.typed import Strict


class CeilingSettings(Strict):
    """What one scene, or one backfill, may need at most; no limit where nothing is given."""

    pixels: int | None = Field(None, ge=0, description="pixels that would run")
    cpu_hours: float | None = Field(None, ge=0, description="hours of workers, one core each")
    dollars: float | None = Field(None, ge=0, description="dollars, storage for `prices.months` included")
    gigabytes: float | None = Field(None, ge=0, description="10^9 bytes written to the store")
    objects: int | None = Field(None, ge=0, description="files or objects written to the store")

    @property
    def given(self) -> bool:
        """Whether there is any limit."""
        return any(limit is not None for limit in self.model_dump().values())


class LimitSettings(Strict):
    """What stops a run before anything runs."""

    scene: CeilingSettings = CeilingSettings()  # pyright: ignore[reportCallIssue]
    backfill: CeilingSettings = CeilingSettings()  # pyright: ignore[reportCallIssue]


class PriceSettings(Strict):
    """What things cost where the work is done. None is known unless it is given."""

    cpu_hour: float | None = Field(None, ge=0, description="dollars per hour of one core, with its share of memory")
    gigabyte_month: float | None = Field(None, ge=0, description="dollars per 10^9 bytes kept for a month")
    thousand_writes: float | None = Field(None, ge=0, description="dollars per 1,000 requests that write or list")
    gigabyte_in: float | None = Field(
        None, ge=0, description="dollars per 10^9 bytes of meteorology downloaded: egress from where it lies"
    )
    months: float = Field(1.0, ge=0, le=1200, description="months that results are kept, counted in all dollars")


class InformationSettings(Strict):
    """The prior that the expected information is told for, and the wind that a footprint's shape is guessed by."""

    flux_error: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="prior standard error of a flux, µmol m-2 s-1; if not given 0.05 for values in ppb, 5 for ppm",
    )
    correlation: float = Field(20.0, gt=0, le=1e4, description="km over which these errors fall to 1/e of each other")
    wind: float = Field(4.0, gt=0, le=100, description="m s-1, of the air's way to a pixel, before there is a Jacobian")
