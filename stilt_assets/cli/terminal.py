"""What do all commands share? Standard error for people, the settings and the store, and a stop that loses nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stilt_assets.errors import StiltAssetsError, StoppedError, UsageError
from stilt_assets.settings import Settings, load_settings
from stilt_assets.store import Store, open_store

Key = Annotated[str, typer.Argument(help="scene key, such as 20190530T0958Z_tropomi_slc")]


def say(line: str) -> None:
    """A line for people."""
    typer.echo(line, err=True)


def say_no_scene(store: Store) -> None:
    """What to do with an empty store."""
    say(f"no scenes in {store.root} yet; register some with: stilt-assets scenes add FILE")


def tell_failure(error: StiltAssetsError) -> None:
    """A failure in one line for people, with the word by which the table of reasons knows it."""
    say(f"stilt-assets: {error}" + (f" ({error.reason})" if error.reason != UsageError.reason else ""))


def settings_and_store() -> tuple[Settings, Store]:
    """The settings file, and the store that it names."""
    settings = load_settings()
    return settings, open_store(settings.store)


def tell_dagster(keys: list[str]) -> None:
    """Register scenes in the Dagster instance too, where there is one."""
    if os.environ.get("DAGSTER_HOME"):
        from stilt_assets.defs.partitions import add_to_instance

        add_to_instance(keys)


@contextmanager
def stoppable() -> Iterator:
    """A function that says whether Ctrl-C or SIGTERM came; a second one ends at once."""
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        if asked:
            os._exit(StoppedError.exit_code)
        asked.append(number)
        say("stopping at the next pixel; once more stops at once and loses the pixels under way")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def bar() -> Iterator:
    """A function that shows progress by pixels and packs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task("footprints", total=None)
        yield lambda state: progress.update(
            task,
            completed=state.pixels_done,
            total=state.pixels,
            description=f"footprints, {state.packs_done} of {state.packs} packs"
            + f"; {state.waits}" * bool(state.waits),
        )
