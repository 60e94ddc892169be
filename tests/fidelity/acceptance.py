"""
Are two sets of ensembles as alike as two of one model are?

Section C of the acceptance, as rows of a table: what was measured, and what it may be. The yardstick is the noise of
the ensembles themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy import stats

from fidelity.ensembles import CASES, Told

GONE = -(2.0**31)
ENOUGH = 50  # particles that are left, below which an hour is not compared
SEEN = 0.02  # share of particles-hours that an hour's influence must be of the total's to be compared
POINTS = {case.name for case in CASES if case.is_a_point}


@dataclass(frozen=True)
class Row:
    """One measured value and its limits."""

    what: str
    value: float
    low: float
    high: float
    count: int  # values that it is made of

    @property
    def is_green(self) -> bool:
        """Whether it is within its limits."""
        return bool(self.low <= self.value <= self.high)


def rows(ours: Mapping[str, Told], theirs: Mapping[str, Told]) -> list[Row]:
    """The table of section C for the cases of `ours`."""
    pairs = {name: (each, theirs[name]) for name, each in ours.items()}
    points = [pair for name, pair in pairs.items() if name in POINTS]
    totals = np.array([_z(*our.total, *their.total) for our, their in pairs.values()])
    hourly = np.concatenate([_hourly(*pair) for pair in pairs.values()])
    means, spreads = (np.concatenate([each(*pair).ravel() for pair in points]) for each in (_means, _spreads))
    chances = np.concatenate([_chances(*pair) for pair in points])
    our_sum, their_sum = (sum(pair[side].total[0] for pair in pairs.values()) for side in (0, 1))
    return [
        *(
            Row(f"rms z, {what}", float(np.sqrt(np.mean(z**2))), 0.8, 1.3, len(z))
            for what, z in (("total foot", totals), ("hourly foot", hourly), ("means", means), ("variances", spreads))
        ),
        *(
            Row(
                f"Kolmogorov-Smirnov tests that reject at {level:.0%}",
                float(np.mean(chances < level)),
                0.0,
                most,
                len(chances),
            )
            for level, most in ((0.05, 0.10), (0.01, 0.03))
        ),
        Row("aggregate foot, relative difference", float(our_sum / their_sum - 1), -0.005, 0.005, len(pairs)),
        Row("L1 distance of maps, times hycs_std's from itself", _distance(list(pairs.values())), 0.0, 1.1, len(pairs)),
    ]


def standard_error(ours: Mapping[str, Told], theirs: Mapping[str, Told]) -> float:
    """Of the relative difference of the aggregate foot."""
    variance = sum(each.total[1] + theirs[name].total[1] for name, each in ours.items())
    return float(np.sqrt(variance) / sum(theirs[name].total[0] for name in ours))


def _z(ours: np.ndarray, our_variance: np.ndarray, theirs: np.ndarray, their_variance: np.ndarray) -> np.ndarray:
    variance = np.asarray(our_variance + their_variance, dtype=float)
    return np.divide(ours - theirs, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)


def _hourly(ours: Told, theirs: Told) -> np.ndarray:
    seen = theirs.foot > SEEN * theirs.foot.sum()
    return _z(ours.foot, ours.foot_variance, theirs.foot, theirs.foot_variance)[seen]


def _live(ours: Told, theirs: Told) -> np.ndarray:
    """Hours at whose end hardly a particle has left: those that have are not drawn by chance."""
    return np.minimum(ours.live / ours.live[0], theirs.live / theirs.live[0]) > 0.98


def _means(ours: Told, theirs: Told) -> np.ndarray:
    z = _z(ours.mean, ours.variance / ours.live[:, None], theirs.mean, theirs.variance / theirs.live[:, None])
    return z[_live(ours, theirs)]


def _spreads(ours: Told, theirs: Told) -> np.ndarray:
    errors = [(each.fourth - each.variance**2) / each.live[:, None] for each in (ours, theirs)]
    return _z(ours.variance, errors[0], theirs.variance, errors[1])[_live(ours, theirs)]


def _chances(ours: Told, theirs: Told) -> np.ndarray:
    return np.array(
        [
            stats.ks_2samp(one[one != GONE], other[other != GONE]).pvalue
            for hour in np.flatnonzero(_live(ours, theirs))
            for one, other in zip(ours.snap[hour], theirs.snap[hour], strict=True)
        ]
    )


def _distance(pairs: Sequence[tuple[Told, Told]]) -> float:
    """Mean L1 distance of maps of one seed of each, over that of two of theirs."""
    between = [_apart(a, b) for ours, theirs in pairs for a, b in product(ours.maps, theirs.maps) if b]
    among = [_apart(a, b) for _, theirs in pairs for a, b in combinations(theirs.maps, 2) if b]
    return float(np.mean(between) / np.mean(among))


def _apart(one: Mapping[tuple[int, int], float], other: Mapping[tuple[int, int], float]) -> float:
    """0 for equal maps, 1 for those without a common cell."""
    difference = sum(abs(one.get(cell, 0.0) - other.get(cell, 0.0)) for cell in {*one, *other})
    return difference / (sum(one.values()) + sum(other.values()))
