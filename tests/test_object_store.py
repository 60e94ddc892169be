"""A store at s3://… on a real server: what it keeps, and what becomes of each of its faults."""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import FaultyProxy, ObjectStore, object_store, reached
from taxonomy import causes, seen

from stilt_assets.errors import DamagedError, DiskFullError, StoreError
from stilt_assets.faults import PATIENCE
from stilt_assets.store import Store, open_store


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with object_store() as server, reached(server):
        yield server


@pytest.fixture
def proxy(server: ObjectStore) -> Iterator[FaultyProxy]:
    server.proxy.seen.clear()
    yield server.proxy
    server.proxy.mend()


@pytest.fixture
def store(server: ObjectStore, proxy: FaultyProxy, request: pytest.FixtureRequest) -> Store:
    """An empty prefix of the bucket."""
    return open_store(f"{server.url}/{abs(hash(request.node.name))}")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tries that follow each other at once."""
    monkeypatch.setattr("stilt_assets.faults.TRIES", 2)
    monkeypatch.setattr("stilt_assets.faults.FIRST_PAUSE", 0.01)


def requests_of(proxy: FaultyProxy, act: Callable[[], object]) -> list[str]:
    """The methods of the requests that an act makes."""
    proxy.seen.clear()
    act()
    return [method for method, _ in proxy.seen]


# ---- what it keeps


def test_what_was_written_is_read_listed_and_taken_away(store: Store, proxy: FaultyProxy) -> None:
    folder = store.result("key", "r")
    path = store.file(folder, "a.bin")
    assert not store.exists(path)
    assert store.names(folder) == []
    assert store.sizes(folder) == {}
    assert store.size(folder) == 0
    store.write(path, b"abc")
    store.write(store.file(folder, "deep", "b.bin"), b"12345")
    assert store.read(path) == b"abc"
    assert store.exists(path)
    assert store.exists(folder)
    assert store.names(folder) == ["a.bin", "deep"]
    assert store.sizes(folder) == {"a.bin": 3}
    assert store.size(folder) == 8
    assert store.scenes() == []
    store.write(store.record("key"), b"{}")
    assert store.scenes() == ["key"]
    store.remove(path)
    assert store.names(folder) == ["deep"]
    store.remove(folder)
    store.remove(folder)
    assert not store.exists(folder)


def test_one_listing_tells_all_sizes(store: Store, proxy: FaultyProxy) -> None:
    folder = store.result("key", "r")
    for number in range(30):
        store.write(store.pack(folder, number), b"x" * number)
    assert requests_of(proxy, lambda: store.sizes(folder)) == ["GET"]
    assert list(store.sizes(folder).values()) == list(range(30))


def test_what_another_process_wrote_is_seen_at_once(store: Store, server: ObjectStore) -> None:
    folder = store.result("key", "r")
    store.write(store.file(folder, "a"), b"")
    assert store.names(folder) == ["a"]
    program = "import sys; from stilt_assets.store import open_store; open_store(sys.argv[1]).write(sys.argv[1], b'x')"
    subprocess.run([sys.executable, "-c", program, store.file(folder, "b")], check=True)
    assert store.exists(store.file(folder, "b"))
    assert store.names(folder) == ["a", "b"]
    store.remove(store.file(folder, "b"))
    assert not store.exists(store.file(folder, "b"))


def test_many_files_are_read_side_by_side(store: Store, proxy: FaultyProxy) -> None:
    paths = [store.pack(store.result("key", "r"), number) for number in range(24)]
    for path in paths:
        store.write(path, path.encode())
    proxy.have("delay", "GET", seconds=1.0)
    begun = time.monotonic()
    assert store.read_many(paths) == {path: path.encode() for path in paths}
    assert time.monotonic() - begun < 24 * 1.0 / 2


def test_a_folder_is_built_with_its_marker_last(store: Store, proxy: FaultyProxy) -> None:
    folder = store.result("key", "r")
    proxy.seen.clear()
    with store.building(folder, "a") as work:
        (work / "deep").mkdir()
        for name in ("a", "b", "deep/c"):
            (work / name).write_bytes(name.encode())
    put = [path.rsplit("/r/", 1)[1] for method, path in proxy.seen if method == "PUT"]
    assert sorted(put) == ["a", "b", "deep/c"]
    assert put[-1] == "a"
    assert not work.exists()
    assert store.read(store.file(folder, "deep", "c")) == b"deep/c"


def test_a_table_is_read_in_parts_and_damage_is_found(store: Store) -> None:
    path, content = store.file(store.result("key", "r"), "a.parquet"), io.BytesIO()
    pq.write_table(pa.table({"x": list(range(1000))}), content, use_dictionary=False, write_page_checksum=True)
    store.write(path, content.getvalue())
    assert store.table(path, ["x"], ("x", "==", 7))["x"].to_pylist() == [7]
    harmed = bytearray(content.getvalue())
    harmed[500] ^= 1
    store.write(path, bytes(harmed))
    with pytest.raises(DamagedError):
        store.table(path)


def test_processes_of_one_machine_fetch_a_file_once(
    store: Store, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.file(store.result("key", "r"), "meteorology.arl")
    store.write(path, b"x" * 100_000)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    proxy.have("delay", "GET", seconds=0.5)
    program = """
import sys
from stilt_assets.store import open_store
with open_store(sys.argv[1]).local(sys.argv[1]) as here:
    print(len(here.read_bytes()), flush=True)
    sys.stdin.readline()
"""
    words = [sys.executable, "-c", program, path]
    processes = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline().strip() == "100000"
    for each in processes:
        each.communicate("\n")
    assert len([where for method, where in proxy.seen if method == "GET" and "meteorology.arl" in where]) == 1
    assert not [where for where in tmp_path.rglob("*") if where.is_file()]


def test_a_copy_for_which_there_is_no_room_is_not_begun(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.file(store.result("key", "r"), "meteorology.arl")
    store.write(path, b"x" * 100)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=99))
    with pytest.raises(DiskFullError, match=r"no room left in .*; free some or set TMPDIR"), store.local(path):
        pass


# ---- what becomes of faults

ACTS: dict[str, Callable[[Store, str], object]] = {
    "read": lambda store, path: store.read(path),
    "write": lambda store, path: store.write(path, b"new"),
    "exists": lambda store, path: store.exists(path),
    "names": lambda store, path: store.names(path.rsplit("/", 1)[0]),
    "sizes": lambda store, path: store.sizes(path.rsplit("/", 1)[0]),
    "size": lambda store, path: store.size(path),
    "remove": lambda store, path: store.remove(path),
    "table": lambda store, path: store.table(path),
    "many": lambda store, path: store.read_many([path, f"{path}2"]),
    "local": lambda store, path: store.local(path).__enter__(),
    "building": lambda store, path: build(store),
}
FAULTS = [
    pytest.param("drop", "unreachable", marks=causes("unreachable")),
    pytest.param("refuse", "unreachable", marks=causes("unreachable")),
    pytest.param("break", "unreachable", marks=causes("unreachable")),
    pytest.param("slow down", "throttled", marks=causes("throttled")),
    pytest.param("deny", "denied", marks=causes("denied")),
]


def build(store: Store) -> None:
    with store.building(store.result("key", "built"), "m") as work:
        (work / "m").write_bytes(b"1")


def one_of(store: Store) -> str:
    """A table, twice."""
    path, content = store.file(store.result("key", "r"), "a.parquet"), io.BytesIO()
    pq.write_table(pa.table({"x": [1, 2, 3]}), content, write_page_checksum=True)
    for each in (path, f"{path}2"):
        store.write(each, content.getvalue())
    return path


@pytest.mark.parametrize(("fault", "reason"), [("refuse", "unreachable"), ("deny", "denied")])
@pytest.mark.parametrize("act", ACTS)
def test_every_act_tells_the_reason_in_one_line(
    store: Store, proxy: FaultyProxy, hasty: None, act: str, fault: str, reason: str
) -> None:
    path = one_of(store)
    with proxy.having(fault), pytest.raises(StoreError) as caught:  # pyright: ignore[reportArgumentType]
        ACTS[act](store, path)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    assert "scenes/key" in str(caught.value)


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
@pytest.mark.parametrize("act", ["read", "write"])
def test_every_fault_has_its_reason(
    store: Store, proxy: FaultyProxy, hasty: None, act: str, fault: str, reason: str
) -> None:
    path = one_of(store)
    with proxy.having(fault), pytest.raises(StoreError) as caught:  # pyright: ignore[reportArgumentType]
        ACTS[act](store, path)
    assert (seen(caught.value.reason), caught.value.transient) == (reason, reason != "denied")


@pytest.mark.parametrize("fault", ["drop", "refuse", "break", "slow down"])
@pytest.mark.parametrize("act", ["read", "write", "building"])
def test_a_fault_that_passes_is_not_noticed(store: Store, proxy: FaultyProxy, act: str, fault: str) -> None:
    path = one_of(store)
    proxy.have(fault)  # pyright: ignore[reportArgumentType]
    mender = threading.Timer(1.0, proxy.mend)
    mender.start()
    ACTS[act](store, path)
    mender.join()
    assert store.read(path) == (b"new" if act == "write" else store.read(f"{path}2"))


def test_an_answer_that_breaks_off_is_asked_for_again(store: Store, proxy: FaultyProxy, tmp_path: Path) -> None:
    path = store.file(store.result("key", "r"), "a.bin")
    store.write(path, b"0123456789" * 50_000)
    proxy.have("cut", "GET", times=2)
    assert store.read(path) == b"0123456789" * 50_000
    proxy.have("cut", "GET", times=2)
    with store.local(path) as here:
        assert here.read_bytes() == b"0123456789" * 50_000


def test_a_large_object_comes_in_parts_and_only_the_broken_one_again(
    store: Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stilt_assets.bucket.PART", 40_000)
    path = store.file(store.result("key", "r"), "large.bin")
    content = bytes(range(250)) * 400
    store.write(path, content)
    proxy.seen.clear()
    proxy.have("cut", "GET", path="large.bin", times=1)
    with store.local(path) as here:
        assert here.read_bytes() == content
    assert [method for method, where in proxy.seen if "large.bin" in where].count("GET") == 3 + 1


def test_a_file_is_read_in_one_request_and_looked_for_in_one(store: Store, proxy: FaultyProxy) -> None:
    path = store.file(store.result("key", "r"), "a.bin")
    store.write(path, b"abc")
    assert requests_of(proxy, lambda: store.read(path)) == ["GET"]
    assert requests_of(proxy, lambda: store.read_if_there(path)) == ["GET"]
    assert requests_of(proxy, lambda: store.read_if_there(f"{path}x")) == ["GET"]
    assert requests_of(proxy, lambda: store.write(path, b"new")) == ["PUT"]
    assert requests_of(proxy, lambda: store.remove_files([path, f"{path}x"])) == ["POST"]
    assert not store.exists(path)


def test_a_store_that_stays_away_is_given_up_within_half_a_minute(store: Store, proxy: FaultyProxy) -> None:
    path = one_of(store)
    begun = time.monotonic()
    with proxy.having("drop"), pytest.raises(StoreError):
        store.read(path)
    assert 2 < time.monotonic() - begun < PATIENCE + 10


def test_who_may_read_but_not_write_is_told_so(store: Store, proxy: FaultyProxy) -> None:
    path = one_of(store)
    proxy.have("deny", "PUT")
    assert store.exists(path)
    with pytest.raises(StoreError, match=r"writing s3://.* failed: Access Denied") as caught:
        store.write(path, b"")
    assert caught.value.reason == "denied"
    with pytest.raises(StoreError, match=r"writing s3://.*/m failed: Access Denied"):
        build(store)
    proxy.mend()
    assert not store.exists(store.result("key", "built"))


def test_what_is_not_there_is_not_found(store: Store, server: ObjectStore) -> None:
    nowhere = open_store("s3://no-such-bucket/x")
    acts: list[Callable[[], object]] = [
        lambda: store.read(store.record("none")),
        lambda: store.table(store.record("none")),
        lambda: store.local(store.record("none")).__enter__(),
        lambda: nowhere.write(nowhere.record("key"), b""),
        lambda: nowhere.read(nowhere.record("key")),
    ]
    for act in acts:
        with pytest.raises(StoreError) as caught:
            act()
        assert caught.value.reason == "not_found"
    assert not nowhere.exists(nowhere.record("key"))


def test_without_credentials_access_is_denied(server: ObjectStore) -> None:
    program = """
from stilt_assets.store import open_store
from stilt_assets.errors import StoreError
store = open_store("s3://bucket/x")
try: store.write(store.record("key"), b"")
except StoreError as error: print(error.reason, "|", error)
"""
    given = server.environment | {"PATH": os.environ["PATH"], "HOME": os.devnull}
    bare = {name: value for name, value in given.items() if name not in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}}
    done = subprocess.run([sys.executable, "-c", program], env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("denied | writing s3://bucket/x/scenes/key/scene.json failed: ")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.parametrize(("library", "scheme"), [("gcsfs", "gs"), ("asyncio", "s3")])
def test_what_a_library_raises_it_does_not_tell_as_well(library: str, scheme: str) -> None:
    program = f"""
import contextlib, logging
from stilt_assets.store import Store
with contextlib.suppress(Exception): Store("{scheme}://bucket/x").fs
logging.getLogger("{library}").error("https://host/?token=secret")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
