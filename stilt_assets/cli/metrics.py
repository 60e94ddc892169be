"""How does the work go? A page that Prometheus reads."""

import time
from contextlib import nullcontext
from os import environ
from typing import Annotated

import typer

from stilt_assets.cli.terminal import say, settings_and_store


def metrics(
    once: Annotated[bool, typer.Option("--once", help="print the page and end")] = False,
    host: Annotated[str, typer.Option(help="address to listen at; 0.0.0.0 lets others in")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen at")] = 9464,
    every: Annotated[float, typer.Option(min=1.0, help="seconds between two looks at store and queue")] = 60.0,
) -> None:
    """Serve /metrics for Prometheus: queue, pixels per second, cost, the oldest retrieval that is not done."""
    from stilt_assets.metrics import Watch, page
    from stilt_assets.tally import Tally

    tally = Tally(*settings_and_store())
    with _queue() as queue:
        watch = Watch(tally, queue) if queue else Watch(tally)
        if once:
            _look(watch)
            while watch.unread:
                _look(watch)
            typer.echo(page(watch.metrics), nl=False)
            raise typer.Exit(1 if watch.troubles else 0)
        say(f"serving http://{host}:{watch.serve(host, port)}/metrics")
        while True:
            _look(watch)
            time.sleep(0.0 if watch.unread else every)


def _queue():
    """What tells of the Dagster instance's queue; nothing where there is no instance."""
    if not environ.get("DAGSTER_HOME"):
        say("DAGSTER_HOME is not set: the page says nothing of Dagster's queue")
        return nullcontext()
    from stilt_assets.defs.metrics import queue

    return queue()


def _look(watch) -> None:
    watch.look(time.time())
    for line in watch.troubles:
        say(line)
