"""How long does Dagster's database remember? Results are none of its business: they lie in the store."""

from pydantic import Field

from stilt_assets.settings.typed import Strict


class RetentionSettings(Strict):
    """What the job `prune` leaves."""

    events: int = Field(
        30,
        ge=1,
        le=36_500,
        description="days that the log of a finished run is kept; when it ran, what it made and what was checked stay",
    )
    runs: int = Field(
        180,
        ge=1,
        le=36_500,
        description="days that a finished run is kept of which nothing is the last of its kind; others stay",
    )
    dead_rows: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="share of a large table's rows that may be dead, or new, before Postgres sweeps it; its own share "
        "of 0.2 waits for millions of them",
    )
