"""Damaged input gives an error of our family in one line, or the right answer: no crash, no hang, no wrong number."""

import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import arlmet
import hypothesis
import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from made_products import write_gosat, write_l2, write_l3, write_wfmd

from stilt_assets import plain_yaml as plain
from stilt_assets.errors import RetrievalError, SettingsError, StiltAssetsError, WorkersKilledError
from stilt_assets.meteorology import Need
from stilt_assets.meteorology.aggregate import make_aggregate
from stilt_assets.meteorology.sources import find_sources
from stilt_assets.plain_yaml import PlainYamlError, plain_yaml
from stilt_assets.receptor import PIXELS, Receptor
from stilt_assets.retrieval import Retrieval, apart, tropomi
from stilt_assets.retrieval.apart import read_apart
from stilt_assets.retrieval.reading import read_here
from stilt_assets.settings import Settings, load_settings

WORLD = (-180.0, -90.0, 180.0, 90.0)
DAY = datetime(2019, 5, 30, tzinfo=UTC)
BOX = (-112.5, 40.4, -111.8, 41.0)


def cases(few: int) -> hypothesis.settings:
    """As many cases as a run of all tests has time for, or as the chosen profile asks for."""
    chosen = hypothesis.settings.get_profile(hypothesis.settings.get_current_profile_name())
    return hypothesis.settings(max_examples=few if chosen.derandomize else chosen.max_examples)


@dataclass(frozen=True)
class Damage:
    """One thing that goes wrong with a file; `at` is a share of its length."""

    kind: str
    at: float
    size: int = 1
    put: bytes = b""

    def done_to(self, content: bytes) -> bytes:
        place = min(int(self.at * len(content)), len(content) - 1)
        before, here, after = content[:place], content[place : place + self.size], content[place + self.size :]
        match self.kind:
            case "cut short":
                return before
            case "lost":
                return before + after
            case "zeroed":
                return before + bytes(len(here)) + after
            case "inserted":
                return before + self.put + content[place:]
            case "overwritten":
                return before + (self.put * self.size)[: len(here)] + after
            case _:
                return before + bytes(a ^ b for a, b in zip(here, self.put * self.size, strict=False)) + after


damages = st.builds(
    Damage,
    st.sampled_from(["flipped", "flipped", "flipped", "overwritten", "zeroed", "inserted", "lost", "cut short"]),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([1, 1, 2, 4, 64, 512]),
    st.binary(min_size=1, max_size=8),
)


def right_or_refused(read: Callable[[], Any], right: Any, same: Callable[[Any, Any], bool]) -> None:
    refusal = ""
    try:
        answer = read()
    except StiltAssetsError as error:
        refusal = str(error) or "without a word\n"
    assert "\n" not in refusal
    assert refusal or same(answer, right)


# ---- retrievals


@pytest.fixture(autouse=True)
def _little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 5)


@dataclass(frozen=True)
class File:
    """An intact file, what it says, and a place for a damaged copy."""

    path: Path
    content: bytes
    says: Any
    copy: Path


def retrieval(shared: Path, folder: Path, pattern: str) -> File:
    (path,) = (shared / "data" / "retrievals").glob(pattern)
    return File(path, path.read_bytes(), read_here(path, WORLD, path.name), folder / path.name)


@pytest.fixture(scope="module")
def operational(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> File:
    return retrieval(shared, tmp_path_factory.mktemp("operational"), "S5P_OFFL_*.nc")


@pytest.fixture(scope="module")
def blended(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> File:
    return retrieval(shared, tmp_path_factory.mktemp("blended"), "S5P_BLND_*.nc")


def same_pixels(one: Retrieval, other: Retrieval) -> bool:
    if one.dropped != other.dropped or len(one.pixels) != len(other.pixels) or one.time != other.time:
        return False
    return all(
        np.array_equal(mine, yours, equal_nan=isinstance(mine, float | np.ndarray))
        for name in PIXELS.names
        for mine, yours in zip(one.pixels[name], other.pixels[name], strict=True)
    )


def read_damaged(file: File, damage: Damage) -> Retrieval:
    file.copy.write_bytes(damage.done_to(file.content))
    return read_apart(file.copy, WORLD, file.path.name)


@cases(70)
@given(damage=damages)
def test_a_damaged_operational_file_is_refused_or_read_right(operational: File, damage: Damage) -> None:
    right_or_refused(lambda: read_damaged(operational, damage), operational.says, same_pixels)


def apart_from_milliseconds(one: Retrieval, other: Retrieval) -> bool:
    """Nothing in a blended file confirms its times but their order: a pixel may be shifted between its neighbours."""
    late = one.pixels["time"] - other.pixels["time"]
    pixels = one.pixels.assign(time=other.pixels["time"])
    return bool(late.abs().max() < timedelta(seconds=60)) and same_pixels(replace(one, pixels=pixels), other)


@cases(70)
@given(damage=damages)
def test_a_damaged_blended_file_is_refused_or_read_right(blended: File, damage: Damage) -> None:
    right_or_refused(lambda: read_damaged(blended, damage), blended.says, apart_from_milliseconds)


@pytest.fixture(scope="module", params=["wfmd", "gosat", "methanesat", "methanesat-l3", "oco2"])
def other(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> File:
    """A file of a product whose values carry no checksum here."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "oco2":
        return retrieval(shared, folder, "oco2_*.nc4")
    makers = {"wfmd": write_wfmd, "gosat": write_gosat, "methanesat": write_l2, "methanesat-l3": write_l3}
    (folder / "whole").mkdir()
    path = makers[request.param](folder / "whole")
    return File(path, path.read_bytes(), read_here(path, WORLD, path.name), folder / path.name)


@cases(8)
@given(damage=damages)
def test_a_damaged_file_of_any_product_is_refused_or_read_as_one_table(other: File, damage: Damage) -> None:
    def is_a_table(found: Retrieval, right: Retrieval) -> bool:
        return set(PIXELS.names) <= set(found.pixels.columns) and set(found.pixels["units"]) <= {"ppb", "ppm"}

    right_or_refused(lambda: read_damaged(other, damage), other.says, is_a_table)


def test_what_comes_from_apart_is_what_is_read_here(operational: File, blended: File) -> None:
    for file in (operational, blended):
        far = read_apart(file.path, WORLD, file.path.name)
        assert same_pixels(far, file.says)
        assert far.pixels.dtypes.to_dict() == file.says.pixels.dtypes.to_dict()
        assert (far.instrument, far.product) == (file.says.instrument, file.says.product)


@pytest.mark.parametrize("at", [2560 / 255_587, 4352 / 255_587, 4608 / 255_587])
def test_a_file_that_the_library_never_ends_reading_is_refused(
    operational: File, monkeypatch: pytest.MonkeyPatch, at: float
) -> None:
    monkeypatch.setattr(apart, "SECONDS", 1)
    begun = time.monotonic()
    with pytest.raises(RetrievalError, match=r"is damaged|cannot be read|no readable"):
        read_damaged(operational, Damage("zeroed", at, 512))
    assert time.monotonic() - begun < 20


def test_a_read_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 1)
    os.mkfifo(tmp_path / "pipe.nc")
    with pytest.raises(RetrievalError, match=r"^pipe.nc is damaged: reading it did not end within 1 s$"):
        read_apart(tmp_path / "pipe.nc", WORLD, "pipe.nc")


def test_a_reader_gets_no_more_memory_than_its_limit() -> None:
    program = "from stilt_assets.retrieval.apart import _limit; _limit(60, 2**26); bytearray(2**28)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "MemoryError"


def test_a_file_that_wants_more_memory_than_there_is_is_refused(
    operational: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(tropomi, "read", greedy)
    with pytest.raises(RetrievalError, match=r"file.nc cannot be read as S5P_L2__CH4___: MemoryError"):
        read_here(operational.path, WORLD, "file.nc")


@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        (-9, WorkersKilledError, "was killed: out of memory"),
        (-14, RetrievalError, "did not end within 7 s"),
        (-11, RetrievalError, "ended by SIGSEGV"),
        (-6, RetrievalError, "ended by SIGABRT"),
        (1, RetrievalError, "ended with exit code 1"),
    ],
)
def test_how_a_reader_ended_is_told(code: int, kind: type[StiltAssetsError], told: str) -> None:
    error = apart._ended(code, "file.nc", 7)
    assert type(error) is kind
    assert told in str(error)


def test_a_killed_server_is_told_and_begun_again(operational: File) -> None:
    read_apart(operational.path, WORLD, "file.nc")
    server = apart._server._processes[os.getpid()]
    server.kill()
    with pytest.raises(WorkersKilledError, match=r"the reader of file.nc was killed"):
        apart._server.ask({"name": "file.nc"})
    assert len(read_apart(operational.path, WORLD, "file.nc").pixels) == 36


# ---- meteorology


@pytest.fixture(scope="module")
def weather(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[File]:
    """Two hours of three levels of a real file, cropped."""
    folder = tmp_path_factory.mktemp("weather")
    (folder / "in").mkdir()
    cut = folder / "cut"
    source = shared / "data" / "hrrr" / "20190530_00-05_hrrr"
    arlmet.extract_subset(source, cut, bbox=BOX, levels=range(3))
    with arlmet.File(cut) as file:
        step = file["2019-05-30T01"]
        content = cut.read_bytes()[: 2 * (int(step.position))]
    path = folder / "in" / "hours"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield File(path, content, fields(path), path)


def fields(path: Path) -> dict[str, Any]:
    """All that a file says: its grid, its levels and every field, or why a field cannot be unpacked."""
    with arlmet.File(path) as file:
        found: dict[str, Any] = {"grid": repr(file.grid), "levels": repr(file.vertical_axis)}
        for hour in file.times:
            for record in file[f"{hour:%Y-%m-%dT%H}"].records:
                found[f"{hour} {record.variable} {record.level}"] = np.asarray(record.read())
    return found


def same_fields(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(value, other[name]) for name, value in one.items())


def aggregated(file: File, damage: Damage) -> dict[str, Any]:
    file.copy.write_bytes(damage.done_to(file.content))
    out = file.path.parents[1] / "out"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(file.path.parents[1] / "cache", ignore_errors=True)
    out.mkdir()
    hours = (DAY, DAY + timedelta(hours=1))
    sources = find_sources("hrrr", str(file.path.parent), hours)
    receptor = Receptor(0, DAY, -112.1, 40.7, 0.0, 1000.0)
    make_aggregate(
        out, "hrrr", Need(hours, BOX, 1000.0, 1), sources, [receptor], {source.path: "-" for source in sources}
    )
    return fields(out / "meteorology.arl")


def in_a_first_value(file: File, damage: Damage) -> bool:
    """Whether a record's first value is hit, which nothing in an ARL file confirms."""
    with arlmet.File(file.path) as opened:
        length = int(opened[f"{opened.times[0]:%Y-%m-%dT%H}"].record_length)
    return int(damage.at * len(file.content)) % length in range(36, 50)


@cases(100)
@given(damage=damages)
def test_damaged_meteorology_is_refused_or_read_right(weather: File, damage: Damage) -> None:
    weather.copy.write_bytes(weather.content)
    if damage.kind != "cut short":  # a checksum of one byte sees every byte that changes alone
        damage = replace(damage, size=1, put=damage.put[:1])
    hypothesis.assume(damage.kind == "cut short" or not in_a_first_value(weather, damage))
    right_or_refused(lambda: aggregated(weather, damage), weather.says, same_fields)


# ---- settings

TEXT = """\
store: ./store
retrievals: ./inbox
meteorology: {product: hrrr, source: ./hrrr, wind: 12.5}
simulation: {hours_back: 8, particles: 200, top: 2500, seed: 0}
targets:
  slc:
    bounds: &box [-112.6, 40.2, -111.3, 41.2]
    grid: {west: -112.8, south: 40.15, east: -111.2, north: 41.35, resolution: 0.01}
  same:
    bounds: *box
    grid: {west: -112.8, south: 40.15, east: -111.2, north: 41.35, resolution: 0.01}
"""


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> File:
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    path.write_text(TEXT)
    return File(path, TEXT.encode(), load_settings(str(path)), path)


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def may_be_meant(one: Settings, _: Settings) -> bool:
    """A text has no checksum: what is still a settings file may be what somebody meant, as long as it can be."""
    return finite(one.model_dump())


@cases(300)
@example(damage=Damage("inserted", 0.0, 1, b"\xef\xbb\xbf"))
@example(damage=Damage("overwritten", 0.5, 4, b"\xff"))
@given(damage=damages)
def test_damaged_settings_are_refused_or_can_be(settings_file: File, damage: Damage) -> None:
    settings_file.copy.write_bytes(damage.done_to(settings_file.content))
    right_or_refused(lambda: load_settings(str(settings_file.copy)), settings_file.says, may_be_meant)


words = st.characters(exclude_categories=("Cc", "Cs"))
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(words, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(words, max_size=8), inner, max_size=4),
    max_leaves=20,
)


@cases(100)
@given(plain_values)
def test_plain_values_are_what_safe_yaml_says(value: Any) -> None:
    text = yaml.safe_dump(value)
    np.testing.assert_equal(plain_yaml(text), yaml.safe_load(text))


@cases(300)
@given(st.text(alphabet="ab1.:-?[]{},&*!|>'\"%@`#~<= \n\t\x85\ufeff", max_size=60))
def test_any_text_is_plain_values_or_refused_in_one_line(text: str) -> None:
    refusal = ""
    try:
        plain_yaml(text)
    except PlainYamlError as error:
        refusal = str(error)
    assert "\n" not in refusal


@cases(100)
@given(changes=st.dictionaries(st.sampled_from([*Settings.model_fields, "other"]), plain_values))
def test_any_map_is_settings_or_refused(settings_file: File, changes: dict[str, Any]) -> None:
    settings_file.copy.write_text(yaml.safe_dump(yaml.safe_load(TEXT) | changes))
    right_or_refused(lambda: load_settings(str(settings_file.copy)), settings_file.says, may_be_meant)


def aliases(link: str) -> str:
    names = "abcdefghij"
    return "".join(f"{b}: &{b} {link.format(', '.join([f'*{a}'] * 10))}\n" for a, b in pairwise(names))


FULL = plain.VALUES + 10
HOSTILE = {
    "an alias that stands for a thousand million": f"a: &a [{', '.join('x' * 10)}]\n{aliases('[{}]')}",
    "maps merged a thousand million times": f"a: &a {{x: 1}}\n{aliases('{{<<: [{}]}}')}",
    "a list in itself": "a: &a [*a]",
    "a map merged with itself": "&a {<<: *a}",
    "deep lists": "[" * 100_000,
    "deep maps": "{a: " * 50_000,
    "deep blocks": "- " * 100_000,
    "aliases that nest": "x:\n - &a0 [1]\n" + "".join(f" - &a{i} [*a{i - 1}]\n" for i in range(1, 200)),
    "too many values": "[" + "1," * FULL + "]",
    "a long number": "a: " + "9" * 100_000,
    "a long number of base 16": "a: 0x" + "f" * 100_000,
    "a long number of base 60": "a: 1" + ":59" * 60_000,
    "a Python object": '!!python/object/apply:os.system ["echo here"]',
    "a Python name": "store: !!python/name:os.system",
    "a text called a number": "a: !!int b",
    "a tag of one's own": "a: !own b",
    "a key that is a list": "? [a]\n: b",
    "a key twice": "store: a\nstore: b",
    "a merge key twice": "a: &a {x: 1}\nb: {<<: *a, <<: *a}",
    "a bell": 'a: "\\a"',
    "half a character": 'a: "\\ud800"',
    "two texts": "a: 1\n---\na: 2",
    "an unknown alias": "a: *b",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_at_once_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "settings.yaml").write_text(HOSTILE[name])
    begun = time.process_time()
    with pytest.raises(SettingsError) as caught:
        load_settings(str(tmp_path / "settings.yaml"))
    assert time.process_time() - begun < 20
    assert "no YAML of plain values: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"store: \xc3\x28", b"\x89HDF\r\n\x1a\n"])
def test_bytes_that_are_no_utf_8_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "settings.yaml").write_bytes(content)
    with pytest.raises(SettingsError, match="no UTF-8 at byte"):
        load_settings(str(tmp_path / "settings.yaml"))


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "settings.yaml").open("wb") as file:
        file.truncate(100_000_000_000)
    with pytest.raises(SettingsError, match="larger than 256 KiB"):
        load_settings(str(tmp_path / "settings.yaml"))


def test_merge_keys_and_anchors_do_what_they_do_in_yaml() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: [*b, *a], z: 4}"
    assert (
        plain_yaml(text)
        == yaml.safe_load(text)
        == {
            "a": {"x": 1, "y": 2},
            "b": {"x": 1, "y": 3},
            "c": {"x": 1, "y": 3, "z": 4},
        }
    )
