"""Degrees of freedom for signal, by hand where that can be done, and what a guessed footprint holds."""

import math

import numpy as np
import pytest

from stilt_assets.grid import Grid
from stilt_assets.information import (
    PER_HOUR,
    Prior,
    Soundings,
    blocks_of,
    contact,
    degrees_of_freedom,
    expected,
    guessed,
    root_of,
)

WIDE = Grid(west=-30.0, south=30.0, east=0.0, north=50.0, resolution=1.0)  # 20 rows, 30 columns
SMALL = Grid(west=10.0, south=50.0, east=11.6, north=50.8, resolution=0.1)  # 8 rows, 16 columns


def soundings(*places: tuple[float, float], error: float = 0.01) -> Soundings:
    lon, lat = np.array(places).T
    return Soundings(lon, lat, np.full(len(places), error))


def test_one_pixel_and_one_block_share_the_variance() -> None:
    # 0.2 ppm per unit, an error of 3 units before and 0.3 ppm: the signal's variance is 0.36, the noise's 0.09
    assert degrees_of_freedom(np.array([[0.2]]), np.array([0.3]), np.array([[3.0]])) == pytest.approx(0.36 / 0.45)


def test_pixels_that_see_the_same_block_add_their_weights_and_others_count_apart() -> None:
    see = np.array([[0.2, 0.0], [0.2, 0.0], [0.0, 0.1]])
    # the first block: 2 * 0.36 / 0.09 = 8 times its noise; the second: 0.01 * 9 / 0.09 = once
    found = degrees_of_freedom(see, np.full(3, 0.3), 3.0 * np.eye(2))
    assert found == pytest.approx(8 / 9 + 1 / 2)


def test_blocks_that_err_alike_are_one_unknown() -> None:
    see, error = np.array([[50.0, 0.0], [0.0, 50.0]]), np.full(2, 1e-3)
    assert degrees_of_freedom(see, error, np.eye(2)) == pytest.approx(2.0, abs=1e-6)
    assert degrees_of_freedom(see, error, root_of(np.ones((2, 2)))) == pytest.approx(1.0, abs=1e-3)
    assert degrees_of_freedom(np.zeros((2, 2)), error, np.eye(2)) == 0.0


def test_the_prior_falls_to_a_third_over_its_length() -> None:
    grid = Grid(0.0, -0.5, 3.0, 0.5, 1.0)  # three blocks along the equator, 111.19 km apart
    covariance = Prior(flux_error=2.0, correlation=111.19).covariance(grid)
    assert covariance[0] == pytest.approx([4.0, 4.0 / math.e, 4.0 / math.e**2], rel=1e-3)


def test_blocks_are_whole_cells_and_few() -> None:
    assert blocks_of(SMALL).shape == (4, 8)
    assert blocks_of(Grid(-112.8, 40.15, -111.2, 41.35, 0.01)).shape == (9, 12)
    assert blocks_of(Grid(0.0, 0.0, 0.5, 0.3, 0.1)).shape == (3, 5)


def test_an_hour_of_a_flux_raises_the_air_above_by_a_hundredth() -> None:
    # 3600 µmol m-2 in 101325 / 9.81 kg of air of 28.96 g mol-1
    assert pytest.approx(0.01009, rel=1e-3) == PER_HOUR


def test_a_guessed_footprint_keeps_its_mass_and_lies_where_the_air_came_from() -> None:
    place = soundings((-15.5, 40.5))
    row = guessed(place, WIDE, 6, 5.0, (1.0, 0.0))[0].reshape(WIDE.shape)
    assert row.sum() == pytest.approx(6 * PER_HOUR, rel=1e-3)
    # 5 m s-1 for 3 hours in the mean are 54 km, 0.64 degrees at 40 north, to the east of the pixel
    east = (row.sum(axis=0) * WIDE.lon).sum() / row.sum()
    assert east == pytest.approx(-15.5 + 54 / (111.19 * math.cos(math.radians(40))), abs=0.15)
    assert (row.sum(axis=1) * WIDE.lat).sum() / row.sum() == pytest.approx(40.5, abs=0.05)
    north = guessed(place, WIDE, 6, 5.0, (0.0, 1.0))[0].reshape(WIDE.shape)
    assert (north.sum(axis=1) * WIDE.lat).sum() / north.sum() == pytest.approx(40.5 + 54 / 111.19, abs=0.1)


def test_what_the_air_has_lost_of_the_ground_it_lost_last() -> None:
    assert contact(8, 1.0) == math.inf
    hours = contact(8, 0.25)
    assert hours * (1 - math.exp(-8 / hours)) == pytest.approx(2.0)
    place = soundings((-15.5, 40.5))
    rows = [guessed(place, WIDE, 8, 20.0, (1.0, 0.0), share)[0].reshape(WIDE.shape) for share in (1.0, 0.25)]
    assert rows[1].sum() == pytest.approx(2 * PER_HOUR, rel=0.05)
    near = [row[:, 14:16].sum() / row.sum() for row in rows]
    assert near[1] > 1.5 * near[0]


def test_what_lies_outside_the_grid_tells_nothing() -> None:
    prior = Prior(0.5, 20.0)
    assert expected(soundings((60.0, 50.4)), SMALL, 3, prior, 4.0) < 1e-6
    assert expected(Soundings(*np.empty((3, 0))), SMALL, 3, prior, 4.0) == 0.0


def test_the_antimeridian_is_a_line_like_any_other() -> None:
    across = Grid(west=179.2, south=50.0, east=-179.2, north=50.8, resolution=0.1)
    there = expected(soundings((179.9, 50.4), (-179.95, 50.2)), across, 3, Prior(0.5, 20.0), 4.0)
    here = expected(soundings((10.7, 50.4), (10.85, 50.2)), SMALL, 3, Prior(0.5, 20.0), 4.0)
    assert there == pytest.approx(here, rel=1e-9)
    assert here > 0.1


def test_more_pixels_less_error_and_a_looser_prior_tell_more() -> None:
    one, three = soundings((10.7, 50.4)), soundings((10.7, 50.4), (10.9, 50.2), (11.2, 50.6))
    prior = Prior(0.5, 20.0)
    few = expected(one, SMALL, 3, prior, 4.0)
    assert few < expected(three, SMALL, 3, prior, 4.0) <= 3.0
    assert few < expected(soundings((10.7, 50.4), error=0.001), SMALL, 3, prior, 4.0) <= 1.0
    assert few < expected(one, SMALL, 3, Prior(2.0, 20.0), 4.0)


def test_many_pixels_are_told_by_some_that_stand_for_them() -> None:
    chance = np.random.default_rng(3)
    lon, lat = chance.uniform(10.4, 11.2, 2000), chance.uniform(50.1, 50.7, 2000)
    all_of_them = Soundings(lon, lat, np.full(2000, 0.015))
    prior, blocks = Prior(0.2, 20.0), blocks_of(SMALL)
    exact = np.mean(
        [
            degrees_of_freedom(
                guessed(all_of_them, blocks, 3, 4.0, side), all_of_them.error, root_of(prior.covariance(blocks))
            )
            for side in ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))
        ]
    )
    assert expected(all_of_them, SMALL, 3, prior, 4.0) == pytest.approx(exact, rel=0.03)
    even = Soundings.even((10.4, 50.1, 11.2, 50.7), 2000, 0.015)
    assert len(even.error) < 300
    assert expected(even, SMALL, 3, prior, 4.0) == pytest.approx(exact, rel=0.03)
