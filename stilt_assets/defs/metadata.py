"""What does a person ask the next morning? A stage's result as Dagster shows it, and its failures in one line."""

import base64
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from stilt_assets.difference import Difference
from stilt_assets.errors import StiltAssetsError, StoppedError
from stilt_assets.preview import Preview
from stilt_assets.quality import Answer
from stilt_assets.reasons import REASONS, Remedy
from stilt_assets.result import Done

RETRIES = dg.RetryPolicy(
    # A network that fails for longer than this, on top of the store's own patience, needs a person.
    max_retries=2,
    delay=5,
    backoff=dg.Backoff.EXPONENTIAL,
    jitter=dg.Jitter.PLUS_MINUS,  # shards that failed together do not come back together
)


def shown(done: Done, **more: dg.MetadataValue) -> dg.MaterializeResult:
    """A stage's result, with its name as the data's version."""
    return dg.MaterializeResult(metadata=facts_of(done) | more, data_version=dg.DataVersion(done.name))


def facts_of(done: Done) -> dict[str, dg.MetadataValue]:
    """What a stage has to show: numbers, tables of counts, and where the result lies."""
    facts = {name: _value(value) for name, value in done.summary.items()}
    facts |= {"result": dg.MetadataValue.path(done.folder), "made": dg.MetadataValue.bool(done.made)}
    return facts | {"stage_seconds": dg.MetadataValue.float(round(done.seconds, 2))}


def _value(value: Any) -> dg.MetadataValue:
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value)
    if isinstance(value, Mapping):
        rows = [f"| {name} | {count} |" for name, count in value.items()]
        return dg.MetadataValue.md("\n".join(["| reason | pixels |", "|---|---:|", *rows]) if rows else "none")
    return dg.MetadataValue.json(value) if isinstance(value, list) else dg.MetadataValue.text(str(value))


def weighed(preview: Preview) -> dict[str, dg.MetadataValue]:
    """What the rest of a scene is expected to cost and to bring."""
    numbers = {
        "cpu_hours_expected": preview.cpu_hours,
        "dollars_expected": preview.bill.dollars,
        "gigabytes_expected": preview.gigabytes,
        "information_expected": preview.dofs,
    }
    facts = {name: _value(round(value, 4)) for name, value in numbers.items() if value is not None}
    return facts | {"objects_expected": _value(preview.objects), "cost": _value(preview.cost_told)}


def picture(png: bytes, title: str) -> dg.MetadataValue:
    """A PNG, inline."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def differs(difference: Difference | None) -> dict[str, dg.MetadataValue]:
    """How a Jacobian differs from the one that it superseded, if it superseded one."""
    if difference is None:
        return {}
    rows = [f"| {name.replace('_', ' ')} | {_short(value)} |" for name, value in difference.summary.items()]
    return {"difference": dg.MetadataValue.md("\n".join(["| difference | |", "|---|---:|", *rows]))}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def particles_per_second(done: Done) -> dg.MetadataValue:
    """Particles followed to their end per second of a worker."""
    seconds = max(float(done.summary["seconds"]), 1e-3)
    return dg.MetadataValue.float(round(done.summary["particles"] / seconds, 1))


def checked(answer: Answer, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR) -> dg.AssetCheckResult:
    """An answer as the result of an asset check; `severity` counts if it did not pass."""
    return dg.AssetCheckResult(
        passed=answer.passed, severity=severity, description=answer.line, metadata=dict(answer.numbers)
    )


_PREEMPTIONS = 10  # of a step: nodes of a spot pool are taken away for no fault of the step
_OF_A_POD = "DAGSTER_RUN_STEP_KEY"  # set by Dagster's Kubernetes executor in a step's pod only


@contextmanager
def in_one_line() -> Iterator[None]:
    """
    Turn expected failures into Dagster's own, with their reason; only what a step can mend by itself is retried.

    Also retried is a step whose pod is asked to end while nobody ended its run: Dagster would call that a failure.
    """
    try:
        yield
    except StiltAssetsError as error:
        facts = {"reason": error.reason, "transient": error.transient, "then": REASONS[error.reason].then}
        again = REASONS[error.reason].remedy is Remedy.repeat
        raise dg.Failure(str(error), metadata=facts, allow_retries=again) from error
    except DagsterExecutionInterruptedError as interrupt:
        if _OF_A_POD not in os.environ or _is_being_ended():
            raise
        lost = StoppedError("pod_lost: its pod was asked to end, as when a node is taken away; what it made is kept")
        raise dg.RetryRequested(max_retries=_PREEMPTIONS) from lost.with_traceback(interrupt.__traceback__)


def _is_being_ended() -> bool:
    context = dg.OpExecutionContext.get()
    run = context.instance.get_run_by_id(context.run_id)
    return run is None or run.status != dg.DagsterRunStatus.STARTED
