"""Where particles can come from, and which levels they do not feel."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
import pytest
from arlmet import GridWindow, RecordSet
from made_weather import CELL, CELL_AN_HOUR, EQUATOR, EVERY_500_M, lambert, longitudes, write_weather

from stilt_assets.errors import MeteorologyError
from stilt_assets.meteorology import Box, Need
from stilt_assets.meteorology.rule import (
    ENDS_BEFORE,
    FASTEST,
    NEAR,
    Span,
    cells_needed,
    choose,
    span_of,
    window_of,
)
from stilt_assets.meteorology.weather import cell_size, level_heights, mixed_layer, strongest_wind

DAY = datetime(2019, 5, 30, tzinfo=UTC)
ORIGIN: Box = (0.0, 0.0, 0.0, 0.0)
Weather = Callable[..., list[RecordSet]]


@pytest.fixture
def weather(tmp_path: Path) -> Iterator[Weather]:
    """Made-up weather, as the steps of a file that is open until the test ends."""
    with ExitStack() as stack:

        def made(*args: Any, **kinds: Any) -> list[RecordSet]:
            file = stack.enter_context(arlmet.File(write_weather(tmp_path / "made", *args, **kinds)))
            return [file[time] for time in file.times]

        yield made


def a_need(hours_back: int = 3, box: Box = ORIGIN, top: float = 10.0, **more: Any) -> Need:
    return Need(tuple(DAY + timedelta(hours=hour) for hour in range(hours_back + 1)), box, top, hours_back, **more)


def spread(hours: float) -> float:
    """Cells that turbulence adds on every side."""
    return 60.0 * (hours * 3600) ** 0.5 / CELL


def carried(steps: Sequence[RecordSet], need: Need) -> list[float]:
    """Cells that the wind alone adds on each side: west, south, east, north."""
    return [cells - spread(len(steps) - 1) for cells in choose(steps, need).reach]


# ---- cells


def test_in_still_air_the_box_is_that_of_the_turbulence_and_of_the_model_s_own_ends(weather: Weather) -> None:
    choice = choose(weather(), a_need())
    assert choice.reach == pytest.approx([spread(3)] * 4, rel=1e-3)
    assert spread(3) < 1
    # Column 40, row 30: a cell for turbulence, and 2 or 3 to the end where HYSPLIT stops before it.
    assert choice.needed == GridWindow(37, 45, 27, 35)
    assert choice.ends == {"west": "crop", "south": "crop", "east": "crop", "north": "crop", "lid": "crop"}


@pytest.mark.parametrize(
    ("u", "v", "reach"),
    [(2, 0, [6, 0, 0, 0]), (-2, 0, [0, 0, 6, 0]), (0, 3, [0, 9, 0, 0]), (0, -3, [0, 0, 0, 9]), (2, -1, [6, 0, 0, 3])],
)
def test_particles_come_from_where_the_wind_blows_from(
    weather: Weather, u: float, v: float, reach: list[float]
) -> None:
    steps = weather(u=u * CELL_AN_HOUR, v=v * CELL_AN_HOUR)
    assert carried(steps, a_need()) == pytest.approx(reach, abs=0.02)


def test_each_hour_counts_with_the_stronger_of_the_two_winds_around_it(weather: Weather) -> None:
    steps = weather(u=lambda hour, level: (0.5, 0.5, 1.0, 3.0)[hour] * CELL_AN_HOUR)
    assert carried(steps, a_need())[0] == pytest.approx(0.5 + 1.0 + 3.0, abs=0.02)
    assert choose(steps, a_need()).wind == pytest.approx([0.5 * CELL_AN_HOUR, CELL_AN_HOUR, 3.0 * CELL_AN_HOUR])


def test_steps_of_three_hours_carry_three_times_as_far(weather: Weather) -> None:
    steps = weather(u=CELL_AN_HOUR, hours=(0, 3, 6))
    assert choose(steps, a_need(6)).reach[0] == pytest.approx(6 + spread(6), abs=0.02)


def jet(first: int, last: int) -> np.ndarray:
    """0.9 cells an hour everywhere, ten in some columns."""
    wind = np.full((EQUATOR.ny, EQUATOR.nx), 0.9)
    wind[:, first : last + 1] = 10.0
    return wind * CELL_AN_HOUR


def test_a_storm_counts_from_the_hour_in_which_particles_can_come_from_it(weather: Weather) -> None:
    # Back from column 40: 39.1, 38.2, and in the third hour column 37 is read.
    assert carried(weather(u=jet(0, 37)), a_need())[0] == pytest.approx(
        0.9 + 0.9 + 10, abs=0.15
    )  # as ARL packs a storm


@pytest.mark.parametrize("columns", [(0, 35), (42, 79)])
def test_a_storm_that_particles_cannot_reach_does_not_count(weather: Weather, columns: tuple[int, int]) -> None:
    assert carried(weather(u=jet(*columns)), a_need())[0] == pytest.approx(2.7, abs=0.15)


def test_a_storm_above_the_lid_does_not_count(weather: Weather) -> None:
    steps = weather(u=lambda hour, level: (50.0 if level >= 10 else 1.0) * CELL_AN_HOUR)
    assert carried(steps, a_need(1))[0] == pytest.approx(3.0, abs=0.02)
    assert choose(steps, a_need(3, top=3000.0)).reach[0] > 30


def test_at_sixty_degrees_the_same_wind_crosses_twice_as_many_meridians(weather: Weather) -> None:
    steps = weather(longitudes(-4.0, 58.0, 80, 40), u=CELL_AN_HOUR, v=CELL_AN_HOUR)
    reach = choose(steps, a_need(3, (0.0, 60.0, 0.0, 60.0))).reach
    assert reach[0] == pytest.approx(2 * 3 + 2 * spread(3), rel=0.02)
    assert reach[1] == pytest.approx(3 + spread(3), rel=0.02)


def test_the_release_points_lie_in_the_box_with_their_reach_around_them(weather: Weather) -> None:
    choice = choose(weather(u=CELL_AN_HOUR), a_need(3, (-0.5, -0.2, 1.0, 0.3)))
    assert choice.needed == GridWindow(40 - 5 - 3 - 3, 50 + 1 + 3 + 1, 30 - 2 - 1 - 2, 33 + 1 + 3 + 1)


def test_a_given_wind_is_taken_for_the_files_and_in_all_directions(weather: Weather) -> None:
    steps = weather(u=20.0)
    choice = choose(steps, a_need(wind=2 * CELL_AN_HOUR))
    assert [cells - spread(3) for cells in choice.reach] == pytest.approx([6] * 4, abs=0.02)
    assert choice.wind == pytest.approx([2 * CELL_AN_HOUR] * 3)


def test_files_without_wind_are_refused_unless_it_is_given(weather: Weather) -> None:
    steps = weather(left_out=["UWND", "VWND"])
    with pytest.raises(MeteorologyError, match=r"^made holds no UWND and VWND at 2019-05-30 02Z$"):
        choose(steps, a_need())
    assert choose(steps, a_need(wind=CELL_AN_HOUR)).reach[0] > 3


def test_a_wider_crop_has_twice_the_reach_and_all_levels(weather: Weather) -> None:
    steps = weather(u=CELL_AN_HOUR)
    narrow, wide = choose(steps, a_need()), choose(steps, a_need(widened=True))
    assert wide.reach == pytest.approx([2 * cells for cells in narrow.reach])
    assert (narrow.levels, wide.levels) == (7, 20)
    assert (narrow.ends["lid"], wide.ends["lid"]) == ("crop", "files")
    assert wide.window.nx > narrow.window.nx


def test_no_particle_leaves_the_box_whatever_way_the_wind_takes_it(weather: Weather) -> None:
    rng = np.random.default_rng(7)
    winds = rng.uniform(-3, 3, (2, 5, EQUATOR.ny, EQUATOR.nx)) * CELL_AN_HOUR

    def field(which: int) -> Callable[[int, int], np.ndarray]:
        return lambda hour, level: winds[which, hour]

    steps = weather(u=field(0), v=field(1), hours=range(5))
    choice = choose(steps, a_need(4, (-0.3, -0.1, 0.3, 0.2)))
    box = span_of(EQUATOR, (-0.3, -0.1, 0.3, 0.2)).grown(np.array(choice.reach))
    assert box.west > 20  # smaller than with the strongest wind at every hour
    x, y = rng.uniform(37, 43, 500), rng.uniform(29, 32, 500)
    for hour in (4, 3, 2, 1):
        for minute in range(60):
            share = minute / 60
            row, column = np.rint(y).astype(int), np.rint(x).astype(int)
            u, v = ((1 - share) * each[hour, row, column] + share * each[hour - 1, row, column] for each in winds)
            x, y = x - u * 60 / CELL, y - v * 60 / CELL
    assert (x.min() >= box.west, y.min() >= box.south, x.max() <= box.east, y.max() <= box.north) == (True,) * 4


# ---- the Earth is round


def globe(first: float) -> arlmet.Grid:
    return longitudes(first, -90.0, 72, 37, 5.0)


@pytest.mark.parametrize(("first", "box"), [(0.0, (-2.0, 0.0, 3.0, 0.0)), (-180.0, (178.0, 0.0, -177.0, 0.0))])
def test_across_a_grid_s_seam_the_crop_stays_small(weather: Weather, first: float, box: Box) -> None:
    choice = choose(weather(globe(first), u=100.0), a_need(3, box))
    # From column 71.6 back by 3 x 0.65 and 2, and from 72.6 on by 3.
    assert (choice.needed.x_start, choice.needed.x_stop) == (67, 77)
    assert (choice.ends["west"], choice.ends["east"]) == ("crop", "crop")


@pytest.mark.parametrize("lon", [-3.999, 0.0, 356.0 - 360.0 + 7.8])
def test_a_place_has_one_column_however_its_longitude_is_counted(lon: float) -> None:
    span = span_of(EQUATOR, (lon, 0.0, lon, 0.0))
    assert span.west == span.east == pytest.approx((lon + 4) * 10, abs=1e-6)


def test_a_place_just_west_of_a_grid_lies_just_west_of_it() -> None:
    assert span_of(EQUATOR, (-4.5, 0.0, -3.5, 0.0)).west == pytest.approx(-5)
    across = span_of(longitudes(-180.0, -3.0, 80, 60), (179.5, 0.0, -179.5, 0.0))
    assert (across.west, across.south, across.east, across.north) == pytest.approx((-5, 30, 5, 30))


def test_a_wind_around_the_earth_needs_all_of_it_and_ends_nowhere(weather: Weather) -> None:
    choice = choose(weather(globe(0.0), u=140.0, hours=range(0, 90, 3)), a_need(87, (10.0, 0.0, 10.0, 0.0)))
    assert (choice.needed.x_start, choice.needed.nx) == (0, 72)
    assert (choice.ends["west"], choice.ends["east"]) == ("none", "none")


def test_near_a_pole_lie_all_longitudes(weather: Weather) -> None:
    choice = choose(weather(globe(0.0), v=-140.0), a_need(3, (10.0, 83.0, 10.0, 83.0)))
    assert (choice.needed.nx, choice.needed.y_stop) == (72, 37)
    assert choice.needed.y_start == 31  # 34.6 + 2.7 + 3 is 4.3 rows beyond row 36: row 31.7 on the other side


def test_a_release_box_around_the_earth_is_all_columns() -> None:
    span = span_of(globe(0.0), (-180.0, 0.0, 180.0, 10.0))
    assert span.east - span.west == pytest.approx(72)


def test_a_lambert_grid_s_cells_are_as_large_as_it_says_where_it_touches_the_earth() -> None:
    size = cell_size(lambert(30, 20))
    assert size.shape == (2, 20, 30)
    assert size[:, 10, 15] == pytest.approx(3000, rel=1e-3)
    assert cell_size(EQUATOR)[:, 30, 40] == pytest.approx(CELL, rel=1e-5)
    assert cell_size(longitudes(0.0, 60.0, 4, 3))[:, 0, 2] == pytest.approx([CELL / 2, CELL], rel=1e-5)


def test_a_box_that_the_files_do_not_reach_is_told() -> None:
    with pytest.raises(MeteorologyError, match="does not reach the pixels: its cells are 80x60"):
        window_of(EQUATOR, Span(90, 10, 95, 12))


# ---- what is worth a cut


def test_a_crop_that_leaves_out_less_than_half_is_not_made(weather: Weather) -> None:
    grid = longitudes(-1.5, -1.0, 30, 40)  # 1200 cells
    needs = {rows: choose(weather(grid), a_need(1, (-0.8, -0.5, 1.0, -0.5 + rows / 10))) for rows in (10, 24)}
    assert needs[10].window == needs[10].needed
    assert needs[10].window.nx * needs[10].window.ny <= 600
    assert needs[24].needed.nx * needs[24].needed.ny in range(601, 1200)
    assert needs[24].window == grid.full_window()
    assert {needs[24].ends[side] for side in ("west", "south", "east", "north")} == {"files"}


def test_a_small_crop_is_as_large_as_arl_s_index_needs(weather: Weather) -> None:
    steps = weather(hours=(0, 1))
    choice = choose(steps, a_need(1))
    assert choice.levels == 5
    assert cells_needed(steps, 5) == 108 + 8 * (5 + 4 + 4 * 5)  # ground, then TEMP, UWND, VWND, WWND and DIFW
    assert choice.needed.nx * choice.needed.ny < 340 <= choice.window.nx * choice.window.ny < 480


def test_the_real_files_need_1628_cells(shared: Path) -> None:
    with arlmet.File(shared / "data" / "hrrr" / "20190530_00-05_hrrr") as file:
        assert cells_needed([file[time] for time in file.times], 20) == 1628


def test_a_side_where_the_files_end_is_theirs_though_the_rest_is_cropped(weather: Weather) -> None:
    choice = choose(weather(u=CELL_AN_HOUR), a_need(3, (-3.9, 0.0, -3.9, 0.0)))
    assert choice.ends == {"west": "files", "south": "crop", "east": "crop", "north": "crop", "lid": "crop"}
    assert choice.window.x_start == 0


# ---- levels


@pytest.mark.parametrize(
    ("hours_back", "top", "depth", "levels"),
    [
        (1, 10.0, 300.0, 2 + 3),  # 1.5 x 300 + 450 = 900 m: 1000 m and what of it a lid changes, two levels
        (1, 10.0, 100.0, 2 + 3),  # 600 m
        (1, 10.0, 20.0, 1 + 3),  # 480 m
        (2, 10.0, 300.0, 3 + 3),  # 1350 m
        (1, 2500.0, 300.0, 6 + 3),  # 2950 m
        (1, 10.0, 2000.0, 7 + 3),  # 3450 m
        (1, 4500.0, 10.0, 10 + 3),  # 4950 m
        (1, 5500.0, 10.0, 12 + 3),  # 5950 m; a quarter is left out
        (1, 6000.0, 10.0, 20),  # 16 would do: too little to leave out
        (1, 9400.0, 10.0, 20),
    ],
)
def test_levels_reach_above_mixed_layer_and_release_with_room_to_rise(
    weather: Weather, hours_back: int, top: float, depth: float, levels: int
) -> None:
    choice = choose(weather(PBLH=depth), a_need(hours_back, top=top))
    assert choice.levels == levels
    assert choice.mixed_layer == pytest.approx(depth)
    assert choice.heights == pytest.approx(EVERY_500_M, abs=0.6)
    assert choice.ends["lid"] == ("crop" if levels < 20 else "files")


def test_sixteen_levels_that_would_do_are_told_though_twenty_are_kept(weather: Weather) -> None:
    assert choose(weather(), a_need(1, top=6000.0)).levels_needed == 16


def test_the_deepest_mixed_layer_of_box_and_hours_counts_and_none_beyond(weather: Weather) -> None:
    deep = np.full((EQUATOR.ny, EQUATOR.nx), 300.0)
    deep[30, 39] = 2000.0
    far = np.full((EQUATOR.ny, EQUATOR.nx), 300.0)
    far[30, 5] = 2000.0

    def early(field: np.ndarray) -> Callable[[int, int], float | np.ndarray]:
        return lambda hour, level: field if hour == 0 else 300.0

    assert choose(weather(PBLH=early(deep)), a_need(1)).levels == 10
    assert choose(weather(PBLH=early(far)), a_need(1)).levels == 5


def test_the_lowest_place_of_a_level_counts(weather: Weather) -> None:
    cold = np.full((EQUATOR.ny, EQUATOR.nx), 1000.0)
    cold[31, 41] = 500.0  # hPa at the ground changes no height; the warmth of the layer does
    assert choose(weather(PRSS=cold), a_need(1)).heights == pytest.approx(EVERY_500_M, abs=0.6)


@pytest.mark.parametrize("missing", ["PBLH", "PRSS", "TEMP"])
def test_without_what_the_rule_needs_all_levels_stay(weather: Weather, missing: str) -> None:
    choice = choose(weather(left_out=[missing]), a_need(1))
    assert (choice.levels, choice.levels_needed) == (20, 20)
    assert (choice.mixed_layer is None, choice.heights == ()) == (missing == "PBLH", missing != "PBLH")


def test_a_mixed_layer_that_is_missing_in_one_hour_is_missing(weather: Weather) -> None:
    choice = choose(weather(PBLH=lambda hour, level: np.nan if hour == 1 else 300.0), a_need(1))
    assert (choice.levels, choice.mixed_layer) == (20, None)


@pytest.mark.parametrize(
    "axis", [arlmet.SigmaAxis, arlmet.HybridAxis, arlmet.PressureAxis, arlmet.TerrainAxis, arlmet.WrfAxis]
)
def test_heights_are_the_same_on_every_kind_of_level(weather: Weather, axis: type[arlmet.VerticalAxis]) -> None:
    step = weather(axis=axis)[0]
    heights = level_heights(step, GridWindow(3, 8, 2, 6))
    assert heights is not None
    assert heights.shape == (20, 4, 5)
    assert heights[:, 1, 2] == pytest.approx(EVERY_500_M, abs=60 if axis is arlmet.WrfAxis else 1.5)
    assert choose(weather(axis=axis), a_need(1)).levels == 5


@pytest.mark.parametrize(
    ("axis", "missing"), [(arlmet.PressureAxis, "HGTS"), (arlmet.PressureAxis, "SHGT"), (arlmet.WrfAxis, "PRES")]
)
def test_heights_that_the_files_do_not_tell_are_none(
    weather: Weather, axis: type[arlmet.VerticalAxis], missing: str
) -> None:
    assert level_heights(weather(axis=axis, left_out=[missing])[0], GridWindow(0, 2, 0, 2)) is None


def test_real_heights_are_those_of_arlmet_but_for_the_moisture(shared: Path) -> None:
    path = shared / "data" / "hrrr" / "20190530_00-05_hrrr"
    with arlmet.File(path) as file:
        heights = level_heights(file["2019-05-30T02"], file.grid.full_window())
    with arlmet.open_dataset(path) as dataset:
        theirs = arlmet.z_agl(dataset).sel(time="2019-05-30T02").transpose("level", ...).to_numpy()
    assert heights is not None
    assert np.abs(heights[5:] / theirs[4:] - 1).max() < 0.01


def test_real_files_keep_all_levels_for_a_column_of_which_twelve_gave_no_particles(shared: Path) -> None:
    with arlmet.File(shared / "data" / "hrrr" / "20190530_06-11_hrrr") as file:
        choice = choose([file[time] for time in file.times], a_need(5, (-112.0, 40.7, -112.0, 40.7), 2500.0))
    assert choice.heights[11] < 2500 < choice.heights[19]  # level 11 is the lid of 12
    assert choice.levels == 20


def test_winds_are_told_by_where_they_blow_to_and_missing_ones_blow_nowhere(weather: Weather) -> None:
    def u(hour: int, level: int) -> float:
        return {1: 3.0, 2: -5.0, 3: np.nan}.get(level, 9.0)

    step = weather(u=u, v=-2.0)[0]
    wind = strongest_wind(step, GridWindow(0, 2, 0, 3), 4)
    assert wind.shape == (4, 3, 2)
    assert wind[:, 0, 0] == pytest.approx([5, 2, 3, 0])
    assert wind.max() < FASTEST


def test_the_mixed_layer_has_two_names(weather: Weather) -> None:
    step = weather(left_out=["PBLH"], HPBL=700.0)[0]
    assert mixed_layer(step, GridWindow(0, 2, 0, 2)) == pytest.approx(700)


def test_hysplit_ends_particles_before_the_grid_does() -> None:
    assert [cells + NEAR for cells in ENDS_BEFORE] == [2, 2, 3, 3]
