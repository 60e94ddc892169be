"""
How often did the satellite see a target while it filled one file?

A file of a day may hold more than one overpass of a target. Each is a scene of its own: its air has other hours.
"""

from dataclasses import replace
from datetime import datetime

import numpy as np

from stilt_assets.retrieval.reading import Retrieval

APART = np.timedelta64(60, "m")  # between two overpasses; an orbit takes 90 to 100, and its night half of them


def overpasses(found: Retrieval) -> dict[str, Retrieval]:
    """The good pixels of each overpass, by the minute (UTC) of its first one; all by "" if there is only one."""
    times = np.sort(found.pixels["time"].to_numpy())
    begins = times[np.flatnonzero(np.diff(times, prepend=times[:1] - 2 * APART) > APART)]
    if len(begins) < 2:
        return {"": found}
    number = np.searchsorted(begins, found.pixels["time"].to_numpy(), side="right")
    parts = [found.pixels.loc[number == one].reset_index(drop=True) for one in range(1, len(begins) + 1)]
    numbered = (part.assign(pixel=np.arange(len(part), dtype=np.int32)) for part in parts)
    found_ones = (replace(found, pixels=part, begins=None) for part in numbered)
    return {f"{each.time:%Y-%m-%dT%H:%MZ}": each for each in found_ones}


def overpass(found: Retrieval, time: datetime) -> Retrieval:
    """The overpass that begins nearest to a time (UTC). The others are not counted as dropped: they are scenes too."""
    return min(overpasses(found).values(), key=lambda each: abs(each.time - time)) if len(found.pixels) else found
