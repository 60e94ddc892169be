"""A scene from its file to its Jacobian, and what happens on the way."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from place import BOUNDS, GRID, KEY, Place, contents, leftovers
from taxonomy import causes, seen, seen_at_the_end

from stilt_assets.arrays import read_array
from stilt_assets.errors import BusyError, StoppedError, UsageError
from stilt_assets.recipes import desk_of
from stilt_assets.shard import make_footprints
from stilt_assets.stages import make_jacobian, make_meteorology, make_pixels
from stilt_assets.status import status_of
from stilt_assets.why import verdicts

WHOLE = [-112.6, 40.2, -111.3, 41.2]


@pytest.fixture
def place(tmp_path: Path, shared: Path) -> Place:
    place = Place(tmp_path / "place", shared)
    place.add()
    return place


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Place:
    place = Place(tmp_path_factory.mktemp("undisturbed"), shared)
    place.add()
    place.make()
    return place


def outcomes(place: Place) -> list[dict]:
    files = sorted((place.result("footprints") / "outcomes").glob("*.parquet"))
    return sorted((row for file in files for row in pq.read_table(file).to_pylist()), key=lambda row: row["pixel"])


def jacobian(place: Place) -> Path:
    return place.result("jacobian") / "jacobian.zarr"


def test_all_44_good_pixels_of_the_test_scene_end_as_rows(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared, targets__slc__bounds=WHOLE, packs__pixels=16)
    place.add()
    place.make()
    h = zarr.open_group(jacobian(place), mode="r")["H"]
    assert h.attrs["shape"] == [44, 3 * 60 * 80]
    assert [row["pixel"] for row in outcomes(place)] == list(range(44))
    assert len(list(place.result("footprints").glob("pack=*.parquet"))) == 3
    status = read_array(jacobian(place), "obs/status")
    assert set(status) <= {1, 2}
    assert (status == 1).sum() >= 5
    assert leftovers(place.folder / "store") == []
    assert not (place.result("footprints") / "unfinished").exists()
    dropped = json.loads((place.scene / "scene.json").read_text())["results"][place.result("pixels").name]["summary"][
        "dropped"
    ]
    assert dropped == {"outside_bounds": 0, "low_quality": 4}


def test_a_second_run_does_nothing(undisturbed: Place) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.scene.rglob("*")}
    assert undisturbed.make() == []
    assert {path: path.stat().st_mtime_ns for path in undisturbed.scene.rglob("*")} == before


def test_other_settings_land_beside_the_first_result(place: Place) -> None:
    place.make()
    first = {stage: place.result(stage) for stage in ("pixels", "meteorology", "particles", "footprints", "jacobian")}
    bytes_before = {stage: contents(folder) for stage, folder in first.items()}
    place.change(simulation__seed=1)
    place.make()
    assert place.result("pixels") == first["pixels"]
    assert place.result("meteorology") == first["meteorology"]
    for stage in ("particles", "footprints", "jacobian"):
        assert place.result(stage) != first[stage]
    assert {stage: contents(folder) for stage, folder in first.items()} == bytes_before
    assert (
        read_array(first["jacobian"] / "jacobian.zarr", "obs/row_sum") != read_array(jacobian(place), "obs/row_sum")
    ).any()
    superseded = json.loads((place.scene / "scene.json").read_text())["superseded"]
    assert {
        "result": first["particles"].name,
        "by": place.result("particles").name,
        "differs": ["seed was 0, is 1"],
    } in superseded
    place.change(simulation__seed=0)
    assert place.make() == []
    assert place.result("jacobian") == first["jacobian"]


def test_a_new_grid_is_made_from_kept_particles_without_the_model(
    undisturbed: Place, tmp_path: Path, shared: Path
) -> None:
    place = Place(tmp_path, shared)
    place.add()
    place.make()
    place.change(targets__slc__grid=GRID | {"resolution": 0.05})
    place.make()
    assert [row["attempts"] for row in outcomes(place)] == [0] * 9
    regridded = jacobian(place)
    direct = Place(tmp_path / "direct", shared, targets__slc__grid=GRID | {"resolution": 0.05})
    direct.add()
    direct.make()
    assert [row["attempts"] for row in outcomes(direct)] == [1] * 9
    assert contents(regridded) == contents(jacobian(direct))
    assert place.result("particles").name == undisturbed.result("particles").name


@pytest.mark.parametrize(("keep", "folders"), [("endpoints", {"endpoints"}), ("full", {"endpoints", "trajectories"})])
def test_what_is_kept_changes_no_footprint(undisturbed: Place, place: Place, keep: str, folders: set[str]) -> None:
    place.change(keep=keep)
    place.make()
    assert {path.name for path in place.result("particles").iterdir()} == folders
    assert place.result("particles").name != undisturbed.result("particles").name
    assert contents(jacobian(place)) == contents(jacobian(undisturbed))
    names = [name for name in contents(place.result("footprints")) if name.startswith("pack=")]
    for name in names:
        assert (place.result("footprints") / name).read_bytes() == (
            undisturbed.result("footprints") / name
        ).read_bytes()


def test_pack_size_workers_and_timeout_change_no_result(undisturbed: Place, place: Place) -> None:
    place.change(packs__pixels=1, packs__workers=1, packs__timeout=100)
    place.make()
    assert len(list(place.result("footprints").glob("pack=*.parquet"))) == 9
    assert contents(jacobian(place)) == contents(jacobian(undisturbed))
    place.change(packs__pixels=9)
    assert place.make() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_loses_nothing_that_was_finished(undisturbed: Place, place: Place, number: signal.Signals) -> None:
    place.change(packs__pixels=9, packs__workers=1)
    process = place.start("stilt-assets", "run", KEY)
    wait_for_pixels(place, 1)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 3, said
    assert "run again to go on" in said.splitlines()[-1]
    finished = finished_pixels(place)
    assert finished
    place.make()
    assert contents(jacobian(place)) == contents(jacobian(undisturbed))
    assert {row["pixel"]: row["seconds"] for row in outcomes(place)}.items() >= finished.items()
    assert finished_pixels(place) == {}


def test_kill_9_of_a_run_loses_only_the_pixels_under_way(undisturbed: Place, place: Place) -> None:
    place.change(packs__pixels=9, packs__workers=1)
    process = place.start("stilt-assets", "run", KEY)
    wait_for_pixels(place, 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=240)
    finished = finished_pixels(place)
    assert finished
    place.make()
    assert contents(jacobian(place)) == contents(jacobian(undisturbed))
    assert {row["pixel"]: row["seconds"] for row in outcomes(place)}.items() >= finished.items()


def wait_for_pixels(place: Place, count: int) -> None:
    end = time.monotonic() + 240
    while len(finished_pixels(place)) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def finished_pixels(place: Place) -> dict[int, float]:
    """Seconds that each finished pixel of a pack that is not whole took."""
    files = place.scene.glob("footprints-*/unfinished/pack=*/pixel=*.npz")
    rows = [json.loads(str(np.load(file)["outcome"])) for file in files]
    return {row["pixel"]: float(np.float32(row["seconds"])) for row in rows}


def test_a_killed_worker_costs_a_second_attempt_of_its_pixel(undisturbed: Place, place: Place) -> None:
    place.change(simulation__particles=400, packs__workers=1)
    process = place.start("stilt-assets", "run", KEY)
    wait_for_pixels(place, 1)
    os.kill(worker_of(process.pid), signal.SIGKILL)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert sorted(row["attempts"] for row in outcomes(place)) == [1, 1, 1, 1, 1, 1, 1, 1, 2]


def test_a_killed_server_of_workers_costs_only_attempts(undisturbed: Place, place: Place) -> None:
    place.change(packs__workers=1)
    process = place.start("stilt-assets", "run", KEY)
    wait_for_pixels(place, 1)
    os.kill(parent_of(worker_of(process.pid)), signal.SIGKILL)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert contents(jacobian(place)) == contents(jacobian(undisturbed))


def worker_of(main: int) -> int:
    """The worker process below a run: the parent of hycs_std."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            facts = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            parent = int(facts["PPid"])
            if facts["Name"] == "hycs_std" and descends(parent, main):
                return parent
        time.sleep(0.005)
    raise AssertionError("no worker runs hycs_std")


def descends(process: int, ancestor: int) -> bool:
    while process > 1:
        if process == ancestor:
            return True
        process = parent_of(process)
    return False


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_a_pixel_outside_the_meteorology_is_a_row_with_a_reason(place: Place) -> None:
    place.move_pixel(0, 1, -113.2, 40.5)
    place.change(targets__slc__bounds=[-113.5, *BOUNDS[1:]], targets__slc__tolerance=0.5)
    place.make()
    lost = [row for row in outcomes(place) if row["status"] == "failed"]
    assert [row["reason"] for row in lost] == ["outside_meteorology"]
    (pixel,) = (row["pixel"] for row in lost)
    assert read_array(jacobian(place), "obs/status")[pixel] == 3
    assert read_array(jacobian(place), "obs/reason")[pixel] == "outside_meteorology"
    assert read_array(jacobian(place), "obs/nnz")[pixel] == 0
    assert json.loads(place.cli("status", KEY, "--json").stdout)["reasons"] == {"outside_meteorology": 1}


@causes("pixels_lost")
def test_too_many_lost_pixels_end_a_run_before_its_jacobian(place: Place) -> None:
    place.move_pixel(0, 1, -113.2, 40.5)
    place.change(targets__slc__bounds=[-113.5, *BOUNDS[1:]])
    said = place.cli("run", KEY, code=1).stderr.splitlines()[-1]
    assert "1 of 9 pixels lost (11.1%), 5.0% tolerated: 1 outside_meteorology" in said
    assert seen_at_the_end(said) == "pixels_lost"
    assert not list(place.scene.glob("jacobian-*"))


def test_a_changed_retrieval_file_makes_all_stages_stale(place: Place) -> None:
    place.make()
    place.move_pixel(0, 1, -112.21, 40.47)
    said = place.cli("why", KEY).stdout
    assert "pixels      stale" in said
    assert "retrieval was" in said
    assert "jacobian    stale" in said


def test_why_names_the_input_that_differs_and_nothing_else(undisturbed: Place) -> None:
    desk = undisturbed.desk()
    settings, store = desk.settings, desk.store
    assert {verdict.state for verdict in verdicts(desk_of(KEY, settings, store))} == {"current"}
    simulation = settings.simulation.model_copy(update={"particles": 30})
    stale = {
        verdict.stage: verdict
        for verdict in verdicts(desk_of(KEY, settings.model_copy(update={"simulation": simulation}), store))
    }
    assert [stage for stage, verdict in stale.items() if verdict.state == "stale"] == [
        "particles",
        "footprints",
        "jacobian",
    ]
    assert stale["particles"].why == ["particles was 20, is 30"]
    target = settings.targets["slc"].model_copy(update={"aggregate": {}})
    stale = verdicts(desk_of(KEY, settings.model_copy(update={"targets": {"slc": target}}), store))
    changed = [(verdict.stage, list(verdict.why)) for verdict in stale if verdict.state != "current"]
    assert changed == [("jacobian", ["aggregate.block was 0.1, is nothing"])]


def test_why_tells_what_it_can_of_meteorology_whose_folder_is_gone(undisturbed: Place, tmp_path: Path) -> None:
    desk, gone = undisturbed.desk(), str(tmp_path / "gone")
    meteorology = desk.settings.meteorology.model_copy(update={"source": gone})
    settings = desk.settings.model_copy(update={"meteorology": meteorology})
    told = verdicts(desk_of(KEY, settings, desk.store))
    assert [(verdict.state, len(verdict.why)) for verdict in told] == [("current", n) for n in (0, 1, 0, 0, 0)]
    assert f"not all of its files are in {gone} any more, so whether they have changed cannot be told" in told[1].why[0]
    shorter = desk.settings.simulation.model_copy(update={"hours_back": 1})
    told = verdicts(desk_of(KEY, settings.model_copy(update={"simulation": shorter}), desk.store))
    assert [verdict.state for verdict in told] == ["current", *4 * ["stale"]]
    *differs, last = told[1].why
    assert [line.split(" was ")[0] for line in differs] == ["hours", "hours_back"]
    assert last.startswith(f"it cannot be made now: no folder {gone} ")
    assert last.endswith("put the files there or name another meteorology.source")


def test_why_says_that_a_folder_is_gone_and_run_makes_it_anew(place: Place) -> None:
    place.make()
    before = contents(place.result("jacobian"))
    for stage, depend in (("pixels", 4), ("meteorology", 3), ("jacobian", 0)):
        shutil.rmtree(place.result(stage))
        said = place.cli("why", KEY).stdout
        assert re.search(rf"^{stage} +stale .*\n +its folder is not in the store any more; put it back", said, re.M)
        assert (said.count(" stale "), said.count(f"{stage} must be made first")) == (1 + depend, depend)
        assert place.make() == [stage]
        assert place.cli("why", KEY).stdout.count(" current ") == 5
        assert contents(place.result("jacobian")) == before


def test_why_says_that_meteorology_without_files_cannot_be_made_yet(place: Place) -> None:
    make_pixels(place.desk())
    (place.folder / "empty").mkdir()
    place.change(meteorology__source="./empty")
    said = place.cli("why", KEY).stdout
    assert "pixels      current" in said
    assert "meteorology missing" in said
    assert re.search(r"it cannot be made now: hrrr in .*empty has no 2019-05-30 0", said)
    assert said.count("meteorology must be made first") == 3


def test_why_says_that_pixels_inside_meteorology_without_files_cannot_be_chosen(place: Place) -> None:
    place.change(targets__slc__pixels={"inside_meteorology": True}, meteorology__source="./gone")
    said = place.cli("why", KEY, code=1).stderr
    assert re.search(r"^stilt-assets: no ARL file in .*gone .*\(no_archive\)$", said)


def test_a_stage_refuses_to_work_on_what_is_not_current(place: Place) -> None:
    desk = place.desk()
    with pytest.raises(UsageError, match=r"pixels of .* must be made first: it was not made yet"):
        make_meteorology(desk)
    make_pixels(desk)
    make_meteorology(desk)
    place.change(simulation__hours_back=3)
    later = place.desk()
    with pytest.raises(UsageError, match=r"meteorology of .* must be made first: .*hours was"):
        make_footprints(later)
    with pytest.raises(UsageError, match=r"footprints of .* must be made first"):
        make_jacobian(desk)


def test_an_aggregate_outlives_the_files_it_was_made_from(tmp_path: Path, shared: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for file in (shared / "data" / "hrrr").iterdir():
        (archive / file.name).write_bytes(file.read_bytes())
    place = Place(tmp_path / "place", shared, meteorology={"product": "hrrr", "source": str(archive)})
    place.add()
    place.make()
    for file in archive.iterdir():
        file.unlink()
    place.retrieval.unlink()
    assert place.make() == []
    archive.rmdir()
    assert place.make() == []


def test_rows_are_what_the_outcomes_say(undisturbed: Place) -> None:
    sums = read_array(jacobian(undisturbed), "obs/row_sum")
    assert np.allclose(sums, [row["row_sum"] for row in outcomes(undisturbed)], rtol=1e-6)
    errors = read_array(jacobian(undisturbed), "obs/mc_error")
    assert np.allclose(errors, [row["mc_error"] for row in outcomes(undisturbed)])


def test_a_renamed_meteorology_file_is_the_same_meteorology(tmp_path: Path, shared: Path) -> None:
    archive = tmp_path / "archive"
    (archive / "deep").mkdir(parents=True)
    for number, file in enumerate(sorted((shared / "data" / "hrrr").iterdir())):
        (archive / f"file{number}").write_bytes(file.read_bytes())
    place = Place(tmp_path / "place", shared, meteorology={"product": "hrrr", "source": str(archive)})
    place.add()
    place.make()
    (archive / "file1").rename(archive / "deep" / "other")
    assert place.make() == []


@pytest.mark.parametrize(("first", "then"), [("core", "endpoints"), ("full", "core")])
def test_keeping_less_needs_no_model(place: Place, first: str, then: str) -> None:
    place.change(keep=first)
    place.make()
    before = contents(jacobian(place))
    place.change(keep=then, packs__pixels=2)
    place.make()
    assert [row["attempts"] for row in outcomes(place)] == [0] * 9
    ends = contents(place.result("particles"))
    assert ends
    assert contents(jacobian(place)) == before


def test_pixels_that_timed_out_get_another_try_and_the_others_do_not(undisturbed: Place, place: Place) -> None:
    place.change(packs__pixels=9, packs__timeout=0.01, targets__slc__tolerance=1.0)
    place.make()
    assert {row["reason"] for row in outcomes(place)} == {"timeout"}
    lost = place.result("jacobian")
    place.change(packs__timeout=600)
    assert place.make() == ["footprints", "jacobian"]
    assert {row["status"] for row in outcomes(place)} <= {"ok", "empty"}
    assert place.result("jacobian") != lost
    assert contents(jacobian(place)) == contents(jacobian(undisturbed))


def test_a_second_process_on_the_same_footprints_is_refused_if_the_first_is_stuck(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stilt_assets.workers._PATIENCE", 0)
    place.make()
    (place.result("footprints") / "outcomes" / "pack=00001.parquet").unlink()
    with (
        place.desk().store.alone(str(place.result("footprints") / "outcomes" / "pack=00001.parquet")),
        pytest.raises(BusyError, match="another process works"),
    ):
        place.make()
    assert place.make() == ["footprints"]


def test_workers_end_with_the_process_that_started_them(place: Place) -> None:
    place.change(simulation__particles=400, packs__workers=1)
    process = place.start("stilt-assets", "run", KEY)
    worker = worker_of(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=240)
    end = time.monotonic() + 240
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1]:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_damaged_result_is_made_again(place: Place) -> None:
    place.make()
    before = contents(place.result("pixels"))
    (place.result("pixels") / "pixels.parquet").unlink()
    assert place.make() == ["pixels"]
    assert contents(place.result("pixels")) == before


def test_scenes_added_during_a_run_are_not_undone_by_it(place: Place) -> None:
    desk = place.desk()
    make_pixels(desk)
    other = place.desk()
    other.record.retrieval = other.record.retrieval | {"path": "/elsewhere.nc"}
    other.record.changed.add("retrieval")
    other.record.save(other.store)
    desk.record.save(desk.store)
    assert place.desk().record.retrieval["path"] == "/elsewhere.nc"


@causes("stopped")
def test_status_tells_of_the_footprints_under_way_and_of_the_current_ones(undisturbed: Place, place: Place) -> None:
    store = place.desk().store
    place.make()
    assert (status_of(store, KEY).state, status_of(store, KEY).outcomes["missing"]) == ("done", 0)
    place.change(simulation__seed=1)
    with pytest.raises(StoppedError) as caught:
        make_footprints(place.desk(), stopped=lambda: True)
    assert seen(caught.value.reason) == "stopped"
    assert (status_of(store, KEY).state, status_of(store, KEY).outcomes["missing"]) == ("started", 9)
    place.change(simulation__seed=0)
    place.make()
    assert (status_of(store, KEY).state, status_of(store, KEY).outcomes["missing"]) == ("done", 0)
