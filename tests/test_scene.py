"""A scene has one name; a result's name says all that made it; a record forgets nothing."""

import json
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taxonomy import causes, seen

from stilt_assets.errors import UnknownSceneError, UsageError
from stilt_assets.scene import Recipe, Record, Scene, digest, load_record
from stilt_assets.store import Store, open_store

KEY = "20190530T0958Z_tropomi_slc"
names = st.from_regex(r"[A-Za-z0-9-]+", fullmatch=True)
leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
words = st.text("abc", min_size=1, max_size=2)
branches = st.dictionaries(words, leaves, max_size=3)
trees = st.dictionaries(words, leaves | branches | st.dictionaries(words, branches, max_size=2), max_size=3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


# ---- the key


def test_a_key_says_time_instrument_and_target() -> None:
    scene = Scene(datetime(2019, 5, 30, 9, 58, tzinfo=UTC), "tropomi", "slc")
    assert scene.key == KEY
    assert Scene.from_key(KEY) == scene


@given(
    st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31)),
    names,
    st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True),
)
def test_a_key_is_the_scenes_only_name(time: datetime, instrument: str, target: str) -> None:
    scene = Scene(time.replace(second=0, microsecond=0, tzinfo=UTC), instrument, target)
    assert Scene.from_key(scene.key) == scene


def test_an_underscore_belongs_to_the_target() -> None:
    scene = Scene.from_key("20190530T0958Z_tropomi-blended_salt_lake_city")
    assert (scene.instrument, scene.target) == ("tropomi-blended", "salt_lake_city")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "slc",
        "20190530T0958Z_tropomi",
        "20190530T0958Z_tropomi_",
        "20190530T0958_tropomi_slc",
        "20190530T095800Z_tropomi_slc",
        "20190230T0958Z_tropomi_slc",  # no such day
        "20190530T2458Z_tropomi_slc",  # no such hour
        "20190530T0958Z_tropomi_a/b",
        "20190530T0958Z_.._slc",
        f"{KEY}\n",
        f" {KEY}",
    ],
)
def test_what_is_no_key_is_refused_with_its_name(key: str) -> None:
    with pytest.raises(UsageError, match="is no scene key") as caught:
        Scene.from_key(key)
    assert f"'{key}'" in str(caught.value)
    assert caught.value.exit_code == 2


def test_keys_sort_by_time() -> None:
    times = [datetime(2019, 5, 30, 9, 58), datetime(2019, 5, 30, 10, 0), datetime(2019, 12, 1), datetime(2020, 1, 1)]
    scenes = [Scene(time.replace(tzinfo=UTC), name, name) for time, name in zip(times, "dcba", strict=True)]
    assert sorted(scene.key for scene in scenes) == [scene.key for scene in scenes]
    assert sorted(scenes, key=lambda scene: scene.key) == sorted(scenes) == scenes


# ---- recipes

MADE_FROM: dict[str, Any] = {
    "code": "1",
    "top": 2500.0,
    "bounds": [1, 2, 3, 4],
    "grid": {"west": 0.5, "resolution": 0.1, "deep": {"er": None}},
}
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("code was 1, is 2", MADE_FROM | {"code": "2"}),
    ("top was 2500.0, is 2500.5", MADE_FROM | {"top": 2500.5}),
    ("bounds was [1, 2, 3, 4], is [1, 2, 3, 5]", MADE_FROM | {"bounds": [1, 2, 3, 5]}),
    ("grid.resolution was 0.1, is 0.2", MADE_FROM | {"grid": MADE_FROM["grid"] | {"resolution": 0.2}}),
    ("grid.deep.er was nothing, is 7", MADE_FROM | {"grid": MADE_FROM["grid"] | {"deep": {"er": 7}}}),
    ("more was nothing, is true", MADE_FROM | {"more": True}),
    ("top was 2500.0, is nothing", {name: value for name, value in MADE_FROM.items() if name != "top"}),
]


def test_a_results_name_is_its_stage_and_twelve_hex_digits() -> None:
    name = Recipe("pixels", MADE_FROM).name
    assert name.startswith("pixels-")
    assert len(bytes.fromhex(name.removeprefix("pixels-"))) == 6


def test_the_same_recipe_has_the_same_id_in_every_version() -> None:
    assert Recipe("pixels", {"a": 1}).id == digest("pixels", '{"a":1}')[:12] == "54788bbada9f"


@pytest.mark.parametrize(("told", "made_from"), CHANGES)
def test_any_leaf_changes_the_id_and_is_named_alone(told: str, made_from: dict[str, Any]) -> None:
    before, after = Recipe("pixels", MADE_FROM), Recipe("pixels", made_from)
    assert before.id != after.id
    assert after.differences(MADE_FROM) == [told]


def test_no_two_of_these_recipes_share_an_id() -> None:
    recipes = [Recipe("pixels", made_from) for _, made_from in [("", MADE_FROM), *CHANGES]]
    recipes.append(Recipe("footprints", MADE_FROM))
    assert all(one.id != two.id for one, two in combinations(recipes, 2))


@given(trees)
def test_the_order_of_keys_does_not_matter(tree: dict[str, Any]) -> None:
    def turned(value: Any) -> Any:
        return {name: turned(part) for name, part in reversed(value.items())} if isinstance(value, dict) else value

    recipe = Recipe("pixels", tree)
    assert Recipe("pixels", turned(tree)).id == recipe.id
    assert recipe.differences(turned(tree)) == []


def test_a_recipe_read_back_from_json_is_the_same() -> None:
    recipe = Recipe("pixels", MADE_FROM)
    again = json.loads(json.dumps(MADE_FROM))
    assert Recipe("pixels", again).id == recipe.id
    assert recipe.differences(again) == []


def test_long_hashes_are_told_by_their_beginning() -> None:
    assert Recipe("pixels", {"sha": "ab" * 32}).differences({"sha": "cd" * 32}) == [
        "sha was cdcdcdcdcdcd…, is abababababab…"
    ]


def test_a_digest_knows_where_one_content_ends() -> None:
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
    assert digest("ab") == digest(b"ab")
    assert digest("") != digest()


# ---- the record


def finished(record: Record, stage: str, **made_from: Any) -> Recipe:
    recipe = Recipe(stage, made_from)
    record.finish(recipe, {"of": made_from})
    return recipe


def test_a_record_survives_being_saved(store: Store) -> None:
    record = Record(KEY, {"path": "/ü.nc", "size": 3})
    finished(record, "pixels", a=1.0, b=[1, 2])
    finished(record, "pixels", a=2.0, b=[1, 2])
    finished(record, "meteorology", hours=["x"])
    record.begin(Recipe("particles", {"n": 1}), pack_pixels=16)
    record.save(store)
    assert load_record(store, KEY) == record
    content = json.loads(store.read(store.record(KEY)))
    assert (content["scene"], content["instrument"], content["target"]) == (KEY, "tropomi", "slc")
    assert content["time"] == "2019-05-30T09:58Z"
    assert "ü" in store.read(store.record(KEY)).decode()


def test_a_record_that_did_not_change_is_not_written_again(store: Store) -> None:
    record = Record(KEY, {})
    record.save(store)
    node = Path(store.record(KEY)).stat().st_ino
    load_record(store, KEY).save(store)
    assert Path(store.record(KEY)).stat().st_ino == node
    finished(record, "pixels", a=1)
    record.save(store)
    assert Path(store.record(KEY)).stat().st_ino != node


def test_what_a_new_result_replaces_is_kept_with_what_differs() -> None:
    record = Record(KEY, {})
    old = finished(record, "pixels", top=1, bounds=2)
    new = finished(record, "pixels", top=3, bounds=2)
    assert record.current == {"pixels": new.name}
    assert record.superseded == [{"result": old.name, "by": new.name, "differs": ["top was 1, is 3"]}]
    assert record.results[old.name] == {
        "made_from": {"top": 1, "bounds": 2},
        "summary": {"of": {"top": 1, "bounds": 2}},
    }
    assert record.result_of("pixels") == record.results[new.name]
    assert record.result_of("jacobian") is None


def test_finishing_the_same_result_again_replaces_nothing() -> None:
    record = Record(KEY, {})
    finished(record, "pixels", top=1)
    finished(record, "meteorology", top=1)
    finished(record, "pixels", top=1)
    assert record.superseded == []


def test_a_record_names_the_image_that_made_each_result(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [f"place:5000/stilt-assets@sha256:{digit * 64}" for digit in "ab"]
    record, recipe = Record(KEY, {}), Recipe("meteorology", {"top": 1})
    monkeypatch.setenv("STILT_ASSETS_IMAGE", images[0])
    pixels = finished(record, "pixels", top=1)
    monkeypatch.setenv("STILT_ASSETS_IMAGE", images[1])
    record.finish(recipe, {})
    record.finish(pixels, {}, made=False)
    record.save(store)
    there = json.loads(store.read(store.record(KEY)))["results"]
    assert [there[name]["image"] for name in (pixels.name, recipe.name)] == images
    monkeypatch.delenv("STILT_ASSETS_IMAGE")
    assert Recipe("meteorology", {"top": 1}).name == recipe.name
    record.finish(recipe, {})
    assert "image" not in record.results[recipe.name]


def test_a_result_that_is_current_again_is_no_longer_superseded() -> None:
    record = Record(KEY, {})
    one, two, three = (finished(record, "pixels", top=top) for top in (1, 2, 3))
    finished(record, "pixels", top=1)
    assert record.current["pixels"] == one.name
    assert [(entry["result"], entry["by"]) for entry in record.superseded] == [
        (two.name, three.name),
        (three.name, one.name),
    ]


def test_beginning_a_result_again_leaves_its_facts() -> None:
    record = Record(KEY, {})
    recipe = Recipe("particles", {"n": 1})
    record.begin(recipe, pack_pixels=16)
    assert record.begin(recipe, pack_pixels=99)["pack_pixels"] == 16
    record.finish(recipe, {"bytes": 5})
    assert record.results[recipe.name] == {"made_from": {"n": 1}, "pack_pixels": 16, "summary": {"bytes": 5}}


BUSY_WRITER = """
import sys
from stilt_assets.scene import load_record
from stilt_assets.store import open_store
store, key, who = open_store(sys.argv[1]), *sys.argv[2:]
print("ready", flush=True)
sys.stdin.read(1)
for number in range(100):
    record = load_record(store, key)
    record.distrusted[f"{who}{number}"] = "why"
    record.save(store)
"""


def test_two_processes_that_save_at_once_lose_no_line_of_each_other(store: Store, tmp_path: Path) -> None:
    Record(KEY, {}).save(store)
    (tmp_path / "link").symlink_to(store.root)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", BUSY_WRITER, root, KEY, who],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for who, root in (("a", store.root), ("b", str(tmp_path / "link")))
        ]
        for writer in writers:
            assert writer.stdin
            assert writer.stdout
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.stdin.write("\n")
            writer.stdin.close()
    assert [writer.returncode for writer in writers] == [0, 0]
    assert load_record(store, KEY).distrusted.keys() == {f"{who}{number}" for who in "ab" for number in range(100)}


def test_two_issues_of_a_scene_that_come_at_once_are_both_told(store: Store) -> None:
    Record(KEY, {}).save(store)
    one, other = load_record(store, KEY), load_record(store, KEY)
    for number, record in (("1", one), ("2", other)):
        record.retrieval = {"path": f"{number}.nc", "sha256": number}
        record.changed.add("retrieval")
    for record in (one, other, other):
        record.save(store)
    assert load_record(store, KEY).retrieval == {
        "path": "2.nc",
        "sha256": "2",
        "earlier": [{"path": "1.nc", "sha256": "1"}],
    }


@causes("unknown_scene")
def test_a_scene_that_is_not_registered_is_told_with_the_way_to_register_it(store: Store) -> None:
    with pytest.raises(UnknownSceneError, match="stilt-assets scenes add FILE") as caught:
        load_record(store, KEY)
    assert (seen(caught.value.reason), caught.value.exit_code) == ("unknown_scene", 2)
    assert store.root in str(caught.value)
    with pytest.raises(UsageError, match="is no scene key"):
        load_record(store, "../../etc")
