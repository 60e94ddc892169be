"""
What does a user type?

One YAML file, checked whole when it is read. The only place where pydantic meets people.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl

import fsspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stilt_assets.errors import SettingsError, UnknownTargetError, UsageError
from stilt_assets.grid import Grid
from stilt_assets.plain_yaml import PlainYamlError, in_a_line, plain_yaml

CONFIG_VARIABLE = "STILT_ASSETS_CONFIG"
STORE_VARIABLE = "STILT_ASSETS_STORE"
_LARGEST = 256 * 1024  # bytes of a settings file
_TOLD = 20  # problems of a settings file at once
_MOST_CELLS = 32_767  # along a side of a grid: footprints keep a cell's place in two bytes
_SECRET = re.compile(
    r"^(sig|key|auth|sas|pwd|se|sv)$|signature|token|secret|passw|credential|api_?key|access.?key|accessid|^x-(amz|goog)-"
)


class _Strict(BaseModel):
    # Errors keep what was typed to themselves: they travel into logs, and a path may turn out to hold a password.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest_key(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for key in given:
            if key not in cls.model_fields:
                near = difflib.get_close_matches(in_a_line(key), list(cls.model_fields), n=1, cutoff=0.5)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(cls.model_fields)}"
                raise ValueError(f"unknown key '{in_a_line(key)}'; {hint}")
        return given


def _place(location: str) -> str:
    try:
        return without_credentials(location, "this URL")
    except UsageError as error:
        raise ValueError(str(error)) from None


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Place = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$"), AfterValidator(_place)]


class MeteorologySettings(_Strict):
    """Which meteorology, and where its ARL files are."""

    product: Name = Field(description="name of the product, such as hrrr")
    source: Place = Field(description="folder of ARL files, searched with its subfolders")
    wind: float | None = Field(
        None, gt=0, le=150, description="wind that the crop leaves room for, m s-1; the files' own if not given"
    )


class SimulationSettings(_Strict):
    """What changes a particle."""

    hours_back: int = Field(ge=1, le=126, description="hours that particles are followed back")
    particles: int = Field(ge=2, le=30_000, description="particles released per pixel")
    top: float = Field(gt=0, le=20_000, description="top of the release column, m above ground")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of all random numbers of a scene")
    transport: str = Field(
        "hysplit",
        pattern=r"^(hysplit|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="the model that moves particles: hysplit, or a class of your own as module:Class",
    )


class PackSettings(_Strict):
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


class GridSettings(_Strict):
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


class AggregateSettings(_Strict):
    """A coarser copy of the Jacobian."""

    resolution: float = Field(gt=0, le=360, description="degrees; a whole multiple of the grid's")


class TargetSettings(_Strict):
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


class JacobianSettings(_Strict):
    """How H is written."""

    keepbits: int | None = Field(10, ge=1, le=23, description="bits of the mantissa kept in H; null keeps all")


class Settings(_Strict):
    """All of one settings file."""

    store: Place = Field(description="folder or URL below which all results lie")
    retrievals: Place = Field(description="folder or URL where L2 files arrive")
    meteorology: MeteorologySettings
    simulation: SimulationSettings
    packs: PackSettings = PackSettings()  # pyright: ignore[reportCallIssue]
    keep: Literal["full", "core", "endpoints"] = Field("core", description="particles kept")
    jacobian: JacobianSettings = JacobianSettings()  # pyright: ignore[reportCallIssue]
    targets: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], TargetSettings] = Field(min_length=1)

    def target(self, name: str) -> TargetSettings:
        """The target of that name; UnknownTargetError if there is none."""
        if name not in self.targets:
            raise UnknownTargetError(name, list(self.targets))
        return self.targets[name]


def is_url(location: str) -> bool:
    """Whether a location is a URL and no path of this machine."""
    return "://" in location


def without_credentials(location: str, what: str, kind: type[UsageError] = UsageError) -> str:
    """
    The location, if it is no URL with a user name, password, token or signature in it.

    Locations are written into results, logs and messages. The error of that `kind` repeats nothing of the location.
    """
    for url in re.split(r"(?=\b[A-Za-z][A-Za-z0-9+.-]*://)", location):
        scheme, _, rest = url.partition("://")
        place, *more = re.split(r"[?#]", rest)
        host, _, path = place.partition("/")
        port = re.sub(r"\[.*\]", "", host).partition(":")[2].removesuffix("::")
        secret = "@" in host or (port and (not port.isdigit() or "@" in path))
        names = [name.lower() for name, _ in parse_qsl("&".join(more).replace(";", "&"), keep_blank_values=True)]
        if secret or any(_SECRET.search(name) for name in names):
            where = f"{scheme.rpartition('::')[2]}://…" if rest else "a URL"
            raise kind(
                f"{what} ({where}) holds a user name, password, token or signature; credentials belong into the "
                "environment, ~/.aws or the file that GOOGLE_APPLICATION_CREDENTIALS names, never into a URL"
            )
    return location


def _expanded(location: str) -> Path:
    try:
        return Path(location).expanduser()
    except RuntimeError as error:  # ~name of a user that is not there
        raise SettingsError(f"{location}: {error}") from error


def _anchored(location: str, folder: str) -> str:
    if is_url(location):
        return location
    path = _expanded(location)
    return str(path if path.is_absolute() else Path(os.path.normpath(Path(folder) / path)))


def _problems(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(in_a_line(part) for part in problem["loc"] if part != "[key]")
        what = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {what}" if where else what)
    more = f"; and {len(lines) - _TOLD} more" if len(lines) > _TOLD else ""
    return "; ".join(lines[:_TOLD]) + more


def _read_text(location: str) -> str:
    try:
        with fsspec.open(location, "rb") as file:
            content: bytes = file.read(_LARGEST + 1)  # pyright: ignore[reportAttributeAccessIssue]
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise SettingsError(f"cannot read the settings {location}: {' '.join(str(error).split())}") from error
    if len(content) > _LARGEST:
        raise SettingsError(f"cannot read the settings {location}: larger than {_LARGEST // 1024} KiB")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"cannot read the settings {location}: no UTF-8 at byte {error.start}") from None


def load_settings(location: str | None = None) -> Settings:
    """
    Settings from a path or URL, or from the one that STILT_ASSETS_CONFIG names.

    Relative paths in the file start at the file's folder (at the working folder if the file is a URL);
    STILT_ASSETS_STORE overrides `store` and starts at the working folder. Raises SettingsError.
    """
    location = location or os.environ.get(CONFIG_VARIABLE)
    if not location:
        raise SettingsError(f"{CONFIG_VARIABLE} is not set; name a settings file (path or URL), as the README shows")
    without_credentials(location, "the settings' URL", SettingsError)
    try:
        given = plain_yaml(_read_text(location))
    except PlainYamlError as error:
        raise SettingsError(f"{location} is no YAML of plain values: {error}") from error
    if not isinstance(given, dict):
        raise SettingsError(f"{location} holds no settings: expected keys such as store, retrievals, targets")
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(f"{location}: {_problems(error)}") from error
    folder = os.getcwd() if is_url(location) else str(_expanded(location).resolve().parent)  # noqa: PTH109
    override = without_credentials(os.environ.get(STORE_VARIABLE, ""), STORE_VARIABLE, SettingsError)
    store = _anchored(override, os.getcwd()) if override else _anchored(settings.store, folder)  # noqa: PTH109
    meteorology = settings.meteorology.model_copy(update={"source": _anchored(settings.meteorology.source, folder)})
    return settings.model_copy(
        update={"store": store, "retrievals": _anchored(settings.retrievals, folder), "meteorology": meteorology}
    )
