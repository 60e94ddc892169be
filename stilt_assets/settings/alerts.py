"""When is somebody told, and which page are they sent to?"""

from pydantic import Field

from stilt_assets.settings.typed import Place, Strict


class AlertSettings(Strict):
    """After how long a run counts as stuck. Where alerts go is a secret, and in the environment."""

    page: Place | None = Field(None, description="address of Dagster's web page, which alerts link to")
    queued: float = Field(6.0, gt=0, le=1e4, description="hours that a run, no backfill's, may wait in the queue")
    starting: float = Field(
        1.0,
        gt=0,
        le=1e4,
        description="hours that a run may take to start, and that a queue may stand while nothing runs",
    )
    silent: float = Field(3.0, gt=0, le=1e4, description="hours that a run may go on without an event")
