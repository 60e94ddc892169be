"""Which hours and which box a scene needs, which files hold them, and the one file that they become."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_weather import lambert, longitudes, receptor_table, write_weather
from taxonomy import causes, seen

from stilt_assets.demo.meteorology import write_meteorology
from stilt_assets.errors import MeteorologyError, MeteorologyGapError
from stilt_assets.meteorology import Need, box_of, hours_needed, need_of
from stilt_assets.meteorology.aggregate import NAME, make_aggregate
from stilt_assets.meteorology.sources import Source, find_sources
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Limits, Simulation
from stilt_assets.transport.hysplit import Hysplit

DAY = datetime(2019, 5, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
EARLY, LATE = "20190530_00-05_hrrr", "20190530_06-11_hrrr"
STEP = 171 * 2469  # bytes of an hour: an index and 170 records of 50 + 59 * 41 bytes


def hours(first: int, last: int) -> tuple[datetime, ...]:
    return tuple(DAY + hour * HOUR for hour in range(first, last + 1))


def over(longitude: float, latitude: float, time: datetime = DAY) -> Receptor:
    return Receptor(0, time, longitude, latitude, 0.0, 1000.0)


CENTRE = over(-112.0, 40.7)


# ---- hours


def test_a_release_on_the_hour_needs_no_hour_more() -> None:
    assert hours_needed(DAY + 8 * HOUR, DAY + 8 * HOUR, 3) == hours(5, 8)


def test_a_release_between_two_hours_needs_both() -> None:
    time = DAY + 8 * HOUR + timedelta(minutes=1)
    assert hours_needed(time, time, 3) == hours(5, 9)
    late = DAY + 8 * HOUR + timedelta(minutes=59)
    assert hours_needed(late, late, 3) == hours(5, 9)


def test_the_hours_of_a_scene_reach_from_its_first_pixel_to_its_last() -> None:
    assert hours_needed(DAY + timedelta(hours=2, minutes=59), DAY + 4 * HOUR, 2) == hours(0, 4)


@given(
    first=st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
    lasts=st.timedeltas(timedelta(0), timedelta(hours=5)),
    back=st.integers(1, 126),
)
def test_needed_hours_are_whole_and_consecutive_and_bracket_every_run_tightly(
    first: datetime, lasts: timedelta, back: int
) -> None:
    first = first.replace(tzinfo=UTC)
    needed = hours_needed(first, first + lasts, back)
    assert all(hour.minute == hour.second == hour.microsecond == 0 for hour in needed)
    assert {later - earlier for earlier, later in pairwise(needed)} == {HOUR}
    assert needed[0] <= first - back * HOUR < needed[0] + HOUR
    assert needed[-1] - HOUR < first + lasts <= needed[-1]


# ---- release points


def test_the_box_holds_all_release_points_and_no_more() -> None:
    assert box_of([10.0, 14.0, 11.0], [0.0, 0.5, -0.25]) == (10.0, -0.25, 14.0, 0.5)


@pytest.mark.parametrize("longitude", [[179.0, -178.0], [-178.0, 179.0], [179.0, -178.0, 179.5], [539.0, 182.0]])
def test_across_the_antimeridian_the_box_stays_small(longitude: list[float]) -> None:
    assert box_of(longitude, [0.0] * len(longitude)) == (179.0, 0.0, -178.0, 0.0)


def test_points_all_around_the_earth_have_a_box_all_around_it() -> None:
    assert box_of([0.0, 120.0, 240.0, 360.0], [1.0, 2.0, 3.0, 1.5]) == (-180.0, 1.0, 180.0, 3.0)


@given(lon=st.lists(st.floats(-60, 60), min_size=1, max_size=5), turn=st.floats(-180, 180))
def test_a_turned_earth_turns_the_box(lon: list[float], turn: float) -> None:
    west, _, east, _ = box_of([each + turn for each in lon], [0.0] * len(lon))
    assert (east - west) % 360 == pytest.approx(max(lon) - min(lon), abs=1e-5)
    assert (west - turn - min(lon) + 180) % 360 - 180 == pytest.approx(0, abs=1e-5)


def test_a_scene_needs_what_its_receptors_need() -> None:
    table = receptor_table(
        replace(over(11.0, 0.0, DAY + 7 * HOUR), top=2000.0),
        over(10.0, 0.5, DAY + timedelta(hours=5, minutes=30)),
    )
    assert need_of(table, 2) == Need(hours(3, 7), (10.0, 0.0, 11.0, 0.5), 2000.0, 2, wind=None, widened=False)
    assert need_of(table, 2, wind=30.0, widened=True).wind == 30.0


# ---- sources


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def hrrr(shared: Path) -> Path:
    """Two real files of six hours, 59 x 41 cells of 3 km, tilted against the meridians."""
    return (shared / "data" / "hrrr").resolve()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def found(folder: Path, first: int, last: int) -> list[Source]:
    return find_sources("hrrr", str(folder), hours(first, last))


def test_each_file_gives_the_hours_that_are_needed_of_it(hrrr: Path) -> None:
    assert found(hrrr, 4, 7) == [Source(hrrr / EARLY, hours(4, 5)), Source(hrrr / LATE, hours(6, 7))]
    assert found(hrrr, 8, 8) == [Source(hrrr / LATE, hours(8, 8))]


def test_files_are_found_by_their_headers_wherever_they_lie_whatever_they_are_called(hrrr: Path, archive: Path) -> None:
    (archive / "deep" / "er").mkdir(parents=True)
    shutil.copyfile(hrrr / EARLY, archive / "zz 20300101.nc")
    shutil.copyfile(hrrr / LATE, archive / "deep" / "er" / EARLY)
    assert found(archive, 5, 6) == [
        Source(archive / "zz 20300101.nc", hours(5, 5)),
        Source(archive / "deep" / "er" / EARLY, hours(6, 6)),
    ]


@causes("meteorology_gap")
def test_hours_that_no_file_holds_are_named_with_the_product(hrrr: Path) -> None:
    with pytest.raises(MeteorologyGapError) as caught:
        found(hrrr, 10, 13)
    assert seen(caught.value.reason) == "meteorology_gap"
    assert str(caught.value) == f"hrrr in {hrrr} has no 2019-05-30 12Z, 2019-05-30 13Z (2 hour(s) missing)"
    with pytest.raises(MeteorologyGapError, match=r"has no 2019-05-29 22Z, 2019-05-29 23Z \(2 hour"):
        found(hrrr, -2, 1)


def test_a_gap_between_two_files_is_seen(hrrr: Path, archive: Path) -> None:
    (archive / "a").write_bytes((hrrr / EARLY).read_bytes()[: 5 * STEP])
    shutil.copyfile(hrrr / LATE, archive / "b")
    with pytest.raises(MeteorologyGapError, match=r"has no 2019-05-30 05Z \(1 hour"):
        found(archive, 3, 8)


def test_a_long_list_of_missing_hours_is_cut_and_counted(archive: Path) -> None:
    with pytest.raises(MeteorologyGapError, match=r"2019-05-30 05Z and 4 more \(10 hour\(s\) missing\)"):
        found(archive, 0, 9)


@causes("no_archive")
def test_a_folder_that_is_not_there_and_a_url_are_told(archive: Path) -> None:
    with pytest.raises(MeteorologyError, match=f"no folder {archive}/none") as caught:
        found(archive / "none", 0, 1)
    assert seen(caught.value.reason) == "no_archive"
    with pytest.raises(MeteorologyError, match="must be a folder of this machine, not s3://bucket/hrrr"):
        find_sources("hrrr", "s3://bucket/hrrr", hours(0, 1))


def test_a_text_called_like_an_arl_file_is_told_where_hours_are_missing(hrrr: Path, archive: Path) -> None:
    (archive / EARLY).write_text("this is no meteorology\n" * 1000)
    with pytest.raises(MeteorologyGapError) as caught:
        found(archive, 0, 1)
    assert f"not readable there: {EARLY} (" in str(caught.value)
    assert "\n" not in str(caught.value)
    shutil.copyfile(hrrr / LATE, archive / LATE)
    assert [source.path.name for source in found(archive, 6, 7)] == [LATE]


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (6 * STEP - 1, "file size .* is not a whole number of 2469-byte records"),
        (3 * STEP - 2469, "declares 170 data records, but only 16"),
        (30, "Header must be exactly 50 bytes"),
        (0, "holds no time step"),
    ],
)
def test_an_arl_file_that_was_cut_short_is_told(hrrr: Path, archive: Path, size: int, told: str) -> None:
    (archive / "cut").write_bytes((hrrr / EARLY).read_bytes()[:size])
    with pytest.raises(MeteorologyGapError, match=rf"not readable there: cut \(.*{told}"):
        found(archive, 0, 1)


def test_an_hour_in_two_files_is_refused_and_both_are_named(hrrr: Path, archive: Path) -> None:
    for name in ("one", "two"):
        shutil.copyfile(hrrr / EARLY, archive / name)
    with pytest.raises(MeteorologyError, match=r"2019-05-30 01:00 is in two files, .*one and .*two") as caught:
        found(archive, 1, 2)
    assert not isinstance(caught.value, MeteorologyGapError)


# ---- the aggregate


def aggregated(
    folder: Path, sources: Sequence[Source], receptors: Sequence[Receptor] = (CENTRE,), **more: Any
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    held = [hour for source in sources for hour in source.hours]
    back = max(len(held) - 1, 1)
    table = receptor_table(*(replace(each, time=held[-1]) for each in receptors))
    need = replace(need_of(table, back, **more), hours=tuple(held))
    digests = {source.path: hashlib.sha256(source.path.read_bytes()).hexdigest() for source in sources}
    return make_aggregate(folder, "hrrr", need, sources, receptors, digests)


def refusal(folder: Path, sources: Sequence[Source], **more: Any) -> str:
    with pytest.raises(MeteorologyError) as caught:
        aggregated(folder, sources, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_needed_hours_are_copied_byte_for_byte_and_no_others(hrrr: Path, tmp_path: Path) -> None:
    aggregated(tmp_path / "out", found(hrrr, 4, 7))
    content = (tmp_path / "out" / "meteorology.arl").read_bytes()
    early, late = (hrrr / EARLY).read_bytes(), (hrrr / LATE).read_bytes()
    assert content == early[4 * STEP :] + late[: 2 * STEP]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["certificate.json", "meteorology.arl"]


def test_the_certificate_says_what_was_made_from_what(hrrr: Path, tmp_path: Path) -> None:
    with arlmet.File(hrrr / EARLY) as file:
        coords = file.grid.calculate_coords()
    lon, lat = (float(coords[name][1][4, 20]) for name in ("lon", "lat"))  # four cells of 3 km from the south
    made = aggregated(tmp_path / "out", found(hrrr, 5, 6), receptors=[CENTRE, over(lon, lat)])
    assert made == json.loads((tmp_path / "out" / "certificate.json").read_text())
    levels, reach, wind = made.pop("levels"), made.pop("reach_km"), made.pop("wind")
    assert made == {
        "product": "hrrr",
        "hours": ["2019-05-30T05Z", "2019-05-30T06Z"],
        "box": made["box"],
        "box_needed": made["box_needed"],
        "cells": [59, 41],
        "cells_needed": made["cells_needed"],
        "cells_of_files": [59, 41],
        "pixels_outside": 0,
        "margins_km": made["margins_km"],
        "levels_needed": 20,
        "levels_of_files": 20,
        "lid": made["lid"],
        "level_below_lid": made["level_below_lid"],
        "lid_felt_from": made["lid_felt_from"],
        "mixed_layer": made["mixed_layer"],
        "ends": dict.fromkeys(("west", "south", "east", "north", "lid"), "files"),
        "widened": 0,
        "sha256": hashlib.sha256((tmp_path / "out" / "meteorology.arl").read_bytes()).hexdigest(),
        "sources": [
            {"name": EARLY, "sha256": hashlib.sha256((hrrr / EARLY).read_bytes()).hexdigest()},
            {"name": LATE, "sha256": hashlib.sha256((hrrr / LATE).read_bytes()).hexdigest()},
        ],
    }
    assert (len(levels), levels[0], levels[-1]) == (20, 1.0, 0.47675)
    assert made["box"] == pytest.approx([-113.15, 40.10, -110.89, 41.41], abs=0.01)
    assert min(made["margins_km"].values()) == made["margins_km"]["south"] == 12.0
    assert 2900 < made["lid_felt_from"] < made["level_below_lid"] < made["lid"] < 3800
    assert made["mixed_layer"] == 2031.4
    assert len(wind) == 1
    assert all(5 < km < 150 for km in reach.values())


def place_of(file: Path, time: str, variable: str, level: int) -> int:
    """Where a record begins, bytes."""
    with arlmet.File(file) as opened:
        (record,) = [each for each in opened[time].records if (each.variable, each.level) == (variable, level)]
        return int(record.position)


def spoiled(file: Path, folder: Path, place: int, put: bytes) -> Path:
    content = bytearray(file.read_bytes())
    assert content[place : place + len(put)] != put
    content[place : place + len(put)] = put
    (folder / "spoiled").write_bytes(content)
    return folder / "spoiled"


def test_a_damaged_record_is_refused_by_variable_level_and_hour(hrrr: Path, archive: Path, tmp_path: Path) -> None:
    place = place_of(hrrr / EARLY, "2019-05-30T02", "UWND", 3)
    spoiled(hrrr / EARLY, archive, place + 50 + 1000, b"\x01\xfe\x7f")
    line = refusal(tmp_path / "out", found(archive, 1, 3))
    assert line == "spoiled is damaged: UWND at level 3, 2019-05-30 02Z, fails its checksum"


def test_a_damaged_correction_of_a_record_is_refused(hrrr: Path, archive: Path, tmp_path: Path) -> None:
    with arlmet.File(hrrr / EARLY) as file:
        rain = next(each for each in file["2019-05-30T02"].records if each.variable == "TPP1")
        (correction,) = rain.diffs
        place = int(correction.position)
    spoiled(hrrr / EARLY, archive, place + 50, b"\x05\x09")
    assert "spoiled is damaged: DIFR at level 0, 2019-05-30 02Z" in refusal(tmp_path / "out", found(archive, 1, 3))


def test_damage_in_an_hour_that_is_not_needed_does_no_harm(hrrr: Path, archive: Path, tmp_path: Path) -> None:
    place = place_of(hrrr / EARLY, "2019-05-30T02", "UWND", 3)
    spoiled(hrrr / EARLY, archive, place + 50, b"\x01\xfe\x7f")
    assert aggregated(tmp_path / "out", found(archive, 3, 4))["hours"] == ["2019-05-30T03Z", "2019-05-30T04Z"]


def test_a_record_under_another_name_than_its_index_says_is_refused(hrrr: Path, archive: Path, tmp_path: Path) -> None:
    place = place_of(hrrr / EARLY, "2019-05-30T02", "UWND", 3)
    spoiled(hrrr / EARLY, archive, place + 14, b"XXXX")
    assert "spoiled is damaged: " in refusal(tmp_path / "out", found(archive, 1, 3))


def test_files_of_different_grids_are_refused_and_both_are_named(hrrr: Path, archive: Path, tmp_path: Path) -> None:
    shutil.copyfile(hrrr / EARLY, archive / "whole")
    arlmet.extract_subset(hrrr / LATE, archive / "part", bbox=(-112.8, 40.15, -111.2, 41.35))
    assert "part and whole differ in grid or levels" in refusal(tmp_path / "out", found(archive, 5, 6))


def test_files_of_different_levels_are_refused(hrrr: Path, archive: Path, tmp_path: Path) -> None:
    shutil.copyfile(hrrr / EARLY, archive / "whole")
    arlmet.extract_subset(hrrr / LATE, archive / "low", levels=range(10))
    assert "low and whole differ in grid or levels" in refusal(tmp_path / "out", found(archive, 5, 6))


# ---- crops


LARGE = lambert(100, 70)  # of 3 km around (-112, 40.7), tilted against the meridians
EIGHT = (0.0, 200.0, 500.0, 1000.0, 1500.0, 2000.0, 2500.0, 3000.0)


def slope(hour: int, level: int) -> np.ndarray:
    return np.add.outer(0.5 * np.arange(70), 0.25 * np.arange(100)) + 100 * level + hour


@pytest.fixture
def made(tmp_path: Path) -> list[Source]:
    """Made-up hours from 5 to 6 with wind from the south, in one file."""
    path = write_weather(
        tmp_path / "made", LARGE, hours=(5, 6), heights=EIGHT, v=9.0, PBLH=2000.0, SHGT=slope, TPP1=slope
    )
    return [Source(path, hours(5, 6))]


def test_the_same_need_gives_the_same_bytes(made: list[Source], tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert aggregated(tmp_path / name, made)["cells"] < [100, 70]
    for name in ("meteorology.arl", "certificate.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    "place", [(-112.0, 40.7), (-113.3, 40.0), (-110.7, 41.3)], ids=["middle", "south-west", "north-east"]
)
def test_a_crop_holds_all_that_the_files_have_of_the_box(
    made: list[Source], tmp_path: Path, place: tuple[float, float]
) -> None:
    facts = aggregated(tmp_path / "out", made, [over(*place)])
    with arlmet.File(tmp_path / "out" / "meteorology.arl") as crop:
        (x,), (y,) = ([float(index)] for index in crop.grid.fractional_indices(*place))
        whole_x, whole_y = (float(index) for index in LARGE.fractional_indices(*place))
        # 9 m/s from the south in an hour: 10.8 cells of 3 km; 60 sqrt(3600) m of turbulence: 1.2.
        for here, there, need in (
            (x, whole_x, 1.2 + 2),
            (y, whole_y, 10.8 + 1.2 + 2),
            (crop.grid.nx - 1 - x, 99 - whole_x, 1.2 + 3),
            (crop.grid.ny - 1 - y, 69 - whole_y, 1.2 + 3),
        ):
            assert here >= min(need - 0.02, there - 0.01)
        assert facts["cells"] == [crop.grid.nx, crop.grid.ny]
        assert crop.grid.nx * crop.grid.ny <= 3500
        assert [f"{time:%H}" for time in crop.times] == ["05", "06"]
    assert facts["cells_of_files"] == [100, 70]
    assert facts["reach_km"] == pytest.approx({"west": 3.6, "south": 36.0, "east": 3.6, "north": 3.6}, abs=0.1)
    assert facts["wind"] == pytest.approx([9.0], abs=0.01)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["certificate.json", "meteorology.arl"]


def test_a_crop_keeps_the_values_the_levels_and_its_checksums(made: list[Source], tmp_path: Path) -> None:
    aggregated(tmp_path / "out", made)
    with arlmet.File(made[0].path) as whole, arlmet.File(tmp_path / "out" / "meteorology.arl") as crop:
        assert list(crop.vertical_axis.levels) == list(whole.vertical_axis.levels)
        step, before = crop["2019-05-30T05"], whole["2019-05-30T05"]
        assert [(r.variable, r.level) for r in step.records] == [(r.variable, r.level) for r in before.records]
        assert [len(r.diffs) for r in step.records] == [len(r.diffs) for r in before.records]
        assert all(each.verify_checksum() for record in step.records for each in (record, *record.diffs))
        coords = crop.grid.calculate_coords()
        x, y = whole.grid.fractional_indices(coords["lon"][1], coords["lat"][1])
        column, row = np.rint(x).astype(int), np.rint(y).astype(int)
        assert np.abs(x - column).max() < 0.02
        for level, name in ((0, "SHGT"), (0, "TPP1"), (5, "TEMP"), (7, "WWND")):
            here, there = step[(level, name)].read(), before[(level, name)].read()
            np.testing.assert_allclose(here, there[row, column], atol=1 / 60)


def test_a_crop_of_levels_and_cells_leaves_out_both(made: list[Source], tmp_path: Path) -> None:
    (source,) = made
    write_weather(source.path, LARGE, hours=(5, 6), PBLH=100.0)
    facts = aggregated(tmp_path / "out", made, [replace(CENTRE, top=10.0)])
    with arlmet.File(tmp_path / "out" / "meteorology.arl") as crop:
        assert len(crop.vertical_axis.levels) == len(facts["levels"]) == 5
        assert {record.level for record in crop["2019-05-30T05"].records} == set(range(5))
        assert crop.grid.nx < 100
    assert facts["levels_of_files"] == 20
    assert [facts[name] for name in ("lid", "level_below_lid", "lid_felt_from")] == pytest.approx(
        [2000, 1500, 1000], abs=1
    )
    assert set(facts["ends"].values()) == {"crop"}


def test_levels_that_are_left_out_change_no_byte_of_the_others(tmp_path: Path) -> None:
    path = write_weather(tmp_path / "small", lambert(40, 32), hours=(5, 6), PBLH=100.0, TPP1=3.0)
    facts = aggregated(tmp_path / "out", [Source(path, hours(5, 6))], [replace(CENTRE, top=10.0)], wind=20.0)
    assert (facts["cells"], len(facts["levels"])) == ([40, 32], 5)
    with arlmet.File(path) as whole, arlmet.File(tmp_path / "out" / "meteorology.arl") as low:
        for record in low["2019-05-30T06"].records:
            assert record.bytes == whole["2019-05-30T06"][(record.level, record.variable)].bytes
        assert list(low.vertical_axis.levels) == pytest.approx(list(whole.vertical_axis.levels[:5]), abs=1e-4)


def test_a_wider_crop_is_wider_and_says_so(made: list[Source], tmp_path: Path) -> None:
    narrow, wide = (aggregated(tmp_path / str(widened), made, widened=widened) for widened in (False, True))
    assert (narrow["widened"], wide["widened"]) == (0, 1)
    assert wide["reach_km"]["south"] == pytest.approx(2 * narrow["reach_km"]["south"], abs=0.2)
    assert wide["box"][1] < narrow["box"][1] - 0.2


@pytest.mark.parametrize(("middle", "west_of_it"), [(180.0, -180.0), (0.0, 0.0)])
def test_a_crop_across_the_antimeridian_or_greenwich_says_where_it_lies(
    tmp_path: Path, middle: float, west_of_it: float
) -> None:
    grid = longitudes(-180.0, -60.0, 180, 61, 2.0)
    path = write_weather(tmp_path / "globe", grid, hours=(5, 6), heights=EIGHT, PBLH=2000.0)
    receptors = [over(middle - 1.0, 3.0), over(west_of_it + 1.0, 3.0)]
    facts = aggregated(tmp_path / "out", [Source(path, hours(5, 6))], receptors)
    west, south, east, north = facts["box"]
    assert middle - 30 < west < middle - 1
    assert west_of_it + 1 < east < west_of_it + 30
    assert south < 3 < north
    assert facts["pixels_outside"] == 0
    assert facts["cells"][0] < 30


def test_a_crop_runs_through_hysplit(made: list[Source], tmp_path: Path) -> None:
    aggregated(tmp_path / "out", made)
    receptor = Receptor(0, DAY + 6 * HOUR, -112.0, 40.7, 0.0, 100.0)
    particles = Hysplit().run(receptor, Simulation("hysplit", 1, 10, 1), tmp_path / "out" / NAME, Limits(60))
    ends = particles[particles["age"] == -60]
    assert len(ends) == 10
    assert ends["lat"].mean() == pytest.approx(40.7 - 9 * 3600 / 111195, abs=0.03)


def test_near_the_ground_of_a_quiet_night_a_lid_changes_no_sum(tmp_path: Path) -> None:
    path = write_meteorology(tmp_path / "demo")
    receptor = Receptor(0, datetime(2023, 7, 15, 13, tzinfo=UTC), -111.9, 40.6, 9.5, 10.5)
    sums = {}
    for name, wide in (("low", False), ("all", True)):
        (folder := tmp_path / name).mkdir()
        need = need_of(receptor_table(receptor), 1, wind=20.0, widened=wide)
        facts = make_aggregate(folder, "demo", need, [Source(path, need.hours)], [receptor], {path: ""})
        particles = Hysplit().run(receptor, Simulation("hysplit", 1, 50, 1), folder / NAME, Limits(60))
        sums[len(facts["levels"])] = particles["foot"].sum()
        assert facts["cells"] == [60, 54]
    assert min(sums) < 13
    assert max(sums) == 20
    assert len(set(sums.values())) == 1


def test_pixels_outside_the_files_are_refused_if_they_all_are(hrrr: Path, tmp_path: Path) -> None:
    line = refusal(tmp_path / "out", found(hrrr, 5, 6), receptors=[over(10.0, 50.0), over(-100.0, 40.7)])
    assert line == "no pixel lies inside the hrrr files (59x41 cells): wrong region?"


def test_pixels_outside_the_files_are_counted_if_some_are(hrrr: Path, tmp_path: Path) -> None:
    with arlmet.File(hrrr / EARLY) as file:
        coords = file.grid.calculate_coords()
    lon, lat = (2 * coords[name][1][20, 0] - coords[name][1][20, 1] for name in ("lon", "lat"))
    made = aggregated(tmp_path / "out", found(hrrr, 5, 6), [CENTRE, over(lon, lat), CENTRE])
    assert made["pixels_outside"] == 1
    assert made["margins_km"]["west"] == pytest.approx(-3.0, abs=0.05)  # one cell to the west
