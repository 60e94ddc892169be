"""What a pod asks for follows from what the scene is, and a node that is too small is told before anything runs."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from place import KEY, Place

from stilt_assets.errors import OverBudgetError
from stilt_assets.pod import MIB, TYPICAL, Burden, Request, minutes_of, requests_for, requests_of_scene
from stilt_assets.recipes import Desk
from stilt_assets.shard import plan_footprints, shards_of
from stilt_assets.stages import make_meteorology, make_pixels
from stilt_assets.worker import cores

GIB = 2**30
SMALL = Burden(
    particles=100, hours_back=2, workers=2, pack=4, packs=3, aggregate=3e7, columns=1e5, files=0, retrieval=0
)


@pytest.fixture
def place(tmp_path: Path, shared: Path) -> Place:
    made = Place(tmp_path, shared)
    made.add()
    return made


def shard(**changes: object) -> Request:
    return requests_for(replace(SMALL, **changes))["run_shard"]  # pyright: ignore[reportArgumentType]


# ---- one thing changes, and what it costs


def test_a_worker_more_is_a_core_more_and_the_memory_of_a_worker_with_its_program() -> None:
    more = shard(workers=3)
    assert (shard().cpu, more.cpu) == (2, 3)
    assert (more.memory - shard().memory) / 1.25 / MIB == pytest.approx(110 + 104)


def test_particles_beyond_what_hycs_std_holds_are_a_kilobyte_a_minute_in_each_worker() -> None:
    few, many = shard(particles=1000, keep="endpoints", cells=1), shard(particles=2000, keep="endpoints", cells=1)
    ends = 2 * 60 * 4 * 1000  # bytes of a pack's particles' ends, read and written
    assert (many.memory - few.memory) / 1.25 == pytest.approx(2 * 1000 * 120 * 1000 + ends, rel=1e-3)


def test_the_meteorology_counts_once_for_all_workers_and_lies_on_the_pods_disk_only_if_it_is_copied_there() -> None:
    for workers in (1, 5):
        assert shard(workers=workers, aggregate=2e9).memory - shard(workers=workers, aggregate=1e9).memory == 10**9
    assert shard(aggregate=2e9).scratch - shard(aggregate=1e9).scratch == 1.25e9
    assert shard(aggregate=2e9, copied=False).scratch == shard(aggregate=1e9, copied=False).scratch


def test_scratch_is_the_text_that_each_worker_writes() -> None:
    text = 135 * 100 * 120 + MIB
    assert shard(workers=3).scratch - shard(workers=2).scratch == pytest.approx(1.25 * text, abs=1)


def test_a_fused_transport_needs_its_decoded_meteorology_and_no_text() -> None:
    fused = shard(fused=True, columns=9e6, copied=False)
    assert fused.scratch == 256 * MIB
    assert fused.memory - shard(fused=True, columns=0, copied=False).memory == pytest.approx(9e6 * 853)
    both = requests_for(replace(SMALL, fused=True, columns=9e6))
    reference = requests_for(replace(SMALL, columns=9e6))["run_shard"]
    assert both["guard"].memory == both["run_shard_trusted"].memory == max(both["run_shard"].memory, reference.memory)
    assert both["guard"].scratch == max(both["run_shard"].scratch, reference.scratch)


def test_the_last_attempt_of_a_pixel_that_may_hold_so_much_is_alone_with_four_times_of_it() -> None:
    once, twice = shard(per_pixel=GIB, attempts=1), shard(per_pixel=GIB, attempts=3)
    assert (twice.memory - once.memory) / 1.25 == pytest.approx((4 - 2) * GIB)
    assert shard(per_pixel=GIB, attempts=3, workers=4).memory == twice.memory


def test_h_lies_on_the_disk_while_it_is_made() -> None:
    small, large = (requests_for(replace(SMALL, entries=n))["jacobian"].scratch for n in (0, 10**6))
    assert 8e6 * 1.25 < large - small < 40e6


# ---- as Kubernetes reads it


def test_resources_are_quantities_that_kubernetes_reads_and_hold_no_less_than_is_needed() -> None:
    told = Request(1.5, 10 * MIB + 1, 3 * MIB).resources
    assert told == {
        "requests": {"cpu": "1500m", "memory": "11Mi", "ephemeral-storage": "3Mi"},
        "limits": {"memory": "11Mi", "ephemeral-storage": "6Mi"},
    }


def test_every_step_has_a_request_before_anything_is_known() -> None:
    assert {"run", "pixels", "meteorology", "plan", "run_shard", "widen", "guard", "close", "jacobian", "check"} <= {
        *TYPICAL
    }
    assert all(each.cpu > 0 and each.memory > 500 * MIB and each.scratch > 0 for each in TYPICAL.values())
    assert TYPICAL["run"].memory < TYPICAL["run_shard"].memory


# ---- of a scene


def desk_with(place: Place, *stages: str) -> Desk:
    desk = place.desk()
    for stage, make in (("pixels", make_pixels), ("meteorology", make_meteorology)):
        if stage in stages:
            make(desk)
    return desk


def test_a_scene_asks_for_what_its_settings_and_its_results_say(place: Place) -> None:
    guessed = requests_of_scene(desk_with(place), aggregate=5e9)["run_shard"]
    desk = desk_with(place, "pixels", "meteorology")
    known = requests_of_scene(desk, aggregate=5e9)["run_shard"]
    aggregate = (place.result("meteorology") / "meteorology.arl").stat().st_size
    assert guessed.memory - known.memory == pytest.approx(5e9 - aggregate, rel=1e-3)
    assert known.cpu == 2
    assert requests_of_scene(desk)["run_shard"] == known


def test_minutes_are_the_plans_shared_by_packs_and_workers(place: Place) -> None:
    desk = desk_with(place, "pixels", "meteorology")
    assert minutes_of(desk, 1) is None
    left = plan_footprints(desk, expected={"seconds": 1800.0})
    assert len(shards_of(left, 50)) == 3
    assert minutes_of(desk, 2) == pytest.approx(1800 / 60 * 2 / 3 / 2)


def test_a_scene_whose_pods_fit_on_no_node_is_refused_in_one_line_before_anything_runs(place: Place) -> None:
    place.change(cluster={"node": {"cores": 1.5, "memory": 64, "scratch": 300}}, limits={})
    from stilt_assets.budget import hold_to_nodes
    from stilt_assets.preview import preview_of

    desk = place.desk()
    weighed = preview_of(desk)
    line = f"the pod of run_shard of {KEY} asks for 2 of cores, cluster.node has 1.5: lower packs.workers"
    with pytest.raises(OverBudgetError, match=re.escape(line)):
        hold_to_nodes(weighed, desk.settings)
    place.change(cluster={"node": {"cores": 2, "memory": 0.5, "scratch": 300}})
    with pytest.raises(OverBudgetError, match=r"asks for [\d.]+ GiB of memory, cluster.node has 0.5: lower"):
        hold_to_nodes(weighed, place.desk().settings)
    place.change(cluster={"node": {"cores": 2, "memory": 64, "scratch": 300}})
    hold_to_nodes(weighed, place.desk().settings)


def test_a_preview_says_what_a_pod_asks_for(place: Place) -> None:
    told = place.cli("preview", KEY).stdout
    assert re.search(r"a pod +2 cores, [\d.]+ GiB memory, [\d.]+ GiB scratch for a shard", told)


# ---- in the pod


def test_a_container_starts_no_more_workers_than_cores_that_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILT_ASSETS_CORES", "3")
    assert cores() == 3
    for nonsense in ("", "0", "many"):
        monkeypatch.setenv("STILT_ASSETS_CORES", nonsense)
        assert cores() >= 1
