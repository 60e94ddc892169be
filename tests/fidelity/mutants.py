"""
Would a deliberate error be noticed?

Section D of the acceptance. Each mutant is the package with one error; the test of CI that is meant to notice it runs
with it in place, and if that does not fail, it is measured as the package is: a value that was green must not be.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
NATIVE = "stilt_assets/transport/native"
CASES = 12  # of the ensembles that a mutant is measured with
_ENGINE = "tests/test_native_engine.py"
_DECODED = "tests/test_native_decoded.py"
_FLIGHT = "tests/test_native_flight.py"
_MOTION = "tests/fidelity/test_motion.py"
_POINTS = "tests/fidelity/test_pointwise.py"
_GALE = "tests/fidelity/test_gale.py"
_WAYS = "tests/fidelity/test_ways.py"


@dataclass(frozen=True)
class Mutant:
    """An error in one file, and what of CI is meant to notice it: a file and words of a test's name, as pytest's -k."""

    name: str
    file: str
    right: str
    wrong: str
    test: str
    words: str


MUTANTS = (
    Mutant(
        "no rule for a flux of exactly 0",
        "stability.py",
        "if heating >= 0.0 else",
        "if heating > 0.0 else",
        _POINTS,
        "hrrr",
    ),
    Mutant(
        "the file's mixed layer in place of our own",
        "decode.py",
        "depth = mixed_layer(levels, air, theta, friction, heating, least)",
        "depth = max(0.6 * mixed_layer(levels, air, theta, friction, heating, least), least)",
        _POINTS,
        "midday",
    ),
    Mutant(
        "no virtual temperature",
        "column.py",
        "here = data[T, level] * (1.0 + VIRTUAL * data[Q, level])",
        "here = data[T, level]",
        _MOTION,
        "trajectories",
    ),
    Mutant(
        "turbulence starts at 0",
        "engine.py",
        "stream, flight.ratio[i] = normal(stream)",
        "flight.ratio[i] = 0.0",
        _ENGINE,
        "from_the_first_minute",
    ),
    Mutant(
        "gusts start at 0",
        "engine.py",
        "kept = MEMORY * sigma_u if age == 0 else MEMORY",
        "kept = 0.0 * sigma_u if age == 0 else MEMORY",
        _ENGINE,
        "first_gusts",
    ),
    Mutant(
        "every particle passes from layer to layer",
        "turbulence.py",
        "return chance * sigma * here < other_sigma * there",
        "return chance * sigma * here < 1e9 * other_sigma * there",
        _ENGINE,
        "stays_mixed",
    ),
    Mutant(
        "u and v swapped",
        "decode.py",
        "wind[k, U], wind[k, V] = air[UM, k] * along_x, air[VM, k] * along_y",
        "wind[k, V], wind[k, U] = air[UM, k] * along_x, air[VM, k] * along_y",
        _DECODED,
        "by_hand",
    ),
    Mutant(
        "another molar mass of air", "engine.py", "MOLAR_MASS = 0.02886", "MOLAR_MASS = 0.02884", _MOTION, "influence"
    ),
    Mutant(
        "turbulence of the column to the south-west, not the nearest",
        "turbulence.py",
        "int(y + 0.5), 0), met.ny - 1) * met.nx + min(max(int(x + 0.5)",
        "int(y), 0), met.ny - 1) * met.nx + min(max(int(x)",
        _MOTION,
        "influence",
    ),
    Mutant(
        "turbulence forgets twice as late",
        "turbulence.py",
        "scale * (1.0 / 60.0)",
        "scale * (2.0 / 60.0)",
        _ENGINE,
        "from_the_first_minute",
    ),
    Mutant("gusts half as strong", "engine.py", "HORIZONTAL = 0.5", "HORIZONTAL = 0.125", _ENGINE, "first_gusts"),
    Mutant(
        "the ground's influence from a thinner layer",
        "turbulence.py",
        "SURFACE_SHARE = 0.5",
        "SURFACE_SHARE = 0.4",
        _ENGINE,
        "influence",
    ),
    Mutant("rising air sinks", "decode.py", "wind[k, W] = -6000.0", "wind[k, W] = 6000.0", _DECODED, "by_hand"),
    Mutant(
        "a step of more than 0.75 cell is split",
        "winds.py",
        "    return x - 0.5 * (u + u2), y - 0.5 * (v + v2), abs(zeta - 0.5 * (w + w2))",
        "    if abs(u) > 0.75:\n"
        "        u2, v2, _ = wind(met, place_of(met, x - 0.5 * u, y - 0.5 * v), now, zeta)\n"
        "        u, v = 0.5 * (u + u2), 0.5 * (v + v2)\n"
        "    return x - 0.5 * (u + u2), y - 0.5 * (v + v2), abs(zeta - 0.5 * (w + w2))",
        _GALE,
        "without_turbulence",
    ),
    Mutant(
        "a release may be as high as the model's lid",
        "flight.py",
        "    if top >= limit:",
        "    if top >= LID:",
        _FLIGHT,
        "own_levels",
    ),
    Mutant(
        "levels just above the ground count",
        "decode.py",
        "max(heights[count - 1], lowest)",
        "heights[count - 1]",
        _WAYS,
        "pressure_steep",
    ),
    Mutant(
        "cells in degrees are as wide as at the equator",
        "geometry.py",
        "return cos(radians(latitude)) * degree / centre, degree / n",
        "return degree / centre, degree / n",
        _WAYS,
        "degrees",
    ),
)


def applies(mutant: Mutant) -> bool:
    """Whether its line is there, once."""
    return (ROOT / NATIVE / mutant.file).read_text().count(mutant.right) == 1


@contextmanager
def checkout_with(mutant: Mutant) -> Iterator[Path]:
    """A folder like this checkout, with the error, beside the same data."""
    with TemporaryDirectory() as name:
        copy = Path(name) / "checkout"
        for part in ("stilt_assets", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        (Path(name) / "shared").symlink_to((ROOT.parent / "shared").resolve())
        file = copy / NATIVE / mutant.file
        file.write_text(file.read_text().replace(mutant.right, mutant.wrong))
        yield copy


def failing(mutant: Mutant) -> list[str]:
    """The tests of CI that fail of it, of those that are meant to."""
    chosen = [mutant.test, "-k", mutant.words, "-q", "-rfE", "-p", "no:cacheprovider", "--no-cov"]
    with checkout_with(mutant) as checkout:
        done = _python(checkout, "pytest", *chosen)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest could not run {mutant.test}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    lines = [line.split(" ")[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    return [line.removeprefix("tests/") for line in lines]


def measured(mutant: Mutant) -> list[dict]:
    """What `measure` says of it."""
    with checkout_with(mutant) as checkout:
        done = _python(checkout, "fidelity.measure", str(CASES))
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def noticed_by(mutant: Mutant, right: list[dict]) -> list[str]:
    """The values that are green for the package (`right`, by `measure`) and not for the mutant."""
    green = {(row["section"], row["what"]) for row in right if row["green"]}
    return [
        f"{row['section']}: {row['what']} {row['value']:.3g}"
        for row in measured(mutant)
        if not row["green"] and (row["section"], row["what"]) in green
    ]


def _python(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A module of a checkout, run with machine code of its own."""
    with TemporaryDirectory() as cache:
        places = os.pathsep.join([str(checkout), str(checkout / "tests")])
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": places, "NUMBA_CACHE_DIR": cache},
            capture_output=True,
            text=True,
            check=False,
        )
