"""
What does `hycs_std` say of a place, a height and a time?

One run takes thousands of release points. `nturb=1` leaves the mean wind, `nturb=0` has turbulence.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from stilt.receptors import MultiPointReceptor
from stilt.transport.hysplit import HysplitConfig
from stilt.transport.hysplit.driver import write_inputs

VARIABLES = ("time", "indx", "long", "lati", "zagl", "foot", "mlht", "pres", "dens", "samt", "sigw", "tlgr")
MOST = 2000  # release points of one run
DEFAULTS = {"krand": 2, "seed": 1, "kmix0": 150, "outdt": -1, "hnf_plume": False}


def ask(
    releases: pd.DataFrame,
    meteorology: Sequence[Path],
    hours: int,
    *,
    particles: int = 1,
    variables: Sequence[str] = VARIABLES,
    timeout: float = 600.0,
    **setup: Any,
) -> pd.DataFrame:
    """
    Particles of releases (`lon`, `lat` degrees, `height` m above ground, `time` UTC), followed back `hours` h.

    `particles` of each release; no two releases of a time may share a place. Comes back with HYSPLIT's names in
    columns, a row per particle-minute, and `release`: the row of `releases` that a particle comes from. `setup` are
    settings of PYSTILT's HysplitConfig.
    """
    answers: list[pd.DataFrame] = []
    numbered = releases.reset_index(drop=True)
    for time, together in numbered.groupby("time"):
        for start in range(0, len(together), MOST):
            some = together.iloc[start : start + MOST]
            config = HysplitConfig(
                n_hours=-hours, numpar=particles * len(some), **DEFAULTS | {"varsiwant": list(variables)} | setup
            )
            config.maxpar = (particles + 1) * len(some)
            answer = _run(some, pd.Timestamp(time), config, meteorology, timeout)
            numbers = (answer["indx"].to_numpy(int) - 1) // particles
            assert numbers.max() < len(some), "more particles than asked for"
            answer.insert(0, "release", some.index.to_numpy()[numbers])
            _check_order(answer, some)
            answers.append(answer)
    return pd.concat(answers, ignore_index=True)


def _run(
    releases: pd.DataFrame, time: pd.Timestamp, config: HysplitConfig, meteorology: Sequence[Path], timeout: float
) -> pd.DataFrame:
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = []
        for number, path in enumerate(meteorology):
            files.append(Path(f"m{number}.arl"))
            (folder / files[-1]).symlink_to(Path(path).absolute())
        receptor = MultiPointReceptor(
            time=time,
            longitudes=releases["lon"].tolist(),
            latitudes=releases["lat"].tolist(),
            altitudes=releases["height"].tolist(),
        )
        write_inputs(folder, receptor, config, files)
        done = subprocess.run(["./hycs_std"], cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
        told = folder / "WARNING"
        said = done.stdout + done.stderr + (told.read_text(errors="replace") if told.exists() else "")
        assert "Complete Hysplit" in said, said[-2000:]
        assert "no more meteorology" not in said, said[-2000:]
        return pd.read_csv(
            folder / "PARTICLE_STILT.DAT",
            sep=r"\s+",
            skiprows=1,
            header=None,
            names=list(config.varsiwant),
            dtype=float,
        )


def _check_order(answer: pd.DataFrame, releases: pd.DataFrame) -> None:
    """`hycs_std` leaves out releases outside the grid without a word, and numbers those after them anew."""
    first = answer[answer["time"] == answer["time"].max()].drop_duplicates("release")
    from_here = releases.loc[first["release"]]
    away = np.hypot(first["long"].to_numpy() - from_here["lon"], first["lati"].to_numpy() - from_here["lat"])
    assert away.max() < 0.2, "a release lies outside the grid"


def scattered(
    count: int, lon: tuple[float, float], lat: tuple[float, float], height: tuple[float, float], time: Any, seed: int
) -> pd.DataFrame:
    """Releases spread evenly over a box and in the logarithm of height."""
    chance = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "lon": chance.uniform(*lon, count).round(6),
            "lat": chance.uniform(*lat, count).round(6),
            "height": np.exp(chance.uniform(*np.log(height), count)).round(1),
            "time": pd.Timestamp(time),
        }
    )
