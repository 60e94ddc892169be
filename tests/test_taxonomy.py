"""Failures that need a scene, workers or a cluster to come to pass: each is told by its word of the table."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from place import KEY, Place, lived_in
from slurm_stub import Stub, installed
from taxonomy import causes, seen, seen_at_the_end

from stilt_assets import slurm
from stilt_assets.errors import SlurmError, WorkersKilledError
from stilt_assets.settings import SlurmSettings
from stilt_assets.shard import Shard, make_footprints, plan_footprints
from stilt_assets.stages import make_meteorology, make_pixels

PIXELS = 9


@pytest.fixture
def place(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Five packs of nine pixels with their meteorology, on air that does not move."""
    with lived_in(shared, monkeypatch) as place:
        desk = place.desk()
        make_pixels(desk)
        make_meteorology(desk)
        yield place


def wish(place: Place, **wishes: object) -> None:
    """What the air does, and what goes wrong with whom."""
    (place.folder / "still_air.json").write_text(json.dumps(wishes))


def outcomes(place: Place) -> list[dict]:
    files = sorted((place.result("footprints") / "outcomes").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


# ---- a pixel


@causes("no_pressure_profile")
def test_a_pixel_whose_pressure_rises_with_height_is_lost_and_not_tried_again(place: Place) -> None:
    wish(place, scale_height=-8000.0)
    make_footprints(place.desk())
    assert [(seen(row["reason"]), row["attempts"]) for row in outcomes(place)] == PIXELS * [("no_pressure_profile", 1)]


# ---- the machine


@causes("workers_killed")
def test_ten_workers_that_are_killed_one_after_the_other_end_the_run_which_goes_on_later(place: Place) -> None:
    place.change(packs__workers=1, packs__attempts=10, targets__slc__tolerance=1.0)
    wish(place, faults={"*": "die"})
    with pytest.raises(WorkersKilledError, match=r"^10 workers were killed one after the other") as caught:
        make_footprints(place.desk())
    assert (seen(caught.value.reason), caught.value.transient) == ("workers_killed", True)
    wish(place)
    make_footprints(place.desk())
    assert {row["status"] for row in outcomes(place)} == {"ok"}


# ---- a cluster of Slurm


@pytest.fixture
def stub(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with installed(place.folder / "slurm", monkeypatch) as stub:
        yield stub


def failure_of_jobs(place: Place, *setup: str) -> SlurmError:
    """How the jobs of a scene fail that begin so."""
    plan_footprints(place.desk())
    asked = {"look": 0.2, "cpus": 1, "attempts": 1, "logs": str(place.folder / "logs"), "setup": list(setup)}
    with pytest.raises(SlurmError) as caught:
        slurm.Slurm(SlurmSettings(**asked)).run(place.desk(), Shard(0, 4))  # pyright: ignore[reportArgumentType]
    seen(caught.value.reason)
    return caught.value


@causes("slurm_away")
def test_a_controller_that_gives_no_answer_for_too_long_ends_the_step(
    place: Place, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_AWAY", 0.5)
    failure = failure_of_jobs(place, f"echo 1000 >{stub.folder / 'away'}", "exec sleep 60")
    assert "Unable to contact slurm controller" in str(failure)
    assert failure.transient


@causes("slurm_refused")
def test_jobs_that_slurm_does_not_take_end_the_scene(place: Place, stub: Stub) -> None:
    (stub.folder / "refuse").write_text("sbatch: error: invalid partition specified: nowhere")
    assert not failure_of_jobs(place).transient


@causes("slurm_jobs")
def test_jobs_that_end_with_nothing_done_end_the_step(place: Place, stub: Stub) -> None:
    assert failure_of_jobs(place, "exit 7").transient


# ---- the result


@causes("not_physical")
def test_a_jacobian_that_contradicts_the_footprints_is_not_handed_out(place: Place) -> None:
    place.make()
    data = zarr.open_group(place.result("jacobian") / "jacobian.zarr", mode="r+")["H/data"]
    assert isinstance(data, zarr.Array)
    data[5] = 2 * np.asarray(data[5])
    said = place.cli("run", KEY, code=1)
    assert (seen_at_the_end(said.stderr.splitlines()[-1]), said.stdout) == ("not_physical", "")
    assert "row sums differ from the footprint files'" in said.stderr
