"""Which stage would be made again, and which of its inputs makes it so?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stilt_assets.recipes import (
    Desk,
    footprints_recipe,
    jacobian_recipe,
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
    """For each stage whether its current result is what would be made now, and if not, which inputs differ."""
    made: dict[str, Recipe] = {}
    recipes: dict[str, Callable[[], Recipe]] = {
        "pixels": lambda: pixels_recipe(desk),
        "meteorology": lambda: meteorology_recipe(desk, made["pixels"])[0],
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
        recipe = made[stage] = recipes[stage]()
        if name == recipe.name:
            answers.append(Verdict(stage, name, "current", []))
        elif name is None:
            answers.append(Verdict(stage, None, "missing", ["not made yet"]))
        else:
            answers.append(Verdict(stage, name, "stale", recipe.differences(desk.record.results[name]["made_from"])))
    return answers


_NEEDS = {
    "pixels": (),
    "meteorology": ("pixels",),
    "particles": ("pixels", "meteorology"),
    "footprints": ("pixels", "meteorology", "particles"),
    "jacobian": ("pixels", "meteorology", "particles", "footprints"),
}
