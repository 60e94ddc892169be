"""What does a user of Slurm type? How the jobs are asked for that run the packs of a scene."""

from typing import Self

from pydantic import Field, model_validator

from stilt_assets.settings.typed import Strict

_EARLIER = 60  # s by which Slurm may tell a job too early that its time is nearly up
_WORD = r"^[A-Za-z0-9._,:&|*()\[\]-]+$"


class SlurmSettings(Strict):
    """Where and how packs run on a cluster with Slurm. Changes no number of a result."""

    partition: str | None = Field(None, pattern=_WORD, description="partition, or several with commas between them")
    account: str | None = Field(None, pattern=_WORD, description="account that is charged")
    qos: str | None = Field(None, pattern=_WORD, description="quality of service")
    constraint: str | None = Field(None, pattern=_WORD, description="features that a node must have")
    time: int = Field(240, ge=1, le=100_000, description="minutes that a job may take; what is left then runs again")
    grace: int = Field(
        120,
        ge=1,
        le=65_535,
        description="seconds, or up to a minute more, before the end of its time at which a job begins no pixel",
    )
    cpus: int = Field(8, ge=1, le=4096, description="cores of a job: pixels that run side by side")
    memory: int | None = Field(None, ge=256, le=2**30, description="MiB of a job; computed from the scene if not given")
    at_once: int | None = Field(None, ge=1, le=50, description="jobs of a scene that run side by side, at most")
    scratch: str = Field(
        "/tmp",  # noqa: S108  # nosec B108: only a folder of this user in it is used, which is refused if it is not ours
        pattern=r"^(/|\$)[\w./${}-]*$",
        description="folder on each node's own disk; $VARIABLES are those of the job",
    )
    logs: str = Field("slurm-logs", description="folder that all nodes see, for the logs of jobs")
    setup: list[str] = Field([], description="lines of shell before the work, such as: module load gcc")
    options: list[str] = Field([], description="more options of sbatch, such as --exclude=node7")
    attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="times in a row that jobs may end without a further pixel, and that a held job is released",
    )
    look: float = Field(15.0, gt=0, le=600, description="seconds between looks at the queue")

    @model_validator(mode="after")
    def _leaves_time_to_work(self) -> Self:
        if 60 * self.time <= self.grace + _EARLIER:
            raise ValueError(f"time: {self.time} minutes are over before grace and Slurm's minute; give a job more")
        return self
