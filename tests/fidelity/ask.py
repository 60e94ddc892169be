"""
Ask `hycs_std` all that the tests here remember of it: `PYTHONPATH=tests python -m fidelity.ask [CASE ...]`.

Answers are a few hundred kB in `answers/`; what they were asked in is made anew by each test.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from fidelity.cases import CASES, Case
from fidelity.oracle import ask

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared"
ROWS = 2500
KEPT = ("release", "time", "long", "lati", "zagl", "pres", "dens", "mlht", "sigw", "tlgr")


def asked(case: Case, shared: Path, rows: int = ROWS) -> pd.DataFrame:
    """Some rows of the oracle's answers to a case, each after the row of the minute before."""
    releases = case.releases()
    with TemporaryDirectory() as folder:
        file = case.make(shared, Path(folder) / "weather.arl")
        answers = ask(releases, [file], 1, nturb=0, **case.setup)
    answers = answers.sort_values(["release", "time"], ascending=[True, False])[list(KEPT)].reset_index(drop=True)
    times = releases["time"].to_numpy()[answers["release"]]
    answers["at"] = times + pd.to_timedelta(answers["time"], unit="min").to_numpy()
    follows = np.flatnonzero((answers["release"].diff() == 0) & (answers["time"].diff() == -1))
    chosen = np.random.default_rng(3).choice(follows, min(rows // 2, len(follows)), replace=False)
    kept = answers.loc[np.unique(np.concatenate([chosen - 1, chosen]))]
    return kept.astype(dict.fromkeys(KEPT[2:], "f4") | {"release": "i2", "time": "i2"}).reset_index(drop=True)


def main(names: list[str]) -> None:
    for name in names or list(CASES):
        answers = asked(CASES[name], SHARED)
        answers.to_parquet(HERE / "answers" / f"{name}.parquet", compression="zstd", index=False)
        print(name, len(answers))


if __name__ == "__main__":
    main(sys.argv[1:])
