"""What became of a scene? The commands that only look."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from stilt_assets.cli.terminal import Key, say, say_no_scene, settings_and_store, tell_failure
from stilt_assets.errors import DamagedError, StoreError


def status(
    key: Annotated[str | None, typer.Argument(help="scene key; all scenes without")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON on standard output")] = False,
) -> None:
    """Pixels by outcome and reason, packs done, seconds spent of those that were expected."""
    from stilt_assets.status import status_of

    store = settings_and_store()[1]
    found, damaged = [], []
    for each in [key] if key else store.scenes():
        try:
            found.append(status_of(store, each))
        except DamagedError as error:
            if key:
                raise
            damaged.append(error)
    if as_json:
        values = [each.as_json() for each in found]
        typer.echo(json.dumps(values[0] if key else values, indent=2))
    elif found:
        _show(found)
    elif not damaged:
        say_no_scene(store)
    for error in damaged:
        tell_failure(error)
    if damaged:
        raise typer.Exit(damaged[0].exit_code)


def _show(found: list) -> None:
    table = Table("scene", "state", "pixels", "ok", "empty", "failed", "missing", "packs", "seconds", "why")
    for each in found:
        waiting = each.outcomes["waiting_for_their_pack"]
        notes = [f"{count} {reason}" for reason, count in each.reasons.items()]
        if waiting:
            notes.append(f"{waiting} of the missing are done and wait for their pack")
        if each.transport != "hysplit":
            notes.append(f"{each.transport}; guard: {each.guard}" if each.guard else each.transport)
        counts = [str(each.outcomes[name]) for name in ("ok", "empty", "failed", "missing")]
        table.add_row(
            each.scene,
            each.state + (f", {each.gaps} gaps" if each.gaps else "") + (", doubtful" if each.doubtful else ""),
            str(each.pixels),
            *counts,
            f"{each.packs_done}/{each.packs}",
            f"{each.seconds:.0f}" + (f" of {each.seconds_expected:.0f}" if each.seconds_expected else ""),
            ", ".join(filter(None, notes)),
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def reasons() -> None:
    """Why pixels and scenes fail: what each reason means, what is done, and who does what."""
    from stilt_assets.reasons import REASONS

    table = Table("reason", "transient", "means", "what is done", "who", "does what")
    for each in REASONS.values():
        table.add_row(
            each.name, "yes" if each.transient else "no", each.means, each.remedy.value, each.reader, each.then
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def why(key: Key) -> None:
    """Which result of each stage is current, and which input makes a stage stale."""
    from stilt_assets.choosing import superseded_meteorology
    from stilt_assets.recipes import desk_of
    from stilt_assets.why import verdicts

    desk = desk_of(key, *settings_and_store())
    for verdict in verdicts(desk):
        typer.echo(f"{verdict.stage:<11} {verdict.state:<8} {verdict.name or '-'}")
        for reason in verdict.why:
            typer.echo(f"            {reason}")
    try:
        analysis = superseded_meteorology(desk)
    except StoreError as error:
        analysis = None
        say(f"whether its meteorology is still the best there is cannot be told: {error}")
    if analysis:
        say(f"its meteorology is a forecast, and {analysis.product} has all of its hours by now: run it again")


def difference(
    key: Key,
    other: Annotated[
        str | None, typer.Option("--with", help="an earlier jacobian-ID of the scene; the one superseded last without")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON on standard output")] = False,
) -> None:
    """How a scene's Jacobian differs from an earlier one: footprints' overlap, row sums, shift of plumes."""
    from stilt_assets.difference import tell_difference
    from stilt_assets.recipes import desk_of

    found = tell_difference(desk_of(key, *settings_and_store()), other)
    if found is None:
        say(f"the Jacobian of {key} has superseded none that can still be read")
        return
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
        return
    say(found.line)
    for name, value in found.summary.items():
        told = f"{value:.4g}" if isinstance(value, float) else "not known" if value is None else str(value)
        typer.echo(f"{name:<30} {told}")


def export(
    key: Key,
    pixel: Annotated[int, typer.Option(help="row of H")],
    to: Annotated[Path, typer.Option(help="NetCDF file to write")],
) -> None:
    """One pixel's footprint as CF NetCDF, every hour."""
    from stilt_assets.export import export_pixel
    from stilt_assets.recipes import desk_of
    from stilt_assets.why import verdicts

    desk = desk_of(key, *settings_and_store())
    status = export_pixel(desk, pixel, to)
    say(f"wrote {to}" + (": no influence in the grid" if status == "empty" else ""))
    stale = [verdict.name for verdict in verdicts(desk) if verdict.stage == "footprints" and verdict.state != "current"]
    if stale:
        say(f"it is of {stale[0]}, which other settings made; see: stilt-assets why {key}")
