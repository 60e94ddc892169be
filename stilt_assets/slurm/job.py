"""
What does a job of Slurm do, and when does it ask for more time?

It runs the packs of its shard on its node. When its time is nearly up it stops at the next pixel and is queued again
under its number, if it brought a pixel.
"""

import logging
import os
from collections.abc import Callable

from stilt_assets.errors import SlurmError, StoppedError
from stilt_assets.progress import Progress
from stilt_assets.recipes import Desk
from stilt_assets.shard import Shard, run_shard
from stilt_assets.slurm.commands import asked

_log = logging.getLogger(__name__)


def run_in_a_job(
    desk: Desk,
    shard: Shard,
    tell: Callable[[Progress], None],
    stopped: Callable[[], bool],
    late: Callable[[], bool],
) -> None:
    """
    Run the packs of a shard that are not whole, on this node. StoppedError when `stopped` says so.

    The same when the job is `late`: its time is nearly up. If it brought a pixel, it is queued again, to go on; if not,
    who submitted it decides.
    """
    brought = 0

    def note(state: Progress) -> None:
        nonlocal brought
        brought = state.brought
        tell(state)

    try:
        run_shard(desk, shard, note, lambda: stopped() or late())
    except StoppedError:
        if brought and late() and not stopped():
            _queue_again()
        raise


def _queue_again() -> None:
    """Queue the job that this process is, under its number. Where a site forbids it, the job ends."""
    number = os.environ.get("SLURM_JOB_ID")
    if number is None:
        return
    try:
        asked("scontrol", ["requeue", number])
    except SlurmError as error:
        _log.warning("what is left waits until all jobs of the scene have ended: %s", error)
