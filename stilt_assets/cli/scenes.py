"""Which scenes are there? Register them, list them."""

from pathlib import Path
from typing import Annotated

import typer

from stilt_assets.cli.terminal import say, settings_and_store, tell_dagster
from stilt_assets.settings import Settings, is_url

app = typer.Typer(no_args_is_help=True, help="Scenes: register them, list them.")


@app.command("add")
def scenes_add(files: Annotated[list[str], typer.Argument(metavar="FILE...", help="retrieval files (L2 CH4)")]) -> None:
    """Register the scenes that retrieval files hold, and print their keys."""
    from stilt_assets.catalog import register

    settings, store = settings_and_store()
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
    if not keys:
        say("no target has a good pixel in these files; nothing was registered")
    for key in dict.fromkeys(keys):
        typer.echo(key)


def _found(file: str, settings: Settings) -> str:
    """A file as it is named, or of that name where retrievals arrive."""
    if is_url(file) or is_url(settings.retrievals) or Path(file).exists():
        return file
    arrived = Path(settings.retrievals) / file
    return str(arrived) if arrived.exists() else file


@app.command("list")
def scenes_list() -> None:
    """Print the keys of all scenes in the store, oldest first."""
    store = settings_and_store()[1]
    keys = store.scenes()
    for key in keys:
        typer.echo(key)
    if not keys:
        say(f"no scenes in {store.root} yet; register some with: stilt-assets scenes add FILE")
