"""Decoded meteorology: places and cells, what is refused, and the one file that all processes share."""

import shutil
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
import pytest
from fidelity.cases import MIDDAY, made
from fidelity.weather import write_columns

from stilt_assets.errors import MeteorologyError
from stilt_assets.simulation import Simulation
from stilt_assets.transport.native import decoded
from stilt_assets.transport.native.coverage import covers, uncovered_cells
from stilt_assets.transport.native.geometry import metres_per_cell, projection_of, to_degrees, to_grid
from stilt_assets.transport.native.layout import DENSITY, HEIGHTS, V, W
from tests.made_weather import lambert, longitudes, write_weather

GRIDS = {
    "lambert": lambert(30, 20),
    "south": arlmet.Grid(arlmet.Projection(-90.0, 0.0, -60.0, 30.0, 50.0, 0.0, -40.0, 10.0, 12.0, -45.0, 40.0), 30, 20),
    "north_pole": arlmet.Grid(
        arlmet.Projection(90.0, 0.0, 60.0, -105.0, 50.0, 0.0, 90.0, 10.0, 12.0, 45.0, -100.0), 30, 20
    ),
    "mercator": arlmet.Grid(arlmet.Projection(90.0, 0.0, 20.0, -105.0, 50.0, 0.0, 0.0, 9.0, 7.0, 15.0, -100.0), 30, 20),
    "degrees": longitudes(-4.0, -3.0, 30, 20),
}


@pytest.mark.parametrize("name", GRIDS)
def test_cells_are_where_arlmet_has_them_and_as_large(name: str) -> None:
    grid = GRIDS[name]
    projection = projection_of(grid)
    lon, lat = to_degrees(17.0, 5.0, projection)
    assert np.allclose(grid.fractional_indices(lon, lat), (17.0, 5.0), atol=1e-6)
    assert np.allclose(to_grid(lon, lat, projection), (17.0, 5.0), atol=1e-9)
    width, height = metres_per_cell(lat, projection)
    north = to_degrees(17.0, 5.5, projection)[1] - to_degrees(17.0, 4.5, projection)[1]
    assert name == "degrees" or width == height
    if name in {"mercator", "degrees"}:
        assert height == pytest.approx(north * 111.1985e3, rel=1e-4)


@pytest.fixture
def still(tmp_path: Path) -> Path:
    """Isothermal dry air at 280 K over ground at sea level that rises 1 hPa in 100 s and flows north at 6 m s-1."""
    return write_columns(
        tmp_path / "still.arl",
        lambert(50, 45),
        (0, 30, 80, 200, 500, 1000, 2000, 4000),
        temperature=lambda z, hour: 280.0 + 0.0 * z,
        wind=(lambda z, hour: 0.0 * z, lambda z, hour: 6.0 + 0.0 * z),
        humidity=lambda z, hour: 0.0 * z,
        omega=lambda z, hour: -0.01 + 0.0 * z,
        ground={"RGHS": lambda hour: 0.1},
        hours=(0, 1),
    )


def test_still_air_by_hand(still: Path) -> None:
    air = decoded.decoded_in_memory(still)
    column = air.wind[1, 20, 30]
    density = 1013.25e2 / (287.04 * 280.0) * np.exp(-9.80616 * HEIGHTS[5] / (287.04 * 280.0))
    assert column[5, DENSITY] == pytest.approx(density, rel=1e-4)
    assert column[5, V] == pytest.approx(6.0 * 60.0 / 3000.0, rel=1e-3)  # cells of 3 km a minute
    assert column[5, W] == pytest.approx(60.0 / (density * 9.80616), rel=1e-3)  # 1 Pa s-1, upwards
    assert air.pressure.shape == (2, 45, 50, len(HEIGHTS))
    assert (air.spacing, air.first % 1440) == (60, 0)
    assert air.reached.tolist() == [
        12,
        12,
    ]  # 4025 m; the file ends at 4098 m, where pressure is exp(-0.5) of the ground's


def test_above_the_data_winds_last_and_updrafts_halve(still: Path) -> None:
    column = decoded.decoded_in_memory(still).wind[0, 7, 40]
    first = int(np.searchsorted(HEIGHTS, 4010.0))
    assert column[first + 3, V] == column[first, V]
    assert np.allclose(column[first + 1 :, W] / column[first:-1, W], 0.5, rtol=1e-4)


def test_one_file_for_all_gone_with_the_last(still: Path) -> None:
    in_memory = decoded.decoded_in_memory(still)
    with decoded.prepared(still):
        mapped = decoded.opened(still)
        assert len(list(still.parent.glob(".*.decoded-*[!k]"))) == 1  # and its lock
        for name in ("wind", "pressure", "turbulence", "extra", "mixed_layer", "terrain", "reached"):
            assert np.array_equal(getattr(mapped, name), getattr(in_memory, name)), name
            assert not getattr(mapped, name).flags.writeable
        assert mapped[7:] == in_memory[7:]
    assert [path.name for path in still.parent.iterdir()] == [still.name]


def test_what_still_holds_its_arrays_does_not_keep_a_file_from_being_made(
    still: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def fill(*given: Any) -> int:
        held.append(given)  # as a first compilation does until its garbage is collected
        return actual(*given)

    actual = decoded.fill
    monkeypatch.setattr(decoded, "fill", fill)
    with decoded.prepared(still):
        assert np.array_equal(decoded.opened(still).wind, decoded.decoded_in_memory(still).wind)
    assert held


def test_what_cannot_be_decoded_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    path = write_weather(tmp_path / "gap.arl", hours=(0, 1, 3))
    with (
        pytest.raises(MeteorologyError, match=r"times that are not equally spaced: \[60, 120\]"),
        decoded.prepared(path),
    ):
        pass
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def test_other_bytes_are_decoded_anew(still: Path, tmp_path: Path) -> None:
    other = made(**MIDDAY)(tmp_path, tmp_path / "other.arl")
    with decoded.prepared(still):
        before = decoded.opened(still).mixed_layer.shape
        shutil.copyfile(other, still)
        with decoded.prepared(still):
            assert decoded.opened(still).mixed_layer.shape != before


@pytest.mark.parametrize(
    ("grid", "why"),
    [
        (longitudes(170.0, 40.0, 80, 60, 0.25), ""),
        (longitudes(0.0, -20.0, 40, 30, 0.25), ""),
        (GRIDS["lambert"], ""),
        (longitudes(-4.0, -3.0, 30, 20), "in degrees that begin at a longitude below 0"),
        (longitudes(170.0, 75.5, 30, 20, 0.25), "in degrees beyond 80 degrees of latitude"),
        (longitudes(170.0, -80.5, 30, 20, 0.25), "in degrees beyond 80 degrees of latitude"),
        (longitudes(0.0, 30.0, 1440, 20, 0.25), "around the whole earth"),
        (longitudes(170.0, 40.0, 30, 20, 0.5), "in degrees whose cells are wider than 0.3 degrees"),
        (GRIDS["north_pole"], "that are neither on a Lambert cone nor in degrees"),
        (GRIDS["mercator"], "that are neither on a Lambert cone nor in degrees"),
    ],
)
def test_cells_that_are_not_proved_are_told_by_name(grid: arlmet.Grid, why: str) -> None:
    assert list(uncovered_cells(grid)) == ([f"grids {why} are not covered"] if why else [])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, []),
        ({"humid": ("RELH",)}, []),
        ({"humid": ("SPHU", "RELH")}, ["both SPHU and RELH on pressure levels are not covered"]),
        ({"left_out": ("USTR",)}, ["no USTR at 2019-05-30 00Z"]),
        ({"left_out": ("HGTS", "SPHU")}, ["no HGTS, SPHU or RELH at 2019-05-30 00Z"]),
        ({"axis": arlmet.SigmaAxis, "humid": ("RELH",)}, ["no SPHU at 2019-05-30 00Z"]),
        ({"hours": (0, 1, 3)}, ["times that are not equally spaced, or only one, are not covered"]),
    ],
)
def test_fields_that_are_not_proved_are_told_by_name(tmp_path: Path, more: dict[str, Any], why: list[str]) -> None:
    weather: dict[str, Any] = {**MIDDAY, "axis": arlmet.PressureAxis, **more}
    file = made(**weather)(tmp_path, tmp_path / "pressure.arl")
    assert covers(file, Simulation("native", 24, 100, 0)) == why


def test_levels_that_are_not_proved_are_told_by_name(tmp_path: Path) -> None:
    file = write_weather(tmp_path / "terrain.arl", longitudes(4.0, -3.0, 60, 40), axis=arlmet.TerrainAxis)
    assert covers(file, Simulation("native", 24, 100, 0))[0] == "levels of kind terrain are not covered"
