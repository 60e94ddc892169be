"""What makes the meteorology, known before a field of it is read."""

import json
from pathlib import Path

import arlmet
import pytest
from place import KEY, Place

from stilt_assets.errors import MeteorologyGapError
from stilt_assets.recipes import Desk, meteorology_recipe, pixels_recipe
from stilt_assets.scene import Recipe, load_record
from stilt_assets.stages import make_meteorology, make_pixels


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Place:
    """A scene with pixels and meteorology."""
    place = Place(tmp_path_factory.mktemp("place"), shared)
    place.add()
    desk = place.desk()
    make_pixels(desk)
    make_meteorology(desk)
    return place


def recipe_of(desk: Desk) -> Recipe:
    return meteorology_recipe(desk, pixels_recipe(desk))[0]


def test_the_recipe_reads_no_field(made: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a field was read")

    monkeypatch.setattr(arlmet.DataRecord, "read", read)
    monkeypatch.setattr(arlmet.DataRecord, "verify_checksum", read)
    recipe = recipe_of(made.desk())
    assert recipe.name == made.result("meteorology").name
    assert set(recipe.made_from) == {
        *("code", "arlmet", "product", "hours", "hours_back", "release", "wind", "widened", "sources"),
    }
    assert recipe.made_from["widened"] == 0
    assert recipe.made_from["release"]["top"] == made.settings["simulation"]["top"]


@pytest.mark.parametrize(
    "changes", [{"meteorology__wind": 30}, {"simulation__hours_back": 3}, {"meteorology__product": "other"}]
)
def test_what_the_rule_starts_from_changes_the_recipe(made: Place, changes: dict[str, object]) -> None:
    before = recipe_of(made.desk()).id
    old = json.loads(json.dumps(made.settings))
    made.change(**changes)
    try:
        assert recipe_of(made.desk()).id != before
    finally:
        made.change(**old)
    assert recipe_of(made.desk()).id == before


def test_a_crop_that_was_too_small_has_another_recipe_from_then_on(made: Place) -> None:
    desk = made.desk()
    narrow, need, *_ = meteorology_recipe(desk, pixels_recipe(desk))
    assert not need.widened
    desk.record.widen(narrow, "3.0% of the particles came near its side")
    wide, need, *_ = meteorology_recipe(desk, pixels_recipe(desk))
    assert need.widened
    assert wide.differences(narrow.made_from) == ["widened was 0, is 1"]
    desk.record.widen(wide, "still")
    assert desk.record.widened == {narrow.id: "3.0% of the particles came near its side"}
    assert recipe_of(desk).id == wide.id


def test_the_record_keeps_what_was_widened_and_by_whom(made: Place) -> None:
    one, other = made.desk(), made.desk()
    narrow = Recipe("meteorology", {"widened": 0, "product": "one"})
    another = Recipe("meteorology", {"widened": 0, "product": "other"})
    one.record.widen(narrow, "too small")
    other.record.widen(another, "too low")
    one.record.save(one.store)
    other.record.save(other.store)
    assert made.desk().record.widened == {narrow.id: "too small", another.id: "too low"}


def test_a_record_from_before_crops_were_widened_can_be_read(made: Place) -> None:
    path = made.scene / "scene.json"
    text = path.read_text()
    content = json.loads(text)
    del content["widened"]
    path.write_text(json.dumps(content))
    try:
        desk = made.desk()
        assert load_record(desk.store, KEY).widened == {}
    finally:
        path.write_text(text)


def test_a_widened_crop_is_made_and_outlives_its_files(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path / "place", shared)
    source = tmp_path / "hrrr"
    source.mkdir()
    for file in (shared / "data" / "hrrr").iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    place.change(meteorology__source=str(source))
    place.add()
    desk = place.desk()
    make_pixels(desk)
    desk.record.widen(recipe_of(desk), "too small")
    done = make_meteorology(desk)
    assert json.loads((place.result("meteorology") / "certificate.json").read_text())["widened"] == 1
    for file in source.iterdir():
        file.unlink()
    again = make_meteorology(place.desk())
    assert (again.name, again.made) == (done.name, False)
    place.change(simulation__hours_back=3)
    with pytest.raises(MeteorologyGapError):
        recipe_of(place.desk())
