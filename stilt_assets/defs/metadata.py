"""What does a person ask the next morning? A stage's result as Dagster shows it, and its failures in one line."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from stilt_assets.errors import StiltAssetsError
from stilt_assets.quality import Answer
from stilt_assets.stages import Done


def shown(done: Done, **more: dg.MetadataValue) -> dg.MaterializeResult:
    """A stage's result: numbers, tables of counts, where it lies, and its name as the data's version."""
    facts = {name: _value(value) for name, value in done.summary.items()}
    facts |= {"result": dg.MetadataValue.path(done.folder), "made": dg.MetadataValue.bool(done.made)}
    facts |= {"stage_seconds": dg.MetadataValue.float(round(done.seconds, 2))}
    return dg.MaterializeResult(metadata=facts | more, data_version=dg.DataVersion(done.name))


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


def picture(png: bytes, title: str) -> dg.MetadataValue:
    """A PNG, inline."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def particles_per_second(done: Done) -> dg.MetadataValue:
    """Particles followed to their end per second of a worker."""
    seconds = max(float(done.summary["seconds"]), 1e-3)
    return dg.MetadataValue.float(round(done.summary["particles"] / seconds, 1))


def checked(answer: Answer) -> dg.AssetCheckResult:
    """An answer as the result of an asset check."""
    return dg.AssetCheckResult(passed=answer.passed, description=answer.line, metadata=dict(answer.numbers))


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn expected failures into Dagster's own, with their reason; what is permanent is not retried."""
    try:
        yield
    except StiltAssetsError as error:
        raise dg.Failure(str(error), metadata={"reason": error.reason}, allow_retries=False) from error
