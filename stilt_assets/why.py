"""Which stage would be made again, and which of its inputs makes it so?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stilt_assets.errors import MeteorologyError, MeteorologyGapError, NoArchiveError
from stilt_assets.meteorology.sources import Source
from stilt_assets.recipes import (
    Desk,
    footprints_recipe,
    jacobian_recipe,
    made_of,
    meteorology_need,
    meteorology_recipe,
    particles_recipe,
    pixels_recipe,
)
from stilt_assets.scene import STAGES, Recipe


@dataclass(frozen=True)
class Verdict:
    """Whether one stage's result is what would be made now."""

    stage: str
    name: str | None  # of the current result
    state: str  # current, stale or missing
    why: Sequence[str]


def verdicts(desk: Desk) -> list[Verdict]:
    """
    For each stage whether its current result is what would be made now, and if not, which inputs differ.

    Meteorology whose files are gone is told as far as the scene's record and settings say it.
    """
    made: dict[str, Recipe] = {}
    unseen: dict[str, list[str]] = {}

    def meteorology() -> Recipe:
        recipe, _, sources, _ = meteorology_recipe(desk, made["pixels"])
        unseen["meteorology"] = _without(sources, desk)
        return recipe

    recipes: dict[str, Callable[[], Recipe]] = {
        "pixels": lambda: pixels_recipe(desk),
        "meteorology": meteorology,
        "particles": lambda: particles_recipe(desk, made["pixels"], made["meteorology"]),
        "footprints": lambda: footprints_recipe(desk, made["pixels"], made["particles"]),
        "jacobian": lambda: jacobian_recipe(desk, made["pixels"], made["footprints"]),
    }
    answers: list[Verdict] = []
    for stage in STAGES:
        name = desk.record.current.get(stage)
        unsure = next(
            (answer.stage for answer in answers if answer.state != "current" and answer.stage in _NEEDS[stage]), None
        )
        if unsure:
            answers.append(Verdict(stage, name, "stale" if name else "missing", [f"{unsure} must be made first"]))
            continue
        try:
            recipe = made[stage] = recipes[stage]()
        except (MeteorologyGapError, NoArchiveError) as error:
            if stage != "meteorology":
                raise
            answers.append(_out_of_reach(desk, made["pixels"], error))
            continue
        answers.append(_compared(desk, recipe, unseen.get(stage, [])))
    return answers


def _compared(desk: Desk, recipe: Recipe, unseen: Sequence[str]) -> Verdict:
    name = desk.record.current.get(recipe.stage)
    if name is None:
        return Verdict(recipe.stage, None, "missing", ["not made yet", *unseen])
    if name != recipe.name:
        differs = recipe.differences(desk.record.results[name]["made_from"])
        return Verdict(recipe.stage, name, "stale", [*differs, *unseen])
    if recipe.stage in _WHOLE and not desk.store.exists(desk.folder(recipe)):
        gone = f"its folder is not in the store any more; put it back, or run makes it anew: {desk.folder(recipe)}"
        return Verdict(recipe.stage, name, "stale", [gone, *unseen])
    return Verdict(recipe.stage, name, "current", unseen)


def _without(sources: Sequence[Source], desk: Desk) -> list[str]:
    """What nobody can tell of meteorology that stands although the files of its folder are gone."""
    chosen = desk.settings.meteorology
    if sources or not chosen.is_one_folder:
        return []
    gone = f"not all of its files are in {chosen.wanted[0]} any more, so whether they have changed cannot be told"
    return [f"{gone}; what was made of them holds, and to make it anew put them back"]


def _out_of_reach(desk: Desk, pixels: Recipe, error: MeteorologyError) -> Verdict:
    """Of meteorology that would have to be made of files that are not there: what differs, as far as it is known."""
    name, chosen = desk.record.current.get("meteorology"), desk.settings.meteorology
    told = f"it cannot be made now: {error}; put the files there or name another meteorology.source"
    if name is None:
        return Verdict("meteorology", None, "missing", ["not made yet", told])
    old = desk.record.results[name]["made_from"]
    now = made_of(meteorology_need(desk, pixels), chosen.product_of(chosen.wanted[0]), old["sources"])
    differs = Recipe("meteorology", now | {"widened": old["widened"]}).differences(old)
    return Verdict("meteorology", name, "stale", [*differs, told])


_WHOLE = ("pixels", "meteorology", "jacobian")  # made at once: without their folder they are not there

_NEEDS = {
    "pixels": (),
    "meteorology": ("pixels",),
    "particles": ("pixels", "meteorology"),
    "footprints": ("pixels", "meteorology", "particles"),
    "jacobian": ("pixels", "meteorology", "particles", "footprints"),
}
