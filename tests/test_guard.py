"""A guard: a few pixels of each scene run once more with the model that is trusted, and who disagrees is found out."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from place import GRID, KEY, Place, contents, leftovers

from stilt_assets.agreement import Judgement, pixels_that
from stilt_assets.budget import hold_to, preview_of_many
from stilt_assets.definitions import defs
from stilt_assets.errors import OverLimitsError, StoppedError, StoreError
from stilt_assets.guard import Guard
from stilt_assets.preview import preview_of
from stilt_assets.scene import digest
from stilt_assets.shard import ask_the_guard, make_footprints, plan_footprints, run_shard, shards_of
from stilt_assets.stages import make_meteorology, make_pixels
from stilt_assets.status import status_of
from stilt_assets.workers import run_packs

HERE = str(Path(__file__).parent)
MODELS = ("still_air:StillAir", "still_air:DoubtfulAir")


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", HERE)


def materialized(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    chosen = dg.AssetSelection.groups("scene").resolve(defs.resolve_asset_graph())
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(partition_key=KEY, instance=instance, asset_selection=list(chosen))


def doubtful(folder: Path, shared: Path, too_much: float = 1.0, name: str = "DoubtfulAir", **changes) -> Place:
    settings = {"simulation__transport": f"still_air:{name}", "simulation__particles": 40, "packs__pixels": 4}
    place = Place(folder, shared, **settings | changes)
    place.add()
    (place.folder / "still_air.json").write_text(json.dumps({"too_much": too_much}))
    return place


def ran(place: Place) -> list[int]:
    log = place.folder / "ran"
    return sorted(int(line) for line in log.read_text().split()) if log.exists() else []


def told_by(place: Place, model: str) -> list[Path]:
    """Files of what a model told the guard."""
    return sorted((place.result("footprints") / "guard" / digest(model)[:12] / "told").iterdir())


def summary(place: Place) -> dict:
    return place.desk().record.result_of("footprints")["summary"]


def test_the_draw_follows_from_the_particles_alone() -> None:
    guard = Guard("8a1c", "hysplit", 0.01, 4)
    assert guard.draw(1000) == guard.draw(1000) == sorted(set(guard.draw(1000)))
    assert len(guard.draw(1000)) == 10
    assert len(guard.draw(1001)) == 11
    assert len(guard.draw(70)) == 4
    assert guard.draw(3) == [0, 1, 2]
    assert Guard("8a1d", "hysplit", 0.01, 4).draw(1000) != guard.draw(1000)
    drawn = {pixel for n in range(300) for pixel in Guard(f"{n}", "hysplit", 0.01, 4).draw(100)}
    assert drawn == set(range(100))


def test_a_scene_that_is_right_is_believed(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared)
    place.make()
    told = summary(place)
    assert told["guard_agrees"], told["guard"]
    assert told["guard"].startswith("sum of 4 pixels")
    judgement = json.loads((place.result("footprints") / "guard" / "judgement.json").read_text())
    assert (judgement["reference"], len(judgement["drawn"]), judgement["agrees"]) == ("still_air:StillAir", 4, True)
    assert ran(place) == sorted([*range(9), *2 * judgement["drawn"]])
    assert leftovers(place.scene) == []
    assert not list(place.scene.rglob("unfinished/*"))
    status = status_of(place.desk().store, KEY)
    assert (status.state, status.doubtful, status.guard) == ("done", False, told["guard"])
    assert place.make() == []
    assert ran(place) == sorted([*range(9), *2 * judgement["drawn"]])


def test_a_scene_that_is_wrong_is_marked(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = doubtful(tmp_path / "place", shared, too_much=1.3)
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("scenes", [KEY])
        result = materialized(instance)
    assert result.success
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    check = checks.pop("native_agrees_with_hysplit")
    assert (check.passed, check.severity, check.blocking) == (False, dg.AssetCheckSeverity.ERROR, False)
    assert "z of sum" in (check.description or "")
    assert check.metadata["pixels"].value == 4
    assert check.metadata["z_of_sum"].value > 4
    assert all(each.passed for each in checks.values())
    status = status_of(place.desk().store, KEY)
    assert (status.state, status.doubtful) == ("done", True)
    shown = place.cli("status", PYTHONPATH=HERE).stdout
    assert "doubtful" in " ".join(shown.split())


def test_a_scene_that_is_wrong_runs_again_with_the_model_that_is_trusted(tmp_path: Path, shared: Path) -> None:
    right = doubtful(tmp_path / "right", shared, name="StillAir")
    right.make()
    place = doubtful(tmp_path / "place", shared, too_much=1.3)
    place.make()
    assert status_of(place.desk().store, KEY).doubtful
    place.change(simulation__guard={"on_failure": "rerun"})
    said: list[str] = []
    make_footprints(place.desk(), say=said.append)
    place.make()
    assert contents(place.result("jacobian")) == contents(right.result("jacobian"))
    assert place.result("footprints").name == right.result("footprints").name
    assert [line.split(":")[0] for line in said] == ["guard", "transport"]
    status = status_of(place.desk().store, KEY)
    assert not status.doubtful
    assert status.transport.startswith("still_air:StillAir: still_air:DoubtfulAir did not agree with it: z of sum")
    before = ran(place)
    assert place.make() == []
    assert ran(place) == before


def test_dagster_runs_a_wrong_scene_again(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = doubtful(tmp_path / "place", shared, too_much=1.3, simulation__guard={"on_failure": "rerun"})
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("scenes", [KEY])
        result = materialized(instance)
    assert result.success
    assert all(each.passed for each in result.get_asset_check_evaluations())
    particles = place.desk().record.result_of("particles")
    assert particles["made_from"]["transport"] == "still_air:StillAir"
    right = doubtful(tmp_path / "right", shared, name="StillAir")
    right.make()
    assert contents(place.result("jacobian")) == contents(right.result("jacobian"))


def test_what_the_guard_is_to_run_is_weighed(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared, simulation__guard={"share": 0.5})
    before = preview_of(place.desk())
    assert before.expected is not None
    a_pixel = before.expected["seconds"] / 9
    place.make()
    assert len(ran(place)) == 9 + 5 + 5
    assert before.cpu_hours * 3600 == pytest.approx((9 + 5 + 5) * a_pixel, rel=0.02)  # no pack of either has run
    assert before.to_guard == dict.fromkeys(MODELS, 5)
    after = preview_of(place.desk())
    assert (after.cpu_hours, after.to_guard) == (0.0, {})


def test_a_guard_that_draws_more_is_weighed_and_runs_only_what_is_new(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared)
    place.make()
    first = len(ran(place))
    place.change(simulation__guard={"at_least": 6})
    told = preview_of(place.desk())
    assert (told.state, list(told.stages), told.to_follow) == ("done", [], 0)
    assert told.to_guard == dict.fromkeys(MODELS, 2)
    assert told.cpu_hours > 0.0
    place.change(limits={"scene": {"cpu_hours": told.cpu_hours / 2}})
    settings = place.desk().settings
    with pytest.raises(OverLimitsError, match=r"CPU hours \(limits.scene.cpu_hours"):
        hold_to(told, settings, "scene", KEY)
    total = preview_of_many([KEY], settings, place.desk().store).numbers
    assert (total["to_guard"], total["scenes_with_work"]) == (dict.fromkeys(MODELS, 2), 1)
    shown = place.cli("preview", KEY, PYTHONPATH=HERE).stdout
    assert "all is there" not in shown
    assert "once more for the guard 2 by still_air:StillAir, 2 by still_air:DoubtfulAir" in " ".join(shown.split())
    make_footprints(place.desk())
    assert len(ran(place)) == first + 2 + 2
    assert summary(place)["guard"].startswith("sum of 6 pixels ")
    assert preview_of(place.desk()).to_guard == {}
    place.change(simulation__guard={"at_least": 4})  # of those that have told already
    assert preview_of(place.desk()).to_guard == {}
    make_footprints(place.desk())
    assert len(ran(place)) == first + 2 + 2
    assert summary(place)["guard"].startswith("sum of 4 pixels ")


@pytest.mark.parametrize("drawn", [4, 6])  # others than those that were stopped are packs of their own
def test_of_a_guard_that_was_stopped_what_would_run_is_weighed(drawn: int, tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared, packs__workers=1)
    make_pixels(place.desk())
    make_meteorology(place.desk())
    with pytest.raises(StoppedError):
        make_footprints(place.desk(), stopped=lambda: len(ran(place)) >= 9 + 2)
    there = len(ran(place)) - 9
    assert there >= 2
    place.change(simulation__guard={"at_least": drawn})
    told = preview_of(place.desk())
    assert sum(told.to_guard.values()) == 2 * drawn - (there if drawn == 4 else 0)
    place.make()
    assert len(ran(place)) == 9 + there + sum(told.to_guard.values())


def test_a_scene_that_is_known_to_be_wrong_is_weighed_with_the_model_that_is_trusted(
    tmp_path: Path, shared: Path
) -> None:
    place = doubtful(tmp_path / "place", shared, too_much=1.3)
    place.make()
    before = len(ran(place))
    place.change(simulation__guard={"on_failure": "rerun"})
    record = place.desk().store.read(place.desk().store.record(KEY))
    told = preview_of(place.desk())
    assert (told.to_follow, told.to_guard, list(told.stages)) == (9, {}, ["particles", "footprints", "jacobian"])
    assert place.desk().store.read(place.desk().store.record(KEY)) == record
    place.make()
    assert len(ran(place)) == before + 9
    assert preview_of(place.desk()).to_follow == 0


def test_a_scene_that_is_there_and_right_is_not_written_again(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared)
    place.make()

    def stamps() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in place.scene.rglob("*") if path.is_file()}

    before = stamps()
    assert place.make() == []
    assert stamps() == before


def test_the_guards_particles_stay_only_where_those_of_the_scene_do(tmp_path: Path, shared: Path) -> None:
    core = doubtful(tmp_path / "core", shared, keep="core")
    ends = doubtful(tmp_path / "ends", shared, keep="endpoints")
    for place in (core, ends):
        place.make()
    assert not list(ends.scene.rglob("trajectories"))
    assert not list(ends.scene.glob("particles-*/guard"))
    assert list(core.scene.glob("particles-*/guard/*/*/trajectories/pack=00000.parquet"))
    one, other = (json.loads((each.result("footprints") / "guard/judgement.json").read_text()) for each in (core, ends))
    assert one == other
    for place, again in ((core, 0), (ends, 4)):
        there = len(ran(place))
        place.change(targets__slc__grid=GRID | {"resolution": 0.05})
        assert preview_of(place.desk()).to_guard == (dict.fromkeys(MODELS, again) if again else {})
        assert preview_of(place.desk()).cpu_hours > 0.0
        place.make()
        assert len(ran(place)) == there + (9 + 2 * again if again else 0)
        assert summary(place)["guard_agrees"]


def test_a_judgement_stands_while_the_same_is_asked_of_the_same_outcomes(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared)
    place.make()
    judgement, there = place.result("footprints") / "guard" / "judgement.json", ran(place)
    honest = judgement.read_text()
    earlier = {name: part for name, part in json.loads(honest).items() if name not in ("asked", "outcomes")}
    not_asked = {"agrees": False, "line": "it could not be asked", "numbers": {"pixels": 0}}
    for content, stands in (
        (earlier, True),
        (earlier | not_asked, False),
        (json.loads(honest) | {"outcomes": "others"}, False),
        (json.loads(honest) | {"reference": "hysplit"}, False),
    ):
        judgement.write_text(json.dumps(content))
        ask_the_guard(place.desk())
        assert (judgement.read_text() == honest) is not stands
    assert ran(place) == there


def test_what_was_told_and_is_damaged_costs_its_pixel_and_no_other(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared, keep="endpoints")
    place.make()
    honest, there = (place.result("footprints") / "guard/judgement.json").read_text(), len(ran(place))
    cut, flipped, *_ = told_by(place, "still_air:StillAir")
    cut.write_bytes(cut.read_bytes()[:-100])
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    (cut.parent / "Thumbs.db").write_bytes(b"of somebody who looked")
    assert preview_of(place.desk()).to_guard == {}  # the judgement stands
    (place.result("footprints") / "guard/judgement.json").unlink()
    assert preview_of(place.desk()).to_guard == {"still_air:StillAir": 2}
    place.make()
    assert len(ran(place)) == there + 2
    assert (place.result("footprints") / "guard/judgement.json").read_text() == honest


# The second one flies anew only if it had begun, and the particles are gone when the first has judged.
@pytest.mark.parametrize(
    ("keep", "before", "flown"), [("core", True, 8), ("endpoints", True, 12), ("endpoints", False, 8)]
)
def test_two_who_ask_at_once_agree(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, keep: str, before: bool, flown: int
) -> None:
    place = doubtful(tmp_path / "place", shared, keep=keep)
    desk = place.desk()
    others: list[Judgement | None] = []

    def the_other_asks() -> None:
        others.append(ask_the_guard(place.desk()))

    def run_beside_the_other(*given: Any) -> None:
        monkeypatch.undo()
        monkeypatch.setenv("PYTHONPATH", HERE)
        steps = [the_other_asks, lambda: run_packs(*given)]
        for step in steps if before else reversed(steps):
            step()

    for stage in (make_pixels, make_meteorology):
        stage(desk)
    for shard in shards_of(plan_footprints(desk), 1):
        run_shard(desk, shard)
    monkeypatch.setattr("stilt_assets.rerun.run_packs", run_beside_the_other)
    assert [ask_the_guard(desk)] == others
    assert others[0] is not None
    assert others[0].agrees
    assert len(ran(place)) == 9 + flown


def test_packs_of_the_guard_keep_to_the_budget_of_files(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared, packs__files=4, simulation__guard={"at_least": 9})
    place.make()
    assert summary(place)["guard_agrees"]
    assert len(list(place.scene.glob("footprints-*/guard/*/*/outcomes/*.parquet"))) == 2 * 3


def test_particles_of_the_guard_that_are_damaged_cost_no_pack_of_the_scene(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = doubtful(tmp_path / "place", shared)
    with monkeypatch.context() as broken:
        broken.setattr("stilt_assets.whole.Files.particles", lambda *_: None)
        with pytest.raises(StoreError, match=r"guard/.*/pack=00000.parquet has no particles of pixel .*: run again"):
            place.make()
    assert len(list((place.scene).glob("footprints-*/outcomes/pack=*.parquet"))) == 3
    assert len(ran(place)) == 9 + 4
    place.make()
    assert summary(place)["guard_agrees"]
    assert len(ran(place)) == 9 + 4 + 4  # the particles were there after all: those of the one model are only gridded


@pytest.mark.parametrize("content", [None, "{"])
def test_a_judgement_that_is_gone_or_damaged_costs_nothing_as_what_it_is_made_of_has_run(
    tmp_path: Path, shared: Path, content: str | None
) -> None:
    place = doubtful(tmp_path / "place", shared)
    place.make()
    judgement, there = place.result("footprints") / "guard" / "judgement.json", ran(place)
    honest = judgement.read_text()
    judgement.unlink()
    if content:
        judgement.write_text(content)
    assert preview_of(place.desk()).cpu_hours == 0.0
    place.cli("run", KEY)
    assert (judgement.read_text(), ran(place)) == (honest, there)


def test_a_guard_that_was_stopped_goes_on(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared, packs__workers=1)
    desk = place.desk()
    make_pixels(desk)
    make_meteorology(desk)

    def after_eleven() -> bool:
        return len(ran(place)) >= 11

    with pytest.raises(StoppedError):
        make_footprints(desk, stopped=after_eleven)
    there = ran(place)
    assert 11 <= len(there) < 9 + 8
    place.make()
    assert summary(place)["guard_agrees"]
    assert len(ran(place)) == 9 + 8


@contextlib.contextmanager
def other_hands(place: Place, monkeypatch: pytest.MonkeyPatch, looks: int) -> Iterator[None]:
    """A pack of the guard's that is to run again, and that somebody else holds for so many looks."""
    told = told_by(place, MODELS[0])
    (lost,) = told[0].parent.parent.glob("*/outcomes/pack=00000.parquet")
    for path in (*told, lost, place.result("footprints") / "guard" / "judgement.json"):
        path.unlink()
    left = list(range(looks))

    def look(_: float) -> None:
        left.pop()
        if not left:
            other.close()

    monkeypatch.setattr("stilt_assets.turns._LOOK", 0.0)
    monkeypatch.setattr("stilt_assets.turns.sleep", look)
    with contextlib.ExitStack() as other:
        other.enter_context(place.desk().store.alone(str(lost)))
        yield
    assert told_by(place, MODELS[0]) == told


GUARD_WAITS = rf"guard waits: another process works on .*/guard/.*pack=00000.parquet \({os.getpid()}, since .*"


def test_a_guard_that_waits_says_once_for_whom(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = doubtful(tmp_path / "place", shared)
    place.make()
    told = summary(place)["guard"]
    for ask in (ask_the_guard, lambda desk, say: make_footprints(desk, say=say)):
        said: list[str] = []
        with other_hands(place, monkeypatch, looks=3):
            ask(place.desk(), say=said.append)
        waits = [line for line in said if "waits" in line]
        assert len(waits) == 1
        assert re.fullmatch(GUARD_WAITS, waits[0])
    assert summary(place)["guard"] == told


def test_the_step_of_a_guard_that_waits_says_so_in_its_log(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = doubtful(tmp_path / "place", shared)
    place.make()
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("scenes", [KEY])
        with other_hands(place, monkeypatch, looks=2):
            result = materialized(instance)
        logged = instance.all_logs(result.run_id)
    said = [(entry.step_key, entry.user_message) for entry in logged if "waits" in entry.user_message]
    assert [step for step, _ in said] == ["footprints.guard"]
    assert re.fullmatch(GUARD_WAITS, said[0][1])


def test_pixels_that_run_otherwise_than_in_the_scene_are_found_out(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared)
    place.make()
    (place.folder / "still_air.json").write_text(json.dumps({"too_much": 1.0001}))
    place.change(simulation__guard={"at_least": 9})
    judgement = ask_the_guard(place.desk())
    assert judgement is not None
    assert not judgement.agrees
    assert judgement.line.startswith("5 pixels run otherwise than in the scene, the first is 0")


def test_a_failure_of_one_model_alone_is_no_agreement(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared, targets__slc__tolerance=1.0)
    faults = {"faults": {str(pixel): "once no_particles" for pixel in range(9)}}
    (place.folder / "still_air.json").write_text(json.dumps(faults))
    place.make()
    told = summary(place)
    assert not told["guard_agrees"]
    assert "4 pixels run otherwise than in the scene" in told["guard"]


def test_what_fails_with_both_models_is_agreement(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared, targets__slc__tolerance=1.0)
    (place.folder / "still_air.json").write_text(json.dumps({"faults": {"*": "no_particles"}}))
    place.make()
    told = summary(place)
    assert (told["guard_agrees"], told["guard"]) == (True, "all 4 pixels fail with both models")


NO_AIR = "still_air:NoAir could not be asked: no air here; the next run asks again"


@pytest.mark.parametrize("on_failure", ["mark", "rerun"])
def test_a_model_that_cannot_be_asked_is_asked_again_and_nobody_is_distrusted(
    tmp_path: Path, shared: Path, on_failure: str
) -> None:
    place = doubtful(tmp_path / "place", shared, name="LoneAir", simulation__guard={"on_failure": on_failure})
    stamps = set[int]()
    for _ in range(2):
        place.make()
        stamps.add((place.result("footprints") / "guard" / "judgement.json").stat().st_mtime_ns)
        told = summary(place)
        assert (told["guard_agrees"], told["guard"]) == (False, NO_AIR)
        assert place.desk().record.distrusted == {}
        assert status_of(place.desk().store, KEY).doubtful
        assert preview_of(place.desk()).to_guard == {"still_air:NoAir": 4, "still_air:LoneAir": 4}
        assert ran(place) == list(range(9))
    assert len(stamps) == 1
    (place.folder / "still_air.json").write_text(json.dumps({"mended": True}))
    place.make()
    told = summary(place)
    assert told["guard_agrees"], told["guard"]
    assert told["guard"].startswith("sum of 4 pixels ")
    assert place.desk().record.result_of("particles")["made_from"]["transport"] == "still_air:LoneAir"
    assert len(ran(place)) == 9 + 2 * 4


def test_dagster_marks_a_scene_whose_guard_cannot_ask(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = doubtful(tmp_path / "place", shared, name="LoneAir", simulation__guard={"on_failure": "rerun"})
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("scenes", [KEY])
        result = materialized(instance)
    assert result.success
    failed = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert [(each.check_name, each.description) for each in failed] == [("native_agrees_with_hysplit", NO_AIR)]
    assert place.desk().record.distrusted == {}


def test_a_guard_whose_pixels_all_fail_by_chance_runs_them_again(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared, packs__attempts=1)
    place.make()
    place.change(simulation__guard={"on_failure": "rerun"})
    there = len(ran(place))
    for path in (*told_by(place, MODELS[0]), place.result("footprints") / "guard" / "judgement.json"):
        path.unlink()
    shutil.rmtree(next(place.scene.glob("particles-*/guard")))
    (place.folder / "still_air.json").write_text(json.dumps({"faults": {"*": "timeout"}}))
    judgement = ask_the_guard(place.desk())
    assert judgement is not None
    line = "no pixel could be compared: by chance 4 pixels fail; the next run asks again"
    assert (judgement.asked, judgement.agrees, judgement.line) == (False, False, line)
    assert place.desk().record.distrusted == {}
    assert preview_of(place.desk()).to_guard == {MODELS[0]: 4}
    (place.folder / "still_air.json").write_text("{}")
    place.make()
    assert summary(place)["guard_agrees"]
    assert len(ran(place)) == there + 4


def test_a_guard_of_one_pixel_says_so(tmp_path: Path, shared: Path) -> None:
    place = doubtful(tmp_path / "place", shared, simulation__guard={"at_least": 1})
    place.make()
    assert summary(place)["guard"].startswith("sum of 1 pixel +") or summary(place)["guard"].startswith(
        "sum of 1 pixel -"
    )
    assert [pixels_that(1, "fail"), pixels_that(2, "fail"), pixels_that(1)] == [
        "1 pixel fails",
        "2 pixels fail",
        "1 pixel",
    ]
