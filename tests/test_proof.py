"""What the particles say of a crop."""

import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_weather import longitudes, receptor_table, write_weather

from stilt_assets.meteorology import SIDES, need_of
from stilt_assets.meteorology.aggregate import NAME, make_aggregate
from stilt_assets.meteorology.proof import TOLERANCE, Edges, edges_of, judge
from stilt_assets.meteorology.sources import Source
from stilt_assets.receptor import Receptor

GRID = longitudes(0.0, 0.0, 21, 11, 1.0)  # column and row are degrees east and north
CROPPED = (True, True, True, True)
LOW = np.full((11, 21), 1000.0, "f4")
HOUR = datetime(2019, 5, 30, 1, tzinfo=UTC)


def near(lon: float, lat: float, cut: tuple[bool, bool, bool, bool] = CROPPED) -> float:
    return Edges(GRID, cut, LOW).shares([10.0, lon], [5.0, lat], [10.0, 10.0], [1, 2])[0] * 2


@pytest.mark.parametrize(
    ("lon", "lat"), [(1.99, 5.0), (10.0, 1.99), (17.01, 5.0), (10.0, 7.01), (-1.0, 5.0), (25.0, 5.0), (10.0, -3.0)]
)
def test_a_particle_within_a_cell_of_where_hysplit_ends_it_is_near(lon: float, lat: float) -> None:
    assert near(lon, lat) == 1


@pytest.mark.parametrize(("lon", "lat"), [(2.01, 5.0), (10.0, 2.01), (16.99, 5.0), (10.0, 6.99), (2.01, 6.99)])
def test_a_particle_farther_off_is_not(lon: float, lat: float) -> None:
    assert near(lon, lat) == 0


@pytest.mark.parametrize(
    ("side", "lon", "lat"), [(0, 1.5, 5.0), (1, 10.0, 1.5), (2, 18.5, 5.0), (3, 10.0, 8.5)], ids=SIDES
)
def test_only_sides_that_the_crop_ends_count(side: int, lon: float, lat: float) -> None:
    west, south, east, north = (each == side for each in range(4))
    assert near(lon, lat, (west, south, east, north)) == 1
    assert near(lon, lat, (not west, not south, not east, not north)) == 0


def test_a_particle_that_ever_came_near_counts_once() -> None:
    edges = Edges(GRID, CROPPED, LOW)
    lon = np.array([10, 10, 10, 10, 1, 1, 10, 10, 10, 10], dtype=float)
    particle = np.array([1, 2, 3, 4, 2, 2, 1, 2, 3, 4], dtype=float)
    height = np.array([10, 10, 10, 10, 10, 10, 1001, 10, 999, 2000])
    assert edges.shares(lon, np.full(10, 5.0), height, particle) == (1 / 4, 2 / 4)


def test_numbers_of_particles_may_have_gaps() -> None:
    edges = Edges(GRID, CROPPED, LOW)
    assert edges.shares([1.0, 10.0, 10.0], [5.0] * 3, [1.0] * 3, [900, 7, 30]) == (1 / 3, 0)


def test_the_lid_is_felt_where_it_is_low() -> None:
    felt = LOW.copy()
    felt[4, 12] = 500.0
    edges = Edges(GRID, CROPPED, felt)
    assert edges.shares([12.4, 12.0], [4.0, 5.0], [600.0, 600.0], [1, 2])[1] == 0.5
    assert edges.shares([12.6, 11.4], [4.0, 4.4], [600.0, 600.0], [1, 2])[1] == 0


def test_a_lid_of_which_nothing_is_known_has_no_share() -> None:
    near, lid = Edges(GRID, CROPPED, None).shares([1.0], [5.0], [10.0], [1])
    assert near == 1
    assert np.isnan(lid)


def test_no_particles_have_no_shares() -> None:
    assert np.isnan(Edges(GRID, CROPPED, LOW).shares([], [], [], [])).all()


# ---- from an aggregate


def aggregate(folder: Path, **more: Any) -> tuple[dict[str, Any], Path]:
    folder.mkdir()
    path = write_weather(folder / "made", hours=(0, 1), PBLH=100.0, T02M=lambda hour, level: 273.3 + 10.0 * hour)
    receptor = Receptor(0, HOUR, 0.0, 0.0, 0.0, 10.0)
    need = need_of(receptor_table(receptor), 1, **more)
    return make_aggregate(folder, "made", need, [Source(path, need.hours)], [receptor], {path: ""}), folder / NAME


def test_the_ends_of_an_aggregate_are_those_of_its_certificate_and_file(tmp_path: Path) -> None:
    certificate, file = aggregate(tmp_path / "out")
    edges = edges_of(certificate, file)
    assert edges.cut == CROPPED
    assert [edges.grid.nx, edges.grid.ny] == certificate["cells"]
    assert edges.felt_from is not None
    assert edges.felt_from.shape == (edges.grid.ny, edges.grid.nx)
    assert float(edges.felt_from.min()) == pytest.approx(certificate["lid_felt_from"], abs=0.5)
    assert certificate["lid_felt_from"] == pytest.approx(1000, abs=3)  # level 2 of 0 to 4, 500 m each
    assert edges.shares([0.0, 0.0], [0.0, 0.0], [990.0, 1010.0], [1, 2]) == (0, 0.5)


def test_edges_are_small_enough_for_every_worker_and_alike_there(tmp_path: Path) -> None:
    edges = edges_of(*aggregate(tmp_path / "out"))
    there = pickle.loads(pickle.dumps(edges))
    assert len(pickle.dumps(edges)) < 10_000
    rows = (np.linspace(-1, 1, 50), np.zeros(50), np.linspace(0, 2000, 50), np.arange(50))
    assert there.shares(*rows) == edges.shares(*rows)
    assert 0 < edges.shares(*rows)[0] < 1


# ---- the verdict


def certificate(widened: int = 0, **ends: str) -> dict[str, Any]:
    return {"widened": widened, "ends": dict.fromkeys((*SIDES, "lid"), "files") | ends}


NONE = [0.0, 0.0]


def test_a_crop_that_nothing_came_near_was_large_enough() -> None:
    verdict = judge(NONE, NONE, NONE, certificate(west="crop", lid="crop"))
    assert (verdict.enough, verdict.can_be_widened) == (True, False)
    assert verdict.line.startswith("the crop was large enough: 0.0% of the particles")


@pytest.mark.parametrize(("share", "enough"), [(TOLERANCE, True), (1.01 * TOLERANCE, False)])
def test_a_hundredth_of_the_particles_may_go_astray(share: float, enough: bool) -> None:
    cropped = certificate(east="crop", lid="crop")
    assert judge([2 * share, 0], NONE, NONE, cropped).enough == enough
    assert judge(NONE, [0, 2 * share], NONE, cropped).enough == enough


def test_a_crop_that_was_too_small_can_be_widened_once() -> None:
    first, second = (judge([0.5, 0.1], NONE, [0.2, 0.0], certificate(n, north="crop")) for n in (0, 1))
    assert (first.enough, first.can_be_widened) == (False, True)
    assert (second.enough, second.can_be_widened) == (False, False)
    assert first.line == (
        "the crop was too small at its side: 30.0% of the particles came near a side that the crop ends "
        "(of one pixel's 50.0%); 0.0% felt the lid, which the files end; 10.0% left before the run's end"
    )
    assert "too small at its side, though it was widened already: " in second.line


def test_side_and_lid_are_both_named() -> None:
    verdict = judge([0.5], [0.1], [0.0], certificate(north="crop", lid="crop"))
    assert verdict.line.startswith("the crop was too small at its side and lid: ")


def test_where_the_files_end_it_is_told_and_nothing_is_widened() -> None:
    verdict = judge(NONE, [0.4, 0.6], [0.2, 0.4], certificate())
    assert (verdict.enough, verdict.can_be_widened) == (True, False)
    assert "50.0% felt the lid, which the files end; 30.0% left" in verdict.line
    assert judge(NONE, [0.4, 0.6], [0.2, 0.4], certificate(west="crop")).enough


def test_pixels_without_particles_say_nothing() -> None:
    lost = float("nan")
    cropped = certificate(west="crop", lid="crop")
    assert judge([lost, 0.02, 0.0], [lost, 0.0, 0.0], [lost, 0.0, 0.0], cropped).enough
    assert judge([lost, lost], [lost, lost], [lost, lost], cropped).enough
    assert judge([], [], [], cropped).enough
