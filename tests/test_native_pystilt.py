"""Native is a transport model of PYSTILT: its projects run it by name, many receptors at once."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import stilt
from stilt.exceptions import SimulationError
from stilt.meteorology import run_window
from stilt.transport import get_model, run_model_many

from stilt_assets.transport.native import NativeModel

NAME = "stilt_assets.transport.native.NativeModel"
TIME = pd.Timestamp("2019-05-30 09:20")
POINT = stilt.PointReceptor(time=TIME, longitude=-111.9, latitude=40.7, altitude=20.0)
COLUMN = stilt.ColumnReceptor(time=TIME, longitude=-112.0, latitude=40.8, bottom=0.0, top=400.0)
SLANT = stilt.MultiPointReceptor(
    time=TIME, longitudes=(-111.9, -111.92), latitudes=(40.7, 40.71), altitudes=(10.0, 700.0)
)
OUTSIDE = stilt.PointReceptor(time=TIME, longitude=-80.0, latitude=40.7, altitude=20.0)


@pytest.fixture
def met(shared: Path) -> dict[str, Any]:
    return {"directory": str(shared / "data" / "hrrr"), "file_format": "%Y%m%d_%H", "file_tres": "6h"}


def settings(**changes: Any) -> Any:
    return NativeModel.config_class(**{"n_hours": -1, "numpar": 60, "seed": 3} | changes)


def particles(met: dict[str, Any], *receptors: Any, **changes: Any) -> pd.DataFrame:
    config = settings(**changes)
    windows = [run_window(each.time, config.n_hours) for each in receptors]
    run = NativeModel().run_many(list(receptors), config, NativeModel.met_config_class(**met), windows)
    return run.particles


def test_looking_at_the_package_loads_no_compiler() -> None:
    program = "import sys, stilt_assets.transport.native; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="NoModel"):
        _ = __import__("stilt_assets.transport.native", fromlist=["x"]).NoModel


def test_a_project_runs_native_by_name(tmp_path: Path, met: dict[str, Any]) -> None:
    project = stilt.Project.init(
        tmp_path / "project",
        receptors=[POINT, COLUMN, SLANT, OUTSIDE],
        model=NAME,
        mets={"hrrr": met},
        variants={"hrrr": {}},
        grid={"xmin": -112.6, "xmax": -111.4, "ymin": 40.3, "ymax": 41.2, "xres": 0.02, "yres": 0.02},
        n_hours=-1,
        numpar=60,
        seed=3,
    )
    status = project.run()
    states = dict(zip(status["receptor"], status["state"], strict=True))
    assert states.pop(str(OUTSIDE.id)) == "failed"
    assert set(states.values()) == {"complete"}
    table = project.particles()
    assert table.groupby("receptor")["particle"].nunique().to_dict() == {
        str(POINT.id): 60,
        str(COLUMN.id): 60,
        str(SLANT.id): 62,  # hycs_std gives each of two points 60 // 2 + 1
    }
    assert {"foot", "foot_no_hnf_dilution", "dens", "samt", "sigw", "tlgr", "mlht", "pres"} <= set(table)
    assert float(project.footprints()["foot"].sum()) > 0


def test_many_receptors_are_each_as_alone(met: dict[str, Any]) -> None:
    together = particles(met, POINT, COLUMN)
    for receptor in (POINT, COLUMN):
        alone = particles(met, receptor)
        same = together[together["receptor"] == str(receptor.id)].reset_index(drop=True)
        pd.testing.assert_frame_equal(same, alone)


def test_seeds_and_receptors_have_their_own_chance(met: dict[str, Any]) -> None:
    here, there = particles(met, POINT), particles(met, POINT, seed=4)
    assert not np.allclose(here["zagl"].head(60), there["zagl"].head(60))
    drawn = [particles(met, POINT, seed=None)["zagl"].head(60).to_numpy() for _ in range(2)]
    assert not np.allclose(*drawn)


def test_particles_start_where_receptors_are(met: dict[str, Any]) -> None:
    first = particles(met, POINT, COLUMN, SLANT).query("age == -1").set_index("receptor")
    assert abs(first.loc[str(POINT.id), "lon"].mean() + 111.9) < 0.02
    heights = first.loc[str(COLUMN.id), "zagl"].to_numpy()
    assert np.corrcoef(heights, np.arange(60))[0, 1] > 0.8
    slant = first.loc[str(SLANT.id)].sort_values("particle")
    assert slant["zagl"].head(31).mean() < 200
    assert slant["zagl"].tail(31).mean() > 500


def test_pystilt_finishes_its_particles(met: dict[str, Any]) -> None:
    config, weather = settings(), NativeModel.met_config_class(**met)
    runs = run_model_many(NAME, [COLUMN, OUTSIDE], config, weather)
    done = runs[str(COLUMN.id)].particles
    assert done["release_height"].between(0, 400).all()
    assert (done["foot"] >= done["foot_no_hnf_dilution"]).all()
    failed = runs[str(OUTSIDE.id)]
    assert isinstance(failed, SimulationError)
    assert "outside_meteorology" in failed.log


def test_one_receptor_that_fails_says_why(met: dict[str, Any]) -> None:
    config, weather = settings(), NativeModel.met_config_class(**met)
    with pytest.raises(SimulationError, match="lies outside the meteorology") as caught:
        NativeModel().run(OUTSIDE, config, weather, run_window(TIME, -1))
    assert caught.value.reason == "outside_meteorology"


def test_a_receptor_above_the_meteorology_is_told_by_its_reason(met: dict[str, Any]) -> None:
    config, weather = settings(), NativeModel.met_config_class(**met)
    with pytest.raises(SimulationError, match="7000 m above ground, lies above the meteorology") as caught:
        NativeModel().run(POINT.model_copy(update={"altitude": 7000.0}), config, weather, run_window(TIME, -1))
    assert caught.value.reason == "above_meteorology"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kmix0": 250}, "native does not cover kmix0: 250; set `model: hysplit`"),
        ({"ziscale": 0.8}, "native does not cover ziscale: 0.8"),
        ({"capemin": 500.0}, "native does not cover capemin"),
        ({"siguverr": 1.0}, "native does not cover siguverr"),
        ({"n_hours": 3}, "native goes back in time only"),
        ({"veght": 1.0}, "native does not cover veght: 1"),
        ({"nunpar": 3}, "nunpar"),
    ],
)
def test_what_it_does_not_cover_is_refused_by_name(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(**given)


def test_what_it_does_may_be_said(met: dict[str, Any]) -> None:
    assert settings(kmix0=150, kmixd=3, tratio=0.75).settings() == settings().settings()


def test_heights_above_the_sea_are_refused(met: dict[str, Any]) -> None:
    above_the_sea = POINT.model_copy(update={"altitude_ref": "msl"})
    config, weather = settings(), NativeModel.met_config_class(**met)
    with pytest.raises(SimulationError, match="heights above ground only"):
        NativeModel().run(above_the_sea, config, weather, run_window(TIME, -1))


def test_a_build_has_a_version() -> None:
    model = get_model(NAME)
    assert len(model.version(settings())) == 12
    assert model.version(settings()) == model.version(settings(seed=9))
    assert model.data_files(settings()) is None
