"""Particles become cells: each foot in the cell and the UTC hour that one finds with a finger on the map."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stilt_assets.footprint import grid_particles, mc_error
from stilt_assets.grid import Grid
from stilt_assets.particles import CORE, FULL, column_weights, endpoints_of, kept_form, releases_of
from stilt_assets.receptor import Kernel, Receptor

GRID = Grid(west=-2.0, south=10.0, east=1.0, north=12.0, resolution=0.5)  # 4 rows, 6 columns
PACIFIC = Grid(west=179.0, south=10.0, east=-178.0, north=12.0, resolution=0.5)  # the same, 181 degrees further east
# particle, age (min), lon, lat, foot: in the south-west row 1 column 0, twice row 3 column 5, row 0 column 2
LOPSIDED = [
    (1, -1, -1.75, 10.75, 8.0),
    (2, -58, 0.75, 11.75, 4.0),
    (3, -59, 0.75, 11.75, 2.0),
    (4, -119, -0.75, 10.1, 1.0),
]
OMEGA = np.array([0.5, 0.25, 0.125, 0.0625])


def table(rows: list[tuple[float, ...]], **more: Any) -> pd.DataFrame:
    particles = pd.DataFrame(rows, columns=["particle", "age", "lon", "lat", "foot"]).astype(float)
    return particles.assign(**({"zagl": 10.0, "pres": 900.0} | more))


def released(minute: int, hour: int = 9, lon: float = -1.9) -> Receptor:
    return Receptor(0, datetime(2019, 5, 30, hour, minute, tzinfo=UTC), lon, 10.6, 0.0, 2500.0)


def gridded(
    rows: list[tuple[float, ...]], omega: np.ndarray, receptor: Receptor, grid: Grid = GRID
) -> dict[tuple[int, int, int], float]:
    """Foot by (hours back, row, column)."""
    releases = {"particle": np.arange(1, len(omega) + 1, dtype="i2")}
    cells = grid_particles(kept_form(table(rows), full=False), releases, omega, receptor, grid)
    assert (cells.hour.dtype, cells.y.dtype, cells.x.dtype, cells.foot.dtype) == ("i1", "i2", "i2", "f4")
    places = list(zip(cells.hour.tolist(), cells.y.tolist(), cells.x.tolist(), strict=True))
    assert len(set(places)) == len(places)
    assert places == sorted(places, key=lambda place: (-place[0], *place[1:]))
    return dict(zip(places, cells.foot.tolist(), strict=True))


def test_in_still_air_all_influence_stays_in_the_receptors_own_cell() -> None:
    rows = [(p, -age, -1.9, 10.6, 0.25 * p) for p in (1, 2, 3) for age in range(1, 121)]
    # hour 9 has the 58 minutes to 09:58, hour 8 sixty, hour 7 two; each minute 0.5 * 0.25 + 0.25 * 0.5 + 0.125 * 0.75
    minute = 0.34375
    expected = {(2, 1, 0): 2 * minute, (1, 1, 0): 60 * minute, (0, 1, 0): 58 * minute}
    assert gridded(rows, OMEGA[:3], released(58)) == pytest.approx(expected, rel=1e-6)


def test_a_release_at_0958_counts_each_foot_in_its_own_cell_and_utc_hour() -> None:
    # 09:57 and 09:00 are of the hour 9, 08:59 of 8, 07:59 of 7; foot times omega
    expected = {(2, 0, 2): 0.0625, (1, 3, 5): 0.25, (0, 1, 0): 4.0, (0, 3, 5): 1.0}
    assert gridded(LOPSIDED, OMEGA, released(58)) == expected


def test_a_release_on_the_hour_counts_that_hours_start_with_the_hour_before() -> None:
    rows = [(1, -60, -1.75, 10.75, 8.0), (2, -61, 0.75, 11.75, 4.0), (3, -120, 0.75, 11.75, 2.0), (4, -121, 0, 10, 1)]
    expected = {(2, 0, 4): 0.0625, (1, 3, 5): 1.25, (0, 1, 0): 4.0}  # 09:00; 08:59 and 08:00; 07:59
    assert gridded(rows, OMEGA, released(0, hour=10)) == expected


def test_a_release_at_one_past_leaves_one_minute_to_its_own_hour() -> None:
    rows = [(1, -1, -1.75, 10.75, 8.0), (2, -2, 0.75, 11.75, 4.0)]
    assert gridded(rows, OMEGA[:2], released(1, hour=10)) == {(1, 3, 5): 1.0, (0, 1, 0): 4.0}


def test_a_cell_holds_its_west_and_south_edges() -> None:
    rows = [(1, -1, -1.5, 10.5, 1.0), (2, -1, 1.0, 10.5, 1.0), (3, -1, -2.0, 10.0, 1.0), (4, -1, -1.5, 12.0, 1.0)]
    assert gridded(rows, OMEGA, released(58)) == {(0, 0, 0): 0.125, (0, 1, 1): 0.5}  # 1.0 E and 12.0 N lie outside


def test_a_particle_that_never_touches_the_ground_still_counts_as_released() -> None:
    rows = [*LOPSIDED[:1], (2, -1, 0.75, 11.75, 0.0)]
    assert gridded(rows, OMEGA[:2], released(58)) == {(0, 1, 0): 4.0}


def test_nothing_in_the_grid_is_an_empty_footprint() -> None:
    assert gridded([(1, -1, 5.0, 10.75, 8.0), (2, -1, -1.75, 40.0, 4.0)], OMEGA[:2], released(58)) == {}
    assert gridded([(1, -1, -1.75, 10.75, 0.0), (2, -1, -1.75, 10.75, 0.0)], OMEGA[:2], released(58)) == {}


def test_across_the_antimeridian_the_world_is_the_same_as_anywhere_else() -> None:
    there = [(p, age, (lon + 181.0 + 180.0) % 360.0 - 180.0, lat, foot) for p, age, lon, lat, foot in LOPSIDED]
    assert {lon < 0 for _, _, lon, _, _ in there} == {True, False}
    here = gridded(LOPSIDED, OMEGA, released(58))
    assert gridded(there, OMEGA, released(58, lon=179.1), PACIFIC) == here
    releases = {"particle": np.arange(1, 5, dtype="i2")}
    errors = [
        mc_error(kept_form(table(rows), full=False), releases, OMEGA, grid)
        for rows, grid in ((LOPSIDED, GRID), (there, PACIFIC))
    ]
    assert errors == [4.0 + 0.25 - 1.0 - 0.0625] * 2


def test_the_minute_of_release_moves_influence_between_hours_and_not_between_cells_in_a_fast_wind() -> None:
    """1.5 cells a minute: where STILT may interpolate tracks, which it does by the age of particles."""
    fine = Grid(west=-1.0, south=-1.0, east=3.0, north=1.0, resolution=0.02)
    rows = [(p, -age, 0.03 * age + 0.002 * p, 0.001 * p * age, 1e-3 / age) for p in range(1, 6) for age in range(1, 91)]
    maps = []
    for minute in (0, 1, 30, 58):
        flat = np.zeros(fine.shape)
        for (_, y, x), foot in gridded(rows, np.full(5, 0.2), released(minute, lon=0.0), fine).items():
            flat[y, x] += foot
        maps.append(flat)
    assert all(each == pytest.approx(maps[0], rel=1e-6) for each in maps[1:])
    assert maps[0].sum() == pytest.approx(1e-3 * sum(1 / age for age in range(1, 91)), rel=1e-3)


# ---- weights


def column() -> pd.DataFrame:
    """A column whose air thins by half each kilometre, 1000 hPa at the ground; particles 1, 2, 3 from 2, 3 and 1 km."""
    heights = {1: (2000.0, 2500.0), 2: (3000.0, 3000.0), 3: (1000.0, 500.0)}  # released at, found after a minute at
    rows = []
    for age in (-2, -1):
        for particle, (release, found) in heights.items():
            zagl = found if age == -1 else 4000.0
            rows.append((particle, age, 0.0, 10.5, 1.0, zagl, 1000.0 * 0.5 ** (zagl / 1000.0), release))
    names = ["particle", "age", "lon", "lat", "foot", "zagl", "pres", "release_height"]
    return pd.DataFrame(rows, columns=names).astype(float)


def test_weights_are_the_slabs_share_of_the_air_and_sum_to_what_lies_below_the_top() -> None:
    releases = releases_of(column())
    # 500, 250, 125 hPa at the release heights: edges 1000, 375, 187.5, and 62.5 as far above 125 as 187.5 lies below
    assert releases["particle"].tolist() == [1, 2, 3]
    assert releases["weight"] == pytest.approx([0.1875, 0.125, 0.625])
    assert releases["weight"].sum() == pytest.approx((1000.0 - 62.5) / 1000.0)
    assert releases["surface_pressure"] == pytest.approx([1000.0] * 3)
    assert releases["release_height"].tolist() == [2000.0, 3000.0, 1000.0]
    assert releases["release_pressure"] == pytest.approx([1000 * 0.5**2.5, 125.0, 1000 * 0.5**0.5])


def test_each_particle_has_its_own_weight_in_whatever_order_the_rows_come() -> None:
    expected = releases_of(column())
    for seed in range(3):
        shuffled = releases_of(column().sample(frac=1.0, random_state=seed))
        assert all(shuffled[name] == pytest.approx(expected[name]) for name in expected)


def test_a_particle_first_seen_a_minute_later_keeps_its_own_weight() -> None:
    particles = column()
    particles.loc[particles["particle"] == 1, "age"] -= 1
    particles.loc[particles["particle"] == 1, "zagl"] = 2500.0
    particles["pres"] = 1000.0 * 0.5 ** (particles["zagl"] / 1000.0)
    assert releases_of(particles)["weight"] == pytest.approx([0.1875, 0.125, 0.625])


def test_the_kernel_is_read_at_the_pressure_scaled_to_the_retrievals_surface() -> None:
    releases = {
        "particle": np.array([1, 2, 3, 4], "i2"),
        "release_pressure": np.array([250.0, 125.0, 500.0, 1100.0]),
        "weight": np.array([0.1, 0.2, 0.4, 0.8]),
        "surface_pressure": np.full(4, 1000.0),
    }
    # scaled by 800 / 1000: 200, 100, 400 and 880 hPa
    surface_first = Kernel(np.array([800.0, 400.0, 200.0]), np.array([1.0, 2.0, 4.0]), 800.0)
    expected = [0.1 * 4.0, 0.2 * 4.0, 0.4 * 2.0, 0.8 * 1.0]  # beyond its ends the kernel keeps its end values
    assert column_weights(releases, surface_first) == pytest.approx(expected)
    top_first = Kernel(surface_first.pressure[::-1], surface_first.value[::-1], 800.0)
    assert column_weights(releases, top_first) == pytest.approx(expected)
    between = Kernel(np.array([800.0, 0.0]), np.array([1.0, 0.0]), 800.0)
    assert column_weights(releases, between) == pytest.approx([0.1 * 0.25, 0.2 * 0.125, 0.4 * 0.5, 0.8 * 1.0])


# ---- what is kept


def test_what_is_kept_is_exact_in_fixed_point_and_sorted_by_hour_particle_and_age() -> None:
    rows = [(2, -61, -111.9101, 40.6601, 0.1), (1, -60, 179.9999, -0.0001, 0.2), (1, -61, -0.0003, 89.9999, 0.3)]
    rows += [(2, -1, 12.3457, 7.0007, 0.4), (1, -1, -180.0, 40.7, 0.5)]
    particles = table(rows, zagl=[3.4, 3.6, 24_999.0, 7.0, 8.0], pres=[868.68, 1013.25, 0.04, 900.0, 850.05])
    kept = kept_form(particles, full=False)
    assert {name: values.dtype for name, values in kept.items()} == CORE
    assert list(zip(kept["particle"], kept["age"], strict=True)) == [(1, -1), (1, -60), (2, -1), (1, -61), (2, -61)]
    assert kept["lon"].tolist() == [-1_800_000, 1_799_999, 123_457, -3, -1_119_101]
    assert kept["lat"].tolist() == [407_000, -1, 70_007, 899_999, 406_601]
    assert (kept["lon"] / 10_000).tolist() == [-180.0, 179.9999, 12.3457, -0.0003, -111.9101]  # no bit is lost
    assert kept["zagl"].tolist() == [8, 4, 7, 24_999, 3]
    assert kept["pressure"].tolist() == [8500, 10132, 9000, 0, 8687]
    assert kept["foot"].tolist() == np.array([0.5, 0.2, 0.4, 0.3, 0.1], "f4").tolist()


def test_full_keeps_what_the_near_field_correction_was_made_of() -> None:
    extra = {name: [float(place), place + 0.5] for place, name in enumerate(FULL.keys() - CORE.keys())}
    kept = kept_form(table([(2, -1, 0.0, 10.0, 1.0), (1, -1, 0.0, 10.0, 1.0)], **extra), full=True)
    assert {name: values.dtype for name, values in kept.items()} == FULL
    assert all(kept[name].tolist() == values[::-1] for name, values in extra.items())


def test_endpoints_are_last_rows_beside_their_own_release() -> None:
    rows = [(3, -1, 3.1, 13.1, 1.0), (3, -2, 3.2, 13.2, 1.0), (1, -1, 1.1, 11.1, 1.0), (2, -1, 2.1, 12.1, 1.0)]
    rows += [(1, -119, 1.2, 11.2, 1.0), (1, -61, 1.3, 11.3, 1.0), (2, -60, 2.2, 12.2, 1.0)]
    kept = kept_form(table(rows, zagl=[1, 2, 3, 4, 5, 6, 7], pres=[901, 902, 903, 904, 905, 906, 907]), full=False)
    releases = {"particle": np.array([3, 1, 2], "i2"), "weight": np.array([0.3, 0.1, 0.2])}
    ends = {name: values.tolist() for name, values in endpoints_of(kept, releases).items()}
    assert ends == {
        "particle": [1, 2, 3],
        "age": [-119, -60, -2],
        "lon": [12_000, 22_000, 32_000],
        "lat": [112_000, 122_000, 132_000],
        "zagl": [5, 7, 2],
        "pressure": [9050, 9070, 9020],
        "weight": [0.1, 0.2, 0.3],
    }


def test_mc_error_is_the_difference_between_odd_and_even_particles_inside_the_grid() -> None:
    rows = [*LOPSIDED, (1, -2, -1.75, 10.75, 16.0), (1, -3, 5.0, 10.75, 99.0), (2, -3, 0.75, 12.0, 99.0)]
    releases = {"particle": np.arange(1, 5, dtype="i2")}
    # odd: 0.5 * (8 + 16) + 0.125 * 2; even: 0.25 * 4 + 0.0625 * 1
    assert mc_error(kept_form(table(rows), full=False), releases, OMEGA, GRID) == 12.25 - 1.0625
    assert (
        mc_error(kept_form(table(LOPSIDED[:2]), full=False), {"particle": np.array([2, 1])}, OMEGA[1::-1], GRID) == 3.0
    )
