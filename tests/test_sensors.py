"""What Dagster does by itself: scenes of files that arrive, and of days that were listed."""

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from made_retrievals import made, name_of
from place import KEY, Place

from stilt_assets.definitions import defs
from stilt_assets.defs import backfill, retrievals, sensors
from stilt_assets.defs.resources import SettingsResource, StoreResource

EARLIER = "20190529T0958Z_tropomi_slc"


@pytest.fixture
def place(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path, shared)
    place.retrieval.unlink()
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    return place


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def arrived(instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    """One tick of the sensor on arrivals."""
    resources = {"settings": SettingsResource(), "store": StoreResource()}
    context = dg.build_sensor_context(instance, cursor=cursor, resources=resources, definitions=defs)
    answer = sensors.arrivals(context)
    assert isinstance(answer, dg.SensorResult | dg.SkipReason)
    return answer


def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are written now are an hour old."""
    now = time.time
    monkeypatch.setattr(sensors.time, "time", lambda: now() + 3600)


def test_a_tick_registers_scenes_and_asks_for_their_runs(
    place: Place, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago(monkeypatch)
    made(place.source, place.folder / "inbox")
    (place.folder / "inbox" / name_of(-5, 8429)).write_bytes(b"no file")
    first = arrived(instance)
    assert isinstance(first, dg.SensorResult)
    (run,) = first.run_requests or []
    assert run.partition_key == KEY
    assert run.run_key
    assert run.run_key.startswith(f"{KEY}:")
    assert run.tags["stilt_assets/origin"] == "arrival"
    assert int(run.tags["dagster/priority"]) > 0
    assert instance.get_dynamic_partitions("scenes") == [KEY]
    assert len(first.cursor or "") < 300
    again = arrived(instance, first.cursor)
    assert isinstance(again, dg.SensorResult)
    assert not again.run_requests
    assert "0 files taken in, 0 set aside, 0 wait" in str(again.skip_reason)


def test_three_files_in_the_inbox_become_three_jacobians(
    place: Place, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago(monkeypatch)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    place.change(simulation__transport="still_air:StillAir", packs={"pixels": 9, "workers": 1})
    for number, minutes in enumerate((0, -20, -60)):
        made(place.source, place.folder / "inbox", minutes, orbit=8430 - number)
    found = arrived(instance)
    assert isinstance(found, dg.SensorResult)
    job = defs.resolve_implicit_global_asset_job_def()
    scene = list(dg.AssetSelection.groups("scene").resolve(defs.resolve_asset_graph()))
    for run in found.run_requests or []:
        assert job.execute_in_process(
            partition_key=run.partition_key, instance=instance, asset_selection=scene, tags=dict(run.tags)
        ).success
    made_ones = (place.folder / "store" / "scenes").glob("*/jacobian-*/jacobian.zarr/zarr.json")
    assert len(list(made_ones)) == 3


def test_runs_in_flight_hold_further_ones_back(
    place: Place, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago(monkeypatch)
    place.change(arrivals={"in_flight": 1})
    made(place.source, place.folder / "inbox")
    made(place.source, place.folder / "inbox", -1440, orbit=8429)
    first = arrived(instance)
    assert isinstance(first, dg.SensorResult)
    assert [run.partition_key for run in first.run_requests or []] == [KEY]
    scene = defs.resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(scene, tags={"stilt_assets/origin": "arrival"})
    waiting = arrived(instance, first.cursor)
    assert isinstance(waiting, dg.SensorResult)
    assert not waiting.run_requests
    instance.report_run_failed(run)
    after = arrived(instance, waiting.cursor)
    assert isinstance(after, dg.SensorResult)
    assert [run.partition_key for run in after.run_requests or []] == [EARLIER]


def test_a_folder_that_is_not_there_is_told_in_a_line(place: Place, instance: dg.DagsterInstance) -> None:
    place.change(retrievals="./nowhere")
    told = arrived(instance)
    assert isinstance(told, dg.SkipReason)
    assert "listing" in str(told.skip_message)
    assert "\n" not in str(told.skip_message)


# ---- days


def listed(instance: dg.DagsterInstance, first: str, last: str, **config: str) -> dg.ExecuteInProcessResult:
    """One run of `retrievals` over a range of days."""
    graph = defs.resolve_asset_graph()
    job = defs.resolve_implicit_global_asset_job_def()
    (key,) = dg.AssetSelection.assets("retrievals").resolve(graph)
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return job.execute_in_process(
        run_config={"ops": {"retrievals": {"config": config}}}, instance=instance, asset_selection=[key], tags=tags
    )


def turned(instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[str | None, list[tuple[str, list[str]]]]:
    """One tick of the sensor on days: its cursor, and the backfills that there are then with their scenes."""
    context = dg.build_sensor_context(instance, cursor=cursor, definitions=defs)
    sensors.days_to_scenes(context)
    found = []
    for each in instance.get_backfills():
        assert each.asset_backfill_data is not None
        subset = each.asset_backfill_data.target_subset.get_partitions_subset(dg.AssetKey("jacobian"))
        found.append((each.title or "", sorted(subset.get_partition_keys())))
    return context.cursor, found


def test_a_range_of_days_is_one_run_and_becomes_one_backfill_of_its_scenes(
    place: Place, instance: dg.DagsterInstance
) -> None:
    for number, minutes in enumerate((0, -1440, -2 * 1440)):
        made(place.source, place.folder / "inbox", minutes, orbit=8430 - number)
    assert listed(instance, "2019-05-29", "2019-05-31").success
    days = instance.get_materialized_partitions(dg.AssetKey("retrievals"))
    assert days == {"2019-05-29", "2019-05-30", "2019-05-31"}
    assert sorted(instance.get_dynamic_partitions("scenes")) == [EARLIER, KEY]
    cursor, found = turned(instance)
    assert found == [("Scenes of 20190529 to 20190530", [EARLIER, KEY])]
    assert turned(instance) == (cursor, found)  # the tick died after its work, and is repeated
    assert turned(instance, cursor) == (cursor, found)


def test_days_of_a_run_that_goes_on_wait_for_its_other_days(
    place: Place, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(place.source, place.folder / "inbox")
    assert listed(instance, "2019-05-30", "2019-05-30").success
    with monkeypatch.context() as patch:
        patch.setattr(sensors, "_has_ended", lambda *_: False)
        assert turned(instance) == (None, [])
    assert [keys for _, keys in turned(instance)[1]] == [[KEY]]


@pytest.mark.parametrize(("choice", "wanted"), [("none", []), ("missing", [EARLIER]), ("all", [EARLIER, KEY])])
def test_the_days_config_says_which_scenes_run(
    place: Place, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, choice: str, wanted: list[str]
) -> None:
    for number, minutes in enumerate((0, -1440)):
        made(place.source, place.folder / "inbox", minutes, orbit=8430 - number)
    done = retrievals.chosen

    def one_is_done(*words: object) -> list[object]:
        return [each.__class__(each.key, "done" if each.key == KEY else each.state, 0) for each in done(*words)]

    monkeypatch.setattr(retrievals, "chosen", one_is_done)
    assert listed(instance, "2019-05-29", "2019-05-30", scenes=choice).success
    assert [keys for _, keys in turned(instance)[1]] == ([wanted] if wanted else [])


def test_days_and_scenes_are_apart(instance: dg.DagsterInstance) -> None:
    graph = defs.resolve_asset_graph()
    scene = dg.AssetSelection.groups("scene").resolve(graph)
    assert {key.to_user_string() for key in scene} == {"pixels", "meteorology", "footprints", "jacobian"}
    (catalog,) = [graph.get(key) for key in graph.get_all_asset_keys() if key.to_user_string() == "scene_catalog"]
    assert not catalog.is_executable
    assert {key.to_user_string() for key in catalog.parent_keys} == {"retrievals"}
    assert graph.get(dg.AssetKey("retrievals")).partitions_def == retrievals.days


def test_a_choice_that_is_none_is_told(place: Place, instance: dg.DagsterInstance) -> None:
    job_failed = pytest.raises(dg.Failure, match="scenes is 'some', none of: none, missing, all")
    with job_failed:
        listed(instance, "2019-05-30", "2019-05-30", scenes="some")


def test_a_backfill_of_a_name_is_made_once(place: Place, instance: dg.DagsterInstance) -> None:
    for _ in range(2):
        assert backfill.launch(instance, [KEY], "A title", "name") == "name"
    (only,) = instance.get_backfills()
    assert (only.title, dict(only.tags)["dagster/priority"]) == ("A title", "-10")
