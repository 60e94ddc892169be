"""A scene that `native` moves: from its file to its Jacobian, killed, resumed and gridded again."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from threading import Timer
from typing import Any

import pyarrow.parquet as pq
import pytest
from place import BOUNDS, GRID, KEY, Place, contents, leftovers

from stilt_assets.arrays import read_array
from stilt_assets.scratch import lock_of
from stilt_assets.shard import make_footprints
from stilt_assets.stages import make_meteorology, make_pixels

COARSE = GRID | {"resolution": 0.05}
SIMULATION = {"hours_back": 2, "particles": 60, "top": 1500, "transport": "native", "guard": {"at_least": 1}}


def native_place(folder: Path, shared: Path, **changes: Any) -> Place:
    return Place(folder, shared, simulation=SIMULATION, packs__pixels=9, packs__workers=1, **changes)


@pytest.fixture
def place(tmp_path: Path, shared: Path) -> Place:
    place = native_place(tmp_path / "place", shared)
    place.add()
    return place


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Place:
    place = native_place(tmp_path_factory.mktemp("undisturbed"), shared)
    place.change(packs__workers=2)
    place.add()
    place.cli("run", KEY)
    return place


def outcomes(place: Place) -> list[dict[str, Any]]:
    files = sorted((place.result("footprints") / "outcomes").glob("*.parquet"))
    return sorted((row for file in files for row in pq.read_table(file).to_pylist()), key=lambda row: row["pixel"])


def cells(place: Place) -> dict[str, bytes]:
    found = contents(place.result("footprints"))
    return {name: content for name, content in found.items() if name.startswith("pack=")}


def aside(place: Place) -> list[Path]:
    return list(place.scene.glob("footprints-*/unfinished/pack=*/pixel=*.npz"))


def decoded(place: Place) -> list[Path]:
    return list(place.result("meteorology").glob(".*.decoded-*[!k]"))  # without locks


def line_of(stage: str, said: str) -> str:
    return next(line.rstrip() for line in said.splitlines() if line.startswith(stage))


def under_way(place: Place) -> subprocess.Popen[str]:
    """A run that has made its first pixels."""
    process = place.start("stilt-assets", "run", KEY)
    end = time.monotonic() + 200
    while not aside(place) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.001)
    return process


def test_a_scene_of_native_ends_as_rows(undisturbed: Place) -> None:
    rows = outcomes(undisturbed)
    assert [(row["pixel"], row["status"], row["attempts"]) for row in rows] == [(k, "ok", 1) for k in range(9)]
    assert all(row["row_sum"] > 0 and 0 < row["mc_error"] < 1.01 * row["row_sum"] for row in rows)
    assert all(0 <= row[name] <= 1 for row in rows for name in ("left_domain", "near_edge", "near_lid"))
    jacobian = undisturbed.result("jacobian") / "jacobian.zarr"
    assert read_array(jacobian, "obs/row_sum") == pytest.approx([row["row_sum"] for row in rows], rel=1e-3)
    made = json.loads((undisturbed.scene / "scene.json").read_text())["results"]
    assert made[undisturbed.result("particles").name]["made_from"]["transport"] == "native"
    assert leftovers(undisturbed.folder / "store") == []


def test_a_run_that_is_killed_with_kill_9_and_run_again_by_one_worker_ends_as_if_nothing_had_happened(
    undisturbed: Place, place: Place
) -> None:
    process = under_way(place)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert aside(place)
    assert decoded(place)
    again = place.cli("run", KEY)
    assert "as before" in line_of("meteorology", again.stderr)
    assert cells(place) == cells(undisturbed)
    assert contents(place.result("jacobian")) == contents(undisturbed.result("jacobian"))
    assert leftovers(place.folder / "store") == []


def test_what_a_killed_run_decoded_is_gone_with_the_next_even_if_that_flies_nothing(place: Place) -> None:
    place.make()
    left = place.result("meteorology") / ".meteorology.arl.0123456789abcdef.decoded-0123456789ab"
    for path in (left, lock_of(left)):
        path.write_bytes(b"of a process that was killed")
    assert "as before" in line_of("meteorology", place.cli("run", KEY).stderr)
    assert leftovers(place.folder / "store") == []


def test_a_second_run_leaves_the_meteorology_that_the_first_one_flies_in(undisturbed: Place, place: Place) -> None:
    first = under_way(place)
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        aggregate = place.result("meteorology") / "meteorology.arl"
        inode = aggregate.stat().st_ino
        assert decoded(place)
        second = place.start("stilt-assets", "run", KEY)
        assert second.stderr is not None
        too_late = Timer(120, second.kill)
        too_late.start()
        told = next((line for line in second.stderr if line.startswith("meteorology")), "nothing")
        too_late.cancel()
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert "as before" in told
    for process in (first, second):
        assert process.communicate(timeout=200)[1] is not None
        assert process.returncode == 0
    assert aggregate.stat().st_ino == inode
    assert contents(place.result("jacobian")) == contents(undisturbed.result("jacobian"))


def test_memory_is_limited_when_the_model_is_loaded(place: Place, undisturbed: Place) -> None:
    place.change(packs__memory=1024)
    place.cli("run", KEY)  # again with more, if that does not do once the model is loaded
    assert {row["status"] for row in outcomes(place)} == {"ok"}
    assert cells(place) == cells(undisturbed)


def test_without_its_meteorology_the_choice_of_auto_stands_as_it_was(
    undisturbed: Place, tmp_path: Path, shared: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(undisturbed.folder, again)
    place = native_place(again, shared, simulation__transport="auto")
    shutil.rmtree(place.result("meteorology"))
    assert "meteorology stale" in place.cli("why", KEY).stdout
    assert "0 pixels; 0 of 1 packs" in place.cli("preview", KEY).stdout
    place.cli("export", KEY, "--pixel", "2", "--to", str(tmp_path / "footprint.nc"))
    assert place.make() == ["meteorology"]
    assert place.cli("why", KEY).stdout.count(" current ") == 5


def test_a_new_grid_is_made_from_kept_particles_without_a_flight(
    undisturbed: Place, place: Place, tmp_path: Path, shared: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(undisturbed.folder, again)
    regridded = native_place(again, shared, targets__slc__grid=COARSE)
    regridded.make()
    assert [row["attempts"] for row in outcomes(regridded)] == [0] * 9
    place.change(targets__slc__grid=COARSE, keep="endpoints")
    place.make()
    assert [row["attempts"] for row in outcomes(place)] == [1] * 9
    assert cells(regridded) == cells(place)
    assert contents(regridded.result("jacobian")) == contents(place.result("jacobian"))


def test_lost_pixels_have_a_reason(place: Place) -> None:
    place.move_pixel(0, 1, -113.2, 40.5)
    place.change(targets__slc__bounds=[-113.5, *BOUNDS[1:]], packs__timeout=1e-9, packs__attempts=2)
    desk = place.desk()
    for stage in (make_pixels, make_meteorology, make_footprints):
        stage(desk)
    lost = [(row["status"], row["reason"], row["attempts"]) for row in outcomes(place)]
    assert sorted(lost) == [("failed", "outside_meteorology", 1), *[("failed", "timeout", 2)] * 8]
