"""
How faithful is the native model? Everything that is measured, as rows of a table.

`python -m fidelity.measure` measures whatever `stilt_assets` it finds and prints the rows as JSON: deliberate errors
are measured by it, too.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from fidelity import ensembles, influence, minutes, pointwise, trajectories, ways
from fidelity.acceptance import rows as rows_of_ensembles
from fidelity.ask import HERE
from fidelity.cases import CASES
from fidelity.ours import Ours, decoded
from stilt_assets.transport.native.decoded import decoded_in_memory
from stilt_assets.transport.native.engine import Met, met_of

SHARED = Path(__file__).resolve().parents[3] / "shared"
GOLD = "data/gold"
FARTHEST = 4.0  # z-score of one of a few dozen spreads


@dataclass(frozen=True)
class Measured:
    """A measured value and its limits."""

    section: str
    what: str
    value: float
    low: float
    high: float
    count: int

    @property
    def is_green(self) -> bool:
        """Whether it is within its limits."""
        return bool(self.low <= self.value <= self.high)


def of_trajectories(met: Met, shared: Path) -> Iterator[Measured]:
    """Section A: mean-wind trajectories."""
    found = trajectories.apart(met, shared / GOLD)
    count = len(found.way)
    # Those that the mean wind presses onto steep ground bounce there, and rounding decides where to: they are chaotic.
    for what, values, limit in (("30 m", found.way, 30.0), ("1 m of height", found.height, 1.0)):
        share = float(np.mean(values < limit))
        yield Measured("A", f"share of mean trajectories that stay within {what} for 8 h", share, 0.9, 1.0, count)
    yield Measured("A", "mean trajectories, median of the farthest, m", float(np.median(found.way)), 0.0, 30.0, count)
    yield Measured("A", "pressure along those within 30 m, rms, hPa", found.pressure, 0.0, 0.3, found.minutes)
    yield Measured("A", "dry density along those, relative rms", found.density, 0.0, 5e-4, found.minutes)


def of_points(shared: Path, folder: Path, names: Sequence[str] = tuple(CASES)) -> Iterator[Measured]:
    """Section A: mixed layer and turbulence at places where hycs_std printed them, in the weather that is worst."""
    found = []
    for name in names:
        file = CASES[name].make(shared, folder / f"points_{name}.arl")
        theirs, ours = pointwise.compared(
            decoded_in_memory(file), pd.read_parquet(HERE / "answers" / f"{name}.parquet")
        )
        found.append(pointwise.shares(theirs, ours))
    for what in found[0]:
        least, low = min(each[what] for each in found), 0.96 if "above" in what else 0.99
        yield Measured(
            "A", f"{what} as hycs_std prints it, share of points in the worst weather", least, low, 1.0, len(found)
        )


def of_influence(met: Met) -> Iterator[Measured]:
    """Section A: minutes that are spent near the ground."""
    ratio = influence.ratios(met, influence.kept())["foot"]
    yield Measured(
        "A", "influence of minutes near the ground, median ratio", ratio.median(), 0.9996, 1.0004, len(ratio)
    )


def of_ways(shared: Path, folder: Path) -> Iterator[Measured]:
    """Section A: mean-wind trajectories on grids and levels that HRRR does not have."""
    found = [
        ways.apart(met_of(decoded_in_memory(CASES[name].make(shared, folder / f"ways_{name}.arl"))), name)
        for name in ways.NAMES
    ]
    calm = [each[each["lowest"] > ways.CALM] for each in found]
    what = "mean trajectories of 1 h in degrees and on pressure levels, farthest"
    most, up = (max(each[side].max() for each in calm) for side in ("across", "up"))
    yield Measured("A", f"{what}, m", float(most), 0.0, 15.0, sum(map(len, calm)))
    yield Measured("A", f"{what} of height, m", float(up), 0.0, 0.1, sum(map(len, calm)))


def of_minutes(model: Ours, meteorology: Path) -> Iterator[Measured]:
    """Section B: spreads of the first ten minutes."""
    for name, theirs in minutes.kept().items():
        ours = minutes.spreads(model, minutes.CASES[name], meteorology, 1)
        for place, z in minutes.z_of_spreads(ours, theirs).items():
            yield Measured("B", f"spread in {place}, {name}, farthest z", float(np.abs(z).max()), 0.0, FARTHEST, len(z))


def of_ensembles(model: Ours, shared: Path, folder: Path, seeds: range, limit: int | None = None) -> list[Measured]:
    """Section C: ensembles of the cases, or of `limit` of them in HRRR only."""
    theirs, ours = ensembles.kept(), {}
    cases = [case for case in ensembles.CASES if limit is None or case.weather == "hrrr"][:limit]
    for case in cases:
        meteorology = ensembles.meteorology_of(case.weather, shared, folder)
        ours[case.name] = ensembles.ensemble(model, case, meteorology, ensembles.PARTICLES, seeds)
    return [Measured("C", **asdict(row)) for row in rows_of_ensembles(ours, theirs)]


def all_rows(shared: Path, seeds: range = ensembles.OUR_SEEDS, limit: int | None = None) -> list[Measured]:
    """Sections A, B and C."""
    with TemporaryDirectory() as name:
        folder, model = Path(name), Ours()
        meteorology = ensembles.meteorology_of("hrrr", shared, folder)
        met = decoded(meteorology).met
        found = [*of_trajectories(met, shared), *of_influence(met)]
        found += of_points(shared, folder, tuple(CASES) if limit is None else ("hrrr", "midday", "falling"))
        found += of_ways(shared, folder) if limit is None else []
        found += of_minutes(model, meteorology)
        found += of_ensembles(model, shared, folder, seeds, limit)
    return found


if __name__ == "__main__":
    short = len(sys.argv) > 1
    measured = all_rows(SHARED, range(1, 5), int(sys.argv[1])) if short else all_rows(SHARED)
    print(json.dumps([asdict(each) | {"green": each.is_green} for each in measured]))
