"""
How does a scene get from its retrieval file to its Jacobian?

Four stages. Each says what would make its result (a recipe), looks whether the store has that very result, and makes
it if not. The command line and the Dagster assets call the same four functions.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa

from stilt_assets import jacobian, pack
from stilt_assets.errors import RetrievalError, UsageError
from stilt_assets.matrix import layout_of
from stilt_assets.meteorology import aggregate
from stilt_assets.meteorology.sources import find_sources
from stilt_assets.pixel import Workplace
from stilt_assets.receptor import kernels_from, receptors_from, write_pixels
from stilt_assets.recipes import (
    Desk,
    footprints_recipe,
    jacobian_recipe,
    kept_elsewhere,
    meteorology_recipe,
    particles_recipe,
    pixels_recipe,
    stamped,
)
from stilt_assets.retrieval import read_retrieval
from stilt_assets.scene import Recipe, digest
from stilt_assets.workers import Progress, cores, run_packs

PIXELS = "pixels.parquet"
CERTIFICATE = "certificate.json"


@dataclass(frozen=True)
class Done:
    """What a stage has to show."""

    stage: str
    name: str  # of the result
    folder: str  # of the result, in the store
    summary: Mapping[str, Any]  # JSON values
    made: bool  # False if the store had it
    seconds: float


def make_pixels(desk: Desk) -> Done:
    """Pixels, receptors and kernels of a scene. RetrievalError if its file cannot be read or has no good pixel."""
    recipe, started = pixels_recipe(desk), monotonic()
    if _is_there(desk, recipe, PIXELS):
        return _done(desk, recipe, False, started)
    source = desk.record.retrieval
    found = read_retrieval(source["path"], desk.target.bounds)
    if not len(found.pixels):
        dropped = ", ".join(f"{count} {reason}" for reason, count in found.dropped.items() if count)
        raise RetrievalError(
            f"{source['path']} has no good pixel inside the bounds of '{desk.record.scene.target}': {dropped}"
        )
    with desk.store.building(desk.folder(recipe), PIXELS) as folder:
        write_pixels(folder, found, desk.settings.simulation.top)
    digests = {name: _digest_of(desk.table(recipe, f"{name}.parquet")) for name in ("receptors", "kernels")}
    source |= stamped(source["path"], source)
    size = desk.store.size(desk.folder(recipe))
    desk.record.begin(recipe)["digests"] = digests
    return _finish(
        desk,
        recipe,
        {"pixels": len(found.pixels), "dropped": dict(found.dropped), "product": found.product, "bytes": size},
        started,
    )


def _digest_of(table: pa.Table) -> str:
    parts: list[bytes | str] = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_list(column.type):
            parts += [name, column.offsets.to_numpy().tobytes(), column.values.to_numpy().tobytes()]
        else:
            values = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            parts += [name, values.to_numpy(zero_copy_only=False).tobytes()]
    return digest(*parts)


def make_meteorology(desk: Desk) -> Done:
    """The scene's meteorology aggregate. MeteorologyGapError or MeteorologyError if the files do not do."""
    started, pixels = monotonic(), _current(desk, pixels_recipe(desk))
    recipe, need, sources, files = meteorology_recipe(desk, pixels)
    if _is_there(desk, recipe, CERTIFICATE):
        return _done(desk, recipe, False, started)
    sources = sources or find_sources(desk.settings.meteorology.product, desk.settings.meteorology.source, need.hours)
    receptors = receptors_from(desk.table(pixels, "receptors.parquet"))
    digests = {Path(path): facts["sha256"] for path, facts in files.items()}
    with desk.store.building(desk.folder(recipe), CERTIFICATE) as folder:
        made = aggregate.make_aggregate(folder, desk.settings.meteorology.product, need, sources, receptors, digests)
    desk.record.begin(recipe)["files"] = files
    summary = {name: made[name] for name in ("product", "cells", "pixels_outside")}
    summary |= {
        "margin_km": min(made["margins_km"].values()),
        "hours": len(made["hours"]),
        "levels": len(made["levels"]),
        "files": [entry["name"] for entry in made["sources"]],
        "bytes": desk.store.size(desk.folder(recipe)),
    }
    return _finish(desk, recipe, summary, started)


def make_footprints(
    desk: Desk, tell: Callable[[Progress], None] = lambda _: None, stopped: Callable[[], bool] = lambda: False
) -> Done:
    """Trajectories, endpoints, footprints and outcomes, pack by pack. StoppedError when `stopped` says so."""
    started, pixels = monotonic(), _current(desk, pixels_recipe(desk))
    meteorology = _current(desk, meteorology_recipe(desk, pixels)[0])
    particles = particles_recipe(desk, pixels, meteorology)
    recipe = footprints_recipe(desk, pixels, particles)
    receptors = receptors_from(desk.table(pixels, "receptors.parquet"))
    # How the scene is cut belongs to its particles' files: another pack size leaves those that are there as they are.
    elsewhere = kept_elsewhere(desk, particles)
    wanted = desk.record.results[elsewhere[0]]["pack_pixels"] if elsewhere else desk.settings.packs.pixels
    at_most = desk.record.begin(particles, pack_pixels=wanted)["pack_pixels"]
    packs = pack.cut([each.longitude for each in receptors], [each.latitude for each in receptors], at_most)
    folders = [name for name in elsewhere if desk.record.results[name]["pack_pixels"] == at_most]
    kept_from = [desk.store.result(desk.record.key, name) for name in folders]
    made = pack.Packs(desk.store, desk.folder(particles), desk.folder(recipe), desk.settings.keep, kept_from)
    if _all_made(made, len(packs)) and "summary" in desk.record.results.get(recipe.name, {}):
        tell(Progress(len(receptors), len(receptors), len(packs), len(packs)))
        desk.record.finish(particles, desk.record.results[particles.name]["summary"])
        return _done(desk, recipe, False, started)
    desk.record.begin(recipe, pack_pixels=at_most)
    desk.record.go_under_way(recipe.name)
    desk.record.save(desk.store)
    meteorology_file = desk.store.file(desk.folder(meteorology), aggregate.NAME)
    with desk.store.alone(made.footprints), desk.store.local(meteorology_file) as file:
        work = Workplace(made, desk.simulation, desk.grid, file, desk.settings.packs.timeout)
        kernels = kernels_from(desk.table(pixels, "kernels.parquet"))
        run_packs(work, packs, receptors, kernels, desk.settings.packs.workers or cores(), tell, stopped)
        desk.store.remove(desk.store.unfinished(made.footprints))
    return _sum_up(desk, particles, recipe, len(packs), started)


def _all_made(made: pack.Packs, packs: int) -> bool:
    numbers = range(packs)
    return all(made.is_whole(number) for number in numbers) and not any(made.lost_for_now(number) for number in numbers)


def _sum_up(desk: Desk, particles: Recipe, recipe: Recipe, packs: int, started: float) -> Done:
    outcomes = pack.read_outcomes(desk.store, desk.folder(recipe))
    told = json.dumps([[row["pixel"], row["status"], row["reason"]] for row in outcomes])
    desk.record.begin(recipe)["digests"] = {"outcomes": digest(told)}
    desk.record.finish(particles, {"keep": desk.settings.keep, "bytes": desk.store.size(desk.folder(particles))})
    size = {"packs": packs, "bytes": desk.store.size(desk.folder(recipe))}
    return _finish(desk, recipe, pack.summary_of(outcomes) | size, started)


def make_jacobian(desk: Desk) -> Done:
    """The scene's Jacobian in Zarr."""
    started, pixels = monotonic(), _current(desk, pixels_recipe(desk))
    meteorology = _current(desk, meteorology_recipe(desk, pixels)[0])
    particles = particles_recipe(desk, pixels, meteorology)
    footprints = _current(desk, footprints_recipe(desk, pixels, particles))
    recipe = jacobian_recipe(desk, pixels, footprints)
    if _is_there(desk, recipe, jacobian.MARKER):
        return _done(desk, recipe, False, started)
    receptors = receptors_from(desk.table(pixels, "receptors.parquet"))
    scenery = jacobian.Scenery(
        pixels=desk.table(pixels, PIXELS),
        outcomes=pack.read_outcomes(desk.store, desk.folder(footprints)),
        layout=layout_of(receptors, desk.settings.simulation.hours_back, desk.grid),
        aggregates=recipe.made_from["aggregate"],
        keepbits=recipe.made_from["keepbits"],
        facts={
            "title": f"Jacobian of {desk.record.key}: surface influence of each pixel",
            "scene": desk.record.key,
            "made_from": [result.name for result in (pixels, meteorology, footprints)],
        },
    )
    with desk.store.building(desk.folder(recipe), jacobian.MARKER) as folder:
        summary = jacobian.write_jacobian(folder, desk.store, desk.folder(footprints), scenery)
    return _finish(desk, recipe, summary | {"bytes": desk.store.size(desk.folder(recipe))}, started)


# ---- what the stages share


def _is_there(desk: Desk, recipe: Recipe, marker: str) -> bool:
    return "summary" in desk.record.results.get(recipe.name, {}) and desk.store.exists(
        desk.store.file(desk.folder(recipe), marker)
    )


def _finish(desk: Desk, recipe: Recipe, summary: Mapping[str, Any], started: float) -> Done:
    desk.record.finish(recipe, summary)
    return _done(desk, recipe, True, started)


def _done(desk: Desk, recipe: Recipe, made: bool, started: float) -> Done:
    desk.record.finish(recipe, desk.record.results[recipe.name]["summary"])
    desk.record.save(desk.store)
    summary = desk.record.results[recipe.name]["summary"]
    return Done(recipe.stage, recipe.name, desk.folder(recipe), summary, made, monotonic() - started)


def _current(desk: Desk, recipe: Recipe) -> Recipe:
    """The recipe, if its result is the scene's current one; UsageError otherwise, with the difference."""
    if desk.record.current.get(recipe.stage) == recipe.name:
        return recipe
    before = desk.record.result_of(recipe.stage)
    why = "; ".join(recipe.differences(before["made_from"])) if before else "it was not made yet"
    raise UsageError(f"{recipe.stage} of {desk.record.key} must be made first: {why}")
