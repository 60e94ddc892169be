"""
Do two transport models tell the same of the same pixels?

Two runs of one model differ too, by chance: all differences are measured in the standard error that follows from the
particles themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stilt_assets.grid import Grid
from stilt_assets.particles import STEPS, column_weights, endpoints_of
from stilt_assets.receptor import Kernel

PLACES = ("lon", "lat", "zagl")
_FARTHEST = 4.0  # standard errors of a scene's sum; seeds of one model were seen to give 2.8
_FARTHEST_HOUR = 4.5  # of one of its hours, of which there are many
_RMS = 1.3  # of z-scores, at most, if there were endlessly many of them; 1 is chance alone
_REJECTED = 0.03  # share of Kolmogorov-Smirnov tests that may reject at the 1 % level
_ALARM = 1e-3  # chance that as many pixels as there are give more than these limits allow
_FEW = 10.0  # contributing pairs of particles below which an hour's standard error is a guess


@dataclass(frozen=True)
class Sample:
    """What one model's particles say of a pixel; neighbouring particles started at neighbouring heights."""

    foot: np.ndarray  # (particle, hour back), whose mean over particles is the pixel's influence, ppm m2 s µmol-1
    places: Mapping[str, np.ndarray]  # by PLACES (particle,): where they ended, degrees and m above ground


@dataclass(frozen=True)
class Judgement:
    """Whether two models agree, a line for people, and the numbers that it rests on."""

    agrees: bool
    line: str
    numbers: Mapping[str, float | int]
    asked: bool = True  # False if there was nothing to compare, so that nobody knows whether they agree

    @property
    def disagrees(self) -> bool:
        """Whether the models were compared and differ."""
        return self.asked and not self.agrees


def pixels_that(count: int, do: str = "") -> str:
    """So many pixels and what they do, in words."""
    return f"{count} pixel{'' if count == 1 else 's'}" + (f" {do}{'s' if count == 1 else ''}" if do else "")


def variance_of_sum(values: np.ndarray) -> np.ndarray:
    """
    Variance of the sum over particles of `values` (particle, ...), from the differences of neighbours.

    Two particles from nearly the same height differ by chance alone: the square of their difference has the mean of
    the variance of their sum. An odd particle counts like the others.
    """
    pairs = len(values) // 2
    difference = values[0 : 2 * pairs : 2] - values[1 : 2 * pairs : 2]
    return np.sum(difference**2, axis=0) * (len(values) / max(2 * pairs, 1))


def z_of(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The difference of two models' means over particles (particle, ...), in its standard error; 0 if both are 0."""
    difference = ours.mean(axis=0) - theirs.mean(axis=0)
    variance = variance_of_sum(ours) / len(ours) ** 2 + variance_of_sum(theirs) / len(theirs) ** 2
    floor = (1e-9 * np.maximum(np.abs(ours).max(axis=0), np.abs(theirs).max(axis=0))) ** 2  # of rounding
    return np.divide(difference, np.sqrt(variance + floor), out=np.zeros_like(difference), where=difference != 0)


def judge(pairs: Sequence[tuple[Sample, Sample]]) -> Judgement:
    """Whether the models that made the pixels' samples (ours, theirs) agree as well as two runs of one model do."""
    from scipy import stats

    if not pairs:
        return Judgement(False, "no pixel could be compared", {"pixels": 0})
    sums = [(ours.foot.sum(axis=1), theirs.foot.sum(axis=1)) for ours, theirs in pairs]
    totals = np.array([z_of(*each) for each in sums])
    ends = np.array([[z_of(ours.places[name], theirs.places[name]) for name in PLACES] for ours, theirs in pairs])
    chances = [
        stats.ks_2samp(ours.places[name], theirs.places[name]).pvalue  # pyright: ignore[reportAttributeAccessIssue]
        for ours, theirs in pairs
        for name in PLACES
    ]
    numbers: dict[str, Any] = {
        "pixels": len(pairs),
        "foot_ours": float(sum(ours.mean() for ours, _ in sums)),
        "foot_theirs": float(sum(theirs.mean() for _, theirs in sums)),
        "z_of_sum": _z_of_all(sums),
        "z_of_worst_hour": _worst_hour(pairs),
        "rms_z_of_totals": float(np.sqrt(np.mean(totals**2))),
        "rms_z_of_places": float(np.sqrt(np.mean(ends**2))),
        "tests_that_reject": int(np.sum(np.array(chances) < 0.01)),
    }
    wrong = _wrong(numbers, len(chances))
    return Judgement(not wrong, "; ".join(wrong) or _all_is_well(numbers), numbers)


def _wrong(numbers: Mapping[str, Any], tests: int) -> list[str]:
    from scipy.stats import binom, chi2

    pixels = numbers["pixels"]
    limits = {
        "z_of_sum": _FARTHEST,
        "z_of_worst_hour": _FARTHEST_HOUR,
        "rms_z_of_totals": _RMS * float(np.sqrt(chi2.isf(_ALARM, pixels) / pixels)),
        "rms_z_of_places": _RMS * float(np.sqrt(chi2.isf(_ALARM, pixels) / pixels)),
        "tests_that_reject": int(binom.isf(_ALARM, tests, _REJECTED)),
    }
    return [
        f"{name.replace('_', ' ')} is {numbers[name]:.3g}, at most {limit:.3g} is chance"
        for name, limit in limits.items()
        if not abs(numbers[name]) <= limit
    ]


def _all_is_well(numbers: Mapping[str, Any]) -> str:
    change = numbers["foot_ours"] / numbers["foot_theirs"] - 1 if numbers["foot_theirs"] else 0.0
    return f"sum of {pixels_that(numbers['pixels'])} {change:+.2%} (z {numbers['z_of_sum']:+.2f}), places alike"


def _z_of_all(sums: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    difference = sum(float(ours.mean() - theirs.mean()) for ours, theirs in sums)
    variance = sum(
        float(variance_of_sum(ours) / len(ours) ** 2 + variance_of_sum(theirs) / len(theirs) ** 2)
        for ours, theirs in sums
    )
    return difference / np.sqrt(variance) if variance else np.inf * np.sign(difference) if difference else 0.0


def _worst_hour(pairs: Sequence[tuple[Sample, Sample]]) -> float:
    """The z-score farthest from 0 of an hour's influence, all pixels together; 0 if no hour has enough of it."""
    difference = sum(ours.foot.mean(axis=0) - theirs.foot.mean(axis=0) for ours, theirs in pairs)
    squares = [variance_of_sum(each.foot) / len(each.foot) ** 2 for pair in pairs for each in pair]
    fourths = [_fourth(each.foot) / len(each.foot) ** 4 for pair in pairs for each in pair]
    variance, fourth = np.sum(squares, axis=0), np.sum(fourths, axis=0)
    enough = variance**2 > _FEW * fourth
    z = np.divide(difference, np.sqrt(variance), out=np.zeros_like(variance), where=enough)
    return float(z[np.argmax(np.abs(z))])


def _fourth(values: np.ndarray) -> np.ndarray:
    pairs = len(values) // 2
    return np.sum((values[0 : 2 * pairs : 2] - values[1 : 2 * pairs : 2]) ** 4, axis=0)


def sample_of(
    kept: Mapping[str, np.ndarray], releases: Mapping[str, np.ndarray], kernel: Kernel, grid: Grid, hours: int
) -> Sample:
    """What particles in their kept form, and their releases, say of a pixel on a grid within `hours` back."""
    omega = column_weights(dict(releases), kernel)
    number = kept["particle"].astype(int)
    order = np.argsort(releases["particle"])
    row = np.searchsorted(releases["particle"][order], number)
    lon, lat = grid.unwrap(kept["lon"] / STEPS["lon"]), kept["lat"] / STEPS["lat"]
    inside = (lon >= grid.west) & (lon < grid.west + grid.span) & (lat >= grid.south) & (lat < grid.north)
    foot = np.zeros((len(order), hours))
    hour = (-kept["age"].astype(int) - 1) // 60
    np.add.at(foot, (row, hour), np.where(inside, kept["foot"].astype(float) * omega[order][row] * len(order), 0.0))
    ends = endpoints_of(dict(kept), {name: values[order] for name, values in releases.items()})
    return Sample(foot, {name: ends[name] / STEPS[name] for name in PLACES})
