"""
Does a particle go the same way, minute by minute, if chance is left out?

Section A of the acceptance, on 72 mean-wind trajectories of `hycs_std` (`shared/data/gold`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stilt_assets.transport.native.engine import Met, fly_still, new_flight, start

KM_PER_DEGREE = 111.2
NEAR = 30.0  # m: others are elsewhere, where the air is another
COLUMNS = ("lon", "lat", "zagl", "pres", "dens")


@dataclass(frozen=True)
class Apart:
    """How far our trajectories are from theirs."""

    way: np.ndarray  # (trajectory,) m, the farthest
    height: np.ndarray  # (trajectory,) m, the farthest
    pressure: float  # hPa, root mean square along trajectories that stay within NEAR
    density: float  # relative, the same
    minutes: int  # compared


def apart(met: Met, gold: Path) -> Apart:
    """Compare with the gold file."""
    theirs = pd.read_parquet(gold / "deterministic_nturb1.parquet")
    ours = pd.concat([followed(met, each) for _, each in theirs.groupby("traj")])
    both = theirs.merge(ours, on=["traj", "time"], validate="one_to_one")
    east = (both["lon"] - both["long"]) * np.cos(np.radians(both["lati"]))
    both["way"] = 1000.0 * KM_PER_DEGREE * np.hypot(east, both["lat"] - both["lati"])
    both["height"] = (both["zagl_x"] - both["zagl_y"]).abs()
    farthest = both.groupby("traj")[["way", "height"]].max()
    alike = both[both["traj"].map(farthest["way"]) < NEAR]
    return Apart(
        way=farthest["way"].to_numpy(),
        height=farthest["height"].to_numpy(),
        pressure=_rms(alike["pres_x"] - alike["pres_y"]),
        density=_rms(alike["dens_x"] / alike["dens_y"] - 1.0),
        minutes=len(alike),
    )


def followed(met: Met, theirs: pd.DataFrame) -> pd.DataFrame:
    """Ours from where one of theirs set out, as long as both go on."""
    first = theirs.iloc[0]
    release = int(pd.Timestamp(first["r_time"]).timestamp()) // 60
    flight, rows = new_flight(1), []
    start(met, flight, 0, np.uint64(0), first["r_lon"], first["r_lat"], float(first["r_zagl"]), release)
    for minute in range(1, len(theirs) + 1):
        if not fly_still(met, flight, release - minute + 1):
            break
        rows.append((first["traj"], -float(minute), *(getattr(flight, name)[0] for name in COLUMNS)))
    return pd.DataFrame(rows, columns=["traj", "time", *COLUMNS])


def _rms(values: pd.Series) -> float:
    return float(np.sqrt(np.mean(values**2)))
