"""
How is a scene cut into packs?
"""

import numpy as np
import numpy.typing as npt


def cut(
    longitude: npt.ArrayLike, latitude: npt.ArrayLike, at_most: int, first: int = 0, last: int | None = None
) -> dict[int, np.ndarray]:
    """
    Packs of neighbours by number: sorted pixel numbers, each pixel in one pack, sizes that differ by one at most.

    The scene is halved across its longer side until the parts are packs; longitudes are taken the short way round.
    With `first` or `last` only the packs of these numbers are cut, in less time: they are the same.
    """
    lon, lat = (np.asarray(values, dtype=float) for values in (longitude, latitude))
    if len(lon) == 0:
        return {}
    middle = np.degrees(np.angle(np.exp(1j * np.radians(lon)).mean()))
    lon = (lon - middle + 180.0) % 360.0 - 180.0
    places = np.stack([lon * np.cos(np.radians(lat.mean())), lat])
    parts = -(-len(lat) // at_most)
    wanted = range(first, parts if last is None else min(parts, last + 1))
    packs: dict[int, np.ndarray] = {}
    _halve(places, np.arange(len(lat)), range(parts), wanted, packs)
    return packs


def _halve(
    places: np.ndarray, members: np.ndarray, numbers: range, wanted: range, packs: dict[int, np.ndarray]
) -> None:
    """Cut `members` into the packs of `numbers`, as far as these are wanted."""
    if not range(max(numbers.start, wanted.start), min(numbers.stop, wanted.stop)):
        return
    if len(numbers) == 1:
        packs[numbers.start] = np.sort(members)
        return
    here = places[:, members]
    longer = int(np.ptp(here[1]) > np.ptp(here[0]))
    ordered = members[np.lexsort((members, here[1 - longer], here[longer]))]
    left = len(numbers) // 2
    small, larger = divmod(len(members), len(numbers))
    border = left * small + min(left, larger)
    _halve(places, ordered[:border], numbers[:left], wanted, packs)
    _halve(places, ordered[border:], numbers[left:], wanted, packs)
