"""
Was the crop large enough? The particles say.

A worker counts for each pixel the particles that came near a side or a lid; the scene's verdict follows from all of
them and from the certificate, which says where a crop could have been larger.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
import numpy.typing as npt

from stilt_assets.meteorology import SIDES
from stilt_assets.meteorology.rule import ENDS_BEFORE, FELT_BELOW, NEAR
from stilt_assets.meteorology.weather import level_heights

# A row's sum has 0.6 to 6 % of noise with 1,000 particles and 1.3 to 10 % with 200: one particle in a hundred that went
# astray hides in it.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Edges:
    """Where an aggregate ends: small enough to be handed to every worker."""

    grid: arlmet.Grid
    cut: tuple[bool, bool, bool, bool]  # whether the crop ends a side, as SIDES
    felt_from: npt.NDArray[np.float32] | None  # (y, x) m above ground, where the lid is felt; None: not known

    def shares(
        self, lon: npt.ArrayLike, lat: npt.ArrayLike, zagl: npt.ArrayLike, particle: npt.ArrayLike
    ) -> tuple[float, float]:
        """
        Shares of particles that ever came near a side of the crop, and that ever felt the lid.

        Near is within one cell of where HYSPLIT ends a particle. Arrays `(row,)`: degrees, degrees, m above ground, and
        each row's particle, 0 or more. Sides that the files end do not count; a lid does, whoever ends it. The second
        is NaN if the files do not tell the heights of their levels.
        """
        number = np.asarray(particle).astype(np.intp)
        x, y = self.grid.fractional_indices(np.asarray(lon, dtype=float), np.asarray(lat, dtype=float))
        near = np.zeros(len(number), dtype=bool)
        for side, place in enumerate((x, y, self.grid.nx - 1 - x, self.grid.ny - 1 - y)):
            if self.cut[side]:
                near |= ~(place >= ENDS_BEFORE[side] + NEAR)
        if self.felt_from is None:
            return _share(number, near), float("nan")
        row, column = (
            np.clip(np.rint(place), 0, cells - 1).astype(np.intp)
            for place, cells in ((y, self.grid.ny), (x, self.grid.nx))
        )
        return _share(number, near), _share(number, np.asarray(zagl) > self.felt_from[row, column])


def _share(number: npt.NDArray[np.intp], marked: npt.NDArray[np.bool_]) -> float:
    """The share of particles that are marked in any of their rows."""
    there, some = (np.bincount(each, minlength=1) > 0 for each in (number, number[marked]))
    return float(np.sum(some) / np.sum(there)) if len(number) else float("nan")


def edges_of(certificate: Mapping[str, Any], aggregate: Path) -> Edges:
    """The ends of an aggregate, from its certificate and its file."""
    ends = certificate["ends"]
    with arlmet.File(aggregate) as file:
        lowest = _lowest(_felt_from(file[time]) for time in file.times)
        west, south, east, north = (ends[side] == "crop" for side in SIDES)
        return Edges(file.grid, (west, south, east, north), lowest)


def _lowest(heights: Iterable[np.ndarray | None]) -> npt.NDArray[np.float32] | None:
    lowest: np.ndarray | None = None
    for each in heights:
        if each is None:
            return None
        lowest = each if lowest is None else np.minimum(lowest, each)
    return None if lowest is None else lowest.astype("f4")


def _felt_from(step: arlmet.RecordSet) -> np.ndarray | None:
    heights = level_heights(step, step.grid.full_window())
    return None if heights is None else heights[max(len(heights) - 1 - FELT_BELOW, 0)]


@dataclass(frozen=True)
class Verdict:
    """Whether a scene's crop was large enough."""

    enough: bool
    can_be_widened: bool  # whether a wider crop may help: it has not been widened yet
    line: str  # what the particles say


def judge(
    near_edge: npt.ArrayLike, near_lid: npt.ArrayLike, left_domain: npt.ArrayLike, certificate: Mapping[str, Any]
) -> Verdict:
    """
    The verdict on a scene from its pixels' shares, arrays `(pixel,)` that are NaN where a pixel has no particles.

    The crop was too small if more than a hundredth of the scene's particles came near a side or felt a lid that the
    crop ends. Sides and a lid that the files end are only told.
    """
    ends = certificate["ends"]
    edge, lid, left = (_mean(shares) for shares in (near_edge, near_lid, left_domain))
    cut = {"side": edge if any(ends[side] == "crop" for side in SIDES) else 0.0}
    cut["lid"] = lid if ends["lid"] == "crop" else 0.0
    far = {name: share for name, share in cut.items() if share > TOLERANCE}
    told = [
        f"{edge:.1%} of the particles came near a side that the crop ends (of one pixel's {_worst(near_edge):.1%})",
        f"{lid:.1%} felt the lid, which the {ends['lid']} {'end' if ends['lid'] == 'files' else 'ends'}"
        if len(_known(near_lid))
        else "whether any felt the lid is not known",
        f"{left:.1%} left before the run's end",
    ]
    line = "; ".join(told)
    if not far:
        return Verdict(True, False, f"the crop was large enough: {line}")
    can = not certificate["widened"]
    what = " and ".join(far)
    more = "" if can else ", though it was widened already"
    return Verdict(False, can, f"the crop was too small at its {what}{more}: {line}")


def _mean(shares: npt.ArrayLike) -> float:
    known = _known(shares)
    return float(known.mean()) if len(known) else 0.0


def _worst(shares: npt.ArrayLike) -> float:
    known = _known(shares)
    return float(known.max()) if len(known) else 0.0


def _known(shares: npt.ArrayLike) -> npt.NDArray[np.float64]:
    given = np.asarray(shares, dtype=float)
    return given[~np.isnan(given)]
