"""
Which failures do we expect?

One family, each with a `reason` for machines and one clear line for people: what, where, what to do. Everything
else is a bug and keeps its traceback.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar


class StiltAssetsError(Exception):
    """A failure that we expect."""

    reason: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class UsageError(StiltAssetsError):
    """Somebody asked for what cannot be: a wrong name, path or number."""

    reason = "usage"
    exit_code = 2


class SettingsError(UsageError):
    """The settings file cannot be read or says what cannot be."""

    reason = "settings"


class UnknownSceneError(UsageError):
    """No such scene is registered in the store."""

    reason = "unknown_scene"


class UnknownTargetError(UsageError):
    """A scene names a target that the settings do not have."""

    reason = "unknown_target"

    def __init__(self, target: str, known: Sequence[str]) -> None:
        super().__init__(f"no target '{target}' in the settings; known: {', '.join(sorted(known)) or 'none'}")


class RetrievalError(StiltAssetsError):
    """A retrieval file cannot be read."""

    reason = "retrieval"


class MeteorologyError(StiltAssetsError):
    """Meteorology files are damaged, contradict each other or do not reach the scene."""

    reason = "meteorology"


class MeteorologyGapError(MeteorologyError):
    """A run needs hours of meteorology that no file holds."""

    reason = "meteorology_gap"

    def __init__(self, product: str, source: str, missing: Sequence[datetime], unreadable: Sequence[str] = ()) -> None:
        hours = ", ".join(f"{hour:%Y-%m-%d %H}Z" for hour in sorted(missing)[:6])
        more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
        files = f"; not readable there: {'; '.join(unreadable[:3])}" if unreadable else ""
        super().__init__(f"{product} in {source} has no {hours}{more} ({len(missing)} hour(s) missing){files}")


class NoArchiveError(MeteorologyError):
    """The folder of a product's files is not there."""

    reason = "no_archive"


class BusyError(StiltAssetsError):
    """Another process works on the same scene."""

    reason = "busy"


class TransportError(StiltAssetsError):
    """One pixel's particles could not be made. The pixel is lost, the scene goes on."""

    reason = "transport"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.pixel_reason = reason


class StoreError(StiltAssetsError):
    """The store cannot be read or written."""

    reason = "store"


class DiskFullError(StoreError):
    """A disk has no room left."""

    reason = "disk_full"


class TooManyLostError(StiltAssetsError):
    """More pixels of a scene failed than its target tolerates."""

    reason = "pixels_lost"


class StoppedError(StiltAssetsError):
    """A person or the system asked for a stop; what was finished is kept."""

    reason = "stopped"
    exit_code = 3
