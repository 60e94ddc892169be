"""The same numbers as STILT-R and as PYSTILT by hand."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import stilt
import yaml
from stilt.transforms import AveragingKernel, PressureWeighting

from stilt_assets.arrays import read_array
from stilt_assets.catalog import register
from stilt_assets.footprint import grid_particles
from stilt_assets.grid import Grid
from stilt_assets.jacobian import NAME
from stilt_assets.meteorology import aggregate
from stilt_assets.particles import column_weights, kept_form, releases_of
from stilt_assets.receptor import Kernel, Receptor, kernels_from, receptors_from
from stilt_assets.recipes import Desk, desk_of
from stilt_assets.scene import Recipe
from stilt_assets.settings import load_settings
from stilt_assets.shard import make_footprints
from stilt_assets.simulation import seed_of
from stilt_assets.stages import make_jacobian, make_meteorology, make_pixels
from stilt_assets.store import open_store

# ---- STILT-R


@dataclass(frozen=True)
class Original:
    """One run of STILT-R."""

    particles: pd.DataFrame
    time: datetime
    lon: np.ndarray
    lat: np.ndarray
    foot: np.ndarray  # (time, lat, lon)
    hours: np.ndarray  # (time,) seconds since 1970


def original(shared: Path, name: str) -> Original:
    import rdata

    folder = shared / "data" / "stilt_r" / name
    with warnings.catch_warnings():
        # rdata knows neither R's times nor tibbles by name and reads them as numbers and data frames, which is wanted.
        warnings.filterwarnings("ignore", message="Missing constructor for R class")
        read = rdata.read_rds(folder / f"{name}_traj.rds")
    with netCDF4.Dataset(folder / f"{name}_foot.nc") as file:
        lon, lat, foot, hours = (np.asarray(file[each][:]) for each in ("lon", "lat", "foot", "time"))
    columns = {"time": "age", "indx": "particle", "long": "lon", "lati": "lat"}
    particles = read["particle"].rename(columns=columns).astype(float).assign(pres=900.0)
    time = datetime.fromtimestamp(float(read["receptor"]["run_time"][0]), UTC)
    return Original(particles, time, lon, lat, foot, hours)


def regridded(run: Original, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Our footprint (hour, lat, lon), oldest hour first, of STILT-R's particles, each with the same weight."""
    dx, dy = (round(float(axis[1] - axis[0]), 6) for axis in (run.lon, run.lat))
    edges = [run.lon[0] - dx / 2, run.lat[0] - dy / 2, run.lon[-1] + dx / 2, run.lat[-1] + dy / 2]
    grid = Grid(*(round(float(edge), 6) for edge in edges), dx)
    real = stilt.Grid
    # STILT-R's cells are 0.02 by 0.025 degrees, ours are square: the cells' height is all that is exchanged.
    monkeypatch.setattr(stilt, "Grid", lambda **facts: real(**(facts | {"yres": dy})))
    numbers = np.unique(run.particles["particle"]).astype("i2")
    receptor = Receptor(0, run.time.replace(second=0), -111.9, 40.7, 0.0, 1000.0)
    omega = np.full(len(numbers), 1 / len(numbers))
    cells = grid_particles(kept_form(run.particles, full=False), {"particle": numbers}, omega, receptor, grid)
    foot = np.zeros((int(cells.hour.max()) + 1, len(run.lat), len(run.lon)))
    foot[foot.shape[0] - 1 - cells.hour, cells.y, cells.x] = cells.foot
    return foot


def test_fixed_point_loses_nothing_of_stilt_rs_positions(shared: Path) -> None:
    run = original(shared, "201507050000_-111.85_40.77_5")
    kept = kept_form(run.particles, full=False)
    ordered = run.particles.assign(hour=(-run.particles["age"] - 1) // 60, back=-run.particles["age"])
    ordered = ordered.sort_values(["hour", "particle", "back"])
    for name in ("lon", "lat"):
        assert (kept[name] / 10_000 == ordered[name].to_numpy()).all()
    assert kept["foot"] == pytest.approx(ordered["foot"].to_numpy(), rel=2.0**-24)


def test_hour_by_hour_a_point_receptors_footprint_is_stilt_rs(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = original(shared, "201507050000_-111.85_40.77_5")
    ours = regridded(run, monkeypatch)
    assert run.hours.tolist() == [run.time.timestamp() - 7200, run.time.timestamp() - 3600]
    assert ours.shape == run.foot.shape == (2, 16, 30)
    assert np.abs(ours - run.foot).max() < 1e-6 * run.foot.max()
    assert (ours > 0).sum() == (run.foot > 0).sum() == 30


def test_a_column_receptors_footprint_is_stilt_rs_sum_over_time(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = original(shared, "201507051800_-111.9_40.7_X")
    ours = regridded(run, monkeypatch)
    assert (ours.shape, run.foot.shape) == ((2, 20, 30), (1, 20, 30))
    assert (ours.sum(axis=(1, 2)) > 0.1).all()  # 90 minutes back
    assert np.abs(ours.sum(axis=0) - run.foot[0]).max() < 1e-6 * run.foot.max()


# ---- PYSTILT by hand


KEEPBITS = 10
ROUNDING = 2.0 ** -(KEEPBITS + 1) + 1e-6  # of a value with KEEPBITS bits of mantissa, and of float32
SETTINGS = {
    "store": "./store",
    "retrievals": "./inbox",
    "simulation": {"hours_back": 4, "particles": 100, "top": 2500, "seed": 0},
    "packs": {"pixels": 2, "workers": 2},
    "jacobian": {"keepbits": KEEPBITS},
    "targets": {
        "slc": {
            "bounds": [-112.08, 40.735, -111.92, 40.765],  # three good pixels of the test scene
            "grid": {"west": -112.8, "south": 40.15, "east": -111.2, "north": 41.35, "resolution": 0.01},
        }
    },
}


@dataclass(frozen=True)
class Scene:
    """A scene of three pixels, from its file to H."""

    desk: Desk
    h: np.ndarray  # (pixel, hour, lat, lon)
    row_sum: np.ndarray  # (pixel,) before quantization
    first_hour: np.datetime64
    receptors: list[Receptor]
    kernels: list[Kernel]
    particles: Mapping[int, pd.DataFrame]  # of PYSTILT, by pixel


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Scene:
    folder = tmp_path_factory.mktemp("three")
    (source,) = (shared / "data" / "retrievals").glob("S5P_TEST_*.nc")
    meteorology = {"product": "hrrr", "source": str(shared / "data" / "hrrr")}
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS | {"meteorology": meteorology}))
    settings = load_settings(str(folder / "settings.yaml"))
    store = open_store(settings.store)
    register(str(source), settings, store)
    desk = desk_of("20190530T0958Z_tropomi_slc", settings, store)
    made = {done.stage: done for done in (make(desk) for make in (make_pixels, make_meteorology, make_footprints))}
    path = Path(make_jacobian(desk).folder) / NAME
    data, indices, indptr = (read_array(path, f"H/{name}") for name in ("data", "indices", "indptr"))
    time, lat, lon = (read_array(path, f"state/{name}") for name in ("time", "lat", "lon"))
    shape = (len(indptr) - 1, len(time), len(lat), len(lon))
    dense = scipy.sparse.csr_array((data, indices, indptr), (shape[0], len(time) * len(lat) * len(lon))).toarray()
    pixels = Recipe("pixels", desk.record.results[made["pixels"].name]["made_from"])
    receptors = receptors_from(desk.table(pixels, "receptors.parquet"))
    kernels = kernels_from(desk.table(pixels, "kernels.parquet"))
    met = {"directory": made["meteorology"].folder, "file_format": aggregate.NAME, "file_tres": "1d"}
    assert len(receptors) == 3
    particles = {
        receptor.pixel: stilt.run_trajectories(
            column(receptor), met, krand=2, seed=seed_of(receptor, desk.simulation), numpar=100, n_hours=-4
        )
        for receptor in receptors
    }
    return Scene(
        desk,
        dense.reshape(shape),
        read_array(path, "obs/row_sum"),
        np.datetime64(int(time[0]), "h"),
        receptors,
        kernels,
        particles,
    )


def column(receptor: Receptor) -> stilt.ColumnReceptor:
    return stilt.ColumnReceptor(
        time=receptor.time,
        longitude=receptor.longitude,
        latitude=receptor.latitude,
        bottom=receptor.bottom,
        top=receptor.top,
    )


def surface_pressure(particles: pd.DataFrame) -> float:
    """hPa at the ground, by a fit of ln p on height over the first minute."""
    first = particles[particles["age"] == -1]
    return float(np.exp(np.polyfit(first["zagl"], np.log(first["pres"]), 1)[1]))


def by_hand(scene: Scene, pixel: int, scaled: bool = True, minutes: int = 0) -> np.ndarray:
    """PYSTILT's footprint (hour, lat, lon) on H's hours, of ages `minutes` older."""
    receptor, kernel, particles = scene.receptors[pixel], scene.kernels[pixel], scene.particles[pixel]
    factor = surface_pressure(particles) / kernel.surface_pressure if scaled else 1.0
    transforms = [
        AveragingKernel(levels=list(kernel.pressure * factor), values=list(kernel.value), coordinate="pres"),
        PressureWeighting(),
    ]
    later = replace(receptor, time=receptor.time + pd.Timedelta(minutes=minutes).to_pytimedelta())
    grid = stilt.Grid(xmin=-112.8, xmax=-111.2, ymin=40.15, ymax=41.35, xres=0.01, yres=0.01)
    foot = stilt.calc_footprint(
        particles.assign(age=particles["age"] - minutes), column(later), grid, transforms=transforms
    )
    layers = np.zeros(scene.h.shape[1:])
    for time, layer in zip(foot["time"].to_numpy().astype("datetime64[m]"), foot.to_numpy(), strict=True):
        layers[int((time - scene.first_hour) // np.timedelta64(1, "h"))] += layer
    return layers


def test_three_pixels_each_with_influence_in_the_grid(scene: Scene) -> None:
    assert scene.h.shape == (3, 5, 120, 160)
    assert len({scene.h[pixel].sum() for pixel in range(3)}) == 3
    assert (scene.h.sum(axis=(2, 3)) > 1e-3).sum(axis=1).tolist() == [1, 1, 3]  # hours in which a pixel saw the ground


@pytest.mark.parametrize("pixel", range(3))
def test_summed_over_time_a_row_of_h_is_what_pystilt_gives_by_hand(scene: Scene, pixel: int) -> None:
    ours, theirs = scene.h[pixel].sum(axis=0), by_hand(scene, pixel).sum(axis=0)
    assert ((ours > 0) == (theirs > 0)).all()
    assert ours == pytest.approx(theirs, rel=ROUNDING, abs=0.0)
    assert scene.row_sum[pixel] == pytest.approx(theirs.sum(), rel=1e-6)


@pytest.mark.parametrize("pixel", range(3))
def test_hour_by_hour_a_row_of_h_is_what_pystilt_gives_of_ages_counted_from_the_whole_hour(
    scene: Scene, pixel: int
) -> None:
    ours, theirs = scene.h[pixel], by_hand(scene, pixel, minutes=2)
    assert ((ours > 0) == (theirs > 0)).all()
    assert ours == pytest.approx(theirs, rel=ROUNDING, abs=0.0)


def test_without_the_two_minutes_hours_would_differ(scene: Scene) -> None:
    assert by_hand(scene, 2, minutes=2) != pytest.approx(by_hand(scene, 2), rel=ROUNDING)


def test_of_a_steep_kernel_too_our_cells_are_pystilts_with_levels_scaled_to_the_models_ground(scene: Scene) -> None:
    receptor, particles, kernel = scene.receptors[0], scene.particles[0], scene.kernels[0]
    assert surface_pressure(particles) - kernel.surface_pressure == pytest.approx(43.0, abs=1.0)  # hPa
    steep = Kernel(np.array([900.0, 700.0, 0.0]), np.array([2.0, 0.5, 0.0]), kernel.surface_pressure)
    kept, releases = kept_form(particles, full=False), releases_of(particles)
    cells = grid_particles(kept, releases, column_weights(releases, steep), receptor, scene.desk.grid)
    ours = np.zeros(scene.h.shape[1:])
    ours[4 - cells.hour, cells.y, cells.x] = cells.foot
    steeply = replace(scene, kernels=[steep])
    assert ours == pytest.approx(by_hand(steeply, 0, minutes=2), rel=1e-6, abs=0.0)
    assert by_hand(steeply, 0, scaled=False).sum() / ours.sum() > 1.1
