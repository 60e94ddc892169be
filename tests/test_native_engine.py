"""Particles in made-up air: what chance, wind and turbulence do to them can be done by hand."""

import importlib
import pkgutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numba import jit
from numba.core.errors import NumbaError
from scipy import stats

from stilt_assets.transport import native
from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.draws import even, normal, slab_height, stream_of
from stilt_assets.transport.native.engine import (
    MOLAR_MASS,
    Flight,
    Met,
    fly_back,
    fly_minute,
    fly_still,
    new_flight,
    start,
)
from stilt_assets.transport.native.geometry import to_degrees, to_grid
from stilt_assets.transport.native.layout import HEIGHTS
from stilt_assets.transport.native.winds import over_ground, place_of
from tests.made_air import FIRST, NX, NY, PROJECTION, made_air

SEED = np.uint64(11)
RELEASE = FIRST + 120


def test_compiled_code_that_makes_no_arrays_counts_no_references():
    options: dict[str, Any] = over_ground.targetoptions | {"cache": False}
    anew = jit(**options)(over_ground.py_func)
    met = made_air()
    assert anew(met, met.depth, place_of(met, 20.3, 14.6), 0) == 1.0
    assert all("NRT_" not in code for code in anew.inspect_llvm().values())


def test_code_that_counts_no_references_calls_none_that_does():
    compiled_ones = {
        function.py_func: function
        for module in pkgutil.iter_modules(native.__path__, f"{native.__name__}.")
        for function in vars(importlib.import_module(module.name)).values()
        if hasattr(function, "py_func")
    }
    assert len(compiled_ones) > 70
    for code, function in compiled_ones.items():
        called = [code.__globals__.get(name) for name in code.__code__.co_names]
        for other in (each for each in called if hasattr(each, "py_func")):
            assert function.targetoptions["_nrt"] or not other.targetoptions["_nrt"], (code, other)


def test_code_that_makes_arrays_without_saying_so_is_not_compiled():
    @compiled
    def zeros(count):  # of this test alone: numba would take the code of a function that was kept as it allocates
        return np.zeros(count)

    with pytest.raises(NumbaError, match="array passed into the function"):
        zeros(3)


def released(met: Met, heights: np.ndarray, x: float = 20.3, y: float = 14.6, seed: np.uint64 = SEED) -> Flight:
    flight = new_flight(len(heights))
    lon, lat = to_degrees(x, y, met.projection)
    for i, height in enumerate(heights):
        assert start(met, flight, i, seed, lon, lat, height, RELEASE)
    return flight


@compiled(allocates=True)
def draws_of(seed, particles, minutes, count):
    """Normal numbers (particle, minute, count)."""
    numbers = np.empty((particles, minutes, count))
    for i in range(particles):
        for minute in range(minutes):
            stream = stream_of(seed, np.uint64(i), np.uint64(minute))
            for n in range(count):
                stream, numbers[i, minute, n] = normal(stream)
    return numbers


def test_draws_are_normal_and_those_of_particles_minutes_and_receptors_have_nothing_to_do_with_each_other():
    numbers, others = draws_of(SEED, 60, 50, 100), draws_of(np.uint64(12), 60, 50, 100)
    assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
    assert np.abs(numbers).max() > 4.3  # the tail is there: beyond it lie 5 of 300,000
    for one, two in (
        (numbers[1:], numbers[:-1]),
        (numbers[:, 1:], numbers[:, :-1]),
        (numbers[..., 1:], numbers[..., :-1]),
        (numbers, others),
    ):
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 4 / np.sqrt(one.size)


def test_even_draws_fill_the_open_unit_interval():
    stream, numbers = stream_of(SEED, np.uint64(0), np.uint64(0)), []
    for _ in range(2000):
        stream, number = even(np.uint64(stream))
        numbers.append(number)
    assert 0 < min(numbers) < 2e-3
    assert 1 - 2e-3 < max(numbers) < 1
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3


def test_a_column_s_particles_start_each_in_its_own_slab_and_the_top_slab_stays_empty():
    heights = np.array([slab_height(SEED, i, 7, 100.0, 900.0) for i in range(7)])
    assert list((heights - 100.0) // 100.0) == list(range(7))
    assert len(set((heights % 100.0).round(6))) == 7


def test_the_wind_carries_back_by_its_cells_and_slows_down_towards_the_ground():
    met = made_air(wind=(0.05, -0.02, 0.0))
    flight = released(met, np.array([5.0, 10.0, 2000.0]))
    for age in range(60):
        assert fly_still(met, flight, RELEASE - age) == 3
    np.testing.assert_allclose(flight.x, 20.3 - 3.0 * np.array([0.5, 1.0, 1.0]), atol=1e-5)
    np.testing.assert_allclose(flight.y, 14.6 + 1.2 * np.array([0.5, 1.0, 1.0]), atol=1e-5)
    np.testing.assert_allclose(flight.zagl, [5.0, 10.0, 2000.0])
    np.testing.assert_allclose(
        [to_grid(*at, PROJECTION)[0] for at in zip(flight.lon, flight.lat, strict=True)], flight.x
    )


def test_a_gust_that_grows_with_height_goes_with_the_quadratic_index_of_levels():
    met = made_air()
    met.wind[:, 3, 0], met.wind[:, 4, 0] = 0.01, 0.02
    middle = 30 * 4.5**2 - 25 * 4.5 + 5
    assert HEIGHTS[3] < middle < (HEIGHTS[3] + HEIGHTS[4]) / 2
    flight = released(met, np.array([middle]))
    fly_still(met, flight, RELEASE)
    assert 20.3 - flight.x[0] == pytest.approx(0.015, rel=1e-5)


def test_wind_between_two_times_is_the_mean_of_both_ends_of_a_minute():
    met = made_air()
    met.wind.reshape(3, -1, 30, 4)[2, :, :, 0] = 0.06
    flight = released(met, np.array([2000.0]))
    fly_still(met, flight, RELEASE)
    assert 20.3 - flight.x[0] == pytest.approx(0.06 * (1 + 59 / 60) / 2, rel=1e-5)


def test_a_particle_s_last_row_is_the_one_beyond_the_edge():
    met = made_air(wind=(0.25, 0.0, 0.0))
    flight, rows = released(met, np.array([2000.0]), x=1.6), []
    for age in range(9):
        if fly_minute(met, flight, SEED, age, RELEASE - age):
            rows.append(flight.x[0])
    np.testing.assert_allclose(rows, [1.35, 1.1, 0.85], atol=0.01)
    flight = new_flight(1)
    for x, y, fits in ((0.9, 9.0, False), (1.1, 9.0, True), (NX - 2.9, 9.0, False), (NX - 3.1, NY - 3.1, True)):
        assert start(met, flight, 0, SEED, *to_degrees(x, y, PROJECTION), 10.0, RELEASE) == fits


def test_turbulence_spreads_particles_from_the_first_minute_as_its_memory_says():
    met = made_air(mixed_layer=9000.0, sigma=0.4, timescale=200.0)
    # 9.95 km to 11.9 km: one layer, so that nothing but the process itself is seen.
    met.turbulence[:] = (0.4, 200.0)
    count = 4000
    flight = released(met, np.full(count, 7000.0))
    steps, seen = [20.0, 10.0], []
    for age in range(6):
        fly_minute(met, flight, SEED, age, RELEASE - age)
        seen.append(np.var(flight.zagl))
    assert np.mean(flight.ratio**2) == pytest.approx(1.05, abs=0.1)
    variance, ratios, expected = 0.0, np.array([1.0]), []
    covariance, moved = 0.0, 0.0
    for _ in range(6):
        for step in (*steps, *steps):
            share = step / 200.0
            spread = ratios[0] * (1 - share) ** 2 + 2 * share
            covariance = covariance * (1 - share)
            variance += 2 * (covariance * 0.4 * step) + spread * (0.4 * step) ** 2
            covariance += spread * 0.4 * step
            ratios[0], moved = spread, moved + step
        expected.append(variance)
    np.testing.assert_allclose(seen, expected, rtol=4 * np.sqrt(2 / count))


def test_the_first_gusts_are_those_of_where_the_first_minute_brings_a_particle():
    # From 20 m, where gusts are weak, the mean wind has brought it in from 420 m, where they are strong.
    met = made_air(wind=(0.0, 0.0, -400.0), mixed_layer=150.0, profile=(0.02, 0.02, 0.02), above=(0.6, 1e6))
    count = 2000
    flight = released(met, np.full(count, 20.0))
    fly_minute(met, flight, SEED, 0, RELEASE)
    assert flight.zagl.mean() == pytest.approx(420.0, abs=5.0)
    for gusts in (flight.gust_x, flight.gust_y):
        assert np.std(gusts) == pytest.approx(np.sqrt(0.5) * 0.6, rel=4 / np.sqrt(2 * count))


@pytest.mark.parametrize("profile", [(0.1, 0.4, 1.0, 0.3, 0.7), (0.6, 0.2, 0.2, 0.9, 0.05)])
def test_a_mixed_column_stays_mixed_for_a_day(profile):
    met = made_air(mixed_layer=1700.0, profile=profile, timescale=60.0, above=(0.3, 100.0), scale_height=3000.0)
    count = 1500
    top = 6000.0
    met.turbulence[:, 16:] = (0.0, 1e6)  # a lid: no air passes where nothing moves
    lid = HEIGHTS[15]
    # Equally many particles in equal masses of air: density falls with exp(-z / 3000 m).
    even_mass = (np.arange(count) + 0.5) / count
    heights = -3000.0 * np.log(1 - even_mass * (1 - np.exp(-top / 3000.0)))
    flight = released(met, heights)
    for age in range(24 * 60):
        fly_minute(met, flight, SEED, age, RELEASE - age % 60)  # an hour like all others
    assert flight.zagl.max() <= lid
    return_to_mass = (1 - np.exp(-flight.zagl / 3000.0)) / (1 - np.exp(-top / 3000.0))
    assert (
        stats.kstest(
            return_to_mass[flight.zagl < 3000.0] / return_to_mass[flight.zagl < 3000.0].max(), "uniform"
        ).pvalue
        > 1e-3
    )


def test_influence_is_time_near_the_ground_over_the_air_that_shares_it():
    met = made_air(mixed_layer=600.0, sigma=0.001, above=(0.001, 100.0), timescale=1000.0)
    flight = released(met, np.array([20.0, 450.0]))
    fly_minute(met, flight, SEED, 0, RELEASE)
    # 300 m lie between the levels 3 and 4; full stairs have the density of their upper level, the last of its lower.
    low, density = np.array([0.0, *HEIGHTS[:3]]), 1.2 * np.exp(-np.array(HEIGHTS[:3]) / 8000.0)
    air = np.sum(density * np.diff(low)) + density[-1] * (300.0 - low[-1])
    np.testing.assert_allclose(flight.foot, [60 * MOLAR_MASS / air, 0.0], rtol=1e-5)
    np.testing.assert_allclose(flight.samt, [1.0, 0.0])
    np.testing.assert_allclose(flight.mlht, 600.0)


def test_flights_are_the_same_for_any_number_of_threads_and_any_order_of_receptors():
    met = made_air(wind=(0.03, 0.02, 0.0), profile=(0.2, 0.6))

    def fly(receptor: int) -> bytes:
        flight = released(met, np.linspace(5, 2000, 50), x=12.0 + receptor, seed=np.uint64(receptor))
        fly_back(met, flight, np.uint64(receptor), RELEASE, 30)
        return b"".join(np.asarray(values).tobytes() for values in flight)

    alone = [fly(receptor) for receptor in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fly, reversed(range(6))))
    assert together == alone[::-1]
    assert len(set(alone)) == 6
