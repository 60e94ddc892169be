"""
How does a PYSTILT project get its particles from `native`?

A batched transport model as PYSTILT knows them: many receptors in one call, over meteorology that PYSTILT finds and
that is decoded once for those whose hours overlap. PYSTILT itself adds release heights and the near-field correction,
and makes footprints.
"""

import datetime as dt
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from pydantic import Field, create_model, model_validator
from stilt.exceptions import SimulationError
from stilt.receptors import ColumnReceptor, MultiPointReceptor, PointReceptor, Receptor
from stilt.transport import ModelRun, TransportConfig
from stilt.transport.hysplit import HysplitConfig, MetConfig
from stilt.transport.hysplit.met import Met as MetFiles

from stilt_assets import scratch
from stilt_assets.errors import StiltAssetsError, TransportError
from stilt_assets.scene import digest
from stilt_assets.simulation import Simulation
from stilt_assets.transport.native import decoded
from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.coverage import covers
from stilt_assets.transport.native.draws import slab_height
from stilt_assets.transport.native.engine import Flight, Met, fly_minute, new_flight, start
from stilt_assets.transport.native.flight import Air, air_of, needs_air_up_to
from stilt_assets.transport.native.model import Native

WAY_OUT, NOT_COVERED = "set `model: hysplit`", "NOT_COVERED"
COLUMNS = ("lon", "lat", "zagl", "foot", "pres", "dens", "samt", "mlht", "sigw", "tlgr")
_SEEDS = 2**63
_MOST_SHARED = 3  # times the files of one receptor that are decoded at once: years of receptors may overlap
Places = list[tuple[float, float, float]]  # longitude and latitude, degrees, and m above ground, of each particle


_OF_EVERY_MODEL = {*TransportConfig.model_fields, "numpar"}
_OF_HYSPLIT = {name: field for name, field in HysplitConfig.model_fields.items() if name not in _OF_EVERY_MODEL}
# PYSTILT hands a model the settings only that its config declares. Of any type: a wrong one is told by name as well.
_NAMED: dict[str, Any] = {
    name: (Any, Field(field.get_default(call_default_factory=True), description=field.description))
    for name, field in _OF_HYSPLIT.items()
}
_Named = create_model("_Named", __base__=TransportConfig, **_NAMED)


class NativeConfig(_Named):
    """What may be chosen of `native`; HYSPLIT's other settings may be named if they are what `native` does."""

    UNRECORDED = frozenset(_OF_HYSPLIT)

    numpar: int = Field(200, ge=1, le=30_000, description="particles released per simulation")

    @model_validator(mode="after")
    def _does_what_is_named(self) -> Self:
        if self.n_hours >= 0:
            raise ValueError(f"native goes back in time only, n_hours is {self.n_hours}; {WAY_OUT}")
        for name in ("veght", *_OF_HYSPLIT):
            value = getattr(self, name)
            if value != HysplitConfig.model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"native does not cover {name}: {value}; {WAY_OUT}")
        return self


class NativeModel:
    """`model: stilt_assets.transport.native.NativeModel`."""

    name = "stilt_assets.transport.native.NativeModel"
    config_class = NativeConfig
    met_config_class = MetConfig
    needs_workdir = False
    batched = True

    def version(self, config: NativeConfig) -> str:
        """What of the model shapes its particles: a digest of its identity."""
        known = Native().identity(Simulation("native", -config.n_hours, config.numpar, 0))
        return digest(repr(sorted(known.items())))[:12]

    def data_files(self, config: NativeConfig) -> None:  # noqa: ARG002  PYSTILT's signature
        """None: it reads no tables."""
        return

    def check_met(self, met: MetConfig, receptors: pd.DataFrame, n_hours: int) -> pd.DataFrame:
        """What would stop its runs, found before any: as for HYSPLIT, which reads the same files, and heights."""
        found = [MetFiles("met", met).check_receptors(receptors, n_hours)]
        if "altitude_ref" in receptors:
            kinds = dict(zip(receptors["receptor"], receptors["altitude_ref"], strict=True))
            others = [("heights", each, _other_heights(kind)) for each, kind in kinds.items() if kind != "agl"]
            found.append(pd.DataFrame(others, columns=found[0].columns))
        return pd.concat([table for table in found if len(table)] or found[:1], ignore_index=True)

    def run(
        self,
        receptor: Receptor,
        config: NativeConfig,
        met: MetConfig,
        window: tuple[dt.datetime, dt.datetime],
        workdir: Path | None = None,
        timeout: int | None = None,
    ) -> ModelRun:
        """Particles of one receptor. SimulationError with the reason."""
        run = self.run_many([receptor], config, met, [window], workdir, timeout)
        return ModelRun(run.particles.drop(columns="receptor"), run.log, run.met_files)

    def run_many(
        self,
        receptors: list[Receptor],
        config: NativeConfig,
        met: MetConfig,
        windows: list[tuple[dt.datetime, dt.datetime]],
        workdir: Path | None = None,  # noqa: ARG002  PYSTILT's signature
        timeout: int | None = None,
    ) -> ModelRun:
        """
        Particles of many receptors in one table, whose column `receptor` holds their ids.

        A receptor without rows failed, and the log says why; of a call without any row SimulationError does.
        """
        run, refused = _run(receptors, config, met, windows, timeout)
        if len(refused) == len(receptors):
            first = next(iter(refused.values()))
            raise SimulationError(str(first), first.reason, run.log)
        return run


class _Share(NamedTuple):
    """Receptors that share one decoded meteorology, its files by name, and the names that each needs."""

    receptors: list[Receptor]
    files: dict[str, Path]
    needs: list[frozenset[str]]

    def parts(self) -> list["_Share"]:
        """The same receptors, with those only that need the very same files."""
        return [
            _Share(
                [receptor for receptor, names in zip(self.receptors, self.needs, strict=True) if names == needed],
                {name: self.files[name] for name in needed},
                [names for names in self.needs if names == needed],
            )
            for needed in dict.fromkeys(self.needs)
        ]


def _run(
    receptors: list[Receptor],
    config: NativeConfig,
    met: MetConfig,
    windows: list[tuple[dt.datetime, dt.datetime]],
    timeout: int | None,
) -> tuple[ModelRun, dict[str, SimulationError]]:
    """Particles of all receptors that have some, and why the others have none, by their ids."""
    started, tables = monotonic(), [_table(np.zeros((0, 2 + len(COLUMNS))), "")]
    refused, sources = dict[str, SimulationError](), dict[Path, None]()
    shares = _shares(receptors, windows, MetFiles("met", met), refused, sources)
    while shares:
        share, failed = shares.pop(0), dict[str, SimulationError]()
        with _refusing(share.receptors, failed):
            _still_time(started, timeout)
            with _decoded([share.files[name] for name in sorted(share.files)], config) as air:
                for receptor in share.receptors:
                    with _refusing([receptor], refused):
                        _still_time(started, timeout)
                        tables.append(_particles(air, receptor, config))
        if failed and len(parts := share.parts()) > 1:  # a file that one of them needs costs the others nothing
            shares = parts + shares
        else:
            refused |= failed
    log = [f"native flew {len(tables) - 1} of {len(receptors)} receptors over {len(sources)} files"]
    log += [f"{receptor} has no particles: {why} ({why.reason})" for receptor, why in refused.items()]
    return ModelRun(pd.concat(tables, ignore_index=True), "\n".join((*log, "")), list(sources)), refused


def _shares(
    receptors: list[Receptor],
    windows: list[tuple[dt.datetime, dt.datetime]],
    met: MetFiles,
    refused: dict[str, SimulationError],
    sources: dict[Path, None],
) -> list[_Share]:
    """
    Receptors, oldest first, by the meteorology that they share: a file at least, and not too many in all.

    What a receptor lacks goes to `refused`, by its id; the files of the others to `sources`.
    """
    shares = list[_Share]()
    for window, receptor in sorted(zip(windows, receptors, strict=True), key=lambda pair: pair[0]):
        with _refusing([receptor], refused):
            if receptor.altitude_ref != "agl":
                raise SimulationError(_other_heights(receptor.altitude_ref), NOT_COVERED)
            found = met.files_for(window, hour_after=True)
            readable = met.readable(found)
            met.check(readable, window, hour_after=True)
            sources |= dict.fromkeys(found)
            files = {path.name: path for path in readable}
            last = shares[-1] if shares else _Share([], {}, [])
            if files.keys() & last.files.keys() and len(files | last.files) <= _MOST_SHARED * len(files):
                last.receptors.append(receptor)
                last.files.update(files)
                last.needs.append(frozenset(files))
            else:
                shares.append(_Share([receptor], dict(files), [frozenset(files)]))
    return shares


@contextmanager
def _refusing(receptors: Sequence[Receptor], refused: dict[str, SimulationError]) -> Iterator[None]:
    """A block whose expected failure costs these receptors and is told to them."""
    try:
        yield
    except (SimulationError, TransportError) as error:
        told = str(error).replace("lower `simulation.top`", "lower the receptor")  # no setting of PYSTILT's
        refused.update({str(receptor.id): SimulationError(told, error.reason) for receptor in receptors})


def _other_heights(kind: str) -> str:
    return f"native knows heights above ground (agl) only, this one's are {kind}; {WAY_OUT}"


@contextmanager
def _decoded(files: Sequence[Path], config: NativeConfig) -> Iterator[Air]:
    """The files as one, decoded; both are gone afterwards."""
    with scratch.folder() as folder:
        whole = folder / "meteorology.arl"
        with whole.open("wb") as out:
            for path in files:
                with path.open("rb") as file:
                    shutil.copyfileobj(file, out)
        refused = covers(whole, Simulation("native", -config.n_hours, config.numpar, 0))
        if refused:
            raise SimulationError(f"native does not cover this: {'; '.join(refused)}; {WAY_OUT}", reason=NOT_COVERED)
        try:
            with decoded.prepared(whole):
                yield air_of(decoded.opened(whole))
        except StiltAssetsError as error:
            raise SimulationError(str(error), reason=error.reason) from error


def _still_time(started: float, timeout: float | None) -> None:
    if timeout is not None and monotonic() - started > timeout:
        raise TransportError("timeout", f"the receptors before took {timeout} s")


def _particles(air: Air, receptor: Receptor, config: NativeConfig) -> pd.DataFrame:
    """A row per particle and minute of a receptor. TransportError or SimulationError with the reason."""
    drawn = secrets.randbelow(_SEEDS) if config.seed is None else config.seed
    seed = np.uint64(int(digest(str(receptor.id), str(drawn))[:15], 16))
    places = np.array(_places(receptor, config.numpar, seed))
    release, minutes = round(receptor.time.replace(tzinfo=dt.UTC).timestamp() / 60), -60 * config.n_hours
    met = air.met
    if not met.first <= release - minutes < release <= met.first + (met.times - 1) * met.spacing:
        raise TransportError("meteorology_ends", "the meteorology does not hold all of its hours")
    needs_air_up_to(air, float(places[:, 2].max()), release)
    flight, rows = new_flight(len(places)), np.empty((minutes * len(places), 2 + len(COLUMNS)))
    count = _flown(met, flight, seed, places, release, minutes, rows)
    if not count:
        cells = f"the meteorology's {met.nx}x{met.ny} cells"
        raise TransportError("outside_meteorology", f"it lies outside {cells}; take files of a larger region")
    return _table(rows[:count], str(receptor.id))


def _table(rows: np.ndarray, receptor: str) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=pd.Index(["particle", "age", *COLUMNS]))
    return table.astype({"particle": "i4", "age": "i4"}).assign(receptor=receptor)


def _places(receptor: Receptor, particles: int, seed: np.uint64) -> Places:
    """Where each particle starts; those of several points one point after the other, as `hycs_std` releases them."""
    match receptor:
        case ColumnReceptor():
            lon, lat, bottom, top = receptor.longitude, receptor.latitude, receptor.bottom, receptor.top
            return [(lon, lat, slab_height(seed, i, particles, bottom, top)) for i in range(particles)]
        case PointReceptor():
            return [(receptor.longitude, receptor.latitude, receptor.altitude)] * particles
        case MultiPointReceptor():
            points = list(zip(receptor.longitudes, receptor.latitudes, receptor.altitudes, strict=True))
            each = particles // len(points) + (len(points) > 1)
            return [point for point in points for _ in range(each)]
    raise SimulationError(f"native does not cover receptors of kind {receptor.kind}; {WAY_OUT}", NOT_COVERED)


@compiled
def _flown(
    met: Met, flight: Flight, seed: np.uint64, places: np.ndarray, release: int, minutes: int, rows: np.ndarray
) -> int:
    """Fill `rows` with what each minute of each particle was; how many there are, none if a place is outside."""
    count = 0
    for i in range(len(places)):
        if not start(met, flight, i, seed, places[i, 0], places[i, 1], places[i, 2], release):
            return 0
    for minute in range(1, minutes + 1):
        flying = fly_minute(met, flight, seed, minute - 1, release - minute + 1)
        for i in range(len(places)):
            if flight.flies[i] == 1:
                row = rows[count]
                row[0], row[1] = i + 1, -minute
                row[2], row[3], row[4] = flight.lon[i], flight.lat[i], flight.zagl[i]
                row[5], row[6], row[7] = flight.foot[i], flight.pres[i], flight.dens[i]
                row[8], row[9], row[10], row[11] = flight.samt[i], flight.mlht[i], flight.sigw[i], flight.tlgr[i]
                count += 1
        if flying == 0:
            break
    return count
