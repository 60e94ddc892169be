"""Scenes are cut into packs of neighbours; what their pixels made comes back exactly, whole packs only."""

import io
import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from stilt_assets.cut import cut
from stilt_assets.errors import StoreError
from stilt_assets.pack import Packs
from stilt_assets.simulation import Outcome, Status
from stilt_assets.store import Store, open_store
from stilt_assets.table import Arrays
from stilt_assets.whole import read_outcomes, summary_of

# ---- cutting

places = st.lists(st.tuples(st.floats(-180, 180), st.floats(-80, 80)), max_size=60)


def packs_of(points: list[tuple[float, float]], at_most: int) -> list[list[int]]:
    packs = cut([lon for lon, _ in points], [lat for _, lat in points], at_most)
    assert list(packs) == list(range(len(packs)))
    return [pack.tolist() for pack in packs.values()]


@given(places, st.integers(1, 9))
def test_every_pixel_is_in_exactly_one_pack(points: list[tuple[float, float]], at_most: int) -> None:
    packs = packs_of(points, at_most)
    assert sorted(pixel for pack in packs for pixel in pack) == list(range(len(points)))
    assert all(pack == sorted(pack) for pack in packs)


@given(places, st.integers(1, 9))
def test_packs_are_as_few_and_as_even_as_can_be(points: list[tuple[float, float]], at_most: int) -> None:
    sizes = [len(pack) for pack in packs_of(points, at_most)]
    assert len(sizes) == -(-len(points) // at_most)
    if sizes:
        assert max(sizes) <= at_most
        assert max(sizes) - min(sizes) <= 1


@given(places, st.integers(1, 9))
def test_the_same_places_are_cut_the_same_way(points: list[tuple[float, float]], at_most: int) -> None:
    assert packs_of(points, at_most) == packs_of(list(points), at_most)


@given(places, st.integers(1, 9), st.integers(0, 8), st.integers(0, 8))
def test_some_packs_are_the_same_as_among_all(
    points: list[tuple[float, float]], at_most: int, first: int, last: int
) -> None:
    packs = packs_of(points, at_most)
    some = cut([lon for lon, _ in points], [lat for _, lat in points], at_most, first, last)
    assert {number: pack.tolist() for number, pack in some.items()} == {
        number: pack for number, pack in enumerate(packs) if first <= number <= last
    }


def test_many_pixels_in_one_place_are_cut_by_their_numbers() -> None:
    assert packs_of([(5.0, 5.0)] * 5, 2) == [[0, 1], [2, 3], [4]]


def test_without_a_pixel_there_is_no_pack() -> None:
    assert cut([], [], 3) == {}


def test_a_single_pixel_is_a_pack() -> None:
    assert packs_of([(1.0, 2.0)], 256) == [[0]]
    assert packs_of([(1.0, 2.0)], 1) == [[0]]


def test_a_scene_that_fits_is_one_pack() -> None:
    assert packs_of([(float(k), 0.0) for k in range(5)], 5) == [[0, 1, 2, 3, 4]]


def test_a_scene_is_halved_across_its_longer_side() -> None:
    wide = [(0.0, 0.0), (3.0, 1.0), (0.0, 1.0), (3.0, 0.0)]
    assert packs_of(wide, 2) == [[0, 2], [1, 3]]
    tall = [(lat, lon) for lon, lat in wide]
    assert packs_of(tall, 2) == [[0, 2], [1, 3]]


def test_far_north_a_degree_of_longitude_is_short() -> None:
    # 3 degrees by 2, at 60 degrees: half as wide as the degrees say, so the cut runs from west to east.
    assert packs_of([(0.0, 59.0), (3.0, 59.0), (0.0, 61.0), (3.0, 61.0)], 2) == [[0, 1], [2, 3]]


def test_packs_of_a_strip_are_its_squares_whatever_the_order() -> None:
    strip = [(float(x), float(y) / 10) for x in range(16) for y in range(4)]
    strip = [(lon / 10, lat) for lon, lat in strip]
    random.Random(1).shuffle(strip)
    for pack in packs_of(strip, 16):
        where = np.array([strip[pixel] for pixel in pack])
        assert len(pack) == 16
        np.testing.assert_allclose(np.ptp(where, axis=0), 0.3)


def test_neighbours_across_the_antimeridian_stay_together() -> None:
    assert packs_of([(179.9, 0.0), (-179.9, 0.0), (175.0, 0.0), (175.2, 0.0)], 2) == [[2, 3], [0, 1]]


def test_a_scene_moved_around_the_earth_is_cut_the_same_way() -> None:
    points = [(float(lon), float(lat)) for lon, lat in np.random.default_rng(2).normal(0, 3, (40, 2)).round(3)]
    expected = packs_of(points, 7)
    for turn in (90.0, 180.0, -179.0):
        moved = [((lon + turn + 180) % 360 - 180, lat) for lon, lat in points]
        assert packs_of(moved, 7) == expected


# ---- keeping


def tracks(rows: list[tuple[int, int]], shift: int = 0) -> Arrays:
    """Trajectories of (particle, age) rows in fixed point; extremes of each type are among them."""
    count = len(rows)
    return {
        "particle": np.array([particle for particle, _ in rows], "i2"),
        "age": np.array([age for _, age in rows], "i2"),
        "lon": np.array([-1_119_999 + shift, 1_800_000, -1_800_000][:1] * (count - 1) + [1_800_000], "i4"),
        "lat": np.array([407_001 + shift] * count, "i4"),
        "zagl": np.array([32_767] + [5] * (count - 1), "i2"),
        "pressure": np.array([10_132] + [8_500] * (count - 1), "i2"),
        "foot": (np.arange(count) / 3 + 1e-7).astype("f4"),
    }


def endpoints(particles: int) -> Arrays:
    number = np.arange(1, particles + 1)
    return {
        "particle": number.astype("i2"),
        "age": np.full(particles, -480, "i2"),
        "lon": (-1_120_000 + number).astype("i4"),
        "lat": (400_000 + number).astype("i4"),
        "zagl": number.astype("i2"),
        "pressure": (8_000 + number).astype("i2"),
        "release_height": number / 3,
        "release_pressure": 850 - number / 7,
        "weight": 0.1 / number,
        "surface_pressure": np.full(particles, 850.123456789),
    }


def cells(count: int) -> Arrays:
    return {
        "hour": np.arange(count)[::-1].astype("i1"),
        "y": (np.arange(count) * 2).astype("i2"),
        "x": (300 - np.arange(count)).astype("i2"),
        "foot": (np.arange(count) / 3 + 0.1).astype("f4"),
    }


def outcome(pixel: int, status: Status = Status.ok, **more: Any) -> Outcome:
    facts = {"reason": "", "message": "", "attempts": 1, "seconds": 0.5, "particles": 3, "seed": 999_999_999} | more
    return Outcome(pixel, status, **facts)


MADE = {
    "cells": cells(4),
    "endpoints": endpoints(3),
    "trajectories": tracks([(1, -1), (3, -360), (2, -361), (2, -362), (1, -721)]),
}


@pytest.fixture
def packs(tmp_path: Path) -> Packs:
    return packs_in(open_store(str(tmp_path)), "core")


def packs_in(store: Store, keep: str) -> Packs:
    return Packs(store, store.result("key", "particles-1"), store.result("key", "footprints-1"), keep)


def a_pack_of_four(packs: Packs, number: int = 0) -> None:
    """An ordinary pixel 3, a failed 5, an empty 8 and a small 9."""
    packs.put_aside(
        number, outcome(9), {"cells": cells(1), "endpoints": endpoints(1), "trajectories": tracks([(1, -2)], 7)}
    )
    packs.put_aside(
        number,
        outcome(
            3, row_sum=1.25, mc_error=0.5, left_domain=0.25, near_edge=0.125, near_lid=0.0625, pressure_difference=-3.5
        ),
        MADE,
    )
    packs.put_aside(
        number, outcome(5, Status.failed, reason="timeout", message="too slow, ü", particles=0, attempts=2), {}
    )
    packs.put_aside(
        number,
        outcome(8, Status.empty),
        {"cells": cells(0), "endpoints": endpoints(2), "trajectories": tracks([(1, -1), (2, -1)])},
    )
    packs.finish(number, [3, 5, 8, 9])


def opened(packs: Packs, path: str) -> pq.ParquetFile:
    return pq.ParquetFile(io.BytesIO(packs.store.read(path)))


def test_a_pack_is_whole_once_it_is_finished_and_not_before(packs: Packs) -> None:
    assert 0 not in packs.whole({0: [3]})
    packs.put_aside(0, outcome(3), MADE)
    assert 0 not in packs.whole({0: [3]})
    packs.finish(0, [3])
    assert 0 in packs.whole({0: [3]})
    assert 1 not in packs.whole({1: [3]})


def test_what_is_unfinished_is_listed_and_taken_away_with_its_own_pack_only(packs: Packs) -> None:
    assert packs.aside(0) == set()
    for number, pixel in ((0, 3), (1, 4), (0, 1234567)):
        packs.put_aside(number, outcome(pixel), MADE)
    assert packs.aside(0) == {3, 1234567}
    packs.finish(0, [3, 1234567])
    assert packs.aside(0) == set()
    assert packs.aside(1) == {4}


def test_files_lie_where_the_design_says(packs: Packs) -> None:
    a_pack_of_four(packs, 12)
    root = Path(packs.store.root)
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == {
        f"scenes/key/{place}pack=00012.parquet"
        for place in (
            *("footprints-1/", "footprints-1/outcomes/"),
            *("particles-1/trajectories/", "particles-1/endpoints/"),
        )
    }


def test_cells_come_back_exactly_with_the_types_of_the_design(packs: Packs) -> None:
    a_pack_of_four(packs)
    table = opened(packs, packs.store.pack(packs.footprints, 0)).read()
    assert {item.name: str(item.type) for item in table.schema} == {
        "row": "int32",
        "hour": "int8",
        "y": "int16",
        "x": "int16",
        "foot": "float",
    }
    assert table.schema.names == ["row", "hour", "y", "x", "foot"]
    assert table.schema.field("foot").metadata == {b"units": b"ppm m2 s umol-1"}
    assert table["row"].to_pylist() == [3, 3, 3, 3, 9]
    for name, values in cells(4).items():
        np.testing.assert_array_equal(table[name].to_numpy()[:4], values)


def test_particles_are_fixed_point_numbers_that_say_their_unit_and_step(packs: Packs) -> None:
    a_pack_of_four(packs)
    schema = opened(packs, packs.store.pack(packs.particles, 0, "trajectories")).schema_arrow
    assert {item.name: str(item.type) for item in schema} == {
        "pixel": "int32",
        "particle": "int16",
        "age": "int16",
        "lon": "int32",
        "lat": "int32",
        "zagl": "int16",
        "pressure": "int16",
        "foot": "float",
    }
    assert schema.field("lat").metadata == {b"units": b"degrees_north", b"scale_factor": b"0.0001"}
    assert schema.field("pressure").metadata == {b"units": b"hPa", b"scale_factor": b"0.1"}
    assert schema.field("zagl").metadata == {b"units": b"m"}


def test_a_row_group_is_a_pixel_and_six_hours(packs: Packs) -> None:
    a_pack_of_four(packs)
    file = opened(packs, packs.store.pack(packs.particles, 0, "trajectories"))
    groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
    told = [(group["pixel"].to_pylist(), group["age"].to_pylist()) for group in groups]
    assert told == [([3, 3], [-1, -360]), ([3, 3], [-361, -362]), ([3], [-721]), ([8, 8], [-1, -1]), ([9], [-2])]
    cell_file = opened(packs, packs.store.pack(packs.footprints, 0))
    rows = [cell_file.read_row_group(number)["row"].to_pylist() for number in range(cell_file.num_row_groups)]
    assert [set(row) for row in rows if row] == [{3}, {9}]


def test_files_are_packed_as_the_design_says(packs: Packs) -> None:
    a_pack_of_four(packs)
    group = opened(packs, packs.store.pack(packs.particles, 0, "trajectories")).metadata.row_group(0)
    columns = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "DELTA_BINARY_PACKED" in columns["lon"].encodings
    assert "BYTE_STREAM_SPLIT" in columns["foot"].encodings


def test_kept_particles_are_the_very_ones(packs: Packs) -> None:
    a_pack_of_four(packs)
    kept, releases = packs.kept_particles(packs.particles, 0, 3) or ({}, {})
    assert kept.keys() == MADE["trajectories"].keys()
    for name, values in MADE["trajectories"].items():
        assert kept[name].dtype == values.dtype
        np.testing.assert_array_equal(kept[name], values, err_msg=name)
    for name in ("particle", "release_height", "release_pressure", "weight", "surface_pressure"):
        assert releases[name].dtype == MADE["endpoints"][name].dtype
        np.testing.assert_array_equal(releases[name], MADE["endpoints"][name], err_msg=name)
    assert len(releases) == 5


def test_a_failed_pixel_has_an_outcome_and_nothing_else(packs: Packs) -> None:
    a_pack_of_four(packs)
    assert packs.kept_particles(packs.particles, 0, 5) is None
    for path in (
        packs.store.pack(packs.footprints, 0),
        packs.store.pack(packs.particles, 0, "trajectories"),
        packs.store.pack(packs.particles, 0, "endpoints"),
    ):
        table = opened(packs, path).read()
        assert 5 not in table[0].to_pylist()
        assert 3 in table[0].to_pylist()
    assert [(row["pixel"], row["status"]) for row in read_outcomes(packs.store, packs.footprints)] == [
        *((3, "ok"), (5, "failed"), (8, "empty"), (9, "ok"))
    ]


def test_an_outcome_comes_back_with_all_that_it_said(packs: Packs) -> None:
    a_pack_of_four(packs)
    first, second, *_ = read_outcomes(packs.store, packs.footprints)
    assert first == {
        "pixel": 3,
        "status": "ok",
        "reason": "",
        "message": "",
        "attempts": 1,
        "seconds": 0.5,
        "particles": 3,
        "seed": 999_999_999,
        "row_sum": 1.25,
        "mc_error": 0.5,
        "left_domain": 0.25,
        "near_edge": 0.125,
        "near_lid": 0.0625,
        "pressure_difference": -3.5,
    }
    assert (second["reason"], second["message"], second["attempts"]) == ("timeout", "too slow, ü", 2)
    assert np.isnan([second["mc_error"], second["left_domain"], second["pressure_difference"]]).all()


def test_an_empty_pixel_keeps_its_particles(packs: Packs) -> None:
    a_pack_of_four(packs)
    kept, releases = packs.kept_particles(packs.particles, 0, 8) or ({}, {})
    assert kept["particle"].tolist() == releases["particle"].tolist() == [1, 2]


def test_outcomes_of_all_packs_are_in_the_order_of_their_pixels(packs: Packs) -> None:
    for number, pixels in enumerate([[4, 9], [0, 7]]):
        for pixel in pixels:
            packs.put_aside(number, outcome(pixel), MADE)
        packs.finish(number, pixels)
    packs.put_aside(0, outcome(1), MADE)
    assert [row["pixel"] for row in read_outcomes(packs.store, packs.footprints)] == [0, 4, 7, 9]


def broken_file(packs: Packs, kind: str, number: int = 0) -> None:
    path = Path(packs.file(number, kind))
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("kind", ["cells", "endpoints", "trajectories", "outcomes"])
def test_a_pack_with_a_truncated_file_is_not_whole_and_runs_again(packs: Packs, kind: str) -> None:
    a_pack_of_four(packs)
    before = {each: Path(packs.file(0, each)).read_bytes() for each in (*packs.kinds, "outcomes")}
    broken_file(packs, kind)
    assert packs.whole({0: [3, 5, 8, 9]}) == {}
    assert packs.open(0, [3, 5, 8, 9]) == {3, 5, 8, 9}
    a_pack_of_four(packs)
    assert {each: Path(packs.file(0, each)).read_bytes() for each in (*packs.kinds, "outcomes")} == before


@pytest.mark.parametrize("kind", ["endpoints", "trajectories"])
def test_a_pack_without_one_of_its_files_is_not_whole(packs: Packs, kind: str) -> None:
    a_pack_of_four(packs)
    Path(packs.file(0, kind)).unlink()
    assert packs.whole({0: [3, 5, 8, 9]}) == {}


@pytest.mark.parametrize("length", [0, 1, 100, 300])
def test_a_truncated_pixel_runs_again_and_no_other(packs: Packs, length: int) -> None:
    for pixel in (3, 8, 9):
        packs.put_aside(0, outcome(pixel), MADE)
    (file,) = Path(packs.store.root).rglob("pixel=0000008.npz")
    file.write_bytes(file.read_bytes()[:length])
    assert packs.finish(0, [3, 8, 9]) == {8}
    assert packs.whole({0: [3, 8, 9]}) == {}
    assert packs.open(0, [3, 8, 9]) == {8}
    packs.put_aside(0, outcome(8), MADE)
    assert packs.finish(0, [3, 8, 9]) == set()
    assert [row["pixel"] for row in packs.whole({0: [3, 8, 9]})[0]] == [3, 8, 9]


def test_a_pixel_of_a_whole_pack_runs_again_and_its_neighbours_stay(packs: Packs) -> None:
    a_pack_of_four(packs)
    packs.reopen(0, {5})
    assert packs.whole({0: [3, 5, 8, 9]}) == {}
    assert packs.open(0, [3, 5, 8, 9]) == {5}
    rows = [row for row in read_outcomes(packs.store, packs.footprints) if row["pixel"] != 5]
    kept = {pixel: packs.kept_particles(packs.particles, 0, pixel) for pixel in (3, 8, 9)}
    packs.put_aside(0, outcome(5), MADE)
    assert packs.finish(0, [3, 5, 8, 9]) == set()
    np.testing.assert_equal([row for row in packs.whole({0: [3, 5, 8, 9]})[0] if row["pixel"] != 5], rows)
    np.testing.assert_equal({pixel: packs.kept_particles(packs.particles, 0, pixel) for pixel in kept}, kept)
    np.testing.assert_equal((packs.kept_particles(packs.particles, 0, 5) or [{}])[0], MADE["trajectories"])
    table = opened(packs, packs.file(0, "cells")).read()
    assert table["row"].to_pylist() == [3] * 4 + [5] * 4 + [9]
    assert packs.store.names(packs.store.unfinished(packs.footprints)) == []


def test_a_reopened_pack_whose_old_files_are_damaged_runs_whole_again(packs: Packs) -> None:
    a_pack_of_four(packs)
    packs.reopen(0, {5})
    broken_file(packs, "trajectories")
    packs.put_aside(0, outcome(5), MADE)
    assert packs.finish(0, [3, 5, 8, 9]) == {3, 8, 9}
    assert packs.open(0, [3, 5, 8, 9]) == {3, 8, 9}


@pytest.mark.parametrize("kind", ["disk", "bucket"])
@pytest.mark.parametrize("after", range(3))
def test_a_finished_pack_that_was_reopened_is_whole_though_its_finisher_died_while_it_tidied_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, after: int
) -> None:
    packs = packs_in(open_store(str(tmp_path) if kind == "disk" else f"memory://dying-{after}"), "core")
    a_pack_of_four(packs)
    packs.reopen(0, {5})
    packs.put_aside(0, outcome(5), MADE)
    removed = []

    def dies(real: Callable[..., None]) -> Callable[..., None]:
        def remove(self: Store, what: Any) -> None:
            if len(removed) == after:
                raise StoreError("its process was killed")
            removed.append(what)
            real(self, what)

        return remove

    with monkeypatch.context() as patch:
        for name in ("remove", "remove_files"):
            patch.setattr(Store, name, dies(getattr(Store, name)))
        with pytest.raises(StoreError) if after < 2 else nullcontext():
            packs.finish(0, [3, 5, 8, 9])
    members = {0: [3, 5, 8, 9]}
    assert packs.whole(members) or packs.left(members) == {0: set()}  # no pixel runs again
    assert len(removed) == min(after, 2)


@pytest.mark.parametrize("after", range(5))
def test_a_reopened_pack_survives_a_death_between_any_two_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    whole = packs_in(open_store(str(tmp_path / "whole")), "core")
    dying = packs_in(open_store(str(tmp_path / "dying")), "core")
    for packs in (whole, dying):
        a_pack_of_four(packs)
        packs.reopen(0, {5})
        packs.put_aside(0, outcome(5), MADE)
    whole.finish(0, [3, 5, 8, 9])
    real, written = Store.write, []

    def write(self: Store, path: str, content: bytes) -> None:
        if len(written) == after:
            raise StoreError("writing failed")
        written.append(path)
        real(self, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", write)
        if after < 4:
            with pytest.raises(StoreError):
                dying.finish(0, [3, 5, 8, 9])
        else:
            dying.finish(0, [3, 5, 8, 9])
    if after < 4:
        assert dying.whole({0: [3, 5, 8, 9]}) == {}
        assert dying.open(0, [3, 5, 8, 9]) == set()
        assert dying.finish(0, [3, 5, 8, 9]) == set()
    for kind in (*whole.kinds, "outcomes"):
        assert Path(whole.file(0, kind)).read_bytes() == Path(dying.file(0, kind)).read_bytes()


def test_a_damaged_list_of_what_runs_again_is_no_dead_end(packs: Packs) -> None:
    a_pack_of_four(packs)
    packs.reopen(0, {5})
    (mark,) = Path(packs.store.root).rglob("again=*.json")
    mark.write_bytes(b"")
    assert packs.open(0, [3, 5, 8, 9]) == {3, 5, 8, 9}
    a_pack_of_four(packs)
    assert list(packs.whole({0: [3, 5, 8, 9]})) == [0]


@pytest.mark.parametrize("kind", ["outcomes", "cells", "endpoints", "trajectories"])
def test_a_reopened_pack_that_lost_a_file_is_no_dead_end(packs: Packs, kind: str) -> None:
    a_pack_of_four(packs)
    packs.reopen(0, {5})
    Path(packs.file(0, kind)).unlink()
    packs.put_aside(0, outcome(5), MADE)
    assert packs.finish(0, [3, 5, 8, 9]) == {3, 8, 9}
    assert packs.open(0, [3, 5, 8, 9]) == {3, 8, 9}


def test_what_a_killed_process_left_aside_is_not_the_answer_of_another_try(packs: Packs) -> None:
    a_pack_of_four(packs)
    packs.put_aside(0, outcome(5, Status.failed, reason="timeout"), {})
    packs.reopen(0, {5})
    assert packs.open(0, [3, 5, 8, 9]) == {5}


def test_a_pack_of_other_pixels_is_not_whole(packs: Packs) -> None:
    a_pack_of_four(packs)
    assert packs.whole({0: [3, 5, 8]}) == {}


def test_two_processes_that_finish_the_same_pack_do_no_harm(packs: Packs) -> None:
    a_pack_of_four(packs)
    before = {kind: Path(packs.file(0, kind)).read_bytes() for kind in (*packs.kinds, "outcomes")}
    assert packs.finish(0, [3, 5, 8, 9]) == set()
    assert {kind: Path(packs.file(0, kind)).read_bytes() for kind in (*packs.kinds, "outcomes")} == before


def test_without_a_whole_pack_there_are_no_outcomes(packs: Packs) -> None:
    assert read_outcomes(packs.store, packs.footprints) == []


def test_endpoints_alone_are_kept_without_trajectories(tmp_path: Path) -> None:
    packs = packs_in(open_store(str(tmp_path)), "endpoints")
    packs.put_aside(0, outcome(3), {name: MADE[name] for name in ("cells", "endpoints")})
    packs.finish(0, [3])
    assert 0 in packs.whole({0: [3]})
    assert packs.keepers([0]) == {}
    assert packs.store.names(packs.particles) == ["endpoints"]


def test_full_particles_keep_what_core_ones_do_not(tmp_path: Path) -> None:
    packs = packs_in(open_store(str(tmp_path)), "full")
    more = {
        name: np.array([0.5] * 5, "f4") for name in ("foot_no_hnf_dilution", "mlht", "dens", "samt", "sigw", "tlgr")
    }
    packs.put_aside(0, outcome(3), MADE | {"trajectories": MADE["trajectories"] | more})
    packs.finish(0, [3])
    kept, _ = packs.kept_particles(packs.particles, 0, 3) or ({}, {})
    assert kept.keys() == MADE["trajectories"].keys() | more.keys()


def test_the_same_pixels_make_the_same_bytes_in_whatever_order_they_ran(tmp_path: Path) -> None:
    files: list[dict[str, bytes]] = []
    for name, order in (("one", (3, 8)), ("two", (8, 3))):
        packs = packs_in(open_store(str(tmp_path / name)), "core")
        for pixel in order:
            packs.put_aside(0, outcome(pixel), MADE)
        packs.finish(0, [3, 8])
        root = tmp_path / name
        files.append({path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.parquet")})
    assert len(files[0]) == 4
    assert files[0] == files[1]


def test_a_pack_that_breaks_while_it_is_finished_is_not_whole_and_loses_no_pixel(
    packs: Packs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.write

    def broken(self: Store, path: str, content: bytes) -> None:
        if "/outcomes/" in path:
            raise StoreError("writing failed")
        real(self, path, content)

    for pixel in (3, 8):
        packs.put_aside(0, outcome(pixel), MADE)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", broken)
        with pytest.raises(StoreError):
            packs.finish(0, [3, 8])
    assert 0 not in packs.whole({0: [3, 8]})
    assert packs.aside(0) == {3, 8}
    packs.finish(0, [3, 8])
    assert 0 in packs.whole({0: [3, 8]})
    assert packs.aside(0) == set()


def test_particles_of_another_footprint_are_not_those_of_this_one(packs: Packs) -> None:
    a_pack_of_four(packs)
    other = Packs(packs.store, packs.particles, packs.store.result("key", "footprints-2"), "core")
    assert 0 not in other.whole({0: [3, 5, 8, 9]})
    assert other.keepers([0]) == {0: packs.particles}
    assert other.keepers([1]) == {}


def test_packs_on_an_object_store_come_back_too() -> None:
    MemoryFileSystem.store.clear()
    packs = packs_in(open_store("memory://packs"), "core")
    a_pack_of_four(packs)
    assert 0 in packs.whole({0: [3, 5, 8, 9]})
    assert packs.aside(0) == set()
    kept, _ = packs.kept_particles(packs.particles, 0, 3) or ({}, {})
    np.testing.assert_array_equal(kept["lon"], MADE["trajectories"]["lon"])
    assert len(read_outcomes(packs.store, packs.footprints)) == 4
    MemoryFileSystem.store.clear()


def test_outcomes_are_summed_up_by_status_and_reason(packs: Packs) -> None:
    a_pack_of_four(packs)
    assert summary_of(read_outcomes(packs.store, packs.footprints)) == {
        "pixels": 4,
        "ok": 2,
        "empty": 1,
        "failed": 1,
        "reasons": {"timeout": 1},
        "particles": 9,
        "seconds": 2.0,
    }


def test_no_outcome_of_a_pack_is_without_a_type(packs: Packs) -> None:
    a_pack_of_four(packs)
    schema = opened(packs, packs.store.pack(packs.footprints, 0, "outcomes")).schema_arrow
    assert all(not pa.types.is_null(item.type) for item in schema)
    assert schema.names[:3] == ["pixel", "status", "reason"]
