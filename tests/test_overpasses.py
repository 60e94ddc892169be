"""A file of a day that saw a target twice: each overpass is a scene of its own."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from made_products import change, write_wfmd
from place import GRID, Place

from stilt_assets.catalog import register
from stilt_assets.inbox import look
from stilt_assets.preview import preview_of
from stilt_assets.recipes import desk_of
from stilt_assets.retrieval import read_retrieval
from stilt_assets.retrieval.overpasses import overpass, overpasses
from stilt_assets.scene import load_record
from stilt_assets.settings import Settings, load_settings
from stilt_assets.stages import make_pixels
from stilt_assets.store import Store, open_store

WORLD = (-180.0, -90.0, 180.0, 90.0)
ORBIT = 6060.0  # s
EARLY, LATE = "20230713T1958Z_tropomi-wfmd_all", "20230713T2139Z_tropomi-wfmd_all"


def twice(folder: Path, later: float = ORBIT, version: int = 4) -> Path:
    """Three good soundings, the first and the last of them an orbit after the one between."""
    folder.mkdir(exist_ok=True)

    def wait(dataset: object) -> None:
        dataset["time"][:] = np.asarray(dataset["time"][:]) + np.array([later, 0.0, later, later])  # pyright: ignore[reportIndexIssue]
        dataset.setncatts({"made": f"{version}"})  # pyright: ignore[reportAttributeAccessIssue]

    path = write_wfmd(folder)
    change(path, folder / ".copy", wait).rename(path.with_name(path.name.replace("fv4", f"fv{version}")))
    if version != 4:
        path.unlink()
    return folder / path.name.replace("fv4", f"fv{version}")


@pytest.fixture
def world(tmp_path: Path, shared: Path) -> tuple[Settings, Store]:
    place = Place(tmp_path, shared, targets={"all": {"bounds": list(WORLD), "grid": GRID}})
    place.retrieval.unlink()
    twice(tmp_path / "inbox")
    settings = load_settings(str(place.config))
    return settings, open_store(settings.store)


@pytest.mark.parametrize(("minutes", "number"), [(59, 1), (61, 2), (101, 2)])
def test_what_lies_more_than_an_hour_apart_is_seen_twice(tmp_path: Path, minutes: int, number: int) -> None:
    found = read_retrieval(str(twice(tmp_path, 60.0 * minutes)), WORLD)
    parts = overpasses(found)
    assert len(parts) == number
    assert sum(len(each.pixels) for each in parts.values()) == len(found.pixels) == 3
    assert all(list(each.pixels["pixel"]) == list(range(len(each.pixels))) for each in parts.values())


def test_one_overpass_is_the_file_itself(tmp_path: Path) -> None:
    found = read_retrieval(str(write_wfmd(tmp_path)), WORLD)
    assert overpasses(found) == {"": found}
    nothing = read_retrieval(str(write_wfmd(tmp_path)), (0.0, -1.0, 1.0, 1.0))
    assert overpass(nothing, datetime(2023, 7, 13, tzinfo=UTC)) is nothing


def test_each_overpass_is_a_scene_with_pixels_of_its_own(world: tuple[Settings, Store]) -> None:
    settings, store = world
    found = look(settings, store, None, room=9, now=9e9)
    assert [wish.key for wish in found.asked] == [LATE, EARLY]
    desks = {key: desk_of(key, settings, store) for key in (EARLY, LATE)}
    assert {key: preview_of(desk).pixels for key, desk in desks.items()} == {EARLY: 1, LATE: 2}
    names = set()
    for key, soundings in ((EARLY, ["1"]), (LATE, ["0", "2"])):
        done = make_pixels(desks[key])
        table = store.table(store.file(done.folder, "pixels.parquet"))
        assert [name.rsplit("_", 1)[1] for name in table["sounding_id"].to_pylist()] == soundings
        names.add(done.name)
    assert len(names) == 2


def test_a_new_issue_of_the_day_finds_both_scenes(world: tuple[Settings, Store], tmp_path: Path) -> None:
    settings, store = world
    look(settings, store, None, room=9, now=9e9)
    newer = twice(tmp_path / "newer", version=5)
    assert {each.scene and each.scene.key: each.became for each in register(str(newer), settings, store)} == {
        EARLY: "reissued",
        LATE: "reissued",
    }
    assert store.scenes() == [EARLY, LATE]
    assert load_record(store, LATE).retrieval["path"] == str(newer)
