"""A Jacobian's map: small, whole, and there even when nothing is on it."""

import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from test_jacobian import CELLS, GRID, OUTCOMES, filled, scenery_of

from stilt_assets.grid import Grid
from stilt_assets.jacobian import NAME, write_jacobian
from stilt_assets.matrix import layout_of
from stilt_assets.picture import WIDTH, total_footprint_map
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Outcome, Status

FINE = Grid(west=10.0, south=50.0, east=12.5, north=51.0, resolution=0.0125)  # 80 rows, 200 columns


def jacobian(folder: Path, cells: dict = CELLS, grid: Grid = GRID, outcomes: dict[int, Outcome] = OUTCOMES) -> Path:
    store, footprints = filled(folder / "store", cells=cells, outcomes=outcomes)
    scenery = scenery_of(store, footprints, aggregates={})
    receptors = [Receptor(pixel, time.as_py(), 0.0, 0.0, 0.0, 1.0) for pixel, time in enumerate(scenery.pixels["time"])]
    facts = scenery_of(store, footprints, aggregates={}, layout=layout_of(receptors, 2, grid))
    write_jacobian(folder, store, footprints, facts)
    return folder / NAME


def plume() -> dict[int, list[tuple[int, int, int, float]]]:
    """A thousand cells over four decades, thinning eastward."""
    random = np.random.default_rng(0)
    x = random.integers(0, 200, 1000)
    y = np.clip(random.normal(40, 2 + x / 10), 0, 79).astype(int)
    places = {(int(row), int(column)): float(10.0 ** (-column / 50)) for row, column in zip(y, x, strict=True)}
    return {0: [(0, row, column, foot) for (row, column), foot in places.items()], 1: [], 3: []}


def size(png: bytes) -> tuple[int, int]:
    """Width and height, from the file's header."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[12:16] == b"IHDR"
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def colours(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3]


def test_it_is_a_png_of_a_screens_width_and_less_height(tmp_path: Path) -> None:
    width, height = size(total_footprint_map(jacobian(tmp_path, plume(), FINE), "a title"))
    assert width == WIDTH * 110
    assert 0.3 * width < height < width


def test_at_60_dpi_it_fits_into_a_page(tmp_path: Path) -> None:
    png = total_footprint_map(jacobian(tmp_path, plume(), FINE), "a title", dpi=60)
    assert size(png)[0] == WIDTH * 60
    assert 5_000 < len(png) < 50_000


def test_the_same_jacobian_gives_the_same_bytes(tmp_path: Path) -> None:
    path = jacobian(tmp_path, plume(), FINE)
    assert total_footprint_map(path, "a title") == total_footprint_map(path, "a title")


@pytest.mark.parametrize("cell", [(0, 0), (1, 4), (1, 0)])
def test_a_cell_is_drawn_where_it_lies(tmp_path: Path, cell: tuple[int, int]) -> None:
    row, column = cell
    drawn = colours(total_footprint_map(jacobian(tmp_path, {0: [(0, row, column, 1.0)]}), "", dpi=60))
    drawn = drawn[:, : int(0.8 * drawn.shape[1])]  # without the colour bar
    below, right = np.nonzero(drawn.std(axis=2) > 0.1)  # dots, axes and text have no colour, but a failed pixel's has
    assert (below.mean() < 0.5 * drawn.shape[0]) == (row == 1)  # north is up
    assert (right.mean() > 0.5 * drawn.shape[1]) == (column == 4)  # east is right


def test_nothing_on_it_is_still_a_map(tmp_path: Path) -> None:
    empty = {pixel: Outcome(pixel, Status.empty, "", "", 1, 0.5, 20, 1) for pixel in (0, 1, 2, 3)}
    png = total_footprint_map(jacobian(tmp_path, {}, outcomes=empty), "nothing", dpi=60)
    assert size(png)[0] == WIDTH * 60
    assert len(png) > 2_000


def test_across_the_antimeridian_it_is_as_wide_as_anywhere_else(tmp_path: Path) -> None:
    there = Grid(west=178.5, south=50.0, east=-179.0, north=51.0, resolution=0.5)
    assert size(total_footprint_map(jacobian(tmp_path / "a", grid=there), "")) == size(
        total_footprint_map(jacobian(tmp_path / "b"), "")
    )
