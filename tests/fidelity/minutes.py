"""
How do particles spread in their first ten minutes, and does mixed air stay mixed?

Section B of the acceptance. No ensemble of hours sees how turbulence begins. `hycs_std`'s spreads are kept
(`minutes.json`); `python -m fidelity.minutes` makes them again.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from fidelity.ensembles import SNAP, Case, meteorology_of
from stilt_assets.simulation import Limits, Simulation, Transport
from stilt_assets.transport.hysplit import Hysplit

KEPT = Path(__file__).with_name("minutes.json")
MINUTES, PARTICLES = 10, 4000
PLACES = ("lon", "lat", "zagl")
_LOST = 2.0  # steps of the print: a spread below it says more of the rounding than of the air
CASES = {
    "mixed layer, evening": Case("hrrr", -112.11, 40.83, 420.0, 420.2, 2.25, 1),
    "near the ground, night": Case("hrrr", -111.93, 40.55, 60.0, 60.2, 8.75, 1),
    "aloft, night": Case("hrrr", -111.77, 40.97, 2600.0, 2600.2, 9.25, 1),
}
Spread = dict[str, list[float]]  # by PLACES: a value a minute


def spreads(model: Transport, case: Case, meteorology: Path, seed: int) -> dict[str, Spread]:
    """Mean, variance and fourth central moment of where particles are after 1 to 10 minutes."""
    table = model.run(case.receptor, Simulation("", case.hours, PARTICLES, seed), meteorology, Limits(600.0))
    early = table[table["age"] >= -MINUTES]
    places = {name: np.rint(early[name] / step) * step for name, step in SNAP.items()}
    return moments(pd.DataFrame({"minute": -early["age"]} | places))


def moments(table: pd.DataFrame) -> dict[str, Spread]:
    """The same of a table with `minute` and PLACES."""
    grouped = table.groupby("minute")[list(PLACES)]
    away = (table[list(PLACES)] - grouped.transform("mean")).groupby(table["minute"])
    parts = {
        "mean": grouped.mean(),
        "variance": away.agg(lambda d: np.mean(d**2)),
        "fourth": away.agg(lambda d: np.mean(d**4)),
    }
    return {name: {place: part[place].tolist() for place in PLACES} for name, part in parts.items()}


def z_of_spreads(ours: dict[str, Spread], theirs: dict[str, Spread]) -> dict[str, np.ndarray]:
    """z-scores (minute,) of each place's variance, in its standard error; 0 where the print's steps hide it."""
    found = {}
    for place in PLACES:
        our, their = (np.array(each["variance"][place]) for each in (ours, theirs))
        errors = [
            (np.array(each["fourth"][place]) - np.array(each["variance"][place]) ** 2) / PARTICLES
            for each in (ours, theirs)
        ]
        z = (our - their) / np.sqrt(np.maximum(sum(errors), 1e-30))
        found[place] = np.where(their > (_LOST * SNAP[place]) ** 2, z, 0.0)
    return found


def kept() -> dict[str, dict[str, Spread]]:
    """hycs_std's spreads by case."""
    return json.loads(KEPT.read_text())


def make_again(shared: Path) -> None:
    """Ask hycs_std; a minute of a core."""
    with TemporaryDirectory() as folder:
        meteorology = meteorology_of("hrrr", shared, Path(folder))
        told = {name: spreads(Hysplit(), case, meteorology, 9001) for name, case in CASES.items()}
    rounded = json.loads(json.dumps(told), parse_float=lambda text: float(f"{float(text):.6g}"))
    KEPT.write_text(json.dumps(rounded) + "\n")


if __name__ == "__main__":
    make_again(Path(__file__).resolve().parents[3] / "shared")
