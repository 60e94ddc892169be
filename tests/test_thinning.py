"""Fewer pixels say what all of them said: exactly, if they are means; and those left out are counted by reason."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from place import BOUNDS, Place

from stilt_assets.arrays import read_array
from stilt_assets.errors import NoArchiveError, SettingsError
from stilt_assets.jacobian import prior_term
from stilt_assets.particles import column_weights
from stilt_assets.receptor import PIXELS, kernels_from, receptors_from, write_pixels
from stilt_assets.retrieval import Retrieval, read_retrieval, worth_running
from stilt_assets.settings import PixelSettings

ONE_KERNEL = {"ak_pressure": [700.0, 300.0, 50.0], "ak": [1.1, 1.0, 0.5], "apriori": [1900.0, 1880.0, 1500.0]}


def pixel(row: int, column: int, **differs: Any) -> dict[str, Any]:
    """A pixel of 0.1 x 0.1 degrees, one place in a tilted lattice of lines and columns."""
    lon, lat = -112.0 + 0.1 * column + 0.02 * row, 40.0 + 0.1 * row - 0.01 * column
    plain = {
        "sounding_id": f"p_{row}_{column}",
        "time": pd.Timestamp("2020-02-29T20:30:00") + pd.Timedelta(seconds=row),
        "longitude": lon,
        "latitude": lat,
        "longitude_bounds": lon + np.array([-0.05, 0.05, 0.05, -0.05]),
        "latitude_bounds": lat + np.array([-0.05, -0.05, 0.05, 0.05]),
        "surface_altitude": 1000.0,
        "surface_pressure": 900.0,
        "zenith": 10.0,
        "azimuth": 350.0,
        "value": 1900.0,
        "uncertainty": 2.0,
        "units": "ppb",
        "pressure_levels": np.array([900.0, 500.0, 100.0, 0.5]),
        "layer_weight": np.array([0.45, 0.44, 0.11]),
        **{name: np.array(values) for name, values in ONE_KERNEL.items()},
        "qa": 1.0,
        "row": row,
        "column": column,
        "surface": "land",
        "glint": False,
    }
    return {**plain, **differs}


def scene(*pixels: dict[str, Any]) -> Retrieval:
    table = pd.DataFrame(list(pixels))
    for name in ("row", "column"):
        table[name] = table[name].astype(np.int32)
    table.insert(0, "pixel", np.arange(len(table), dtype=np.int32))
    return Retrieval("tropomi", "made up", table, {"outside_bounds": 5})


def block() -> Retrieval:
    """Two lines of three pixels, none like the other."""
    return scene(
        pixel(4, 6, value=1890.0, uncertainty=1.0, azimuth=350.0, zenith=8.0),
        pixel(4, 7, value=1900.0, uncertainty=2.0, azimuth=10.0, surface_pressure=880.0, qa=0.6),
        pixel(4, 8, value=2000.0, uncertainty=3.0),
        pixel(
            5, 6, value=1920.0, uncertainty=2.0, ak=np.array([1.3, 0.9, 0.2]), ak_pressure=np.array([720, 310, 40.0])
        ),
        pixel(5, 7, value=1880.0, uncertainty=4.0, apriori=np.array([1950.0, 1870.0, 1400.0])),
        pixel(5, 8, value=1800.0, uncertainty=3.0),
    )


def chosen(**given: Any) -> PixelSettings:
    return PixelSettings.model_validate(given)


def of_two(**more: Any) -> PixelSettings:
    return chosen(aggregate={"size": 2, **more})


# ---- aggregation: by hand


def test_a_block_is_one_pixel_with_its_members_and_their_weights() -> None:
    found = worth_running(block(), of_two())
    first, second = (row for _, row in found.pixels.iterrows())
    assert found.pixels["pixel"].tolist() == [0, 1]
    raw = np.array([1.0, 1 / 4, 1 / 4, 1 / 16])  # one over each squared error
    assert [(each["row"], each["column"]) for each in first["members"]] == [(4, 6), (4, 7), (5, 6), (5, 7)]
    assert [each["weight"] for each in first["members"]] == pytest.approx(raw / raw.sum())
    assert [(each["row"], each["column"], each["weight"]) for each in second["members"]] == [(4, 8, 0.5), (5, 8, 0.5)]
    assert (first["sounding_id"], second["sounding_id"]) == ("p_4_6+3", "p_4_8+1")


def test_values_and_errors_are_propagated() -> None:
    found = worth_running(block(), of_two()).pixels.iloc[0]
    weight = np.array([16, 4, 4, 1]) / 25
    assert found["value"] == pytest.approx(weight @ [1890, 1900, 1920, 1880])
    assert found["uncertainty"] == pytest.approx(1 / np.sqrt(1 + 1 / 4 + 1 / 4 + 1 / 16))
    assert found["surface_pressure"] == pytest.approx(weight @ [900, 880, 900, 900])
    assert found["qa"] == 0.6


@pytest.mark.parametrize(
    ("correlation", "expected"), [(0.0, np.sqrt(1 + 4 + 4 + 16) / 4), (1.0, 9 / 4), (0.5, np.sqrt((25 + 81) / 2) / 4)]
)
def test_errors_that_go_together_do_not_average_out(correlation: float, expected: float) -> None:
    found = worth_running(block(), of_two(weights="equal", correlation=correlation))
    assert found.pixels["uncertainty"].iloc[0] == pytest.approx(expected)


def test_equal_members_follow_the_superobservations_of_eskes() -> None:
    same = scene(*(pixel(2, column) for column in range(2)), *(pixel(3, column) for column in range(2)))
    found = worth_running(same, of_two(correlation=0.15))
    assert found.pixels["uncertainty"].tolist() == pytest.approx([2.0 * np.sqrt(0.85 / 4 + 0.15)])


def test_a_member_without_an_error_counts_alone() -> None:
    found = worth_running(scene(pixel(0, 0, uncertainty=0.0, value=1870.0), pixel(0, 1)), of_two())
    assert found.pixels[["value", "uncertainty"]].iloc[0].tolist() == [1870.0, 0.0]


def test_directions_are_averaged_the_short_way_round() -> None:
    pair = scene(pixel(0, 0, azimuth=350.0), pixel(0, 1, azimuth=20.0))
    assert worth_running(pair, of_two()).pixels["azimuth"].iloc[0] == pytest.approx(5.0)


def test_a_pixels_place_and_time_are_its_members_means_also_across_the_antimeridian() -> None:
    pair = scene(
        pixel(0, 0, longitude=179.9, latitude=10.0, longitude_bounds=np.array([179.8, 180.0, -180.0, 179.8])),
        pixel(0, 1, longitude=-179.7, latitude=10.0, longitude_bounds=np.array([-179.8, -179.6, -179.6, -179.8])),
    )
    found = worth_running(pair, of_two()).pixels.iloc[0]
    assert found["longitude"] == pytest.approx(-179.9)
    assert found["latitude"] == pytest.approx(10.0, abs=1e-4)
    assert set(np.round(found["longitude_bounds"], 6)) <= {179.8, 180.0, -180.0, -179.6, -179.8}
    late = scene(pixel(0, 0), pixel(0, 1, time=pd.Timestamp("2020-02-29T20:30:03")))
    assert f"{worth_running(late, of_two()).pixels['time'].iloc[0]:%H:%M:%S.%f}" == "20:30:01.500000"


def test_corners_are_those_of_the_members_hull_counter_clockwise() -> None:
    found = worth_running(scene(pixel(0, 0), pixel(0, 1)), of_two()).pixels.iloc[0]
    lon, lat = found["longitude_bounds"], found["latitude_bounds"]
    assert (lon.min(), lon.max()) == pytest.approx((-112.05, -111.85))
    assert (lat.min(), lat.max()) == pytest.approx((39.94, 40.05))
    area = np.sum(lon * np.roll(lat, -1) - np.roll(lon, -1) * lat) / 2
    assert area == pytest.approx(0.021)  # two squares of 0.01, and the triangles between them


def test_a_pixel_alone_stays_what_it_was_to_the_last_bit() -> None:
    lonely = scene(pixel(3, 3, longitude=-111.1234567, uncertainty=1.7), pixel(9, 9))
    found = worth_running(lonely, of_two()).pixels
    for name in PIXELS.names:
        for now, before in zip(found[name], lonely.pixels[name], strict=True):
            np.testing.assert_array_equal(now, before, err_msg=name)


@pytest.mark.parametrize(
    ("at_least", "kept", "lost"), [(2, 2, {}), (3, 1, {"too_few_members": 2}), (4, 1, {"too_few_members": 2})]
)
def test_small_groups_are_left_out_and_their_pixels_counted(at_least: int, kept: int, lost: dict) -> None:
    """One group has four members, the other two."""
    found = worth_running(block(), of_two(at_least=at_least))
    assert len(found.pixels) == kept
    assert found.dropped == {"outside_bounds": 5} | lost


def test_where_all_groups_are_small_no_pixel_is_left() -> None:
    none = worth_running(block(), of_two(at_least=5))
    assert (len(none.pixels), none.dropped["too_few_members"]) == (0, 6)


def test_overpasses_are_never_mixed() -> None:
    twice = scene(pixel(0, 0), pixel(0, 1), pixel(1, 0, time=pd.Timestamp("2020-02-29T22:10:00")))
    assert [len(each) for each in worth_running(twice, of_two()).pixels["members"]] == [2, 1]


def test_cells_of_some_km_need_no_lines_and_columns() -> None:
    flat = block()
    flat = replace(flat, pixels=flat.pixels.assign(row=np.arange(6, dtype=np.int32), column=np.int32(0)))
    with pytest.raises(SettingsError, match="aggregate by km"):
        worth_running(flat, of_two())
    small, large = (worth_running(flat, chosen(aggregate={"km": km})) for km in (1, 500))
    assert [len(each) for each in small.pixels["members"]] == [1] * 6
    assert sum(len(each) for each in large.pixels["members"]) == 6
    assert len(large.pixels) < 6


def test_what_a_block_is_does_not_depend_on_the_bounds() -> None:
    whole = worth_running(block(), of_two()).pixels
    part = block()
    part = replace(part, pixels=part.pixels.loc[part.pixels["column"] >= 7].reset_index(drop=True))
    assert worth_running(part, of_two()).pixels["sounding_id"].tolist() == ["p_4_7+1", "p_4_8+1"]
    assert whole["sounding_id"].tolist()[1] == "p_4_8+1"


# ---- aggregation: what a row of H means

shares = st.lists(st.floats(0.05, 1.0), min_size=4, max_size=4)
kernels = st.lists(st.floats(-0.5, 2.0), min_size=3, max_size=3)


@settings(max_examples=20)
@given(st.lists(kernels, min_size=4, max_size=4), shares, st.lists(st.floats(850, 1000), min_size=4, max_size=4))
def test_a_particles_weight_is_the_weighted_mean_of_what_each_member_gives_it(
    each: list[list[float]], errors: list[float], ground: list[float]
) -> None:
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    members = [
        pixel(*place, ak=np.array(kernel), uncertainty=error, surface_pressure=pressure)
        for place, kernel, error, pressure in zip(places, each, errors, ground, strict=True)
    ]
    particles = {
        "release_pressure": np.linspace(870.0, 20.0, 40),
        "surface_pressure": np.full(40, 880.0),
        "weight": np.linspace(1.0, 2.0, 40) / 60,
    }
    omega = [column_weights(particles, kernel) for kernel in kernels_of(scene(*members))]
    (united,) = kernels_of(worth_running(scene(*members), of_two()))
    weight = np.array(errors) ** -2.0 / np.sum(np.array(errors) ** -2.0)
    np.testing.assert_allclose(column_weights(particles, united), weight @ omega, rtol=1e-9, atol=1e-12)


def kernels_of(found: Retrieval) -> list:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_pixels(Path(folder), found, 2500)
        return kernels_from(pq.read_table(Path(folder) / "kernels.parquet"))


def test_what_a_pixel_carries_of_its_prior_is_the_weighted_mean_of_its_members(tmp_path: Path) -> None:
    write_pixels(tmp_path, block(), 2500)
    before = prior_term(pq.read_table(tmp_path / "pixels.parquet"))
    write_pixels(tmp_path, worth_running(block(), of_two()), 2500)
    table = pq.read_table(tmp_path / "pixels.parquet")
    weight = np.array([16, 4, 4, 1]) / 25
    assert prior_term(table)[0] == pytest.approx(weight @ before[[0, 1, 3, 4]], rel=1e-12)
    assert table.schema.names == [*PIXELS.names, "members", "prior_term"]
    assert str(table.schema.field("members").type).startswith("list<element: struct<row: int32, column: int32, weight:")


# ---- masks


@pytest.mark.parametrize(
    ("given", "reason", "left"),
    [
        ({"quality": 0.7}, "below_quality", [0, 2, 3, 4, 5]),
        ({"quality": 1.0}, "below_quality", [0, 2, 3, 4, 5]),  # what is as good as asked for stays
        ({"surface": ["land"]}, "other_surface", [0, 1, 2, 3]),
        ({"surface": ["water", "mixed"]}, "other_surface", [4, 5]),
        ({"glint": False}, "glint", [0, 1, 2, 3, 5]),
    ],
)
def test_pixels_that_a_mask_leaves_out_are_counted_by_reason(given: dict, reason: str, left: list[int]) -> None:
    whole = block()
    whole.pixels["surface"] = ["land"] * 4 + ["water", "mixed"]
    whole.pixels["glint"] = [False] * 4 + [True, False]
    found = worth_running(whole, chosen(**given))
    assert found.pixels["sounding_id"].tolist() == whole.pixels["sounding_id"].iloc[left].tolist()
    assert found.pixels["pixel"].tolist() == list(range(len(left)))
    assert found.dropped == {"outside_bounds": 5, reason: 6 - len(left)}


def test_a_pixel_is_counted_by_the_first_reason_only() -> None:
    found = worth_running(block(), chosen(quality=0.7, surface=["water"]))
    assert found.dropped == {"outside_bounds": 5, "below_quality": 1, "other_surface": 5}
    assert len(found.pixels) == 0


def test_pixels_of_a_product_that_does_not_tell_its_surface_are_counted_as_unknown() -> None:
    silent = replace(block(), pixels=block().pixels.drop(columns=["surface", "glint"]))
    for wish, reason in (({"surface": ["land"]}, "unknown_surface"), ({"glint": False}, "unknown_glint")):
        assert worth_running(silent, chosen(**wish)).dropped == {"outside_bounds": 5, reason: 6}


def test_tropomis_pixels_over_water_look_into_the_glint(shared: Path) -> None:
    (file,) = (shared / "data" / "retrievals").glob("S5P_BLND_*.nc")
    found = read_retrieval(str(file), (-180.0, -90.0, 180.0, 90.0))
    water = int((found.pixels["surface"] == "water").sum())
    assert water > 0
    assert worth_running(found, chosen(glint=False)).dropped["glint"] == water
    assert worth_running(found, chosen(surface=["land", "mixed"])).dropped["other_surface"] == water


def lake(folder: Path, *corners: tuple[float, float]) -> str:
    ring = [list(corner) for corner in (*corners, corners[0])]
    collection = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}],
    }
    (folder / "lake.geojson").write_text(json.dumps(collection))
    return str(folder / "lake.geojson")


def test_pixels_inside_a_drawn_polygon_are_left_out(tmp_path: Path) -> None:
    whole = block()
    lon, lat = whole.pixels[["longitude", "latitude"]].iloc[1]
    mask = lake(tmp_path, (lon - 0.01, lat - 0.01), (lon + 0.02, lat - 0.01), (lon, lat + 0.02))
    found = worth_running(whole, chosen(mask=mask))
    assert found.dropped["masked"] == 1
    assert "p_4_7" not in set(found.pixels["sounding_id"])


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"type": "Point", "coordinates": [1, 2]}', '{"features": [1]}']
)
def test_a_mask_that_is_none_is_told_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "lake.geojson").write_text(content)
    with pytest.raises(SettingsError, match=r"the mask .*lake.geojson") as caught:
        worth_running(block(), chosen(mask=str(tmp_path / "lake.geojson")))
    assert "\n" not in str(caught.value)


def test_a_mask_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read the mask"):
        worth_running(block(), chosen(mask=str(tmp_path / "none.geojson")))


# ---- thinning


@pytest.mark.parametrize("every", [2, 3, 4, 7])
def test_one_in_so_many_is_kept_and_spread_over_lines_and_columns(every: int) -> None:
    whole = scene(*(pixel(row, column) for row in range(84) for column in range(84)))
    found = worth_running(whole, chosen(every=every))
    assert len(found.pixels) == 84 * 84 // every
    assert found.dropped["thinned"] == 84 * 84 - len(found.pixels)
    for name in ("row", "column"):
        assert set(found.pixels[name].value_counts()) == {84 // every}


def test_a_pixel_stays_or_goes_whatever_became_of_the_others() -> None:
    whole = scene(*(pixel(row, column) for row in range(6) for column in range(6)))
    stays = set(worth_running(whole, chosen(every=3)).pixels["sounding_id"])
    some = replace(whole, pixels=whole.pixels.iloc[1::2].reset_index(drop=True))
    assert set(worth_running(some, chosen(every=3)).pixels["sounding_id"]) == stays & set(some.pixels["sounding_id"])


def test_all_pixels_of_the_core_are_kept() -> None:
    whole = scene(*(pixel(row, column) for row in range(6) for column in range(6)))
    core = (-112.01, 39.9, -111.75, 40.25)
    found = worth_running(whole, chosen(every=4, core=core)).pixels
    inside = (whole.pixels["longitude"] <= core[2]) & (whole.pixels["latitude"] <= core[3])
    assert 0 < inside.sum() < 20
    assert set(whole.pixels["sounding_id"][inside]) <= set(found["sounding_id"])
    assert len(found) < 36


def test_blocks_are_thinned_as_blocks_and_their_members_counted() -> None:
    whole = scene(*(pixel(row, column) for row in range(8) for column in range(8)))
    found = worth_running(whole, chosen(every=2, aggregate={"size": 2}))
    assert [len(each) for each in found.pixels["members"]] == [4] * 8
    assert found.dropped["thinned"] == 32


# ---- through the pipeline


def test_a_scenes_key_does_not_depend_on_what_is_run() -> None:
    first, *rest = (pixel(0, 0, qa=0.5), pixel(90, 0), pixel(91, 0))
    whole = scene(first, *rest)
    found = worth_running(whole, chosen(quality=0.8))
    assert found.pixels["time"].min() > whole.pixels["time"].min()
    assert found.time == whole.time


def test_defaults_leave_results_as_they_are_and_settings_give_them_other_names(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared)
    place.add()
    from stilt_assets.recipes import pixels_recipe

    plain = pixels_recipe(place.desk())
    assert set(plain.made_from) == {"code", "pystilt", "retrieval", "bounds", "top"}
    names = {plain.name}
    mask = lake(tmp_path, (-112.3, 40.4), (-112.2, 40.4), (-112.2, 40.5))
    for wish in (
        {"quality": 0.6},
        {"aggregate": {"size": 2}},
        {"aggregate": {"size": 2, "correlation": 0.1}},
        {"every": 2},
        {"every": 2, "core": BOUNDS},
        {"mask": mask},
        {"inside_meteorology": True},
    ):
        place.change(targets__slc__pixels=wish)
        names.add(pixels_recipe(place.desk()).name)
    assert len(names) == 8
    lake(tmp_path, (-112.3, 40.4), (-112.2, 40.4), (-112.2, 40.6))
    place.change(targets__slc__pixels={"mask": "lake.geojson"})
    assert pixels_recipe(place.desk()).name not in names


def test_a_scene_of_blocks_has_a_jacobian_with_a_row_for_each(tmp_path: Path, shared: Path) -> None:
    still = {"simulation__transport": "still_air:StillAir", "targets__slc__pixels": {"aggregate": {"size": 2}}}
    place = Place(tmp_path, shared, **still)
    place.add()
    place.make()
    table = pq.read_table(place.result("pixels") / "pixels.parquet")
    receptors = receptors_from(pq.read_table(place.result("pixels") / "receptors.parquet"))
    record = json.loads((place.scene / "scene.json").read_text())
    summary = record["results"][record["current"]["pixels"]]["summary"]
    assert table.num_rows == len(receptors) == summary["pixels"] < 9
    assert summary["members"] == 9 == sum(len(each) for each in table["members"].to_pylist())
    path = place.result("jacobian") / "jacobian.zarr"
    np.testing.assert_array_equal(read_array(path, "obs/value"), table["value"].to_numpy())
    np.testing.assert_array_equal(read_array(path, "obs/prior_term"), table["prior_term"].to_numpy())
    assert (read_array(path, "obs/row_sum") > 0).all()
    whole = read_retrieval(str(place.retrieval), (*BOUNDS,)).pixels
    assert read_array(path, "obs/value").min() > whole["value"].min()


def test_pixels_outside_the_meteorology_are_counted_and_not_lost(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared, simulation__transport="still_air:StillAir")
    place.move_pixel(0, 1, -113.2, 40.5)
    place.change(targets__slc__bounds=[-113.5, 40.44, -112.05, 40.56])
    place.add()
    assert len(read_retrieval(str(place.retrieval), (-113.5, 40.44, -112.05, 40.56)).pixels) == 9
    place.change(targets__slc__pixels={"inside_meteorology": True})
    place.make()
    record = json.loads((place.scene / "scene.json").read_text())
    summary = record["results"][record["current"]["pixels"]]["summary"]
    assert (summary["pixels"], summary["dropped"]["outside_meteorology"]) == (8, 1)


def test_a_folder_without_files_holds_no_place(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared, meteorology__source="./empty")
    place.add()
    (tmp_path / "empty").mkdir()
    place.change(targets__slc__pixels={"inside_meteorology": True})
    with pytest.raises(NoArchiveError, match="no ARL file in"):
        place.make()
