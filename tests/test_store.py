"""Whatever is written appears whole or not at all, on a disk and on an object store."""

import errno
import io
import posixpath
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import example, given
from hypothesis import strategies as st
from taxonomy import causes, seen

from stilt_assets import bucket
from stilt_assets.errors import DamagedError, DiskFullError, StoreError, UsageError
from stilt_assets.store import Store, open_store


@pytest.fixture
def disk(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def cloud() -> Iterator[Store]:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield open_store("memory://bucket")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(params=["disk", "cloud"])
def store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue(request.param)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
        )
    except OSError as error:
        pytest.skip(f"needs to mount a small disk: {error}")
    if mounted.returncode:
        pytest.skip(f"needs to mount a small disk: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_what_was_written_is_read_and_measured_and_taken_away(store: Store) -> None:
    path = store.file(store.result("key", "pixels-1"), "deep", "a.bin")
    assert not store.exists(path)
    assert store.size(path) == 0
    store.write(path, b"\x00\xffabc")
    assert store.read(path) == b"\x00\xffabc"
    assert store.exists(path)
    assert store.size(store.result("key", "pixels-1")) == 5
    store.remove(path)
    store.remove(path)
    assert not store.exists(path)


def test_a_second_write_replaces_the_first(store: Store) -> None:
    path = store.record("key")
    store.write(path, b"a long first")
    store.write(path, b"second")
    assert store.read(path) == b"second"


def test_places_are_those_of_the_design() -> None:
    store = Store("/s/")
    assert store.scene("k") == "/s/scenes/k"
    assert store.record("k") == "/s/scenes/k/scene.json"
    assert store.result("k", "pixels-1") == "/s/scenes/k/pixels-1"
    assert store.pack("/f", 7) == "/f/pack=00007.parquet"
    assert store.pack("/f", 7, "outcomes") == "/f/outcomes/pack=00007.parquet"
    assert store.unfinished("/f", "x") == "/f/unfinished/x"


def test_a_folder_that_is_not_there_holds_no_names(store: Store) -> None:
    assert store.names(store.result("key", "none")) == []


def test_names_are_sorted_and_bare_and_those_of_one_folder(store: Store) -> None:
    folder = store.result("key", "pixels-1")
    for place in (["b"], ["a"], ["c", "d"], ["c", "e"]):
        store.write(store.file(folder, *place), b"x" * len(place))
    assert store.names(folder) == ["a", "b", "c"]
    assert store.sizes(folder) == {"a": 1, "b": 1}
    assert store.sizes(store.file(folder, "c")) == {"d": 2, "e": 2}
    assert store.sizes(store.file(folder, "none")) == {}


def test_a_file_is_no_folder_that_holds_itself(store: Store) -> None:
    store.write(store.record("key"), b"{}")
    assert store.names(store.record("key")) == []


@causes("not_found")
def test_many_files_are_read_at_once_and_the_first_that_is_missing_is_told(store: Store) -> None:
    folder = store.result("key", "pixels-1")
    paths = [store.file(folder, f"{number}.bin") for number in range(40)]
    for number, path in enumerate(paths):
        store.write(path, bytes([number]))
    assert store.read_many(reversed(paths)) == {path: bytes([number]) for number, path in enumerate(paths)}
    assert store.read_many([]) == {}
    with pytest.raises(StoreError, match=r"reading .*none.* failed") as caught:
        store.read_many([*paths, store.file(folder, "none")])
    assert seen(caught.value.reason) == "not_found"


def test_names_written_by_another_process_are_seen_at_once(disk: Store) -> None:
    folder = Path(disk.result("key", "pixels-1"))
    assert disk.names(str(folder)) == []
    folder.mkdir(parents=True)
    (folder / "new").touch()
    assert disk.names(str(folder)) == ["new"]


def test_scenes_are_folders_with_a_record_oldest_first(store: Store) -> None:
    for key in ("20200102T0000Z_a_b", "20190102T0000Z_a_b"):
        store.write(store.record(key), b"{}")
    store.write(store.file(store.result("20180102T0000Z_a_b", "pixels-1"), "x"), b"")
    assert store.scenes() == ["20190102T0000Z_a_b", "20200102T0000Z_a_b"]


# ---- one file


def test_a_disk_that_fills_up_during_a_write_keeps_the_old_file_and_nothing_else(small_disk: Path) -> None:
    store = open_store(str(small_disk))
    path = store.record("key")
    store.write(path, b"old")
    with pytest.raises(DiskFullError, match="no room left while writing") as caught:
        store.write(path, b"new" * 2**20)
    assert "\n" not in str(caught.value)
    assert caught.value.reason == "disk_full"
    assert store.read(path) == b"old"
    assert everything(small_disk) == {"scenes", "scenes/key", "scenes/key/scene.json"}


def test_a_first_write_that_fails_leaves_no_file(small_disk: Path) -> None:
    store = open_store(str(small_disk))
    with pytest.raises(DiskFullError):
        store.write(store.record("key"), b"new" * 2**20)
    assert not store.exists(store.record("key"))
    assert everything(small_disk) == {"scenes", "scenes/key"}


def test_a_write_that_stops_before_its_rename_leaves_the_old_file(disk: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = disk.record("key")
    disk.write(path, b"old")
    monkeypatch.setattr("os.fsync", refused)
    with pytest.raises(StoreError, match=r"writing .*scene\.json failed: Input/output error"):
        disk.write(path, b"new")
    assert disk.read(path) == b"old"
    assert disk.names(disk.scene("key")) == ["scene.json"]


def test_a_quota_that_is_spent_is_a_full_disk(disk: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("os.fsync", refused)
    with pytest.raises(DiskFullError):
        disk.write(disk.record("key"), b"new")


def test_a_reader_never_sees_half_a_file(disk: Store) -> None:
    path, size = disk.record("key"), 2**20
    disk.write(path, b"a" * size)
    program = "import sys; from stilt_assets.store import open_store; store = open_store(sys.argv[1])\n"
    program += f"for letter in (b'b', b'a') * 10: store.write(sys.argv[2], letter * {size})"
    writer = subprocess.Popen([sys.executable, "-c", program, disk.root, path])
    seen = set()
    while writer.poll() is None:
        content = disk.read(path)
        seen.add((len(content), content[:1], len(set(content))))
    assert writer.returncode == 0
    assert seen <= {(size, b"a", 1), (size, b"b", 1)}


@causes("store")
def test_below_a_file_there_can_be_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = open_store(str(tmp_path / "file"))
    for act in (lambda: store.write(store.record("key"), b""), lambda: build(store, "r", {"m": b""}), store.scenes):
        with pytest.raises(StoreError, match=f"{tmp_path}/file/.* failed: Not a directory") as caught:
            act()
        assert "\n" not in str(caught.value)
        assert (seen(caught.value.reason), caught.value.exit_code) == ("store", 1)
    assert (tmp_path / "file").read_text() == "x"


def test_what_cannot_be_read_is_told_in_one_line(store: Store) -> None:
    with pytest.raises(StoreError, match=r"reading .*scene\.json failed: ") as caught:
        store.read(store.record("key"))
    assert "\n" not in str(caught.value)


@causes("usage")
def test_a_store_of_an_unknown_kind_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="cannot open the store nonsense://bucket") as caught:
        open_store("nonsense://bucket")
    seen(caught.value.reason)


def test_a_relative_store_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("here").root == str(tmp_path / "here")
    assert open_store(f"file://{tmp_path}/here").is_local
    assert not open_store("memory://here").is_local


# ---- a folder


def build(store: Store, name: str, files: dict[str, bytes], marker: str = "m") -> str:
    folder = store.result("key", name)
    with store.building(folder, marker) as work:
        for path, content in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_bytes(content)
    return folder


def test_a_folder_appears_with_all_its_files(store: Store) -> None:
    folder = build(store, "r", {"m": b"1", "deep/er/x": b"22"})
    assert store.read(store.file(folder, "m")) == b"1"
    assert store.read(store.file(folder, "deep", "er", "x")) == b"22"
    assert store.names(store.scene("key")) == ["r"]


def test_a_folder_is_not_there_before_its_block_has_ended(store: Store) -> None:
    folder = store.result("key", "r")
    with store.building(folder, "m") as work:
        (work / "m").write_bytes(b"")
        assert not store.exists(folder)
    assert store.exists(folder)


@pytest.mark.parametrize("failure", [ValueError("a bug"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_nothing_behind(store: Store, failure: BaseException) -> None:
    folder, works = store.result("key", "r"), []

    def half() -> None:
        with store.building(folder, "m") as work:
            works.append(work)
            (work / "m").write_bytes(b"half")
            raise failure

    with pytest.raises(type(failure)):
        half()
    assert store.names(store.scene("key")) == []
    assert not works[0].exists()


def test_a_disk_that_fills_up_while_a_folder_is_built_is_told_and_the_folder_vanishes(small_disk: Path) -> None:
    store = open_store(str(small_disk))
    with pytest.raises(DiskFullError, match=r"no room left while building .*/scenes/key/r; free some space"):
        build(store, "r", {"m": b"x" * 3 * 2**20})
    assert everything(small_disk) == {"scenes", "scenes/key"}


def test_a_second_build_of_the_same_folder_leaves_the_first_bytes(disk: Store) -> None:
    folder = Path(build(disk, "r", {"m": b"first"}))
    node = (folder / "m").stat().st_ino
    build(disk, "r", {"m": b"second", "more": b""})
    assert everything(folder) == {"m"}
    assert ((folder / "m").read_bytes(), (folder / "m").stat().st_ino) == (b"first", node)
    assert disk.names(disk.scene("key")) == ["r"]


def test_others_may_read_a_built_folder(disk: Store) -> None:
    assert Path(build(disk, "r", {"m": b""})).stat().st_mode & 0o777 == 0o755


def test_the_marker_is_uploaded_last_whatever_it_is_called(cloud: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[str] = []
    real = MemoryFileSystem.put_file

    def noted(self: MemoryFileSystem, here: str, there: str, *rest: Any, **more: Any) -> None:
        put.append(there)
        real(self, here, there, *rest, **more)

    monkeypatch.setattr(MemoryFileSystem, "put_file", noted)
    folder = build(cloud, "r", {"a": b"", "b": b"", "z": b"", "deep/a": b"", "deep/b": b""}, marker="a")
    assert sorted(put) == sorted(f"{folder}/{name}" for name in ("a", "b", "z", "deep/a", "deep/b"))
    assert put[-1] == f"{folder}/a"
    put.clear()
    folder = build(cloud, "s", {"a": b"", "deep/b": b"", "z": b""}, marker="deep/b")
    assert put[-1] == f"{folder}/deep/b"


def test_an_upload_that_breaks_leaves_no_marker(cloud: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stilt_assets.faults.FIRST_PAUSE", 0.001)
    real = MemoryFileSystem.put_file

    def broken(self: MemoryFileSystem, here: str, there: str, *rest: Any, **more: Any) -> None:
        if there.endswith("/z"):
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        real(self, here, there, *rest, **more)

    monkeypatch.setattr(MemoryFileSystem, "put_file", broken)
    with pytest.raises(StoreError, match=r"writing .*/z failed: Connection reset by peer"):
        build(cloud, "r", {"m": b"", "z": b""})
    assert not cloud.exists(cloud.file(cloud.result("key", "r"), "m"))


def test_a_file_is_lent_as_a_path_of_this_machine(store: Store) -> None:
    path = store.file(store.result("key", "r"), "meteorology.arl")
    store.write(path, b"abc")
    with store.local(path) as here:
        assert here.read_bytes() == b"abc"
    assert here.exists() == store.is_local
    assert store.read(path) == b"abc"


def test_a_store_that_other_machines_see_lends_copies(
    disk: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("stilt_assets.bucket.PART", 1000)
    path, content = disk.file(disk.result("key", "r"), "meteorology.arl"), bytes(range(256)) * 10
    disk.write(path, content)
    with replace(disk, staged=True).local(path) as first, replace(disk, staged=True).local(path) as second:
        assert first == second != Path(path)
        assert first.read_bytes() == content
    assert not first.exists()
    assert disk.read(path) == content


def test_an_answer_that_is_too_short_is_no_part_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stilt_assets.bucket.PART", 1000)

    class Short:
        def cat_file(self, _: str, start: int, end: int) -> bytes:
            return bytes(end - start)[: 900 if start == 1000 else None]

    with pytest.raises(StoreError, match="900 of 1000 bytes from byte 1000 on") as caught:
        bucket.fetch(Short(), "gs://b/aggregate.arl", 2500, tmp_path / "copy")
    assert caught.value.reason == "unreachable"


def test_a_file_that_cannot_be_fetched_is_told(cloud: Store) -> None:
    missing = pytest.raises(StoreError, match="memory://bucket/none failed")
    with missing as caught, cloud.local("memory://bucket/none"):
        pass
    assert caught.value.reason == "not_found"


# ---- places from outside


BAD = ["..", ".", "", "a/b", "/etc", "a\\b", "a\0", "a\n", "..\\x", "é", ".hidden", "%2e"]


@given(st.text() | st.sampled_from(BAD))
@example("20190530T0958Z_tropomi_slc")
def test_no_name_leaves_its_folder(name: str) -> None:
    store = Store("s3://bucket/prefix")
    folder = store.result("key", "pixels-1")
    makers: list[tuple[str, Callable[[], str]]] = [
        ("s3://bucket/prefix/scenes", lambda: store.scene(name)),
        ("s3://bucket/prefix/scenes", lambda: store.record(name).removesuffix("/scene.json")),
        ("s3://bucket/prefix/scenes/key", lambda: store.result("key", name)),
        (folder, lambda: store.file(folder, name)),
        (folder, lambda: store.pack(folder, 1, name).removesuffix("/pack=00001.parquet")),
        (f"{folder}/unfinished", lambda: store.unfinished(folder, name)),
    ]
    for parent, make in makers:
        try:
            place = make()
        except UsageError:
            continue
        assert name not in BAD
        assert place == f"{parent}/{name}"
        assert posixpath.dirname(posixpath.normpath(place.removeprefix("s3:/"))) == parent.removeprefix("s3:/")


@pytest.mark.parametrize(
    "name", ["20190530T0958Z_tropomi_slc", "pixels-3fa2c1d09b7e", "pack=00000.parquet", "a.b_c-d=e"]
)
def test_the_names_that_we_make_are_names(name: str) -> None:
    assert Store("/s").result("key", name) == f"/s/scenes/key/{name}"


def test_a_folder_that_is_no_scene_is_passed_over(disk: Store) -> None:
    disk.write(disk.record("20190102T0000Z_a_b"), b"{}")
    for strange in ("a scene", ".hidden", "lost+found"):
        (Path(disk.root) / "scenes" / strange).mkdir()
    assert disk.scenes() == ["20190102T0000Z_a_b"]


@pytest.mark.parametrize("url", ["s3://key:wJalr/secret@bucket/x", "memory://b/x?sig=wJalr", "ftp://me:wJalr@host/x"])
def test_a_store_whose_url_holds_credentials_is_refused_without_showing_them(url: str) -> None:
    with pytest.raises(UsageError, match=r"\*\*\*.* names credentials: they belong in the environment") as caught:
        open_store(url)
    assert "wJalr" not in f"{caught.value} {Store(url)!r} {Store(url)}"


def test_a_store_whose_url_fsspec_takes_for_a_pattern_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be a URL with one of"):
        open_store("memory://bucket/[1]")


# ---- damage


@pytest.fixture
def parquet(store: Store) -> str:
    path = store.file(store.result("key", "r"), "a.parquet")
    content = io.BytesIO()
    numbers = pa.table({"pixel": pa.array(range(3000), pa.int32())})
    with pq.ParquetWriter(content, numbers.schema, use_dictionary=False, write_page_checksum=True) as writer:
        for begin in range(0, 3000, 1000):
            writer.write_table(numbers.slice(begin, 1000))
    store.write(path, content.getvalue())
    return path


def test_rows_are_read_by_column_and_by_value(store: Store, parquet: str) -> None:
    assert store.table(parquet)["pixel"].to_pylist() == list(range(3000))
    assert store.table(parquet, ["pixel"], where=("pixel", "==", 1234))["pixel"].to_pylist() == [1234]


@causes("damaged")
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "none", "zeros"])
def test_a_damaged_table_is_told_with_its_path(store: Store, parquet: str, harm: str) -> None:
    content = bytearray(store.read(parquet))
    content[2000] ^= 1
    harmed = {
        "flip": bytes(content),
        "cut": content[:-100],
        "empty": b"",
        "none": b"no parquet at all",
        "zeros": b"\0" * len(content),
    }
    store.write(parquet, bytes(harmed[harm]))
    with pytest.raises(DamagedError, match=r"a\.parquet is damaged: ") as caught:
        store.table(parquet)
    assert (caught.value.path, seen(caught.value.reason)) == (parquet, "damaged")
    assert "\n" not in str(caught.value)


def test_every_flipped_bit_of_the_rows_is_found(disk: Store) -> None:
    path = disk.file(disk.result("key", "r"), "a.parquet")
    content = io.BytesIO()
    pq.write_table(pa.table({"x": [1.5, 2.5, 3.5]}), content, write_page_checksum=True)
    whole = content.getvalue()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    right = pq.read_table(io.BytesIO(whole))
    for number in range(4, footer):
        harmed = bytearray(whole)
        harmed[number] ^= 1 << number % 8
        disk.write(path, bytes(harmed))
        try:
            assert disk.table(path).equals(right)
        except DamagedError:
            continue


def test_a_table_that_is_not_there_is_not_damaged(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.table(store.file(store.result("key", "r"), "none.parquet"))
    assert caught.value.reason == "not_found"


def test_tables_of_all_stages_have_checksums() -> None:
    house = Path(open_store.__code__.co_filename).parent
    for path in house.rglob("*.py"):
        for found in re.finditer(r"pq\.(?:write_table|ParquetWriter)\((?:[^()]|\([^()]*\))*\)", path.read_text()):
            assert "write_page_checksum=True" in found[0], f"{path.name}: {found[0]}"


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"[1]", b'"a"', b"\xff\xfe{}", b'{"b": 1}'])
def test_a_damaged_record_is_told_with_its_path(store: Store, content: bytes) -> None:
    path = store.record("key")
    store.write(path, b'{"a": {"b": 1}}')
    assert store.json(path, "a") == {"a": {"b": 1}}
    store.write(path, content)
    with pytest.raises(DamagedError, match=r"scene\.json is damaged: ") as caught:
        store.json(path, "a")
    assert caught.value.path == path


def test_what_a_bulk_request_could_not_delete_is_told(cloud: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cloud.result("key", "r")
    for name in ("a", "b"):
        cloud.write(cloud.file(folder, name), b"")
    monkeypatch.setattr(MemoryFileSystem, "rm", lambda *_, **__: None)
    with pytest.raises(StoreError, match="failed: some of it is still there") as caught:
        cloud.remove(folder)
    assert caught.value.reason == "denied"
