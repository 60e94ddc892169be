"""
Which pixels does a scene have, made or only counted?

A scene that is registered knows how many pixels its file has, where and when, and how uncertain they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from stilt_assets import information
from stilt_assets.catalog import coverage_of
from stilt_assets.errors import RetrievalError
from stilt_assets.meteorology import Need, hours_needed
from stilt_assets.recipes import Desk, choice_of, meteorology_need, pixels_recipe
from stilt_assets.scene import Recipe
from stilt_assets.stages import PIXELS


@dataclass(frozen=True)
class Pixels:
    """A scene's pixels, made or counted."""

    number: int
    dropped: Mapping[str, int]
    need: Need  # of the meteorology
    soundings: information.Soundings | None  # None if their errors are not known
    units: str


def has(desk: Desk, recipe: Recipe) -> bool:
    """Whether the scene's record knows a result as finished."""
    return "summary" in desk.record.results.get(recipe.name, {})


def pixels_of(desk: Desk) -> Pixels:
    """Made if they are, counted otherwise. RetrievalError if neither, and their file cannot be read."""
    recipe = pixels_recipe(desk)
    if has(desk, recipe):
        summary = desk.record.results[recipe.name]["summary"]
        table = desk.store.table(
            desk.store.file(desk.folder(recipe), PIXELS), ["longitude", "latitude", "uncertainty", "units"]
        )
        units = str(table["units"][0].as_py()) if len(table) else ""
        lon, lat, error = (table[name].to_numpy() for name in ("longitude", "latitude", "uncertainty"))
        soundings = _soundings(information.Soundings(lon, lat, error * ppm_per(units)))
        return Pixels(len(table), summary["dropped"], meteorology_need(desk, recipe), soundings, units)
    counted = desk.record.retrieval.get("counted", {})
    if counted.get("choice") != choice_of(desk):
        counted = _count(desk)
    first, last = (datetime.fromisoformat(time) for time in counted["times"])
    chosen = desk.settings.simulation
    need = Need(
        hours_needed(first, last, chosen.hours_back),
        tuple(counted["box"]),
        chosen.top,
        chosen.hours_back,
        desk.settings.meteorology.wind,
    )
    error = (counted["uncertainty"] or np.nan) * ppm_per(counted["units"])
    soundings = _soundings(information.Soundings.even(counted["box"], counted["pixels"], error))
    return Pixels(counted["pixels"], counted["dropped"], need, soundings, counted["units"])


def _count(desk: Desk) -> Mapping[str, Any]:
    """What registering the scene now would count in its file."""
    name, path = desk.record.scene.target, desk.record.retrieval.get("path", "")
    only = desk.settings.model_copy(update={"targets": {name: desk.target}})
    found = [(abs(each.scene.time - desk.record.scene.time), each) for each in coverage_of(path, only) if each.scene]
    if not found:
        raise RetrievalError(f"{path} has no good pixel inside the bounds of '{name}'")
    return min(found, key=lambda pair: pair[0])[1].counted


def ppm_per(units: str) -> float:
    """ppm in one of the units of a pixel's value."""
    return 1e-3 if units == "ppb" else 1.0


def _soundings(given: information.Soundings) -> information.Soundings | None:
    known = np.isfinite(given.error) & (given.error > 0)
    if not known.any():
        return None
    return information.Soundings(given.longitude[known], given.latitude[known], given.error[known])
