"""
What does a user type?

One YAML file, checked whole when it is read. The only place where pydantic meets people.
"""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import fsspec
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stilt_assets.errors import SettingsError, UnknownTargetError
from stilt_assets.grid import Grid

CONFIG_VARIABLE = "STILT_ASSETS_CONFIG"
STORE_VARIABLE = "STILT_ASSETS_STORE"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest_key(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for key in given:
            if key not in cls.model_fields:
                near = difflib.get_close_matches(str(key), list(cls.model_fields), n=1, cutoff=0.5)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(cls.model_fields)}"
                raise ValueError(f"unknown key '{key}'; {hint}")
        return given


class MeteorologySettings(_Strict):
    """Which meteorology, and where its ARL files are."""

    product: str = Field(min_length=1, description="name of the product, such as hrrr")
    source: str = Field(min_length=1, description="folder of ARL files, searched with its subfolders")
    wind: float = Field(20.0, gt=0, le=150, description="wind that the crop leaves room for, m s-1")


class SimulationSettings(_Strict):
    """What changes a particle."""

    hours_back: int = Field(ge=1, le=126, description="hours that particles are followed back")
    particles: int = Field(ge=2, le=30_000, description="particles released per pixel")
    top: float = Field(gt=0, le=20_000, description="top of the release column, m above ground")
    seed: int = Field(0, ge=0, description="seed of all random numbers of a scene")
    transport: Literal["hysplit"] = Field("hysplit", description="the model that moves particles")


class PackSettings(_Strict):
    """How the work is cut and run. Changes no number of a result."""

    pixels: int = Field(256, ge=1, le=256, description="pixels per pack at most")
    workers: int | None = Field(None, ge=1, description="processes side by side; the machine's cores if not given")
    timeout: float = Field(3600.0, gt=0, description="seconds that one pixel may take")


class GridSettings(_Strict):
    """The cells of a footprint, degrees."""

    west: float = Field(ge=-180, le=180, description="degrees east")
    south: float = Field(ge=-90, le=90, description="degrees north")
    east: float = Field(ge=-180, le=180, description="degrees east; smaller than west across the antimeridian")
    north: float = Field(ge=-90, le=90, description="degrees north")
    resolution: float = Field(gt=0, le=10, description="degrees")

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
        return self

    @property
    def grid(self) -> Grid:
        """The same as a plain value."""
        return Grid(self.west, self.south, self.east, self.north, self.resolution)


class AggregateSettings(_Strict):
    """A coarser copy of the Jacobian."""

    resolution: float = Field(gt=0, description="degrees; a whole multiple of the grid's")


class TargetSettings(_Strict):
    """A place whose scenes we want."""

    bounds: tuple[float, float, float, float] = Field(description="west, south, east, north of the pixels, degrees")
    grid: GridSettings
    aggregate: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], AggregateSettings] = Field(default_factory=dict)
    tolerance: float = Field(0.05, ge=0, le=1, description="share of pixels that may fail before the scene does")

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

    store: str = Field(min_length=1, description="folder or URL below which all results lie")
    retrievals: str = Field(min_length=1, description="folder or URL where L2 files arrive")
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


def _anchored(location: str, folder: str) -> str:
    if is_url(location):
        return location
    path = Path(location).expanduser()
    return str(path if path.is_absolute() else Path(os.path.normpath(Path(folder) / path)))


def _problems(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        what = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {what}" if where else what)
    return "; ".join(lines)


class _OnceLoader(yaml.SafeLoader):
    """YAML in which no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"key '{twice}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_text(location: str) -> str:
    try:
        with fsspec.open(location, "rt", encoding="utf-8") as file:
            return file.read()  # pyright: ignore[reportAttributeAccessIssue]
    except (OSError, ValueError, ImportError) as error:
        raise SettingsError(f"cannot read the settings {location}: {error}") from error


def load_settings(location: str | None = None) -> Settings:
    """
    Settings from a path or URL, or from the one that STILT_ASSETS_CONFIG names.

    Relative paths in the file start at the file's folder (at the working folder if the file is a URL);
    STILT_ASSETS_STORE overrides `store` and starts at the working folder. Raises SettingsError.
    """
    location = location or os.environ.get(CONFIG_VARIABLE)
    if not location:
        raise SettingsError(f"{CONFIG_VARIABLE} is not set; name a settings file (path or URL), as the README shows")
    try:
        given = yaml.load(_read_text(location), _OnceLoader)
    except yaml.YAMLError as error:
        raise SettingsError(f"{location} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise SettingsError(f"{location} holds no settings: expected keys such as store, retrievals, targets")
    folder = os.getcwd() if is_url(location) else str(Path(location).expanduser().resolve().parent)  # noqa: PTH109
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(f"{location}: {_problems(error)}") from error
    override = os.environ.get(STORE_VARIABLE)
    store = _anchored(override, os.getcwd()) if override else _anchored(settings.store, folder)  # noqa: PTH109
    meteorology = settings.meteorology.model_copy(update={"source": _anchored(settings.meteorology.source, folder)})
    return settings.model_copy(
        update={"store": store, "retrievals": _anchored(settings.retrievals, folder), "meteorology": meteorology}
    )
