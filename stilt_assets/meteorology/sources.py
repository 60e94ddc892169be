"""
Which file holds which hour?

ARL files are found by what their headers say, never by their names.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import arlmet
import pandas as pd

from stilt_assets.errors import MeteorologyError, MeteorologyGapError, NoArchiveError
from stilt_assets.settings import is_url
from stilt_assets.settings.meteorology import ARCHIVES

# What arlmet raises when a file is not what its format says; its own error is a ValueError.
DAMAGE = (ArithmeticError, LookupError, NotImplementedError, OSError, ValueError)


@dataclass(frozen=True)
class Source:
    """One ARL file and the needed hours that it holds."""

    path: Path
    hours: tuple[datetime, ...]


def find_sources(product: str, folder: str, hours: Sequence[datetime]) -> list[Source]:
    """
    The files below `folder` that hold `hours` (UTC), in time order.

    A product with a coarser step than an hour needs the steps that bracket them. Raises MeteorologyGapError for hours
    that no file holds and MeteorologyError for an hour that two files hold.
    """
    if is_url(folder):
        raise MeteorologyError(f"meteorology.source must be a folder of this machine, not {folder}")
    if not Path(folder).is_dir():
        raise NoArchiveError(
            f"no folder {folder} (meteorology.source of {product}); archives go by name: {', '.join(ARCHIVES)}"
        )
    try:
        index = arlmet.index(folder, recursive=True, cache_dir=_cache())
    except OSError as error:
        raise MeteorologyError(f"cannot read the {product} files in {folder}: {error}") from error
    damage = {path: why for path, why in zip(index.table["path"], index.table["error"], strict=True) if why}
    unreadable = [f"{Path(path).name} ({_short(why, path)})" for path, why in damage.items()]
    start, end = (pd.Timestamp(hour).tz_convert(None) for hour in (hours[0], hours[-1]))
    if (index.table["error"] == "").sum() == 0:
        raise MeteorologyGapError(product, folder, list(hours), unreadable)
    missing = [time.to_pydatetime().replace(tzinfo=UTC) for time in index.missing(start, end)]
    if missing:
        raise MeteorologyGapError(product, folder, missing, unreadable)
    try:
        paths = index.covering(start, end)
    except ValueError as error:
        raise MeteorologyError(f"{product}: {error}") from error
    step = timedelta(hours=1) if index.step is None else timedelta(seconds=index.step.total_seconds())
    return [Source(path, _hours_of(path, hours[0] - step, hours[-1] + step)) for path in paths]


def sources_of(product: str, files: Mapping[Path, Sequence[datetime]]) -> list[Source]:
    """Files as sources of the hours (UTC) that each is to give. MeteorologyGapError if one lacks such an hour."""
    for path, hours in files.items():
        missing = sorted({*hours} - {*held_by(path)})
        if missing:
            raise MeteorologyGapError(product, path.name, missing)
    return [Source(path, tuple(hours)) for path, hours in files.items()]


def grid_of(sources: Sequence[Source]) -> arlmet.Grid:
    """The cells of the first of some sources."""
    with _reading(sources[0].path), arlmet.File(sources[0].path) as file:
        return file.grid


def first_of(folder: str) -> Path | None:
    """Any sound ARL file below a folder of this machine; None if there is none."""
    if is_url(folder) or not Path(folder).is_dir():
        return None
    table = arlmet.index(folder, recursive=True, cache_dir=_cache()).table
    sound = sorted(table["path"][table["error"] == ""])
    return Path(sound[0]) if sound else None


def _hours_of(path: Path, after: datetime, before: datetime) -> tuple[datetime, ...]:
    return tuple(time for time in held_by(path) if after < time < before)


def held_by(path: Path) -> list[datetime]:
    """The times (UTC) that a file holds. MeteorologyError if it is damaged."""
    with _reading(path), arlmet.File(path) as file:
        return [time.to_pydatetime().replace(tzinfo=UTC) for time in file.times]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise MeteorologyError(f"{path.name} is damaged: {' '.join(str(error).split())}") from error


def _short(why: str, path: Path) -> str:
    text = " ".join(why.replace(f"{path}: ", "").split())
    return text if len(text) <= 90 else f"{text[:90]}…"


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "stilt-assets" / "arl-index"
