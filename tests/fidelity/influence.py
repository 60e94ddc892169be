"""
How much influence has a minute that a particle spends wholly near the ground?

Section A of the acceptance: no chance is in it, so that a few parts in ten thousand are seen. `hycs_std`'s answers are
kept (`answers/influence.parquet`); `python -m fidelity.influence` makes them again.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fidelity.oracle import ask, scattered
from stilt_assets.transport.native.engine import Met, fly_minute, new_flight, start

KEPT = Path(__file__).parent / "answers" / "influence.parquet"
TIMES = ("2019-05-30 01:10", "2019-05-30 09:30")  # a deep mixed layer that falls apart, and a shallow one
RELEASES = 250  # of each time
WHOLE = 0.999  # of the minute


def asked(meteorology: Sequence[Path]) -> pd.DataFrame:
    """hycs_std's first minutes of releases near the ground, those that were spent there: a row a release."""
    releases = pd.concat(
        [
            scattered(RELEASES, (-112.5, -111.45), (40.35, 41.2), (5.0, 40.0), time, seed)
            for seed, time in enumerate(TIMES)
        ],
        ignore_index=True,
    )
    answers = ask(releases, meteorology, 1, nturb=0)
    first = answers[(answers["time"] == -1) & (answers["samt"] == 1.0)].set_index("release")
    return releases.join(first[["foot", "mlht", "dens"]], how="inner").reset_index(drop=True)


def kept() -> pd.DataFrame:
    """The same as they were answered."""
    return pd.read_parquet(KEPT)


def ratios(met: Met, theirs: pd.DataFrame) -> pd.DataFrame:
    """Our `foot` and `mlht` over those of hycs_std, where our minute is spent near the ground, too."""
    rows, seed = [], np.uint64(5)
    for each in theirs.itertuples():
        minute = round(each.time.timestamp() / 60)
        flight = new_flight(1)
        assert start(met, flight, 0, seed, each.lon, each.lat, each.height, minute)
        fly_minute(met, flight, seed, 0, minute)
        if flight.samt[0] > WHOLE:
            rows.append((flight.foot[0] / each.foot, flight.mlht[0] / each.mlht))
    return pd.DataFrame(rows, columns=["foot", "mlht"])


if __name__ == "__main__":
    files = sorted((Path(__file__).resolve().parents[3] / "shared" / "data" / "hrrr").iterdir())
    asked(files).to_parquet(KEPT, compression="zstd", index=False)
