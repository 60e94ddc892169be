"""Files of two products become one table of good pixels; those left out are counted by reason."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from taxonomy import causes, seen

from stilt_assets.errors import RetrievalError
from stilt_assets.receptor import PIXELS
from stilt_assets.retrieval import read_retrieval, tropomi, tropomi_blended

WORLD = (-180.0, -90.0, 180.0, 90.0)
DETAIL = "PRODUCT/SUPPORT_DATA/DETAILED_RESULTS"
INPUT = "PRODUCT/SUPPORT_DATA/INPUT_DATA"
VALUE = "PRODUCT/methane_mixing_ratio_bias_corrected"


def one(folder: Path, pattern: str) -> Path:
    (file,) = (folder / "data" / "retrievals").glob(pattern)
    return file


@pytest.fixture
def real(shared: Path) -> Path:
    """A real slice of 10 x 10 pixels: the first 36 good ones in columns 125 to 131."""
    return one(shared, "S5P_OFFL_L2__CH4____2023*.nc")


@pytest.fixture
def blended(shared: Path) -> Path:
    """A real slice of 40 pixels on both sides of the antimeridian."""
    return one(shared, "S5P_BLND_L2__CH4____*.nc")


@pytest.fixture
def made(shared: Path) -> Path:
    return one(shared, "S5P_TEST_L2__CH4____*.nc")


def changed(file: Path, folder: Path, change: Callable[[netCDF4.Dataset], None]) -> str:
    copy = folder / f"{file.stem[:20]}.nc"
    shutil.copyfile(file, copy)
    with netCDF4.Dataset(copy, "a") as dataset:
        change(dataset)
    return str(copy)


def refusal(location: Path | str) -> str:
    with pytest.raises(RetrievalError) as caught:
        read_retrieval(str(location), WORLD)
    line = str(caught.value)
    assert "\n" not in line
    assert Path(location).name in line
    assert (seen(caught.value.reason), caught.value.exit_code) == ("retrieval", 1)
    return line


# ---- which pixels


def test_the_real_slice_has_36_good_pixels_and_64_of_low_quality(real: Path) -> None:
    found = read_retrieval(str(real), WORLD)
    assert len(found.pixels) == 36
    assert found.dropped == {"outside_bounds": 0, "low_quality": 64}
    assert (found.instrument, found.product) == ("tropomi", "S5P_L2__CH4___")
    assert f"{found.time:%Y-%m-%dT%H:%M:%S%z}" == "2023-10-19T20:31:00+0000"


def test_the_blended_slice_has_40_good_pixels_at_one_minute_past_one(blended: Path) -> None:
    found = read_retrieval(str(blended), WORLD)
    assert len(found.pixels) == 40
    assert found.dropped == {"outside_bounds": 0}
    assert (found.instrument, found.product) == ("tropomi-blended", "S5P_BLND_L2__CH4___")
    assert f"{found.time:%Y-%m-%dT%H:%M}" == "2018-04-30T01:05"
    assert found.pixels["zenith"].isna().all()


def test_the_test_scene_has_44_good_pixels_of_48(made: Path) -> None:
    found = read_retrieval(str(made), WORLD)
    assert len(found.pixels) == 44
    assert found.dropped == {"outside_bounds": 0, "low_quality": 4}


def test_values_are_those_of_the_file_and_not_their_neighbours(real: Path) -> None:
    pixels = read_retrieval(str(real), WORLD).pixels
    with netCDF4.Dataset(real) as dataset:
        product, air = dataset["PRODUCT"], dataset[f"{INPUT}/dry_air_subcolumns"]
        kernels = dataset[f"{DETAIL}/column_averaging_kernel"]
        for pixel in pixels.itertuples():
            place = (0, pixel.row - product["scanline"][0], pixel.column - product["ground_pixel"][0])
            assert pixel.value == product["methane_mixing_ratio_bias_corrected"][place]
            assert pixel.longitude == product["longitude"][place]
            np.testing.assert_allclose(pixel.ak, kernels[place][::-1])
            np.testing.assert_allclose(pixel.layer_weight, air[place][::-1] / air[place].sum(), rtol=1e-6)


def test_dry_air_of_a_cut_is_that_of_its_own_pixels(real: Path) -> None:
    whole = read_retrieval(str(real), WORLD).pixels.set_index("sounding_id")
    part = read_retrieval(str(real), (-110.72, 39.38, -110.45, 39.6)).pixels
    assert 5 < len(part) < 20
    for pixel in part.itertuples():
        np.testing.assert_array_equal(pixel.layer_weight, whole.loc[pixel.sounding_id, "layer_weight"])


def test_dry_air_and_coast_of_a_cut_of_the_blended_slice_are_those_of_its_own_pixels(
    blended: Path, tmp_path: Path
) -> None:
    def coast(dataset: netCDF4.Dataset) -> None:
        dataset["surface_classification"][[2, 30]] = 2
        dataset["chi_square_SWIR"][[2, 30]] = 20_001.0

    file = changed(blended, tmp_path, coast)
    whole = read_retrieval(str(blended), WORLD).pixels.set_index("row")
    part = read_retrieval(file, (170.0, -90.0, 180.0, 90.0))
    assert part.dropped["coastal"] == 1
    assert part.pixels["row"].tolist() == [row for row in range(16, 40) if row != 30]
    for pixel in part.pixels.itertuples():
        np.testing.assert_array_equal(pixel.layer_weight, whole.loc[pixel.row, "layer_weight"])


def test_the_blended_value_is_the_blended_one(blended: Path) -> None:
    pixels = read_retrieval(str(blended), WORLD).pixels
    with netCDF4.Dataset(blended) as dataset:
        np.testing.assert_array_equal(pixels["value"], dataset["methane_mixing_ratio_blended"][:])
        assert not np.array_equal(pixels["value"], dataset["methane_mixing_ratio_bias_corrected"][:])


def test_pixels_run_along_the_track_and_then_across(real: Path, made: Path) -> None:
    for file in (real, made):
        pixels = read_retrieval(str(file), WORLD).pixels
        places = list(zip(pixels["row"], pixels["column"], strict=True))
        assert places == sorted(set(places))
        assert len({row for row, _ in places}) > 2
        assert pixels["pixel"].tolist() == list(range(len(pixels)))
        assert pixels["sounding_id"].is_unique


def test_both_products_give_the_columns_of_the_design(real: Path, blended: Path) -> None:
    for file in (real, blended):
        assert set(PIXELS.names) <= set(read_retrieval(str(file), WORLD).pixels.columns)


# ---- bounds


@pytest.mark.parametrize(
    "bounds", [WORLD, (-110.8, 39.4, -110.4, 39.6), (-110.5, -90.0, 180.0, 90.0), (0.0, 0.0, 1.0, 1.0)]
)
def test_bounds_cut_and_the_counts_add_up_to_the_files_pixels(
    real: Path, bounds: tuple[float, float, float, float]
) -> None:
    found = read_retrieval(str(real), bounds)
    with netCDF4.Dataset(real) as dataset:
        lon, lat = (np.asarray(dataset["PRODUCT"][name][0]).ravel() for name in ("longitude", "latitude"))
        good = np.asarray(dataset["PRODUCT/qa_value"][0]).ravel() >= 0.5
    inside = (lon >= bounds[0]) & (lon <= bounds[2]) & (lat >= bounds[1]) & (lat <= bounds[3])
    assert len(found.pixels) == (inside & good).sum()
    assert found.dropped["outside_bounds"] == (~inside).sum()
    assert found.dropped.get("low_quality", 0) == (inside & ~good).sum()
    assert len(found.pixels) + sum(found.dropped.values()) == 100


def test_bounds_hold_their_own_edges(made: Path) -> None:
    first = read_retrieval(str(made), WORLD).pixels.iloc[0]
    edge = (first.longitude, first.latitude)
    assert len(read_retrieval(str(made), (*edge, first.longitude + 0.01, first.latitude + 0.005)).pixels) == 1
    assert len(read_retrieval(str(made), (first.longitude - 0.01, first.latitude - 0.005, *edge)).pixels) == 1


def test_bounds_across_the_antimeridian_hold_what_lies_on_both_sides(blended: Path) -> None:
    with netCDF4.Dataset(blended) as dataset:
        lon, lat = np.asarray(dataset["longitude"][:]), np.asarray(dataset["latitude"][:])
    east, west = lon >= 178.85, lon <= -175.9
    assert 0 < east.sum() != west.sum() > 0
    found = read_retrieval(str(blended), (178.85, -90.0, -175.9, 90.0))
    between = (lon >= 178.85) | (lon <= -175.9)
    assert len(found.pixels) == between.sum() < 40
    assert set(np.sign(found.pixels["longitude"])) == {-1, 1}
    assert found.dropped == {"outside_bounds": 40 - between.sum()}
    lower = read_retrieval(str(blended), (178.85, -90.0, -175.9, 5.0))
    assert len(lower.pixels) == (between & (lat <= 5)).sum() < between.sum()
    assert len(read_retrieval(str(blended), (-175.9, -90.0, 178.85, 90.0)).pixels) == 40 - between.sum()


def test_bounds_without_a_pixel_give_an_empty_table(real: Path, blended: Path) -> None:
    for file, total in ((real, 100), (blended, 40)):
        found = read_retrieval(str(file), (0.0, 50.0, 1.0, 51.0))
        assert len(found.pixels) == 0
        assert found.dropped == {"outside_bounds": total}


# ---- profiles


def test_profiles_begin_at_the_ground(real: Path, blended: Path) -> None:
    for file in (real, blended):
        for pixel in read_retrieval(str(file), WORLD).pixels.itertuples():
            assert np.all(np.diff(pixel.pressure_levels) < 0)
            assert pixel.pressure_levels[0] == pytest.approx(pixel.surface_pressure, rel=1e-6)
            assert np.all(np.diff(pixel.ak_pressure) < 0)
            assert len(pixel.pressure_levels) == 1 + len(pixel.ak_pressure) == 13
            assert len(pixel.ak) == len(pixel.apriori) == len(pixel.layer_weight) == 12
            assert pixel.ak[0] > pixel.ak[-1]
            assert pixel.apriori[0] > 1800 > pixel.apriori[-1] > 1000  # ppb: there is less methane in the stratosphere


def test_layer_weights_sum_to_one(real: Path, blended: Path) -> None:
    for file in (real, blended):
        weights = np.stack(read_retrieval(str(file), WORLD).pixels["layer_weight"].to_list())
        assert weights.min() > 0.08
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)


def test_weights_of_layers_are_shares_turned_upside_down() -> None:
    layers = tropomi.layers(np.array([[1.0, 2.0, 5.0]]))
    assert layers["layer_weight"][0].tolist() == [0.625, 0.25, 0.125]
    assert layers["air"].tolist() == [8.0]


# ---- left out


def test_a_good_pixel_with_a_masked_value_has_no_value(real: Path, tmp_path: Path) -> None:
    def mask(dataset: netCDF4.Dataset) -> None:
        dataset[VALUE][0, 0, :2] = np.ma.masked  # two good pixels
        dataset[VALUE][0, 0, 4] = np.ma.masked  # of low quality anyhow

    found = read_retrieval(changed(real, tmp_path, mask), WORLD)
    assert found.dropped == {"outside_bounds": 0, "low_quality": 64, "no_value": 2}
    assert len(found.pixels) == 34
    assert found.pixels["column"].iloc[0] == 127


def test_a_good_pixel_without_its_error_has_no_value(real: Path, tmp_path: Path) -> None:
    def mask(dataset: netCDF4.Dataset) -> None:
        dataset["PRODUCT/methane_mixing_ratio_precision"][0, 0, 1] = np.ma.masked

    assert read_retrieval(changed(real, tmp_path, mask), WORLD).dropped["no_value"] == 1


@pytest.mark.parametrize(
    "name",
    [
        f"{DETAIL}/column_averaging_kernel",
        f"{INPUT}/methane_profile_apriori",
        f"{INPUT}/dry_air_subcolumns",
        f"{INPUT}/surface_pressure",
        f"{INPUT}/pressure_interval",
    ],
)
def test_a_good_pixel_whose_profile_has_a_hole_has_no_kernel(real: Path, tmp_path: Path, name: str) -> None:
    def mask(dataset: netCDF4.Dataset) -> None:
        variable = dataset[name]
        variable[(0, 1, 2, 7) if variable.ndim == 4 else (0, 1, 2)] = np.ma.masked

    found = read_retrieval(changed(real, tmp_path, mask), WORLD)
    assert found.dropped == {"outside_bounds": 0, "low_quality": 64, "no_kernel": 1}
    assert (3023, 127) not in set(zip(found.pixels["row"], found.pixels["column"], strict=True))


def test_coastal_pixels_of_the_blended_product_are_left_out(blended: Path, tmp_path: Path) -> None:
    def coast(dataset: netCDF4.Dataset) -> None:
        surface, chi = dataset["surface_classification"], dataset["chi_square_SWIR"]
        surface[0] = 3  # water and land in one pixel
        surface[1], chi[1] = 2, 20_001.0
        surface[2], chi[2] = 2, 19_999.0
        surface[3], chi[3] = 1, 20_001.0
        surface[4] = 0b11111011  # only the last two bits tell
        surface[5] = 0b00111100
        surface[6], chi[6] = 2, np.ma.masked

    found = read_retrieval(changed(blended, tmp_path, coast), WORLD)
    assert found.dropped == {"outside_bounds": 0, "coastal": 4}
    assert not {0, 1, 4, 6} & set(found.pixels["row"])
    assert {2, 3, 5} <= set(found.pixels["row"])


def test_a_pixel_left_out_for_two_reasons_is_counted_once(blended: Path, tmp_path: Path) -> None:
    def spoil(dataset: netCDF4.Dataset) -> None:
        dataset["qa_value"][0] = 0.4
        dataset["surface_classification"][:2] = 3
        dataset["methane_mixing_ratio_blended"][:3] = np.ma.masked

    found = read_retrieval(changed(blended, tmp_path, spoil), WORLD)
    assert found.dropped == {"outside_bounds": 0, "low_quality": 1, "coastal": 1, "no_value": 1}
    assert len(found.pixels) == 37


# ---- files that cannot be read


def without(dataset: netCDF4.Dataset, path: str) -> None:
    group, _, name = path.rpartition("/")
    (dataset[group] if group else dataset).renameVariable(name, "gone")


@pytest.mark.parametrize("name", tropomi.NEEDED)
def test_a_file_that_lacks_a_variable_is_refused_by_its_name(real: Path, tmp_path: Path, name: str) -> None:
    line = refusal(changed(real, tmp_path, lambda dataset: without(dataset, name)))
    assert f"lacks {name}, which S5P_L2__CH4___ files have" in line


@pytest.mark.parametrize("name", [name for name in tropomi_blended.NEEDED if not name.endswith("_blended")])
def test_a_blended_file_that_lacks_a_variable_is_refused_by_its_name(blended: Path, tmp_path: Path, name: str) -> None:
    line = refusal(changed(blended, tmp_path, lambda dataset: without(dataset, name)))
    assert f"lacks {name}, which S5P_BLND_L2__CH4___ files have" in line


def test_all_that_a_file_lacks_is_told_at_once(real: Path, tmp_path: Path) -> None:
    def spoil(dataset: netCDF4.Dataset) -> None:
        without(dataset, "PRODUCT/time_utc")
        without(dataset, f"{INPUT}/surface_pressure")

    assert f"lacks PRODUCT/time_utc, {INPUT}/surface_pressure, which" in refusal(changed(real, tmp_path, spoil))


@causes("retrieval")
@pytest.mark.parametrize("size", [0, 100, 100_000, 255_000])
def test_a_file_that_was_cut_short_is_refused(real: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "cut.nc").write_bytes(real.read_bytes()[:size])
    assert re.search("is no readable NetCDF file|cannot be read as", refusal(tmp_path / "cut.nc"))


def test_a_text_called_nc_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.nc").write_text("latitude, longitude\n1, 2\n")
    assert "is no readable NetCDF file" in refusal(tmp_path / "text.nc")


def test_a_file_of_another_instrument_is_refused_with_the_known_products(shared: Path) -> None:
    line = refusal(one(shared, "if2012*.nc"))
    assert "is of no known product; known: S5P_L2__CH4___, S5P_BLND_L2__CH4___" in line


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "no retrieval file" in refusal(tmp_path / "none.nc")
    tmp_path.joinpath("folder.nc").mkdir()
    assert "no retrieval file" in refusal(tmp_path / "folder.nc")


# ---- files that contradict themselves


def put(name: str, value: float, place: tuple[int, ...] | None = None) -> Callable[[netCDF4.Dataset], None]:
    """A change: one number of a good pixel, the second of the file."""

    def change(dataset: netCDF4.Dataset) -> None:
        variable = dataset[name]
        inside = (0, 0, 1) if variable.ndim > 2 else (1,)
        variable[place or (*inside, *(3,) * (variable.ndim - len(inside)))] = value

    return change


def shifted(name: str, by: float) -> Callable[[netCDF4.Dataset], None]:
    def change(dataset: netCDF4.Dataset) -> None:
        dataset[name][:] = dataset[name][:] + by

    return change


def said(line: int, text: str) -> Callable[[netCDF4.Dataset], None]:
    def change(dataset: netCDF4.Dataset) -> None:
        dataset["PRODUCT/time_utc"][0, line] = text

    return change


def lost(name: str) -> Callable[[netCDF4.Dataset], None]:
    """A change: every number of a variable becomes fill, as when the library finds no chunk of it."""

    def change(dataset: netCDF4.Dataset) -> None:
        dataset[name][:] = np.ma.masked

    return change


def orbit(number: int) -> Callable[[netCDF4.Dataset], None]:
    return lambda dataset: dataset.setncattr("orbit", np.int32(number))


GEO = "PRODUCT/SUPPORT_DATA/GEOLOCATIONS"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (said(3, "2023-10-19T20:31:45.405000Z"), "time_utc and delta_time differ"),
        (said(3, "2023-10-19T20:31:44.505000Z"), "time_utc and delta_time differ"),
        (said(0, "2023-10-19T20:3"), "cannot be read as"),
        (said(0, "later"), "cannot be read as"),
        (shifted("PRODUCT/delta_time", 1000), "time_utc and delta_time differ"),
        (shifted("PRODUCT/time", 86400), "time_utc and delta_time differ"),
        (lost("PRODUCT/delta_time"), "time_utc and delta_time differ"),
        (orbit(31177), "orbit 31177 is not that of its id S5P_OFFL"),
        (lambda dataset: dataset.delncattr("orbit"), "lacks the attribute orbit"),
        (put("PRODUCT/scanline", 3021), "scanline does not rise"),
        (put("PRODUCT/ground_pixel", 127), "ground_pixel does not rise"),
        (lost("PRODUCT/latitude"), "36 good pixel(s) have no latitude or longitude"),
        (put("PRODUCT/longitude", 200.0), "1 good pixel(s) have no latitude or longitude"),
        (shifted("PRODUCT/latitude", 0.03), "place and corners"),
        (shifted("PRODUCT/longitude", -0.03), "place and corners"),
        (shifted(f"{GEO}/latitude_bounds", 1.0), "place and corners"),
        (lost(f"{GEO}/longitude_bounds"), "longitude_bounds nan degrees"),
        (put(f"{GEO}/latitude_bounds", 91.0), "latitude_bounds 91 degrees"),
        (lost(VALUE), "36 of 36 good pixels lack a value or a kernel"),
        (lost(f"{INPUT}/surface_pressure"), "36 of 36 good pixels lack a value or a kernel"),
        (lost(f"{DETAIL}/column_averaging_kernel"), "36 of 36 good pixels lack a value or a kernel"),
        (put(VALUE, 400.0), "value 400 ppb"),
        (put(VALUE, 3e10), "value 3e+10 ppb"),
        (put("PRODUCT/methane_mixing_ratio_precision", -1.0), "uncertainty -1 ppb"),
        (put(f"{INPUT}/surface_altitude", 1e4), "surface_altitude 10000 m"),
        (shifted(f"{INPUT}/surface_altitude", 2.0), "surface altitude and altitude levels"),
        (put(f"{INPUT}/surface_pressure", 4e5), "surface_pressure 4000 hPa"),
        (shifted(f"{INPUT}/surface_pressure", 200.0), "surface pressure and pressure interval"),
        (shifted(f"{INPUT}/pressure_interval", 50.0), "surface pressure and pressure interval"),
        (put(f"{INPUT}/dry_air_subcolumns", 5e4), "surface pressure and dry air"),
        (put(f"{INPUT}/dry_air_subcolumns", -1.0), "apriori -4.72511e+07 ppb"),
        (put(f"{INPUT}/methane_profile_apriori", 1e6), "apriori"),
        (put(f"{DETAIL}/column_averaging_kernel", 1e9), "ak 1e+09"),
        (put(f"{GEO}/viewing_zenith_angle", 100.0), "zenith 100 degrees"),
        (lost(f"{GEO}/viewing_azimuth_angle"), "azimuth nan degrees"),
    ],
)
def test_a_file_that_contradicts_itself_or_nature_is_refused(
    real: Path, tmp_path: Path, change: Callable[[netCDF4.Dataset], None], told: str
) -> None:
    assert told in refusal(changed(real, tmp_path, change))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda dataset: dataset["time_utc"].__setitem__(5, "2018-04-30T01:05:31.000000Z"), "time_utc goes back"),
        (lambda dataset: dataset["time_utc"].__setitem__(39, "2018-04-30T21:05:31.000000Z"), "longer than an orbit"),
        (lost("latitude"), "40 good pixel(s) have no latitude or longitude"),
        (shifted("longitude_bounds", 0.1), "place and corners"),
        (lost("dry_air_subcolumns"), "40 of 40 good pixels lack a value or a kernel"),
        (put("surface_pressure", 5e4), "surface pressure and dry air"),
    ],
)
def test_a_blended_file_that_contradicts_itself_is_refused(
    blended: Path, tmp_path: Path, change: Callable[[netCDF4.Dataset], None], told: str
) -> None:
    assert told in refusal(changed(blended, tmp_path, change))


def test_damage_of_pixels_that_are_left_out_anyhow_does_no_harm(real: Path, tmp_path: Path) -> None:
    bad = (0, 0, 4)
    file = changed(real, tmp_path, put(VALUE, 3e10, bad))
    assert len(read_retrieval(file, WORLD).pixels) == 36


# ---- behind a URL


def test_a_file_behind_a_url_is_read_like_one_of_this_machine(real: Path) -> None:
    assert len(read_retrieval(f"file://{real}", WORLD).pixels) == 36


def test_a_url_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    assert "cannot fetch" in refusal(f"file://{tmp_path}/none.nc")


def test_a_url_of_an_unknown_kind_is_told() -> None:
    assert "cannot fetch" in refusal("nonsense://bucket/none.nc")
