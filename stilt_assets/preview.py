"""
What would a scene, or many, cost now, and what would they bring?

Nothing is written, and only what would be done is counted: stages that have their result and packs that are whole cost
nothing. A scene whose pixels are not made yet is weighed by what its registration counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from stilt_assets import information
from stilt_assets.ahead import Sizes, Weather, made_weather, weather_ahead
from stilt_assets.arrays import opened_group, read_array
from stilt_assets.cost import CostModel, Work
from stilt_assets.counted import Pixels, has, pixels_of, ppm_per
from stilt_assets.errors import MeteorologyError
from stilt_assets.grid import Grid
from stilt_assets.guard import Left, left_to_run, standing_judgement
from stilt_assets.jacobian import NAME
from stilt_assets.meteorology.server import Remote
from stilt_assets.past import past_of
from stilt_assets.plan import guard_of
from stilt_assets.pod import Request, requests_of_scene
from stilt_assets.prices import Bill, bill_of
from stilt_assets.recipes import (
    Desk,
    jacobian_recipe,
    meteorology_recipe,
    pixels_recipe,
)
from stilt_assets.settings import Settings
from stilt_assets.shard import Footprints, to_do
from stilt_assets.status import state_of
from stilt_assets.store import Store
from stilt_assets.transport.auto import AUTO, REFERENCE
from stilt_assets.volume import Load, Volume


@dataclass(frozen=True)
class Experience:
    """What the scenes of a store have taught."""

    cost: CostModel
    volume: Volume
    sizes: Sizes
    strength: float | None  # of footprints, as `information` has it

    @classmethod
    def of(cls, store: Store) -> "Experience":
        """From some scenes that have run."""
        past = past_of(store)
        return cls(CostModel.of(past.samples), Volume.of(past.records), Sizes.of(past.records), past.strength)


@dataclass(frozen=True)
class Todo:
    """What of a scene would be done now."""

    stages: Sequence[str]  # whose result would be made
    packs: int  # of the scene
    packs_left: int
    followed: int  # pixels by the transport model
    gridded: int  # pixels from particles that are kept
    transport: str  # the model; the dearer one if it is still to be chosen
    guard: Left  # of what runs once more

    @property
    def pixels(self) -> int:
        """Pixels that would run."""
        return self.followed + self.gridded


@dataclass(frozen=True)
class Preview:
    """What a scene would cost and bring."""

    scene: str
    state: str
    stages: Sequence[str]  # that would be made
    pixels: int
    dropped: Mapping[str, int]
    to_follow: int  # pixels by the transport model
    to_grid: int  # pixels whose kept particles are only gridded
    to_guard: Mapping[str, int]  # pixels that run once more for the guard, by the model that moves them
    packs: int
    packs_left: int
    cpu_hours: float
    between: tuple[float, float] | None  # CPU hours, 90 %; None if it cannot be told
    gigabytes: float  # 1e9 bytes to be written
    objects: int  # to be written and kept
    requests: int  # that write: objects, and each pixel that waits for its pack
    weather: Weather
    gigabytes_in: float  # of meteorology to download
    bill: Bill
    dofs: float | None
    cost_told: str  # where the CPU hours come from
    pods: Mapping[str, Request]  # what each step would ask a node for, on a cluster
    expected: Mapping[str, float] | None = field(default=None, repr=False)  # of the whole scene, if all of it would run

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "expected"}


def preview_of(
    desk: Desk,
    known: Experience | None = None,
    asked: dict[str, Remote | None] | None = None,
    *,
    retry_failed: bool = False,
) -> Preview:
    """
    What a scene would cost now. No server is asked for meteorology without `asked`, which keeps what they say.

    RetrievalError if the pixels are neither made nor counted and their file cannot be read.
    """
    known = known or Experience.of(desk.store)
    pixels = pixels_of(desk)
    todo, weather = _todo(desk, pixels, known, asked, retry_failed)
    seconds, between, told = _seconds(desk, todo, weather, known.cost)
    hours = sum(seconds.values()) / 3600
    size, objects = _written(desk, pixels.number, todo, weather, known.volume)
    coming = sum(weather.to_download.values()) / 1e9
    requests = objects + todo.pixels
    return Preview(
        scene=desk.record.key,
        state=state_of(desk.record),
        stages=todo.stages,
        pixels=pixels.number,
        dropped=pixels.dropped,
        to_follow=todo.followed,
        to_grid=todo.gridded,
        to_guard=todo.guard.followed,
        packs=todo.packs,
        packs_left=todo.packs_left,
        cpu_hours=hours,
        between=between,
        gigabytes=size / 1e9,
        objects=objects,
        requests=requests,
        weather=weather,
        gigabytes_in=coming,
        bill=bill_of(desk.settings.prices, hours, size / 1e9, requests, coming),
        dofs=_dofs(desk, pixels, known),
        cost_told=told,
        pods=requests_of_scene(desk, weather.size),
        expected={"seconds": round(seconds["pixels"], 1)} if pixels.number and todo.pixels == pixels.number else None,
    )


def _seconds(
    desk: Desk, todo: Todo, weather: Weather, cost: CostModel
) -> tuple[dict[str, float], tuple[float, float] | None, str]:
    """Seconds of workers, between which CPU hours lie, and where they come from: what is said of the dearest part."""
    chosen = desk.simulation
    work = Work(todo.transport, chosen.particles, chosen.hours_back, weather.hours, weather.size / 1e9, weather.levels)
    pixels = [(work, todo.followed), (replace(work, kept=True), todo.gridded)]
    guarded = [(replace(work, transport=model), count) for model, count in todo.guard.followed.items()]
    guarded.append((replace(work, kept=True), todo.guard.gridded))
    seconds = {
        part: sum(count * cost.seconds(each) for each, count in works)
        for part, works in (("pixels", pixels), ("guard", guarded))
    }
    kind = max((*pixels, *guarded), key=lambda part: part[1] * cost.seconds(part[0]))[0].kind
    hours, error = sum(seconds.values()) / 3600, cost.error(kind)
    return seconds, (error.low * hours, error.high * hours) if error else None, cost.told(kind)


# ---- what would be done


def _todo(
    desk: Desk, pixels: Pixels, known: Experience, asked: dict[str, Remote | None] | None, retry_failed: bool
) -> tuple[Todo, Weather]:
    made = _made(desk, pixels.number)
    if made is None:
        recipe = pixels_recipe(desk)
        stages = ["meteorology"] if has(desk, recipe) else ["pixels", "meteorology"]
        packs = -(-pixels.number // desk.settings.packs.pixels)
        model = REFERENCE if desk.simulation.transport == AUTO else desk.simulation.transport
        guard = guard_of(desk, model)
        twice = Left(dict.fromkeys((guard.reference, model), guard.count(pixels.number)) if guard else {}, 0)
        todo = Todo([*stages, "particles", "footprints", "jacobian"], packs, packs, pixels.number, 0, model, twice)
        return todo, weather_ahead(desk, pixels.need, known.sizes, asked)
    packs = made.cut()
    left, again = to_do(made, packs, retry_failed=retry_failed)
    waiting = (made.packs.left({number: packs[number].tolist() for number in left}) if left else {}) | again
    kept = made.packs.keepers(waiting) if waiting else {}
    gridded = sum(len(pixels) for number, pixels in waiting.items() if number in kept)
    followed = sum(map(len, waiting.values())) - gridded
    if waiting or "summary" not in made.entry:
        stages = [*(["particles"] if followed else []), "footprints", "jacobian"]
    else:
        stages = [] if has(desk, jacobian_recipe(desk, made.pixels, made.recipe)) else ["jacobian"]
    weather = made_weather(desk.record.results[made.meteorology.name]["summary"])
    model = made.mover.transport
    files = desk.settings.packs.files
    twice = left_to_run(made.guard, model, made.packs, pixels.number, files) if made.guard else Left({}, 0)
    return Todo(stages, len(packs), len(waiting), followed, gridded, model, twice), weather


def _made(desk: Desk, pixels: int) -> Footprints | None:
    """The footprints that would be made or are there; None as long as pixels or meteorology are not made."""
    recipe = pixels_recipe(desk)
    if not has(desk, recipe):
        return None
    try:
        meteorology = meteorology_recipe(desk, recipe)[0]
    except MeteorologyError:  # told where the meteorology is looked up
        return None
    if not has(desk, meteorology):
        return None
    return _believed(Footprints.over(desk, recipe, meteorology), pixels)


def _believed(made: Footprints, pixels: int) -> Footprints:
    """The footprints, or those of the model that is trusted if the guard disagrees already and they would be made."""
    desk, guard = made.desk, made.guard
    judgement = standing_judgement(guard, made.packs, pixels) if guard and desk.runs_again_in_doubt else None
    if guard is None or judgement is None or not judgement.disagrees:
        return made
    record = replace(desk.record, distrusted=desk.record.distrusted | {guard.particles: judgement.line})
    return Footprints.over(replace(desk, record=record), made.pixels, made.meteorology)


def _written(desk: Desk, pixels: int, todo: Todo, weather: Weather, volume: Volume) -> tuple[float, int]:
    """Bytes and objects of the stages that would be made; of particles and footprints those of packs that run."""
    load = Load(
        pixels,
        todo.packs,
        desk.simulation.particles,
        desk.simulation.hours_back,
        desk.settings.keep,
        desk.grid.nlat * desk.grid.nlon,
        len(desk.target.aggregate),
    )
    part = replace(load, packs=todo.packs_left, pixels=round(pixels * todo.packs_left / max(todo.packs, 1)))
    size, objects = 0.0, 0
    for stage in todo.stages:
        of = part if stage in ("particles", "footprints") else load
        size += weather.size if stage == "meteorology" else volume.bytes(stage, of)
        objects += volume.objects(stage, of)
    return size, objects


# ---- information


def prior_of(settings: Settings, units: str) -> information.Prior:
    """The prior that the expected information is told for."""
    chosen = settings.information
    return information.Prior(chosen.flux_error or (0.05 if units == "ppb" else 5.0), chosen.correlation)


def _dofs(desk: Desk, pixels: Pixels, known: Experience) -> float | None:
    if pixels.soundings is None:
        return None
    prior, chosen = prior_of(desk.settings, pixels.units), desk.settings
    strength = 1.0 if known.strength is None else known.strength
    return information.expected(
        pixels.soundings, desk.grid, chosen.simulation.hours_back, prior, chosen.information.wind, strength
    )


def information_of(desk: Desk) -> float | None:
    """Degrees of freedom for signal of a scene's Jacobian; None without one, or without the pixels' errors."""
    made = desk.record.result_of("jacobian")
    if made is None:
        return None
    path = desk.store.file(desk.store.result(desk.record.key, desk.record.current["jacobian"]), NAME)
    grid = Grid(**desk.record.results[f"footprints-{made['made_from']['footprints']}"]["made_from"]["grid"])
    units = str(opened_group(path)["obs/uncertainty"].attrs["units"])
    error = read_array(path, "obs/uncertainty") * ppm_per(units)
    if not (np.isfinite(error) & (error > 0)).all():
        return None
    return information.found(path, grid, error, prior_of(desk.settings, units))
