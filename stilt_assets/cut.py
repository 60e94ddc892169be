"""
How is a scene cut into packs?
"""

from collections.abc import Sequence

import numpy as np


def cut(longitude: Sequence[float], latitude: Sequence[float], at_most: int) -> list[np.ndarray]:
    """
    Packs of neighbours: sorted pixel numbers, each pixel in exactly one pack, sizes that differ by one at most.

    The scene is halved across its longer side until the parts are packs; longitudes are taken the short way round.
    """
    count = len(longitude)
    if count == 0:
        return []
    lat = np.asarray(latitude, dtype=float)
    middle = np.exp(1j * np.radians(np.asarray(longitude, dtype=float))).mean()
    lon = (np.asarray(longitude, dtype=float) - np.degrees(np.angle(middle)) + 180.0) % 360.0 - 180.0
    places = np.stack([lon * np.cos(np.radians(lat.mean())), lat])
    packs: list[np.ndarray] = []
    _halve(places, np.arange(count), -(-count // at_most), packs)
    return packs


def _halve(places: np.ndarray, members: np.ndarray, parts: int, packs: list[np.ndarray]) -> None:
    if parts == 1:
        packs.append(np.sort(members))
        return
    here = places[:, members]
    longer = int(np.ptp(here[1]) > np.ptp(here[0]))
    ordered = members[np.lexsort((members, here[1 - longer], here[longer]))]
    left = parts // 2
    small, larger = divmod(len(members), parts)
    border = left * small + min(left, larger)
    _halve(places, ordered[:border], left, packs)
    _halve(places, ordered[border:], parts - left, packs)
