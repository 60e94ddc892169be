"""Files that arrive, files of given days, and issues of what is there already."""

import json
import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import fsspec
import pytest
from gcs_server import gcs_server
from made_retrievals import made, name_of
from object_store import FaultyProxy, object_store, reached
from place import KEY, Place

from stilt_assets import arrivals, inbox
from stilt_assets.catalog import chosen, look_into, register
from stilt_assets.errors import RetrievalError, StoreError, UsageError, WorkersKilledError
from stilt_assets.inbox import Look, files_of_days, look, scenes_of, take_in_files
from stilt_assets.issue import is_older, issue_of, same_overpass
from stilt_assets.reissue import changes
from stilt_assets.scene import load_record
from stilt_assets.settings import Settings, load_settings
from stilt_assets.store import Store, open_store

AN_HOUR_AGO = -3600.0


@pytest.fixture
def place(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    place = Place(tmp_path, shared, simulation__transport="still_air:StillAir")
    place.retrieval.unlink()
    return place


def opened(place: Place) -> tuple[Settings, Store]:
    settings = load_settings(str(place.config))
    return settings, open_store(settings.store)


def looks(place: Place, before: Look | None = None, *, room: int = 9, later: float = 3600.0) -> Look:
    """A look, an hour after every file was last changed unless told otherwise."""
    newest = max((path.stat().st_mtime for path in (place.folder / "inbox").iterdir()), default=0.0)
    return look(*opened(place), before and before.cursor.text, room=room, now=newest + later)


def asked(found: Look) -> list[str]:
    return [wish.key for wish in found.asked]


def states(found: Look) -> list[str]:
    return [one.note.state for one in found.taken]


# ---- what arrives


def test_a_file_becomes_a_scene_and_its_run_is_asked_for_once(place: Place) -> None:
    made(place.source, place.folder / "inbox")
    first = looks(place)
    assert (states(first), asked(first)) == (["taken in"], [KEY])
    assert first.asked[0].run_key.startswith(f"{KEY}:")
    again = looks(place, first)
    assert (states(again), asked(again), again.waiting) == ([], [], 0)


def test_a_file_that_may_still_be_written_is_left_for_the_next_look(place: Place) -> None:
    path = made(place.source, place.folder / "inbox")
    first = looks(place, later=1.0)
    assert (states(first), first.waiting) == ([], 1)
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 1))  # it was written on
    second = looks(place, first, later=1.0)
    assert (states(second), second.waiting) == ([], 1)
    assert states(looks(place, second, later=1.0)) == ["taken in"]


def test_a_look_takes_so_many_files_and_asks_for_so_many_runs_the_newest_first(place: Place) -> None:
    place.change(arrivals={"files": 2})
    for number, minutes in enumerate((-60, 0, -20)):
        made(place.source, place.folder / "inbox", minutes, orbit=8430 + number)
    first = looks(place, room=1)
    assert len(first.taken) == 2
    assert first.waiting == 1
    assert asked(first) == [KEY]
    second = looks(place, first, room=1)
    assert len(second.taken) == 1
    assert asked(second) == ["20190530T0938Z_tropomi_slc"]
    third = looks(place, second, room=0)
    assert asked(third) == []
    assert asked(looks(place, third)) == ["20190530T0858Z_tropomi_slc"]


@pytest.mark.parametrize(("since", "runs"), [("2019-05-31", []), ("2019-05-30", [KEY])])
def test_scenes_of_days_long_gone_are_registered_and_wait_for_somebody_to_ask(
    place: Place, since: str, runs: list[str]
) -> None:
    place.change(arrivals={"since": since})
    made(place.source, place.folder / "inbox")
    found = looks(place)
    assert (states(found), asked(found)) == (["taken in"], runs)
    assert opened(place)[1].scenes() == [KEY]


def test_a_look_that_dies_at_any_step_is_repeated_without_doubling(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(place.source, place.folder / "inbox")
    for module, step in ((inbox, "enter"), (inbox, "wish"), (arrivals, "note")):
        with monkeypatch.context() as patch:
            patch.setattr(module, step, _die)
            with pytest.raises(ZeroDivisionError):
                looks(place)
    first = looks(place)
    assert asked(first) == [KEY]
    assert asked(looks(place)) == [KEY]  # the tick died after the look: Dagster knows the run by its key
    assert looks(place).asked == first.asked
    assert asked(looks(place, first)) == []


def _die(*_args: object, **_more: object) -> None:
    raise ZeroDivisionError


def test_a_file_that_cannot_be_read_is_told_once_and_tried_again_when_it_changes(place: Place) -> None:
    path = place.folder / "inbox" / name_of()
    path.write_bytes(b"half of a file")
    young = looks(place, later=300.0)
    assert (states(young), young.waiting) == ([], 1)
    told = looks(place, young)
    assert states(told) == ["refused"]
    assert "no readable NetCDF file" in told.taken[0].line
    assert (states(looks(place, told)), looks(place, told).waiting) == ([], 0)
    path.unlink()
    made(place.source, place.folder / "inbox")
    assert states(looks(place, told)) == ["taken in"]


def test_a_reader_that_is_killed_again_and_again_sets_its_file_aside(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise WorkersKilledError("the reader was killed: out of memory?")

    made(place.source, place.folder / "inbox")
    monkeypatch.setattr(inbox, "look_into", killed)
    first = looks(place)
    second = looks(place, first)
    assert (states(first), states(second)) == ([], [])
    assert states(looks(place, second)) == ["refused"]


def test_a_file_that_changes_while_it_is_read_is_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(place.source, place.folder / "inbox")

    def read_and_change(location: str, settings: Settings):
        seen = look_into(location, settings)
        os.utime(path, (0, 0))
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "look_into", read_and_change)
        found = look(*opened(place), None, room=9, now=path.stat().st_mtime + 3600)
    assert (states(found), asked(found), opened(place)[1].scenes()) == ([], [], [])
    assert states(look(*opened(place), None, room=9, now=3600.0)) == ["taken in"]


def test_what_is_no_retrieval_is_passed_over(place: Place) -> None:
    inside = place.folder / "inbox"
    (inside / "README.txt").write_text("hello")
    (inside / f".{name_of()}.Xy12").write_bytes(b"a copy that is under way")
    (inside / ".trash").mkdir()
    made(place.source, inside / ".trash")
    made(place.source, inside / "2019" / "05")
    assert [each.name for each in arrivals.listed(str(inside))] == [name_of()]


def test_a_folder_that_is_not_there_is_told_and_not_taken_for_empty(place: Place) -> None:
    place.change(retrievals="./nowhere")
    with pytest.raises(StoreError, match=r"listing .*/nowhere failed"):
        look(*opened(place), None, room=9, now=0.0)


def test_a_cursor_that_is_none_is_a_new_one(place: Place) -> None:
    made(place.source, place.folder / "inbox")
    assert asked(look(*opened(place), "no cursor", room=9, now=9e9)) == [KEY]
    assert asked(look(*opened(place), '["asked"]', room=9, now=9e9)) == [KEY]


# ---- issues of the same measurement


def test_a_names_issue_is_read_from_it() -> None:
    old, new = (issue_of(name_of(processor=number)) for number in (10302, 20400))
    assert old is not None
    assert new is not None
    assert old.measurement == new.measurement == "S5P L2__CH4___ orbit 08430"
    assert (is_older(old, new), is_older(new, old), is_older(old, old)) == (True, False, False)
    lite = issue_of("gs://a/b/oco2_LtCO2_231019_B11210Ar_240101000000s.nc4")
    assert lite is not None
    assert lite.days == (date(2023, 10, 19), date(2023, 10, 19))
    wfmd = issue_of("ESACCI-GHG-L2-CH4-CO-TROPOMI-WFMD-20190530-fv3.nc")
    assert wfmd is not None
    assert wfmd.days == (date(2019, 5, 30), date(2019, 5, 30))
    assert issue_of("something.nc") is None
    assert issue_of("S5P_20191350_x.nc") is None


def test_a_new_issue_finds_its_scene_though_its_first_pixel_is_of_another_minute(place: Place) -> None:
    made(place.source, place.folder / "inbox")
    first = looks(place)
    made(place.source, place.folder / "inbox", minutes=1, processor=20400, produced="20230101T000000")
    second = looks(place, first)
    store = opened(place)[1]
    assert store.scenes() == [KEY]
    assert asked(second) == [KEY]
    assert second.taken[0].found[0].became == "reissued"
    assert second.asked[0].run_key != first.asked[0].run_key
    record = load_record(store, KEY)
    assert "_020400_" in record.retrieval["path"]
    assert [Path(each["path"]).name for each in record.retrieval["earlier"]] == [name_of()]


@pytest.mark.parametrize(
    ("one", "other", "minutes", "same"),
    [
        (name_of(), name_of(processor=20400), 1, True),
        (name_of(), name_of(minutes=1, processor=20400), 1, True),  # half of the shorter one's span is shared
        (name_of(), name_of(minutes=2, processor=20400), 1, False),  # the next slice of the orbit
        (name_of(), name_of(orbit=8431), 1, False),
        ("WFMD-20190530-fv3.nc", "WFMD-20190530-fv4.nc", 60, True),
        ("WFMD-20190530-fv3.nc", "WFMD-20190530-fv4.nc", 61, False),  # the target was seen twice that day
        ("a.nc", "b.nc", 20, True),
        ("a.nc", "b.nc", 21, False),
        ("a.nc", "WFMD-20190530-fv4.nc", 0, False),
    ],
)
def test_one_overpass_is_known_by_orbit_or_day_span_and_time(one: str, other: str, minutes: int, same: bool) -> None:
    for apart in (timedelta(minutes=minutes), timedelta(minutes=-minutes)):
        assert same_overpass(issue_of(one), issue_of(other), apart) is same


def test_a_sounding_is_counted_once_by_the_most_that_changed() -> None:
    here, there = ({"longitude": 1.0}, {"longitude": 2.0})
    old, new = ({"kernel": [1.0]}, {"kernel": [0.9]})
    before = {"a": (here, old), "b": (here, old), "c": (here, old), "d": (here, old), "e": (here, old)}
    after = {"a": (here, old), "b": (here, new), "c": (there, new), "d": (there, old), "f": (here, old)}
    assert changes(before, after) == {"same": 1, "other_kernel": 1, "moved": 2, "new": 1, "gone": 1}


def test_another_orbit_of_the_same_hour_is_another_scene(place: Place) -> None:
    made(place.source, place.folder / "inbox")
    made(place.source, place.folder / "inbox", minutes=1, orbit=8431)
    looks(place)
    assert opened(place)[1].scenes() == [KEY, "20190530T0959Z_tropomi_slc"]


def test_an_older_issue_that_comes_later_changes_nothing(place: Place) -> None:
    newer = made(place.source, place.folder / "inbox", collection=3)
    first = looks(place)
    older = made(place.source, place.folder / "inbox", collection=2, kernel=0.9)
    second = looks(place, first)
    settings, store = opened(place)
    assert (states(second), asked(second)) == (["older"], [])
    assert load_record(store, KEY).retrieval["path"] == str(newer)
    register(str(older), settings, store)  # a person may want just that
    assert load_record(store, KEY).retrieval["path"] == str(older)


def particles_run(place: Place) -> int:
    ran = place.folder / "ran"
    return ran.stat().st_size // 8 if ran.exists() else 0


@pytest.mark.parametrize(
    ("kernel", "what", "stages"), [(1.0, "same", []), (0.9, "other_kernel", ["footprints", "jacobian"])]
)
def test_a_new_issue_of_the_same_places_runs_no_particle(
    place: Place, kernel: float, what: str, stages: list[str]
) -> None:
    place.change(meteorology__source=_hours_beside(place))
    (place.folder / "still_air.json").write_text("{}")
    made(place.source, place.folder / "inbox")
    first = looks(place)
    place.make()
    before = json.loads((place.scene / "scene.json").read_text())["current"]
    assert particles_run(place) == 9
    made(place.source, place.folder / "inbox", minutes=0, kernel=kernel, processor=20400)
    looks(place, first)
    day = (date(2019, 5, 30), date(2019, 5, 31))
    assert [each.state for each in chosen(*opened(place), *day)] == ["reissued"]
    place.make()
    assert [each.state for each in chosen(*opened(place), *day)] == ["done"]
    assert particles_run(place) == 9
    record = load_record(opened(place)[1], KEY)
    changed = [stage for stage in ("particles", "footprints", "jacobian") if record.current[stage] != before[stage]]
    assert changed == stages
    told = record.results[record.current["pixels"]]["summary"]["reissued"]
    assert told == {"same": 0, "other_kernel": 0, "moved": 0, "new": 0, "gone": 0} | {what: 9}


def _hours_beside(place: Place) -> str:
    """The meteorology below the place's folder, where still air looks for its wishes."""
    there = place.folder / "hrrr"
    there.mkdir()
    for path in Path(place.settings["meteorology"]["source"]).iterdir():
        (there / path.name).symlink_to(path)
    return str(there)


# ---- files of given days


def test_scenes_of_days_come_from_files_of_these_days_alone(place: Place) -> None:
    for number, minutes in enumerate((0, -1440, -1439)):
        made(place.source, place.folder / "inbox", minutes, orbit=8430 + number)
    settings, store = opened(place)
    first = date(2019, 5, 29)
    files = files_of_days(settings, first, first)
    assert [each.name for each in files] == [name_of(-1440, 8431), name_of(-1439, 8432)]
    told: list[str] = []
    taken = take_in_files(files, settings, store, told.extend)
    found = scenes_of(taken, first, first)
    assert found == {first: ["20190529T0958Z_tropomi_slc", "20190529T0959Z_tropomi_slc"]}
    assert sorted(told) == found[first]
    assert [each.key for each in chosen(settings, store, first, date(2019, 5, 30))] == found[first]
    assert scenes_of(taken, first, first, "slc", "S5P_L2__CH4___") == found
    assert scenes_of(taken, first, first, "slc", "oco") == {first: []}
    assert chosen(settings, store, date(2019, 5, 30), date(2019, 6, 1)) == []


def test_a_file_is_read_again_only_if_more_is_asked_of_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made(place.source, place.folder / "inbox")
    settings, store = opened(place)
    day = date(2019, 5, 30)
    take_in_files(files_of_days(settings, day, day), settings, store)
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "look_into", _die)
        assert scenes_of(take_in_files(files_of_days(settings, day, day), settings, store), day, day) == {day: [KEY]}
    targets = place.settings["targets"]
    place.change(targets=targets | {"north": targets["slc"] | {"bounds": [-112.36, 40.5, -112.05, 40.56]}})
    settings, store = opened(place)
    taken = take_in_files(files_of_days(settings, day, day), settings, store)
    assert scenes_of(taken, day, day) == {day: ["20190530T0958Z_tropomi_north", KEY]}


def test_a_collection_names_a_target_of_the_settings_and_days_in_order(place: Place) -> None:
    good = {"target": "slc", "from": "2019-05-01", "to": "2019-06-01"}
    place.change(collections={"spring": good})
    assert opened(place)[0].collection("spring").days == (date(2019, 5, 1), date(2019, 5, 31))
    with pytest.raises(UsageError, match="no collection 'autumn' in the settings; known: spring"):
        opened(place)[0].collection("autumn")
    for wrong, line in (
        ({"target": "other"}, "collections.spring.target is none of: slc"),
        ({"to": "2019-05-01"}, "to must be later than from"),
        ({"form": "2019-05-01"}, "unknown key 'form'; did you mean 'from'"),
    ):
        place.change(collections={"spring": good | wrong})
        with pytest.raises(UsageError, match=line):
            opened(place)


# ---- object stores


@pytest.fixture(scope="module", params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[tuple[str, FaultyProxy]]:
    if request.param == "s3":
        with object_store() as server, reached(server):
            yield f"{server.url}/{request.param}", server.proxy
    else:
        with gcs_server() as proxy:
            yield "gs://bucket/gs", proxy


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stilt_assets.faults.TRIES", 2)
    monkeypatch.setattr("stilt_assets.faults.FIRST_PAUSE", 0.01)


def put(url: str, path: Path) -> None:
    fs = fsspec.core.url_to_fs(url, use_listings_cache=False)[0]
    fs.pipe_file(f"{url}/{path.name}", path.read_bytes())


def test_objects_arrive_whole_and_once_and_again_when_they_change(
    place: Place, bucket: tuple[str, FaultyProxy], hasty: None
) -> None:
    url = f"{bucket[0]}/changing"
    place.change(retrievals=url)
    put(url, made(place.source, place.folder / "made"))
    first = look(*opened(place), None, room=9, now=0.0)
    assert (states(first), asked(first)) == (["taken in"], [KEY])
    assert states(look(*opened(place), first.cursor.text, room=9, now=0.0)) == []
    put(url, made(place.source, place.folder / "made", kernel=0.9))
    second = look(*opened(place), first.cursor.text, room=9, now=0.0)
    assert (states(second), asked(second)) == (["taken in"], [KEY])
    assert second.asked[0].run_key != first.asked[0].run_key


def test_an_object_that_is_replaced_while_it_is_read_is_left(
    place: Place, bucket: tuple[str, FaultyProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket[0]}/replaced"
    place.change(retrievals=url)
    put(url, made(place.source, place.folder / "made"))

    def read_and_replace(location: str, settings: Settings):
        seen = look_into(location, settings)
        put(url, made(place.source, place.folder / "made", kernel=0.9))
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "look_into", read_and_replace)
        assert states(look(*opened(place), None, room=9, now=0.0)) == []
    assert states(look(*opened(place), None, room=9, now=0.0)) == ["taken in"]


def test_a_server_that_refuses_for_a_while_costs_nothing_but_time(
    place: Place, bucket: tuple[str, FaultyProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stilt_assets.faults.FIRST_PAUSE", 0.01)
    url, proxy = f"{bucket[0]}/busy", bucket[1]
    place.change(retrievals=url)
    put(url, made(place.source, place.folder / "made"))
    with proxy.having("slow down", "GET", times=2):
        assert states(look(*opened(place), None, room=9, now=0.0)) == ["taken in"]


def test_a_listing_that_fails_halfway_is_no_listing(
    place: Place, bucket: tuple[str, FaultyProxy], hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, proxy = f"{bucket[0]}/long", bucket[1]
    fs = fsspec.core.url_to_fs(url, use_listings_cache=False)[0]
    fs.pipe({f"{url}/{number:04d}.nc": b"x" for number in range(1001)})  # a page has 1,000
    assert len(arrivals.listed(url)) == 1001
    second_page = "continuation-token" if url.startswith("s3") else "pageToken"
    with (
        proxy.having("slow down", "GET", path=second_page),
        pytest.raises(StoreError, match=f"listing {url} failed") as caught,
    ):
        arrivals.listed(url)
    assert caught.value.reason in {"throttled", "unreachable"}


def test_an_object_that_is_no_retrieval_is_refused_at_once(place: Place, bucket: tuple[str, FaultyProxy]) -> None:
    url = f"{bucket[0]}/broken"
    place.change(retrievals=url)
    fs = fsspec.core.url_to_fs(url, use_listings_cache=False)[0]
    fs.pipe_file(f"{url}/{name_of()}", b"no file")
    assert states(look(*opened(place), None, room=9, now=0.0)) == ["refused"]


def test_what_a_scene_is_made_from_is_what_was_registered(place: Place) -> None:
    path = f"memory://inbox/{name_of()}"
    fs = fsspec.filesystem("memory")
    fs.pipe_file(path, made(place.source, place.folder / "made").read_bytes())
    register(path, *opened(place))
    fs.pipe_file(path, made(place.source, place.folder / "made", kernel=0.9).read_bytes())
    with pytest.raises(RetrievalError, match="is not the file that was registered"):
        place.make()
