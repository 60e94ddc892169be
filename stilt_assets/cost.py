"""
How long does a worker take for one pixel?

A law that is linear in what the pixel needs, fitted on packs that have run. Before any has, and for what those that
have cannot tell apart, it has the shape that was measured elsewhere; how fast the machine is, is fitted first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

Floats = np.ndarray
# Seconds of hycs_std v5.1.0 and all that follows it, measured on HRRR with 200 and 1,000 particles over 3 to 24 hours:
# 0.085 + 0.014 per hour of meteorology + 42e-6 per particle and minute at 20 levels, a third more of it at 36;
# files of 49 times the cells, 0.3 GB of them, took 1.4 s more.
MEASURED = np.array([0.085, 0.014, 4.4, 25.4, 0.83])
# Of native, on the same cells: 0.059 and 0.057 s for 200 particles over 3 and 8 hours, 0.091 and 0.220 s for 1,000, a
# worker's start in them. Neither levels nor size of the meteorology matter, which is decoded before.
MEASURED_NATIVE = np.array([0.035, 0.0, 0.0, 0.38, 0.0])
# Of gridding particles that were kept: 0.7 s for 1,000 particles of 8 hours.
MEASURED_KEPT = np.array([0.05, 0.0, 0.0, 1.5, 0.0])
_SCATTER = 0.25  # standard deviation of a scene's seconds about the law, relative
_FREEDOM = 0.5  # standard deviation of a coefficient about the measured one, relative, once the speed is fitted
_LEAST = 1e-9  # s; a coefficient that was measured as nothing stays nothing
_SURE = 0.95  # the upper end of a 90 % interval


@dataclass(frozen=True)
class Work:
    """What one pixel needs."""

    transport: str
    particles: int
    hours_back: int
    hours: int  # of meteorology
    gigabytes: float  # 1e9 bytes of meteorology
    levels: int  # of the meteorology
    kept: bool = False  # its particles are there and only gridded

    @property
    def kind(self) -> str:
        """What has a law of its own."""
        return "kept particles" if self.kept else self.transport

    @property
    def terms(self) -> Floats:
        """(5,): one start, hours, GB, millions of particle-minutes, and these times levels."""
        minutes = self.particles * self.hours_back * 60 / 1e6
        return np.array([1.0, self.hours, self.gigabytes, minutes, minutes * self.levels])


@dataclass(frozen=True)
class Sample:
    """Pixels of one pack that have run."""

    scene: str
    work: Work
    pixels: int
    seconds: float  # of all of them


@dataclass(frozen=True)
class Law:
    """Seconds of a pixel: coefficients (5,) of its terms, not negative."""

    coefficients: Floats
    packs: int = 0  # that it was fitted on
    scenes: int = 0

    def seconds(self, work: Work) -> float:
        """Seconds that a worker takes for a pixel."""
        return float(self.coefficients @ work.terms)


@dataclass(frozen=True)
class Error:
    """How wrong the law was for scenes that it was not fitted on."""

    scenes: int
    median: float  # of |predicted / actual - 1|
    low: float  # actual / predicted, 90 % of scenes lie between these two
    high: float


def measured(kind: str) -> Law:
    """The law before any pack has run."""
    return Law({"kept particles": MEASURED_KEPT, "native": MEASURED_NATIVE}.get(kind, MEASURED))


def fit(samples: Sequence[Sample]) -> Law:
    """
    The law of samples of one kind; each scene counts as much as any other, however many packs it has.

    Least squares with a soft L1 loss over scenes, so that one that a machine's trouble held up counts for little. The
    coefficients are held near the measured ones times one factor, the middle one of actual / measured over the scenes.
    """
    if not samples:
        raise ValueError("no samples")
    start = measured(samples[0].work.kind).coefficients
    # A pack is no unit: the first pixel of each worker waits for it to start, and the sum is what counts.
    sums: dict[tuple[str, Work], list[float]] = {}
    for each in samples:
        told = sums.setdefault((each.scene, each.work), [0.0, 0.0])
        sums[each.scene, each.work] = [told[0] + each.seconds, told[1] + each.pixels]
    terms = np.stack([work.terms for _, work in sums])
    actual = np.array([seconds / pixels for seconds, pixels in sums.values()])
    scenes, scene, works = np.unique([key for key, _ in sums], return_inverse=True, return_counts=True)
    weight = 1.0 / works[scene]
    factor = _middle(actual / (terms @ start), weight)
    expected = np.maximum(factor * start, _LEAST)
    scale = _SCATTER * (terms @ expected)

    def residuals(coefficients: Floats) -> Floats:
        away = (coefficients - expected) / (_FREEDOM * expected)
        return np.concatenate([(terms @ coefficients - actual) / scale, away])

    def loss(squares: Floats) -> Floats:
        each, root = np.concatenate([weight, np.ones(len(start))]), np.sqrt(1.0 + squares)
        return each * np.stack([2.0 * (root - 1.0), 1.0 / root, -0.5 / root**3])

    from scipy.optimize import least_squares

    found = least_squares(
        residuals,
        expected,
        bounds=(0.0, np.inf),
        x_scale=expected,
        loss=loss,  # pyright: ignore[reportArgumentType]  scipy takes a function too
    )
    return Law(found.x, len(samples), len(scenes))


def _middle(values: Floats, weight: Floats) -> float:
    """The weighted median."""
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def error_of(samples: Sequence[Sample]) -> Error | None:
    """
    How wrong laws are that are fitted on all scenes but one, for that one; None for fewer than two scenes.

    The interval is the prediction interval of one more scene's log(actual / predicted), taken as normal: with Student's
    t, mean and standard deviation of the scenes that have run.
    """
    scenes = sorted({each.scene for each in samples})
    if len(scenes) < 2:
        return None
    ratios = np.array([_left_out(samples, scene) for scene in scenes])
    logs, n = np.log(ratios), len(ratios)
    reach = stdtrit(n - 1, _SURE) * logs.std(ddof=1) * np.sqrt(1.0 + 1.0 / n)
    low, high = np.exp(logs.mean() - reach), np.exp(logs.mean() + reach)
    return Error(n, float(np.median(np.abs(1.0 / ratios - 1.0))), float(low), float(high))


def _left_out(samples: Sequence[Sample], scene: str) -> float:
    law = fit([each for each in samples if each.scene != scene])
    there = [each for each in samples if each.scene == scene]
    return sum(each.seconds for each in there) / sum(each.pixels * law.seconds(each.work) for each in there)


@dataclass(frozen=True)
class CostModel:
    """The laws of all kinds of work that have run."""

    laws: Mapping[str, Law]
    errors: Mapping[str, Error | None]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "CostModel":
        """Fitted on what has run."""
        kinds = {kind: [each for each in samples if each.work.kind == kind] for kind in {s.work.kind for s in samples}}
        laws = {kind: fit(each) for kind, each in kinds.items()}
        return cls(laws, {kind: error_of(each) for kind, each in kinds.items()})

    def seconds(self, work: Work) -> float:
        """Seconds that a worker takes for a pixel."""
        return (self.laws.get(work.kind) or measured(work.kind)).seconds(work)

    def error(self, kind: str) -> Error | None:
        """How wrong the law of a kind was; None if it cannot be told."""
        return self.errors.get(kind)

    def told(self, kind: str) -> str:
        """Where a law comes from and how wrong it was, in a line."""
        law, error = self.laws.get(kind), self.error(kind)
        if law is None:
            return f"no pack of {kind} has run: the cost is what was measured on another machine"
        where = f"fitted on {law.packs} packs of {law.scenes} scenes ({kind})"
        if error is None:
            return f"{where}; its error is not known before two scenes have run"
        low, high = error.low, error.high
        told = f"a scene left out is met within {error.median:.0%} (median); 90 % cost {low:.2f} to {high:.2f} times"
        return f"{where}; {told} what is told"
