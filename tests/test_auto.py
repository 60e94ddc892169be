"""`transport: auto` takes native where it is accepted and covers what there is, hysplit elsewhere, and says which."""

from pathlib import Path

import arlmet
import pytest
from made_weather import write_weather
from place import KEY, Place

from stilt_assets.errors import SettingsError
from stilt_assets.recipes import meteorology_recipe, particles_recipe, pixels_recipe
from stilt_assets.settings import load_settings
from stilt_assets.simulation import Simulation
from stilt_assets.stages import make_meteorology, make_pixels
from stilt_assets.transport import auto, reference_of, transport_named
from stilt_assets.why import verdicts

SIMULATION = Simulation("auto", 2, 20, 0)


def one_hour(path: Path, shared: Path) -> Path:
    """An hour of HRRR more than one, as a scene's meteorology has."""
    arlmet.extract_subset(next((shared / "data" / "hrrr").glob("*06-11*")), path, levels=range(6))
    return path


def test_meteorology_that_is_accepted_and_covered_is_natives(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "ACCEPTED", frozenset({"HRRR"}))
    choice = auto.choose(one_hour(tmp_path / "few.arl", shared), SIMULATION)
    assert choice.line == "native: it covers the meteorology"


def test_meteorology_that_nobody_accepted_is_hysplits(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "ACCEPTED", frozenset({"GFS"}))
    choice = auto.choose(one_hour(tmp_path / "few.arl", shared), SIMULATION)
    assert choice.line == "hysplit: native is not accepted for meteorology of HRRR yet"


def test_native_is_accepted_while_all_that_was_measured_of_it_is_green() -> None:
    page = (Path(__file__).parents[1] / "docs" / "fidelity.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith(("| A |", "| B |", "| C |"))]
    assert len(rows) >= 25
    assert bool(auto.ACCEPTED) == all(row.endswith("| green |") for row in rows)


def test_meteorology_that_native_does_not_cover_is_hysplits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "ACCEPTED", frozenset({"MADE"}))
    choice = auto.choose(write_weather(tmp_path / "m.arl", axis=arlmet.TerrainAxis), SIMULATION)
    assert choice.transport == "hysplit"
    assert "terrain" in choice.why


@pytest.mark.parametrize(("accepted", "taken"), [({"HRRR"}, "native"), (set(), "hysplit")])
def test_a_choice_makes_the_same_particles_as_a_word(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, accepted: set[str], taken: str
) -> None:
    monkeypatch.setattr(auto, "ACCEPTED", frozenset(accepted))
    place = Place(tmp_path, shared, simulation__transport="auto")
    place.add()
    desk = place.desk()
    make_pixels(desk)
    make_meteorology(desk)

    def recipe():
        desk = place.desk()
        pixels = pixels_recipe(desk)
        return particles_recipe(desk, pixels, meteorology_recipe(desk, pixels)[0])

    chosen = recipe()
    assert chosen.made_from["transport"] == taken
    place.change(simulation__transport=taken)
    assert recipe().id == chosen.id
    assert {verdict.state for verdict in verdicts(place.desk())} == {"current", "missing", "stale"} - {"stale"}


def test_what_moved_a_scene_is_told(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "ACCEPTED", frozenset())
    from stilt_assets.shard import make_footprints
    from stilt_assets.status import status_of

    place = Place(tmp_path, shared, simulation__transport="auto", simulation__particles=4, simulation__hours_back=1)
    place.add()
    desk = place.desk()
    make_pixels(desk)
    make_meteorology(desk)
    said: list[str] = []
    make_footprints(desk, say=said.append)
    assert said == ["transport: hysplit: native is not accepted for meteorology of HRRR yet"]
    assert status_of(desk.store, KEY).transport == "hysplit: native is not accepted for meteorology of HRRR yet"


def test_hysplit_stays_the_default_and_needs_no_guard(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared)
    assert load_settings(str(place.config)).simulation.transport == "hysplit"
    assert reference_of("hysplit") is None
    assert reference_of("native") == "hysplit"


def test_a_card_is_for_native_alone(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared, simulation__device="gpu")
    with pytest.raises(SettingsError, match="device: gpu is for transport native or auto, and transport is hysplit"):
        load_settings(str(place.config))
    place.change(simulation__transport="native")
    assert load_settings(str(place.config)).simulation.device == "gpu"


def test_what_runs_on_a_card_is_another_result() -> None:
    identities = [
        transport_named("native").identity(Simulation("native", 2, 20, 0, device)) for device in ("cpu", "gpu")
    ]
    assert "device" not in identities[0]
    assert identities[1] == {**identities[0], "device": "gpu"}


def test_only_the_rerun_of_a_wrong_scene_may_be_chosen_by_word(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared, simulation__guard={"on_failure": "ignore"})
    with pytest.raises(SettingsError, match=r"simulation\.guard\.on_failure"):
        load_settings(str(place.config))


@pytest.mark.parametrize(
    "name", ["nativ", "stilt_assets.transport.native:NativeModel", "stilt_assets.scene:Scene", "pathlib:Path"]
)
def test_what_is_no_transport_model_is_told_in_one_line(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"^no transport model '{name}' \(.*\); known: hysplit, native$"):
        transport_named(name)
