"""
Why did it fail, may it hold another time, and who does what about it?

The one table of reasons. Pixels, errors and the README name a failure by a word of this table and by no other.
"""

from dataclasses import dataclass
from enum import StrEnum


class Remedy(StrEnum):
    """What is done about a failure without anybody's help."""

    retry = "run the pixel again"
    retry_longer = "run the pixel again with twice the time"
    retry_larger = "run the pixel again on its own, with twice the memory"
    skip = "skip the pixel"
    repeat = "stop; Dagster repeats the step"
    remake = "stop; the next run makes it anew"
    go_on = "stop; the next run goes on"
    stop = "stop the scene"


@dataclass(frozen=True)
class Reason:
    """One kind of failure."""

    name: str
    transient: bool  # may it not hold another time?
    remedy: Remedy
    means: str
    then: str  # what a person does who finds it
    reader: str  # the person: user, operator or developer

    @property
    def of_a_pixel(self) -> bool:
        """Whether it costs a pixel and not the scene."""
        return self.remedy in (Remedy.retry, Remedy.retry_longer, Remedy.retry_larger, Remedy.skip)


def _pixel(name: str, means: str, then: str, reader: str = "user") -> Reason:
    return Reason(name, False, Remedy.skip, means, then, reader)


def _again(name: str, remedy: Remedy, means: str, then: str, reader: str = "operator") -> Reason:
    return Reason(name, True, remedy, means, then, reader)


def _stop(name: str, means: str, then: str, reader: str = "user") -> Reason:
    return Reason(name, False, Remedy.stop, means, then, reader)


_THE_TABLE = (
    # ---- one pixel
    _pixel("outside_meteorology", "the pixel lies outside the meteorology's cells", "take files of a larger region"),
    _pixel("above_meteorology", "the release column is higher than the meteorology", "lower `simulation.top`"),
    _pixel("meteorology_ends", "the pixel's hours are not all in the aggregate", "look at its certificate"),
    _pixel("particle_limit", "`hycs_std` had no room for more particles", "lower `simulation.particles`"),
    _pixel("fortran_error", "`hycs_std` met an error of its own", "look at the message in `outcomes/`", "developer"),
    _pixel("crashed", "`hycs_std` ended by a fault of its own", "look at the message in `outcomes/`", "developer"),
    _pixel("ended_early", "the particles stop before the run's end", "look at the meteorology's hours"),
    _pixel("no_particles", "`hycs_std` wrote no particles", "look at the meteorology's levels"),
    _pixel("no_pressure_profile", "the particles show no pressure that falls with height", "report it", "developer"),
    _again("unreadable_particles", Remedy.retry, "what `hycs_std` wrote cannot be", "report it", "developer"),
    _again("incomplete", Remedy.retry, "`hycs_std` ended without saying that it was done", "run again"),
    _again("killed", Remedy.retry_larger, "the system ended the pixel's process", "look at the machine's log"),
    _again(
        "out_of_memory", Remedy.retry_larger, "the pixel needs more memory than it may have", "raise `packs.memory`"
    ),
    _again("timeout", Remedy.retry_longer, "the pixel took longer than it may", "raise `packs.timeout`"),
    # ---- the machine
    Reason("disk_full", True, Remedy.repeat, "a disk has no room left", "free some space", "operator"),
    Reason("workers_killed", True, Remedy.repeat, "worker after worker was killed", "add memory", "operator"),
    Reason("busy", True, Remedy.repeat, "another process works on the same packs", "wait for it", "operator"),
    Reason("stopped", True, Remedy.go_on, "somebody asked for a stop", "run again", "operator"),
    _stop(
        "cannot_execute",
        "`hycs_std`, or a card that is asked for, does not start on this machine",
        "use x86-64 Linux; install again; without a card take `device: cpu`",
        "operator",
    ),
    _stop("over_budget", "the work needs more than the settings allow it", "raise the setting that is named"),
    _stop("over_limits", "the run would cost more than `limits` allow", "see `stilt-assets preview`; raise the limit"),
    # ---- the cluster
    Reason("pod_lost", True, Remedy.repeat, "a step's pod was ended or is gone", "look at its node", "operator"),
    Reason("pod_memory", True, Remedy.repeat, "a step's pod needs more memory", "raise `packs.memory`", "operator"),
    Reason("not_scheduled", True, Remedy.repeat, "no node takes a step's pod", "look at pools and quotas", "operator"),
    Reason("no_image", True, Remedy.repeat, "a pod's image cannot be pulled", "see whether it is there", "operator"),
    Reason("no_start", True, Remedy.repeat, "a pod's container cannot start", "mend what it names", "operator"),
    Reason("slurm_jobs", True, Remedy.repeat, "jobs of Slurm end with nothing done", "read what is named", "operator"),
    Reason("slurm_away", True, Remedy.repeat, "Slurm gives no answer", "ask who runs the cluster", "operator"),
    _stop("slurm_refused", "Slurm takes no job as it is asked for", "mend `slurm.yaml`", "operator"),
    # ---- the store
    Reason("damaged", True, Remedy.remake, "a file of the store is not what was written", "run again", "operator"),
    Reason("unreachable", True, Remedy.repeat, "the store does not answer", "look at network and store", "operator"),
    Reason(
        "throttled", True, Remedy.repeat, "the store asks for fewer requests", "run fewer shards at once", "operator"
    ),
    Reason("store", True, Remedy.repeat, "reading or writing the store failed", "read the message", "operator"),
    _stop("not_found", "a file that must be there is not", "see whether somebody removed it", "operator"),
    _stop("denied", "the store refuses access", "mend the permissions or credentials", "operator"),
    # ---- the input
    _stop("retrieval", "the retrieval file cannot be read or has no good pixel", "fetch it again"),
    _stop("meteorology", "meteorology files are damaged, disagree or end before the scene", "fetch them again"),
    _stop("meteorology_gap", "no file holds an hour that the scene needs", "fetch the hours that are named"),
    _stop("no_archive", "the folder of meteorology files is not there", "mend `meteorology.source`"),
    _stop("settings", "the settings cannot be read or say what cannot be", "mend the line that is named"),
    _stop("usage", "somebody asked for what cannot be", "read the message"),
    _stop("unknown_scene", "the store has no such scene", "register it: `stilt-assets scenes add FILE`"),
    _stop("unknown_target", "the settings have no such target", "add it or mend the key"),
    # ---- the result
    _stop("pixels_lost", "more pixels failed than the target tolerates", "see `stilt-assets status KEY`"),
    _stop("not_physical", "the Jacobian contradicts the footprints", "report it", "developer"),
)
REASONS = {reason.name: reason for reason in _THE_TABLE}


def is_transient(name: str) -> bool:
    """Whether a failure may not hold another time."""
    return REASONS[name].transient


def as_markdown() -> str:
    """The table, as the README shows it."""
    rows = [
        f"| `{each.name}` | {'yes' if each.transient else 'no'} | {each.means} | {each.remedy.value} "
        f"| {each.reader}: {each.then} |"
        for each in REASONS.values()
    ]
    head = "| reason | transient | means | what is done | who does what |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])
