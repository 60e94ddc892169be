"""A short soak: a scene of sixty pixels under every fault ends with the Jacobian of a peaceful one."""

import tempfile
from pathlib import Path

from soak import soak


def test_a_scene_under_fire_ends_with_the_same_jacobian(shared: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:  # a short path: sockets lie below
        (fire,) = soak(Path(folder), pixels=60, packs=8, faults=8, every=0.5, seeds=[1])
    assert fire.faults.total() == 8
    assert len(fire.faults) >= 7  # all but the small disk, which not everybody may mount
    assert fire.exits["done"] == 1
