"""How does a person name the scenes of a span of days? `--from`, `--to`, `--target` or `--collection`."""

from dataclasses import dataclass
from datetime import date
from typing import Annotated

import typer

from stilt_assets.errors import UsageError
from stilt_assets.settings import Settings

Start = Annotated[str | None, typer.Option("--from", metavar="DAY", help="first day, UTC, such as 2019-05-01")]
End = Annotated[str | None, typer.Option("--to", metavar="DAY", help="day after the last one, UTC")]
Target = Annotated[str | None, typer.Option("--target", help="of this target only")]
Collection = Annotated[str | None, typer.Option("--collection", help="of this collection of the settings")]


@dataclass(frozen=True)
class Wanted:
    """A span of days, and which of their scenes."""

    first: date
    end: date  # day after the last one
    target: str | None
    product: str | None = None

    def __str__(self) -> str:
        which = f" of {self.target}" if self.target else ""
        return f"{self.first} to {self.end}{which}"


def wanted_days(
    settings: Settings, start: str | None, end: str | None, target: str | None, collection: str | None
) -> Wanted | None:
    """What was typed; None if nothing was. UsageError if it contradicts itself."""
    if target is not None:
        settings.target(target)
    if collection is not None:
        known = settings.collection(collection)
        if target is not None and target != known.target:
            raise UsageError(f"collection '{collection}' is of target '{known.target}', not of '{target}'")
        first = max(_day(start, "--from"), known.first) if start else known.first
        last = min(_day(end, "--to"), known.to) if end else known.to
        return _checked(Wanted(first, last, known.target, known.product))
    if start is None and end is None:
        return None
    if start is None or end is None:
        raise UsageError("--from and --to go together; --to is the day after the last one")
    return _checked(Wanted(_day(start, "--from"), _day(end, "--to"), target))


def _checked(wanted: Wanted) -> Wanted:
    if wanted.end <= wanted.first:
        raise UsageError(f"no day lies from {wanted.first} to before {wanted.end}: --to is the day after the last one")
    return wanted


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text} is no day; one looks like 2019-05-01") from None
