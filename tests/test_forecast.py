"""A scene runs on a forecast while there is nothing better, and again on the analysis, by itself and once."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import arlmet
import dagster as dg
import pytest
from file_server import Mirror, file_server
from place import KEY, Place

from stilt_assets import faults
from stilt_assets.arrays import read_array
from stilt_assets.choosing import choose, due_for_analysis, superseded_meteorology
from stilt_assets.definitions import defs
from stilt_assets.defs.analysis import analysis_arrived
from stilt_assets.difference import tell_difference
from stilt_assets.errors import UsageError
from stilt_assets.recipes import meteorology_recipe, pixels_recipe
from stilt_assets.settings import load_settings
from stilt_assets.shard import Footprints, make_footprints
from stilt_assets.stages import make_jacobian, make_meteorology, make_pixels
from stilt_assets.store import open_store

ANALYSIS = "/noaa_arl_formatted/20190530_06-11_hrrr"
FORECAST = "/noaa_arl_formatted/forecast/20190530/hysplit.t06z.hrrrf"
NEXT_DAY = datetime(2019, 5, 31, tzinfo=UTC)
FASTER = 3.0  # m s-1, the forecast's error to the east


@pytest.fixture(scope="module")
def forecast(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The hours of the real analysis with too much wind."""
    path = tmp_path_factory.mktemp("forecast") / "hrrrf"
    with arlmet.File(shared / "data" / "hrrr" / "20190530_06-11_hrrr") as file:
        axis = arlmet.VerticalAxis.from_flag(file.vertical_axis.flag, file.vertical_axis.levels)
        with arlmet.File(path, mode="w", source=file.source, grid=file.grid, vertical_axis=axis) as out:
            for time in file.times:
                step = file[time.isoformat()]
                made = out.create_recordset(step.time, forecast=step.forecast)
                for record in step.records:
                    data = record.read() + (FASTER if record.variable in ("UWND", "U10M") else 0.0)
                    diff = [each.variable for each in record.diffs]
                    made.create_datarecord(
                        record.variable, record.level, forecast=record.forecast, data=data, diff=diff
                    )
                out.flush()
    return path.read_bytes()


@pytest.fixture
def mirror(shared: Path, forecast: bytes) -> Iterator[Mirror]:
    """Google's mirror, while only the forecast is there."""
    with file_server() as server:
        server.files.contents[FORECAST] = forecast
        yield server


@pytest.fixture
def place(mirror: Mirror, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(faults, "FIRST_PAUSE", 0.001)
    meteorology = {
        "sources": ["hrrr_google", "hrrr_forecast"],
        "mirrors": dict.fromkeys(("hrrr_google", "hrrr_forecast"), mirror.door),
        "cache": str(tmp_path / "lent"),
    }
    simulation = {"hours_back": 2, "particles": 100, "top": 300}  # near the ground, where there is influence at night
    place = Place(tmp_path / "place", shared, meteorology=meteorology, simulation=simulation)
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    place.add()
    return place


def arrives(mirror: Mirror, shared: Path) -> None:
    """The analysis is there."""
    mirror.files.contents[ANALYSIS] = (shared / "data" / "hrrr" / "20190530_06-11_hrrr").read_bytes()


def source_of(place: Place) -> str:
    return (place.desk().record.result_of("meteorology") or {})["source"]["name"]


def due(place: Place, now: datetime = NEXT_DAY) -> list[str]:
    settings = load_settings(str(place.config))
    return [each.key for each in due_for_analysis(settings, open_store(settings.store), now)]


def materialize(instance: dg.DagsterInstance) -> dict[str, dg.AssetMaterialization]:
    """All assets of the scene in Dagster, by name."""
    instance.add_dynamic_partitions("scenes", [KEY])
    chosen = dg.AssetSelection.groups("scene").resolve(defs.resolve_asset_graph())
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(partition_key=KEY, instance=instance, asset_selection=list(chosen))
    events = result.get_asset_materialization_events()
    made = [event.event_specific_data.materialization for event in events]  # pyright: ignore
    return {each.asset_key.to_user_string(): each for each in made}


def test_the_analysis_supersedes_the_forecast_and_the_difference_is_told(
    place: Place, mirror: Mirror, shared: Path
) -> None:
    assert place.make() == ["pixels", "meteorology", "footprints", "jacobian"]
    assert source_of(place) == "hrrr_forecast"
    assert superseded_meteorology(place.desk()) is None
    assert due(place) == []
    old = place.result("jacobian")
    before = read_array(old / "jacobian.zarr", "H/data")
    arrives(mirror, shared)
    assert due(place) == [KEY]
    assert "hrrr_google has all of its hours by now" in place.cli("why", KEY).stderr
    with dg.DagsterInstance.ephemeral() as instance:
        made = materialize(instance)
    assert source_of(place) == "hrrr_google"
    assert due(place) == []
    new = place.result("jacobian")
    assert new != old
    assert (read_array(old / "jacobian.zarr", "H/data") == before).all(), "the old one stays readable"
    told = str(made["jacobian"].metadata["difference"].value)
    assert f"| old | {old.name} |" in told
    assert "| pixels | 9 |" in told
    found = tell_difference(place.desk())
    assert found
    # Wind that is 3 m s-1 too strong moves influence by 10.8 km an hour back at most; at night most is near the pixel.
    assert 0.1 < found.summary["shift_km_median"] < 2 * 10.8
    assert 0.0 < found.summary["overlap_median"] < 0.95
    assert found.pixels.num_rows == 9
    assert sorted(path.name for path in place.scene.glob("difference-*/*")) == ["difference.json", "difference.parquet"]
    shown = json.loads(place.cli("difference", KEY, "--json").stdout)
    assert {name: shown[name] for name in found.summary} == found.summary
    assert [row["pixel_new"] for row in shown["by_pixel"]] == list(range(9))
    backward = place.cli("difference", KEY, "--with", new.name, code=2).stderr
    assert "is no earlier Jacobian" in backward
    assert old.name in backward


def test_between_its_stages_a_scene_stays_with_what_it_began_with(place: Place, mirror: Mirror, shared: Path) -> None:
    make_pixels(place.desk())
    made = make_meteorology(place.desk())
    arrives(mirror, shared)
    desk = place.desk()
    assert Footprints.of(desk).meteorology.name == made.name
    assert meteorology_recipe(desk, pixels_recipe(desk))[0].name == made.name
    staying = choose(desk, pixels_recipe(desk), stays=True)
    assert staying.recipe
    assert staying.recipe.name == made.name
    assert make_meteorology(desk, stays=True).name == made.name
    assert make_meteorology(desk).name != made.name, "a new run takes the better one"


def test_footprints_are_run_to_their_end_on_the_forecast_though_the_analysis_came_meanwhile(
    place: Place, mirror: Mirror, shared: Path
) -> None:
    place.change(meteorology__wind=0.5, simulation__hours_back=1)  # so little room that the crop is too small
    make_pixels(place.desk())
    make_meteorology(place.desk())
    arrives(mirror, shared)
    make_footprints(place.desk())
    make_jacobian(place.desk())
    assert source_of(place) == "hrrr_forecast"
    assert due(place) == [KEY]


def test_while_a_server_does_not_answer_a_scene_goes_on_with_what_it_has(
    place: Place, mirror: Mirror, shared: Path
) -> None:
    make_pixels(place.desk())
    first = make_meteorology(place.desk())
    arrives(mirror, shared)
    with mirror.proxy.having("slow down"):
        again = make_meteorology(place.desk())
    assert (again.name, again.made) == (first.name, False)
    mirror.files.contents.clear()  # forecasts go after some days
    assert make_meteorology(place.desk()).name == first.name


@pytest.mark.parametrize(
    ("changes", "now"),
    [
        ({}, datetime(2019, 6, 14, tzinfo=UTC)),  # too old
        ({"meteorology__await_analysis": 0}, NEXT_DAY),
        ({"meteorology__sources": ["hrrr_forecast", "hrrr_google"]}, NEXT_DAY),  # the forecast is preferred
        ({"meteorology__sources": ["gfs0p25", "hrrr_forecast"], "meteorology__mirrors": {}}, NEXT_DAY),
    ],
)
def test_a_scene_that_need_not_wait_is_not_due(
    place: Place, mirror: Mirror, shared: Path, changes: dict, now: datetime
) -> None:
    make_pixels(place.desk())
    make_meteorology(place.desk())
    arrives(mirror, shared)
    assert due(place) == [KEY]
    place.change(**changes)
    assert due(place, now) == []


def test_without_a_predecessor_there_is_no_difference(place: Place) -> None:
    make_pixels(place.desk())
    assert tell_difference(place.desk()) is None
    with pytest.raises(UsageError, match="is no earlier Jacobian"):
        tell_difference(place.desk(), "pixels-000000000000")


# ---- the sensor


class Late(datetime):
    """A clock that stands at the day after."""

    @classmethod
    def now(cls, tz=None) -> datetime:
        return NEXT_DAY


def tick(instance: dg.DagsterInstance, place: Place) -> dg.SensorResult | dg.SkipReason:
    settings = load_settings(str(place.config))
    context = dg.build_sensor_context(instance=instance, definitions=defs)
    answer = analysis_arrived(context, settings=settings, store=open_store(settings.store))
    assert isinstance(answer, dg.SensorResult | dg.SkipReason)
    return answer


def test_the_sensor_asks_for_the_run_once(
    place: Place, mirror: Mirror, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stilt_assets.defs.analysis.datetime", Late)
    make_pixels(place.desk())
    make_meteorology(place.desk())
    with dg.instance_for_test() as instance:
        assert tick(instance, place) == dg.SkipReason("no scene is due")
        arrives(mirror, shared)
        with mirror.proxy.having("deny"):
            assert isinstance(refused := tick(instance, place), dg.SkipReason)
        assert "failed" in str(refused.skip_message)
        first, second = tick(instance, place), tick(instance, place)
        assert isinstance(first, dg.SensorResult)
        assert isinstance(second, dg.SensorResult)
        (run,), (same,) = first.run_requests or [], second.run_requests or []
        assert run.partition_key == KEY
        assert run.run_key == same.run_key, "so Dagster starts it once, should a tick be repeated"
        instance.add_run(dg.DagsterRun("a job", tags={"dagster/partition": KEY}, status=dg.DagsterRunStatus.STARTED))
        assert tick(instance, place) == dg.SkipReason("1 scenes have their analysis and run already")


def test_the_sensor_is_of_the_code_location_and_runs_by_itself() -> None:
    sensor = defs.resolve_sensor_def("analysis_arrived")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
