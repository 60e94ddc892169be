"""The graph is the one we drew, and both ways of making it make the same bytes."""

from pathlib import Path

import dagster as dg
import pytest
from place import KEY, Place, contents
from taxonomy import causes, seen

from stilt_assets.definitions import defs
from stilt_assets.defs.metadata import in_one_line
from stilt_assets.errors import DamagedError, DiskFullError, MeteorologyError, StiltAssetsError, StoreError
from stilt_assets.reasons import REASONS

SCENE = "group:scene"


@pytest.fixture
def place(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path, shared)
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    place.add()
    return place


def materialize(instance: dg.DagsterInstance, selection: dg.AssetSelection | None = None) -> dg.ExecuteInProcessResult:
    instance.add_dynamic_partitions("scenes", [KEY])
    job = defs.resolve_implicit_global_asset_job_def()
    chosen = (selection or dg.AssetSelection.groups("scene")).resolve(defs.resolve_asset_graph())
    return job.execute_in_process(
        partition_key=KEY, instance=instance, asset_selection=list(chosen), raise_on_error=False
    )


def test_the_graph_is_the_one_we_drew() -> None:
    graph = defs.resolve_asset_graph()
    nodes = [graph.get(key) for key in dg.AssetSelection.groups("scene").resolve(graph)]
    upstream = {node.key.to_user_string(): {up.to_user_string() for up in node.parent_keys} for node in nodes}
    assert upstream == {
        "pixels": {"scene_catalog"},
        "meteorology": {"pixels"},
        "footprints": {"pixels", "meteorology"},
        "jacobian": {"pixels", "footprints"},
    }
    assert {node.partitions_def for node in nodes} == {dg.DynamicPartitionsDefinition(name="scenes")}
    blocking = {key.to_user_string(): graph.get(key).blocking for key in graph.asset_check_keys}
    assert blocking == {
        "footprints:few_pixels_lost": True,
        "jacobian:jacobian_is_physical": True,
        "jacobian:no_gaps": False,
        "footprints:crop_was_large_enough": False,
        "footprints:native_agrees_with_hysplit": False,
    }


def test_dagster_and_the_command_line_make_the_same_bytes(place: Place, tmp_path: Path, shared: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(instance)
        assert result.success
        checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
        names = ("few_pixels_lost", "crop_was_large_enough", "jacobian_is_physical", "no_gaps")
        assert checks == dict.fromkeys((*names, "native_agrees_with_hysplit"), True)
        made = [data.materialization for data in asset_events(result)]
        shown = {each.asset_key.to_user_string(): each.metadata for each in made}
    assert shown["footprints"]["pixels"].value == 9
    assert shown["footprints"]["particles_per_second"].value > 0
    assert shown["jacobian"]["map"].value.startswith("![total footprint](data:image/png;base64,")
    assert len(shown["jacobian"]["map"].value) < 70_000
    other = Place(tmp_path / "other", shared)
    other.cli("scenes", "add", str(other.retrieval))
    other.cli("run", KEY)
    assert contents(place.result("jacobian")) == contents(other.result("jacobian"))
    assert contents(place.result("pixels")) == contents(other.result("pixels"))
    assert contents(place.result("meteorology")) == contents(other.result("meteorology"))
    assert contents(place.result("particles")) == contents(other.result("particles"))


def asset_events(result: dg.ExecuteInProcessResult):
    return [event.event_specific_data for event in result.get_asset_materialization_events()]


def test_too_many_lost_pixels_block_the_jacobian(place: Place) -> None:
    place.move_pixel(0, 1, -113.2, 40.5)
    place.change(targets__slc__bounds=[-113.5, 40.44, -112.05, 40.56])
    place.add()
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(instance)
        assert not result.success
        checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    check = checks["few_pixels_lost"]
    assert not check.passed
    assert "1 outside_meteorology" in (check.description or "")
    assert not list(place.scene.glob("jacobian-*"))


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (DiskFullError("it failed"), True),
        (StoreError("it failed", "unreachable"), True),
        (StoreError("it failed", "denied"), False),
        (DamagedError("it failed", "/a/file"), False),
        (MeteorologyError("it failed"), False),
    ],
)
def test_only_what_a_step_can_mend_by_itself_is_retried(error: StiltAssetsError, again: bool) -> None:
    with pytest.raises(dg.Failure, match=r"^it failed$") as caught, in_one_line():
        raise error
    assert caught.value.allow_retries is again
    assert caught.value.metadata["reason"].value == error.reason
    assert caught.value.metadata["then"].value == REASONS[error.reason].then


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), in_one_line():
        _ = 1 / 0


@causes("no_archive")
def test_expected_failures_show_their_line_and_reason(place: Place) -> None:
    place.change(meteorology__source=str(place.folder / "nowhere"))
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(instance)
        (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert "no folder" in data.description
    assert seen(data.metadata["reason"].value) == "no_archive"


def test_a_stage_alone_says_what_must_be_made_first(place: Place) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(instance, dg.AssetSelection.assets("jacobian"))
        (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert "pixels of" in data.description
    assert "must be made first" in data.description


@pytest.mark.parametrize(
    "words",
    [
        (
            "dagster",
            "asset",
            "materialize",
            "-m",
            "stilt_assets.definitions",
            "--select",
            "group:scene",
            "--partition",
            KEY,
        ),
        ("dg", "launch", "--assets", SCENE, "--partition", KEY),
    ],
    ids=["dagster", "dg"],
)
def test_the_documented_commands_make_a_scene(tmp_path: Path, shared: Path, words: tuple[str, ...]) -> None:
    root = Path(__file__).parents[1]
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text((root / "dagster_home" / "dagster.yaml").read_text())
    place = Place(tmp_path / "place", shared, simulation__particles=5)
    assert place.cli("scenes", "add", str(place.retrieval), DAGSTER_HOME=str(home)).stdout == f"{KEY}\n"
    inside = ("sh", "-c", f'cd {root} && exec "$@"', "sh")
    process = place.run_raw((*inside, *words), DAGSTER_HOME=str(home))
    assert process.returncode == 0, process.stdout + process.stderr
    assert (place.result("jacobian") / "jacobian.zarr" / "zarr.json").exists()


def test_a_dagster_home_that_is_no_folder_is_told(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared)
    said = place.cli("scenes", "add", str(place.retrieval), code=2, DAGSTER_HOME=str(tmp_path / "nowhere")).stderr
    assert "DAGSTER_HOME is" in said.splitlines()[-1]
