"""Two models agree if they differ as two runs of one model do, and by no more."""

import numpy as np
import pytest

from stilt_assets.agreement import Sample, judge, variance_of_sum, z_of
from stilt_assets.grid import Grid


def test_the_variance_of_a_sum_comes_from_neighbours() -> None:
    # (5 - 1)^2 + (2 - 3)^2 = 17; a fifth particle adds a quarter.
    assert variance_of_sum(np.array([5.0, 1.0, 2.0, 3.0])) == pytest.approx(17.0)
    assert variance_of_sum(np.array([5.0, 1.0, 2.0, 3.0, 9.0])) == pytest.approx(17.0 * 5 / 4)
    # What changes from height to height is no chance.
    assert variance_of_sum(np.repeat(np.arange(50.0), 2)) == 0.0


def test_a_difference_is_measured_in_its_standard_error() -> None:
    ours, theirs = np.array([3.0, 1.0]), np.array([2.0, 0.0, 2.0, 0.0])
    # means 2 and 1, variances of the means 4 / 4 and (4 + 4) / 16
    assert z_of(ours, theirs) == pytest.approx(1.0 / np.sqrt(1.0 + 0.5))
    assert z_of(np.zeros(4), np.zeros(6)) == 0.0
    assert z_of(np.ones(4), np.full(6, 2.0)) < -1e6


HOURS, PARTICLES = 3, 300
HEIGHT = (np.arange(PARTICLES) + 0.5) / PARTICLES * 2000.0


def a_sample(seed: int, *, times: float | list[float] = 1.0, east: float = 0.0, spread: float = 1.0) -> Sample:
    """Particles of a column: the lower, the more often they feel the ground."""
    chance = np.random.default_rng(seed)
    feels = chance.random((PARTICLES, HOURS)) < 0.6 * np.exp(-HEIGHT / 400.0)[:, None]
    foot = feels * chance.lognormal(0.0, 0.5, (PARTICLES, HOURS)) * np.asarray(times)
    lon, lat = spread * 0.1 * chance.standard_normal((2, PARTICLES))
    zagl = np.abs(HEIGHT + 200.0 * chance.standard_normal(PARTICLES))
    return Sample(foot, {"lon": lon + east + HEIGHT * 1e-5, "lat": lat, "zagl": zagl})


def pairs(pixels: int, **ours) -> list[tuple[Sample, Sample]]:
    return [(a_sample(2 * pixel, **ours), a_sample(2 * pixel + 1)) for pixel in range(pixels)]


def test_two_runs_of_one_model_agree() -> None:
    for pixels in (1, 4, 30):
        judgement = judge(pairs(pixels))
        assert judgement.agrees, judgement.line
        assert judgement.line.startswith(f"sum of {pixels} pixel{'s' if pixels > 1 else ''} ")


@pytest.mark.parametrize(
    ("ours", "told"),
    [
        ({"times": 0.7}, "z of sum"),
        ({"times": [0.5, 1.0, 1.5]}, "z of worst hour"),
        ({"east": 0.04}, "rms z of places"),
        ({"spread": 1.6}, "tests that reject"),
    ],
)
def test_what_differs_by_more_is_told(ours, told: str) -> None:
    judgement = judge(pairs(12, **ours))
    assert not judgement.agrees
    assert told in judgement.line


def test_pixels_that_are_wrong_to_both_sides_do_not_make_up_for_each_other() -> None:
    wrong = [*pairs(10, times=1.8), *[(theirs, ours) for ours, theirs in pairs(10, times=1.8)]]
    judgement = judge(wrong)
    assert abs(judgement.numbers["z_of_sum"]) < 4
    assert "rms z of totals" in judgement.line


def test_no_pixel_at_all_is_no_agreement() -> None:
    assert not judge([]).agrees


def test_a_sample_counts_what_lies_in_the_grid_with_its_kernel() -> None:
    from stilt_assets.agreement import sample_of
    from stilt_assets.receptor import Kernel

    grid = Grid(0.0, 0.0, 2.0, 1.0, 1.0)
    # Two particles that stand for a half and a quarter of the air; the second leaves the grid in the second hour.
    kept = {
        "particle": np.array([1, 1, 2, 2], "i2"),
        "age": np.array([-60, -61, -1, -119], "i2"),
        "lon": np.array([5_000, 15_000, 5_000, 25_000], "i4"),
        "lat": np.array([5_000, 5_000, 5_000, 5_000], "i4"),
        "zagl": np.array([10, 20, 30, 40], "i2"),
        "pressure": np.array([9000] * 4, "i2"),
        "foot": np.array([1.0, 2.0, 4.0, 8.0], "f4"),
    }
    releases = {
        "particle": np.array([1, 2], "i2"),
        "release_height": np.array([100.0, 300.0]),
        "release_pressure": np.array([900.0, 880.0]),
        "weight": np.array([0.5, 0.25]),
        "surface_pressure": np.array([910.0, 910.0]),
    }
    kernel = Kernel(np.array([1000.0, 100.0]), np.array([1.0, 1.0]), 910.0)
    sample = sample_of(kept, releases, kernel, grid, 2)
    assert sample.foot.tolist() == [[1.0, 2.0], [2.0, 0.0]]
    assert sample.foot.mean(axis=0).tolist() == [1.5, 1.0]  # 0.5 x 1 + 0.25 x 4, and 0.5 x 2
    assert sample.places["lon"].tolist() == [1.5, 2.5]
    assert sample.places["zagl"].tolist() == [20.0, 40.0]
