"""A folder with settings and inputs, as a user has it, small enough for a test."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import netCDF4
import pytest
import yaml

from stilt_assets.catalog import register
from stilt_assets.recipes import Desk, desk_of
from stilt_assets.settings import load_settings
from stilt_assets.shard import make_footprints
from stilt_assets.stages import make_jacobian, make_meteorology, make_pixels
from stilt_assets.store import open_store

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
KEY = "20190530T0958Z_tropomi_slc"
BOUNDS = [-112.36, 40.44, -112.05, 40.56]  # nine good pixels of the test scene
GRID = {"west": -112.8, "south": 40.15, "east": -111.2, "north": 41.35, "resolution": 0.02}


class Place:
    """Settings, inputs and a store below one folder."""

    def __init__(self, folder: Path, shared: Path, **changes: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (self.source,) = (shared / "data" / "retrievals").glob("S5P_TEST_*.nc")
        self.settings: dict[str, Any] = {
            "store": "./store",
            "retrievals": "./inbox",
            "meteorology": {"product": "hrrr", "source": str(shared / "data" / "hrrr")},
            "simulation": {"hours_back": 2, "particles": 20, "top": 2500},
            "packs": {"pixels": 4, "workers": 2},
            "targets": {"slc": {"bounds": BOUNDS, "grid": GRID, "aggregate": {"block": {"resolution": 0.1}}}},
        }
        self.change(**changes)
        (folder / "inbox").mkdir(exist_ok=True)
        self.retrieval = folder / "inbox" / self.source.name
        if not self.retrieval.exists():
            shutil.copyfile(self.source, self.retrieval)

    def change(self, **changes: Any) -> None:
        """Write the settings anew with top-level values replaced; a name a__b reaches one level deeper."""
        for name, value in changes.items():
            *parents, last = name.split("__")
            holder = self.settings
            for parent in parents:
                holder = holder.setdefault(parent, {})
            holder[last] = value
        (self.folder / "settings.yaml").write_text(yaml.safe_dump(self.settings))

    @property
    def config(self) -> Path:
        return self.folder / "settings.yaml"

    @property
    def scene(self) -> Path:
        return self.folder / "store" / "scenes" / KEY

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("DAGSTER_HOME", "STILT_ASSETS_STORE")}
        return kept | {"STILT_ASSETS_CONFIG": str(self.config)} | more

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BIN / words[0]), *words[1:]],
            cwd=self.folder,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run_raw(self, words: tuple[str, ...], **more: str) -> subprocess.CompletedProcess[str]:
        """Run any command with our programs on its path."""
        path = f"{BIN}:{os.environ['PATH']}"
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment(PATH=path, **more),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def run(self, *words: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and see that it exits with `code`."""
        process = self.start(*words, **more)
        try:
            out, err = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == code, f"{words} exited with {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def cli(self, *words: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("stilt-assets", *words, code=code, **more)

    def desk(self) -> Desk:
        """The scene, opened with the settings as they are now."""
        settings = load_settings(str(self.config))
        return desk_of(KEY, settings, open_store(settings.store))

    def add(self) -> None:
        """Register the scene."""
        settings = load_settings(str(self.config))
        register(str(self.retrieval), settings, open_store(settings.store))

    def make(self) -> list[str]:
        """All stages in this process, as `stilt-assets run` does them; the stages that were not there before."""
        desk = self.desk()
        stages = (make_pixels, make_meteorology, make_footprints, make_jacobian)
        return [done.stage for done in [stage(desk) for stage in stages] if done.made]

    def result(self, stage: str) -> Path:
        """The current result of a stage."""
        return self.scene / json.loads((self.scene / "scene.json").read_text())["current"][stage]

    def move_pixel(self, line: int, column: int, longitude: float, latitude: float) -> None:
        """Put one pixel of the retrieval somewhere else, with its corners."""
        with netCDF4.Dataset(self.retrieval, "a") as dataset:
            for name, value in (("longitude", longitude), ("latitude", latitude)):
                place, corners = dataset[f"PRODUCT/{name}"], dataset[f"PRODUCT/SUPPORT_DATA/GEOLOCATIONS/{name}_bounds"]
                corners[0, line, column] += value - place[0, line, column]
                place[0, line, column] = value


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def leftovers(folder: Path) -> list[str]:
    """Hidden files and folders: what was begun beside its place."""
    return [str(path) for path in folder.rglob(".*")]


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short path, for the block: sockets of workers lie below it."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def in_still_air(folder: Path, shared: Path, **packs: Any) -> Place:
    """Five packs of nine pixels, on air that does not move; registered."""
    settings = {"simulation__transport": "still_air:StillAir", "simulation__particles": 4}
    place = Place(folder, shared, **settings, packs={"pixels": 2, "workers": 2} | packs)
    place.add()
    return place


@contextmanager
def lived_in(shared: Path, patch: pytest.MonkeyPatch, **packs: Any) -> Iterator[Place]:
    """The same in a folder of its own, for the block; programs that start in it find its settings and its air."""
    with short_folder() as folder:
        patch.setenv("PYTHONPATH", str(HERE))
        patch.setenv("STILT_ASSETS_CONFIG", str(folder / "settings.yaml"))
        yield in_still_air(folder, shared, **packs)
