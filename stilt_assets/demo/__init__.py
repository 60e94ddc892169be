"""
What can be run without a network, an account or a download?

A scene that is wholly made up, kept as code: a day of weather over a valley (`meteorology`), a methane retrieval that
saw it (`retrieval`), and the settings that bring the two together. Its results mean nothing; its files have the exact
layouts of the real ones, so that every step of the flow runs on them. Tests and tutorials need nothing else.
"""

import tempfile
from pathlib import Path

from stilt_assets.demo.meteorology import write_meteorology
from stilt_assets.demo.retrieval import write_retrieval

METEOROLOGY_NAME = "20230715_12-24_demo"
SETTINGS_NAME = "settings.yaml"
SETTINGS = """\
# Everything here is made up: the weather, the retrieval and the valley. Paths start at this file's folder.
store: ./store
retrievals: ./inbox
meteorology: {product: demo, source: ./meteorology}
simulation: {hours_back: 6, particles: 200, top: 2500, seed: 0, transport: hysplit}
packs: {pixels: 8, workers: 2}
keep: core
targets:
  valley:
    bounds: [-112.3, 40.4, -111.5, 40.8]
    grid: {west: -112.7, south: 40.0, east: -111.1, north: 41.2, resolution: 0.01}
    aggregate: {block: {resolution: 0.1}}
"""


def lay_out(folder: Path) -> Path:
    """
    Write `inbox/`, `meteorology/` and `settings.yaml` of the demo scene into a folder; the settings' path is returned.

    Each file appears whole. Inputs that already hold the same bytes are left as they are, others under their names are
    replaced; settings that are there stay, as somebody may have changed them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo-", dir=folder) as name:
        staged = Path(name)
        for part in ("inbox", "meteorology"):
            (staged / part).mkdir()
            (folder / part).mkdir(exist_ok=True)
        write_retrieval(staged / "inbox")
        write_meteorology(staged / "meteorology" / METEOROLOGY_NAME)
        (staged / SETTINGS_NAME).write_text(SETTINGS, encoding="utf-8")
        for made in sorted(path for path in staged.rglob("*") if path.is_file()):
            target = folder / made.relative_to(staged)
            theirs = made.name == SETTINGS_NAME and target.exists()
            if not theirs and (not target.is_file() or target.read_bytes() != made.read_bytes()):
                made.replace(target)
    return folder / SETTINGS_NAME
