"""
What does a user type?

One YAML file, checked whole when it is read. The only place where pydantic meets people.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import fsspec
from pydantic import Field, ValidationError, model_validator

from stilt_assets.errors import SettingsError, UnknownTargetError, UsageError
from stilt_assets.plain_yaml import PlainYamlError, in_a_line, plain_yaml
from stilt_assets.settings.alerts import AlertSettings
from stilt_assets.settings.arrivals import ArrivalSettings, CollectionSettings
from stilt_assets.settings.cluster import ClusterSettings
from stilt_assets.settings.limits import CeilingSettings, InformationSettings, LimitSettings, PriceSettings
from stilt_assets.settings.meteorology import ARCHIVES, MeteorologySettings
from stilt_assets.settings.pixels import PixelSettings
from stilt_assets.settings.retention import RetentionSettings
from stilt_assets.settings.slurm import SlurmSettings
from stilt_assets.settings.targets import (
    AggregateSettings,
    AnyTarget,
    GridSettings,
    GridTargetSettings,
    TargetSettings,
)
from stilt_assets.settings.typed import Place, Strict, is_url, without_credentials
from stilt_assets.settings.work import JacobianSettings, PackSettings, SimulationSettings

__all__ = [
    "AggregateSettings",
    "AlertSettings",
    "ArrivalSettings",
    "CeilingSettings",
    "ClusterSettings",
    "CollectionSettings",
    "GridSettings",
    "GridTargetSettings",
    "InformationSettings",
    "JacobianSettings",
    "LimitSettings",
    "MeteorologySettings",
    "PackSettings",
    "PixelSettings",
    "PriceSettings",
    "RetentionSettings",
    "Settings",
    "SimulationSettings",
    "SlurmSettings",
    "TargetSettings",
    "is_url",
    "load_settings",
    "load_slurm",
    "without_credentials",
]

CONFIG_VARIABLE = "STILT_ASSETS_CONFIG"
STORE_VARIABLE = "STILT_ASSETS_STORE"
SLURM_VARIABLE = "STILT_ASSETS_SLURM"
_Typed = TypeVar("_Typed", bound=Strict)
_LARGEST = 256 * 1024  # bytes of a settings file
_TAG = re.compile(r"\[\w+\]")  # of a place in the settings that pydantic names and nobody typed
_TOLD = 20  # problems of a settings file at once


class Settings(Strict):
    """All of one settings file."""

    store: Place = Field(description="folder or URL below which all results lie")
    retrievals: Place = Field(description="folder or URL where L2 files arrive")
    meteorology: MeteorologySettings
    simulation: SimulationSettings
    packs: PackSettings = PackSettings()  # pyright: ignore[reportCallIssue]
    keep: Literal["full", "core", "endpoints"] = Field("core", description="particles kept")
    jacobian: JacobianSettings = JacobianSettings()  # pyright: ignore[reportCallIssue]
    cluster: ClusterSettings = ClusterSettings()  # pyright: ignore[reportCallIssue]
    retention: RetentionSettings = RetentionSettings()  # pyright: ignore[reportCallIssue]
    limits: LimitSettings = LimitSettings()
    prices: PriceSettings = PriceSettings()  # pyright: ignore[reportCallIssue]
    information: InformationSettings = InformationSettings()  # pyright: ignore[reportCallIssue]
    targets: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], AnyTarget] = Field(min_length=1)
    arrivals: ArrivalSettings = ArrivalSettings()  # pyright: ignore[reportCallIssue]
    alerts: AlertSettings = AlertSettings()  # pyright: ignore[reportCallIssue]
    collections: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], CollectionSettings] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _dollars_have_prices(self) -> Self:
        for name, ceiling in (("scene", self.limits.scene), ("backfill", self.limits.backfill)):
            if ceiling.dollars is not None and self.prices.cpu_hour is None:
                raise ValueError(f"limits.{name}.dollars needs prices.cpu_hour")
        return self

    @model_validator(mode="after")
    def _collections_have_targets(self) -> Self:
        for name, collection in self.collections.items():
            if collection.target not in self.targets:
                raise ValueError(f"collections.{name}.target is none of: {', '.join(self.targets)}")
        return self

    def collection(self, name: str) -> CollectionSettings:
        """The collection of that name. UsageError if there is none."""
        if name not in self.collections:
            raise UsageError(f"no collection '{name}' in the settings; known: {', '.join(self.collections) or 'none'}")
        return self.collections[name]

    def target(self, name: str) -> TargetSettings:
        """The target of that name; UnknownTargetError if there is none."""
        if name not in self.targets:
            raise UnknownTargetError(name, list(self.targets))
        return self.targets[name]


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


def _with_anchored_sources(given: MeteorologySettings, folder: str) -> MeteorologySettings:
    def anchored(source: str) -> str:
        return source if source in ARCHIVES else _anchored(source, folder)

    places: dict[str, object] = {"source": given.source and anchored(given.source)}
    places["cache"] = given.cache and _anchored(given.cache, folder)
    if isinstance(given.sources, list):
        places["sources"] = [anchored(source) for source in given.sources]
    return given.model_copy(update=places)


def _with_anchored_mask(target: TargetSettings, folder: str) -> TargetSettings:
    mask = target.pixels.mask
    if mask is None:
        return target
    return target.model_copy(update={"pixels": target.pixels.model_copy(update={"mask": _anchored(mask, folder)})})


def _problems(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(in_a_line(part) for part in problem["loc"] if not _TAG.fullmatch(str(part)))
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


def _typed(kind: type[_Typed], location: str, keys: str) -> _Typed:
    """What a file holds, checked. SettingsError if it is not what a person may type."""
    try:
        given = plain_yaml(_read_text(location))
    except PlainYamlError as error:
        raise SettingsError(f"{location} is no YAML of plain values: {error}") from error
    if not isinstance(given, dict):
        raise SettingsError(f"{location} holds no settings: expected keys such as {keys}")
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise SettingsError(f"{location}: {_problems(error)}") from error


def load_slurm(location: str | None = None) -> SlurmSettings:
    """
    How Slurm is used: from a path, the one that STILT_ASSETS_SLURM names, or `slurm.yaml` in DAGSTER_HOME.

    A relative folder of logs starts at the file's folder. Raises SettingsError.
    """
    home = os.environ.get("DAGSTER_HOME")
    location = location or os.environ.get(SLURM_VARIABLE) or (f"{home}/slurm.yaml" if home else None)
    if not location:
        raise SettingsError(f"neither {SLURM_VARIABLE} nor DAGSTER_HOME is set: name a slurm.yaml (docs/hpc.md)")
    given = _typed(SlurmSettings, location, "partition, time, cpus")
    return given.model_copy(update={"logs": _anchored(given.logs, str(_expanded(location).resolve().parent))})


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
    settings = _typed(Settings, location, "store, retrievals, targets")
    folder = os.getcwd() if is_url(location) else str(_expanded(location).resolve().parent)  # noqa: PTH109
    override = without_credentials(os.environ.get(STORE_VARIABLE, ""), STORE_VARIABLE, SettingsError)
    store = _anchored(override, os.getcwd()) if override else _anchored(settings.store, folder)  # noqa: PTH109
    meteorology = _with_anchored_sources(settings.meteorology, folder)
    return settings.model_copy(
        update={
            "store": store,
            "retrievals": _anchored(settings.retrievals, folder),
            "meteorology": meteorology,
            "targets": {name: _with_anchored_mask(target, folder) for name, target in settings.targets.items()},
        }
    )
