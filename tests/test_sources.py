"""Which source a scene's meteorology comes from, by name, domain and hours; and what a source may not do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
import pytest
import yaml
from file_server import Mirror, file_server
from made_weather import write_weather
from place import Place

from stilt_assets import faults
from stilt_assets.errors import MeteorologyError, MeteorologyGapError, SettingsError, StoreError
from stilt_assets.meteorology import Box, Need
from stilt_assets.meteorology.aggregate import make_aggregate
from stilt_assets.meteorology.archives import PRODUCTS
from stilt_assets.meteorology.offers import Offer, cache_of, survey, taken
from stilt_assets.meteorology.sources import Source, sources_of
from stilt_assets.receptor import Receptor
from stilt_assets.settings import MeteorologySettings, load_settings
from stilt_assets.settings.meteorology import ANALYSES, ARCHIVES, FORECASTS
from stilt_assets.stages import make_meteorology, make_pixels

DAY = datetime(2019, 5, 30, tzinfo=UTC)
JULY = datetime(2024, 7, 18, tzinfo=UTC)
HOUR = timedelta(hours=1)
SALT_LAKE: Box = (-112.8, 40.15, -111.2, 41.35)
PARIS: Box = (1.5, 48.2, 3.1, 49.4)
HRRR = {hour: f"/noaa_arl_formatted/20190530_{hour:02d}-{hour + 5:02d}_hrrr" for hour in (0, 6, 12, 18)}
CYCLE = {hour: f"/noaa_arl_formatted/forecast/20190530/hysplit.t{hour:02d}z.hrrrf" for hour in (0, 6, 12, 18)}
GFS = "/gfs0p25/2024/07/20240718_gfs0p25"


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(faults, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with file_server() as server:
        yield server


def settings_for(mirror: Mirror, *sources: str, **more: Any) -> MeteorologySettings:
    every = dict.fromkeys(ARCHIVES, mirror.door)
    return MeteorologySettings(sources=list(sources), mirrors=every, **more)  # pyright: ignore[reportCallIssue]


def need(first: int, last: int, day: datetime = DAY, box: Box = (-112.3, 40.4, -112.0, 40.6)) -> Need:
    hours = tuple(day + hour * HOUR for hour in range(first, last + 1))
    return Need(hours, box, 2500.0, last - first)


def has(mirror: Mirror, *paths: str) -> None:
    mirror.files.contents |= dict.fromkeys(paths, b"ARL")


def given(offer: Offer) -> dict[str, list[int]]:
    """Which hours of the day each file gives, by its address."""
    first = offer.files[0].hours[0].replace(hour=0)
    return {
        file.remote.url.partition("/noaa_arl")[2] or file.remote.url.rpartition("/")[2]: [
            round((hour - first) / HOUR) for hour in file.hours
        ]
        for file in offer.files
    }


# ---- archives


def test_the_names_that_settings_know_are_those_of_archives_the_finest_analyses_first() -> None:
    assert set(PRODUCTS) == set(ARCHIVES)
    assert {name for name, product in PRODUCTS.items() if product.forecast} == set(FORECASTS)
    cells = {"hrrr": 3.0, "hrrr_google": 3.0, "nam12": 12.191, "gfs0p25": 28.0, "gdas1": 111.0}  # km
    assert [cells[name] for name in ANALYSES] == sorted(cells.values())
    for name in ("hrrr", "hrrr_google", "nam12"):
        grid = PRODUCTS[name].grid
        assert grid
        assert grid.projection.grid_size == cells[name]


@pytest.mark.parametrize(
    ("name", "time", "paths"),
    [
        ("hrrr", JULY + 13 * HOUR, ["hrrr/2024/07/20240718_12-17_hrrr"]),
        ("hrrr_google", JULY + 5 * HOUR, ["noaa_arl_formatted/20240718_00-05_hrrr"]),
        ("nam12", JULY + 21 * HOUR, ["nam12/2024/07/20240718_nam12"]),
        ("gfs0p25", JULY + 21 * HOUR, ["gfs0p25/2024/07/20240718_gfs0p25"]),
        ("gdas1", JULY, ["gdas1/2024/gdas1.jul24.w3"]),
        ("hrrr", DAY, []),  # NOAA's begins on 2019-06-12
        ("gfs0p25", DAY, []),
    ],
)
def test_a_time_is_in_the_file_that_the_archive_puts_it_into(name: str, time: datetime, paths: list[str]) -> None:
    assert PRODUCTS[name].paths(time) == paths


def test_an_hour_is_in_the_forecasts_of_the_cycles_before_it_the_newest_first() -> None:
    cycle = "noaa_arl_formatted/forecast/202407{}/hysplit.t{}z.hrrrf".format
    assert PRODUCTS["hrrr_forecast"].paths(JULY + 13 * HOUR) == [cycle(18, "12"), cycle(18, "06"), cycle(18, "00")]
    assert PRODUCTS["hrrr_forecast"].paths(JULY)[-1] == cycle(17, "06"), "eighteen hours ahead is the last"


def test_three_hourly_products_are_asked_for_the_times_that_bracket() -> None:
    steps = PRODUCTS["gfs0p25"].steps(need(4, 10).hours)
    assert steps == [DAY + hour * HOUR for hour in (3, 6, 9, 12)]
    assert PRODUCTS["hrrr"].steps(need(4, 6).hours) == [DAY + hour * HOUR for hour in (4, 5, 6)]


@pytest.mark.parametrize(
    ("box", "hrrr", "nam12"),
    [
        (SALT_LAKE, True, True),
        ((-123.5, 38.0, -122.0, 39.0), True, True),  # San Francisco, where a box of longitudes would lie
        (
            (-134.0, 45.0, -133.0, 46.0),
            False,
            True,
        ),  # far off Oregon: inside the box of HRRR's corners, outside its cells
        ((-110.5, 24.0, -109.5, 25.0), True, True),
        ((-150.5, 60.8, -149.5, 61.8), False, False),  # Anchorage
        (PARIS, False, False),
        ((179.0, -18.5, -179.0, -17.0), False, False),  # Fiji, across the antimeridian
    ],
)
def test_a_product_covers_what_lies_inside_its_cells(box: Box, hrrr: bool, nam12: bool) -> None:
    assert (PRODUCTS["hrrr"].covers(box), PRODUCTS["nam12"].covers(box)) == (hrrr, nam12)
    assert PRODUCTS["gfs0p25"].covers(box)
    assert PRODUCTS["gdas1"].covers((-180.0, -90.0, 180.0, 90.0))


def test_cells_of_a_real_file_are_cells_of_the_grid_that_hrrr_is_said_to_have(shared: Path) -> None:
    with arlmet.File(shared / "data" / "hrrr" / "20190530_00-05_hrrr") as file:
        coords = file.grid.calculate_coords()
    whole = PRODUCTS["hrrr"].grid
    assert whole
    x, y = whole.fractional_indices(coords["lon"][1], coords["lat"][1])
    np.testing.assert_allclose(x - x[0, 0], np.broadcast_to(np.arange(59), x.shape), atol=1e-9)
    np.testing.assert_allclose((y - y[0, 0]).T, np.broadcast_to(np.arange(41), y.T.shape), atol=1e-9)
    assert abs(x[0, 0] - round(x[0, 0])) < 0.2, "to a fifth of a cell: the crop's corner was rounded"
    assert abs(y[0, 0] - round(y[0, 0])) < 0.2


# ---- the rule


def test_the_first_source_with_all_hours_is_taken(mirror: Mirror) -> None:
    has(mirror, HRRR[0], HRRR[6], *CYCLE.values())
    offer = survey(settings_for(mirror, "hrrr_google", "hrrr_forecast"), need(4, 7), SALT_LAKE)
    assert (offer.source, offer.product, offer.forecast) == ("hrrr_google", "hrrr_google", False)
    assert list(given(offer).values()) == [[4, 5], [6, 7]]
    assert mirror.files.gets == [], "nothing is fetched to find out"


def test_the_order_of_the_settings_decides(mirror: Mirror) -> None:
    has(mirror, HRRR[0], HRRR[6], *CYCLE.values())
    assert survey(settings_for(mirror, "hrrr_forecast", "hrrr_google"), need(4, 7), SALT_LAKE).forecast


def test_a_source_without_one_of_the_hours_gives_way_to_the_next(mirror: Mirror) -> None:
    has(mirror, HRRR[0], *CYCLE.values())
    assert survey(settings_for(mirror, "hrrr_google", "hrrr_forecast"), need(4, 7), SALT_LAKE).source == "hrrr_forecast"


def test_finer_cells_win_where_they_are_and_coarser_ones_elsewhere(mirror: Mirror) -> None:
    has(mirror, "/hrrr/2024/07/20240718_00-05_hrrr", GFS)
    both = settings_for(mirror, "hrrr", "gfs0p25")
    assert survey(both, need(1, 3, JULY), SALT_LAKE).source == "hrrr"
    far = need(1, 3, JULY, box=(2.0, 48.5, 2.5, 49.0))
    offer = survey(both, far, PARIS)
    assert (offer.source, given(offer)) == ("gfs0p25", {"20240718_gfs0p25": [0, 3]})


def test_pixels_outside_a_products_cells_count_as_much_as_the_grid_does(mirror: Mirror) -> None:
    has(mirror, "/hrrr/2024/07/20240718_00-05_hrrr", GFS)
    both = settings_for(mirror, "hrrr", "gfs0p25")
    assert survey(both, need(1, 3, JULY, box=(2.0, 48.5, 2.5, 49.0)), SALT_LAKE).source == "gfs0p25"


def test_if_none_does_the_error_says_of_each_why(mirror: Mirror) -> None:
    with pytest.raises(MeteorologyGapError) as caught:
        survey(settings_for(mirror, "hrrr", "hrrr_google", "gfs0p25"), need(4, 5, box=(2.0, 48.5, 2.5, 49.0)), PARIS)
    line = str(caught.value)
    assert "hrrr does not cover the domain" in line
    assert "gfs0p25 in http" in line
    assert "2019-05-30 03Z" in line
    assert "\n" not in line


def test_a_server_that_fails_halfway_is_a_failure_and_no_reason_to_take_the_next_source(mirror: Mirror) -> None:
    has(mirror, *HRRR.values(), *CYCLE.values())
    sources = settings_for(mirror, "hrrr_google", "hrrr_forecast")
    with mirror.proxy.having("slow down", path=HRRR[12]), pytest.raises(StoreError) as caught:
        survey(sources, need(1, 19), SALT_LAKE)
    assert (caught.value.reason, HRRR[12] in str(caught.value)) == ("throttled", True)
    assert survey(sources, need(1, 19), SALT_LAKE).source == "hrrr_google"


def test_each_hour_of_a_forecast_comes_from_the_newest_cycle_that_is_there(mirror: Mirror) -> None:
    has(mirror, CYCLE[0], CYCLE[12])  # 06Z is missing
    offer = survey(settings_for(mirror, "hrrr_forecast"), need(4, 14), SALT_LAKE)
    assert given(offer) == {
        CYCLE[0].partition("/noaa_arl")[2]: [4, 5, 6, 7, 8, 9, 10, 11],
        CYCLE[12].partition("/noaa_arl")[2]: [12, 13, 14],
    }
    mirror.files.contents.pop(CYCLE[12])
    with pytest.raises(MeteorologyGapError, match=r"no 2019-05-30 19Z \(1 hour"):
        survey(settings_for(mirror, "hrrr_forecast"), need(4, 19), SALT_LAKE)


def test_what_was_asked_once_is_not_asked_again(mirror: Mirror) -> None:
    has(mirror, *HRRR.values())
    asked: dict = {}
    for first in (1, 3, 8):
        survey(settings_for(mirror, "hrrr_google"), need(first, 15), SALT_LAKE, None, asked)
    assert len(mirror.proxy.seen) == len(set(mirror.proxy.seen)) == 3


def test_a_users_folder_stands_among_archives(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "wrf").mkdir()
    write_weather(tmp_path / "wrf" / "a")
    has(mirror, HRRR[0])
    sources = settings_for(mirror, str(tmp_path / "wrf"), "hrrr_google")
    equator: Box = (-1.0, -1.0, 1.0, 1.0)
    offer = survey(sources, need(1, 2, box=equator), equator)
    assert (offer.product, [source.path.name for source in offer.sources]) == ("wrf", ["a"])
    assert survey(sources, need(1, 2), SALT_LAKE).source == "hrrr_google", "the folder's cells lie elsewhere"
    with pytest.raises(MeteorologyGapError, match=r"wrf in .* has no 2019-05-30 04Z"):
        survey(sources, need(3, 6, box=equator), equator)


# ---- from a server to an aggregate


@pytest.fixture
def real(mirror: Mirror, shared: Path) -> Mirror:
    """Google's mirror, with the two files that are here."""
    for hour in (0, 6):
        path = shared / "data" / "hrrr" / Path(HRRR[hour]).name
        mirror.files.contents[HRRR[hour]] = path.read_bytes()
    return mirror


def at(mirror: Mirror, tmp_path: Path, *sources: str) -> dict[str, Any]:
    mirrors = dict.fromkeys(("hrrr_google", "hrrr_forecast"), mirror.door)
    return {"sources": list(sources), "mirrors": mirrors, "cache": str(tmp_path / "lent")}


def test_a_file_that_lacks_an_hour_that_its_name_promises_is_refused_and_named(real: Mirror) -> None:
    real.files.contents[HRRR[6]] = real.files.contents[HRRR[6]][: -(171 * 2469)]  # without 11Z
    chosen = settings_for(real, "hrrr_google")
    offer = survey(chosen, need(5, 11), SALT_LAKE)
    with pytest.raises(MeteorologyGapError, match=r"20190530_06-11_hrrr has no 2019-05-30 11Z"), taken(chosen, offer):
        pass
    with taken(chosen, survey(chosen, need(5, 10), SALT_LAKE)) as (sources, _):
        assert [len(source.hours) for source in sources] == [1, 5]


def test_a_file_of_another_grid_is_refused_and_named(real: Mirror, shared: Path, tmp_path: Path) -> None:
    other = arlmet.extract_subset(
        shared / "data" / "hrrr" / "20190530_06-11_hrrr", tmp_path / "other", bbox=(-112.8, 40.2, -111.2, 41.3)
    )
    real.files.contents[HRRR[6]] = Path(other).read_bytes()
    place = Place(tmp_path / "a", shared, meteorology=at(real, tmp_path, "hrrr_google"))
    place.add()
    with pytest.raises(MeteorologyError, match="20190530_06-11_hrrr and 20190530_00-05_hrrr differ in grid or levels"):
        make(place, simulation__hours_back=8)


def make(place: Place, **changes: Any) -> dict[str, Any]:
    """A scene's meteorology; what the record keeps of it."""
    place.change(**changes)
    make_pixels(place.desk())
    done = make_meteorology(place.desk())
    entry = place.desk().record.results[done.name]
    return entry | {"made": done.made, "name": done.name, "folder": Path(done.folder)}


def test_an_archives_aggregate_is_the_one_of_a_folder_with_the_same_files(
    real: Mirror, shared: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path / "a", shared)
    place.add()
    folder = make(place)
    lent = make(place, meteorology=at(real, tmp_path, "hrrr_google") | {"product": "auto"})
    assert (lent["folder"] / "meteorology.arl").read_bytes() == (folder["folder"] / "meteorology.arl").read_bytes()
    assert lent["source"] == {"name": "hrrr_google", "forecast": False}
    (url, facts), *_ = lent["files"].items()
    assert url == real.door + HRRR[6]
    assert facts["sha256"] == folder["made_from"]["sources"][0]
    assert lent["made_from"] == folder["made_from"] | {"product": "hrrr_google"}
    named = make(place, meteorology={"product": "hrrr", "source": "hrrr_google"} | without_sources(real, tmp_path))
    assert (named["name"], named["made"]) == (folder["name"], False), "the same bytes under the same name"


def without_sources(mirror: Mirror, tmp_path: Path) -> dict[str, Any]:
    return {name: value for name, value in at(mirror, tmp_path).items() if name != "sources"}


def test_many_scenes_fetch_a_file_once_and_a_scene_that_goes_on_asks_nobody(
    real: Mirror, shared: Path, tmp_path: Path
) -> None:
    for number in range(2):
        place = Place(tmp_path / str(number), shared, meteorology=at(real, tmp_path, "hrrr_google"))
        place.add()
        assert make(place)["made"]
    assert [path for path, _ in real.files.gets] == [HRRR[6]]
    real.proxy.have("refuse")
    assert not make(place)["made"], "what stands needs no server"
    with pytest.raises(StoreError, match=r"asking for .* failed"):
        make(place, simulation__hours_back=1)


def test_an_aggregate_that_is_lost_is_made_again_of_the_same_files(real: Mirror, shared: Path, tmp_path: Path) -> None:
    place = Place(tmp_path / "a", shared, meteorology=at(real, tmp_path, "hrrr_google"))
    place.add()
    first = make(place)
    (first["folder"] / "meteorology.arl").unlink()
    again = make(place)
    assert (again["name"], again["made"], len(real.files.gets)) == (first["name"], True, 1)


# ---- what a person types


def refused(tmp_path: Path, shared: Path, **meteorology: Any) -> str:
    place = Place(tmp_path / "a", shared)
    place.change(meteorology=meteorology)
    with pytest.raises(SettingsError) as caught:
        load_settings(str(place.config))
    return str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"product": "hrrr"}, "give one of source"),
        ({"source": "hrrr", "sources": ["hrrr"]}, "give one of source"),
        ({"product": "hrrr", "sources": ["hrrr"]}, "product is auto where sources are given"),
        ({"sources": ["hrrr", "gdas1", "hrrr"]}, "sources name one twice"),
        ({"sources": []}, "meteorology.sources"),
        ({"source": "hrrr", "mirrors": {"hrr": "https://a"}}, "no archive 'hrr'; known: hrrr, hrrr_google"),
        ({"source": "hrrr", "mirrors": {"hrrr": "s3://a"}}, "mirrors are http:// or https:// addresses"),
        ({"source": "hrrr", "mirrors": {"hrrr": "https://me:word@a"}}, "holds a user name, password"),
        ({"source": "hrrr", "cache": "s3://a/b"}, "cache is a folder of this machine"),
        ({"source": "hrrr", "cache_sise": 3}, "unknown key 'cache_sise'; did you mean 'cache_size'?"),
        ({"source": "hrrr", "cache_size": 0}, "meteorology.cache_size"),
    ],
)
def test_sources_that_cannot_be_are_refused_in_a_line(
    tmp_path: Path, shared: Path, wrong: dict[str, Any], line: str
) -> None:
    assert line in refused(tmp_path, shared, **wrong)


def test_a_name_is_an_archive_and_a_path_a_folder_which_starts_at_the_settings(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path / "a", shared, meteorology={"sources": ["./wrf", "hrrr", "/abs"], "cache": "./lent"})
    chosen = load_settings(str(place.config)).meteorology
    assert chosen.wanted == (str(place.folder / "wrf"), "hrrr", "/abs")
    assert [chosen.product_of(each) for each in chosen.wanted] == ["wrf", "hrrr", "abs"]
    assert cache_of(chosen).folder == place.folder / "lent"
    place.change(meteorology={"sources": "finest"})
    assert load_settings(str(place.config)).meteorology.wanted == ANALYSES


def test_the_readmes_meteorology_is_one_that_can_be(tmp_path: Path, shared: Path) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    block = next(part for part in text.split("```yaml\n") if part.startswith("meteorology:")).split("```")[0]
    place = Place(tmp_path / "a", shared, meteorology=yaml.safe_load(block)["meteorology"])
    assert load_settings(str(place.config)).meteorology.wanted == ("hrrr", "hrrr_forecast", "gfs0p25")


def test_hours_that_a_file_was_to_give_and_lacks_are_named(tmp_path: Path) -> None:
    path = write_weather(tmp_path / "a", hours=(0, 1, 3))
    with pytest.raises(MeteorologyGapError, match=r"made in a has no 2019-05-30 02Z \(1 hour"):
        sources_of("made", {path: [DAY + hour * HOUR for hour in range(3)]})


@pytest.mark.parametrize(
    ("hours", "missing"), [((0, 1, 3, 4), "02Z"), ((0, 1, 2, 3), "04Z"), ((1, 2, 3, 4), "00Z"), ((0, 3), "06Z")]
)
def test_an_aggregate_with_a_missing_hour_is_refused_and_the_hour_named(
    tmp_path: Path, hours: tuple[int, ...], missing: str
) -> None:
    source = Source(write_weather(tmp_path / "a", hours=hours), tuple(DAY + hour * HOUR for hour in hours))
    here = Receptor(0, DAY + 4 * HOUR, 0.0, 0.0, 0.0, 1000.0)
    with pytest.raises(MeteorologyGapError, match=rf"made in a has no 2019-05-30 {missing} \(1 hour"):
        make_aggregate(tmp_path, "made", need(0, 4, box=(0.0, 0.0, 0.0, 0.0)), [source], [here], {source.path: ""})


def test_three_hourly_steps_that_bracket_make_an_aggregate(tmp_path: Path) -> None:
    hours = (0, 3, 6)
    source = Source(write_weather(tmp_path / "a", hours=hours), tuple(DAY + hour * HOUR for hour in hours))
    here = Receptor(0, DAY + 4 * HOUR, 0.0, 0.0, 0.0, 1000.0)
    wanted = need(1, 4, box=(0.0, 0.0, 0.0, 0.0))
    made = make_aggregate(tmp_path, "made", wanted, [source], [here], {source.path: ""})
    assert made["hours"] == [f"2019-05-30T{hour:02d}Z" for hour in hours]
