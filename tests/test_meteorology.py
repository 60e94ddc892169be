"""Which hours and which box a scene needs, which files hold them, and the one file that they become."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stilt_assets.errors import MeteorologyError, MeteorologyGapError
from stilt_assets.meteorology import KM_PER_DEGREE, Box, Need, box_needed, hours_needed, need_of
from stilt_assets.meteorology.aggregate import make_aggregate
from stilt_assets.meteorology.sources import Source, find_sources
from stilt_assets.receptor import Receptor

DAY = datetime(2019, 5, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
EARLY, LATE = "20190530_00-05_hrrr", "20190530_06-11_hrrr"
STEP = 171 * 2469  # bytes of an hour: an index and 170 records of 50 + 59 * 41 bytes
ALL: Box = (-114.0, 39.0, -110.0, 42.0)
DEGREE_AN_HOUR = KM_PER_DEGREE / 3.6  # m s-1, along a meridian


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


# ---- box


def test_at_the_equator_a_degree_an_hour_reaches_a_degree_an_hour() -> None:
    assert box_needed([10.0], [0.0], 3, DEGREE_AN_HOUR) == pytest.approx((7, -3, 13, 3), abs=0.01)


def test_at_sixty_degrees_the_same_wind_crosses_twice_as_many_meridians() -> None:
    assert box_needed([10.0], [59.0], 1, DEGREE_AN_HOUR) == pytest.approx((8, 58, 12, 60))
    assert box_needed([10.0], [-59.0], 1, DEGREE_AN_HOUR) == pytest.approx((8, -60, 12, -58))


def test_the_box_holds_all_pixels() -> None:
    found = box_needed([10.0, 14.0, 11.0], [0.0, 0.5, -0.25], 1, DEGREE_AN_HOUR)
    assert found == pytest.approx((9, -1.25, 15, 1.5), abs=0.001)


@pytest.mark.parametrize("longitude", [[179.0, -179.0], [-179.0, 179.0], [179.0, -179.0, 179.5]])
def test_across_the_antimeridian_the_box_stays_small(longitude: list[float]) -> None:
    found = box_needed(longitude, [0.0] * len(longitude), 1, DEGREE_AN_HOUR)
    assert found == pytest.approx((178, -1, -178, 1), abs=0.001)


def test_wind_across_the_antimeridian_takes_the_box_with_it() -> None:
    assert box_needed([179.5], [0.0], 1, DEGREE_AN_HOUR) == pytest.approx((178.5, -1, -179.5, 1), abs=0.001)


def test_a_wind_around_the_earth_needs_all_of_it() -> None:
    assert box_needed([5.0], [0.0], 95, DEGREE_AN_HOUR) == (-180, -90, 180, 90)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_over_a_pole_lie_all_longitudes(sign: float) -> None:
    west, south, east, north = box_needed([10.0], [sign * 89.0], 2, DEGREE_AN_HOUR)
    assert (west, east) == (-180, 180)
    assert (south, north) == pytest.approx((87, 90) if sign > 0 else (-90, -87))


def reached(lon: float, lat: float, degrees: float, heading: float) -> tuple[float, float]:
    """Where a great circle leads."""
    phi, way, course = np.radians([lat, degrees, heading])
    to = np.arcsin(np.sin(phi) * np.cos(way) + np.cos(phi) * np.sin(way) * np.cos(course))
    turn = np.arctan2(np.sin(course) * np.sin(way) * np.cos(phi), np.cos(way) - np.sin(phi) * np.sin(to))
    return (lon + float(np.degrees(turn)) + 180.0) % 360.0 - 180.0, float(np.degrees(to))


def holds(box: Box, lon: float, lat: float) -> bool:
    west, south, east, north = box
    across = west - 1e-9 <= lon <= east + 1e-9 if west < east else lon >= west - 1e-9 or lon <= east + 1e-9
    return across and south - 1e-9 <= lat <= north + 1e-9


@given(lon=st.floats(-180, 179.9), lat=st.floats(-75, 75), hours_back=st.integers(1, 9), heading=st.floats(0, 360))
def test_a_particle_in_the_strongest_wind_stays_in_the_box(
    lon: float, lat: float, hours_back: int, heading: float
) -> None:
    box = box_needed([lon], [lat], hours_back, DEGREE_AN_HOUR)
    assert holds(box, *reached(lon, lat, hours_back, heading))


def test_near_a_pole_a_particle_in_the_strongest_wind_stays_in_the_box() -> None:
    box = box_needed([0.0], [86.0], 3, DEGREE_AN_HOUR)
    assert all(holds(box, *reached(0.0, 86.0, 3, heading)) for heading in range(0, 360, 10))


def test_a_scene_needs_what_its_receptors_need() -> None:
    receptors = [over(11.0, 0.0, DAY + 7 * HOUR), over(10.0, 0.0, DAY + timedelta(hours=5, minutes=30))]
    need = need_of(receptors, 2, DEGREE_AN_HOUR)
    assert need.hours == hours(3, 7)
    assert need.box == pytest.approx((8, -2, 13, 2), abs=0.01)


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


def test_hours_that_no_file_holds_are_named_with_the_product(hrrr: Path) -> None:
    with pytest.raises(MeteorologyGapError) as caught:
        found(hrrr, 10, 13)
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


def test_a_folder_that_is_not_there_and_a_url_are_told(archive: Path) -> None:
    with pytest.raises(MeteorologyError, match=f"no folder {archive}/none"):
        found(archive / "none", 0, 1)
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
    folder: Path, sources: Sequence[Source], box: Box = ALL, receptors: Sequence[Receptor] = (CENTRE,)
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    need = Need(tuple(hour for source in sources for hour in source.hours), box)
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
    levels = made.pop("levels")
    assert made == {
        "product": "hrrr",
        "hours": ["2019-05-30T05Z", "2019-05-30T06Z"],
        "box": made["box"],
        "box_needed": list(ALL),
        "cells": [59, 41],
        "cells_of_files": [59, 41],
        "pixels_outside": 0,
        "margins_km": made["margins_km"],
        "sources": [
            {"name": EARLY, "sha256": hashlib.sha256((hrrr / EARLY).read_bytes()).hexdigest()},
            {"name": LATE, "sha256": hashlib.sha256((hrrr / LATE).read_bytes()).hexdigest()},
        ],
    }
    assert (len(levels), levels[0], levels[-1]) == (20, 1.0, 0.47675)
    assert made["box"] == pytest.approx([-113.15, 40.10, -110.89, 41.41], abs=0.01)
    assert min(made["margins_km"].values()) == made["margins_km"]["south"] == 12.0


def test_the_same_need_gives_the_same_bytes(hrrr: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        aggregated(tmp_path / name, found(hrrr, 5, 6), box=(-112.7, 40.2, -111.2, 41.3))
    for name in ("meteorology.arl", "certificate.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


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


def edges(box: Box) -> tuple[np.ndarray, np.ndarray]:
    west, south, east, north = box
    share = np.linspace(0, 1, 50)
    lon, lat = west + share * (east - west), south + share * (north - south)
    along = [np.full(50, west), np.full(50, east), lon, lon]
    up = [lat, lat, np.full(50, south), np.full(50, north)]
    return np.concatenate(along), np.concatenate(up)


@pytest.mark.parametrize(
    ("box", "smaller"),
    [
        ((-112.7, 40.2, -111.2, 41.3), True),  # the grid is tilted: two corners of the box are not enough
        ((-112.5, 40.4, -111.6, 41.0), True),  # so small that ARL's index would not fit into a record
        ((-112.3, 40.5, -111.9, 40.8), False),
        ((-112.9, 40.12, -112.2, 40.5), False),  # in a corner of the grid
    ],
)
def test_a_crop_holds_all_that_the_files_have_of_the_box(hrrr: Path, tmp_path: Path, box: Box, smaller: bool) -> None:
    made = aggregated(tmp_path / "out", found(hrrr, 5, 6), box=box, receptors=[over(box[0] + 0.3, box[1] + 0.2)])
    with arlmet.File(hrrr / EARLY) as whole, arlmet.File(tmp_path / "out" / "meteorology.arl") as crop:
        x, y = whole.grid.fractional_indices(*edges(box))
        known = (x >= 0) & (x <= 58) & (y >= 0) & (y <= 40)
        assert known.sum() > 50
        lon, lat = edges(box)
        x, y = crop.grid.fractional_indices(lon[known], lat[known])
        assert x.min() >= -0.5
        assert y.min() >= -0.5
        assert x.max() <= crop.grid.nx - 0.5
        assert y.max() <= crop.grid.ny - 0.5
        assert made["cells"] == [crop.grid.nx, crop.grid.ny]
        assert 1628 <= crop.grid.nx * crop.grid.ny < 59 * 41 + (not smaller)
        assert [f"{time:%H}" for time in crop.times] == ["05", "06"]
    assert made["cells_of_files"] == [59, 41]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["certificate.json", "meteorology.arl"]


def test_a_crop_keeps_the_values_the_levels_and_its_checksums(hrrr: Path, tmp_path: Path) -> None:
    aggregated(tmp_path / "out", found(hrrr, 5, 5), box=(-112.7, 40.2, -111.2, 41.3))
    with arlmet.File(hrrr / EARLY) as whole, arlmet.File(tmp_path / "out" / "meteorology.arl") as crop:
        assert list(crop.vertical_axis.levels) == list(whole.vertical_axis.levels)
        step, before = crop["2019-05-30T05"], whole["2019-05-30T05"]
        assert [(r.variable, r.level) for r in step.records] == [(r.variable, r.level) for r in before.records]
        assert all(each.verify_checksum() for record in step.records for each in (record, *record.diffs))
        coords = crop.grid.calculate_coords()
        x, y = whole.grid.fractional_indices(coords["lon"][1], coords["lat"][1])
        column, row = np.rint(x).astype(int), np.rint(y).astype(int)
        assert np.abs(x - column).max() < 0.02
        for level, name in ((0, "SHGT"), (0, "PRSS"), (5, "TEMP"), (19, "UWND")):
            here, there = step[(level, name)].read(), before[(level, name)].read()
            steepest = max(np.abs(np.diff(there, axis=axis)).max() for axis in (0, 1))
            np.testing.assert_allclose(here, there[row, column], atol=steepest / 60)


def test_a_crop_leaves_out_what_is_not_needed(hrrr: Path, tmp_path: Path) -> None:
    aggregated(tmp_path / "out", found(hrrr, 5, 5), box=(-112.7, 40.2, -111.2, 41.3))
    assert (tmp_path / "out" / "meteorology.arl").stat().st_size < STEP


def test_pixels_outside_the_files_are_refused_if_they_all_are(hrrr: Path, tmp_path: Path) -> None:
    line = refusal(tmp_path / "out", found(hrrr, 5, 6), receptors=[over(10.0, 50.0), over(-100.0, 40.7)])
    assert line == "no pixel lies inside the hrrr files (59x41 cells): wrong region?"


def test_pixels_outside_the_files_are_counted_if_some_are(hrrr: Path, tmp_path: Path) -> None:
    with arlmet.File(hrrr / EARLY) as file:
        coords = file.grid.calculate_coords()
    lon, lat = (2 * coords[name][1][20, 0] - coords[name][1][20, 1] for name in ("lon", "lat"))
    made = aggregated(tmp_path / "out", found(hrrr, 5, 6), receptors=[CENTRE, over(lon, lat), CENTRE])
    assert made["pixels_outside"] == 1
    assert made["margins_km"]["west"] == pytest.approx(-3.0, abs=0.05)  # one cell to the west


def test_a_box_that_the_files_do_not_reach_is_told(hrrr: Path, tmp_path: Path) -> None:
    line = refusal(tmp_path / "out", found(hrrr, 5, 6), box=(10.0, 40.0, 12.0, 41.0))
    assert "does not reach (10.0, 40.0, 12.0, 41.0)" in line
