"""
How does a scene get from its retrieval file to its Jacobian?

Four stages; `shard` is the home of the third, the footprints. Each says what would make its result (a recipe), looks
whether the store has that very result, and makes it if not. The command line and the Dagster assets call the same
functions.
"""

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any

import pyarrow as pa

from stilt_assets import jacobian
from stilt_assets.choosing import CERTIFICATE, choose
from stilt_assets.errors import DamagedError, RetrievalError, StoreError
from stilt_assets.matrix import layout_of
from stilt_assets.meteorology import aggregate
from stilt_assets.receptor import receptors_from, write_pixels
from stilt_assets.recipes import (
    Desk,
    footprints_recipe,
    jacobian_recipe,
    meteorology_recipe,
    particles_recipe,
    pixels_recipe,
    stamped,
)
from stilt_assets.reissue import changes, soundings
from stilt_assets.result import Done, as_before, current, finish, is_there, mending
from stilt_assets.retrieval import Retrieval, read_retrieval, readable, worth_running
from stilt_assets.retrieval.overpasses import overpass
from stilt_assets.retrieval.points import points_at
from stilt_assets.scene import Recipe, digest, sha256_of
from stilt_assets.whole import read_outcomes
from stilt_assets.worth import outside_of

PIXELS = "pixels.parquet"


@mending
def make_pixels(desk: Desk) -> Done:
    """Pixels, receptors and kernels of a scene. RetrievalError if its file cannot be read or has no good pixel."""
    recipe, started = pixels_recipe(desk), monotonic()
    if is_there(desk, recipe, PIXELS):
        return as_before(desk, recipe, started)
    found = _found(desk, recipe)
    with desk.store.building(desk.folder(recipe), PIXELS) as folder:
        write_pixels(folder, found, desk.settings.simulation.top)
    digests = {name: _digest_of(desk.table(recipe, f"{name}.parquet")) for name in ("receptors", "kernels")}
    digests["pixels"] = digest(desk.store.read(desk.store.file(desk.folder(recipe), PIXELS)))
    source = desk.record.retrieval
    if "path" in source:
        source |= stamped(source["path"], source)
    size = desk.store.size(desk.folder(recipe))
    desk.record.begin(recipe)["digests"] = digests
    summary: dict[str, Any] = {"pixels": len(found.pixels), "dropped": dict(found.dropped)}
    if "members" in found.pixels:
        summary["members"] = int(found.pixels["members"].map(len).sum())
    before = desk.record.current.get("pixels")
    if before and desk.record.results[before]["made_from"].get("retrieval") != recipe.made_from.get("retrieval"):
        summary["reissued"] = _reissued(desk, before, recipe)
    return finish(desk, recipe, summary | {"product": found.product, "bytes": size}, started)


def _read_as_registered(source: dict[str, Any], desk: Desk, recipe: Recipe) -> Retrieval:
    """What the retrieval file holds, if its bytes are those that the recipe names."""
    with readable(source["path"]) as path:
        found = read_retrieval(str(path), desk.target.bounds)
        if sha256_of(path) == recipe.made_from["retrieval"]:
            return found
    raise RetrievalError(f"{source['path']} is not the file that was registered, it changed since; register it again")


def _reissued(desk: Desk, before: str, recipe: Recipe) -> dict[str, int]:
    """What the soundings of a new issue changed against those that were current."""
    store, names = desk.store, (PIXELS, "receptors.parquet", "kernels.parquet")
    folders = (store.result(desk.record.key, before), desk.folder(recipe))
    try:
        old, new = (soundings(*(store.table(store.file(folder, name)) for name in names)) for folder in folders)
    except StoreError:  # somebody cleared up
        return {}
    return changes(old, new)


def _found(desk: Desk, recipe: Recipe) -> Retrieval:
    """The pixels or points of a scene. RetrievalError if there are none."""
    if desk.points is not None:
        return points_at(desk.points, desk.record.scene.time, desk.settings.simulation.top)
    path = desk.record.retrieval["path"]
    good = _read_as_registered(desk.record.retrieval, desk, recipe)
    seen = overpass(good, desk.record.scene.time)
    found = worth_running(seen, desk.target.pixels, outside_of(desk.settings, desk.target))
    if not len(found.pixels):
        dropped = ", ".join(f"{count} {reason}" for reason, count in found.dropped.items() if count)
        raise RetrievalError(f"{path} has no good pixel inside the bounds of '{desk.record.scene.target}': {dropped}")
    return found


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


@mending
def make_meteorology(desk: Desk, say: Callable[[str], None] = lambda _: None, *, stays: bool = False) -> Done:
    """
    The scene's meteorology aggregate; with `stays`, of the source that it was made of before.

    `say` is told if files must be fetched, which may take long.
    MeteorologyGapError or MeteorologyError if the files do not do, StoreError if an archive does not answer.
    """
    started, pixels = monotonic(), current(desk, pixels_recipe(desk))
    choice = choose(desk, pixels, stays=stays)
    if choice.recipe and is_there(desk, choice.recipe, CERTIFICATE):
        choice.note(choice.recipe, choice.files)
        return as_before(desk, choice.recipe, started)
    receptors = receptors_from(desk.table(pixels, "receptors.parquet"))
    if choice.to_fetch:
        say(choice.to_fetch)
    with choice.opened() as opened:
        recipe = opened.recipe
        with desk.store.building(desk.folder(recipe), CERTIFICATE) as folder:
            made = aggregate.make_aggregate(
                folder, choice.product, opened.need, opened.sources, receptors, opened.digests
            )
        choice.note(recipe, opened.files)
    summary = {name: made[name] for name in ("product", "cells", "pixels_outside")}
    summary |= {
        "margin_km": min(made["margins_km"].values()),
        "hours": len(made["hours"]),
        "levels": len(made["levels"]),
        "files": [entry["name"] for entry in made["sources"]],
        "bytes": desk.store.size(desk.folder(recipe)),
    }
    return finish(desk, recipe, summary, started)


@mending
def make_jacobian(desk: Desk) -> Done:
    """The scene's Jacobian in Zarr."""
    started, pixels = monotonic(), current(desk, pixels_recipe(desk))
    meteorology = current(desk, meteorology_recipe(desk, pixels)[0])
    particles = particles_recipe(desk, pixels, meteorology)
    footprints = current(desk, footprints_recipe(desk, pixels, particles))
    recipe = jacobian_recipe(desk, pixels, footprints)
    if is_there(desk, recipe, jacobian.MARKER):
        return as_before(desk, recipe, started)
    receptors = receptors_from(desk.table(pixels, "receptors.parquet"))
    outcomes = read_outcomes(desk.store, desk.folder(footprints))
    if len(outcomes) != len(receptors):
        what = f"outcomes of {len(outcomes)} of {len(receptors)} pixels"
        raise DamagedError(f"{desk.folder(footprints)} holds {what}: run again", desk.folder(footprints))
    gaps = Counter(row["reason"] for row in outcomes if row["reason"])
    scenery = jacobian.Scenery(
        pixels=desk.table(pixels, PIXELS),
        outcomes=outcomes,
        layout=layout_of(receptors, desk.settings.simulation.hours_back, desk.grid),
        aggregates=recipe.made_from["aggregate"],
        keepbits=recipe.made_from["keepbits"],
        facts={
            "title": f"Jacobian of {desk.record.key}: surface influence of each pixel",
            "scene": desk.record.key,
            "gaps": dict(sorted(gaps.items())),
            "made_from": [result.name for result in (pixels, meteorology, footprints)],
        },
    )
    with desk.store.building(desk.folder(recipe), jacobian.MARKER) as folder:
        summary = jacobian.write_jacobian(folder, desk.store, desk.folder(footprints), scenery)
    return finish(desk, recipe, summary | {"bytes": desk.store.size(desk.folder(recipe))}, started)
