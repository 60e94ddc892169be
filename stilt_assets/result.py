"""
Is a stage's result there, is it the one that is wanted, and what is there to show of it?
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeVar

from stilt_assets.errors import DamagedError, UsageError
from stilt_assets.recipes import Desk
from stilt_assets.scene import Recipe


@dataclass(frozen=True)
class Done:
    """What a stage has to show."""

    stage: str
    name: str  # of the result
    folder: str  # of the result, in the store
    summary: Mapping[str, Any]  # JSON values
    made: bool  # False if the store had it
    seconds: float


_Args = ParamSpec("_Args")
_Answer = TypeVar("_Answer")


def mending(
    stage: Callable[Concatenate[Desk, _Args], _Answer],
) -> Callable[Concatenate[Desk, _Args], _Answer]:
    """A stage that takes away what it finds to be damaged, so that the next run makes it anew."""

    @wraps(stage)
    def mended(desk: Desk, *args: _Args.args, **kwargs: _Args.kwargs) -> _Answer:
        try:
            return stage(desk, *args, **kwargs)
        except DamagedError as error:
            _take_away(desk, error.path)
            raise

    return mended


def _take_away(desk: Desk, path: str) -> None:
    """Remove a damaged result of the scene; of a pack its outcomes, so that its pixels run again."""
    store, key = desk.store, desk.record.key
    home = f"{store.scene(key)}/"
    parts = path.removeprefix(home).split("/")
    if not path.startswith(home) or len(parts) < 2:
        return
    if not parts[-1].startswith("pack="):
        store.remove(store.result(key, parts[0]))
        return
    made_of = [desk.record.under_way, desk.record.current.get("footprints", ""), parts[0]]
    for name in {name for name in made_of if name.startswith("footprints-")}:
        store.remove(store.file(store.result(key, name), "outcomes", parts[-1]))


def is_there(desk: Desk, recipe: Recipe, marker: str) -> bool:
    """Whether a result is there, whole; one that has lost bytes is taken away."""
    entry = desk.record.results.get(recipe.name, {})
    if "summary" not in entry or not desk.store.exists(desk.store.file(desk.folder(recipe), *marker.split("/"))):
        return False
    if desk.store.size(desk.folder(recipe)) == entry["summary"]["bytes"]:
        return True
    desk.store.remove(desk.folder(recipe))
    return False


def finish(desk: Desk, recipe: Recipe, summary: Mapping[str, Any], started: float) -> Done:
    """A result that was made just now becomes the current one of its stage."""
    return _done(desk, recipe, summary, True, started)


def as_before(desk: Desk, recipe: Recipe, started: float) -> Done:
    """A result that was there becomes the current one of its stage."""
    return _done(desk, recipe, desk.record.results[recipe.name]["summary"], False, started)


def _done(desk: Desk, recipe: Recipe, summary: Mapping[str, Any], made: bool, started: float) -> Done:
    desk.record.finish(recipe, summary, made=made)
    desk.record.save(desk.store)
    return Done(recipe.stage, recipe.name, desk.folder(recipe), summary, made, monotonic() - started)


def current(desk: Desk, recipe: Recipe) -> Recipe:
    """The recipe, if its result is the scene's current one; UsageError otherwise, with the difference."""
    if desk.record.current.get(recipe.stage) == recipe.name:
        return recipe
    before = desk.record.result_of(recipe.stage)
    why = "; ".join(recipe.differences(before["made_from"])) if before else "it was not made yet"
    raise UsageError(f"{recipe.stage} of {desk.record.key} must be made first: {why}")
