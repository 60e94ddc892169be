"""What a person types: read whole, anchored to its folder, or refused in one line that says what and where."""

import os
import re
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from stilt_assets.errors import SettingsError, UnknownTargetError
from stilt_assets.settings import load_settings

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STILT_ASSETS_CONFIG", raising=False)
    monkeypatch.delenv("STILT_ASSETS_STORE", raising=False)


def readme_yaml() -> str:
    block, *_ = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    return block


def a_world(**changes: Any) -> dict[str, Any]:
    """A small world of 3 x 2 cells; `changes` by dotted name with __ for the dot, ... takes a key away."""
    world: dict[str, Any] = {
        "store": "out",
        "retrievals": "in",
        "meteorology": {"product": "hrrr", "source": "met"},
        "simulation": {"hours_back": 2, "particles": 10, "top": 1000},
        "packs": {"pixels": 4},
        "jacobian": {"keepbits": None},
        "targets": {
            "home": {
                "bounds": [1, 1, 2, 2],
                "grid": {"west": 0, "south": 0, "east": 3, "north": 2, "resolution": 1},
                "aggregate": {"block": {"resolution": 2}},
            }
        },
    }
    for dotted, value in changes.items():
        *folders, last = dotted.split("__")
        place = world
        for folder in folders:
            place = place[folder]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return world


def written(tmp_path: Path, **changes: Any) -> str:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(a_world(**changes)))
    return str(file)


def refusal(location: str | None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(location)
    assert caught.value.exit_code == 2
    assert caught.value.reason == "settings"
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_the_example_of_the_readme_is_a_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(readme_yaml())
    settings = load_settings(str(file))
    assert settings.store == str(tmp_path / "store")
    assert settings.meteorology.source == str(tmp_path / "hrrr")
    assert settings.target("slc").bounds == (-112.6, 40.2, -111.3, 41.2)
    assert settings.target("slc").grid.grid.shape == (120, 160)
    assert (settings.keep, settings.packs.workers, settings.simulation.transport) == ("core", 2, "hysplit")


def test_what_the_readme_calls_defaults_are_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, packs=..., jacobian=...))
    told = dict(re.findall(r"^\| `([\w.*]+)` \| ([^|]+) \|", README.read_text(), re.MULTILINE))
    rooms = {
        "meteorology": settings.meteorology,
        "packs": settings.packs,
        "targets.*": settings.target("home"),
        "targets.*.pixels": settings.target("home").pixels,
        "jacobian": settings.jacobian,
        "simulation": settings.simulation,
        "simulation.guard": settings.simulation.guard,
        "cluster": settings.cluster,
        "retention": settings.retention,
        "alerts": settings.alerts,
    }
    defaults = {
        f"{room}.{name}": getattr(value, name)
        for room, value in rooms.items()
        for name, field in type(value).model_fields.items()
        if not field.is_required()
    }
    for shown_above in ("packs.pixels", "packs.workers", "targets.*.aggregate", "simulation.seed"):
        del defaults[shown_above]
    for shown_below in ("kind", "pixels"):
        del defaults[f"targets.*.{shown_below}"]
    for shown_below in ("product", "source", "sources", "mirrors"):
        del defaults[f"meteorology.{shown_below}"]
    del defaults["simulation.guard"]
    assert {name for name in told if "." in name and not name.endswith(".*")} == set(defaults)
    for name, value in defaults.items():  # what is not given is told in words
        assert re.match(r"[a-z]", told[name]) if value is None else yaml.safe_load(told[name]) == value, name


@pytest.mark.parametrize(
    ("wrong", "where", "meant"),
    [
        ("stor", "", "store"),
        ("meteorology__sorce", "meteorology", "source"),
        ("simulation__particels", "simulation", "particles"),
        ("packs__pixel", "packs", "pixels"),
        ("jacobian__keepbit", "jacobian", "keepbits"),
        ("targets__home__bound", "targets.home", "bounds"),
        ("targets__home__grid__resolutoin", "targets.home.grid", "resolution"),
        ("targets__home__aggregate__block__resolutions", "targets.home.aggregate.block", "resolution"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_one_named(
    tmp_path: Path, wrong: str, where: str, meant: str
) -> None:
    place = f"{where}: " if where else ""
    line = refusal(written(tmp_path, **{wrong: 1}))
    assert f"settings.yaml: {place}unknown key '{wrong.rsplit('__', maxsplit=1)[-1]}'; did you mean '{meant}'?" in line


def test_an_unknown_key_like_no_other_gets_the_list_of_known_ones(tmp_path: Path) -> None:
    assert "unknown key 'zzz'; known: pixels, workers, shards" in refusal(written(tmp_path, packs__zzz=1))


def test_relative_paths_start_at_the_files_folder_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    file = written(tmp_path / "deep", store="../out", retrievals="/abs/in", meteorology__source="s3://bucket/met")
    monkeypatch.chdir(tmp_path)
    for location in (file, "deep/settings.yaml"):
        settings = load_settings(location)
        assert settings.store == str(tmp_path / "out")
        assert settings.retrievals == "/abs/in"
        assert settings.meteorology.source == "s3://bucket/met"


def test_a_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILT_ASSETS_CONFIG", written(tmp_path))
    assert load_settings().simulation.particles == 10


def test_the_variable_for_the_store_overrides_it_and_starts_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("STILT_ASSETS_STORE", "elsewhere")
    settings = load_settings(written(tmp_path))
    assert settings.store == str(tmp_path / "here" / "elsewhere")
    assert settings.retrievals == str(tmp_path / "in")
    monkeypatch.setenv("STILT_ASSETS_STORE", "gs://bucket/prefix")
    assert load_settings(written(tmp_path)).store == "gs://bucket/prefix"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_settings_behind_a_url_start_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "conf").mkdir()
    url = {"memory": "memory://conf/settings.yaml", "file": f"file://{tmp_path}/conf/settings.yaml"}[kind]
    with fsspec.open(url, "wt") as file:
        file.write(yaml.safe_dump(a_world()))  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.chdir(tmp_path)
    assert load_settings(url).store == str(tmp_path / "out")


def test_without_a_name_for_the_file_the_variable_is_named() -> None:
    assert "STILT_ASSETS_CONFIG is not set" in refusal(None)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "none.yaml") in refusal(str(tmp_path / "none.yaml"))
    assert "memory://none.yaml" in refusal("memory://none.yaml")
    assert "nonsense://none.yaml" in refusal("nonsense://none.yaml")


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"store: [1,\n  2: }", "is no YAML"),
        (b"store: a\nstore b: c\n  d: e\n", "is no YAML"),
        (b"", "holds no settings"),
        (b"# nothing\n", "holds no settings"),
        (b"- store\n", "holds no settings"),
        (b"CDF\x01\xff\xfe", "cannot read"),
        (b"\x89HDF\r\n\x1a\n\x00", "cannot read"),
    ],
)
def test_what_is_no_settings_file_is_told_in_one_line(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    line = refusal(str(file))
    assert told in line
    assert str(file) in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("simulation__hours_back", 0),
        ("simulation__hours_back", 127),  # hours back are kept in one byte
        ("simulation__hours_back", 1.5),
        ("simulation__particles", 1),
        ("simulation__particles", "many"),
        ("simulation__particles", 30_001),
        ("simulation__top", 0),
        ("simulation__top", float("nan")),
        ("simulation__seed", -1),
        ("simulation__transport", "magic"),
        ("meteorology__wind", 0),
        ("meteorology__wind", float("inf")),
        ("packs__pixels", 0),
        ("packs__pixels", 257),
        ("packs__workers", 0),
        ("packs__timeout", 0),
        ("keep", "none"),
        ("jacobian__keepbits", 24),
        ("targets__home__tolerance", 1.1),
        ("targets__home__grid__resolution", 0),
        ("targets__home__grid__north", 91),
        ("targets__home__grid__west", float("nan")),
        ("targets__home__aggregate__block__resolution", -2),
        ("store", ""),
        ("store", None),
        ("targets", {}),
        ("meteorology", "hrrr"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_name(tmp_path: Path, name: str, value: Any) -> None:
    line = refusal(written(tmp_path, **{name: value}))
    assert f"settings.yaml: {name.replace('__', '.')}: " in line


@pytest.mark.parametrize("name", ["store", "meteorology", "simulation__top", "targets__home__grid", "targets"])
def test_a_key_that_is_needed_and_left_out_is_named(tmp_path: Path, name: str) -> None:
    assert f"{name.replace('__', '.')}: Field required" in refusal(written(tmp_path, **{name: ...}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"east": 3.5}, "west to east (3.5 degrees) is no whole number of cells of 1 degrees"),
        ({"north": 2.25}, "south to north (2.25 degrees) is no whole number"),
        ({"resolution": 5}, "is no whole number of cells"),
        ({"north": 0}, "north must be greater than south"),
        ({"north": -1}, "north must be greater than south"),
        ({"east": 0}, "east must differ from west"),
        ({"west": 180, "east": -180}, "is no whole number of cells"),
    ],
)
def test_a_grid_that_is_no_whole_number_of_cells_is_refused(tmp_path: Path, changes: dict, told: str) -> None:
    line = refusal(written(tmp_path, **{f"targets__home__grid__{name}": value for name, value in changes.items()}))
    assert "targets.home.grid: " in line
    assert told in line


def test_a_grid_whose_cells_are_whole_but_for_rounding_is_taken(tmp_path: Path) -> None:
    grid = {"west": -112.8, "south": 40.15, "east": -111.2, "north": 41.35, "resolution": 0.01}
    settings = load_settings(written(tmp_path, targets__home__grid=grid, targets__home__aggregate=...))
    assert settings.target("home").grid.grid.shape == (120, 160)


@pytest.mark.parametrize("resolution", [0.5, 1.5, 2.01])
def test_an_aggregate_of_no_whole_number_of_cells_is_refused(tmp_path: Path, resolution: float) -> None:
    line = refusal(written(tmp_path, targets__home__aggregate__block__resolution=resolution))
    assert "targets.home: aggregate.block.resolution is no whole multiple of 1 degrees" in line


@pytest.mark.parametrize("bounds", [[1, 2, 2, 1], [1, 1, 2, 1], [1, 1, 1, 2], [1, 1, 2, 91], [-181, 1, 2, 2]])
def test_bounds_in_the_wrong_order_or_off_the_globe_are_refused(tmp_path: Path, bounds: list[float]) -> None:
    assert "targets.home: bounds are west, south, east, north" in refusal(
        written(tmp_path, targets__home__bounds=bounds)
    )


def test_bounds_across_the_antimeridian_are_taken(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, targets__home__bounds=[170, 1, -170, 2]))
    assert settings.target("home").bounds == (170, 1, -170, 2)


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", "ä"])
def test_a_target_whose_name_is_no_folders_name_is_refused(tmp_path: Path, name: str) -> None:
    home = a_world()["targets"]["home"]
    assert f"targets.{name}" in refusal(written(tmp_path, targets={name: home}))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    line = refusal(written(tmp_path, keep="none", packs__pixels=0))
    assert "packs.pixels: " in line
    assert "; keep: " in line


def test_a_target_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path))
    with pytest.raises(UnknownTargetError, match="no target 'away' in the settings; known: home") as caught:
        settings.target("away")
    assert caught.value.exit_code == 2


def test_settings_are_read_without_touching_the_world(tmp_path: Path) -> None:
    before = dict(os.environ)
    load_settings(written(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["settings.yaml"]
    assert dict(os.environ) == before


def test_the_readmes_targets_are_targets(tmp_path: Path) -> None:
    blocks = [yaml.safe_load(each) for each in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)]
    targets = {name: one for block in blocks for name, one in block.get("targets", {}).items()}
    assert {"slc", "basin"} <= set(targets)
    for block in blocks:
        if "targets" in block:
            settings = load_settings(written(tmp_path, targets=block["targets"]))
            for name, one in block["targets"].items():
                assert settings.target(name).kind == one.get("kind", "retrieval")
