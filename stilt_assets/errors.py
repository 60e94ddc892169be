"""
Which failures do we expect?

One family, each with a `reason` of the one table for machines and one clear line for people: what, where, what to do.
Everything else is a bug and keeps its traceback.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from stilt_assets.reasons import REASONS


class StiltAssetsError(Exception):
    """A failure that we expect; `reason` is a word of the table in `reasons`."""

    reason: str
    exit_code: ClassVar[int] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Come back whole from a worker process, whatever the constructor takes."""
        return _again, (type(self), str(self)), vars(self)

    @property
    def transient(self) -> bool:
        """Whether it may not hold another time."""
        return REASONS[self.reason].transient


def _again(kind: type[StiltAssetsError], line: str) -> StiltAssetsError:
    error = kind.__new__(kind)
    error.args = (line,)
    return error


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


class NoSourceError(MeteorologyGapError):
    """None of several sources holds a run's domain and hours."""

    def __init__(self, why: Sequence[str]) -> None:
        StiltAssetsError.__init__(self, f"no source of meteorology does: {'; '.join(why)}")


class NoArchiveError(MeteorologyError):
    """The folder of a product's files is not there."""

    reason = "no_archive"


class BusyError(StiltAssetsError):
    """Another process works on the same scene."""

    reason = "busy"


class TransportError(StiltAssetsError):
    """One pixel's particles could not be made. The pixel is lost, the scene goes on."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CannotExecuteError(StiltAssetsError):
    """A program or card that the work needs does not start on this machine."""

    reason = "cannot_execute"


class OverBudgetError(StiltAssetsError):
    """The work needs more memory, scratch or files than the settings allow it."""

    reason = "over_budget"


class OverLimitsError(StiltAssetsError):
    """A scene or a backfill would cost more than the settings allow; nothing was run."""

    reason = "over_limits"


class WorkersKilledError(StiltAssetsError):
    """Worker after worker was killed by the system."""

    reason = "workers_killed"


class SlurmError(StiltAssetsError):
    """Slurm refuses jobs, gives no answer, or its jobs end with nothing done or never begin."""

    def __init__(self, message: str, reason: str = "slurm_jobs") -> None:
        super().__init__(message)
        self.reason = reason


class StoreError(StiltAssetsError):
    """The store cannot be read or written: not_found, denied, throttled, unreachable, or store for all else."""

    def __init__(self, message: str, reason: str = "store") -> None:
        super().__init__(message)
        self.reason = reason


class DiskFullError(StoreError):
    """A disk has no room left."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "disk_full")


class DamagedError(StoreError):
    """A file of the store is not what was written; `path` is the file's."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message, "damaged")
        self.path = path


class TooManyLostError(StiltAssetsError):
    """More pixels of a scene failed than its target tolerates."""

    reason = "pixels_lost"


class NotPhysicalError(StiltAssetsError):
    """A Jacobian contradicts the footprints that it was made from."""

    reason = "not_physical"


class StoppedError(StiltAssetsError):
    """A person or the system asked for a stop; what was finished is kept."""

    reason = "stopped"
    exit_code = 3
