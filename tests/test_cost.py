"""What a pixel will take: a law that is known gives the packs, and the packs give back the law."""

from dataclasses import replace

import numpy as np
import pytest

from stilt_assets.cost import CostModel, Sample, Work, error_of, fit, measured

LAW = np.array([0.3, 0.02, 9.0, 70.0, 1.2])  # s: a start, hours, GB, million particle-minutes, these times levels
WORK = Work("hysplit", particles=500, hours_back=10, hours=12, gigabytes=0.2, levels=25)


def seconds(work: Work, law: np.ndarray = LAW) -> float:
    """By hand: the law's five terms."""
    minutes = work.particles * work.hours_back * 60e-6
    return float(law @ [1.0, work.hours, work.gigabytes, minutes, minutes * work.levels])


def past(scatter: float, seed: int = 1, scenes: int = 14, law: np.ndarray = LAW) -> list[Sample]:
    """Scenes of many kinds; each is off by a factor of its own, and each pack by half as much again."""
    chance = np.random.default_rng(seed)
    samples = []
    for scene in range(scenes):
        hours = int(chance.integers(2, 30))
        particles, levels = int(chance.choice([50, 200, 1000])), int(chance.integers(15, 40))
        work = Work("hysplit", particles, hours, hours + 2, float(chance.uniform(0.01, 1)), levels)
        off = np.exp(scatter * chance.normal())
        for pack in range(1 + scene % 3):
            noise = off * np.exp(scatter / 2 * chance.normal())
            samples.append(Sample(f"s{scene}", work, 7 + pack, (7 + pack) * noise * seconds(work, law)))
    return samples


def test_before_any_pack_the_cost_is_what_was_measured() -> None:
    # 1,000 particles over 8 hours took 18 s in hycs_std and 2 s after it, with 20 levels and 9 hours of meteorology
    work = Work("hysplit", particles=1000, hours_back=8, hours=9, gigabytes=0.003, levels=20)
    assert measured("hysplit").seconds(work) == pytest.approx(20.4, rel=0.02)
    more = replace(work, levels=36)
    assert 1.25 < measured("hysplit").seconds(more) / measured("hysplit").seconds(work) < 1.4
    model = CostModel.of([])
    assert model.seconds(work) == measured("hysplit").seconds(work)
    assert model.error("hysplit") is None
    assert "no pack of hysplit has run" in model.told("hysplit")


@pytest.mark.parametrize(
    ("particles", "hours", "took"), [(200, 3, 0.059), (200, 8, 0.057), (1000, 3, 0.091), (1000, 8, 0.220)]
)
def test_before_any_pack_native_costs_what_was_measured_of_it(particles: int, hours: int, took: float) -> None:
    work = Work("native", particles, hours, hours + 1, gigabytes=0.003, levels=20)
    assert CostModel.of([]).seconds(work) == pytest.approx(took, rel=0.27)
    theirs = CostModel.of([]).seconds(replace(work, transport="hysplit"))
    assert theirs > 25 * CostModel.of([]).seconds(work)


def test_packs_without_scatter_give_back_the_law_where_it_was_not_seen() -> None:
    law = fit(past(0.0, scenes=30))
    for work in (WORK, replace(WORK, particles=2000), replace(WORK, hours_back=40), replace(WORK, levels=36)):
        assert law.seconds(work) == pytest.approx(seconds(work), rel=0.06)


def test_one_scene_tells_how_fast_the_machine_is() -> None:
    three_times = 3.0 * measured("hysplit").seconds(WORK)
    law = fit([Sample("s", WORK, 4, 4 * three_times), Sample("s", WORK, 5, 5 * three_times)])
    assert law.seconds(WORK) == pytest.approx(three_times, rel=1e-6)
    long = replace(WORK, hours_back=20)
    assert law.seconds(long) == pytest.approx(3.0 * measured("hysplit").seconds(long), rel=1e-3)
    assert (law.packs, law.scenes) == (2, 1)


def test_packs_that_differ_within_a_scene_are_met_in_their_sum() -> None:
    """The first pixels wait for their workers to start: two packs of 9 s a pixel, and one of 3 s of half the size."""
    packs = [(4, 36.0), (4, 36.0), (2, 6.0)]
    samples = [Sample(f"s{n}", WORK, pixels, seconds) for n in range(6) for pixels, seconds in packs]
    assert fit(samples).seconds(WORK) == pytest.approx(7.8, rel=1e-6)
    error = error_of(samples)
    assert error is not None
    assert error.median < 1e-6


def test_no_coefficient_is_negative_whatever_the_packs_say() -> None:
    odd = [Sample(f"s{n}", replace(WORK, particles=50 * n), 3, 300.0 / n) for n in range(1, 9)]  # more cost less
    assert (fit(odd).coefficients >= 0).all()


def test_a_pack_that_was_held_up_and_a_scene_of_many_packs_move_the_law_little() -> None:
    samples = past(0.05)
    held_up = [replace(samples[0], seconds=40 * samples[0].seconds), *samples[1:]]
    assert fit(held_up).seconds(WORK) == pytest.approx(fit(samples).seconds(WORK), rel=0.05)
    slow = Sample("slow", WORK, 8, 8 * 1.5 * seconds(WORK))
    few, many = fit([*samples, slow]), fit([*samples, *[slow] * 60])
    assert many.seconds(WORK) == pytest.approx(few.seconds(WORK), rel=0.01)


def test_the_error_is_that_of_scenes_the_law_has_not_seen() -> None:
    exact, off = error_of(past(0.0, scenes=25)), error_of(past(0.3, scenes=25))
    assert exact is not None
    assert off is not None
    assert exact.median < 0.06 < off.median
    assert (exact.scenes, off.scenes) == (25, 25)
    # By hand: the logarithms of a scene's factor and of the mean of its packs' have standard deviations 0.3 and about
    # 0.1, so 90 % lie within exp(±1.7 * 0.32).
    assert off.low == pytest.approx(np.exp(-1.7 * 0.32), rel=0.3)
    assert off.high == pytest.approx(np.exp(1.7 * 0.32), rel=0.3)
    assert error_of(past(0.3, scenes=1)) is None


def test_nine_of_ten_scenes_cost_what_the_interval_says() -> None:
    met = []
    for seed in range(30):
        samples = past(0.3, seed, scenes=9)
        error, law = error_of(samples[:-3]), fit(samples[:-3])
        assert error is not None
        last = samples[-3:]
        ratio = sum(each.seconds for each in last) / sum(each.pixels * law.seconds(each.work) for each in last)
        met.append(error.low <= ratio <= error.high)
    assert 0.8 <= np.mean(met) <= 1.0


def test_each_transport_and_kept_particles_have_laws_of_their_own() -> None:
    other, kept = replace(WORK, transport="mine:Model"), replace(WORK, kept=True)
    model = CostModel.of([Sample("a", WORK, 2, 100.0), Sample("a", other, 2, 4.0), Sample("a", kept, 2, 1.0)])
    assert model.seconds(WORK) == pytest.approx(50.0)
    assert model.seconds(other) == pytest.approx(2.0)
    assert model.seconds(kept) == pytest.approx(0.5)
    assert "fitted on 1 packs of 1 scenes (mine:Model)" in model.told("mine:Model")
