"""Cells that fluxes live on: where they are, how large they are, which block each belongs to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stilt_assets.grid import EARTH_RADIUS, Grid

SMALL = Grid(10.0, -1.0, 13.0, 1.0, 1.0)
ACROSS = Grid(178.0, 0.0, -177.0, 3.0, 1.0)


def test_cells_are_counted_from_the_west_and_the_south() -> None:
    assert SMALL.shape == (2, 3)
    assert SMALL.lon.tolist() == [10.5, 11.5, 12.5]
    assert SMALL.lat.tolist() == [-0.5, 0.5]


def test_cells_across_the_antimeridian_run_on_from_west_to_east() -> None:
    assert ACROSS.span == 5
    assert ACROSS.shape == (3, 5)
    assert ACROSS.lon.tolist() == [178.5, 179.5, -179.5, -178.5, -177.5]


def test_the_whole_globe_has_all_cells_once() -> None:
    globe = Grid(-180, -90, 180, 90, 10)
    assert globe.shape == (18, 36)
    assert (globe.lon[0], globe.lon[-1], globe.lat[0], globe.lat[-1]) == (-175, 175, -85, 85)


def test_rounding_of_a_resolution_costs_no_cell() -> None:
    assert Grid(0, 0, 0.3, 0.7, 0.1).shape == (7, 3)
    assert Grid(-112.8, 40.15, -111.2, 41.35, 0.01).shape == (120, 160)
    assert Grid(-112.8, 40.15, -111.2, 41.35, 0.01).lon[1] == -112.785


def test_a_cell_at_the_equator_is_a_degree_times_a_degree() -> None:
    degree = np.pi * EARTH_RADIUS / 180
    assert SMALL.cell_area[0, 0] == pytest.approx(degree**2, rel=1e-4)
    assert SMALL.cell_area.shape == (2, 3)
    assert np.array_equal(SMALL.cell_area[0], SMALL.cell_area[1])


def test_areas_sum_to_the_spherical_zones() -> None:
    globe = Grid(-180, -90, 180, 90, 10)
    assert globe.cell_area.sum() == pytest.approx(4 * np.pi * EARTH_RADIUS**2, rel=1e-12)
    north = Grid(-180, 30, 180, 90, 10)  # half of the half above the equator, as sin(30 degrees) = 1/2
    assert north.cell_area.sum() == pytest.approx(np.pi * EARTH_RADIUS**2, rel=1e-12)
    assert ACROSS.cell_area.sum() == pytest.approx(np.radians(5) * np.sin(np.radians(3)) * EARTH_RADIUS**2, rel=1e-12)


def test_cells_grow_towards_the_equator() -> None:
    area = Grid(0, 40, 3, 60, 1).cell_area
    assert np.all(np.diff(area[:, 0]) < 0)
    assert np.ptp(area, axis=1).max() == 0


def test_each_cell_knows_its_block() -> None:
    grid = Grid(0, 0, 3, 2, 1)  # 2 x 3 cells in blocks of 2: the eastern block is half empty
    assert grid.block_of(2).tolist() == [0, 0, 1, 0, 0, 1]
    assert grid.coarsened(2) == Grid(0, 0, 4, 2, 2)
    assert grid.block_of(1).tolist() == list(range(6))


def test_blocks_of_a_tall_grid_are_counted_along_the_south_first() -> None:
    grid = Grid(0, 0, 2, 3, 1)
    assert grid.block_of(2).tolist() == [0, 0, 0, 0, 1, 1]
    assert grid.coarsened(2).shape == (2, 1)


@given(
    nlon=st.integers(1, 9),
    nlat=st.integers(1, 9),
    cells=st.integers(1, 4),
    west=st.sampled_from([-180.0, -3.0, 0.0, 171.0]),
    resolution=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_block_sums_lose_nothing(nlon: int, nlat: int, cells: int, west: float, resolution: float) -> None:
    grid = Grid(west, 10.0, round(west + nlon * resolution, 10), round(10 + nlat * resolution, 10), resolution)
    blocks = grid.coarsened(cells * resolution)
    block_of = grid.block_of(cells * resolution)
    assert grid.shape == (nlat, nlon)
    assert blocks.shape == (-(-nlat // cells), -(-nlon // cells))
    assert sorted(set(block_of)) == list(range(blocks.nlat * blocks.nlon))
    each = np.random.default_rng(1).random(grid.shape)
    sums = np.bincount(block_of, weights=each.ravel()).reshape(blocks.shape)
    for y, x in np.ndindex(blocks.shape):
        assert sums[y, x] == pytest.approx(each[y * cells : (y + 1) * cells, x * cells : (x + 1) * cells].sum())
    for cell, block in enumerate(block_of):
        assert abs(grid.lat[cell // nlon] - blocks.lat[block // blocks.nlon]) <= cells * resolution / 2
        assert abs(grid.lon[cell % nlon] - blocks.lon[block % blocks.nlon]) <= cells * resolution / 2


def test_blocks_across_the_antimeridian_lie_where_their_cells_do() -> None:
    assert ACROSS.coarsened(1).lon.tolist() == ACROSS.lon.tolist()
    blocks = ACROSS.coarsened(2)
    assert blocks.shape == (2, 3)
    assert blocks.lon.tolist() == [179, -179, -177]
    assert ACROSS.block_of(2)[:5].tolist() == [0, 0, 1, 1, 2]


def test_a_block_that_reaches_over_the_antimeridian_has_its_centre_on_the_globe() -> None:
    assert Grid(177, 0, 180, 1, 1).coarsened(2).lon.tolist() == [178, -180]


def test_longitudes_are_moved_beside_the_grid_by_whole_turns() -> None:
    lon = np.array([178.5, -179.25, -177.0, 360 + 179.5, -360 + 179.5, 2.0, 4.0])
    # The grid's middle is 180.5: what lies within 180 degrees of it runs from 0.5 to 360.5.
    assert ACROSS.unwrap(lon).tolist() == [178.5, 180.75, 183.0, 179.5, 179.5, 2.0, 4.0]
    assert ACROSS.unwrap(np.array([0.25])).tolist() == [360.25]
    assert Grid(-112, 40, -111, 41, 0.1).unwrap(np.array([248.5, -111.5, 68.5 - 0.25])).tolist() == [
        *(-111.5, -111.5, 68.25)
    ]


@given(st.floats(-180, 180, exclude_max=True))
def test_a_longitude_that_is_beside_the_grid_already_keeps_its_bits(lon: float) -> None:
    grid = Grid(-1.0, 0.0, 1.0, 1.0, 1.0)
    assert grid.unwrap(np.array([lon]))[0].tobytes() == np.float64(lon).tobytes()
