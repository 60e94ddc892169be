"""
How does a person do by hand what the assets do?

Results go to standard output, all else to standard error. Exit codes: 0 done, 1 the science failed, 2 wrong usage,
3 interrupted.
"""

import signal
import sys

import typer

from stilt_assets.cli import backfill, look, scenes
from stilt_assets.cli.metrics import metrics
from stilt_assets.cli.preview import preview
from stilt_assets.cli.run import demo, run
from stilt_assets.cli.shard import shard
from stilt_assets.cli.terminal import tell_failure
from stilt_assets.errors import StiltAssetsError, StoppedError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Surface influence of satellite scenes.",
)
app.add_typer(scenes.app, name="scenes")
app.add_typer(backfill.app, name="backfill")
for command in (preview, run, shard, look.status, look.why, look.difference, look.export, look.reasons, metrics, demo):
    app.command()(command)


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
        tell_failure(error)
        sys.exit(error.exit_code)
