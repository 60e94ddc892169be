"""
Would a deliberate error be noticed?

Section D of the acceptance. Each mutant is the package with one line changed; it is measured as the package is, and at
least one value that was green must not be.
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

import stilt_assets

PACKAGE = Path(stilt_assets.__file__).parent
NATIVE = "transport/native"
TESTS = Path(__file__).resolve().parents[1]
CASES = 12  # of the ensembles that a mutant is measured with


@dataclass(frozen=True)
class Mutant:
    """An error in one file."""

    name: str
    file: str
    right: str
    wrong: str


MUTANTS = (
    Mutant("no rule for a flux of exactly 0", "stability.py", "if heating >= 0.0 else", "if heating > 0.0 else"),
    Mutant(
        "the file's mixed layer in place of our own",
        "decode.py",
        "depth = mixed_layer(levels, air, theta, friction, heating, least)",
        "depth = max(0.6 * mixed_layer(levels, air, theta, friction, heating, least), least)",
    ),
    Mutant(
        "no virtual temperature",
        "column.py",
        "here = data[T, level] * (1.0 + VIRTUAL * data[Q, level])",
        "here = data[T, level]",
    ),
    Mutant("turbulence starts at 0", "engine.py", "stream, flight.ratio[i] = normal(stream)", "flight.ratio[i] = 0.0"),
    Mutant(
        "gusts start at 0",
        "engine.py",
        "kept = MEMORY * sigma_u if age == 0 else MEMORY",
        "kept = 0.0 * sigma_u if age == 0 else MEMORY",
    ),
    Mutant(
        "every particle passes from layer to layer",
        "turbulence.py",
        "return chance * sigma * here < other_sigma * there",
        "return chance * sigma * here < 1e9 * other_sigma * there",
    ),
    Mutant(
        "u and v swapped",
        "decode.py",
        "wind[k, U], wind[k, V] = air[UM, k] * along_x, air[VM, k] * along_y",
        "wind[k, V], wind[k, U] = air[UM, k] * along_x, air[VM, k] * along_y",
    ),
    Mutant("another molar mass of air", "engine.py", "MOLAR_MASS = 0.02886", "MOLAR_MASS = 0.02884"),
    Mutant(
        "turbulence of the column to the south-west, not the nearest",
        "turbulence.py",
        "int(y + 0.5), 0), met.ny - 1) * met.nx + min(max(int(x + 0.5)",
        "int(y), 0), met.ny - 1) * met.nx + min(max(int(x)",
    ),
    Mutant("turbulence forgets twice as late", "turbulence.py", "scale * (1.0 / 60.0)", "scale * (2.0 / 60.0)"),
    Mutant("gusts half as strong", "engine.py", "HORIZONTAL = 0.5", "HORIZONTAL = 0.125"),
    Mutant(
        "the ground's influence from a thinner layer", "turbulence.py", "SURFACE_SHARE = 0.5", "SURFACE_SHARE = 0.4"
    ),
    Mutant("rising air sinks", "decode.py", "wind[k, W] = -6000.0", "wind[k, W] = 6000.0"),
)


def applies(mutant: Mutant) -> bool:
    """Whether its line is there, once."""
    return (PACKAGE / NATIVE / mutant.file).read_text().count(mutant.right) == 1


@contextmanager
def package_with(mutant: Mutant) -> Iterator[Path]:
    """A folder with the package and its error."""
    with TemporaryDirectory() as name:
        copy = Path(name) / "stilt_assets"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / NATIVE / mutant.file
        file.write_text(file.read_text().replace(mutant.right, mutant.wrong))
        yield copy.parent


def measured(mutant: Mutant) -> list[dict]:
    """What `measure` says of it."""
    with package_with(mutant) as folder, TemporaryDirectory() as cache:
        places = os.pathsep.join([str(folder), str(TESTS)])
        done = subprocess.run(
            [sys.executable, "-m", "fidelity.measure", str(CASES)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": places, "NUMBA_CACHE_DIR": cache},
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def noticed_by(mutant: Mutant, right: list[dict]) -> list[str]:
    """The values that are green for the package (`right`, by `measure`) and not for the mutant."""
    green = {(row["section"], row["what"]) for row in right if row["green"]}
    return [
        f"{row['section']}: {row['what']} {row['value']:.3g}"
        for row in measured(mutant)
        if not row["green"] and (row["section"], row["what"]) in green
    ]
