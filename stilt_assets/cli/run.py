"""Do a whole scene by hand: the commands `run` and `demo`."""

import os
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from stilt_assets.cli.terminal import Key, bar, say, settings_and_store, stoppable, tell_dagster
from stilt_assets.errors import NotPhysicalError, TooManyLostError


def run(
    key: Key,
    retry_failed: Annotated[bool, typer.Option(help="run failed pixels again, whatever the reason")] = False,
    beyond_limits: Annotated[bool, typer.Option("--beyond-limits", help="run whatever `limits` say")] = False,
) -> None:
    """Do a whole scene: pixels, meteorology, footprints, jacobian. What is there already is left as it is."""
    from stilt_assets.recipes import desk_of

    desk = desk_of(key, *settings_and_store())
    if not beyond_limits:
        hold_scene(desk, retry_failed=retry_failed)
    run_scene(desk, retry_failed=retry_failed)


def hold_scene(desk, *, retry_failed: bool = False) -> None:
    """OverLimitsError if a scene would pass a limit of the settings; nothing is run."""
    from stilt_assets.budget import hold_to
    from stilt_assets.preview import preview_of

    if desk.settings.limits.scene.given:
        hold_to(preview_of(desk, asked={}, retry_failed=retry_failed), desk.settings, "scene", desk.record.key)


def run_scene(desk, *, retry_failed: bool = False) -> str:
    """All stages of a scene, with a progress bar on standard error; where its Jacobian lies."""
    from stilt_assets import stages
    from stilt_assets.difference import tell_difference
    from stilt_assets.jacobian import NAME
    from stilt_assets.preview import preview_of
    from stilt_assets.quality import few_pixels_lost, jacobian_is_physical
    from stilt_assets.shard import make_footprints
    from stilt_assets.slurm import runner_of
    from stilt_assets.whole import read_outcomes

    runner = runner_of(os.environ.get("STILT_ASSETS_EXECUTOR", ""))
    _tell(stages.make_pixels(desk))
    _tell(stages.make_meteorology(desk, say))
    expected, begun = preview_of(desk, retry_failed=retry_failed).expected, monotonic()
    with stoppable() as stopped, bar() as tell:
        footprints = make_footprints(
            desk, tell, stopped, say, retry_failed=retry_failed, expected=expected, runner=runner
        )
    _tell(replace(footprints, seconds=monotonic() - begun))
    if not footprints.summary["crop_was_large_enough"]:
        say(str(footprints.summary["crop"]))
    answer = few_pixels_lost(read_outcomes(desk.store, footprints.folder), desk.target.tolerance)
    if not answer.passed:
        raise TooManyLostError(f"{answer.line}; see: stilt-assets status {desk.record.key}")
    jacobian = stages.make_jacobian(desk)
    _tell(jacobian)
    path = desk.store.file(jacobian.folder, NAME)
    physical = jacobian_is_physical(path, desk.store, footprints.folder, footprints.summary["pixels"])
    if not physical.passed:
        raise NotPhysicalError(f"the Jacobian is not physical: {physical.line}")
    difference = tell_difference(desk)
    if difference:
        say(difference.line)
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
    say(f"{done.stage:<11} {done.name}  {f'{done.seconds:.1f} s' if done.made else 'as before'}  {numbers}")


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
    settings, store = settings_and_store()
    found = register(str(Path(settings.retrievals) / RETRIEVAL), settings, store)
    keys = [coverage.scene.key for coverage in found if coverage.scene]
    tell_dagster(keys)
    for key in keys:
        jacobian = run_scene(desk_of(key, settings, store))
        picture = file.parent / f"{key}.png"
        picture.write_bytes(total_footprint_map(jacobian, key))
        say(f"map: {picture}")
    say(f"go on with: export STILT_ASSETS_CONFIG={file}")
