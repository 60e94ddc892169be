"""
Where does the mean wind carry particles, on grids and levels that HRRR does not have?

Section A of the acceptance, without chance. `hycs_std`'s answers are kept (`answers/ways.parquet`);
`python -m fidelity.ways` makes them again.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from fidelity.cases import CASES
from fidelity.oracle import ask
from stilt_assets.transport.native.engine import Met, fly_still, new_flight, start

KEPT = Path(__file__).parent / "answers" / "ways.parquet"
NAMES = ("degrees", "pressure", "pressure_steep", "gdas")
EVERY = 5  # of a case's releases one is followed
MINUTES = (1, 20, 60)  # after the release
CALM = 30.0  # m above ground: below it a rounding error of height is one of the wind
METRES = 111_200.0  # per degree
WHERE = {"release": "i2", "time": "i2", "long": "f8", "lati": "f8", "zagl": "f4", "pres": "f4", "dens": "f4"}


def releases(name: str) -> pd.DataFrame:
    """Some of a case's."""
    return CASES[name].releases().iloc[::EVERY].reset_index(drop=True)


def asked() -> pd.DataFrame:
    """hycs_std's particles at some minutes after their releases."""
    found = []
    with TemporaryDirectory() as folder:
        for name in NAMES:
            file = CASES[name].make(Path(), Path(folder) / f"{name}.arl")
            answers = ask(releases(name), [file], 1, nturb=1)
            rows = answers.loc[(-answers["time"]).isin(MINUTES), list(WHERE)].astype(WHERE)
            found.append(rows.assign(name=name))
    return pd.concat(found, ignore_index=True)


def kept(name: str) -> pd.DataFrame:
    """The same of one case, as they were answered."""
    return pd.read_parquet(KEPT).query("name == @name").reset_index(drop=True)


def apart(met: Met, name: str) -> pd.DataFrame:
    """How far ours are from theirs: `minute`, `across` and `up` m, `pres` hPa, `dens` relative, `lowest` m of both."""
    theirs, rows = kept(name).set_index(["release", "time"]), []
    for number, each in enumerate(releases(name).itertuples()):
        flight, release = new_flight(1), int(each.time.timestamp()) // 60
        assert start(met, flight, 0, np.uint64(5), each.lon, each.lat, each.height, release)
        for minute in range(1, MINUTES[-1] + 1):
            assert fly_still(met, flight, release - minute + 1) == 1
            if minute in MINUTES:
                their = theirs.loc[(number, -minute)]
                east = (flight.lon[0] - their["long"] + 180.0) % 360.0 - 180.0
                across = METRES * np.hypot(east * np.cos(np.radians(their["lati"])), flight.lat[0] - their["lati"])
                up, lowest = abs(flight.zagl[0] - their["zagl"]), min(flight.zagl[0], their["zagl"])
                air = flight.pres[0] - their["pres"], flight.dens[0] / their["dens"] - 1.0
                rows.append((minute, across, up, *air, lowest))
    return pd.DataFrame(rows, columns=["minute", "across", "up", "pres", "dens", "lowest"])


if __name__ == "__main__":
    asked().to_parquet(KEPT, compression="zstd", index=False)
