"""Run some packs of a scene on this machine: what a job of a batch system does."""

import signal
from dataclasses import replace
from typing import Annotated

import typer

from stilt_assets.cli.terminal import Key, say, settings_and_store, stoppable


def shard(
    key: Key,
    name: Annotated[str, typer.Argument(help="the packs, such as packs_0_to_12")],
    workers: Annotated[int | None, typer.Option(min=1, help="processes; as the settings say if not given")] = None,
) -> None:
    """
    Give every pixel of some packs its outcome; what is done is left as it is. For the jobs of a batch system.

    SIGUSR1 says that the job's time is nearly up: it stops at the next pixel, and Slurm is asked to queue it again.
    """
    late: list[int] = []

    def note(number: int, _frame: object) -> None:
        late.append(number)
        say("the time of this job is nearly up: stopping at the next pixel")

    signal.signal(signal.SIGUSR1, note)
    from stilt_assets.progress import in_lines
    from stilt_assets.recipes import desk_of
    from stilt_assets.shard import Shard
    from stilt_assets.slurm.job import run_in_a_job

    settings, store = settings_and_store()
    if workers:
        settings = settings.model_copy(update={"packs": settings.packs.model_copy(update={"workers": workers})})
    desk = desk_of(key, settings, replace(store, staged=True))
    tell = in_lines(say, lambda state: state.packs_done)
    with stoppable() as stopped:
        run_in_a_job(desk, Shard.from_name(name), tell, stopped, lambda: bool(late))
