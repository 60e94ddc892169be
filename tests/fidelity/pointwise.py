"""What does decoded meteorology hold where `hycs_std` printed a particle? Plain numpy, apart from the engine."""

import numpy as np
import pandas as pd

from stilt_assets.transport.native.geometry import to_grid
from stilt_assets.transport.native.layout import DENSITY, HEIGHTS, LEVELS, LID, SIGMA_W, THIN, TIMESCALE, Decoded

LEVEL = np.array(HEIGHTS)
DOUBT = 0.03  # of a cell: printed places are known to 10 m, and beyond half a cell another column is the nearest


def compared(decoded: Decoded, theirs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The oracle's answers and ours, without those whose nearest column the print does not tell."""
    places = np.array(
        [to_grid(*place, decoded.projection) for place in zip(theirs["long"], theirs["lati"], strict=True)]
    )
    near_another = np.abs(places - np.floor(places) - 0.5).min(axis=1) < DOUBT
    return theirs[~near_another], looked_up(decoded, theirs)[~near_another]


def alike(ours: pd.Series, theirs: pd.Series, share: float, digit: float) -> float:
    """How many of ours are within a share of theirs, or within the last digit that is printed."""
    return float(((ours - theirs).abs() <= np.maximum(share * theirs.abs(), digit)).mean())


def shares(theirs: pd.DataFrame, ours: pd.DataFrame) -> dict[str, float]:
    """How many values are alike: of the mixed layer within 1 %, of turbulence within 5 %."""
    known, within = ours["mlht"].notna(), theirs["zagl"] < theirs["mlht"]
    return {
        "mixed layer": alike(ours["mlht"][known], theirs["mlht"][known], 0.01, 0.01),
        "sigma_w in it": alike(ours["sigw"][within], theirs["sigw"][within], 0.05, 6e-4),
        "T_L in it": alike(ours["tlgr"][within], theirs["tlgr"][within], 0.05, 6e-4),
        "sigma_w above it": alike(ours["sigw"][~within], theirs["sigw"][~within], 0.05, 1.1e-3),
    }


def looked_up(decoded: Decoded, answers: pd.DataFrame) -> pd.DataFrame:
    """
    Our `pres`, `dens`, `mlht`, `sigw` and `tlgr` at the places of answers of the oracle, which tell `at`, their time.

    The mixed layer is the mean of before and after the minute: NaN for a particle's first row.
    """
    x, y = np.array(
        [to_grid(*place, decoded.projection) for place in zip(answers["long"], answers["lati"], strict=True)]
    ).T
    minutes = (answers["at"] - pd.Timestamp(0)).dt.total_seconds().to_numpy() / 60
    hour = (minutes - decoded.first) / decoded.spacing
    when = np.clip(np.floor(hour).astype(int), 0, len(decoded.mixed_layer) - 2)
    later = hour - when
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    sides = [
        (share_y * share_x, row + dy, column + dx)
        for dy, share_y in ((0, 1 - (y - row)), (1, y - row))
        for dx, share_x in ((0, 1 - (x - column)), (1, x - column))
    ]
    terrain = sum(share * decoded.terrain[j, i] for share, j, i in sides)
    zeta = answers["zagl"].to_numpy() * LID / (LID - terrain)
    level = np.clip(np.searchsorted(LEVEL, zeta, side="right") - 1, 0, LEVELS - 2)
    up = np.clip((zeta - LEVEL[level]) / (LEVEL[level + 1] - LEVEL[level]), 0, 1)

    def between(field: np.ndarray) -> np.ndarray:
        return sum(
            share * share_t * share_k * field[when + dt, j, i, level + dk]
            for share, j, i in sides
            for dt, share_t in ((0, 1 - later), (1, later))
            for dk, share_k in ((0, 1 - up), (1, up))
        )

    near = np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)
    depths = [decoded.mixed_layer[when + dt, *near].astype(float) for dt in (0, 1)]
    depth = depths[0] * (1 - later) + depths[1] * later
    shrink = ((LID - decoded.terrain[near]) / LID).astype(float)
    sigma, scale = _turbulence(decoded, when, later, near, zeta * shrink, depths, depth, shrink)
    same = (np.diff(answers["release"]) == 0) & (np.diff(answers["time"]) == -1)
    mean = np.full(len(answers), np.nan)
    mean[1:][same] = 0.5 * (depth[1:] + depth[:-1])[same]
    return pd.DataFrame(
        {
            "pres": between(decoded.pressure),
            "dens": between(decoded.wind[..., DENSITY]),
            "mlht": mean,
            "sigw": sigma,
            "tlgr": scale,
        }
    )


def _turbulence(decoded, when, later, near, height, depths, depth, shrink):
    """Of the nearest column: for each level the nearest one to the same share of the mixed layer at both times."""
    zeta = height / shrink
    top = np.searchsorted(LEVEL, depth / shrink)  # the first level at or above the mixed layer
    thin = LEVEL[top] + THIN * (LEVEL[top + 1] - LEVEL[top])
    level = np.clip(np.searchsorted(LEVEL, zeta, side="right") - 1, 0, LEVELS - 2)
    level = level + ((level == top) & (zeta >= thin))
    values = []
    for dt in (0, 1):
        like = LEVEL[level] * depths[dt] / depth
        nearest = np.abs(LEVEL - like[:, None]).argmin(axis=1)
        extra = decoded.extra[when + dt, *near].astype(int)
        values.append(decoded.turbulence[when + dt, *near, nearest + (nearest > extra)])
    mean = values[0] * (1 - later)[:, None] + values[1] * later[:, None]
    return mean[:, SIGMA_W], mean[:, TIMESCALE]
