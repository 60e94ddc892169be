"""What a scene would cost is told before it costs anything, only of what would be done, and limits are kept."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from place import BOUNDS, GRID, KEY, Place, contents
from taxonomy import causes, seen
from typer.testing import CliRunner, Result

from stilt_assets.budget import Total, hold_to, preview_of_many
from stilt_assets.catalog import register_grid
from stilt_assets.cli import app
from stilt_assets.cost import fit, measured
from stilt_assets.errors import OverLimitsError, SettingsError
from stilt_assets.past import past_of, work_behind
from stilt_assets.preview import Preview, information_of, preview_of
from stilt_assets.prices import bill_of
from stilt_assets.recipes import desk_of
from stilt_assets.settings import PriceSettings, load_settings
from stilt_assets.shard import Shard, make_footprints, plan_footprints, run_shard
from stilt_assets.stages import make_jacobian, make_meteorology, make_pixels
from stilt_assets.status import status_of
from stilt_assets.store import open_store
from stilt_assets.volume import STAGES, Volume, load_behind

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)


def still(folder: Path, shared: Path, **changes: Any) -> Place:
    settings = {"simulation__transport": "still_air:StillAir", "simulation__particles": 4, "packs__pixels": 2} | changes
    place = Place(folder, shared, **settings)
    place.add()
    return place


@pytest.fixture
def place(tmp_path: Path, shared: Path) -> Place:
    """Nine pixels in five packs."""
    return still(tmp_path / "place", shared)


def weigh(place: Place, **more: Any) -> Preview:
    """A preview that changes nothing of the store."""
    before = contents(place.folder / "store")
    found = preview_of(place.desk(), asked={}, **more)
    assert contents(place.folder / "store") == before
    return found


def typed(place: Place, *words: str) -> Result:
    """What a command says, in this process."""
    return CliRunner().invoke(app, words, env={"STILT_ASSETS_CONFIG": str(place.config)})


def run(place: Place, fault: str = "") -> None:
    """The scene, as a person runs it; `fault` is what goes wrong with pixel 4."""
    (place.folder / "still_air.json").write_text(json.dumps({"faults": {"4": fault} if fault else {}}))
    desk = place.desk()
    make_pixels(desk)
    make_meteorology(desk)
    make_footprints(desk, expected=preview_of(desk).expected)
    make_jacobian(desk)


# ---- what would be done


def test_a_registered_scene_is_weighed_without_its_file(place: Place) -> None:
    place.retrieval.unlink()
    found = weigh(place)
    assert (found.state, found.pixels, found.dropped) == ("registered", 9, {"outside_bounds": 39})
    assert found.stages == ["pixels", "meteorology", "particles", "footprints", "jacobian"]
    assert (found.to_follow, found.to_grid, found.packs, found.packs_left) == (9, 0, 5, 5)
    assert list(found.weather.files) == ["20190530_06-11_hrrr"]
    assert (found.weather.hours, found.weather.made, found.gigabytes_in) == (4, False, 0.0)
    assert "no pack of still_air:StillAir has run" in found.cost_told
    assert found.between is None


def test_other_bounds_than_those_that_were_counted_are_counted_anew(place: Place) -> None:
    place.change(targets__slc__bounds=[BOUNDS[0], BOUNDS[1], -112.2, BOUNDS[3]])
    fewer = weigh(place).pixels
    assert 0 < fewer < 9
    place.add()
    place.retrieval.unlink()
    assert weigh(place).pixels == fewer


def test_pixels_that_are_made_weigh_the_same_as_pixels_that_were_counted(place: Place) -> None:
    before = weigh(place)
    make_pixels(place.desk())
    after = weigh(place)
    assert after.stages == ["meteorology", "particles", "footprints", "jacobian"]
    assert (after.pixels, after.packs_left, after.weather) == (before.pixels, before.packs_left, before.weather)
    assert after.cpu_hours == before.cpu_hours
    assert after.dofs == pytest.approx(before.dofs, rel=0.3)


def test_packs_that_are_whole_and_pixels_that_wait_cost_nothing(place: Place) -> None:
    desk = place.desk()
    make_pixels(desk)
    make_meteorology(desk)
    whole = weigh(place)
    plan_footprints(desk)
    run_shard(desk, Shard(1, 2))
    found = weigh(place)
    done = 9 - found.to_follow
    assert done in (3, 4)  # packs of two, and one pack of one
    assert (found.state, found.packs, found.packs_left) == ("started", 5, 3)
    assert found.objects == whole.objects - 2 * 4  # four files of each pack that is whole
    assert found.stages == ["particles", "footprints", "jacobian"]
    assert found.expected is None


def test_a_scene_that_is_done_costs_nothing_and_says_what_it_knows(place: Place) -> None:
    run(place)
    found = weigh(place)
    assert (found.state, list(found.stages), found.to_follow, found.packs_left) == ("done", [], 0, 0)
    assert (found.cpu_hours, found.gigabytes, found.objects, found.requests) == (0.0, 0.0, 0, 0)
    assert found.weather.made
    real = information_of(place.desk())
    assert real is not None
    assert 0.0 < real <= 9.0


def test_a_new_grid_only_grids_and_a_new_form_of_h_only_writes(place: Place) -> None:
    run(place)
    place.change(jacobian__keepbits=12)
    assert list(weigh(place).stages) == ["jacobian"]
    place.change(targets__slc__grid=GRID | {"resolution": 0.05})
    found = weigh(place)
    assert list(found.stages) == ["footprints", "jacobian"]
    assert (found.to_follow, found.to_grid, found.packs_left) == (0, 9, 5)
    place.change(simulation__particles=6)
    found = weigh(place)
    assert list(found.stages) == ["particles", "footprints", "jacobian"]
    assert (found.to_follow, found.to_grid) == (9, 0)


def test_pixels_that_failed_cost_once_more_if_they_would_run_again(place: Place) -> None:
    place.change(targets__slc__tolerance=0.5)
    run(place, "fortran_error")
    assert weigh(place).to_follow == 0
    again = weigh(place, retry_failed=True)
    assert (again.to_follow + again.to_grid, again.packs_left) == (1, 1)


def test_a_grid_of_points_is_weighed_without_any_error_of_its_values(place: Place) -> None:
    points = {"west": -112.0, "south": 40.5, "east": -111.8, "north": 40.6, "resolution": 0.1}
    place.change(targets__valley={"kind": "grid", "points": points, "height": 10, "grid": GRID, "times": "hourly"})
    settings = load_settings(str(place.config))
    store = open_store(settings.store)
    key = register_grid("valley", datetime(2019, 5, 30, 9, tzinfo=UTC), settings, store)
    found = preview_of(desk_of(key, settings, store), asked={})
    assert (found.pixels, found.to_follow, found.dofs) == (2, 2, None)


def test_missing_meteorology_is_told_and_no_error(place: Place) -> None:
    place.change(simulation__hours_back=30)
    found = weigh(place)
    assert "has no 2019-05-29" in found.weather.missing
    assert found.to_follow == 9


# ---- what it writes and takes


def test_what_a_scene_writes_is_what_was_told(place: Place, tmp_path: Path, shared: Path) -> None:
    told = weigh(place)
    run(place)
    files = [path for path in place.scene.rglob("*") if path.is_file() and path.name != "scene.json"]
    written = sum(path.stat().st_size for path in files) / 1e9
    assert told.objects == pytest.approx(len(files), rel=0.1)
    assert told.requests == told.objects + 9
    assert told.gigabytes == pytest.approx(written, rel=0.5)
    # The next scene of that store is told what this one wrote.
    record = place.desk().record
    summaries = {stage: record.results[record.current[stage]]["summary"] for stage in STAGES}
    load = load_behind(record, summaries)
    assert load is not None
    learned = Volume.of([record])
    for stage in STAGES:
        assert learned.bytes(stage, load) == pytest.approx(summaries[stage]["bytes"])


def test_what_a_scene_was_expected_to_take_is_kept_beside_what_it_took(place: Place) -> None:
    told = weigh(place)
    assert told.expected is not None
    run(place)
    status = status_of(place.desk().store, KEY)
    assert status.seconds_expected == pytest.approx(told.cpu_hours * 3600, abs=0.1)
    made = place.desk().record.result_of("footprints")
    assert made is not None
    assert made["summary"]["seconds_expected"] == status.seconds_expected
    shown = typed(place, "status", KEY).stdout
    assert f" of {status.seconds_expected:.0f}" in shown


def test_the_law_is_learned_from_the_outcomes_of_packs(place: Place) -> None:
    run(place)
    past = past_of(place.desk().store)
    assert sum(sample.pixels for sample in past.samples) in (7, 8, 9)  # of four of five packs
    made = place.desk().record
    work = work_behind(made, made.current["footprints"])
    assert work is not None
    assert (work.transport, work.particles, work.hours_back, work.hours) == ("still_air:StillAir", 4, 2, 4)
    place.change(simulation__seed=1)
    found = weigh(place)
    assert found.cpu_hours * 3600 == pytest.approx(9 * fit(past.samples).seconds(work))
    assert found.cost_told.startswith("fitted on 4 packs of 1 scenes")


def test_dollars_are_the_settings_prices_times_what_is_needed(place: Place) -> None:
    prices = PriceSettings(cpu_hour=0.04, gigabyte_month=0.02, thousand_writes=0.005, gigabyte_in=None, months=12)
    bill = bill_of(prices, cpu_hours=200, gigabytes=50, requests=30_000, gigabytes_in=7)
    assert bill.parts == pytest.approx({"cpu": 8.0, "storage": 12.0, "writes": 0.15, "download": None})
    assert bill.dollars == pytest.approx(20.15)
    assert bill.unpriced == ["download"]
    assert weigh(place).bill.dollars is None
    place.change(prices={"cpu_hour": 3600.0})
    found = weigh(place)
    assert found.bill.dollars == pytest.approx(found.cpu_hours * 3600)


# ---- many scenes


@pytest.fixture
def month(place: Place) -> list[str]:
    """Six more scenes, of other days; one has a target that nobody knows any more."""
    record = json.loads((place.scene / "scene.json").read_text())
    keys = [KEY]
    for day in range(1, 7):
        key = KEY.replace("20190530", f"2019060{day}") if day < 6 else KEY.replace("slc", "gone")
        folder = place.scene.parent / key
        folder.mkdir()
        (folder / "scene.json").write_text(json.dumps(record | {"scene": key}))
        keys.append(key)
    return keys


def many(place: Place, keys: list[str]) -> Total:
    before = contents(place.folder / "store")
    settings = load_settings(str(place.config))
    found = preview_of_many(keys, settings, open_store(settings.store))
    assert contents(place.folder / "store") == before
    return found


def test_many_scenes_cost_their_sum(place: Place, month: list[str]) -> None:
    place.change(prices={"cpu_hour": 1000.0, "thousand_writes": 1.0})
    one, all_of_them = weigh(place), many(place, month)
    assert list(all_of_them.skipped) == [KEY.replace("slc", "gone")]
    assert "no target 'gone'" in all_of_them.skipped[KEY.replace("slc", "gone")]
    numbers = all_of_them.numbers
    assert (numbers["scenes"], numbers["pixels"], numbers["packs_left"]) == (6, 54, 30)
    assert numbers["objects"] == 6 * one.objects
    assert numbers["cpu_hours"] == pytest.approx(6 * one.cpu_hours)
    assert numbers["dollars"] == pytest.approx(6 * (one.bill.dollars or 0.0))
    assert one.dofs is not None
    assert numbers["dofs"] == pytest.approx(6 * one.dofs)


def test_a_span_of_days_is_told_and_so_are_its_limits(place: Place, month: list[str]) -> None:
    days = ("--from", "2019-06-02", "--to", "2019-06-05")
    told = json.loads(typed(place, "preview", *days, "--json").stdout)
    assert [each["scene"][:8] for each in told["scenes"]] == ["20190602", "20190603", "20190604"]
    assert told["total"]["pixels"] == 27
    assert told["prior"]["correlation"] == 20.0
    shown = typed(place, "preview", *days).stdout
    assert "27 kept; dropped: 117 outside_bounds" in shown
    assert "name a scene, or say which days" in str(typed(place, "preview").exception)
    place.change(limits={"backfill": {"pixels": 26}, "scene": {"pixels": 9}})
    settings = load_settings(str(place.config))
    total = many(place, month[1:4])
    with pytest.raises(OverLimitsError, match=r"3 scenes would need 27 pixels \(limits.backfill.pixels is 26\)"):
        hold_to(total, settings, "backfill", "3 scenes")
    hold_to(many(place, month[1:3]), settings, "backfill", "2 scenes")
    hold_to(total.previews[0], settings, "scene", KEY)


def test_files_that_many_scenes_share_are_downloaded_once(
    place: Place, month: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of six scenes are looked up; both need the file of 3e9 bytes: so do all pairs."""
    one = weigh(place)
    lacks = replace(one, weather=replace(one.weather, to_download={"a": 3_000_000_000}))
    monkeypatch.setattr("stilt_assets.budget._ASKED", 2)
    monkeypatch.setattr("stilt_assets.budget.preview_of", lambda *_, **__: lacks)
    assert many(place, month[:6]).gigabytes_in == pytest.approx(9.0)


# ---- limits


def test_pixels_that_are_only_gridded_count_as_pixels(place: Place) -> None:
    place.change(limits={"scene": {"pixels": 8}})
    half = replace(weigh(place), to_follow=5, to_grid=4)
    with pytest.raises(OverLimitsError, match=r"would need 9 pixels \(limits.scene.pixels is 8\)"):
        hold_to(half, load_settings(str(place.config)), "scene", KEY)


@causes("over_limits")
@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"pixels": 8}, "9 pixels (limits.scene.pixels is 8)"),
        ({"objects": 20}, "objects (limits.scene.objects is 20)"),
        ({"cpu_hours": 1e-9}, "CPU hours (limits.scene.cpu_hours is 1e-09)"),
        ({"gigabytes": 0.0}, "GB (limits.scene.gigabytes is 0)"),
        ({"dollars": 0.0}, "dollars (limits.scene.dollars is 0)"),
    ],
)
def test_a_run_that_would_pass_a_limit_does_not_start(place: Place, limit: dict[str, float], told: str) -> None:
    place.change(limits={"scene": limit}, prices={"cpu_hour": 1.0})
    with pytest.raises(OverLimitsError) as caught:
        hold_to(weigh(place), load_settings(str(place.config)), "scene", KEY)
    assert told in str(caught.value)
    assert seen(caught.value.reason) == "over_limits"


def test_run_stops_at_a_limit_and_goes_beyond_it_if_it_is_told_to(place: Place) -> None:
    place.change(limits={"scene": {"pixels": 8}})
    before = contents(place.folder / "store")
    stopped = typed(place, "run", KEY).exception
    assert isinstance(stopped, OverLimitsError)
    assert str(stopped).startswith(f"{KEY} would need 9 pixels (limits.scene.pixels is 8)")
    assert contents(place.folder / "store") == before
    assert typed(place, "run", KEY, "--beyond-limits").exit_code == 0
    assert status_of(place.desk().store, KEY).state == "done"


def test_dollars_without_prices_are_no_limit(place: Place) -> None:
    place.change(limits={"scene": {"dollars": 5}})
    with pytest.raises(SettingsError, match=r"limits.scene.dollars needs prices.cpu_hour"):
        load_settings(str(place.config))


def test_dagster_shows_what_is_expected_and_stops_before_anything_is_fetched(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stilt_assets.definitions import defs

    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    place.change(limits={"scene": {"pixels": 8}})
    (place.folder / "still_air.json").write_text("{}")
    job = defs.resolve_implicit_global_asset_job_def()
    chosen = list(dg.AssetSelection.groups("scene").resolve(defs.resolve_asset_graph()))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("scenes", [KEY])

        def materialize(assets: list[dg.AssetKey], **tags: str) -> dg.ExecuteInProcessResult:
            return job.execute_in_process(
                partition_key=KEY, instance=instance, asset_selection=assets, raise_on_error=False, tags=tags
            )

        def failure(result: dg.ExecuteInProcessResult, step: str) -> str:
            assert not result.success
            (failed,) = [event for event in result.get_step_failure_events() if (event.step_key or "").endswith(step)]
            return str(failed.event_specific_data)

        stopped = failure(materialize(chosen), "meteorology")
        assert "would need 9 pixels" in stopped
        assert "with the run's tag stilt_assets/beyond_limits: yes" in stopped
        assert not list(place.scene.glob("meteorology-*"))
        again = materialize(chosen, **{"stilt_assets/beyond_limits": "yes"})
        assert again.success
        place.change(simulation__seed=1)
        assert "would need 9 pixels" in failure(materialize([dg.AssetKey("footprints")]), "plan")
    made = [event.event_specific_data for event in again.get_asset_materialization_events()]
    shown: dict[str, Any] = {m.materialization.asset_key.to_user_string(): m.materialization.metadata for m in made}  # pyright: ignore
    assert shown["pixels"]["objects_expected"].value > 50
    assert shown["pixels"]["cpu_hours_expected"].value >= 0
    assert "has run" in shown["pixels"]["cost"].value
    assert shown["footprints"]["seconds_expected"].value > 0
    assert shown["footprints"]["seconds"].value >= 0


# ---- the real model


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Place:
    """Nine pixels, followed by hycs_std over two hours."""
    place = Place(tmp_path_factory.mktemp("real"), shared)
    place.add()
    place.make()
    return place


def test_the_real_models_packs_give_a_law_that_tells_their_own_cost(real: Place) -> None:
    past = past_of(real.desk().store)
    seconds, pixels = (sum(getattr(each, name) for each in past.samples) for name in ("seconds", "pixels"))
    (work,) = {each.work for each in past.samples}
    assert pixels == 9
    assert seconds / pixels > measured("hysplit").seconds(work) / 3
    real.change(simulation__seed=9)
    try:
        found = weigh(real)
    finally:
        real.change(simulation__seed=0)
    assert found.cpu_hours * 3600 == pytest.approx(seconds, rel=0.5)


@pytest.mark.parametrize("flux_error", [0.2, 0.5, 2.0])
def test_the_expected_information_is_near_that_of_the_jacobian(real: Place, flux_error: float) -> None:
    real.change(information={"flux_error": flux_error})
    told, found = weigh(real).dofs, information_of(real.desk())
    assert told is not None
    assert found is not None
    assert 0.1 < found < 9.0
    assert abs(np.log(told / found)) < np.log(2.0)
    make_jacobian(real.desk())  # it was there and still is
