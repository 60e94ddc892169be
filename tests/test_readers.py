"""Files of every product become the same table: surface first, in hPa, with kernels that weigh what they should."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
from made_products import GOSAT, L2, L3, WFMD, change, put, write_gosat, write_l2, write_l3, write_wfmd

from stilt_assets.errors import RetrievalError
from stilt_assets.jacobian import prior_term
from stilt_assets.receptor import PIXELS, write_pixels
from stilt_assets.retrieval import PRODUCTS, Retrieval, cci, gosat_cci, methanesat, methanesat_l3, oco, read_retrieval
from stilt_assets.retrieval.reading import MAY_LACK

WORLD = (-180.0, -90.0, 180.0, 90.0)
MADE: dict[str, Callable[[Path], Path]] = {
    "tropomi-wfmd": write_wfmd,
    "gosat-ch4-ocpr": write_gosat,
    "methanesat": write_l2,
    "methanesat-l3": write_l3,
}


@pytest.fixture
def oco2(shared: Path) -> Path:
    """Six pixels of made-up values in OCO-2's layout, the third of them bad."""
    (file,) = (shared / "data" / "retrievals").glob("oco2_*.nc4")
    return file


@pytest.fixture(params=[*MADE, "oco2"])
def product(request: pytest.FixtureRequest, tmp_path: Path, oco2: Path) -> tuple[str, Path]:
    return request.param, MADE[request.param](tmp_path) if request.param in MADE else oco2


def refusal(path: Path) -> str:
    with pytest.raises(RetrievalError) as caught:
        read_retrieval(str(path), WORLD)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


# ---- what all products have in common


def test_every_product_gives_the_same_columns_and_names_its_instrument(product: tuple[str, Path]) -> None:
    name, path = product
    found = read_retrieval(str(path), WORLD)
    assert found.instrument == name
    assert set(PIXELS.names) <= set(found.pixels.columns)
    assert len(found.pixels) > 2


def test_profiles_begin_at_the_ground_and_weights_sum_to_one(product: tuple[str, Path]) -> None:
    pixels = read_retrieval(str(product[1]), WORLD).pixels
    for pixel in pixels.itertuples():
        assert pixel.pressure_levels[0] == pytest.approx(pixel.surface_pressure, rel=1e-3)
        assert np.all(np.diff(pixel.pressure_levels) < 0)
        assert np.all(np.diff(pixel.ak_pressure) < 0)
        assert len(pixel.ak) == len(pixel.ak_pressure) == len(pixel.apriori) == len(pixel.layer_weight)
        assert np.sum(pixel.layer_weight) == pytest.approx(1.0, abs=1e-5)


def test_counts_add_up_to_the_files_pixels_in_any_bounds(product: tuple[str, Path]) -> None:
    whole = read_retrieval(str(product[1]), WORLD)
    total = len(whole.pixels) + sum(whole.dropped.values())
    first = whole.pixels.iloc[0]
    part = read_retrieval(str(product[1]), (-180.0, -90.0, first.longitude, 90.0))
    assert 0 < len(part.pixels) < len(whole.pixels)
    assert len(part.pixels) + sum(part.dropped.values()) == total
    row = part.pixels.set_index("sounding_id").loc[first.sounding_id]
    np.testing.assert_array_equal(row["ak"], first.ak)
    assert (row["value"], row["row"], row["column"]) == (first.value, first.row, first.column)


def test_a_file_that_lacks_a_variable_is_refused_by_its_name(product: tuple[str, Path], tmp_path: Path) -> None:
    whole = read_retrieval(str(product[1]), WORLD)
    known = next(each for each in PRODUCTS if whole.product == each.NAME)
    name = "surface_pressure" if product[0].startswith("methanesat") else "pressure_levels"
    if name == "surface_pressure":
        file = {"methanesat": write_l2, "methanesat-l3": write_l3}[product[0]](tmp_path, name)
    else:
        file = change(product[1], tmp_path / "copy.nc", lambda dataset: dataset.renameVariable(name, "gone"))
    assert f"{name}, which {known.NAME} files have" in refusal(file)


def test_a_file_that_was_cut_short_is_refused(product: tuple[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / f"cut{product[1].suffix}"
    copy.write_bytes(product[1].read_bytes()[: product[1].stat().st_size * 2 // 3])
    assert refusal(copy)


def test_the_tables_can_be_written_and_their_prior_weighed(product: tuple[str, Path], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    found = read_retrieval(str(product[1]), WORLD)
    write_pixels(tmp_path, found, 2500)
    table = pq.read_table(tmp_path / "pixels.parquet")
    first = found.pixels.iloc[0]
    expected = sum(w * (1 - a) * x for w, a, x in zip(first.layer_weight, first.ak, first.apriori, strict=True))
    assert prior_term(table)[0] == pytest.approx(expected, rel=1e-12)
    lacking = {name for name in MAY_LACK if np.isnan(table[name].to_numpy()).all()}
    assert lacking == {
        "tropomi-wfmd": {"azimuth"},
        "gosat-ch4-ocpr": {"azimuth"},
        "methanesat-l3": {"zenith", "azimuth"},
    }.get(product[0], set())


# ---- OCO-2 and OCO-3


def test_oco2_is_in_ppm_on_levels_and_its_bad_pixels_are_counted(oco2: Path) -> None:
    found = read_retrieval(str(oco2), WORLD)
    assert (found.product, set(found.pixels["units"])) == ("OCO2_L2_Lite_FP", {"ppm"})
    with netCDF4.Dataset(oco2) as dataset:
        good = np.asarray(dataset["xco2_quality_flag"][:]) == 0
        value, kernel = dataset["xco2"][:][good], dataset["xco2_averaging_kernel"][:][good]
        longest = dataset["pressure_levels"][:][good]
    assert found.dropped["low_quality"] == (~good).sum() > 0
    assert found.pixels["value"].tolist() == value.astype(float).tolist()
    np.testing.assert_array_equal(np.stack(found.pixels["ak"].to_list()), kernel[:, ::-1])
    np.testing.assert_array_equal(np.stack(found.pixels["ak_pressure"].to_list()), longest[:, ::-1])


def test_an_oco3_file_is_of_another_instrument(oco2: Path, tmp_path: Path) -> None:
    copy = tmp_path / "oco3_LtCO2_231019_B11210Ar.nc4"
    shutil.copyfile(oco2, copy)
    assert read_retrieval(str(copy), WORLD).instrument == "oco3"
    with netCDF4.Dataset(copy, "a") as dataset:
        dataset.setncattr("platform", "OCO-3")
    assert read_retrieval(str(copy.rename(tmp_path / "renamed.nc4")), WORLD).instrument == "oco3"


def test_oco2_says_what_it_looks_at(oco2: Path, tmp_path: Path) -> None:
    def look(dataset: netCDF4.Dataset) -> None:
        dataset["Sounding/land_fraction"][:2] = [0.0, 50.0]
        dataset["Sounding/operation_mode"][:2] = [1, 0]

    table, _ = oco.read(change(oco2, tmp_path / "copy.nc4", look), WORLD)
    assert table["surface"].tolist()[:4] == ["water", "mixed", "land", "land"]
    assert table["glint"].tolist()[:3] == [True, False, False]


def test_co2_that_cannot_be_is_refused_in_its_own_unit(oco2: Path, tmp_path: Path) -> None:
    def wrong(dataset: netCDF4.Dataset) -> None:
        dataset["xco2"][0] = 1900.0  # a likely value, were it methane

    assert "value 1900 ppm" in refusal(change(oco2, tmp_path / "copy.nc4", wrong))


# ---- WFM-DOAS


def test_wfmd_has_layers_between_its_levels(tmp_path: Path) -> None:
    found = read_retrieval(str(write_wfmd(tmp_path)), WORLD)
    first = found.pixels.iloc[0]
    assert first["pressure_levels"].tolist() == pytest.approx(WFMD["pressure_levels"][0])
    assert first["ak_pressure"].tolist() == pytest.approx([700.0, 400.0, 130.1])
    assert first["ak"].tolist() == pytest.approx(WFMD["kernel"][0])
    assert f"{first['time']:%Y-%m-%dT%H:%M:%S}" == "2023-07-13T19:58:07"
    assert found.dropped == {"outside_bounds": 0, "low_quality": 1}
    assert first["longitude_bounds"].tolist() == pytest.approx([-112.05, -111.95, -111.95, -112.05])


def test_wfmd_upside_down_is_turned(tmp_path: Path) -> None:
    def turn(dataset: netCDF4.Dataset) -> None:
        for name in ("pressure_levels", "pressure_weight", "xch4_averaging_kernel", "ch4_profile_apriori"):
            dataset[name][:] = dataset[name][:, ::-1]

    upright = write_wfmd(tmp_path)
    turned = change(upright, tmp_path / "turned.nc", turn)
    one, other = (read_retrieval(str(path), WORLD).pixels for path in (upright, turned))
    for name in ("pressure_levels", "ak", "ak_pressure", "apriori", "layer_weight"):
        np.testing.assert_array_equal(np.stack(one[name].to_list()), np.stack(other[name].to_list()))


def test_wfmd_says_land_in_percent_or_as_a_share(tmp_path: Path) -> None:
    for scale in (1.0, 100.0):

        def add(dataset: netCDF4.Dataset, scale: float = scale) -> None:
            put(dataset, "land_fraction", ("sounding_dim",), scale * np.array([1.0, 0.5, 0.0, 1.0]))

        found = read_retrieval(str(change(write_wfmd(tmp_path), tmp_path / f"{scale}.nc", add)), WORLD)
        assert found.pixels["surface"].tolist() == ["land", "mixed", "water"]


# ---- GOSAT


def test_gosat_levels_below_the_ground_are_left_out_and_weigh_nothing(tmp_path: Path) -> None:
    pixels = read_retrieval(str(write_gosat(tmp_path)), WORLD).pixels
    flat, high = pixels.iloc[0], pixels.iloc[1]
    assert flat["pressure_levels"].tolist() == GOSAT["pressure_levels"][0]
    assert high["surface_pressure"] == 600.0  # its first level is fill
    assert high["ak"].tolist() == pytest.approx([0.9, 0.7, 0.3, 0.3])
    assert high["layer_weight"].tolist() == pytest.approx([0.5, 0.3, 0.2, 0.0])
    assert high["pressure_levels"].tolist() == pytest.approx([600.0, 300.0, 0.5, 0.4995])


def test_gosats_square_lies_around_its_circle(tmp_path: Path) -> None:
    first = read_retrieval(str(write_gosat(tmp_path)), WORLD).pixels.iloc[0]
    north, east = np.ptp(first["latitude_bounds"]), np.ptp(first["longitude_bounds"])
    assert north * 111.195 == pytest.approx(10.5, rel=1e-3)
    assert east * 111.195 * np.cos(np.radians(first["latitude"])) == pytest.approx(10.5, rel=1e-3)


def test_gosats_co2_is_an_instrument_of_its_own_in_ppm(tmp_path: Path) -> None:
    found = read_retrieval(str(write_gosat(tmp_path, gas="xco2")), WORLD)
    assert (found.instrument, set(found.pixels["units"])) == ("gosat-co2-ocpr", {"ppm"})


def test_gosat_says_where_it_looked_into_the_glint(tmp_path: Path) -> None:
    table, _ = gosat_cci.read(write_gosat(tmp_path), WORLD)
    assert table["surface"].tolist() == ["land", "land", "water", "land"]


def test_numbers_outside_a_valid_range_are_no_numbers(tmp_path: Path) -> None:
    def limit(dataset: netCDF4.Dataset) -> None:
        dataset["xch4_uncertainty"].setncattr("valid_max", np.float32(11.0))

    found = read_retrieval(str(change(write_gosat(tmp_path), tmp_path / "copy.nc", limit)), WORLD)
    assert found.dropped["no_value"] == 1


@pytest.mark.parametrize("levels", [2, 6])
def test_kernels_that_fit_no_levels_are_refused(levels: int) -> None:
    with pytest.raises(ValueError, match=f"kernels of 4 values on {levels} pressure levels"):
        cci.profiles_of(np.ones((1, levels)), *(np.ones((1, 4)) for _ in range(3)))


# ---- MethaneSAT


def test_methanesats_pressures_are_13_even_layers_to_the_tropopause_and_6_above() -> None:
    (levels,) = methanesat.boundaries(np.array([900.0]), np.array([120.0]))
    assert levels[:14].tolist() == pytest.approx([120 + 60 * step for step in range(13, -1, -1)])
    assert levels[14:].tolist() == [100.0, 80.0, 50.0, 10.0, 1.0, 0.1]


def test_methanesats_layers_are_turned_and_its_lines_have_times(tmp_path: Path) -> None:
    found = read_retrieval(str(write_l2(tmp_path)), WORLD)
    first = found.pixels.iloc[0]
    assert (first["row"], first["column"]) == (0, 0)
    assert first["ak"][0] > first["ak"][-1]
    assert first["ak"].tolist() == pytest.approx(L2["kernel"][::-1])
    assert first["uncertainty"] == pytest.approx(24.0)
    assert found.dropped == {"outside_bounds": 0, "low_quality": 1}
    times = found.pixels.groupby("row")["time"].first()
    assert [f"{time:%H:%M:%S}" for time in times] == ["20:30:25", "20:30:41", "20:30:57"]


def test_methanesat_without_an_error_gets_the_published_one_and_newer_groups_are_known(tmp_path: Path) -> None:
    newer = write_l2(tmp_path, "xch4_co2proxy_randerr", results="product")
    pixels = read_retrieval(str(newer), WORLD).pixels
    assert set(pixels["uncertainty"]) == {methanesat.UNCERTAINTY}


def test_blocks_are_means_of_the_cells_that_are_seen() -> None:
    values = np.array([[1.0, 2, 5], [3, 100, 7], [9, 9, 9]])
    seen = np.ones((3, 3), bool)
    seen[1, 1] = False
    assert methanesat_l3.blocks(values, (2, 2), seen).tolist() == [[2.0]]
    assert methanesat_l3.blocks(values, (1, 3), seen).tolist() == [[8 / 3], [5.0], [9.0]]


def test_methanesats_grid_becomes_pixels_of_a_kilometre(tmp_path: Path) -> None:
    found = read_retrieval(str(write_l3(tmp_path)), WORLD)
    assert found.dropped == {"outside_bounds": 0, "low_quality": 1}
    pixel = found.pixels.iloc[0]
    tall = np.ptp(pixel["latitude_bounds"]) * 111.195
    wide = np.ptp(pixel["longitude_bounds"]) * 111.195 * np.cos(np.radians(pixel["latitude"]))
    assert tall == pytest.approx(1.0, rel=0.2)
    assert wide == pytest.approx(1.0, rel=0.2)
    # as many Level 2 pixels of 0.11 km x 0.4 km as fit, each with 35 ppb
    assert pixel["uncertainty"] == pytest.approx(35.0 / np.sqrt(tall * wide / 0.044), rel=1e-2)
    assert pixel["value"] == pytest.approx(L3["value"])
    assert pixel["ak"].tolist() == [pytest.approx(0.96)]
    assert pixel["surface_altitude"] == pytest.approx(1400.0)


def test_methanesats_grid_without_a_prior_has_the_kernel_that_needs_none(tmp_path: Path) -> None:
    def strip(dataset: netCDF4.Dataset) -> None:
        dataset["apriori_data"].renameVariable("xch4", "gone")

    pixels = read_retrieval(str(change(write_l3(tmp_path), tmp_path / "copy.nc", strip)), WORLD).pixels
    assert {float(kernel[0]) for kernel in pixels["ak"]} == {1.0}


# ---- harm


def _spoiled(product: str, dataset: netCDF4.Dataset) -> str:
    """Make a file contradict itself, and what is told of it."""
    match product:
        case "tropomi-wfmd":
            dataset["longitude_corners"][0] += 1.0
            return "place and corners"
        case "gosat-ch4-ocpr":
            dataset["pressure_weight"][0] *= 1.2
            return "surface pressure and dry air"
        case "methanesat":
            dataset["apriori_data/tropopause_pressure"][0, 0] = 950.0
            return "layer_weight"
        case _:
            dataset["apriori_data/surface_pressure"][:] = 10.0
            return "surface_pressure 10 hPa"


@pytest.mark.parametrize("name", list(MADE))
def test_a_file_that_contradicts_itself_is_refused(name: str, tmp_path: Path) -> None:
    told: list[str] = []
    path = change(MADE[name](tmp_path), tmp_path / "copy.nc", lambda dataset: told.append(_spoiled(name, dataset)))
    assert told[0] in refusal(path)


@pytest.mark.parametrize("name", list(MADE))
def test_a_file_whose_places_are_lost_is_refused(name: str, tmp_path: Path) -> None:
    def lose(dataset: netCDF4.Dataset) -> None:
        holder: Any = dataset["geolocation"] if name == "methanesat" else dataset
        variable = holder["lat" if name == "methanesat-l3" else "latitude"]
        variable[:] = np.full(variable.shape, 9.96921e36)

    assert refusal(change(MADE[name](tmp_path), tmp_path / "copy.nc", lose))


def test_what_was_read_apart_is_what_was_read_here(product: tuple[str, Path]) -> None:
    from stilt_assets.retrieval.reading import read_here

    far: Retrieval = read_retrieval(str(product[1]), WORLD)
    here = read_here(product[1], WORLD, product[1].name)
    assert far.pixels.dtypes.to_dict() == here.pixels.dtypes.to_dict()
    assert far.pixels["sounding_id"].tolist() == here.pixels["sounding_id"].tolist()
