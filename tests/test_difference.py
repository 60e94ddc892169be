"""How one Jacobian differs from another, on rows that one can do by hand."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stilt_assets import jacobian
from stilt_assets.difference import compare
from stilt_assets.errors import DamagedError
from stilt_assets.grid import Grid
from stilt_assets.matrix import layout_of
from stilt_assets.receptor import Receptor
from stilt_assets.store import Store, open_store

KEY = "20190530T0958Z_tropomi_slc"
GRID = Grid(0.0, 0.0, 0.5, 0.3, 0.1)  # 5 columns, 3 rows of 0.1 degrees at the equator
CELL = 11.119  # km
RELEASE = datetime(2019, 5, 30, 9, 58, tzinfo=UTC)
Cell = tuple[int, int, int, float]  # hour back, row, column of the grid, foot


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def made(
    store: Store,
    name: str,
    rows: Sequence[Sequence[Cell]],
    *,
    soundings: Sequence[str] | None = None,
    at: Sequence[float] | None = None,
    grid: Grid = GRID,
    error: float = 0.1,
) -> str:
    """A Jacobian whose rows hold these cells; pixels lie at these longitudes; `name` is a digit."""
    soundings = [f"s{number}" for number in range(len(rows))] if soundings is None else soundings
    at = [0.1 * number for number in range(len(rows))] if at is None else at
    digits = name * 12
    folder = store.result(KEY, f"footprints-{digits}")
    cells = [(row, *cell) for row, found in enumerate(rows) for cell in found]
    names = {"row": "i4", "hour": "i1", "y": "i2", "x": "i2", "foot": "f4"}
    columns = {each: np.array([cell[n] for cell in cells], kind) for n, (each, kind) in enumerate(names.items())}
    with store.building(folder, "pack=00000.parquet") as work:
        pq.write_table(pa.table(columns), work / "pack=00000.parquet", write_page_checksum=True)
    one = pa.list_(pa.float64())
    pixels = pa.table(
        {
            "sounding_id": pa.array(soundings, pa.string()),
            "time": pa.array([RELEASE] * len(rows), pa.timestamp("ms", "UTC")),
            "longitude": np.array(at, float),
            "latitude": np.full(len(rows), 0.05),
            "value": np.ones(len(rows)),
            "uncertainty": np.ones(len(rows)),
            "units": ["ppb"] * len(rows),
            **{each: pa.array([[1.0]] * len(rows), one) for each in ("layer_weight", "ak", "apriori")},
        }
    )
    with store.building(store.result(KEY, f"pixels-{digits}"), "pixels.parquet") as work:
        pq.write_table(pixels, work / "pixels.parquet", write_page_checksum=True)
    receptors = [Receptor(row, RELEASE, 0.0, 0.0, 0.0, 100.0) for row in range(len(rows))]
    outcomes = [
        {"pixel": row, "status": "ok", "reason": "", "mc_error": error, "left_domain": 0.0} for row in range(len(rows))
    ]
    facts = {"made_from": [f"pixels-{digits}", "meteorology-0", "footprints-0"]}
    scenery = jacobian.Scenery(pixels, outcomes, layout_of(receptors, 3, grid), {}, None, facts)
    with store.building(store.result(KEY, f"jacobian-{digits}"), jacobian.MARKER) as work:
        jacobian.write_jacobian(work, store, folder, scenery)
    return f"jacobian-{digits}"


def test_the_same_footprints_differ_in_nothing(store: Store) -> None:
    rows = [[(0, 1, 2, 3.0), (2, 0, 4, 1.0)], [(1, 2, 0, 5.0)]]
    found = compare(store, KEY, made(store, "a", rows), made(store, "b", rows))
    assert found.pixels["overlap"].to_pylist() == pytest.approx([1.0, 1.0])
    assert found.pixels["ratio"].to_pylist() == [1.0, 1.0]
    assert found.pixels["shift_km"].to_pylist() == pytest.approx([0.0, 0.0], abs=1e-4)
    assert (found.summary["pixels"], found.summary["only_old"], found.summary["only_new"]) == (2, 0, 0)


def test_overlap_is_of_shapes_and_ratio_of_sums(store: Store) -> None:
    old = made(store, "a", [[(0, 0, 0, 1.0), (0, 0, 1, 3.0)]])
    new = made(store, "b", [[(0, 0, 1, 4.0), (0, 0, 2, 4.0)]])
    found = compare(store, KEY, old, new)
    assert found.pixels["overlap"].to_pylist() == pytest.approx([0.5])  # shares 1/4 3/4 0 and 0 1/2 1/2
    assert found.pixels["ratio"].to_pylist() == pytest.approx([2.0])
    assert compare(store, KEY, new, old).pixels["ratio"].to_pylist() == pytest.approx([0.5])


def test_hours_are_summed_before_shapes_are_compared(store: Store) -> None:
    old = made(store, "a", [[(0, 0, 1, 2.0), (1, 0, 3, 2.0)]])
    new = made(store, "b", [[(2, 0, 1, 1.0), (0, 0, 1, 1.0), (2, 0, 3, 2.0)]])
    assert compare(store, KEY, old, new).pixels["overlap"].to_pylist() == pytest.approx([1.0])


def test_a_plume_that_moves_two_cells_east_and_one_north_moves_by_their_distance(store: Store) -> None:
    old = made(store, "a", [[(0, 0, 0, 1.0), (0, 0, 1, 1.0)]])
    new = made(store, "b", [[(0, 1, 2, 7.0), (0, 1, 3, 7.0)]])
    found = compare(store, KEY, old, new)
    assert found.pixels["shift_km"].to_pylist() == pytest.approx([CELL * np.hypot(2, 1)], rel=1e-3)
    assert found.pixels["overlap"].to_pylist() == [0.0]


def test_the_centre_of_mass_goes_with_the_weights(store: Store) -> None:
    old = made(store, "a", [[(0, 1, 0, 3.0), (0, 1, 4, 1.0)]])  # centre at column 1
    new = made(store, "b", [[(0, 1, 0, 1.0), (0, 1, 4, 3.0)]])  # centre at column 3
    assert compare(store, KEY, old, new).pixels["shift_km"].to_pylist() == pytest.approx([2 * CELL], rel=1e-3)


def test_noise_of_both_sides_is_in_the_error_of_the_ratio(store: Store) -> None:
    old = made(store, "a", [[(0, 0, 0, 2.0)]], error=0.2)  # a tenth
    new = made(store, "b", [[(0, 0, 0, 4.0)]], error=0.3)
    (error,) = compare(store, KEY, old, new).pixels["ratio_error"].to_pylist()
    assert error == pytest.approx(2.0 * np.hypot(0.1, 0.075))


def test_pixels_are_matched_by_sounding_wherever_their_rows_are(store: Store) -> None:
    old = made(store, "a", [[(0, 0, 0, 1.0)], [(0, 0, 1, 2.0)], [(0, 0, 2, 3.0)]], soundings=["x", "y", "z"])
    new = made(store, "b", [[(0, 0, 2, 3.0)], [(0, 0, 0, 4.0)]], soundings=["z", "x"], at=[0.31, 0.32])
    found = compare(store, KEY, old, new)
    assert list(zip(*(found.pixels[name].to_pylist() for name in ("pixel_old", "pixel_new")), strict=True)) == [
        (0, 1),
        (2, 0),
    ]
    assert found.pixels["ratio"].to_pylist() == pytest.approx([4.0, 1.0])
    assert (found.summary["pixels"], found.summary["only_old"], found.summary["only_new"]) == (2, 1, 0)
    assert found.summary["ratio_of_totals"] == pytest.approx(7 / 4), "of pixels that both have"


def test_where_soundings_have_other_names_time_and_place_match(store: Store) -> None:
    old = made(store, "a", [[(0, 0, 0, 1.0)], [(0, 0, 1, 2.0)]], soundings=["1", "2"], at=[0.1, 0.2])
    new = made(store, "b", [[(0, 0, 1, 6.0)], [(0, 0, 0, 1.0)]], soundings=["p", "q"], at=[0.2, 0.4])
    found = compare(store, KEY, old, new)
    assert found.pixels["pixel_old"].to_pylist() == [1]
    assert found.pixels["ratio"].to_pylist() == pytest.approx([3.0])


def test_a_row_without_influence_is_counted_and_compared_with_nothing(store: Store) -> None:
    old = made(store, "a", [[(0, 0, 0, 1.0)], []])
    new = made(store, "b", [[(0, 0, 0, 1.0)], [(0, 0, 1, 2.0)]])
    found = compare(store, KEY, old, new)
    assert (found.summary["pixels"], found.summary["compared"]) == (2, 1)
    assert np.isnan(found.pixels["ratio"][1].as_py())
    both = compare(store, KEY, made(store, "c", [[]]), made(store, "d", [[]]))
    assert both.summary["overlap_median"] is None
    json.dumps(both.as_json(), allow_nan=False)


def test_on_another_grid_there_is_no_overlap_but_sums_and_centres(store: Store) -> None:
    coarse = Grid(0.0, 0.0, 0.6, 0.3, 0.3)
    old = made(store, "a", [[(0, 1, 1, 1.0)]])
    new = made(store, "b", [[(0, 0, 0, 3.0)]], grid=coarse)  # (0.15, 0.15), as cell (1, 1) of the other
    found = compare(store, KEY, old, new)
    assert np.isnan(found.pixels["overlap"][0].as_py())
    assert found.pixels["ratio"].to_pylist() == pytest.approx([3.0])
    assert found.pixels["shift_km"].to_pylist() == pytest.approx([0.0], abs=1e-3)


def test_rows_beyond_the_first_block_are_read_as_well(store: Store) -> None:
    rows = [[(0, 0, row % 5, float(row + 1))] for row in range(600)]
    twice = [[(hour, y, x, 2 * foot)] for [(hour, y, x, foot)] in reversed(rows)]
    names = [f"s{row}" for row in range(600)]
    old, new = made(store, "a", rows, soundings=names), made(store, "b", twice, soundings=names[::-1])
    found = compare(store, KEY, old, new)
    assert set(found.pixels["ratio"].to_pylist()) == {2.0}
    assert found.pixels["overlap"].to_pylist() == pytest.approx([1.0] * 600)


def test_a_jacobian_that_is_gone_or_damaged_is_told(store: Store) -> None:
    old, new = (made(store, name, [[(0, 0, 0, 1.0)]]) for name in "ab")
    with pytest.raises(DamagedError, match=r"jacobian-cccccccccccc/jacobian.zarr is not there"):
        compare(store, KEY, old, "jacobian-cccccccccccc")
    (Path(store.result(KEY, new)) / "jacobian.zarr" / "zarr.json").write_text("{")
    with pytest.raises(DamagedError, match="is damaged"):
        compare(store, KEY, old, new)
