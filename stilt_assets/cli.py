"""
How does a person do by hand what the assets do?

Results go to standard output, all else to standard error. Exit codes: 0 done, 1 the science failed, 2 wrong usage,
3 interrupted.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from stilt_assets.errors import NotPhysicalError, StiltAssetsError, StoppedError, TooManyLostError
from stilt_assets.settings import Settings, is_url, load_settings
from stilt_assets.store import Store, open_store

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Surface influence of satellite scenes.",
)
scenes_app = typer.Typer(no_args_is_help=True, help="Scenes: register them, list them.")
app.add_typer(scenes_app, name="scenes")

Key = Annotated[str, typer.Argument(help="scene key, such as 20190530T0958Z_tropomi_slc")]


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _open() -> tuple[Settings, Store]:
    settings = load_settings()
    return settings, open_store(settings.store)


@scenes_app.command("add")
def scenes_add(files: Annotated[list[str], typer.Argument(metavar="FILE...", help="retrieval files (L2 CH4)")]) -> None:
    """Register the scenes that retrieval files hold, and print their keys."""
    from stilt_assets.catalog import register

    settings, store = _open()
    keys = []
    for file in files:
        for coverage in register(_found(file, settings), settings, store):
            dropped = ", ".join(f"{count} {reason}" for reason, count in coverage.dropped.items() if count)
            _say(
                f"{Path(file).name}: {coverage.target}: {coverage.pixels} good pixels"
                + (f" ({dropped} left out)" if dropped else "")
            )
            if coverage.scene:
                keys.append(coverage.scene.key)
    _tell_dagster(keys)
    if not keys:
        _say("no target has a good pixel in these files; nothing was registered")
    for key in dict.fromkeys(keys):
        typer.echo(key)


def _tell_dagster(keys: list[str]) -> None:
    """Register scenes in the Dagster instance too, where there is one."""
    if os.environ.get("DAGSTER_HOME"):
        from stilt_assets.defs.partitions import add_to_instance

        add_to_instance(keys)


def _found(file: str, settings: Settings) -> str:
    """A file as it is named, or of that name where retrievals arrive."""
    if is_url(file) or is_url(settings.retrievals) or Path(file).exists():
        return file
    arrived = Path(settings.retrievals) / file
    return str(arrived) if arrived.exists() else file


@scenes_app.command("list")
def scenes_list() -> None:
    """Print the keys of all scenes in the store, oldest first."""
    store = _open()[1]
    keys = store.scenes()
    for key in keys:
        typer.echo(key)
    if not keys:
        _say(f"no scenes in {store.root} yet; register some with: stilt-assets scenes add FILE")


@app.command()
def run(
    key: Key,
    retry_failed: Annotated[bool, typer.Option(help="run failed pixels again, whatever the reason")] = False,
) -> None:
    """Do a whole scene: pixels, meteorology, footprints, jacobian. What is there already is left as it is."""
    from stilt_assets.recipes import desk_of

    run_scene(desk_of(key, *_open()), retry_failed=retry_failed)


def run_scene(desk, *, retry_failed: bool = False) -> str:
    """All stages of a scene, with a progress bar on standard error; where its Jacobian lies."""
    from stilt_assets import stages
    from stilt_assets.jacobian import NAME
    from stilt_assets.pack import read_outcomes
    from stilt_assets.quality import few_pixels_lost, jacobian_is_physical
    from stilt_assets.shard import make_footprints

    _tell(stages.make_pixels(desk))
    _tell(stages.make_meteorology(desk))
    with _stoppable() as stopped, _bar() as tell:
        footprints = make_footprints(desk, tell, stopped, _say, retry_failed=retry_failed)
    _tell(footprints)
    if not footprints.summary["crop_was_large_enough"]:
        _say(str(footprints.summary["crop"]))
    answer = few_pixels_lost(read_outcomes(desk.store, footprints.folder), desk.target.tolerance)
    if not answer.passed:
        raise TooManyLostError(f"{answer.line}; see: stilt-assets status {desk.record.key}")
    jacobian = stages.make_jacobian(desk)
    _tell(jacobian)
    path = desk.store.file(jacobian.folder, NAME)
    physical = jacobian_is_physical(path, desk.store, footprints.folder, footprints.summary["pixels"])
    if not physical.passed:
        raise NotPhysicalError(f"the Jacobian is not physical: {physical.line}")
    typer.echo(path)
    return path


def _tell(done) -> None:
    said = {"bytes", "crop", "crop_was_large_enough"}  # elsewhere, or not for a line
    shown = {name: value for name, value in done.summary.items() if isinstance(value, int | float | str)}
    numbers = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in shown.items()
        if name not in said
    )
    _say(f"{done.stage:<11} {done.name}  {f'{done.seconds:.1f} s' if done.made else 'as before'}  {numbers}")


@contextmanager
def _stoppable() -> Iterator:
    """A function that says whether Ctrl-C or SIGTERM came; a second one ends at once."""
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        if asked:
            os._exit(StoppedError.exit_code)
        asked.append(number)
        _say("stopping at the next pixel; once more stops at once and loses the pixels under way")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bar() -> Iterator:
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
            description=f"footprints, {state.packs_done} of {state.packs} packs",
        )


@app.command()
def status(
    key: Annotated[str | None, typer.Argument(help="scene key; all scenes without")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON on standard output")] = False,
) -> None:
    """Pixels by outcome and reason, packs done, seconds spent."""
    from stilt_assets.status import status_of

    store = _open()[1]
    found = [status_of(store, each) for each in ([key] if key else store.scenes())]
    if as_json:
        values = [each.as_json() for each in found]
        typer.echo(json.dumps(values[0] if key else values, indent=2))
        return
    table = Table("scene", "state", "pixels", "ok", "empty", "failed", "missing", "packs", "seconds", "why")
    for each in found:
        waiting = each.outcomes["waiting_for_their_pack"]
        notes = [f"{count} {reason}" for reason, count in each.reasons.items()]
        why = ", ".join([*notes, f"{waiting} of the missing are done and wait for their pack"] if waiting else notes)
        counts = [str(each.outcomes[name]) for name in ("ok", "empty", "failed", "missing")]
        table.add_row(
            each.scene,
            f"{each.state}, {each.gaps} gaps" if each.gaps else each.state,
            str(each.pixels),
            *counts,
            f"{each.packs_done}/{each.packs}",
            f"{each.seconds:.0f}",
            why,
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@app.command()
def reasons() -> None:
    """Why pixels and scenes fail: what each reason means, what is done, and who does what."""
    from stilt_assets.reasons import REASONS

    table = Table("reason", "transient", "means", "what is done", "who", "does what")
    for each in REASONS.values():
        table.add_row(
            each.name, "yes" if each.transient else "no", each.means, each.remedy.value, each.reader, each.then
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@app.command()
def why(key: Key) -> None:
    """Which result of each stage is current, and which input makes a stage stale."""
    from stilt_assets.recipes import desk_of, verdicts

    for verdict in verdicts(desk_of(key, *_open())):
        typer.echo(f"{verdict.stage:<11} {verdict.state:<8} {verdict.name or '-'}")
        for reason in verdict.why:
            typer.echo(f"            {reason}")


@app.command()
def export(
    key: Key,
    pixel: Annotated[int, typer.Option(help="row of H")],
    to: Annotated[Path, typer.Option(help="NetCDF file to write")],
) -> None:
    """One pixel's footprint as CF NetCDF, every hour."""
    from stilt_assets.export import export_pixel
    from stilt_assets.recipes import desk_of, verdicts

    desk = desk_of(key, *_open())
    status = export_pixel(desk, pixel, to)
    _say(f"wrote {to}" + (": no influence in the grid" if status == "empty" else ""))
    stale = [verdict.name for verdict in verdicts(desk) if verdict.stage == "footprints" and verdict.state != "current"]
    if stale:
        _say(f"it is of {stale[0]}, which other settings made; see: stilt-assets why {key}")


@app.command()
def demo(folder: Annotated[Path, typer.Option(help="where everything of the demo goes")] = Path("demo")) -> None:
    """A whole scene on made-up meteorology and a made-up retrieval, offline."""
    from stilt_assets.catalog import register
    from stilt_assets.demo import lay_out
    from stilt_assets.demo.retrieval import NAME as RETRIEVAL
    from stilt_assets.picture import total_footprint_map
    from stilt_assets.recipes import desk_of

    file = lay_out(folder.absolute())
    os.environ["STILT_ASSETS_CONFIG"] = str(file)
    os.environ.pop("STILT_ASSETS_STORE", None)
    settings, store = _open()
    found = register(str(Path(settings.retrievals) / RETRIEVAL), settings, store)
    keys = [coverage.scene.key for coverage in found if coverage.scene]
    _tell_dagster(keys)
    for key in keys:
        jacobian = run_scene(desk_of(key, settings, store))
        picture = file.parent / f"{key}.png"
        picture.write_bytes(total_footprint_map(jacobian, key))
        _say(f"map: {picture}")
    _say(f"go on with: export STILT_ASSETS_CONFIG={file}")


def _interrupted(number: int, _frame: object) -> None:
    raise StoppedError(f"interrupted by {signal.Signals(number).name}; what was finished is kept")


def main() -> None:
    """Entry point: expected failures become one line and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    # A worker that is killed leaves semaphores; Python's tracker takes them away, and need not tell the user.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    try:
        app()
    except StiltAssetsError as error:
        _say(f"stilt-assets: {error}")
        sys.exit(error.exit_code)
