"""Pack files become H: five pixels, two by five cells, three hours, every number by hand."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
import xarray as xr
import zarr

from stilt_assets.arrays import read_array
from stilt_assets.grid import EARTH_RADIUS, Grid
from stilt_assets.jacobian import NAME, Scenery, quantized, write_jacobian
from stilt_assets.matrix import layout_of
from stilt_assets.pack import Packs
from stilt_assets.quality import few_pixels_lost, jacobian_is_physical
from stilt_assets.receptor import PIXELS, Receptor
from stilt_assets.simulation import Outcome, Status
from stilt_assets.store import Store, open_store
from stilt_assets.whole import read_outcomes

GRID = Grid(west=10.0, south=50.0, east=12.5, north=51.0, resolution=0.5)  # 2 rows, 5 columns
DAY = datetime(2019, 5, 30, tzinfo=UTC)
SEVEN = (DAY - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(hours=1) + 7
RELEASES = [DAY.replace(hour=9, minute=58), DAY.replace(hour=9, minute=1), DAY.replace(hour=9, minute=30)]
RELEASES += [DAY.replace(hour=9), DAY.replace(hour=9, minute=59)]
# hours back, row, column, foot, as nobody sorted them; pixels 0 and 3 both see row 0, column 3, and 0 sees it twice
CELLS = {
    0: [(1, 0, 3, 4.0), (0, 1, 4, 0.5), (2, 0, 1, 0.25), (0, 0, 3, 1.0), (1, 1, 0, 2.0)],
    1: [],
    3: [(0, 0, 3, 1.5), (1, 1, 2, 3.0)],
}
INDPTR = [0, 5, 5, 5, 7, 7]
# (hour * 2 + row) * 5 + column; pixel 0's hour back 0 is the third hour, pixel 3's the second
INDICES = [1, 13, 15, 23, 29, 7, 13]
DATA = [0.25, 4.0, 2.0, 1.0, 0.5, 3.0, 1.5]
OUTCOMES = {
    0: Outcome(0, Status.ok, "", "", 1, 0.5, 20, 11, row_sum=7.75, mc_error=0.125, left_domain=0.25),
    1: Outcome(1, Status.empty, "", "", 1, 0.5, 20, 12, row_sum=0.0, mc_error=0.0, left_domain=1.0),
    2: Outcome(2, Status.failed, "timeout", "took too long", 3, 0.0, 0, 13),
    3: Outcome(3, Status.ok, "", "", 1, 0.5, 20, 14, row_sum=4.5, mc_error=0.75, left_domain=0.0),
}  # and pixel 4 has none
PACKS = ((1, 3), (0, 2))


def receptors() -> list[Receptor]:
    return [Receptor(pixel, time, 11.0 + pixel / 4, 50.25, 0.0, 2500.0) for pixel, time in enumerate(RELEASES)]


def pixels() -> pa.Table:
    rows = [
        {
            "pixel": pixel,
            "time": time + timedelta(milliseconds=840 * pixel),
            "longitude": 11.0 + pixel / 4,
            "latitude": 50.25,
            "value": 1900.0 + pixel,
            "uncertainty": 2.0 + pixel,
            "units": "ppb",
            "ak": [0.75, 0.5],
            "apriori": [1000.0 * (pixel + 1), 400.0],
            "layer_weight": [0.8, 0.2],
        }
        for pixel, time in enumerate(RELEASES)
    ]
    return pa.Table.from_pylist(rows, schema=PIXELS)


def filled(
    root: Path,
    packs: Sequence[Sequence[int]] = PACKS,
    cells: dict[int, list[tuple[int, int, int, float]]] = CELLS,
    outcomes: dict[int, Outcome] = OUTCOMES,
) -> tuple[Store, str]:
    """A store with the files of packs, and the folder of footprints in it."""
    store = open_store(str(root))
    made = Packs(store, store.result("scene", "particles-0"), store.result("scene", "footprints-0"), "endpoints")
    kinds = {"particle": "i2", "age": "i2", "lon": "i4", "lat": "i4", "zagl": "i2", "pressure": "i2"}
    kinds |= dict.fromkeys(("release_height", "release_pressure", "weight", "surface_pressure"), "f8")
    ends = {name: np.ones(1, kind) for name, kind in kinds.items()}
    for number, members in enumerate(packs):
        for pixel in members:
            table = np.array(cells.get(pixel, []), float).reshape(-1, 4).T
            columns = {
                name: values.astype(kind)
                for (name, kind), values in zip(
                    {"hour": "i1", "y": "i2", "x": "i2", "foot": "f4"}.items(), table, strict=True
                )
            }
            lost = outcomes[pixel].status == Status.failed
            made.put_aside(number, outcomes[pixel], {} if lost else {"cells": columns, "endpoints": ends})
        made.finish(number, members)
    return store, made.footprints


def scenery_of(store: Store, footprints: str, **changes: Any) -> Scenery:
    layout = layout_of(receptors(), 2, GRID)
    scenery = Scenery(pixels(), read_outcomes(store, footprints), layout, {"block": 1.0}, None, {"scene": "made up"})
    return replace(scenery, **changes)


def written(folder: Path, changes: dict[str, Any] | None = None, **facts: Any) -> Path:
    """A Jacobian of the packs that `facts` describe; the store lies beside it."""
    store, footprints = filled(folder / "store", **facts)
    write_jacobian(folder, store, footprints, scenery_of(store, footprints, **(changes or {})))
    return folder / NAME


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("jacobian"))


def metadata(path: Path, name: str) -> dict[str, Any]:
    return json.loads((path / name / "zarr.json").read_text())


def arrays(path: Path) -> list[str]:
    nodes = [file.parent.relative_to(path).as_posix() for file in path.rglob("zarr.json")]
    return sorted(name for name in nodes if metadata(path, name)["node_type"] == "array")


def contents(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# ---- H


def test_h_is_the_csr_that_one_writes_by_hand(path: Path) -> None:
    assert {name: read_array(path, f"H/{name}").dtype for name in ("indptr", "indices", "data", "time_ptr")} == {
        "indptr": np.int64,
        "indices": np.int32,
        "data": np.float32,
        "time_ptr": np.int32,
    }
    assert read_array(path, "H/indptr").tolist() == INDPTR
    assert read_array(path, "H/indices").tolist() == INDICES
    assert read_array(path, "H/data").tolist() == DATA


def test_time_ptr_says_where_each_hour_begins_within_its_row(path: Path) -> None:
    assert read_array(path, "H/time_ptr").tolist() == [[0, 1, 3, 5], [0] * 4, [0] * 4, [0, 1, 2, 2], [0] * 4]


def test_hours_run_from_the_oldest_that_a_pixel_needs_to_the_latest_release(path: Path) -> None:
    layout = layout_of(receptors(), 2, GRID)
    assert (layout.first_hour, layout.hours, layout.ends.tolist()) == (DAY.replace(hour=7), 3, [3, 3, 3, 2, 3])
    assert layout.shape == (5, 30)


def test_the_attributes_of_h_say_what_it_is(path: Path) -> None:
    assert metadata(path, "H")["attributes"] == {
        "encoding-type": "csr_matrix",
        "encoding-version": "0.1.0",
        "shape": [5, 30],
        "binsparse": {
            "version": "0.1",
            "format": "CSR",
            "shape": [5, 30],
            "number_of_stored_values": 7,
            "data_types": {"pointers_to_1": "int64", "indices_1": "int32", "values": "float32"},
        },
        "units": "ppm m2 s umol-1",
        "row": "obs",
        "column_order": ["time", "lat", "lon"],
        "quantization": "none",
        "keepbits": None,
        "dry_air": "none",
    }


def test_quantization_is_told_in_the_attributes(tmp_path: Path) -> None:
    told = metadata(written(tmp_path, {"keepbits": 7}), "H")["attributes"]
    assert told["keepbits"] == 7
    assert told["quantization"].startswith("7 bits")


@pytest.mark.parametrize("name", ["indices", "data"])
def test_entries_lie_in_chunks_of_2_18_in_shards_of_2_24_compressed_by_zstd_3_with_byte_shuffle(
    path: Path, name: str
) -> None:
    told = metadata(path, f"H/{name}")
    assert told["zarr_format"] == 3
    assert told["chunk_grid"]["configuration"]["chunk_shape"] == [2**24]
    (sharding,) = told["codecs"]
    assert sharding["name"] == "sharding_indexed"
    assert sharding["configuration"]["chunk_shape"] == [2**18]
    blosc = sharding["configuration"]["codecs"][-1]
    assert blosc["name"] == "blosc"
    assert {key: blosc["configuration"][key] for key in ("cname", "clevel", "shuffle", "typesize")} == {
        "cname": "zstd",
        "clevel": 3,
        "shuffle": "shuffle",
        "typesize": 4,
    }


def test_every_array_names_its_dimensions(path: Path) -> None:
    named = {name: tuple(metadata(path, name).get("dimension_names") or ()) for name in arrays(path)}
    obs = ("longitude", "latitude", "pixel", "time", "value", "uncertainty", "prior_term", "background", "z", "status")
    obs += ("reason", "nnz", "row_sum", "mc_error")
    assert named == {f"obs/{name}": ("obs",) for name in obs} | {
        "H/indptr": ("obs_edge",),
        "H/indices": ("entry",),
        "H/data": ("entry",),
        "H/time_ptr": ("obs", "time_edge"),
        "state/time": ("time",),
        "state/time_bnds": ("time", "bnds"),
        "state/lat": ("lat",),
        "state/lon": ("lon",),
        "state/cell_area": ("lat", "lon"),
        "state/crs": (),
        "diag/total_footprint": ("lat", "lon"),
        "diag/obs_count": ("lat", "lon"),
        "diag/cumulative_foot": ("obs", "hour"),
        "diag/left_domain": ("obs",),
        "Hagg/block/H": ("obs", "state"),
        "Hagg/block/time": ("state",),
        "Hagg/block/lat": ("state",),
        "Hagg/block/lon": ("state",),
        "Hagg/block/cell_area": ("state",),
    }


def test_the_root_holds_the_metadata_of_all_consolidated_and_where_it_comes_from(path: Path) -> None:
    root = json.loads((path / "zarr.json").read_text())
    assert set(arrays(path)) <= set(root["consolidated_metadata"]["metadata"])
    assert root["attributes"] == {"Conventions": "CF-1.8", "scene": "made up"}


# ---- beside H


def test_obs_says_what_each_row_is_and_became(path: Path) -> None:
    assert read_array(path, "obs/pixel").tolist() == [0, 1, 2, 3, 4]
    assert read_array(path, "obs/status").tolist() == [1, 2, 3, 1, 0]
    assert read_array(path, "obs/reason").tolist() == ["", "", "timeout", "", ""]
    assert read_array(path, "obs/nnz").tolist() == [5, 0, 0, 2, 0]
    assert read_array(path, "obs/row_sum").tolist() == [7.75, 0.0, 0.0, 4.5, 0.0]
    assert read_array(path, "obs/value").tolist() == [1900.0, 1901.0, 1902.0, 1903.0, 1904.0]
    assert read_array(path, "obs/uncertainty").tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert read_array(path, "obs/longitude").tolist() == [11.0, 11.25, 11.5, 11.75, 12.0]
    assert read_array(path, "obs/latitude").tolist() == [50.25] * 5
    error = read_array(path, "obs/mc_error")
    assert error[[0, 1, 3]].tolist() == [0.125, 0.0, 0.75]
    assert np.isnan(error[[2, 4]]).all()
    assert (np.isnan(read_array(path, "obs/z")) & np.isnan(read_array(path, "obs/background"))).all()
    assert metadata(path, "obs/status")["attributes"] == {
        "flag_values": [0, 1, 2, 3],
        "flag_meanings": "missing ok empty failed",
    }


def test_times_of_pixels_are_utc_to_the_millisecond(path: Path) -> None:
    times = xr.open_zarr(path, group="obs")["time"].to_numpy()
    assert times[3] == np.datetime64("2019-05-30T09:00:02.520")
    assert times[0] == np.datetime64("2019-05-30T09:58:00")


def test_the_prior_term_is_what_the_retrieval_did_not_see_of_its_prior(path: Path) -> None:
    # 0.8 * (1 - 0.75) * 1000 (pixel + 1) + 0.2 * (1 - 0.5) * 400
    assert read_array(path, "obs/prior_term") == pytest.approx([240.0, 440.0, 640.0, 840.0, 1040.0])


def test_state_says_where_and_when_each_column_is(path: Path) -> None:
    assert read_array(path, "state/time").tolist() == [SEVEN, SEVEN + 1, SEVEN + 2]
    assert read_array(path, "state/time_bnds").tolist() == [[SEVEN + hour, SEVEN + hour + 1] for hour in range(3)]
    assert read_array(path, "state/lat").tolist() == [50.25, 50.75]
    assert read_array(path, "state/lon").tolist() == [10.25, 10.75, 11.25, 11.75, 12.25]
    area = read_array(path, "state/cell_area")
    for row, (south, north) in enumerate(((50.0, 50.5), (50.5, 51.0))):
        strip = EARTH_RADIUS**2 * np.radians(0.5) * (np.sin(np.radians(north)) - np.sin(np.radians(south)))
        assert area[row] == pytest.approx([strip] * 5)
    times = xr.open_zarr(path, group="state")["time"].to_numpy()
    assert times.astype("datetime64[h]").astype(str).tolist() == ["2019-05-30T07", "2019-05-30T08", "2019-05-30T09"]


def test_blocks_are_sums_of_their_cells(path: Path) -> None:
    expected = np.zeros((5, 3, 3))  # pixel, hour, block from the west: columns 0-1, 2-3, 4
    expected[0] = [[0.25, 0.0, 0.0], [2.0, 4.0, 0.0], [0.0, 1.0, 0.5]]
    expected[3] = [[0.0, 3.0, 0.0], [0.0, 1.5, 0.0], [0.0, 0.0, 0.0]]
    dense = read_array(path, "Hagg/block/H")
    assert dense.tolist() == expected.reshape(5, 9).tolist()
    assert dense.sum(axis=1).tolist() == read_array(path, "obs/row_sum").tolist()
    assert read_array(path, "Hagg/block/time").tolist() == np.repeat([SEVEN, SEVEN + 1, SEVEN + 2], 3).tolist()
    assert read_array(path, "Hagg/block/lon").tolist() == [10.5, 11.5, 12.5] * 3
    assert read_array(path, "Hagg/block/lat").tolist() == [50.5] * 9
    area, cells = read_array(path, "Hagg/block/cell_area"), read_array(path, "state/cell_area").sum(axis=0)
    assert area == pytest.approx(np.tile([cells[:2].sum(), cells[2:4].sum(), cells[4]], 3))


def test_blocks_of_one_cell_are_h_itself(tmp_path: Path) -> None:
    dense = read_array(written(tmp_path, {"aggregates": {"same": 0.5}}), "Hagg/same/H")
    assert dense.tolist() == scipy.sparse.csr_array((DATA, INDICES, INDPTR), (5, 30)).toarray().tolist()
    assert read_array(tmp_path / NAME, "Hagg/same/lat").tolist() == ([50.25] * 5 + [50.75] * 5) * 3
    assert read_array(tmp_path / NAME, "Hagg/same/lon").tolist() == [10.25, 10.75, 11.25, 11.75, 12.25] * 6


def test_diag_shows_sums_over_pixels_hours_and_rows(path: Path) -> None:
    assert read_array(path, "diag/total_footprint").tolist() == [[0.0, 0.25, 0.0, 6.5, 0.0], [2.0, 0.0, 3.0, 0.0, 0.5]]
    assert read_array(path, "diag/obs_count").tolist() == [[0, 1, 0, 2, 0], [1, 0, 1, 0, 1]]
    cumulative = [[1.5, 7.5, 7.75], [0.0] * 3, [0.0] * 3, [1.5, 4.5, 4.5], [0.0] * 3]
    assert read_array(path, "diag/cumulative_foot").tolist() == cumulative
    left = read_array(path, "diag/left_domain")
    assert left[[0, 1, 3]].tolist() == [0.25, 1.0, 0.0]
    assert np.isnan(left[[2, 4]]).all()


def test_the_summary_counts_what_is_there(tmp_path: Path) -> None:
    store, footprints = filled(tmp_path / "store")
    summary = write_jacobian(tmp_path, store, footprints, scenery_of(store, footprints))
    assert summary == {"shape": [5, 30], "nnz": 7, "total": 12.25, "largest_cell": 6.5, "gaps": 1}


# ---- who opens it


def readme_lines() -> str:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (lines,) = re.findall(r"## Open a Jacobian\n+```python\n(.*?)```", text, flags=re.DOTALL)
    return lines


def test_the_readmes_lines_open_it(path: Path) -> None:
    lines, replaced = re.subn(r'"store/scenes/[^"]*"', repr(str(path)), readme_lines())
    assert replaced == 1
    flux = np.arange(30.0).reshape(3, 2, 5)
    names: dict[str, Any] = {"flux": flux}
    exec(lines, names)
    assert names["enhancement"].tolist() == [0.25 + 52.0 + 30.0 + 23.0 + 14.5, 0.0, 0.0, 21.0 + 19.5, 0.0]
    assert (names["obs"].sizes["obs"], dict(names["state"].sizes)) == (5, {"time": 3, "lat": 2, "lon": 5, "bnds": 2})


@pytest.mark.parametrize("group", ["obs", "state", "diag", "Hagg/block", "H"])
def test_xarray_opens_every_group(path: Path, group: str) -> None:
    with xr.open_zarr(path, group=group) as opened:
        found = opened.load()
    assert set(found.variables) == {name.rsplit("/", 1)[1] for name in arrays(path) if name.rsplit("/", 1)[0] == group}


def test_anndata_opens_h(path: Path) -> None:
    import anndata.io

    matrix = anndata.io.sparse_dataset(zarr.open_group(path, mode="r")["H"])
    assert (
        matrix.to_memory().toarray().tolist()
        == scipy.sparse.csr_array((DATA, INDICES, INDPTR), (5, 30)).toarray().tolist()
    )
    assert matrix[3].toarray().ravel().nonzero()[0].tolist() == [7, 13]


@pytest.mark.parametrize("group", ["obs", "state", "diag", "Hagg/block", "H"])
def test_without_any_entry_it_still_opens(tmp_path: Path, group: str) -> None:
    empty = written(tmp_path, {"keepbits": 10}, cells={})
    assert len(xr.open_zarr(empty, group=group).load().variables) > 0
    names: dict[str, Any] = {"flux": np.ones((3, 2, 5))}
    exec(re.sub(r'"store/scenes/[^"]*"', repr(str(empty)), readme_lines()), names)
    assert names["enhancement"].tolist() == [0.0] * 5
    assert read_array(empty, "diag/total_footprint").tolist() == [[0.0] * 5] * 2


# ---- bytes and bits


THIRDS = {0: [(0, 0, x, float(np.float32(1 / (3 + 4 * x)))) for x in range(5)], 1: [], 3: [(1, 1, 2, 1e-7 / 3)]}


def test_keepbits_none_keeps_every_bit(tmp_path: Path) -> None:
    data = read_array(written(tmp_path, cells=THIRDS), "H/data")
    expected = [foot for pixel in (0, 3) for *_, foot in THIRDS[pixel]]
    assert data.tobytes() == np.array(expected, "f4").tobytes()


def test_keepbits_10_errs_by_2_11_at_most_and_leaves_13_bits_zero(tmp_path: Path) -> None:
    exact = read_array(written(tmp_path / "a", cells=THIRDS), "H/data")
    rounded = read_array(written(tmp_path / "b", {"keepbits": 10}, cells=THIRDS), "H/data")
    assert (rounded.view(np.uint32) & (2**13 - 1) == 0).all()
    error = np.abs(rounded.astype(float) / exact - 1)
    assert 2.0**-14 < error.max() <= 2.0**-11
    sums = read_array(tmp_path / "b" / NAME, "obs/row_sum")
    assert sums[0] == pytest.approx(exact[:5].sum(dtype=float), rel=1e-15)  # of the row before quantization


def test_quantization_rounds_to_nearest_and_leaves_its_input_alone() -> None:
    values = np.array([1.0 + 2.0**-11 + 2.0**-20, 1.0 + 2.0**-11 - 2.0**-20, 1.0 + 2.0**-11, 0.0], "f4")
    before = values.copy()
    assert quantized(values, 10).tolist() == [1.0 + 2.0**-10, 1.0, 1.0, 0.0]
    assert values.tobytes() == before.tobytes()
    assert quantized(values, None).tobytes() == before.tobytes()


def test_written_twice_all_files_have_the_same_bytes(tmp_path: Path) -> None:
    first, second = (contents(written(tmp_path / name, {"keepbits": 10}, cells=THIRDS)) for name in "ab")
    assert len(first) > 40
    assert first == second


@pytest.mark.parametrize("packs", [((0, 2), (1, 3)), ((0, 1, 2, 3),), ((3,), (2,), (1,), (0,))])
def test_how_the_pixels_were_packed_changes_no_byte(tmp_path: Path, path: Path, packs: tuple) -> None:
    assert contents(written(tmp_path, packs=packs)) == contents(path)


# ---- questions


@pytest.fixture
def answer(tmp_path: Path):
    """What quality says of the Jacobian after its arrays were changed, and the store behind it."""
    path = written(tmp_path)
    store = open_store(str(tmp_path / "store"))

    def ask(changes: dict[str, dict[int, float]] | None = None, pixels: int = 5):
        root = zarr.open_group(path, mode="r+")
        for name, values in (changes or {}).items():
            for place, value in values.items():
                root[name][place] = value
        return jacobian_is_physical(path, store, store.result("scene", "footprints-0"), pixels)

    return ask


def test_a_sound_jacobian_is_physical(answer: Any) -> None:
    said = answer()
    assert said.passed
    assert said.numbers == {"rows": 5, "entries": 7, "largest_difference": 0.0}


@pytest.mark.parametrize("keepbits", [3, 10, None])
def test_quantization_alone_is_physical(tmp_path: Path, keepbits: int | None) -> None:
    path = written(tmp_path, {"keepbits": keepbits}, cells=THIRDS)
    store = open_store(str(tmp_path / "store"))
    assert jacobian_is_physical(path, store, store.result("scene", "footprints-0"), 5).passed


@pytest.mark.parametrize(
    ("changes", "pixels", "why"),
    [
        ({"H/data": {4: np.nan}}, 5, "1 entries are not finite"),
        ({"H/data": {0: np.inf, 4: np.nan}}, 5, "2 entries are not finite"),
        ({"H/data": {6: -1.5}}, 5, "1 entries are negative"),
        ({}, 6, "5 rows for 6 pixels"),
        ({"H/data": {6: 1.5001}}, 5, "row sums differ"),
        ({"H/indptr": {1: 4}}, 5, "row sums differ"),  # an entry slipped into the next row
        ({"H/data": {5: 0.0, 6: 0.0}}, 5, "row sums differ"),
    ],
)
def test_a_jacobian_that_is_not_physical_is_told_with_why(
    answer: Any, changes: dict[str, dict[int, float]], pixels: int, why: str
) -> None:
    said = answer(changes, pixels)
    assert not said.passed
    assert why in said.line
    assert "\n" not in said.line


def test_few_pixels_are_lost_if_the_failed_are_no_more_than_tolerated() -> None:
    rows = [{"status": "ok", "reason": ""}] * 6 + [{"status": "empty", "reason": ""}]
    rows += [{"status": "failed", "reason": "timeout"}] + [{"status": "failed", "reason": "killed"}] * 2
    said = few_pixels_lost(rows, 0.3)
    assert said.passed
    assert said.line == "3 of 10 pixels lost (30.0%), 30.0% tolerated: 2 killed, 1 timeout"
    assert said.numbers == {"lost": 3, "pixels": 10, "share": 0.3, "tolerance": 0.3}
    assert not few_pixels_lost(rows, 0.29).passed
    assert few_pixels_lost(rows[:7], 0.0).passed
