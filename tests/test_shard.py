"""The packs of a scene, shared out: any shards in any order, any failures on the way, the same Jacobian in the end."""

import contextlib
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from made_weather import longitudes, write_weather
from place import GRID, KEY, Place, contents
from taxonomy import causes, seen

from stilt_assets.arrays import read_array
from stilt_assets.errors import BusyError, DamagedError, DiskFullError, StoppedError, UsageError
from stilt_assets.progress import Progress
from stilt_assets.shard import (
    Footprints,
    Shard,
    close_footprints,
    make_footprints,
    plan_footprints,
    run_shard,
    shards_of,
    widen_if_too_small,
)
from stilt_assets.stages import make_jacobian, make_meteorology, make_pixels
from stilt_assets.status import status_of

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", HERE)


@pytest.fixture
def place(tmp_path: Path, shared: Path) -> Place:
    return still(tmp_path / "place", shared)


def still(folder: Path, shared: Path, **changes) -> Place:
    settings = {"simulation__transport": "still_air:StillAir", "simulation__particles": 4, "packs__pixels": 2} | changes
    place = Place(folder, shared, **settings)
    place.add()
    wish(place)
    return place


def wish(place: Place, drift: float = 0.0, **faults: str) -> None:
    """What goes wrong: pixel4="timeout"; how far particles go west in an hour, degrees."""
    wishes = {"drift": drift, "faults": {name.removeprefix("pixel"): how for name, how in faults.items()}}
    (place.folder / "still_air.json").write_text(json.dumps(wishes))


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> dict[str, bytes]:
    """The Jacobian of a scene to which nothing happened."""
    place = still(tmp_path_factory.mktemp("peace"), shared)
    place.make()
    return contents(place.result("jacobian"))


def ran(place: Place) -> list[int]:
    log = place.folder / "ran"
    return sorted(int(line) for line in log.read_text().split()) if log.exists() else []


def prepared(place: Place):
    desk = place.desk()
    make_pixels(desk)
    make_meteorology(desk)
    return desk


def outcomes(place: Place) -> dict[int, dict]:
    files = sorted((place.result("footprints") / "outcomes").glob("*.parquet"))
    return {row["pixel"]: row for file in files for row in pq.read_table(file).to_pylist()}


@given(st.sets(st.integers(0, 400), max_size=60), st.integers(1, 50))
def test_each_pack_is_in_exactly_one_shard(packs: set[int], at_most: int) -> None:
    shards = shards_of(sorted(packs), at_most)
    assert len(shards) == min(at_most, len(packs))
    taken = [number for shard in shards for number in sorted(packs) if shard.first <= number <= shard.last]
    assert taken == sorted(packs)
    assert [Shard.from_name(shard.name) for shard in shards] == shards


@pytest.mark.parametrize("name", ["", "packs_1", "packs_a_to_b", "packs_0_to_1_2", "packs_-1_to_2", "packs_0_to_1\n"])
def test_what_names_no_packs_is_told(name: str) -> None:
    with pytest.raises(UsageError, match="names no packs; it must be such as packs_0_to_12"):
        Shard.from_name(name)


def test_shards_in_any_order_make_the_same_jacobian(place: Place, peace: dict[str, bytes]) -> None:
    desk = prepared(place)
    left = plan_footprints(desk)
    assert left == [0, 1, 2, 3, 4]
    for shard in reversed(shards_of(left, 3)):
        run_shard(place.desk(), shard)
    desk = place.desk()
    assert close_footprints(desk).summary["packs"] == 5
    make_jacobian(desk)
    assert contents(place.result("jacobian")) == peace
    assert ran(place) == list(range(9))


def test_a_shard_that_fails_costs_the_others_nothing(place: Place, peace: dict[str, bytes]) -> None:
    place.change(packs__workers=1)
    left = plan_footprints(prepared(place))
    first, second, third = shards_of(left, 3)
    wish(place, **{f"pixel{last_pixel_of(place, second)}": "once disk_full"})
    run_shard(place.desk(), first)
    with pytest.raises(DiskFullError):
        run_shard(place.desk(), second)
    run_shard(place.desk(), third)
    with pytest.raises(DamagedError, match=r"packs of .* are not whole, the first is .*: run again"):
        close_footprints(place.desk())
    before = ran(place)
    run_shard(place.desk(), second)
    desk = place.desk()
    close_footprints(desk)
    make_jacobian(desk)
    assert contents(place.result("jacobian")) == peace
    assert ran(place) == list(range(9))
    assert set(before) < set(range(9))


def last_pixel_of(place: Place, shard: Shard) -> int:
    return int(Footprints.of(place.desk()).cut()[shard.last][-1])


def test_a_pixel_that_cannot_open_a_file_or_library_for_want_of_memory_runs_again(
    place: Place, peace: dict[str, bytes]
) -> None:
    wish(place, pixel1="once no_memory", pixel3="once no_library")
    place.make()
    rows = Footprints.of(place.desk()).packs.whole(Footprints.of(place.desk()).cut())
    attempts = {row["pixel"]: row["attempts"] for pack in rows.values() for row in pack}
    assert attempts == {pixel: 2 if pixel in (1, 3) else 1 for pixel in range(9)}
    assert contents(place.result("jacobian")) == peace


@causes("busy")
def test_two_processes_do_not_run_the_same_pack_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stilt_assets.workers._PATIENCE", 0)
    plan_footprints(prepared(place))
    desk = place.desk()
    held = Footprints.of(desk).packs.file(1, "outcomes")
    with desk.store.alone(held):
        run_shard(place.desk(), Shard(2, 4))
        with pytest.raises(BusyError, match=r"another process works .*pack=00001") as caught:
            run_shard(place.desk(), Shard(0, 1))
    assert seen(caught.value.reason) == "busy"


def test_packs_in_other_hands_come_last_and_are_waited_for(place: Place, peace: dict[str, bytes]) -> None:
    place.change(packs__timeout=10)  # so that a wait which nobody is told of ends
    plan_footprints(prepared(place))
    desk, waits = place.desk(), list[Progress]()
    with contextlib.ExitStack() as other:
        for number in (0, 3):
            other.enter_context(desk.store.alone(Footprints.of(desk).packs.file(number, "outcomes")))

        def tell(state: Progress) -> None:
            if state.waits:
                waits.append(state)
                other.close()

        run_shard(place.desk(), Shard(0, 4), tell)
    assert [(state.packs_done, state.packs) for state in waits] == [(3, 5)]
    assert re.search(rf"works on .*pack=0000[03].parquet \({os.getpid()}, since ", waits[0].waits)
    packs, order = Footprints.of(desk).cut(), [int(line) for line in (place.folder / "ran").read_text().split()]
    last = {pixel for number in (0, 3) for pixel in packs[number].tolist()}
    assert set(order[-len(last) :]) == last
    assert sorted(order) == list(range(9))
    place.make()
    assert contents(place.result("jacobian")) == peace


def test_what_others_finished_of_a_pack_while_they_held_it_runs_once(place: Place) -> None:
    place.change(packs__workers=1)
    plan_footprints(prepared(place))
    desk, done = place.desk(), [0]
    with pytest.raises(StoppedError, match="1 of 2 pixels"):
        run_shard(desk, Shard(0, 0), lambda state: done.append(state.pixels_done), lambda: done[-1] == 1)
    packs = Footprints.of(desk).packs
    (aside,) = Path(desk.store.unfinished(packs.footprints)).iterdir()
    theirs = aside.rename(place.folder / "theirs")
    with contextlib.ExitStack() as other:
        other.enter_context(packs.alone(0))

        def tell(state: Progress) -> None:
            if state.waits and theirs.exists():
                theirs.rename(aside)
                other.close()

        run_shard(place.desk(), Shard(0, 4), tell)
    assert sorted(int(line) for line in (place.folder / "ran").read_text().split()) == list(range(9))


def test_who_waits_for_others_can_be_stopped(place: Place) -> None:
    plan_footprints(prepared(place))
    desk, asked = place.desk(), list[str]()
    with (
        desk.store.alone(Footprints.of(desk).packs.file(1, "outcomes")),
        pytest.raises(StoppedError, match="7 of 9 pixels"),
    ):
        run_shard(place.desk(), Shard(0, 4), lambda state: asked.append(state.waits), lambda: any(asked))


@pytest.mark.parametrize("reason", ["timeout", "killed", "out_of_memory", "incomplete"])
def test_a_failure_that_passes_is_tried_again_at_once(place: Place, peace: dict[str, bytes], reason: str) -> None:
    wish(place, pixel4=f"once {'die' if reason == 'killed' else reason}")
    place.make()
    # A worker that is killed beside another is not charged to either pixel.
    assert outcomes(place)[4]["attempts"] in ((1, 2) if reason == "killed" else (2,))
    assert contents(place.result("jacobian")) == peace


def test_a_permanent_failure_is_not_tried_again(place: Place) -> None:
    wish(place, pixel4="fortran_error")
    place.change(targets__slc__tolerance=0.2)
    place.make()
    assert (outcomes(place)[4]["reason"], outcomes(place)[4]["attempts"]) == ("fortran_error", 1)
    assert place.make() == []
    assert ran(place) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_scene_that_closed_with_gaps_is_completed_later(place: Place, peace: dict[str, bytes]) -> None:
    place.change(targets__slc__tolerance=0.25, targets__slc__retry_failed_after=24, packs__attempts=2)
    wish(place, pixel4="timeout", pixel7="fortran_error")
    place.make()
    assert [outcomes(place)[pixel]["attempts"] for pixel in (3, 4, 7)] == [1, 2, 1]
    jacobian = place.result("jacobian") / "jacobian.zarr"
    assert read_array(jacobian, "obs/status")[[3, 4, 7]].tolist() == [1, 3, 3]
    assert read_array(jacobian, "obs/reason")[[3, 4, 7]].tolist() == ["", "timeout", "fortran_error"]
    assert zarr.open_group(jacobian, mode="r").attrs["gaps"] == {"fortran_error": 1, "timeout": 1}
    told = status_of(place.desk().store, KEY)
    assert (told.state, told.gaps, told.outcomes["missing"]) == ("done", 2, 0)
    assert "done, 2 gaps" in place.cli("status", KEY).stdout

    wish(place)
    assert place.make() == []  # too early
    closed_before(place, hours=23.9)
    assert place.make() == []
    closed_before(place, hours=24.1)
    assert place.make() == ["footprints", "jacobian"]
    assert status_of(place.desk().store, KEY).reasons == {"fortran_error": 1}
    desk = place.desk()
    assert make_footprints(desk, retry_failed=True).made
    make_jacobian(desk)
    assert contents(place.result("jacobian")) == peace
    assert status_of(place.desk().store, KEY).gaps == 0
    assert ran(place) == list(range(9))
    assert not (place.result("footprints") / "unfinished").exists()


def closed_before(place: Place, hours: float) -> None:
    file = place.scene / "scene.json"
    content = json.loads(file.read_text())
    moment = datetime.now(UTC) - timedelta(hours=hours)
    content["results"][content["current"]["footprints"]]["closed"] = moment.isoformat(timespec="seconds")
    file.write_text(json.dumps(content))


def test_a_scene_that_fails_again_in_the_same_way_keeps_its_jacobian(place: Place) -> None:
    place.change(targets__slc__tolerance=0.25, packs__attempts=1)
    wish(place, pixel4="timeout")
    place.make()
    assert place.make() == ["footprints"]
    assert len(list(place.scene.glob("jacobian-*"))) == 1


@pytest.mark.parametrize("kind", ["trajectories", "endpoints", "cells", "outcomes"])
def test_a_damaged_pack_is_made_again_and_no_other(place: Place, peace: dict[str, bytes], kind: str) -> None:
    place.make()
    folder = place.result("particles" if kind in ("trajectories", "endpoints") else "footprints")
    file = folder / ("" if kind == "cells" else kind) / "pack=00001.parquet"
    before = {name: path for name, path in contents(place.scene).items() if "pack=" in name}
    file.write_bytes(file.read_bytes()[:-9])
    assert place.make() == ["footprints"]
    assert {name: path for name, path in contents(place.scene).items() if "pack=" in name}.keys() == before.keys()
    assert contents(place.result("jacobian")) == peace
    assert len(ran(place)) <= 11


@pytest.mark.parametrize("stage", ["pixels", "meteorology", "jacobian"])
def test_a_result_that_has_lost_bytes_is_made_again(place: Place, peace: dict[str, bytes], stage: str) -> None:
    place.make()
    largest = max(place.result(stage).rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    largest.write_bytes(largest.read_bytes()[:-1])
    assert place.make() == [stage]
    assert contents(place.result("jacobian")) == peace


@pytest.mark.parametrize("stage", ["particles", "footprints", "pixels", "meteorology"])
def test_a_result_with_a_flipped_byte_is_told_and_made_again_by_the_next_run(
    place: Place, peace: dict[str, bytes], stage: str
) -> None:
    place.make()
    name = {"pixels": "receptors.parquet", "meteorology": "meteorology.arl"}.get(stage, "pack=00001.parquet")
    file = next(path for path in sorted(place.result(stage).rglob(name)) if "outcomes" not in path.parts)
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)
    place.change(jacobian__keepbits=None, targets__slc__grid=GRID | {"resolution": 0.04})
    place.change(jacobian__keepbits=10, targets__slc__grid=GRID)
    (place.result("jacobian") / "jacobian.zarr" / "zarr.json").unlink()
    (place.result("footprints") / "outcomes" / "pack=00000.parquet").unlink()
    with contextlib.suppress(DamagedError):
        place.make()
    place.make()
    assert contents(place.result("jacobian")) == peace


def test_packs_of_another_size_are_not_those_of_this_scene(place: Place, peace: dict[str, bytes]) -> None:
    place.make()
    (place.scene / "scene.json").unlink()
    place.change(packs__pixels=5)
    place.add()
    place.make()
    assert contents(place.result("jacobian")) == peace


def test_a_widening_that_was_interrupted_goes_on(tmp_path: Path, shared: Path) -> None:
    narrow = certificate_after(tmp_path / "still", shared, drift=0.0)
    place = on_a_wide_plain(tmp_path / "plain", shared, drift=(reach_west(narrow) - 0.1) / 2)
    desk = prepared(place)
    for shard in shards_of(plan_footprints(desk), 1):
        run_shard(desk, shard)
    assert widen_if_too_small(desk).can_be_widened
    again = place.desk()
    assert not widen_if_too_small(again).can_be_widened
    assert plan_footprints(again, reopen=False) == [0, 1, 2, 3, 4]


def test_rows_of_the_jacobian_stay_where_they_are(place: Place) -> None:
    place.make()
    jacobian = place.result("jacobian") / "jacobian.zarr"
    assert np.array_equal(read_array(jacobian, "obs/pixel"), np.arange(9))


# ---- a crop that is too small


def on_a_wide_plain(folder: Path, shared: Path, drift: float) -> Place:
    """A scene on meteorology of 12 by 9 degrees that is cropped for a wind of 1 m/s."""
    (folder / "archive").mkdir(parents=True)
    write_weather(folder / "archive" / "plain", longitudes(-118.0, 36.0, 120, 90), hours=range(7, 11), PBLH=300.0)
    weather = {"product": "made", "source": str(folder / "archive"), "wind": 1.0}
    place = still(folder / "place", shared, meteorology=weather)
    wish(place, drift=drift)
    return place


def certificate(place: Place) -> dict:
    return json.loads((place.result("meteorology") / "certificate.json").read_text())


def test_a_crop_that_is_large_enough_is_left_alone(tmp_path: Path, shared: Path) -> None:
    place = on_a_wide_plain(tmp_path / "plain", shared, drift=0.0)
    assert place.make() == ["pixels", "meteorology", "footprints", "jacobian"]
    assert certificate(place)["ends"]["west"] == "crop"
    assert not certificate(place)["widened"]
    assert {row["near_edge"] for row in outcomes(place).values()} == {0.0}
    assert ran(place) == list(range(9))


def test_a_crop_that_was_too_small_is_widened_once_and_all_runs_again(tmp_path: Path, shared: Path) -> None:
    narrow = certificate_after(tmp_path / "still", shared, drift=0.0)
    place = on_a_wide_plain(tmp_path / "plain", shared, drift=(reach_west(narrow) - 0.1) / 2)  # a cell short of it
    said: list[str] = []
    desk = prepared(place)
    first = place.result("meteorology")
    make_footprints(desk, say=said.append)
    assert ran(place) == sorted(2 * list(range(9)))
    assert place.result("meteorology") != first
    assert certificate(place)["widened"]
    assert certificate(place)["box"][0] < narrow["box"][0]
    (line,) = said
    assert line.startswith("the crop was too small at its side")
    assert line.endswith("once more with a wider one")
    summary = desk.record.result_of("footprints")["summary"]
    assert summary["crop_was_large_enough"], summary["crop"]
    make_jacobian(desk)
    assert place.make() == []
    assert ran(place) == sorted(2 * list(range(9)))
    superseded = {entry["result"] for entry in json.loads((place.scene / "scene.json").read_text())["superseded"]}
    assert first.name in superseded


def test_a_crop_is_widened_once_and_then_only_told(tmp_path: Path, shared: Path) -> None:
    place = on_a_wide_plain(tmp_path / "plain", shared, drift=1.5)
    desk = prepared(place)
    make_footprints(desk)
    assert ran(place) == sorted(2 * list(range(9)))
    summary = desk.record.result_of("footprints")["summary"]
    assert not summary["crop_was_large_enough"]
    assert "though it was widened already" in summary["crop"]


def test_pixels_that_fail_for_want_of_levels_widen_the_crop(tmp_path: Path, shared: Path) -> None:
    place = on_a_wide_plain(tmp_path / "plain", shared, drift=0.0)
    wish(place, **{"pixel*": "no_particles"})
    desk = prepared(place)
    assert certificate(place)["ends"]["lid"] == "crop"
    said: list[str] = []
    make_footprints(desk, say=said.append)
    assert certificate(place)["widened"]
    assert said[0].startswith("the crop was too small at its lid")


def test_a_scene_that_cannot_close_yet_keeps_what_its_packs_made(place: Place) -> None:
    place.make()
    made = Footprints.of(place.desk())
    members = made.cut()[1].tolist()
    made.packs.reopen(1, {members[0]})
    with pytest.raises(DamagedError, match=r"1 packs of .* are not whole"):
        close_footprints(place.desk())
    assert made.packs.open(1, members) == {members[0]}


def certificate_after(folder: Path, shared: Path, drift: float) -> dict:
    place = on_a_wide_plain(folder, shared, drift)
    prepared(place)
    return certificate(place)


def reach_west(narrow: dict) -> float:
    """Degrees from the westernmost pixel to the western side of a crop."""
    return narrow["margins_km"]["west"] / (111.195 * np.cos(np.radians(40.5)))
