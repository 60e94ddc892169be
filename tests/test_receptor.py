"""Pixels become columns that particles start from, and kernels: three tables that can be read back."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stilt_assets.receptor import Receptor, kernels_from, receptors_from, write_pixels
from stilt_assets.retrieval import Retrieval, read_retrieval

DESIGN = {
    "pixels": {
        "pixel": "int32",
        "sounding_id": "string",
        "time": "timestamp[us, tz=UTC]",
        "longitude": "double",
        "latitude": "double",
        "longitude_bounds": "list<element: double>",
        "latitude_bounds": "list<element: double>",
        "surface_altitude": "double",
        "surface_pressure": "double",
        "zenith": "double",
        "azimuth": "double",
        "value": "double",
        "uncertainty": "double",
        "units": "string",
        "pressure_levels": "list<element: double>",
        "ak": "list<element: double>",
        "ak_pressure": "list<element: double>",
        "apriori": "list<element: double>",
        "layer_weight": "list<element: double>",
        "qa": "double",
        "row": "int32",
        "column": "int32",
    },
    "receptors": {
        "pixel": "int32",
        "time": "timestamp[us, tz=UTC]",
        "longitude": "double",
        "latitude": "double",
        "bottom": "double",
        "top": "double",
    },
    "kernels": {
        "pixel": "int32",
        "pressure": "list<element: double>",
        "kernel": "list<element: double>",
        "surface_pressure": "double",
    },
}


def two_pixels() -> Retrieval:
    """Two pixels two seconds apart and in two minutes, with kernels of three and two levels."""
    pixels = pd.DataFrame(
        {
            "pixel": np.array([0, 1], np.int32),
            "sounding_id": ["a", "b"],
            "time": pd.to_datetime(["2020-02-29T23:58:59.999", "2020-02-29T23:59:01.000"]),
            "longitude": [-111.1234567, 179.9],
            "latitude": [40.0, -8.5],
            "longitude_bounds": [np.arange(4.0), np.arange(4.0) + 1],
            "latitude_bounds": [np.arange(4.0) + 2, np.arange(4.0) + 3],
            "surface_altitude": [1000.0, 0.0],
            "surface_pressure": [850.0, 1013.0],
            "zenith": [5.0, np.nan],
            "azimuth": [100.0, np.nan],
            "value": [1900.0, 1850.0],
            "uncertainty": [2.0, 3.0],
            "units": ["ppb", "ppb"],
            "pressure_levels": [np.array([850.0, 500.0, 100.0, 0.1]), np.array([1013.0, 500.0, 0.1])],
            "ak": [np.array([1.1, 1.0, 0.5]), np.array([1.2, 0.6])],
            "ak_pressure": [np.array([700.0, 300.0, 50.0]), np.array([750.0, 250.0])],
            "apriori": [np.array([1900.0, 1890.0, 1400.0]), np.array([1880.0, 1500.0])],
            "layer_weight": [np.array([0.4, 0.35, 0.25]), np.array([0.5, 0.5])],
            "qa": [1.0, 0.6],
            "row": np.array([7, 7], np.int32),
            "column": np.array([3, 5], np.int32),
        }
    )
    return Retrieval("tropomi", "made-up", pixels, {})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_pixels(tmp_path, two_pixels(), 2500)
    return tmp_path


@pytest.mark.parametrize("name", sorted(DESIGN))
def test_tables_have_the_columns_of_the_design(written: Path, name: str) -> None:
    schema = pq.read_schema(written / f"{name}.parquet")
    assert {item.name: str(item.type) for item in schema} == DESIGN[name]
    assert schema.names == list(DESIGN[name])


def test_there_are_three_tables_with_a_row_per_pixel(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == sorted(f"{name}.parquet" for name in DESIGN)
    for name in DESIGN:
        assert pq.read_table(written / f"{name}.parquet")["pixel"].to_pylist() == [0, 1]


def test_a_receptor_is_a_column_over_the_pixels_centre_at_its_minute(written: Path) -> None:
    assert receptors_from(pq.read_table(written / "receptors.parquet")) == [
        Receptor(0, datetime(2020, 2, 29, 23, 58, tzinfo=UTC), -111.1234567, 40.0, 0.0, 2500.0),
        Receptor(1, datetime(2020, 2, 29, 23, 59, tzinfo=UTC), 179.9, -8.5, 0.0, 2500.0),
    ]


def test_the_pixels_own_time_keeps_its_fraction_of_a_second(written: Path) -> None:
    first = pq.read_table(written / "pixels.parquet")["time"].to_pylist()[0]
    assert first == datetime(2020, 2, 29, 23, 58, 59, 999_000, tzinfo=UTC)


def test_a_kernel_is_the_pixels_own_by_pressure(written: Path) -> None:
    first, second = kernels_from(pq.read_table(written / "kernels.parquet"))
    assert (first.pressure.tolist(), first.value.tolist()) == ([700, 300, 50], [1.1, 1.0, 0.5])
    assert (second.pressure.tolist(), second.value.tolist()) == ([750, 250], [1.2, 0.6])
    assert (first.surface_pressure, second.surface_pressure) == (850, 1013)


def test_all_of_a_pixel_comes_back(written: Path) -> None:
    pixels, table = two_pixels().pixels, pq.read_table(written / "pixels.parquet").to_pandas()
    for name in DESIGN["pixels"]:
        for found, expected in zip(table[name], pixels[name], strict=True):
            if isinstance(expected, str):
                assert found == expected
            elif name == "time":
                assert found.tz_localize(None) == expected
            else:
                np.testing.assert_array_equal(found, expected, err_msg=name)


def test_the_same_pixels_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    write_pixels(tmp_path / "again", two_pixels(), 2500.0)
    for name in DESIGN:
        file = f"{name}.parquet"
        assert (tmp_path / "again" / file).read_bytes() == (written / file).read_bytes()


def test_a_real_scene_round_trips(shared: Path, tmp_path: Path) -> None:
    (file,) = (shared / "data" / "retrievals").glob("S5P_TEST*.nc")
    found = read_retrieval(str(file), (-113.0, 40.0, -111.0, 42.0))
    write_pixels(tmp_path, found, 3000)
    tables = {name: pq.read_table(tmp_path / f"{name}.parquet") for name in DESIGN}
    receptors, kernels = receptors_from(tables["receptors"]), kernels_from(tables["kernels"])
    assert len(receptors) == len(kernels) == tables["pixels"].num_rows == 44
    assert {(each.time.second, each.time.microsecond, each.time.utcoffset().seconds) for each in receptors} == {
        (0, 0, 0)
    }
    assert [each.longitude for each in receptors] == found.pixels["longitude"].tolist()
    for kernel, expected in zip(kernels, found.pixels["ak"], strict=True):
        np.testing.assert_array_equal(kernel.value, expected)
    assert pa.compute.is_null(tables["pixels"]["value"]).to_pylist() == [False] * 44
