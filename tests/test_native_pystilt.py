"""Native is a transport model of PYSTILT: its projects run it by name, many receptors at once."""

import re
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

from stilt_assets.transport.native import NativeModel, pystilt_model

NAME = "stilt_assets.transport.native.NativeModel"
TIME = pd.Timestamp("2019-05-30 09:20")
POINT = stilt.PointReceptor(time=TIME, longitude=-111.9, latitude=40.7, altitude=20.0)
COLUMN = stilt.ColumnReceptor(time=TIME, longitude=-112.0, latitude=40.8, bottom=0.0, top=400.0)
SLANT = stilt.MultiPointReceptor(
    time=TIME, longitudes=(-111.9, -111.92), latitudes=(40.7, 40.71), altitudes=(10.0, 700.0)
)
OUTSIDE = stilt.PointReceptor(time=TIME, longitude=-80.0, latitude=40.7, altitude=20.0)
HIGH = POINT.model_copy(update={"altitude": 7000.0})
ABOVE_THE_SEA = POINT.model_copy(update={"altitude": 1500.0, "altitude_ref": "msl"})


def at(time: str) -> Any:
    """POINT at another time; the meteorology is that of 2019-05-30, 00 to 11 UTC, in two files."""
    return stilt.PointReceptor(time=pd.Timestamp(time), longitude=-111.9, latitude=40.7, altitude=20.0)


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


def project_of(folder: Path, met: dict[str, Any], *receptors: Any, **changes: Any) -> Any:
    given = {"model": NAME, "mets": {"hrrr": met}, "variants": {"hrrr": {}}, "n_hours": -1, "numpar": 60, "seed": 3}
    return stilt.Project.init(folder / "project", receptors=list(receptors), **(given | changes))


def test_a_project_runs_native_by_name(tmp_path: Path, met: dict[str, Any]) -> None:
    grid = {"xmin": -112.6, "xmax": -111.4, "ymin": 40.3, "ymax": 41.2, "xres": 0.02, "yres": 0.02}
    project = project_of(tmp_path, met, POINT, COLUMN, SLANT, OUTSIDE, grid=grid)
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


@pytest.mark.parametrize("other", ["2019-05-30 00:30", "2019-05-30 11:30", "2019-06-09 09:20"])
def test_a_receptor_without_meteorology_fails_alone(tmp_path: Path, met: dict[str, Any], other: str) -> None:
    lacking = at(other)
    project = project_of(tmp_path, met, POINT, lacking)
    status = project.run().set_index("receptor")
    assert status["state"].to_dict() == {str(POINT.id): "complete", str(lacking.id): "failed"}
    (told,) = re.findall(rf"^{lacking.id} has no particles: (.*)$", log_of(project, POINT), re.M)
    assert f"The run covers {lacking.time - pd.Timedelta(hours=1):%Y-%m-%d %H:%M}" in told
    assert told.endswith("(MET_COVERAGE)")
    pd.testing.assert_frame_equal(
        project.particles()[["lon", "lat", "zagl", "foot_no_hnf_dilution"]],
        particles(met, POINT)[["lon", "lat", "zagl", "foot"]].rename(columns={"foot": "foot_no_hnf_dilution"}),
    )


def log_of(project: Any, receptor: Any) -> str:
    return project.simulation(str(receptor.id), "hrrr").log


def test_of_each_receptor_that_failed_the_log_says_why(tmp_path: Path, met: dict[str, Any]) -> None:
    project = project_of(tmp_path, met, POINT, HIGH, ABOVE_THE_SEA, OUTSIDE)
    status = project.run().set_index("receptor")
    assert status["state"].drop(str(POINT.id)).to_list() == ["failed"] * 3
    assert status.loc[str(POINT.id), "state"] == "complete"
    flown, *lines = log_of(project, POINT).splitlines()
    assert flown == "native flew 1 of 4 receptors over 1 files"
    told = {line.split(" has no particles: ")[0]: line for line in lines}
    assert set(told) == {str(receptor.id) for receptor in (HIGH, ABOVE_THE_SEA, OUTSIDE)}
    assert re.search(r"lower the receptor \(above_meteorology\)$", told[str(HIGH.id)])
    assert told[str(ABOVE_THE_SEA.id)].endswith("set `model: hysplit` (NOT_COVERED)")
    assert told[str(OUTSIDE.id)].endswith("(outside_meteorology)")


def test_of_a_call_in_which_all_fail_the_status_has_the_reason(tmp_path: Path, met: dict[str, Any]) -> None:
    status = project_of(tmp_path, met, HIGH).run()
    assert status["reason"].to_list() == ["above_meteorology"]


def test_heights_above_the_sea_are_found_before_a_run(tmp_path: Path, met: dict[str, Any]) -> None:
    lacking = at("2019-06-09 09:20")
    found = project_of(tmp_path, met, POINT, ABOVE_THE_SEA, lacking).check()
    assert dict(zip(found["receptor"], found["check"], strict=True)) == {
        str(ABOVE_THE_SEA.id): "heights",
        str(lacking.id): "met_files",
    }


def test_meteorology_is_decoded_once_for_those_who_share_it(
    met: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, decode = [], pystilt_model._decoded
    monkeypatch.setattr(
        pystilt_model, "_decoded", lambda files, config: (decoded.append(len(files)), decode(files, config))[1]
    )
    early, between = at("2019-05-30 03:10"), at("2019-05-30 06:30")
    apart = particles(met, POINT, early)
    assert decoded == [1, 1]
    decoded.clear()
    together = particles(met, between, POINT, early)
    assert decoded == [2]
    for receptor in (POINT, early):
        one, other = (
            table[table["receptor"] == str(receptor.id)].reset_index(drop=True) for table in (apart, together)
        )
        assert len(one) == 60 * 60
        pd.testing.assert_frame_equal(one, other)


def test_a_file_that_one_receptor_needs_costs_no_other(met: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    decode = pystilt_model._decoded

    def refusing(files: list[Path], config: Any) -> Any:
        if len(files) > 1:
            raise SimulationError("native does not cover this", "NOT_COVERED")
        return decode(files, config)

    monkeypatch.setattr(pystilt_model, "_decoded", refusing)
    early, between = at("2019-05-30 03:10"), at("2019-05-30 06:30")
    receptors = [POINT, between, COLUMN, early]
    runs = run_model_many(NAME, receptors, settings(), NativeModel.met_config_class(**met))
    failed = runs.pop(str(between.id))
    assert isinstance(failed, SimulationError)
    assert "does not cover this (NOT_COVERED)" in failed.log
    assert [len(run.particles) for run in runs.values()] == [60 * 60] * 3


class Overlapping:
    """Meteorology in a file an hour, of which a run needs that of its start and the next."""

    def files_for(self, window: Any, *, hour_after: bool) -> list[Path]:
        assert hour_after
        return [Path(f"{window[0] + pd.Timedelta(hours=hour):%d%H}") for hour in range(2)]

    def readable(self, files: list[Path]) -> list[Path]:
        return files

    def check(self, files: list[Path], window: Any, *, hour_after: bool) -> None: ...


def test_a_season_of_overlapping_receptors_is_not_decoded_at_once() -> None:
    receptors = [at(f"2019-05-{day} {hour:02}:00") for day in (29, 28) for hour in range(24)]
    windows, refused, sources = [(each.time, each.time) for each in receptors], {}, {}
    shares = pystilt_model._shares(receptors, windows, Overlapping(), refused, sources)  # pyright: ignore[reportArgumentType]
    assert max(len(share.files) for share in shares) == 3 * 2
    flown = [receptor for share in shares for receptor in share.receptors]
    assert flown == sorted(receptors, key=lambda each: each.time)
    assert len(shares) == -(-48 // 5)
    assert len(sources) == 49
    assert not refused


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
        NativeModel().run(HIGH, config, weather, run_window(TIME, -1))
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


NOT_DONE = [
    ("kmixd", 1),
    ("kmix0", 250),
    ("krand", 2),
    ("nturb", 1),
    ("tratio", 0.5),
    ("capemin", 500.0),
    ("siguverr", 2.0),
    ("ziscale", [[0.5]]),
    ("veght", 0.6),
]


@pytest.mark.parametrize(("name", "value"), NOT_DONE)
def test_a_project_is_told_by_name_what_native_does_not_cover(
    tmp_path: Path, met: dict[str, Any], name: str, value: Any
) -> None:
    told = re.escape(f"native does not cover {name}: {value}; set `model: hysplit`")
    with pytest.raises(ValueError, match=told):
        project_of(tmp_path, met, POINT, **{name: value})
    project_of(tmp_path, met, POINT)
    file = tmp_path / "project" / "config.yaml"
    file.write_text(f"{file.read_text()}{name}: {value}\n")
    with pytest.raises(ValueError, match=told):
        _ = stilt.Project(tmp_path / "project").config


@pytest.mark.parametrize("base", ["hysplit", NAME])
def test_a_variant_is_told_by_name_what_native_does_not_cover(tmp_path: Path, met: dict[str, Any], base: str) -> None:
    variants = {"n": {"model": NAME, "kmixd": 1}}
    with pytest.raises(ValueError, match="native does not cover kmixd: 1; set `model: hysplit`"):
        _ = project_of(tmp_path, met, POINT, model=base, seed=None, variants=variants).variants


def test_what_native_does_may_be_said(tmp_path: Path, met: dict[str, Any]) -> None:
    said = {"kmixd": 3, "kmix0": 150, "krand": 4, "tratio": 0.75, "ziscale": 1.0, "siguverr": None, "veght": 0.5}
    silent = project_of(tmp_path / "silent", met, POINT).variants["hrrr"]
    assert project_of(tmp_path / "said", met, POINT, **said).variants["hrrr"].particles_hash == silent.particles_hash
    assert set(silent.transport.settings()) == {"n_hours", "hnf_plume", "veght", "seed", "numpar"}


def test_heights_above_the_sea_are_refused(met: dict[str, Any]) -> None:
    config, weather = settings(), NativeModel.met_config_class(**met)
    with pytest.raises(SimulationError, match="heights above ground"):
        NativeModel().run(ABOVE_THE_SEA, config, weather, run_window(TIME, -1))


def test_a_build_has_a_version() -> None:
    model = get_model(NAME)
    assert len(model.version(settings())) == 12
    assert model.version(settings()) == model.version(settings(seed=9))
    assert model.data_files(settings()) is None
