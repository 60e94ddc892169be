"""
How is a scene's work cut, and how is what it made kept?

A pack is up to 256 pixels that lie near each other: the unit of work and of files. What finished pixels made lies
aside until the last one has its outcome; then the pack's files appear.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stilt_assets.footprint import CORE, FULL, STEPS, UNITS
from stilt_assets.simulation import TRANSIENT, Outcome, Status
from stilt_assets.store import Store

Arrays = dict[str, np.ndarray]
_HOURS_PER_GROUP = 6

# ---- cutting


def cut(longitude: Sequence[float], latitude: Sequence[float], at_most: int) -> list[np.ndarray]:
    """
    Packs of neighbours: sorted pixel numbers, each pixel in exactly one pack, sizes that differ by one at most.

    The scene is halved across its longer side until the parts are packs; longitudes are taken the short way round.
    """
    count = len(longitude)
    if count == 0:
        return []
    lat = np.asarray(latitude, dtype=float)
    middle = np.exp(1j * np.radians(np.asarray(longitude, dtype=float))).mean()
    lon = (np.asarray(longitude, dtype=float) - np.degrees(np.angle(middle)) + 180.0) % 360.0 - 180.0
    places = np.stack([lon * np.cos(np.radians(lat.mean())), lat])
    packs: list[np.ndarray] = []
    _halve(places, np.arange(count), -(-count // at_most), packs)
    return packs


def _halve(places: np.ndarray, members: np.ndarray, parts: int, packs: list[np.ndarray]) -> None:
    if parts == 1:
        packs.append(np.sort(members))
        return
    here = places[:, members]
    longer = int(np.ptp(here[1]) > np.ptp(here[0]))
    ordered = members[np.lexsort((members, here[1 - longer], here[longer]))]
    left = parts // 2
    small, larger = divmod(len(members), parts)
    border = left * small + min(left, larger)
    _halve(places, ordered[:border], left, packs)
    _halve(places, ordered[border:], parts - left, packs)


# ---- the form of the files


def _schema(kinds: Mapping[str, str], **units: str) -> pa.Schema:
    arrow = {"i1": pa.int8(), "i2": pa.int16(), "i4": pa.int32(), "f4": pa.float32(), "f8": pa.float64()}
    known = {"lon": "degrees_east", "lat": "degrees_north", "zagl": "m", "pressure": "hPa", "age": "min", "foot": UNITS}
    fields = []
    for name, kind in kinds.items():
        unit = (known | units).get(name)
        facts = {"units": unit} if unit else {}
        facts |= {"scale_factor": repr(1 / STEPS[name])} if STEPS.get(name, 1) != 1 else {}
        fields.append(pa.field(name, arrow[kind], nullable=False, metadata=facts or None))
    return pa.schema(fields)


CELLS = _schema({"row": "i4", "hour": "i1", "y": "i2", "x": "i2", "foot": "f4"})
TRAJECTORIES = {keep: _schema({"pixel": "i4"} | kinds) for keep, kinds in (("core", CORE), ("full", FULL))}
ENDPOINTS = _schema(
    {"pixel": "i4"}
    | {name: CORE[name] for name in ("particle", "age", "lon", "lat", "zagl", "pressure")}
    | dict.fromkeys(("release_height", "release_pressure", "weight", "surface_pressure"), "f8"),
    release_height="m",
    release_pressure="hPa",
    surface_pressure="hPa",
)
OUTCOMES = pa.schema(
    [
        ("pixel", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("attempts", pa.int16()),
        ("seconds", pa.float32()),
        ("particles", pa.int32()),
        ("seed", pa.int64()),
        ("row_sum", pa.float64()),
        ("mc_error", pa.float64()),
        ("left_domain", pa.float64()),
        ("pressure_difference", pa.float64()),
    ]
)


class _Parquet:
    """A parquet file in memory, written a pixel at a time."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.content = io.BytesIO()
        encodings = {
            item.name: "BYTE_STREAM_SPLIT" if pa.types.is_floating(item.type) else "DELTA_BINARY_PACKED"
            for item in schema
        }
        self.writer = pq.ParquetWriter(
            self.content,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=False,
            column_encoding=encodings,
        )

    def add(self, pixel: int, columns: Arrays, rows: slice | np.ndarray = slice(None)) -> None:
        """Append rows of one pixel as a row group."""
        arrays = [pa.array(columns[name][rows]) for name in self.schema.names[1:]]
        first = pa.array(np.full(len(arrays[0]), pixel, "i4"), self.schema.field(0).type)
        self.writer.write_table(pa.Table.from_arrays([first, *arrays], schema=self.schema))

    def bytes(self) -> bytes:
        """The whole file."""
        self.writer.close()
        return self.content.getvalue()


# ---- the files


@dataclass(frozen=True)
class Packs:
    """Where the packs of a scene keep what they made."""

    store: Store
    particles: str  # folder in the store
    footprints: str  # folder in the store
    keep: str  # full, core or endpoints
    kept_from: Sequence[str] = ()  # folders of the same particles, cut into the same packs

    @property
    def keeps_trajectories(self) -> bool:
        """Whether particles are kept for every minute."""
        return self.keep != "endpoints"

    def _place(self, pixel: int) -> str:
        return self.store.unfinished(self.footprints, f"pixel={pixel:07d}.npz")

    def put_aside(self, outcome: Outcome, made: Mapping[str, Arrays]) -> None:
        """Keep what a pixel made until its pack is whole."""
        arrays = {f"{table}.{name}": values for table, columns in made.items() for name, values in columns.items()}
        content = io.BytesIO()
        np.savez(content, outcome=np.array(json.dumps(asdict(outcome))), **arrays)  # pyright: ignore[reportArgumentType]
        self.store.write(self._place(outcome.pixel), content.getvalue())

    def _pick_up(self, pixel: int) -> tuple[dict[str, Any], dict[str, Arrays]]:
        with np.load(io.BytesIO(self.store.read(self._place(pixel)))) as content:
            outcome = json.loads(str(content["outcome"]))
            made: dict[str, Arrays] = {}
            for name in content.files:
                table, _, column = name.partition(".")
                if column:
                    made.setdefault(table, {})[column] = content[name]
        return outcome | {"status": Status(outcome["status"]).name}, made

    def finished_pixels(self) -> set[int]:
        """Pixels of packs that are not yet whole which need not run again."""
        names = self.store.names(self.store.unfinished(self.footprints))
        return {int(name.removeprefix("pixel=").removesuffix(".npz")) for name in names if name.startswith("pixel=")}

    def finish(self, number: int, pixels: Sequence[int]) -> None:
        """Write the files of a pack whose pixels all have an outcome; the outcomes last: they say that it is whole."""
        if self.is_whole(number):
            return
        store = self.store
        cells, ends = _Parquet(CELLS), _Parquet(ENDPOINTS)
        tracks = _Parquet(TRAJECTORIES[self.keep]) if self.keeps_trajectories else None
        outcomes = []
        for pixel in pixels:
            outcome, made = self._pick_up(pixel)
            outcomes.append(outcome)
            if not made:
                continue
            cells.add(pixel, made["cells"])
            ends.add(pixel, made["endpoints"])
            if tracks:
                group = (-made["trajectories"]["age"].astype(int) - 1) // 60 // _HOURS_PER_GROUP
                for each in np.unique(group):
                    tracks.add(pixel, made["trajectories"], np.flatnonzero(group == each))
        if tracks:
            store.write(store.pack(self.particles, number, "trajectories"), tracks.bytes())
        store.write(store.pack(self.particles, number, "endpoints"), ends.bytes())
        store.write(store.pack(self.footprints, number), cells.bytes())
        table = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(outcomes, schema=OUTCOMES), table, compression="zstd")
        store.write(store.pack(self.footprints, number, "outcomes"), table.getvalue())
        for pixel in pixels:
            store.remove(self._place(pixel))

    def is_whole(self, number: int) -> bool:
        """Whether a pack has all its files."""
        store = self.store
        needed = [store.pack(self.footprints, number, "outcomes"), store.pack(self.particles, number, "endpoints")]
        if self.keeps_trajectories:
            needed.append(store.pack(self.particles, number, "trajectories"))
        return all(store.exists(path) for path in needed)

    def kept_particles(self, number: int, pixel: int) -> tuple[Arrays, Arrays] | None:
        """A pixel's particles and releases from an earlier run, if the same ones were kept."""
        for folder in (self.particles, *self.kept_from):
            paths = [self.store.pack(folder, number, kind) for kind in ("trajectories", "endpoints")]
            if not all(self.store.exists(path) for path in paths):
                continue
            kept, ends = (self._rows_of(path, pixel) for path in paths)
            if len(kept["age"]):
                names = ("particle", "release_height", "release_pressure", "weight", "surface_pressure")
                return kept, {name: ends[name] for name in names}
        return None

    def _rows_of(self, path: str, pixel: int, by: str = "pixel") -> Arrays:
        table = self.store.table(path, where=(by, "==", pixel))
        return {name: table[name].to_numpy() for name in table.column_names if name != by}

    def lost_for_now(self, number: int) -> set[int]:
        """Pixels of a whole pack that failed for a reason which may not hold another time."""
        table = self.store.table(self.store.pack(self.footprints, number, "outcomes"), ["pixel", "reason"])
        return {row["pixel"] for row in table.to_pylist() if row["reason"] in TRANSIENT}

    def reopen(self, number: int, again: set[int]) -> None:
        """Take a whole pack apart, so that the pixels `again` run once more and all others do not."""
        store = self.store
        outcomes = store.pack(self.footprints, number, "outcomes")
        kinds = ("endpoints", "trajectories") if self.keeps_trajectories else ("endpoints",)
        for row in store.table(outcomes).to_pylist():
            pixel = row["pixel"]
            if pixel in again:
                continue
            outcome = Outcome(**row | {"status": Status[row["status"]]})
            made: dict[str, Arrays] = {}
            if outcome.status is not Status.failed:
                made = {kind: self._rows_of(store.pack(self.particles, number, kind), pixel) for kind in kinds}
                made["cells"] = self._rows_of(store.pack(self.footprints, number), pixel, by="row")
            self.put_aside(outcome, made)
        store.remove(outcomes)


def read_outcomes(store: Store, footprints: str) -> list[dict[str, Any]]:
    """Outcomes of all whole packs, as plain rows, in the order of their pixels."""
    rows = (row for path in store.packs(footprints, "outcomes") for row in store.table(path).to_pylist())
    return sorted(rows, key=lambda row: row["pixel"])


def summary_of(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and sums of outcomes: JSON values."""
    by_status = {status.name: sum(row["status"] == status.name for row in outcomes) for status in Status if status}
    reasons = sorted({row["reason"] for row in outcomes if row["reason"]})
    return {
        "pixels": len(outcomes),
        **by_status,
        "reasons": {reason: sum(row["reason"] == reason for row in outcomes) for reason in reasons},
        "particles": sum(row["particles"] for row in outcomes),
        "seconds": round(math.fsum(row["seconds"] for row in outcomes), 1),
    }
