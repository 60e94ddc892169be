"""What comes from outside runs nothing, leads nowhere else, and what is secret is written nowhere."""

import ast
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import fsspec
import pytest
from place import KEY, Place

import stilt_assets
from stilt_assets.definitions import defs
from stilt_assets.errors import SettingsError, StiltAssetsError, UsageError
from stilt_assets.retrieval import read_retrieval
from stilt_assets.scene import Scene, load_record
from stilt_assets.settings import load_settings, without_credentials
from stilt_assets.store import open_store

HOUSE = Path(stilt_assets.__file__).parent
ROOT = HOUSE.parent
FILES = sorted(HOUSE.rglob("*.py"))
SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCY"
SECRETS = {
    "AWS_ACCESS_KEY_ID": f"AKIA{SECRET}",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": f"session-{SECRET}",
    "GOOGLE_APPLICATION_CREDENTIALS": f"/nowhere/{SECRET}.json",
    "STILT_ASSETS_TEST_PASSWORD": SECRET,
}
WORLD = (-180.0, -90.0, 180.0, 90.0)

# ---- nothing of a file is run

RUNS_INPUT = {
    *("eval", "exec", "compile", "__import__"),
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("read_pickle", "to_pickle", "unsafe_load", "full_load", "UnsafeLoader", "FullLoader", "yaml.Loader", "yaml.load"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
}
SAFE_LOADERS = {"yaml.SafeLoader"}


def names_in(path: Path) -> Iterator[tuple[int, str]]:
    """Every name that a file imports, calls or reaches for."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in (*module, *(alias.name for alias in node.names)):
                yield from ((node.lineno, part) for part in (name, *name.split(".")))
        elif isinstance(node, ast.Attribute):
            yield from ((node.lineno, name) for name in (node.attr, ast.unparse(node)))
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id


def runs_input(path: Path) -> set[str]:
    found = {f"{path.name}:{line}: {name}" for line, name in names_in(path) if name in RUNS_INPUT}
    ours = {"compile"} if "re.compile" in path.read_text() else set()
    return {each for each in found if each.rsplit(" ", 1)[-1] not in ours}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_no_file_is_unpickled_and_no_text_is_run(path: Path) -> None:
    assert runs_input(path) == set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert given.get("allow_pickle", "False") == "False", f"{path.name}:{node.lineno}"
        assert given.get("shell", "False") == "False", f"{path.name}:{node.lineno}"


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import pandas as pd\npd.read_pickle('a')",
        "import yaml\nyaml.load('a', yaml.Loader)",
        "import yaml\nyaml.unsafe_load('a')",
        "eval('1')",
        "import os\nos.system('a')",
        "import importlib\n__import__('a')",
    ],
)
def test_what_would_run_input_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "module.py").write_text(line)
    assert runs_input(tmp_path / "module.py")


# ---- the web page is for this machine

UI = re.compile(r"\b(dagster dev|dagster-webserver|dg dev)\b(?![^\n]*https?://docs)(.*)")


def test_each_command_that_starts_a_web_page_binds_to_this_machine() -> None:
    makefile = (ROOT / "Makefile").read_text()
    commands = UI.findall(makefile)
    assert commands
    readme = "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    for name, words in [*commands, *UI.findall(readme)]:
        assert re.search(r"(-h|--host) 127\.0\.0\.1\b", words), f"{name}{words}"
    assert "0.0.0.0" not in makefile + readme


def test_the_web_page_of_make_is_started_for_this_machine_only() -> None:
    done = subprocess.run(["make", "-n", "ui"], cwd=ROOT, capture_output=True, text=True, check=True)
    (command,) = [line for line in done.stdout.splitlines() if "dagster dev" in line]
    assert "-h 127.0.0.1" in command


# ---- names from outside

WRONG_KEYS = [
    *("..", "../../etc", "/etc/passwd", "20190530T0958Z_tropomi_slc/../..", "20190530T0958Z_tropomi_../up"),
    *("20190530T0958Z_tropomi_slc\n", "20190530T0958Z_tropomi_slc/", "20190530T0958Z_tropomi_s\x00c", ""),
    *("20190530T0958Z_tropomi_ä", "20190530T0958Z_tro/pomi_slc", "20191330T0958Z_tropomi_slc", "s3://bucket/key"),
]


@pytest.mark.parametrize("key", WRONG_KEYS)
def test_a_name_that_is_no_scene_key_opens_nothing(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError):
        Scene.from_key(key)
    with pytest.raises(UsageError):
        load_record(open_store(str(tmp_path)), key)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Place:
    return Place(tmp_path_factory.mktemp("security"), shared)


@pytest.mark.parametrize("words", [("run",), ("status",), ("why",), ("export", "--pixel", "1", "--to", "x.nc")])
def test_no_command_takes_a_path_for_a_scene(place: Place, words: tuple[str, ...]) -> None:
    said = place.cli(words[0], "../../outside", *words[1:], code=2)
    assert "is no scene key" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_dagster_takes_no_path_for_a_scene(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILT_ASSETS_CONFIG", str(place.config))
    key = "../../outside"
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("scenes", [key])
        job = defs.resolve_implicit_global_asset_job_def()
        done = job.execute_in_process(
            partition_key=key, instance=instance, asset_selection=[dg.AssetKey("pixels")], raise_on_error=False
        )
    assert not done.success
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert "is no scene key" in str(failure.step_failure_data.user_failure_data)


@pytest.mark.parametrize(
    "name", ["../../../outside", "/etc", "pixels-3fa2c1d09b7e/..", "pixels", "footprints-xyz", "", 7]
)
def test_a_record_that_points_elsewhere_is_not_followed(place: Place, name: object) -> None:
    place.add()
    file = place.scene / "scene.json"
    before = file.read_text()
    store = open_store(str(place.folder / "store"))
    try:
        for change in ({"current": {"pixels": name}}, {"results": {str(name): {}}}, {"under_way": name or "a/b"}):
            file.write_text(json.dumps(json.loads(before) | change))
            with pytest.raises(StiltAssetsError, match=r"scene\.json"):
                load_record(store, KEY)
    finally:
        file.write_text(before)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"retrieval": 1}', "\x00", '{"current": []}'])
def test_a_record_that_is_no_record_is_told_in_one_line(place: Place, text: str) -> None:
    place.add()
    file = place.scene / "scene.json"
    before = file.read_text()
    try:
        file.write_text(text)
        with pytest.raises(StiltAssetsError, match=r"scene\.json") as caught:
            load_record(open_store(str(place.folder / "store")), KEY)
    finally:
        file.write_text(before)
    assert "\n" not in str(caught.value)


# ---- secrets

WITH_SECRETS = [
    f"s3://AKIA:{SECRET}@bucket/prefix",
    f"s3://AKIA:{SECRET}/more/of/it@bucket/prefix",
    f"s3://AKIA:12345/{SECRET}@bucket/prefix",
    f"https://user:{SECRET}@host/file.nc",
    f"https://{SECRET}@host/file.nc",
    f"https://user:{SECRET}@host:8443/file.nc",
    f"https://user:{SECRET}@[::1]:8443/file.nc",
    f"ftp://user:{SECRET}@host/file.nc",
    f"simplecache::s3://AKIA:{SECRET}@bucket/file.nc",
    f"zip://file.nc::https://user:{SECRET}@host/file.zip",
    f"https://bucket.s3.amazonaws.com/file.nc?X-Amz-Signature={SECRET}&X-Amz-Date=20190530",
    f"https://bucket.s3.amazonaws.com/file.nc?AWSAccessKeyId=AKIA&Signature={SECRET}",
    f"https://storage.googleapis.com/b/file.nc?X-Goog-Signature={SECRET}",
    f"https://storage.googleapis.com/b/file.nc?GoogleAccessId=a&Signature={SECRET}",
    f"https://account.blob.core.windows.net/c/file.nc?sv=2020&sig={SECRET}",
    f"https://host/file.nc?token={SECRET}",
    f"https://host/file.nc?a=1&ACCESS_TOKEN={SECRET}",
    f"https://host/file.nc?a=1;api_key={SECRET}",
    f"https://host/file.nc?x%2Damz%2Dsignature={SECRET}",
    f"https://host/file.nc#access_token={SECRET}",
    f"https://host/file.nc?password={SECRET}",
]
WITHOUT_SECRETS = [
    *("store", "/a/b@c", "./a:b", "~/x", "gs://bucket/prefix", "s3://bucket/a@b", "https://host/file.nc?download=1"),
    *("https://host:8443/a/b.nc", "https://[::1]:8443/b.nc", "https://[::1]/b.nc", "simplecache::s3://bucket/file.nc"),
    *("memory://conf/settings.yaml", "file:///a/b.nc", "https://host/file.nc?keyword=methane&version=2#top", ""),
    "https://host/@user/file.nc",
]


@pytest.fixture
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STILT_ASSETS_CONFIG", raising=False)
    monkeypatch.delenv("STILT_ASSETS_STORE", raising=False)


def refuses(error: BaseException | None, where: str = "") -> bool:
    """Whether an error, and all that led to it, says where credentials belong and repeats none."""
    said = str(error)
    told = where in said and "GOOGLE_APPLICATION_CREDENTIALS" in said and "~/.aws" in said and "\n" not in said
    while error is not None:
        told &= SECRET[:8] not in f"{error} {error!r}"  # a long value may be shown without its middle
        error = error.__cause__
    return told


@pytest.mark.parametrize("location", WITHOUT_SECRETS)
def test_a_location_without_credentials_is_taken_as_it_is(location: str) -> None:
    assert without_credentials(location, "this") == location


@pytest.mark.parametrize("location", WITH_SECRETS)
def test_a_location_with_credentials_is_refused_and_not_repeated(location: str) -> None:
    with pytest.raises(UsageError) as caught:
        without_credentials(location, "the argument")
    assert refuses(caught.value, "the argument (")
    with pytest.raises(UsageError) as caught:
        read_retrieval(location, WORLD)
    assert refuses(caught.value)


@pytest.mark.usefixtures("_no_variables")
@pytest.mark.parametrize("name", ["store", "retrievals", "meteorology__source"])
@pytest.mark.parametrize("location", [WITH_SECRETS[0], WITH_SECRETS[10]])
def test_settings_with_credentials_are_refused_by_the_key(
    tmp_path: Path, shared: Path, name: str, location: str
) -> None:
    place = Place(tmp_path, shared, **{name: location})
    with pytest.raises(SettingsError) as caught:
        load_settings(str(place.config))
    assert refuses(caught.value, f"settings.yaml: {name.replace('__', '.')}: ")


@pytest.mark.parametrize("variable", ["STILT_ASSETS_STORE", "STILT_ASSETS_CONFIG"])
def test_a_variable_with_credentials_is_refused(place: Place, variable: str) -> None:
    said = place.cli("scenes", "list", code=2, **{variable: WITH_SECRETS[0]})
    assert SECRET not in said.stdout + said.stderr
    assert "GOOGLE_APPLICATION_CREDENTIALS" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_a_retrieval_with_credentials_is_refused_and_leaves_no_trace(place: Place) -> None:
    before = sorted(place.folder.rglob("*"))
    said = place.cli("scenes", "add", f"https://user:{SECRET}@127.0.0.1:1/file.nc", code=2)
    assert SECRET not in said.stdout + said.stderr
    assert sorted(place.folder.rglob("*")) == before


def test_a_mistake_in_settings_repeats_no_value(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared, keep=SECRET, packs__pixels=SECRET)
    said = place.cli("scenes", "list", code=2)
    assert "keep: " in said.stderr
    assert SECRET not in said.stdout + said.stderr
    place.config.write_text(f"store: s3://a:{SECRET}@b\n  retrievals: c: d\n")
    assert SECRET not in place.cli("scenes", "list", code=2).stderr


def files_with(folder: Path, words: list[str]) -> list[str]:
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(word.encode() in path.read_bytes() for word in words)
    ]


def test_secrets_of_the_environment_are_in_no_file_no_event_and_no_output(tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared)
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster_home" / "dagster.yaml").read_text())
    environment = SECRETS | {"DAGSTER_HOME": str(home)}
    said = [place.cli("scenes", "add", str(place.retrieval), **environment)]
    said.append(place.run_raw(("dagster", "asset", "materialize", "-m", "stilt_assets.definitions",
                               "--select", "group:scene", "--partition", KEY), **environment))  # fmt: skip
    assert said[-1].returncode == 0, said[-1].stderr
    said += [place.cli(word, KEY, **environment) for word in ("run", "status", "why")]
    place.change(meteorology__source=str(tmp_path / "nowhere"), simulation__hours_back=3)
    said.append(place.cli("run", KEY, code=1, **environment))
    assert (place.scene / "scene.json").exists()
    assert any(home.rglob("*.db"))  # Dagster's events
    assert not [each for each in said if SECRET in each.stdout + each.stderr]
    assert files_with(tmp_path, [SECRET]) == []


# ---- temporary files


def test_what_is_fetched_lies_in_a_folder_of_ones_own_and_is_gone_afterwards(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = (shared / "data" / "retrievals").glob("S5P_TEST_*.nc")
    with fsspec.open("memory://inbox/file.nc", "wb") as file:
        file.write(source.read_bytes())  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []
    real = type(fsspec.filesystem("memory")).get_file

    def looking(self: object, remote: str, local: str, **more: object) -> None:
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in list(Path(local).parents)[:2])
        real(self, remote, local, **more)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "get_file", looking)
    before = os.umask(0)
    try:
        assert len(read_retrieval("memory://inbox/file.nc", WORLD).pixels) == 44
    finally:
        os.umask(before)
    assert seen == [0o700, 0o700]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_temporary_file_has_a_name_that_others_can_guess() -> None:
    guessed = re.compile(r"""["'](/tmp|/var/tmp|/dev/shm)/|mktemp\(""")
    assert [path.name for path in FILES if guessed.search(path.read_text())] == []
