"""What would a scene, or the scenes of a span of days, cost and bring? Nothing is written."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stilt_assets.cli.days import Collection, End, Start, Target, Wanted, wanted_days
from stilt_assets.cli.terminal import say, settings_and_store
from stilt_assets.errors import UsageError

_MISSING = 5  # scenes whose meteorology is missing that are told one by one


def preview(
    key: Annotated[str | None, typer.Argument(help="scene key; or a span of days")] = None,
    start: Start = None,
    end: End = None,
    target: Target = None,
    collection: Collection = None,
    retry_failed: Annotated[bool, typer.Option(help="as if failed pixels were run again")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON on standard output")] = False,
) -> None:
    """Pixels, packs, CPU hours, dollars, bytes, objects, meteorology and information of what would run now."""
    settings, store = settings_and_store()
    wanted = wanted_days(settings, start, end, target, collection)
    if key is not None and wanted is None:
        _one(key, settings, store, retry_failed, as_json)
    elif key is None and wanted is not None:
        _many(wanted, settings, store, retry_failed, as_json)
    else:
        raise UsageError("name a scene, or say which days: --from 2019-05-01 --to 2019-06-01")


def _many(wanted: Wanted, settings, store, retry_failed: bool, as_json: bool) -> None:
    from stilt_assets.budget import preview_of_many
    from stilt_assets.catalog import chosen

    keys = [each.key for each in chosen(settings, store, wanted.first, wanted.end, wanted.target, wanted.product)]
    total = preview_of_many(keys, settings, store, retry_failed=retry_failed)
    facts = total.as_json() | {"prior": _prior(settings)}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    if not keys:
        say(f"no scene is registered from {wanted}; see: stilt-assets scenes add --help")
        return
    _print(_of_many(facts, wanted, settings))
    lacking = [each for each in total.previews if each.weather.missing]
    for each in lacking[:_MISSING]:
        say(f"{each.scene}: {each.weather.missing}")
    for name, why in total.skipped.items():
        say(f"{name} cannot be weighed: {why}")


def _one(key: str, settings, store, retry_failed: bool, as_json: bool) -> None:
    from stilt_assets.preview import information_of, preview_of
    from stilt_assets.recipes import desk_of

    desk = desk_of(key, settings, store)
    found = preview_of(desk, asked={}, retry_failed=retry_failed)
    facts = found.as_json() | {"prior": _prior(settings), "dofs_of_jacobian": information_of(desk)}
    facts["dollars"], facts["dollars_by"] = found.bill.dollars, dict(found.bill.parts)
    del facts["bill"]
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print(_of_one(found, facts, settings))


def _prior(settings) -> dict[str, Any]:
    return settings.information.model_dump()


def _print(rows: list[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    for name, told in rows:
        table.add_row(name, told)
    console = Console(width=None if sys.stdout.isatty() else 160)
    with console.capture() as shown:
        console.print(table)
    for line in shown.get().splitlines():
        typer.echo(line.rstrip())


def _of_one(found, facts: dict[str, Any], settings) -> list[tuple[str, str]]:
    dropped = ", ".join(f"{count} {reason}" for reason, count in facts["dropped"].items() if count)
    weather = facts["weather"]
    files = _files(weather["files"])
    state = "is there" if weather["made"] else f"{files}, {facts['gigabytes_in']:.3g} GB to download"
    size = f"{weather['size'] / 1e9:.3g} GB aggregate ({weather['known']})"
    real = facts["dofs_of_jacobian"]
    return [
        ("scene", f"{facts['scene']}, {facts['state']}"),
        ("would be made", ", ".join(facts["stages"]) or ("nothing" if facts["to_guard"] else "nothing: all is there")),
        ("pixels", f"{facts['pixels']} kept" + (f"; dropped: {dropped}" if dropped else "")),
        ("to run", _to_run(facts)),
        *_amounts(facts, settings),
        ("a pod", f"{found.pods['run_shard'].line} for a shard, on a cluster"),
        ("meteorology", weather["missing"] or f"{weather['product']}: {state}; {size}"),
        (
            "information",
            _information(facts["dofs"], settings) + (f"; its Jacobian has {real:.3g}" if real is not None else ""),
        ),
    ]


def _of_many(facts: dict[str, Any], wanted: object, settings) -> list[tuple[str, str]]:
    total = facts["total"]
    dropped: dict[str, int] = {}
    for each in facts["scenes"]:
        for reason, count in each["dropped"].items():
            dropped[reason] = dropped.get(reason, 0) + count
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items()) if count)
    return [
        ("scenes", f"{total['scenes']} from {wanted}, {total['scenes_with_work']} of them with something to do"),
        ("pixels", f"{total['pixels']:,} kept" + (f"; dropped: {left_out}" if left_out else "")),
        ("to run", _to_run(total)),
        *_amounts(total | {"cost_told": facts["cost_told"]}, settings),
        ("meteorology", f"{total['gigabytes_in']:.3g} GB to download, looked up for {facts['looked_up']} scenes"),
        ("information", f"of all scenes, one by one: {_information(total['dofs'], settings)}"),
    ]


def _files(names: list[str]) -> str:
    shown = ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])])
    return f"{len(names)} file{'' if len(names) == 1 else 's'}" + (f" ({shown})" if names else "")


def _to_run(facts: dict[str, Any]) -> str:
    regridded = f", {facts['to_grid']:,} from kept particles" if facts["to_grid"] else ""
    pixels = facts["to_follow"] + facts["to_grid"]
    guard = ", ".join(f"{count:,} by {model}" for model, count in facts["to_guard"].items())
    packs = f"{facts['packs_left']:,} of {facts['packs']:,} packs"
    return f"{pixels:,} pixels{regridded}; {packs}" + (f"; once more for the guard {guard}" if guard else "")


def _amounts(facts: dict[str, Any], settings) -> list[tuple[str, str]]:
    between = facts["between"]
    spread = f" (90 %: {between[0]:.3g} to {between[1]:.3g})" if between and facts["cpu_hours"] else ""
    parts = {name: part for name, part in facts["dollars_by"].items() if part is not None}
    unpriced = [name for name, part in facts["dollars_by"].items() if part is None]
    if parts:
        each = ", ".join(f"{name} {_dollars(part)}" for name, part in parts.items())
        without = f"; no price is set for {', '.join(unpriced)}" if unpriced else ""
        dollars = f"{_dollars(facts['dollars'])}: {each} (kept for {settings.prices.months:g} months){without}"
    else:
        dollars = "no `prices` in the settings"
    return [
        ("CPU hours", f"{facts['cpu_hours']:.3g}{spread}; {facts['cost_told']}"),
        ("dollars", dollars),
        ("written", f"{facts['gigabytes']:.3g} GB in {facts['objects']:,} objects, {facts['requests']:,} requests"),
    ]


def _dollars(amount: float) -> str:
    return f"{amount:.1g}" if 0 < amount < 0.01 else f"{amount:,.2f}"


def _information(dofs: float | None, settings) -> str:
    if dofs is None:
        return "not known: the pixels' errors are not"
    chosen = settings.information
    error = "0.05 (CH4, ppb) or 5 (CO2, ppm)" if chosen.flux_error is None else f"{chosen.flux_error:g}"
    return (
        f"{dofs:.3g} degrees of freedom for signal, for a prior error of {error} µmol m-2 s-1, "
        f"correlated over {chosen.correlation:g} km"
    )
