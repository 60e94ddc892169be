"""One footprint leaves as CF NetCDF: dense, every hour, as it was gridded."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import netCDF4
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
import yaml
from test_jacobian import CELLS, GRID, filled, receptors

from stilt_assets.errors import StoreError, UsageError
from stilt_assets.export import export_pixel
from stilt_assets.grid import Grid
from stilt_assets.receptor import RECEPTORS
from stilt_assets.recipes import Desk
from stilt_assets.scene import Record
from stilt_assets.settings import load_settings

KEY = "20190530T0900Z_tropomi_slc"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return made(tmp_path, GRID)


def made(folder: Path, grid: Grid) -> Desk:
    """A scene whose footprints were made on `grid`, while the settings name another by now."""
    store, footprints = filled(folder / "store")
    names = {stage: f"{stage}-0" for stage in ("pixels", "particles", "footprints")}
    place = Path(store.result(KEY, names["footprints"]))
    place.parent.mkdir(parents=True)
    Path(footprints).rename(place)
    (place.parent / names["pixels"]).mkdir()
    table = pa.Table.from_pylist([asdict(receptor) for receptor in receptors()], schema=RECEPTORS)
    pq.write_table(table, place.parent / names["pixels"] / "receptors.parquet")
    facts = {"west": 0, "south": 0, "east": 1, "north": 1, "resolution": 1}
    settings = {
        "store": "./store",
        "retrievals": "./inbox",
        "meteorology": {"product": "none", "source": "./none"},
        "simulation": {"hours_back": 5, "particles": 20, "top": 2500},
        "targets": {"slc": {"bounds": [0, 0, 1, 1], "grid": facts}},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    results = {
        names["pixels"]: {"digests": {"receptors": "r"}},
        names["particles"]: {"made_from": {"hours_back": 2, "receptors": "r"}},
        names["footprints"]: {"made_from": {"grid": asdict(grid)}},
    }
    record = Record(KEY, {}, names, results)
    return Desk(record, load_settings(str(folder / "settings.yaml")), store)


def complaints(file: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "compliance-checker"
    return subprocess.run([program, "--test=cf:1.8", file], capture_output=True, text=True, check=False)


def test_it_is_the_pack_files_footprint_in_float32_at_every_utc_hour(desk: Desk, tmp_path: Path) -> None:
    export_pixel(desk, 0, tmp_path / "pixel0.nc")
    with netCDF4.Dataset(tmp_path / "pixel0.nc") as file:
        foot = file["foot"]
        assert (foot.dtype, foot.dimensions, foot.shape) == (np.float32, ("time", "lat", "lon"), (3, 2, 5))
        assert foot.units == "ppm m2 s umol-1"
        expected = np.zeros((3, 2, 5), "f4")
        for hour, y, x, value in CELLS[0]:
            expected[2 - hour, y, x] = value
        assert foot[:].tolist() == expected.tolist()
        assert file["lat"][:].tolist() == [50.25, 50.75]
        assert file["lon"][:].tolist() == [10.25, 10.75, 11.25, 11.75, 12.25]
        assert file["lon_bnds"][0].tolist() == [10.0, 10.5]
        assert file["lat_bnds"][1].tolist() == [50.5, 51.0]
    with xr.open_dataset(tmp_path / "pixel0.nc") as opened:
        hours = opened["time"].to_numpy().astype("datetime64[h]").astype(str).tolist()
        assert hours == ["2019-05-30T07", "2019-05-30T08", "2019-05-30T09"]
        assert (opened["time_bnds"][:, 1].to_numpy() == opened["time"].to_numpy() + np.timedelta64(1, "h")).all()
        assert str(opened["receptor_time"].to_numpy().astype("datetime64[m]")) == "2019-05-30T09:58"
        assert (float(opened["receptor_longitude"]), float(opened["receptor_latitude"])) == (11.0, 50.25)


def test_hours_without_influence_are_there_and_zero(desk: Desk, tmp_path: Path) -> None:
    export_pixel(desk, 3, tmp_path / "pixel3.nc")  # released on the hour: two hours are all there are
    with netCDF4.Dataset(tmp_path / "pixel3.nc") as file:
        assert file["foot"][:].sum(axis=(1, 2)).tolist() == [3.0, 1.5]
        assert netCDF4.num2date(file["time"][0], file["time"].units).hour == 7
    export_pixel(desk, 1, tmp_path / "pixel1.nc")  # an empty footprint
    with netCDF4.Dataset(tmp_path / "pixel1.nc") as file:
        assert file["foot"].shape == (3, 2, 5)
        assert not file["foot"][:].any()


ACROSS = Grid(178.5, -51.0, -179.0, -50.0, 0.5)


def test_the_compliance_checker_finds_no_fault_with_it_as_cf_1_8(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "pixel.nc"
    export_pixel(desk, 0, file)
    with netCDF4.Dataset(file) as opened:
        assert opened.Conventions == "CF-1.8"
    said = complaints(file)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "All tests passed!" in said.stdout
    with netCDF4.Dataset(file, "a") as opened:
        opened["foot"].units = "beans"
    assert complaints(file).returncode != 0


def test_across_the_antimeridian_longitudes_run_on_as_cf_asks_of_a_coordinate(tmp_path: Path) -> None:
    export_pixel(made(tmp_path, ACROSS), 0, tmp_path / "pixel.nc")
    with netCDF4.Dataset(tmp_path / "pixel.nc") as opened:
        assert np.diff(np.asarray(opened["lon"][:])) == pytest.approx([0.5] * 4)
        assert np.diff(np.asarray(opened["lon_bnds"][:]), axis=1) == pytest.approx(np.full((5, 1), 0.5))


@pytest.mark.parametrize("pixel", [-1, 5])
def test_a_pixel_that_is_not_there_is_refused_in_one_line(desk: Desk, tmp_path: Path, pixel: int) -> None:
    with pytest.raises(UsageError, match=f"^{KEY} has pixels 0 to 4, no pixel {pixel}$"):
        export_pixel(desk, pixel, tmp_path / "out" / "pixel.nc")
    assert not (tmp_path / "out").exists()


def test_without_footprints_it_says_how_to_make_them(desk: Desk, tmp_path: Path) -> None:
    del desk.record.current["footprints"]
    with pytest.raises(UsageError, match=f"stilt-assets run {KEY}$"):
        export_pixel(desk, 0, tmp_path / "pixel.nc")


def test_where_it_cannot_write_nothing_half_written_is_left(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^cannot write .*pixel\.nc: \S[^\n]*$"):
        export_pixel(desk, 0, tmp_path / "nowhere" / "pixel.nc")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "out" / "pixel.nc").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot write"):
        export_pixel(desk, 0, tmp_path / "out" / "pixel.nc")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pixel.nc"]


def test_a_file_of_that_name_is_replaced_whole(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "out" / "pixel.nc"
    file.parent.mkdir()
    file.write_text("something else")
    export_pixel(desk, 0, file)
    with netCDF4.Dataset(file) as opened:
        assert opened["foot"][:].sum() == 7.75
    assert [path.name for path in file.parent.iterdir()] == ["pixel.nc"]
