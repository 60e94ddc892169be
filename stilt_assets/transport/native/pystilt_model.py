"""
How does a PYSTILT project get its particles from `native`?

A batched transport model as PYSTILT knows them: many receptors in one call, over meteorology that PYSTILT finds and
that is decoded once. PYSTILT itself adds release heights and the near-field correction, and makes footprints.
"""

import datetime as dt
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
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

COLUMNS = ("lon", "lat", "zagl", "foot", "pres", "dens", "samt", "mlht", "sigw", "tlgr")
_WAY_OUT = "set `model: hysplit`"
_SEEDS = 2**63
Places = list[tuple[float, float, float]]  # longitude and latitude, degrees, and m above ground, of each particle


class NativeConfig(TransportConfig):
    """What may be chosen of `native`; HYSPLIT's other settings may be named if they are what `native` does."""

    numpar: int = Field(200, ge=1, le=30_000, description="particles released per simulation")

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_covered(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        kept = {}
        for name, value in given.items():
            known = HysplitConfig.model_fields.get(name)
            if name in cls.model_fields or known is None:
                kept[name] = value
            elif value != known.get_default(call_default_factory=True):
                raise ValueError(f"native does not cover {name}: {value}; {_WAY_OUT}")
        return kept

    @model_validator(mode="after")
    def _goes_back_from_half_the_mixed_layer(self) -> Self:
        if self.n_hours >= 0:
            raise ValueError(f"native goes back in time only, n_hours is {self.n_hours}; {_WAY_OUT}")
        if self.veght != HysplitConfig.model_fields["veght"].default:
            raise ValueError(f"native does not cover veght: {self.veght:g}; {_WAY_OUT}")
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
        """What would stop its runs, found before any: as for HYSPLIT, which reads the same files."""
        return MetFiles("met", met).check_receptors(receptors, n_hours)

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
        if run.particles.empty:
            raise SimulationError(run.log.strip(), reason=run.log.partition(" ")[0].rstrip(":"), log=run.log)
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

        A receptor without rows failed; the log has a line for it. SimulationError if `native` refuses the meteorology.
        """
        given = MetFiles("met", met)
        window = min(start for start, _ in windows), max(end for _, end in windows)
        sources = given.files_for(window, hour_after=True)
        readable = given.readable(sources)
        given.check(readable, window, hour_after=True)
        started, tables, log = monotonic(), [_table(np.zeros((0, 2 + len(COLUMNS))), "")], ""
        with _decoded(readable, config) as air:
            for receptor in receptors:
                try:
                    _still_time(started, timeout)
                    tables.append(_particles(air, receptor, config))
                except TransportError as error:
                    log += f"{error.reason}: {receptor.id}: {error}\n"
        return ModelRun(pd.concat(tables, ignore_index=True), log, sources)


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
            raise SimulationError(f"native does not cover this: {'; '.join(refused)}; {_WAY_OUT}", reason="NOT_COVERED")
        try:
            with decoded.prepared(whole):
                yield air_of(decoded.opened(whole))
        except StiltAssetsError as error:
            raise SimulationError(str(error), reason=error.reason) from error


def _still_time(started: float, timeout: float | None) -> None:
    if timeout is not None and monotonic() - started > timeout:
        raise TransportError("timeout", f"the receptors before took {timeout} s")


def _particles(air: Air, receptor: Receptor, config: NativeConfig) -> pd.DataFrame:
    """A row per particle and minute of a receptor. TransportError with the reason."""
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
        raise TransportError("outside_meteorology", f"it lies outside the meteorology's {met.nx}x{met.ny} cells")
    return _table(rows[:count], str(receptor.id))


def _table(rows: np.ndarray, receptor: str) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=pd.Index(["particle", "age", *COLUMNS]))
    return table.astype({"particle": "i4", "age": "i4"}).assign(receptor=receptor)


def _places(receptor: Receptor, particles: int, seed: np.uint64) -> Places:
    """Where each particle starts; those of several points one point after the other, as `hycs_std` releases them."""
    if receptor.altitude_ref != "agl":
        raise TransportError("usage", f"native knows heights above ground only, this one is {receptor.altitude_ref}")
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
    raise TransportError("usage", f"native does not cover receptors of kind {receptor.kind}")


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
