"""What a person types and reads."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import netCDF4
import pytest
from place import BIN, KEY, Place, contents, leftovers
from taxonomy import causes, seen_at_the_end


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Place:
    return Place(tmp_path_factory.mktemp("cli"), shared)


def test_a_scene_from_its_file_to_one_footprint(place: Place) -> None:
    added = place.cli("scenes", "add", str(place.retrieval))
    assert added.stdout == f"{KEY}\n"
    assert "slc: 9 good pixels" in added.stderr
    assert place.cli("scenes", "list").stdout == f"{KEY}\n"
    before = json.loads(place.cli("status", KEY, "--json").stdout)
    assert (before["state"], before["pixels"], before["packs_done"]) == ("registered", 9, 0)

    ran = place.cli("run", KEY)
    assert ran.stdout == f"{place.result('jacobian')}/jacobian.zarr\n"

    status = json.loads(place.cli("status", KEY, "--json").stdout)
    assert status["state"] == "done"
    assert status["pixels"] == 9
    assert sum(status["outcomes"][name] for name in ("ok", "empty", "failed", "missing")) == 9
    assert (status["packs_done"], status["packs"]) == (3, 3)
    assert status["seconds"] > 0
    assert json.loads(place.cli("status", "--json").stdout) == [status]
    assert KEY in place.cli("status").stdout
    assert place.cli("why", KEY).stdout.count(" current ") == 5

    target = place.folder / "pixel3.nc"
    place.cli("export", KEY, "--pixel", "3", "--to", str(target))
    with netCDF4.Dataset(target) as dataset:
        assert dataset["foot"].dimensions == ("time", "lat", "lon")
        assert dataset["foot"].shape == (3, 60, 80)
    assert "has pixels 0 to 8, no pixel 9" in place.cli("export", KEY, "--pixel", "9", "--to", "x.nc", code=2).stderr
    assert not (place.folder / "x.nc").exists()


def test_scenes_add_without_a_covered_target_registers_nothing(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared, targets__slc__bounds=[10.0, 40.0, 11.0, 41.0])
    said = place.cli("scenes", "add", str(place.retrieval))
    assert said.stdout == ""
    assert "0 good pixels (48 outside_bounds left out)" in said.stderr
    assert place.cli("scenes", "list").stdout == ""


def test_usage_errors_exit_with_2_and_one_line(place: Place) -> None:
    for words, line in (
        (("run", "nonsense"), "'nonsense' is no scene key; one looks like 20190530T0958Z_tropomi_slc"),
        (("run", "20200101T0000Z_tropomi_slc"), "is not in the store"),
        (("why", "20191350T0958Z_tropomi_slc"), "is no scene key"),
    ):
        said = place.cli(*words, code=2).stderr
        assert line in said
        assert len(said.splitlines()) == 1
    assert place.cli("run", code=2).stdout == ""
    assert "No such option" in place.cli("run", "--fast", code=2).stderr


def test_a_damaged_record_hides_no_other_scene(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared)
    place.add()
    other = place.folder / "store/scenes/20190531T0958Z_tropomi_slc"
    other.mkdir(parents=True)
    (other / "scene.json").write_text('{"a":')
    for words in (("status",), ("status", "--json")):
        done = place.cli(*words, code=1)
        assert KEY in done.stdout
        (line,) = done.stderr.splitlines()
        assert line == (
            f"stilt-assets: {other}/scene.json is no scene.json; remove it and register the scene again (damaged)"
        )


def alone(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in an empty home, with no settings."""
    command = [str(BIN / "stilt-assets"), *words]
    environment = {"PATH": "/usr/bin", "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_without_settings_every_command_says_which_variable_to_set(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "stilt-assets"), "scenes", "list"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "STILT_ASSETS_CONFIG is not set" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ---- bad input: one line, a reason, nothing half written


def truncated_arl(place: Place) -> None:
    copy_meteorology(place)
    for file in meteorology(place):
        file.write_bytes(file.read_bytes()[:-1000])


def text_named_like_arl(place: Place) -> None:
    copy_meteorology(place)
    for file in meteorology(place):
        file.write_text("no meteorology at all\n" * 100)


def damaged_record(place: Place) -> None:
    copy_meteorology(place)
    file = meteorology(place)[1]
    content = bytearray(file.read_bytes())
    content[422_199 + 5 * 2_469 + 1_000] ^= 0xFF  # in the sixth record of the second hour
    file.write_bytes(content)


def missing_hours(place: Place) -> None:
    copy_meteorology(place)
    (place.folder / "met" / "20190530_06-11_hrrr").unlink()


def no_meteorology_folder(place: Place) -> None:
    place.change(meteorology__source=str(place.folder / "nowhere"))


def all_pixels_outside(place: Place) -> None:
    with netCDF4.Dataset(place.retrieval, "a") as dataset:
        for name in ("PRODUCT/longitude", "PRODUCT/SUPPORT_DATA/GEOLOCATIONS/longitude_bounds"):
            dataset[name][:] = dataset[name][:] + 20
    place.change(targets__slc__bounds=[-92.36, 40.44, -92.05, 40.56])


def unknown_target(place: Place) -> None:
    target = place.settings["targets"].pop("slc")
    place.change(targets__other=target)


def unknown_key(place: Place) -> None:
    place.change(simulation__particels=20)


def lost_retrieval(place: Place) -> None:
    place.retrieval.unlink()


def meteorology(place: Place) -> list[Path]:
    return sorted((place.folder / "met").iterdir())


def copy_meteorology(place: Place) -> None:
    shutil.copytree(place.settings["meteorology"]["source"], place.folder / "met")
    place.change(meteorology__source="./met")


@pytest.mark.parametrize(
    ("spoil", "code", "line"),
    [
        pytest.param(
            truncated_arl,
            1,
            "hrrr in .* has no 2019-05-30 07Z, .*4 hour\\(s\\) missing.*; not readable there: 20190530_00-05_hrrr",
            marks=causes("meteorology_gap"),
        ),
        pytest.param(
            text_named_like_arl, 1, "hrrr in .* has no 2019-05-30 07Z.*cannot parse", marks=causes("meteorology_gap")
        ),
        pytest.param(
            damaged_record,
            1,
            "20190530_06-11_hrrr is damaged: .* 2019-05-30 07Z, fails its checksum",
            marks=causes("meteorology"),
        ),
        pytest.param(
            missing_hours,
            1,
            "hrrr in .* has no 2019-05-30 07Z, 2019-05-30 08Z, 2019-05-30 09Z, 2019-05-30 10Z",
            marks=causes("meteorology_gap"),
        ),
        pytest.param(
            no_meteorology_folder,
            1,
            "no folder .*/nowhere \\(meteorology.source of hrrr\\)",
            marks=causes("no_archive"),
        ),
        pytest.param(
            all_pixels_outside,
            1,
            "the meteorology does not reach|no pixel lies inside the hrrr files",
            marks=causes("meteorology"),
        ),
        pytest.param(
            unknown_target, 2, "no target 'slc' in the settings; known: other", marks=causes("unknown_target")
        ),
        pytest.param(
            unknown_key, 2, "simulation: unknown key 'particels'; did you mean 'particles'\\?", marks=causes("settings")
        ),
        pytest.param(lost_retrieval, 1, "no retrieval file .*/inbox/S5P_TEST", marks=causes("retrieval")),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_input_gives_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, shared: Path, spoil, code: int, line: str
) -> None:
    place = Place(tmp_path, shared)
    place.add()
    spoil(place)
    said = place.cli("run", KEY, code=code).stderr.splitlines()
    told = [text for text in said if text.startswith("stilt-assets: ")]
    assert len(told) == 1, said
    assert told[0] == said[-1]
    assert re.search(line, told[0]), told[0]
    seen_at_the_end(told[0])
    assert leftovers(place.folder / "store") == []
    assert not list(place.scene.glob("footprints-*"))


def test_a_retrieval_without_a_needed_variable_is_refused_by_its_name(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared)
    with netCDF4.Dataset(place.retrieval, "a") as dataset:
        dataset["PRODUCT"].renameVariable("qa_value", "quality")
    said = place.cli("scenes", "add", str(place.retrieval), code=1).stderr
    assert "lacks PRODUCT/qa_value" in said
    assert len(said.splitlines()) == 1
    assert not (place.folder / "store" / "scenes").exists()


@pytest.fixture
def small_disk(tmp_path: Path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs to mount a small tmpfs (root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_store_that_fills_up_ends_the_run_in_one_line_and_nothing_is_half_written(
    tmp_path: Path, shared: Path, small_disk: Path
) -> None:
    place = Place(tmp_path / "place", shared)
    place.change(store=str(small_disk / "store"))
    place.add()
    (small_disk / "ballast").write_bytes(bytes(1_000_000))
    said = place.cli("run", KEY, code=1).stderr.splitlines()
    assert "no room left while" in said[-1]
    assert leftovers(small_disk) == []
    (small_disk / "ballast").unlink()
    shutil.move(small_disk / "store", tmp_path / "store")
    place.change(store=str(tmp_path / "store"))
    place.cli("run", KEY)


def test_a_scratch_disk_that_fills_up_stops_the_scene_and_costs_no_pixel(
    tmp_path: Path, shared: Path, small_disk: Path
) -> None:
    place = Place(tmp_path / "place", shared, simulation__particles=400)
    place.add()
    said = place.cli("run", KEY, code=1, TMPDIR=str(small_disk)).stderr.splitlines()
    assert "no room left in" in said[-1]
    assert not list(place.scene.glob("footprints-*/outcomes/*"))
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_demo_ends_with_a_jacobian_and_its_map(tmp_path: Path) -> None:
    from stilt_assets import demo
    from stilt_assets.settings import load_settings

    settings = demo.lay_out(tmp_path / "demo")
    text = settings.read_text().replace("particles: 200", "particles: 10").replace("hours_back: 6", "hours_back: 2")
    settings.write_text(text)
    done = alone(tmp_path, "demo", "--folder", "demo")
    assert done.returncode == 0, done.stderr
    jacobian = Path(done.stdout.strip())
    assert jacobian.name == "jacobian.zarr"
    assert "obs/status/zarr.json" in contents(jacobian)
    assert load_settings(str(settings)).simulation.particles == 10  # a person's changes stay
    assert "particles 260" in done.stderr
    (picture,) = (tmp_path / "demo").glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_tmpdir_that_is_too_long_is_told(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path / "place", shared)
    place.cli("scenes", "add", str(place.retrieval))
    long = tmp_path / ("x" * 100)
    long.mkdir()
    said = place.cli("run", KEY, code=2, TMPDIR=str(long)).stderr.splitlines()
    assert said[-1].startswith("stilt-assets: TMPDIR is too long for the sockets of workers")
