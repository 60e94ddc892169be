"""Run the scenes of many days: start a backfill in Dagster, look at it, pause it, go on, cancel it."""

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from stilt_assets.cli.days import Collection, End, Start, Target, Wanted, wanted_days
from stilt_assets.cli.terminal import say, settings_and_store
from stilt_assets.errors import UsageError

app = typer.Typer(invoke_without_command=True, help="Run the scenes of a span of days, as one backfill in Dagster.")
Status = Literal["failed", "missing", "gaps"]
Name = Annotated[str, typer.Argument(help="name of a backfill, as `stilt-assets backfill list` prints it")]


@app.callback()
def start(
    context: typer.Context,
    start: Start = None,
    end: End = None,
    target: Target = None,
    collection: Collection = None,
    status: Annotated[
        Status | None,
        typer.Option(
            help="only scenes whose last run in Dagster failed; that have no Jacobian of their file as it was issued "
            "last; or whose Jacobian has gaps"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print which scenes, start nothing")] = False,
    beyond_limits: Annotated[
        bool, typer.Option("--beyond-limits", help="whatever `limits` say, of all or of a scene")
    ] = False,
) -> None:
    """Start one backfill of the registered scenes from --from to before --to; its name goes to standard output."""
    if context.invoked_subcommand:
        return
    settings, store = settings_and_store()
    wanted = wanted_days(settings, start, end, target, collection)
    if wanted is None:
        raise UsageError("say which days: --from 2019-05-01 --to 2019-06-01, or a --collection")
    keys = _keys(wanted, status, settings, store)
    if dry_run:
        for key in keys:
            typer.echo(key)
        return
    if not keys:
        return
    _hold(keys, settings, store, beyond_limits)
    from stilt_assets.defs.backfill import start as start_backfill

    what = f", {status}" if status else ""
    name = start_backfill(keys, f"Scenes of {wanted}{what}", beyond_limits=beyond_limits)
    say("Dagster's daemon starts its runs; see: stilt-assets backfill list")
    typer.echo(name)


def _hold(keys: list[str], settings, store, beyond_limits: bool) -> None:
    """OverLimitsError if these scenes would pass a limit together, OverBudgetError if one fits on no node."""
    limited = settings.limits.backfill.given and not beyond_limits
    if limited or settings.cluster.node:
        from stilt_assets.budget import hold_to, hold_to_nodes, preview_of_many

        total = preview_of_many(keys, settings, store)
        hold_to_nodes(total, settings)
        if limited:
            hold_to(total, settings, "backfill", f"the backfill of {len(keys)} scenes")


def _keys(wanted: Wanted, status: Status | None, settings, store) -> list[str]:
    from stilt_assets.catalog import chosen

    found = chosen(settings, store, wanted.first, wanted.end, wanted.target, wanted.product)
    states = Counter(f"{each.state}, with gaps" if each.gaps else each.state for each in found)
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    say(f"{len(found)} scenes are registered from {wanted}" + (f": {told}" if told else ""))
    if status == "missing":
        found = [each for each in found if each.state != "done"]
    elif status == "gaps":
        found = [each for each in found if each.gaps]
    keys = [each.key for each in found]
    if status == "failed" and keys:
        from stilt_assets.defs.backfill import failed

        keys = failed(keys)
    if status:
        say(f"{status}: {len(keys)} of them")
    return keys


@app.command("list")
def list_them() -> None:
    """The last backfills: name, state, scenes, runs by status, title."""
    from stilt_assets.defs.backfill import batches

    found = batches()
    if not found:
        say("no backfill yet; start one: stilt-assets backfill --from DAY --to DAY")
    for each in found:
        begun = datetime.fromtimestamp(each.begun, UTC)
        runs = ", ".join(f"{count} {status}" for status, count in each.runs.items()) or "no run yet"
        typer.echo(f"{each.name}  {each.state}  {begun:%Y-%m-%d %H:%MZ}  {each.scenes} scenes: {runs}  {each.title}")


@app.command()
def pause(name: Name) -> None:
    """Let no further scene of a backfill begin; those that run go on to their end."""
    from stilt_assets.defs.backfill import pause as pause_backfill

    say(f"{pause_backfill(name, say)} scenes of {name} wait; go on with: stilt-assets backfill resume {name}")


@app.command()
def resume(name: Name) -> None:
    """Let a paused backfill go on."""
    from stilt_assets.defs.backfill import resume as resume_backfill

    resume_backfill(name)
    say(f"{name} goes on")


@app.command()
def cancel(name: Name) -> None:
    """End a backfill: its scenes leave the queue, and those that run stop at their next pixel."""
    from stilt_assets.defs.backfill import cancel as cancel_backfill

    cancel_backfill(name)
    say(f"{name} ends within a minute; what was finished is kept")
