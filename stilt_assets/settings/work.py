"""What is run, and how? The parts of a settings file that hold for all scenes."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stilt_assets.settings.typed import Strict


class GuardSettings(Strict):
    """How a scene that `native` moved is compared with `hysplit`."""

    share: float = Field(0.01, gt=0, le=1, description="share of a scene's pixels that run once more")
    at_least: int = Field(4, ge=1, le=10_000, description="pixels that run once more, at least")
    on_failure: Literal["mark", "rerun"] = Field(
        "mark", description="mark: the scene says that the models disagree; rerun: hysplit runs all its pixels"
    )


class SimulationSettings(Strict):
    """What changes a particle."""

    hours_back: int = Field(ge=1, le=126, description="hours that particles are followed back")
    particles: int = Field(ge=2, le=30_000, description="particles released per pixel")
    top: float = Field(gt=0, le=20_000, description="top of the release column, m above ground")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of all random numbers of a scene")
    transport: str = Field(
        "hysplit",
        pattern=r"^(hysplit|native|auto|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="the model that moves particles: hysplit, native, auto (native where it is accepted, or hysplit), "
        "or a class of your own as module:Class",
    )
    device: Literal["cpu", "gpu"] = Field("cpu", description="what native runs on; gpu: a CUDA card")
    guard: GuardSettings = GuardSettings()  # pyright: ignore[reportCallIssue]

    @model_validator(mode="after")
    def _has_a_model_for_the_device(self) -> Self:
        if self.device == "gpu" and self.transport not in ("native", "auto"):
            raise ValueError(f"device: gpu is for transport native or auto, and transport is {self.transport}")
        return self


class PackSettings(Strict):
    """How the work is cut and run. Changes no number of a result."""

    pixels: int = Field(256, ge=1, le=256, description="pixels per pack at most")
    workers: int | None = Field(
        None, ge=1, le=4096, description="processes side by side; the machine's cores if not given"
    )
    shards: int = Field(1, ge=1, le=50, description="steps that share the packs of a scene, at most")
    attempts: int = Field(3, ge=1, le=10, description="runs of a pixel whose failure may not hold another time")
    timeout: float = Field(3600.0, gt=0, le=1e6, description="seconds that one pixel may take")
    memory: int | None = Field(
        None, ge=256, le=2**30, description="MiB of a worker and its transport program; unlimited if not given"
    )
    scratch: int | None = Field(
        None, ge=1, le=2**30, description="MiB of a worker's scratch files; what the disk has if not given"
    )
    files: int | None = Field(
        None, ge=1, le=2**40, description="files that a step may keep of unfinished packs; no limit if not given"
    )


class JacobianSettings(Strict):
    """How H is written."""

    keepbits: int | None = Field(10, ge=1, le=23, description="bits of the mantissa kept in H; null keeps all")
