"""
Where is the decoded meteorology of an aggregate, and who makes it?

One file beside the aggregate, named by the sha256s of the aggregate and of the sources that decode: one process makes
it, whole or not at all, while others wait; all map the same memory, which they cannot write. Its name begins with a
dot, as it is no part of the result that the aggregate is: it is gone with its last user.
"""

import fcntl
import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
import pandas as pd

from stilt_assets import scratch
from stilt_assets.errors import MeteorologyError
from stilt_assets.transport.native.decode import cells_per_minute, fill
from stilt_assets.transport.native.fields import TERRAIN, fields_of
from stilt_assets.transport.native.geometry import projection_of
from stilt_assets.transport.native.layout import LEAST_MIXED_LAYER, LEVELS, TURBULENCE, WIND, Decoded

CODE = "2"  # of what is decoded
_SOURCES = ("column", "decode", "decoded", "fields", "geometry", "layout", "stability")
_PAGE = 4096


def decoded_in_memory(path: Path, least: float = LEAST_MIXED_LAYER) -> Decoded:
    """The decoded meteorology of an ARL file, in memory of this process."""
    with arlmet.File(path) as file:
        arrays = {name: np.zeros(shape, kind) for name, (shape, kind) in _shapes(file).items()}
        return _decode(file, arrays, least)


@contextmanager
def prepared(aggregate: Path) -> Iterator[None]:
    """Decoded meteorology for the block: made if it is not there, and gone with the last block of this machine."""
    place = _place(aggregate)
    try:
        with _shared(place, aggregate):
            yield
    finally:
        scratch.drop(place)


def opened(aggregate: Path) -> Decoded:
    """The decoded meteorology of an aggregate, mapped; made if it is not there."""
    place = _place(aggregate)
    with _shared(place, aggregate):
        return _mapped(place)


def _place(aggregate: Path) -> Path:
    with aggregate.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return aggregate.with_name(f".{aggregate.name}.{digest}.decoded-{_digest_of_sources()}")


@cache
def _digest_of_sources() -> str:
    sources = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _SOURCES)
    return hashlib.sha256(sources + version("arlmet").encode()).hexdigest()[:12]


@contextmanager
def _shared(place: Path, aggregate: Path) -> Iterator[None]:
    lock = scratch.lock_of(place)
    while True:
        with scratch.held(lock, fcntl.LOCK_SH):
            if place.exists():
                yield
                return
        with scratch.held(lock, fcntl.LOCK_EX):
            if not place.exists():
                _make(place, aggregate)


def _make(place: Path, aggregate: Path) -> None:
    """Write the decoded file of an aggregate beside its place, and rename it."""
    part = place.with_name(f"{place.name}.part")
    with arlmet.File(aggregate) as file:
        shapes = _shapes(file)
        starts, size = {}, _PAGE
        for name, (shape, kind) in shapes.items():
            starts[name] = size
            size += -(-int(np.prod(shape)) * np.dtype(kind).itemsize // _PAGE) * _PAGE
        scratch.needs_room(place.parent, size, "decoded meteorology")
        with part.open("wb+") as out:
            out.truncate(size)
            # Not closed here: a first compilation, or a traceback, may still hold its arrays.
            memory = mmap.mmap(out.fileno(), size)
        decoded = _decode(file, _arrays(memory, shapes, starts), LEAST_MIXED_LAYER)
    head = {name: getattr(decoded, name) for name in ("first", "spacing", "projection")}
    content = json.dumps(head | {"starts": starts, "shapes": shapes}).encode()
    memory[: len(content)] = content
    part.replace(place)


def _mapped(place: Path) -> Decoded:
    with place.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    head = json.loads(memory[:_PAGE].rstrip(b"\0"))
    arrays = _arrays(memory, head["shapes"], head["starts"])
    return Decoded(**arrays, first=head["first"], spacing=head["spacing"], projection=tuple(head["projection"]))


def _arrays(memory: mmap.mmap, shapes: Mapping[str, Any], starts: Mapping[str, int]) -> dict[str, Any]:
    return {
        name: np.frombuffer(memory, kind, int(np.prod(shape)), starts[name]).reshape(shape)
        for name, (shape, kind) in shapes.items()
    }


def _shapes(file: arlmet.File) -> dict[str, tuple[tuple[int, ...], str]]:
    box = (len(file.times), file.grid.ny, file.grid.nx)
    return {
        "wind": ((*box, LEVELS, len(WIND)), "f4"),
        "pressure": ((*box, LEVELS), "f4"),
        "turbulence": ((*box, LEVELS + 1, len(TURBULENCE)), "f4"),
        "extra": (box, "i1"),
        "mixed_layer": (box, "f4"),
        "terrain": (box[1:], "f4"),
        "reached": (box[:1], "i1"),
    }


def _decode(file: arlmet.File, arrays: dict[str, Any], least: float) -> Decoded:
    """Fill the arrays, hour by hour."""
    minutes = [round((time - pd.Timestamp(0)).total_seconds() / 60) for time in file.times]
    steps = set(np.diff(minutes).tolist())
    if len(steps) != 1:
        raise MeteorologyError(f"{file.path.name} has times that are not equally spaced: {sorted(steps)} minutes apart")
    cells = cells_per_minute(file.grid)
    for number, time in enumerate(file.times):
        fields = fields_of(file[time])
        if number == 0:
            arrays["terrain"][:] = fields.ground[TERRAIN]
        changing = (arrays[name][number] for name in ("wind", "pressure", "turbulence", "extra", "mixed_layer"))
        arrays["reached"][number] = fill(fields, cells, least, *changing)
    return Decoded(**arrays, first=minutes[0], spacing=steps.pop(), projection=projection_of(file.grid))
