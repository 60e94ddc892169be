"""The demo scene's inputs: layouts of the real files, air that obeys the hydrostatic law, a day that comes and goes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import arlmet
import netCDF4
import numpy as np
import pytest
import stilt
import yaml
from stilt.observations.readers import read_tropomi_ch4

from stilt_assets.demo import METEOROLOGY_NAME, lay_out
from stilt_assets.demo.meteorology import CENTRE_LAT, CENTRE_LON, Columns, plane, surface_pressure, terrain
from stilt_assets.demo.retrieval import NAME, write_retrieval

RETRIEVALS = Path(__file__).parents[2] / "shared" / "data" / "retrievals"
GAS, GRAVITY = 287.05, 9.80665  # J kg-1 K-1, m s-2


@dataclass(frozen=True)
class Demo:
    settings: Path
    retrieval: Path
    meteorology: Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    settings = lay_out(tmp_path_factory.mktemp("demo"))
    return Demo(settings, settings.parent / "inbox" / NAME, settings.parent / "meteorology" / METEOROLOGY_NAME)


@pytest.fixture(scope="module")
def file(demo: Demo) -> Iterator[arlmet.File]:
    with arlmet.File(demo.meteorology) as opened:
        yield opened


def at_centre(file: arlmet.File, variable: str, level: int = 0) -> np.ndarray:
    """One value an hour at the grid's centre."""
    return np.array([file[time][(level, variable)].read()[27, 30] for time in file.times])


def test_thirty_pixels_of_which_four_are_rejected_and_two_of_those_empty(demo: Demo) -> None:
    pixels = read_tropomi_ch4(demo.retrieval)
    assert len(pixels) == 30
    assert pixels.good.sum() == 26
    assert pixels.value.isna().sum() == 2
    assert not pixels.good[pixels.value.isna()].any()
    good = pixels[pixels.good]
    assert str(pixels.time.iloc[-1]) == "2023-07-15 20:30:03.360000"
    assert good.value.min() == pytest.approx(1890.0, abs=0.5)
    assert 5 < good.value.max() - good.value.median() < 30
    assert all(np.all(np.diff(prior) < 0) and prior[0] > 1900 for prior in good.apriori)  # ppb, from the ground up
    assert all(kernel[0] > 1 > kernel[-1] for kernel in good.ak)
    assert all(levels[-1] == pytest.approx(0.0, abs=0.01) for levels in good.pressure_levels)
    assert all(np.all(np.diff(heights) > 0) for heights in good.altitude_levels)


def test_pixels_stand_on_the_ground_of_the_meteorology(demo: Demo, file: arlmet.File) -> None:
    pixels = read_tropomi_ch4(demo.retrieval)
    good = pixels[pixels.good]
    x, y = file.grid.fractional_indices(good.longitude.to_numpy(), good.latitude.to_numpy())
    step = file["2023-07-15 20:00"]
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    half_a_cell = 0.04 * 2200  # m: the steepest slope over half a diagonal
    assert np.abs(step[(0, "SHGT")].read()[row, column] - good.surface_altitude).max() < half_a_cell
    assert np.abs(step[(0, "PRSS")].read()[row, column] - good.surface_pressure).max() < half_a_cell / 9
    np.testing.assert_allclose(terrain(good.longitude, good.latitude), good.surface_altitude, atol=0.01)
    np.testing.assert_allclose(surface_pressure(good.longitude, good.latitude, 20.5), good.surface_pressure, atol=0.01)


def test_pixels_and_grid_lie_inside_the_settings_bounds(demo: Demo, file: arlmet.File) -> None:
    target = yaml.safe_load(demo.settings.read_text())["targets"]["valley"]
    west, south, east, north = target["bounds"]
    with netCDF4.Dataset(demo.retrieval) as product:
        geolocations = product["PRODUCT/SUPPORT_DATA/GEOLOCATIONS"]
        lon, lat = geolocations["longitude_bounds"][:], geolocations["latitude_bounds"][:]
    assert west < lon.min() < lon.max() < east
    assert south < lat.min() < lat.max() < north
    grid = target["grid"]
    corners = [(lon, lat) for lon in (grid["west"], grid["east"]) for lat in (grid["south"], grid["north"])]
    x, y = file.grid.fractional_indices(*np.transpose(corners))
    assert x.min() > 0 < y.min()
    assert x.max() < file.grid.nx - 1
    assert y.max() < file.grid.ny - 1
    assert (file.grid.nx, file.grid.ny) == (60, 54)


@pytest.mark.skipif(not RETRIEVALS.is_dir(), reason="needs the real slice")
def test_the_retrieval_has_the_layout_of_the_real_product(demo: Demo) -> None:
    def layout(path: Path) -> dict[str, object]:
        told: dict[str, object] = {}
        kept = {"units", "scale_factor", "add_offset", "coordinates", "bounds", "valid_min", "valid_max", "axis"}
        with netCDF4.Dataset(path) as product:
            groups = [product["PRODUCT"], *product["PRODUCT/SUPPORT_DATA"].groups.values()]
            for group in groups:
                for variable in group.variables.values():
                    has = {name: variable.getncattr(name) for name in kept.intersection(variable.ncattrs())}
                    if " since " in has.get("units", ""):
                        has["units"] = has["units"].replace("2023-10-19", "2023-07-15")
                    fill = getattr(variable, "_FillValue", "") if variable.dtype is not str else ""
                    told[f"{group.path}/{variable.name}"] = (str(variable.dtype), variable.dimensions, fill, has)
            told["METADATA"] = set(product["METADATA"].groups)
            sizes = ("layer", "level", "corner", "time")
            told["sizes"] = [len(product["PRODUCT"].dimensions[name]) for name in sizes]
        return told

    (real,) = RETRIEVALS.glob("S5P_OFFL_L2__CH4____2023*.nc")
    made, expected = layout(demo.retrieval), layout(real)
    assert made.keys() == expected.keys()
    for name, each in expected.items():
        assert made[name] == each, name


def test_every_record_of_the_meteorology_is_whole(file: arlmet.File) -> None:
    assert [f"{time:%dT%H}" for time in file.times] == [*(f"15T{hour}" for hour in range(12, 24)), "16T00"]
    assert len(file.vertical_axis.levels) == 20
    assert file.check() == []
    records = [each for record in file.records for each in (record, *record.diffs)]
    assert all(record.verify_checksum() for record in records)
    assert {record.variable for record in file.records if record.level} == {
        *("TEMP", "UWND", "VWND", "WWND", "SPHU", "TKEN", "PRES")
    }


def test_layers_are_as_thick_as_their_virtual_temperature_makes_them(file: arlmet.File) -> None:
    step = file["2023-07-15 20:00"]
    pressure, warmth, moisture = (
        np.array([step[(k, name)].read()[27, 30] for k in range(1, 20)]) for name in ("PRES", "TEMP", "SPHU")
    )
    virtual = warmth * (1 + 0.61 * moisture)
    thickness = GAS / GRAVITY * (virtual[1:] + virtual[:-1]) / 2 * -np.diff(np.log(pressure))
    coordinates = file.grid.calculate_coords()
    lon, lat = (coordinates[name][1][27:28, 30] for name in ("lon", "lat"))
    air = Columns(lon, lat, 20.0)
    z = air.height(np.multiply.outer(file.vertical_axis.levels[1:], air.surface_pressure))[:, 0]
    assert z[-1] > 5000
    assert z[0] == pytest.approx(8.7, abs=0.1)
    np.testing.assert_allclose(z[0] + np.cumsum(thickness), z[1:], atol=4)  # m: pressures are packed to 0.03 hPa


def test_air_rises_where_it_blows_up_a_slope(file: arlmet.File) -> None:
    step = file["2023-07-15 20:00"]
    height, pressure = (step[(0, name)].read() for name in ("SHGT", "PRSS"))
    temperature, east, north, omega = (step[(1, name)].read() for name in ("TEMP", "UWND", "VWND", "WWND"))
    to_north, to_east = np.gradient(height, 3000.0)
    expected = -pressure / (GAS * temperature) * GRAVITY * (east * to_east + north * to_north)  # hPa s-1
    assert np.corrcoef(omega.ravel(), expected.ravel())[0, 1] > 0.995
    assert np.ptp(omega) == pytest.approx(np.ptp(expected), rel=0.1)


def test_the_valley_floor_rises_along_its_axis() -> None:
    lon, lat = CENTRE_LON + 10 * np.sin(np.radians(160)) / 84.43, CENTRE_LAT + 10 * np.cos(np.radians(160)) / 111.195
    assert terrain(lon, lat) - terrain(CENTRE_LON, CENTRE_LAT) == pytest.approx(20, abs=0.2)  # m over 10 km


def test_ground_pressure_falls_with_height_as_the_hydrostatic_law_says(file: arlmet.File) -> None:
    step = file["2023-07-15 20:00"]
    height, pressure, warmth = (step[(0, name)].read()[27] for name in ("SHGT", "PRSS", "T02M"))
    low, high = height.argmin(), height.argmax()
    mean = (warmth[low] + warmth[high]) / 2
    expected = GRAVITY * (height[high] - height[low]) / (GAS * mean)
    assert height[high] - height[low] > 500
    assert np.log(pressure[low] / pressure[high]) == pytest.approx(expected, rel=0.03)


def test_the_mixed_layer_grows_with_the_heat_it_got_and_collapses_in_the_evening(file: arlmet.File) -> None:
    depth, flux = at_centre(file, "PBLH"), at_centre(file, "SHTF")
    assert depth[0] == pytest.approx(100, abs=1)
    assert np.all(np.diff(depth[1:11]) > 0)
    assert 1500 < depth[8] < depth[10] < 2500
    assert depth[11:] == pytest.approx([100, 100], abs=1)
    assert np.all(flux[1:11] > 0)
    assert np.all(flux[[0, 11, 12]] < 0)
    deepened = 4e-3 * (depth[10] ** 2 - depth[4] ** 2) / 2  # K m between the profiles at 16Z and 22Z
    given = np.trapezoid(flux[4:11], dx=3600) / (0.99 * 1004.7)
    assert deepened == pytest.approx(given, rel=0.03)


def test_potential_temperature_is_mixed_by_day_and_stable_by_night(file: arlmet.File) -> None:
    theta = np.array(
        [at_centre(file, "TEMP", k) * (1000 / at_centre(file, "PRES", k)) ** (2 / 7) for k in range(1, 20)]
    )
    pressure = np.array([at_centre(file, "PRES", k) for k in range(1, 20)])
    afternoon = theta[:, 8]
    assert np.ptp(afternoon[3:10]) < 0.2  # K, 170 m to 1.4 km
    assert afternoon[0] > afternoon[3]
    assert afternoon[14] - afternoon[9] > 4
    for night in (0, 12):
        assert theta[3, night] - theta[0, night] > 1
    assert np.all(np.diff(pressure, axis=0) < 0)


def test_the_valley_wind_turns_from_drainage_to_up_valley() -> None:
    def up_valley(hour: float) -> float:
        air = Columns(np.array([CENTRE_LON]), np.array([CENTRE_LAT]), hour)
        east, north = air.wind(100.0)
        x, y = plane(CENTRE_LON + 0.01, CENTRE_LAT)
        assert (float(x), float(y)) == pytest.approx((844, 0), abs=1)
        return float(east[0] * np.sin(np.radians(160)) + north[0] * np.cos(np.radians(160)))

    assert up_valley(12.0) < -1
    assert up_valley(19.0) > 2


def test_two_calls_give_the_same_bytes_and_leave_the_same_files_alone(demo: Demo, tmp_path: Path) -> None:
    paths = (demo.settings, demo.retrieval, demo.meteorology)
    before = [(path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]
    again = lay_out(tmp_path)
    root = demo.settings.parent
    assert [(again.parent / path.relative_to(root)).read_bytes() for path in paths] == [each[0] for each in before]
    assert lay_out(root) == demo.settings
    assert [(path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in paths] == before
    assert sorted(path.name for path in root.iterdir()) == ["inbox", "meteorology", "settings.yaml"]


def test_a_spoiled_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / NAME).write_bytes(b"spoiled")
    lay_out(tmp_path)
    (tmp_path / "fresh").mkdir()
    assert (tmp_path / "inbox" / NAME).read_bytes() == write_retrieval(tmp_path / "fresh").read_bytes()


def test_hysplit_finds_the_afternoons_mixed_layer_and_keeps_the_air_in_the_domain(demo: Demo) -> None:
    receptor = stilt.ColumnReceptor(
        time=datetime(2023, 7, 15, 20, 30), longitude=CENTRE_LON, latitude=CENTRE_LAT, bottom=0, top=2500
    )
    met = {"directory": demo.meteorology.parent, "file_format": "%Y%m%d_%H", "file_tres": "12h"}
    particles = stilt.run_trajectories(receptor, met, n_hours=-3, numpar=100, krand=2, seed=1)
    first, last = (particles[particles.age == age] for age in (-1, -180))
    assert len(first) == len(last) == 100
    assert 1700 < first.mlht.mean() < 2400
    assert 1400 < last.mlht.mean() < first.mlht.mean() - 100
    assert first.pres.max() == pytest.approx(846, abs=3)  # hPa at the ground
    assert first.pres.min() == pytest.approx(846 * np.exp(-2500 * GRAVITY / (GAS * 289)), abs=6)
    assert last.lon.mean() < CENTRE_LON - 0.1  # the general wind comes from the west-southwest
    assert last.zagl.max() < 3500
    assert 5 < particles.foot.sum() < 100
