"""A grid of points at a time is a scene like any other: the same assets, the same Jacobian, no retrieval."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from place import GRID, Place
from typer.testing import CliRunner

from stilt_assets.arrays import read_array
from stilt_assets.catalog import coverage_of, register_grid
from stilt_assets.cli import app
from stilt_assets.errors import SettingsError, UnknownTargetError, UsageError
from stilt_assets.particles import column_weights, releases_of
from stilt_assets.receptor import Kernel
from stilt_assets.recipes import desk_of, pixels_recipe
from stilt_assets.retrieval.points import places_of, points_at
from stilt_assets.settings import GridTargetSettings, Settings, load_settings
from stilt_assets.shard import make_footprints
from stilt_assets.stages import make_jacobian, make_meteorology, make_pixels
from stilt_assets.store import open_store

AT = datetime(2019, 5, 30, 3, 0, tzinfo=UTC)
KEY = "20190530T0300Z_grid_basin"
POINTS = {"west": -112.0, "south": 40.4, "east": -111.4, "north": 40.8, "resolution": 0.2}  # 2 rows of 3
BASIN = {"kind": "grid", "points": POINTS, "height": 10, "grid": GRID}


def place(folder: Path, shared: Path, **basin: Any) -> Place:
    """A place with a grid of points beside its target of retrievals."""
    made = Place(folder, shared)
    made.change(targets__basin={**BASIN, **basin})
    return made


def make(world: Place, key: str = KEY) -> Path:
    """All stages of a scene; where its results lie."""
    settings = load_settings(str(world.config))
    desk = desk_of(key, settings, open_store(settings.store))
    for stage in (make_pixels, make_meteorology, make_footprints, make_jacobian):
        stage(desk)
    return world.folder / "store" / "scenes" / key


def target(**given: Any) -> GridTargetSettings:
    return GridTargetSettings.model_validate({**BASIN, **given})


# ---- the settings


def test_points_are_centres_from_south_to_north_and_west_to_east() -> None:
    table = places_of(target())
    assert table["longitude"].tolist() == pytest.approx([-111.9, -111.7, -111.5] * 2)
    assert table["latitude"].tolist() == pytest.approx([40.5] * 3 + [40.7] * 3)
    assert list(zip(table["row"], table["column"], strict=True)) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_points_may_be_listed_in_any_order_also_across_the_antimeridian() -> None:
    listed = target(points=[[179.5, -10.0], [-179.0, -12.5]])
    assert places_of(listed)["longitude"].tolist() == [179.5, -179.0]
    west, south, east, north = listed.bounds
    assert (west, east) == pytest.approx((179.499, -178.999))
    assert (south, north) == pytest.approx((-12.501, -9.999))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"points": []}, "targets.basin.points"),
        ({"points": [[200.0, 0.0]]}, "targets.basin.points.0.0"),
        ({"points": {**POINTS, "resolution": 0.17}}, "targets.basin.points: west to east"),
        ({"points": {**POINTS, "resolutoin": 1}}, "did you mean 'resolution'?"),
        ({"height": 10, "top": 100}, "targets.basin: give height for points or top for columns, not both"),
        ({"times": "weekly"}, "targets.basin.times"),
        ({"times": ["25:00"]}, "targets.basin.times"),
        ({"bounds": [0, 0, 1, 1]}, "targets.basin: bounds belongs to targets of retrievals"),
        ({"pixels": {"every": 2}}, "targets.basin: pixels belongs to targets of retrievals"),
        ({"kind": "gird"}, "targets.basin"),
        ({"heigth": 3}, "targets.basin: unknown key 'heigth'; did you mean 'height'?"),
    ],
)
def test_what_cannot_be_is_told_by_its_place(tmp_path: Path, shared: Path, given: dict, told: str) -> None:
    world = place(tmp_path, shared)
    world.settings["targets"]["basin"] |= given
    world.config.write_text(yaml.safe_dump(world.settings))
    with pytest.raises(SettingsError) as caught:
        load_settings(str(world.config))
    assert told in str(caught.value)
    assert "[" not in str(caught.value).replace("[longitude", "").split("basin", 1)[1].split(":")[0]


def test_times_of_day_are_steps_from_midnight_or_a_list() -> None:
    assert target().crons == [f"0 {hour} * * *" for hour in range(24)]
    assert target(times="6-hourly", lag=2).crons == [f"0 {hour} * * *" for hour in (2, 8, 14, 20)]
    assert target(times=["22:30", "01:05"], lag=3).crons == ["30 1 * * *", "5 4 * * *"]


def test_scenes_between_two_times_hold_the_first_and_not_the_last() -> None:
    times = target(times=["10:00", "22:00"]).scenes_between(AT, AT + timedelta(days=1, hours=7))
    assert [f"{time:%dT%H}" for time in times] == ["30T10", "30T22"]
    assert target(times="daily").scenes_between(datetime(2019, 5, 30, tzinfo=UTC), AT)[0].hour == 0


# ---- what is released, and what it counts


def test_a_point_is_released_at_its_height_and_a_column_up_to_its_top() -> None:
    for given, expected in (
        ({"height": 10}, (10.0, 10.0)),
        ({"height": None}, (0.0, 2500.0)),
        ({"height": None, "top": 800}, (0.0, 800.0)),
    ):
        pixels = points_at(target(**given), AT, 2500.0).pixels
        assert set(zip(pixels["bottom"], pixels["top"], strict=True)) == {expected}


def test_corners_of_a_point_are_those_of_its_cell_counter_clockwise() -> None:
    first = points_at(target(), AT, 2500.0).pixels.iloc[0]
    corners = zip(first["longitude_bounds"], first["latitude_bounds"], strict=True)
    assert [(round(x, 6), round(y, 6)) for x, y in corners] == [
        (-112.0, 40.4),
        (-111.8, 40.4),
        (-111.8, 40.6),
        (-112.0, 40.6),
    ]


def test_nothing_was_measured() -> None:
    pixels = points_at(target(), AT, 2500.0).pixels
    assert pixels[["value", "uncertainty", "surface_pressure", "zenith"]].isna().all().all()
    assert {float(kernel[0]) for kernel in pixels["ak"]} == {1.0}
    assert set(pixels["time"]) == {pd.Timestamp("2019-05-30T03:00")}


def test_particles_of_a_point_count_alike_and_sum_to_one() -> None:
    particles = pd.DataFrame(
        {"particle": [1, 2, 3, 4], "age": -1.0, "pres": [860.0, 861, 859, 860], "release_height": 10.0, "zagl": 12.0}
    )
    releases = releases_of(particles)
    omega = column_weights(releases, Kernel(np.array([np.nan]), np.array([1.0]), np.nan))
    assert omega.tolist() == [0.25] * 4


# ---- through the pipeline


def test_a_grids_scene_has_the_same_results_as_any_other(tmp_path: Path, shared: Path) -> None:
    sums = {}
    for height in (10, None):
        world = place(tmp_path / str(height), shared, height=height, points=[[-111.9, 40.5], [-111.6, 40.7]])
        settings = load_settings(str(world.config))
        assert register_grid("basin", AT, settings, open_store(settings.store)) == KEY
        scene = make(world)
        record = json.loads((scene / "scene.json").read_text())
        assert (record["instrument"], record["retrieval"]["source"]) == ("grid", "grid")
        assert "path" not in record["retrieval"]
        path = scene / record["current"]["jacobian"] / "jacobian.zarr"
        assert read_array(path, "obs/status").tolist() == [1, 1]
        assert np.isnan(read_array(path, "obs/value")).all()
        assert np.isnan(read_array(path, "obs/z")).all()
        sums[height] = read_array(path, "obs/row_sum")
        receptors = pq.read_table(scene / record["current"]["pixels"] / "receptors.parquet").to_pandas()
        assert receptors["latitude"].tolist() == [40.5, 40.7]
        assert set(receptors["top"]) == {2500.0 if height is None else height}
        again = desk_of(KEY, load_settings(str(world.config)), open_store(settings.store))
        assert not make_pixels(again).made
        assert not make_jacobian(again).made
    assert (sums[10] > 2 * sums[None]).all()  # a point near the ground sees more of it than a column does
    assert (sums[None] > 0).all()


def test_other_points_heights_and_times_have_other_names(tmp_path: Path, shared: Path) -> None:
    world, names = place(tmp_path, shared), set()
    settings = load_settings(str(world.config))
    store = open_store(settings.store)
    for given, at in (
        ({}, AT),
        ({}, AT + timedelta(hours=1)),
        ({"height": 20}, AT),
        ({"points": {**POINTS, "resolution": 0.1}}, AT),
        ({"points": [[-111.9, 40.5]]}, AT),
    ):
        world.change(targets__basin={**BASIN, **given})
        settings = load_settings(str(world.config))
        key = register_grid("basin", at, settings, store)
        names.add(pixels_recipe(desk_of(key, settings, store)).name)
    assert len(names) == 5


def test_a_retrieval_makes_no_scene_of_a_grid(tmp_path: Path, shared: Path) -> None:
    world = place(tmp_path, shared)
    found = coverage_of(str(world.retrieval), load_settings(str(world.config)))
    assert [coverage.target for coverage in found] == ["slc"]


def test_a_scene_and_its_target_must_be_of_one_kind(tmp_path: Path, shared: Path) -> None:
    world = place(tmp_path, shared)
    settings = load_settings(str(world.config))
    store = open_store(settings.store)
    with pytest.raises(UsageError, match="'slc' is no grid of points"):
        register_grid("slc", AT, settings, store)
    with pytest.raises(UnknownTargetError):
        register_grid("none", AT, settings, store)
    register_grid("basin", AT, settings, store)
    world.change(targets__basin=world.settings["targets"]["slc"])
    with pytest.raises(UsageError, match="are not of one kind"):
        make_pixels(desk_of(KEY, load_settings(str(world.config)), store))


def test_dagster_makes_a_grids_scene_with_the_same_assets(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stilt_assets.definitions import defs

    world = place(tmp_path, shared)
    world.change(simulation__transport="still_air:StillAir")
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(world.config))
    settings = load_settings(str(world.config))
    register_grid("basin", AT, settings, open_store(settings.store))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("scenes", [KEY])
        chosen = dg.AssetSelection.groups("scene").resolve(defs.resolve_asset_graph())
        job = defs.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(partition_key=KEY, instance=instance, asset_selection=list(chosen))
        made = [event.asset_key.to_user_string() for event in result.get_asset_materialization_events()]
        checks = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
    assert sorted(made) == ["footprints", "jacobian", "meteorology", "pixels"]
    assert set(checks.values()) == {True}


# ---- by hand and by the clock


def test_a_command_adds_a_grids_scenes_at_a_time_or_of_days(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = place(tmp_path, shared, times=["10:00", "22:00"])
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(world.config))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    def add(*words: str) -> Any:
        return CliRunner().invoke(app, ["scenes", "add", *words])

    assert add("--grid", "basin", "--at", "2019-05-30T03:00").stdout == f"{KEY}\n"
    days = add("--grid", "basin", "--from", "2019-05-30", "--to", "2019-06-01").stdout
    assert days.split() == [f"201905{day}T{hour}00Z_grid_basin" for day in (30, 31) for hour in (10, 22)]
    settings = load_settings(str(world.config))
    assert open_store(settings.store).scenes() == [KEY, *days.split()]
    for wrong in (["--grid", "basin"], ["--at", "2019-05-30T03:00"], ["--grid", "slc", "--at", "2019-05-30T03:00"]):
        refused = add(*wrong).exception
        assert isinstance(refused, UsageError)
        assert "grid" in str(refused)


def schedules_of(world: Place, monkeypatch: pytest.MonkeyPatch) -> list[dg.ScheduleDefinition]:
    from stilt_assets.defs.schedules import grid_schedules

    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(world.config))
    return grid_schedules()


def test_each_grid_has_a_schedule_that_is_off(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (schedule,) = schedules_of(place(tmp_path, shared, times="6-hourly"), monkeypatch)
    assert schedule.name == "grid_basin"
    assert schedule.cron_schedule == [f"0 {hour} * * *" for hour in (0, 6, 12, 18)]
    assert schedule.execution_timezone == "UTC"
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


def test_without_settings_there_is_no_schedule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from stilt_assets.defs.schedules import grid_schedules

    monkeypatch.delenv("STILT_ASSETS_CONFIG", raising=False)
    assert grid_schedules() == []
    (tmp_path / "broken.yaml").write_text("store: [")
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(tmp_path / "broken.yaml"))
    assert grid_schedules() == []


def test_a_tick_registers_its_scene_and_asks_for_its_run(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = place(tmp_path, shared, lag=3)
    (schedule,) = schedules_of(world, monkeypatch)
    settings: Settings = load_settings(str(world.config))
    with dg.instance_for_test() as instance:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=AT + timedelta(hours=3),
            resources={"settings": settings, "store": open_store(settings.store)},
        )
        request = schedule(context)
        assert isinstance(request, dg.RunRequest)
        assert (request.partition_key, request.run_key) == (KEY, KEY)
        assert list(instance.get_dynamic_partitions("scenes")) == [KEY]
    assert open_store(settings.store).scenes() == [KEY]
