"""
What does a pod of a scene ask of its node?

Cores, memory and local disk of each step, from what the scene is: particles, hours, pixels per pack, workers, and the
size of its meteorology. Nothing here knows who starts a pod; `resources` is as Kubernetes writes it.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace

from stilt_assets import scratch
from stilt_assets.errors import OverBudgetError
from stilt_assets.recipes import Desk
from stilt_assets.settings.cluster import NodeSettings
from stilt_assets.simulation import FusedTransport, Simulation
from stilt_assets.transport import transport_named
from stilt_assets.transport.auto import AUTO, REFERENCE
from stilt_assets.volume import PER_CELL_KEPT, Load, Volume

MIB = 2**20
# Peaks, measured as proportional set sizes: Python 3.11, HRRR of 20 levels, 200 and 1,000 particles, 2 and 3 hours.
_PROCESS = 450 * MIB  # this package, Dagster and its libraries of a cluster in one process
_SERVERS = 200 * MIB  # what workers are forked from, and who watches them
_WORKER = 110 * MIB  # a worker that holds no particles
_PER_ROW = 1000  # bytes of a worker per particle and minute of one pixel, while it reads and corrects them
_HYCS_STD = 104 * MIB  # what hycs_std v5.1.0 touches: 82 of its 314 MiB of static arrays, and what it allocates
_SPARE = 1.25  # times what is expected: packs that are whole at once, a heap in pieces
# From the layout of decoded meteorology: 30 levels of 5 numbers, 31 of 2, 4 bytes each, and 5 more.
_DECODED = 853  # bytes of a column and hour
_PER_COLUMN = 8.7  # bytes of an ARL file per column, hour and level; 175 at 20 levels of HRRR
_LEVELS = 20  # of an aggregate, as long as nobody knows
_LOGS = 256 * MIB  # of local disk: logs, caches of compiled code
_READ = 4  # times that a retrieval file is larger in memory: its bytes, and arrays of 8-byte numbers
_ENTRY = 64  # bytes of an entry of H while a pack of them is sorted into rows
_SHARD_OF_H = 400 * MIB  # of H that is rounded and packed at a time, and its copies
_FILES = 4  # times that an archive's files are larger than what is cut out of them
_NO_AGGREGATE = 1e9  # bytes of meteorology, as long as nobody knows


@dataclass(frozen=True)
class Request:
    """What a pod asks of its node."""

    cpu: float  # cores
    memory: int  # bytes
    scratch: int  # bytes of local disk

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """
        As a container of Kubernetes states it.

        Memory is a limit too, so that a pod is killed for its own need and for nobody else's; so is twice the local
        disk. Cores are none: who finds idle ones may use them.
        """
        memory, disk = _mebibytes(self.memory), _mebibytes(self.scratch)
        return {
            "requests": {"cpu": f"{math.ceil(self.cpu * 1000)}m", "memory": memory, "ephemeral-storage": disk},
            "limits": {"memory": memory, "ephemeral-storage": _mebibytes(2 * self.scratch)},
        }

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.cpu:g} cores, {self.memory / 2**30:.3g} GiB memory, {self.scratch / 2**30:.3g} GiB scratch"


@dataclass(frozen=True)
class Burden:
    """What a scene's pods carry."""

    particles: int = 1000
    hours_back: int = 24
    workers: int = 4  # processes of a pod
    pack: int = 256  # pixels
    packs: int = 40
    keep: str = "core"
    fused: bool = False  # the transport grids particles while it moves them, over decoded meteorology
    aggregate: float = _NO_AGGREGATE  # bytes of meteorology
    columns: float = _NO_AGGREGATE / (_PER_COLUMN * _LEVELS)  # of meteorology, times hours
    files: float = 2 * _NO_AGGREGATE  # bytes of meteorology that it is cut from, if they must be fetched
    retrieval: float = 5e8  # bytes of its file
    cells: int = 40_000  # of the grid
    blocks: int = 1_000  # of all coarser copies of H
    entries: float | None = None  # of H; None if nobody knows
    per_pixel: int | None = None  # bytes that a worker and its program may hold; no limit if None
    attempts: int = 3  # of a pixel, the last ones alone and with twice the memory
    copied: bool = True  # the aggregate is copied to the pod's own disk: the store is a bucket, no folder is shared

    @property
    def rows(self) -> int:
        """Particles times minutes of a pixel."""
        return self.particles * self.hours_back * 60


def requests_for(burden: Burden) -> dict[str, Request]:
    """What each step's pod asks for, and `run`, the pod that starts the others."""
    light = _request(1, _PROCESS + _SERVERS, 0)
    shard, by_reference = _of_a_shard(burden), _of_a_shard(replace(burden, fused=False))
    trusted = Request(*(max(pair) for pair in zip(astuple(shard), astuple(by_reference), strict=True)))
    return {
        "run": _request(0.5, _PROCESS + _SERVERS, 0),
        "pixels": _request(1, _PROCESS + _SERVERS + _READ * burden.retrieval, burden.retrieval),
        "meteorology": _of_meteorology(burden),
        "widen": _of_meteorology(burden),
        "plan": light,
        "close": light,
        "check": light,
        "run_shard": shard,
        "guard": trusted,
        "run_shard_wider": shard,
        "run_shard_trusted": trusted,
        "jacobian": _of_jacobian(burden),
    }


def _of_a_shard(burden: Burden) -> Request:
    """
    Workers side by side, one of which writes a pack's files, beside the page cache of one copy of the meteorology.

    Every run of hycs_std reads the whole aggregate: without that cache it comes from the disk for each pixel.
    """
    pixel = _WORKER + (0 if burden.fused else max(_HYCS_STD, _PER_ROW * burden.rows))
    at_once = burden.workers * (burden.per_pixel or pixel)
    alone = (burden.per_pixel or 0) * 2 ** (burden.attempts - 1)
    load = Load(burden.pack, 1, burden.particles, burden.hours_back, burden.keep, burden.cells, 0)
    files = 2 * sum(Volume().bytes(stage, load) for stage in ("particles", "footprints"))
    shared = burden.aggregate + (_DECODED * burden.columns if burden.fused else 0)
    memory = _PROCESS + _SERVERS + max(at_once, alone) + files
    moved = Simulation(REFERENCE, burden.hours_back, burden.particles, 0)
    written = 0 if burden.fused else burden.workers * transport_named(REFERENCE).scratch_needed(moved)
    return Request(burden.workers, round(_SPARE * memory + shared), _disk(written, shared if burden.copied else 0))


def _of_meteorology(burden: Burden) -> Request:
    """Files are fetched, read hour by hour and written twice: whole hours first, then what is kept of them."""
    return _request(1, _PROCESS + _SERVERS + burden.aggregate, burden.files + 2 * burden.aggregate)


def _of_jacobian(burden: Burden) -> Request:
    """H lies on the local disk while it is made; packs are sorted and coarser copies written some rows at a time."""
    pixels = burden.pack * burden.packs
    load = Load(pixels, burden.packs, burden.particles, burden.hours_back, burden.keep, burden.cells, 0)
    hours = burden.hours_back + 1
    rows = 256 * hours * burden.blocks * 12 + pixels * hours * 16
    entries = load.seen if burden.entries is None else burden.entries
    memory = _PROCESS + _SERVERS + _SHARD_OF_H + _ENTRY * entries / burden.packs + rows
    return _request(1, memory, (8 + Volume().bytes("jacobian", load) / load.seen) * entries)


def _request(cpu: float, memory: float, disk: float) -> Request:
    return Request(cpu, round(_SPARE * memory), _disk(disk))


def _disk(*parts: float) -> int:
    return round(_SPARE * sum(parts)) + _LOGS


def _mebibytes(size: float) -> str:
    return f"{math.ceil(size / MIB)}Mi"


TYPICAL: Mapping[str, Request] = requests_for(Burden())  # before anything is known of a scene


# ---- of one scene


def requests_of_scene(desk: Desk, aggregate: float | None = None) -> dict[str, Request]:
    """What each step of a scene asks for, as far as its record tells; `aggregate` as in `burden_of`."""
    return requests_for(burden_of(desk, aggregate))


def burden_of(desk: Desk, aggregate: float | None = None) -> Burden:
    """
    What a scene's pods carry, as its record tells it.

    Before its meteorology is made, `aggregate` is its size in bytes as somebody expects it; 1 GB if nobody does.
    """
    given, moved, grid = desk.settings.packs, desk.simulation, desk.grid
    made = {stage: desk.record.result_of(stage) or {} for stage in ("pixels", "meteorology", "footprints")}
    summaries = {stage: entry.get("summary", {}) for stage, entry in made.items()}
    weather = summaries["meteorology"]
    size = weather.get("bytes") or aggregate or _NO_AGGREGATE
    columns = math.prod((*weather["cells"], weather["hours"])) if weather else size / (_PER_COLUMN * _LEVELS)
    pixels = max(summaries["pixels"].get("pixels", given.pixels * Burden.packs), 1)
    cells = summaries["footprints"].get("bytes")
    blocks = [grid.coarsened(each.resolution) for each in desk.target.aggregate.values()]
    return Burden(
        particles=moved.particles,
        hours_back=moved.hours_back,
        workers=given.workers or Burden.workers,
        pack=min(given.pixels, pixels),
        packs=-(-pixels // given.pixels),
        keep=desk.settings.keep,
        fused=moved.transport != AUTO and isinstance(transport_named(moved.transport), FusedTransport),
        aggregate=size,
        columns=columns,
        files=0 if desk.settings.meteorology.is_one_folder else _FILES * size,
        retrieval=desk.record.retrieval.get("size", 0),
        cells=grid.nlat * grid.nlon,
        blocks=sum(each.nlat * each.nlon for each in blocks),
        entries=cells and cells / PER_CELL_KEPT,
        per_pixel=given.memory and given.memory * MIB,
        attempts=given.attempts,
        copied=not (desk.store.is_local or os.environ.get(scratch.SHARED_VARIABLE)),
    )


def minutes_of(desk: Desk, packs: int) -> float | None:
    """Minutes that so many packs of a scene take in one pod, as its plan expected them; None if it did not."""
    entry = desk.record.results.get(desk.record.under_way, {})
    if "expected" not in entry:
        return None
    burden = burden_of(desk)
    return entry["expected"]["seconds"] / 60 * packs / burden.packs / burden.workers


def see_that_they_fit(key: str, requests: Mapping[str, Request], node: NodeSettings | None) -> None:
    """OverBudgetError if a step of the scene `key` asks for more than a node has, if anybody says what it has."""
    if node is None:
        return
    for step, request in requests.items():
        for name, most, asked, unit in (
            ("cores", node.cores, request.cpu, ""),
            ("memory", node.memory, request.memory / 2**30, " GiB"),
            ("scratch", node.scratch, request.scratch / 2**30, " GiB"),
        ):
            if asked > most:
                raise OverBudgetError(
                    f"the pod of {step} of {key} asks for {asked:.3g}{unit} of {name}, cluster.node has {most:g}: "
                    "lower packs.workers, packs.pixels or simulation.particles, or take larger nodes"
                )
