"""
What would make each result of a scene now?

A tree of recipes: each stage's holds its own settings, its code's version, and the ids or bytes of its inputs.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa

from stilt_assets import footprint, jacobian, retrieval
from stilt_assets.errors import MeteorologyGapError, NoArchiveError, UsageError
from stilt_assets.faults import steadily
from stilt_assets.filesystem import opened
from stilt_assets.grid import Grid
from stilt_assets.meteorology import Need, aggregate, need_of
from stilt_assets.meteorology.sources import Source, find_sources
from stilt_assets.retrieval.points import INSTRUMENT
from stilt_assets.scene import Recipe, Record, load_record, sha256_of
from stilt_assets.settings import GridTargetSettings, Settings, TargetSettings, is_url
from stilt_assets.simulation import FusedTransport, Limits, Simulation
from stilt_assets.store import Store
from stilt_assets.transport import reference_of, transport_named
from stilt_assets.transport.auto import AUTO, NATIVE, REFERENCE, Choice, choose
from stilt_assets.worth import points_of, worth_of

version = cache(metadata.version)  # which reads a package's files each time


@dataclass(frozen=True)
class Desk:
    """A scene with the settings and the store that it is worked on with."""

    record: Record
    settings: Settings
    store: Store

    @property
    def target(self) -> TargetSettings:
        """The scene's target. UnknownTargetError if the settings lack it."""
        return self.settings.target(self.record.scene.target)

    @property
    def points(self) -> GridTargetSettings | None:
        """The grid of points that the scene is of, if it is of one. UsageError if scene and target do not match."""
        target = self.target
        points = target if isinstance(target, GridTargetSettings) else None
        if (points is None) == (self.record.scene.instrument == INSTRUMENT):
            raise UsageError(f"{self.record.key} and the target '{self.record.scene.target}' are not of one kind")
        return points

    @property
    def grid(self) -> Grid:
        """The cells of the scene's footprints."""
        return self.target.grid.grid

    @property
    def simulation(self) -> Simulation:
        """What changes a particle; its transport may still be `auto`."""
        chosen = self.settings.simulation
        return Simulation(chosen.transport, chosen.hours_back, chosen.particles, chosen.seed, chosen.device)

    @property
    def runs_again_in_doubt(self) -> bool:
        """Whether particles that the guard does not believe are made anew, with the model that is trusted."""
        return self.settings.simulation.guard.on_failure == "rerun"

    @property
    def limits(self) -> Limits:
        """What one pixel may take of a machine."""
        given = self.settings.packs
        memory, scratch = (size and size * 2**20 for size in (given.memory, given.scratch))
        return Limits(given.timeout, memory, scratch)

    def folder(self, recipe: Recipe) -> str:
        """Where a recipe's result lies."""
        return self.store.result(self.record.key, recipe.name)

    def table(self, pixels: Recipe, name: str) -> pa.Table:
        """One of the tables of the pixels."""
        return self.store.table(self.store.file(self.folder(pixels), name))


def desk_of(key: str, settings: Settings, store: Store) -> Desk:
    """Open a registered scene. UnknownSceneError, UnknownTargetError or UsageError if that cannot be."""
    desk = Desk(load_record(store, key), settings, store)
    _ = desk.target
    return desk


# ---- recipes: what would make each result now


def pixels_recipe(desk: Desk) -> Recipe:
    """From the file's bytes, the bounds and the column's top; or from the points of a grid."""
    if desk.points is not None:
        return Recipe("pixels", points_of(desk.points, desk.record.scene, desk.settings.simulation.top))
    source = desk.record.retrieval
    facts = source | stamped(source["path"], source)
    made_from = {
        "code": retrieval.CODE,
        "pystilt": version("pystilt"),
        "retrieval": facts["sha256"],
        "bounds": list(desk.target.bounds),
        "top": desk.settings.simulation.top,
    }
    if "overpass" in source:
        made_from["overpass"] = source["overpass"]
    return Recipe("pixels", made_from | worth_of(desk.settings, desk.target, desk.record))


def choice_of(desk: Desk) -> str:
    """An id of all that says which pixels the scene has: that of their recipe, the column's top aside."""
    recipe = pixels_recipe(desk)
    return replace(recipe, made_from={name: part for name, part in recipe.made_from.items() if name != "top"}).id


def stamped(location: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Size, time and sha256 of a file; what is `known` of it holds while size and time stay, or once it is gone."""
    names = ("size", "mtime_ns", "sha256")
    known = {name: known[name] for name in names if name in known}
    if is_url(location):
        return known or _digest_of_url(location)
    path = Path(location)
    if not path.exists():
        return known
    facts = path.stat()
    if (facts.st_size, facts.st_mtime_ns) == (known.get("size"), known.get("mtime_ns")):
        return known
    return {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns, "sha256": sha256_of(path)}


def _digest_of_url(location: str) -> dict[str, Any]:
    fs = opened(location, "the retrieval")
    content: bytes = steadily("reading", location, lambda: fs.cat_file(fs._strip_protocol(location)))
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def meteorology_recipe(desk: Desk, pixels: Recipe) -> tuple[Recipe, Need, list[Source], dict[str, Any]]:
    """
    From what the rule starts from (hours, release points, wind if it is given), and the bytes of the files.

    No field is read: which cells and levels the rule takes is a result, in the certificate. A choice among several
    sources, or of an archive's files, stands once it is made: nobody is asked for it, and there are no sources.
    """
    chosen = desk.settings.meteorology
    need = meteorology_need(desk, pixels)
    if not chosen.is_one_folder:
        old = standing_choice(desk, need)
        if old is None:
            return Recipe("meteorology", made_of(need, "", ["not chosen yet"])), need, [], {}
        recipe = as_wide_as_told(desk.record, old["made_from"])
        return recipe, as_wide(need, recipe), [], old["files"]
    product, folder = chosen.product_of(chosen.wanted[0]), chosen.wanted[0]
    before = desk.record.result_of("meteorology") or {}
    try:
        sources = find_sources(product, folder, need.hours)
    except (MeteorologyGapError, NoArchiveError):
        old = before.get("made_from", {})
        if {**old, "sources": []} != made_of(need, product, []) | {"widened": old.get("widened")}:
            raise
        recipe = as_wide_as_told(desk.record, old)  # the files are gone, their aggregate is not
        return recipe, as_wide(need, recipe), [], before["files"]
    files = stamped_sources(sources, before.get("files", {}))
    recipe = as_wide_as_told(desk.record, made_of(need, product, [facts["sha256"] for facts in files.values()]))
    return recipe, as_wide(need, recipe), sources, files


def meteorology_need(desk: Desk, pixels: Recipe) -> Need:
    """What the scene needs of the meteorology, before a crop turned out too small."""
    receptors = desk.table(pixels, "receptors.parquet")
    return need_of(receptors, desk.settings.simulation.hours_back, wind=desk.settings.meteorology.wind)


def made_of(need: Need, product: str, sources: Sequence[str]) -> dict[str, Any]:
    """What makes an aggregate of files with these sha256s, in the order of time."""
    return {
        "code": aggregate.CODE,
        "arlmet": version("arlmet"),
        "product": product,
        "hours": [f"{hour:%Y-%m-%dT%HZ}" for hour in (need.hours[0], need.hours[-1])],
        "hours_back": need.hours_back,
        "release": {"box": list(need.box), "top": need.top},
        "wind": need.wind,
        "widened": 0,
        "sources": list(sources),
    }


def standing_choice(desk: Desk, need: Need) -> dict[str, Any] | None:
    """The entry of the current meteorology, if it was chosen for the same need among the sources that there are."""
    before = desk.record.result_of("meteorology") or {}
    old, source = before.get("made_from", {}), before.get("source", {}).get("name")
    chosen = desk.settings.meteorology
    if source not in chosen.wanted:
        return None
    same = made_of(need, chosen.product_of(source), old["sources"]) | {"widened": old["widened"]}
    return before if old == same else None


def stamped_sources(sources: Sequence[Source], known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Size, time and sha256 of each file of a folder, by its path."""
    return {str(source.path): stamped(str(source.path), known.get(str(source.path), {})) for source in sources}


def as_wide_as_told(record: Record, made_from: Mapping[str, Any]) -> Recipe:
    """The recipe of the rule's own crop, or of a wider one if the record says that it was too small."""
    narrow = Recipe("meteorology", {**made_from, "widened": 0})
    return Recipe("meteorology", {**made_from, "widened": int(narrow.id in record.widened)})


def as_wide(need: Need, recipe: Recipe) -> Need:
    """The need of the rule's own crop, or of the wider one that the recipe asks for."""
    return replace(need, widened=bool(recipe.made_from["widened"]))


def particles_recipe(desk: Desk, pixels: Recipe, meteorology: Recipe) -> Recipe:
    """From receptors, meteorology, the simulation and the model's build; and from what is kept."""
    return particles_and_mover(desk, pixels, meteorology)[0]


def particles_and_mover(desk: Desk, pixels: Recipe, meteorology: Recipe) -> tuple[Recipe, Choice]:
    """
    The recipe of the particles, and the model that moves them, with the reason if there was a choice.

    Particles that the guard did not believe are `hysplit`'s instead, if the settings want that.
    """
    choice = _chosen(desk, pixels, meteorology)
    recipe = _particles_of(desk, pixels, meteorology, choice.transport)
    doubt = desk.record.distrusted.get(particles_id(recipe))
    if doubt is None or not desk.runs_again_in_doubt:
        return recipe, choice
    instead = Choice(reference_of(choice.transport) or REFERENCE, f"{choice.transport} did not agree with it: {doubt}")
    return _particles_of(desk, pixels, meteorology, instead.transport), instead


def _chosen(desk: Desk, pixels: Recipe, meteorology: Recipe) -> Choice:
    """The model that moves the scene's particles, `auto` looked up, and why."""
    if desk.simulation.transport != AUTO:
        return Choice(desk.simulation.transport, "")
    path = desk.store.file(desk.folder(meteorology), aggregate.NAME)
    if not desk.store.exists(path):  # no reason to run what has run
        known = desk.record.results
        ran = (name for name in (NATIVE, REFERENCE) if _particles_of(desk, pixels, meteorology, name).name in known)
        return Choice(next(ran, REFERENCE), "its meteorology is not in the store any more")
    with desk.store.local(path) as file:
        return choose(file, desk.simulation)


def _particles_of(desk: Desk, pixels: Recipe, meteorology: Recipe, transport: str) -> Recipe:
    simulation = replace(desk.simulation, transport=transport)
    made_from = {
        **transport_named(transport).identity(simulation),
        **{name: value for name, value in asdict(simulation).items() if name != "device"},
        "receptors": desk.record.results[pixels.name]["digests"]["receptors"],
        "meteorology": meteorology.id,
        "keep": desk.settings.keep,
    }
    return Recipe("particles", made_from)


def particles_id(particles: Recipe) -> str:
    """The id of particles, whatever of them is kept."""
    return replace(particles, made_from={k: v for k, v in particles.made_from.items() if k != "keep"}).id


def kept_elsewhere(desk: Desk, particles: Recipe) -> list[str]:
    """Results that hold the same particles and at least as much of them as is to be kept, or as gridding needs."""
    enough = {"endpoints": ("core", "full"), "core": ("core", "full"), "full": ("full",)}[desk.settings.keep]
    return [
        name
        for name, entry in desk.record.results.items()
        if name.startswith(f"{particles.stage}-")
        and entry["made_from"]["keep"] in enough
        and entry["made_from"] | {"keep": ""} == dict(particles.made_from) | {"keep": ""}
    ]


def footprints_recipe(desk: Desk, pixels: Recipe, particles: Recipe) -> Recipe:
    """From the particles, whatever of them is kept, the kernels, the grid, and what grids them."""
    mover = transport_named(str(particles.made_from["transport"]))
    made_from = {
        "code": mover.gridding() if isinstance(mover, FusedTransport) else footprint.CODE,
        "pystilt": version("pystilt"),
        "particles": particles_id(particles),
        "kernels": desk.record.results[pixels.name]["digests"]["kernels"],
        "grid": asdict(desk.grid),
    }
    return Recipe("footprints", made_from)


def jacobian_recipe(desk: Desk, pixels: Recipe, footprints: Recipe) -> Recipe:
    """From pixels, footprints and their outcomes, and how H is written."""
    made_from = {
        "code": jacobian.CODE,
        "pixels": desk.record.results[pixels.name]["digests"].get("pixels", pixels.id)[:12],
        "footprints": footprints.id,
        "outcomes": desk.record.results[footprints.name]["digests"]["outcomes"],
        "aggregate": {name: block.resolution for name, block in desk.target.aggregate.items()},
        "keepbits": desk.settings.jacobian.keepbits,
    }
    return Recipe("jacobian", made_from)
