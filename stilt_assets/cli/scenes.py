"""Which scenes are there? Register them, list them."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated

import typer

from stilt_assets.cli.days import Collection, End, Start, Target, Wanted, wanted_days
from stilt_assets.cli.terminal import say, say_no_scene, settings_and_store, tell_dagster
from stilt_assets.errors import UsageError
from stilt_assets.faults import redacted
from stilt_assets.settings import GridTargetSettings, Settings, is_url
from stilt_assets.store import Store

AT = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%MZ"]
app = typer.Typer(no_args_is_help=True, help="Scenes: register them, list them.")


@app.command("add")
def scenes_add(
    files: Annotated[list[str] | None, typer.Argument(metavar="[FILE...]", help="retrieval files (L2 CH4)")] = None,
    start: Start = None,
    end: End = None,
    target: Target = None,
    collection: Collection = None,
    grid: Annotated[str | None, typer.Option(help="target of kind grid: its scenes at --at, or of days")] = None,
    at: Annotated[list[datetime] | None, typer.Option(formats=AT, help="time (UTC) of a grid's scene")] = None,
) -> None:
    """
    Register the scenes that retrieval files hold, and print their keys.

    Without files, those that lie where retrievals arrive, of the days from --from to before --to, or of a collection.
    """
    settings, store = settings_and_store()
    if grid or at:
        days = wanted_days(settings, start, end, None, None)
        if files or target or collection or bool(at) == bool(days) or not grid:
            raise UsageError("a grid's scenes are added with --grid and either --at, or --from and --to")
        for key in _of_grid(grid, at or [], days, settings, store):
            typer.echo(key)
        return
    wanted = wanted_days(settings, start, end, target, collection)
    if bool(files) == bool(wanted):
        raise UsageError("name either files, or days by --from and --to, or a --collection")
    keys = _of_days(wanted, settings, store) if wanted else _of_files(files or [], settings, store)
    if not keys and files:
        say("no target has a good pixel in these files; nothing was registered")
    for key in dict.fromkeys(keys):
        typer.echo(key)


def _of_files(files: list[str], settings: Settings, store: Store) -> list[str]:
    from stilt_assets.catalog import register

    keys = []
    for file in files:
        for coverage in register(_found(file, settings), settings, store):
            dropped = ", ".join(f"{count} {reason}" for reason, count in coverage.dropped.items() if count)
            say(
                f"{Path(file).name}: {coverage.target}: {coverage.pixels} good pixels"
                + (f" ({dropped} left out)" if dropped else "")
            )
            if coverage.scene:
                keys.append(coverage.scene.key)
    tell_dagster(keys)
    return keys


def _of_days(wanted: Wanted, settings: Settings, store: Store) -> list[str]:
    from stilt_assets.inbox import files_of_days, scenes_of, take_in_files

    first, last = wanted.first, wanted.end - timedelta(days=1)
    taken = take_in_files(files_of_days(settings, first, last), settings, store, say=say)
    for one in taken:
        if one.note.state == "refused":
            say(one.line)
    found = scenes_of(taken, first, last, wanted.target, wanted.product)
    keys = [key for of_a_day in found.values() for key in of_a_day]
    tell_dagster(keys)
    if taken:
        say(f"{len(keys)} scenes of {len(taken)} files from {wanted}")
    else:
        say(f"no file in {redacted(settings.retrievals)} is of the days from {wanted}")
    return keys


def _of_grid(name: str, at: list[datetime], days: Wanted | None, settings: Settings, store: Store) -> list[str]:
    from stilt_assets.catalog import register_grid

    target = settings.target(name)
    if not isinstance(target, GridTargetSettings):
        raise UsageError(f"the target '{name}' is no grid of points (kind: grid)")
    times = [each.replace(tzinfo=UTC) for each in at]
    if days:
        times = target.scenes_between(*(datetime.combine(day, time.min, UTC) for day in (days.first, days.end)))
    keys = [register_grid(name, each, settings, store) for each in dict.fromkeys(times)]
    tell_dagster(keys)
    return keys


def _found(file: str, settings: Settings) -> str:
    """A file as it is named, or of that name where retrievals arrive."""
    from stilt_assets.arrivals import again

    if is_url(file) or Path(file).exists():
        return file
    arrived = f"{settings.retrievals.rstrip('/')}/{file}"
    return arrived if again(arrived) else file


@app.command("list")
def scenes_list() -> None:
    """Print the keys of all scenes in the store, oldest first."""
    store = settings_and_store()[1]
    keys = store.scenes()
    for key in keys:
        typer.echo(key)
    if not keys:
        say_no_scene(store)
