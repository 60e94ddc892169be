"""Rows of particles become the cells that PYSTILT's `calc_footprint` makes of them, and are kept as gridded."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import arlmet
import numpy as np
import pandas as pd
import pytest

from stilt_assets.footprint import grid_particles, mc_error
from stilt_assets.grid import Cells, Grid
from stilt_assets.meteorology.proof import Edges
from stilt_assets.particles import CORE, FULL, column_weights, endpoints_of, kept_form, releases_of
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Limits, Simulation
from stilt_assets.transport.hysplit import Hysplit
from stilt_assets.transport.native.engine import Flight, new_flight
from stilt_assets.transport.native.gridding import cells_of, crosses, difference_of_halves, kept_rows
from stilt_assets.transport.native.log import (
    UNBOUNDED,
    Log,
    ends_of,
    kept_of,
    last_rows,
    new_log,
    note_minute,
    rows_of,
    with_room,
)

KERNEL = Kernel(np.array([870.0, 500.0, 100.0]), np.array([0.9, 1.2, 0.7]), 865.0)
FLAT = Kernel(np.array([870.0, 100.0]), np.array([1.0, 1.0]), 865.0)
HERE = Grid(-112.8, 40.15, -111.2, 41.35, 0.02)
FINE = Grid(-112.05, 40.5, -111.75, 40.72, 0.005)  # many particles lie around it
COARSE = Grid(-112.8, 40.15, -111.3, 41.35, 0.1)
ACROSS = Grid(179.1, 40.15, -179.1, 41.35, 0.02)


class Case(NamedTuple):
    """One receptor's particles of `hycs_std`."""

    receptor: Receptor
    particles: pd.DataFrame

    @property
    def seen(self) -> list[Flight]:
        """The same, minute by minute, before the near-field correction."""
        number = np.arange(1, int(self.particles["particle"].max()) + 1)
        table = self.particles.assign(foot=self.particles["foot_no_hnf_dilution"]).set_index("particle")
        minutes = [rows.reindex(number) for _, rows in sorted(table.groupby(-table["age"]), key=lambda each: each[0])]
        return [as_flight(rows) for rows in minutes]


def as_flight(rows: pd.DataFrame) -> Flight:
    """Particles after a minute, as the engine shows them; the type is its own, for which compiled code is kept."""
    flight = new_flight(len(rows))
    flight.flies[:] = rows["lon"].notna()
    for name in ("lon", "lat", "zagl", "pres", "dens", "foot", "samt", "mlht", "sigw", "tlgr"):
        getattr(flight, name)[:] = rows[name]
    return flight


@pytest.fixture(scope="module", params=["night", "evening"])
def case(request: pytest.FixtureRequest, shared: Path) -> Case:
    hour, minute, file = {"night": (9, 58, "20190530_06-11_hrrr"), "evening": (2, 30, "20190530_00-05_hrrr")}[
        request.param
    ]
    receptor = Receptor(3, datetime(2019, 5, 30, hour, minute, tzinfo=UTC), -111.9, 40.6, 0.0, 400.0)
    simulation = Simulation("hysplit", 2, 150, 7)
    return Case(receptor, Hysplit().run(receptor, simulation, shared / "data" / "hrrr" / file, Limits(600.0)))


def noted(case: Case, keep: str, *, turn: bool = False, edges: Edges | None = None) -> Log:
    """A log of particles that go by minute by minute."""
    seen = case.seen
    count, ends = len(seen[0].flies), ends_of(edges) if edges else UNBOUNDED
    heights = case.receptor.bottom + (np.arange(count) + 0.5) * (case.receptor.top - case.receptor.bottom) / count
    log = with_room(new_log(heights, len(seen), keep, turn=turn), 0, len(seen))
    for minute, each in enumerate(seen, start=1):
        x, y = edges.grid.fractional_indices(each.lon, each.lat) if edges else (each.x, each.y)
        note_minute(minute, each._replace(x=np.asarray(x), y=np.asarray(y)), ends, log)
    return log


def moved(particles: pd.DataFrame, degrees: float) -> pd.DataFrame:
    return particles.assign(lon=((particles["lon"] + degrees + 180.0) % 360.0 - 180.0).round(4))


def weights(case: Case, kernel: Kernel) -> np.ndarray:
    return column_weights(releases_of(case.particles), kernel)


def cells(log: Log, omega: np.ndarray, grid: Grid, receptor: Receptor) -> Cells:
    return cells_of(rows_of(log), log.spread, omega, grid, -receptor.time.minute % 60)


def columns(given: Cells) -> dict[str, list[Any]]:
    return {name: getattr(given, name).tolist() for name in ("hour", "y", "x", "foot")}


def test_as_they_go_by_particles_become_the_cells_of_calc_footprint(case: Case) -> None:
    log, kept, omega = noted(case, "endpoints"), kept_form(case.particles, full=False), weights(case, KERNEL)
    for grid in (HERE, FINE, COARSE):
        expected = grid_particles(kept, releases_of(case.particles), omega, case.receptor, grid)
        assert len(expected.foot) > (100 if grid == FINE else 2)
        see_that_they_agree(cells(log, omega, grid, case.receptor), expected)


def test_across_the_antimeridian_too(case: Case) -> None:
    there = Case(case.receptor, moved(case.particles, 180.0 - case.particles["lon"].median()))
    assert {lon < 0 for lon in there.particles["lon"]} == {True, False}
    log, kept, omega = (
        noted(there, "endpoints", turn=True),
        kept_form(there.particles, full=False),
        weights(case, KERNEL),
    )
    expected = grid_particles(kept, releases_of(case.particles), omega, case.receptor, ACROSS)
    see_that_they_agree(cells(log, omega, ACROSS, case.receptor), expected)


def see_that_they_agree(ours: Cells, expected: Cells) -> None:
    """To 1e-5 of the largest value at most; in the same places."""
    assert columns(ours)["hour"] == columns(expected)["hour"]
    assert (columns(ours)["y"], columns(ours)["x"]) == (columns(expected)["y"], columns(expected)["x"])
    assert np.abs(ours.foot - expected.foot).max() <= 1e-5 * expected.foot.max()
    assert (ours.hour.dtype, ours.y.dtype, ours.x.dtype, ours.foot.dtype) == ("i1", "i2", "i2", "f4")


def test_what_is_kept_is_what_is_kept_of_a_table_near_field_and_all(case: Case) -> None:
    for keep, kinds in (("core", CORE), ("full", FULL)):
        expected, kept = kept_form(case.particles, full=keep == "full"), kept_of(noted(case, keep))
        assert {name: values.dtype for name, values in kept.items()} == kinds
        diluted = case.particles["foot"] != case.particles["foot_no_hnf_dilution"]
        assert 0 < diluted.sum() < len(diluted)
        for name, values in expected.items():
            assert kept[name] == pytest.approx(values, rel=1e-6 if kinds[name] == "f4" else 0, abs=0)


def test_kept_particles_give_the_same_cells_for_this_and_any_other_grid_or_kernel(case: Case) -> None:
    kept = kept_of(noted(case, "core"))
    for kernel in (KERNEL, FLAT):
        omega = weights(case, kernel)
        for grid in (HERE, FINE):
            flown = cells(noted(case, "endpoints", turn=crosses(grid)), omega, grid, case.receptor)
            again = cells_of(*kept_rows(kept, grid), omega, grid, -case.receptor.time.minute % 60)
            assert columns(again) == columns(flown)


def test_last_rows_and_halves_are_those_of_the_kept_particles(case: Case) -> None:
    log, kept, releases = noted(case, "endpoints"), kept_form(case.particles, full=False), releases_of(case.particles)
    ends = endpoints_of(kept, releases)
    assert {name: values.tolist() for name, values in last_rows(log).items()} == {
        name: ends[name].tolist() for name in last_rows(log)
    }
    omega, grid = weights(case, KERNEL), FINE
    halves = difference_of_halves(rows_of(log), omega, grid.west, grid.span, grid.south, grid.north)
    assert abs(halves) == pytest.approx(mc_error(kept, releases, omega, grid), rel=1e-9)
    assert halves != 0.0


def test_shares_near_the_ends_of_the_meteorology_are_those_of_the_kept_particles(case: Case, shared: Path) -> None:
    with arlmet.File(shared / "data" / "hrrr" / "20190530_06-11_hrrr") as file:
        grid = file.grid
    x = int(np.median(grid.fractional_indices(case.particles["lon"].to_numpy(), case.particles["lat"].to_numpy())[0]))
    lid = case.particles.groupby("particle")["zagl"].max().median()
    shares = []
    for before in range(6):  # columns between the western side and the middle of the cloud
        window = arlmet.GridWindow(x - before, x + 12, 0, grid.ny)
        edges = Edges(grid.subset(window), (True, False, True, True), np.full((grid.ny, 12 + before), lid, "f4"))
        log = noted(case, "endpoints", edges=edges)
        expected = edges.shares(*(case.particles[name] for name in ("lon", "lat", "zagl", "particle")))
        assert (float(np.mean(log.near)), float(np.mean(log.high))) == expected
        shares.append(expected)
    assert {near > 0.0 for near, _ in shares} == {near < 1.0 for near, _ in shares} == {True, False}
    assert all(0.0 < high < 1.0 for _, high in shares)


# ---- made-up particles: what real ones seldom do


def drifting(seed: int, east: float = 0.0) -> Case:
    """Particles that walk at random, two of which leave early, one last of all; many lie on the lines of a grid."""
    chance, count, minutes = np.random.default_rng(seed), 7, 150
    ends = np.array([minutes, 70, 20, 140, 139, 110, minutes - 60])
    rows = []
    for particle in range(count):
        way = np.cumsum(chance.normal(0.004, 0.02, (2, minutes)), axis=1)
        for minute in range(1, ends[particle] + 1):
            lon, lat = (np.round(each[minute - 1], 2 if chance.random() < 0.5 else 4) for each in way)
            foot = max(chance.normal(), 0.0) * 1e-3
            rows.append((particle + 1, -minute, lon + east, 10.6 + lat, foot, 100.0 * particle + 50.0))
    names = ["particle", "age", "lon", "lat", "foot", "release_height"]
    particles = pd.DataFrame(rows, columns=names).astype(float)
    height = particles["release_height"]
    return Case(
        Receptor(0, datetime(2019, 5, 30, 9, 17, tzinfo=UTC), east, 10.6, 0.0, 700.0),
        particles.assign(zagl=height, pres=900.0 * np.exp(-height / 8000.0)),
    )


@pytest.mark.parametrize("seed", range(4))
def test_few_particles_that_leave_one_by_one_become_the_cells_of_calc_footprint(seed: int) -> None:
    walk = drifting(seed)
    kept, releases = kept_form(walk.particles, full=False), releases_of(walk.particles)
    omega = np.array([0.3, 0.1, 0.4, -0.2, 0.05, 0.6, 0.2])  # the fourth is not counted
    for grid in (
        Grid(-0.5, 10.3, 1.5, 11.5, 0.01),
        Grid(-0.11, 10.5, 0.13, 10.7, 0.02),
        Grid(-3.0, 8.0, 3.0, 12.0, 0.25),
    ):
        expected = grid_particles(kept, releases, omega, walk.receptor, grid)
        see_that_they_agree(cells_of(*kept_rows(kept, grid), omega, grid, 43), expected)


def test_what_reaches_no_cell_is_an_empty_footprint() -> None:
    walk = drifting(0, east=90.0)
    kept, grid = kept_form(walk.particles, full=False), Grid(-0.5, 10.3, 1.5, 11.5, 0.01)
    empty = cells_of(*kept_rows(kept, grid), np.ones(7), grid, 43)
    assert (len(empty.foot), len(empty.hour), len(empty.y), len(empty.x)) == (0, 0, 0, 0)
    assert (empty.hour.dtype, empty.y.dtype, empty.x.dtype, empty.foot.dtype) == ("i1", "i2", "i2", "f4")


def test_one_foot_on_a_line_lies_in_the_cell_to_its_north_east() -> None:
    """One particle has no spread: what it leaves stays in one cell."""
    walk = Case(drifting(0).receptor, drifting(0).particles.query("particle == 1 and age >= -1"))
    kept = kept_form(walk.particles.assign(lon=-1.5, lat=10.5, foot=2.0), full=False)
    grid = Grid(west=-2.0, south=10.0, east=1.0, north=12.0, resolution=0.5)
    only = cells_of(*kept_rows(kept, grid), np.array([0.25]), grid, 0)
    assert columns(only) == {"hour": [0], "y": [1], "x": [1], "foot": [0.5]}
    assert columns(cells_of(*kept_rows(kept, grid), np.array([0.25]), grid, 59))["hour"] == [0]
    assert columns(cells_of(*kept_rows(kept, grid), np.array([0.25]), grid, 60))["hour"] == [1]
