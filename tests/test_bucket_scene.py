"""The first scene with its store in a bucket: the bytes that it makes on a disk, what commands tell, few requests."""

import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gcs_server import gcs_server
from object_store import FaultyProxy, object_store, reached
from place import KEY, Place

from stilt_assets import cli
from stilt_assets.inbox import look
from stilt_assets.pack import Packs
from stilt_assets.scene import load_record
from stilt_assets.settings import load_settings
from stilt_assets.simulation import Outcome, Status
from stilt_assets.store import Store, open_store

KINDS = ("s3", "gs")
_LISTING = re.compile(r"list-type=2|/b/[^/]+/o/?(\?|$)")
_MEMBERS = [3, 5, 8]


@dataclass
class Bucket:
    """A bucket of one kind, how programs find it, and the requests that it sees."""

    url: str
    proxy: FaultyProxy
    environment: Mapping[str, str]

    def requests_of(self, act: Callable[[], object]) -> Counter[str]:
        """The requests that an act makes, listings by that name and others by their method."""
        self.proxy.seen.clear()
        act()
        return Counter("list" if _is_listing(*each) else each[0] for each in self.proxy.seen)


def _is_listing(method: str, path: str) -> bool:
    return method == "GET" and bool(_LISTING.search(path))


def _is_content(method: str, path: str) -> bool:
    """Whether an object comes; what there is to know of it gcsfs asks once or twice, as its tasks happen to end."""
    return method == "GET" and not _is_listing(method, path) and not path.startswith("/storage/v1/")


@contextmanager
def served(kind: str) -> Iterator[Bucket]:
    with ExitStack() as stack:
        if kind == "s3":
            server = stack.enter_context(object_store())
            stack.enter_context(reached(server))
            bucket = Bucket(server.url, server.proxy, server.environment)
        else:
            proxy = stack.enter_context(gcs_server())
            given = {"STORAGE_EMULATOR_HOST": proxy.url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
            bucket = Bucket("gs://bucket", proxy, given)
        end_the_server_of_workers()
        stack.callback(end_the_server_of_workers)
        yield bucket


def end_the_server_of_workers() -> None:
    """Workers come from a server that has the environment of its own beginning: the next one begins anew."""
    forkserver._forkserver._stop()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module", params=KINDS)
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    with served(request.param) as bucket:
        yield bucket


# ---- the whole scene


def objects(url: str) -> dict[str, bytes]:
    """All files below a folder or URL, by their path there."""
    fs = open_store(url).fs
    root = fs._strip_protocol(url)
    return {name.removeprefix(root).lstrip("/"): fs.cat_file(name) for name in fs.find(root)}


def without_times(name: str, content: bytes) -> Any:
    """What a file says, but for how long things took and when, and from where its retrieval came."""
    if "/outcomes/" in name:
        table = pq.read_table(pa.BufferReader(content))
        return table.drop_columns(["seconds"]).to_pylist(), table.schema.metadata
    if name.endswith("scene.json"):
        record = json.loads(content)
        record["retrieval"].pop("path")
        record["retrieval"].pop("mtime_ns", None)
        return _plain(record)
    return content


def _plain(value: Any) -> Any:
    """JSON without the numbers that clocks and compressors of clocks' readings make."""
    if isinstance(value, dict):
        gone = {"seconds", "seconds_expected", "expected", "closed", "bytes"}
        return {name: _plain(part) for name, part in value.items() if name not in gone}
    return [_plain(part) for part in value] if isinstance(value, list) else value


# ---- what people type

DAY = ("--from", "2019-05-30", "--to", "2019-05-31")


@dataclass
class Desk:
    """Somebody who types commands, in this process, at the folder of a place whose store is at `root`."""

    place: Place
    root: str
    requests: list[tuple[str, str]] = field(default_factory=list)  # as the bucket's server sees them
    said: str = ""  # of the last command, on standard error
    of_the_run: list[tuple[str, str]] = field(default_factory=list)

    def types(self, *words: str, code: int = 0) -> str:
        """What a command prints, the store's root as STORE. Nothing goes wrong that is not told in one line."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["stilt-assets", *words])
            patch.setenv("STILT_ASSETS_CONFIG", str(self.place.config))
            patch.delenv("DAGSTER_HOME", raising=False)
            patch.delenv("STILT_ASSETS_STORE", raising=False)
            patch.chdir(self.place.folder)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        self.said = err.getvalue().replace(self.root, "STORE")
        assert (ended.value.code or 0) == code, (words, self.said)
        assert not re.search("Traceback|Warning|Unclosed", self.said), (words, self.said)
        return out.getvalue().replace(self.root, "STORE")

    def tour(self) -> dict[str, Any]:
        """A scene from its file to its Jacobian, and all that can be asked of it on the way."""
        name, told = self.place.source.name, dict[str, Any]()
        told["none"] = self.types("scenes", "list"), self.said
        told["no such file"] = self.types("scenes", "add", "nothing.nc", code=1)
        told["added"] = self.types("scenes", "add", name), self.types("scenes", "add", *DAY)
        told["to come"] = self.preview()
        told["missing"] = self.types("backfill", *DAY, "--status", "missing", "--dry-run")
        told["why"] = self.types("why", KEY)
        self.place.change(limits={"scene": {"objects": 2}, "backfill": {"objects": 2}})
        told["too much"] = [self.types("run", KEY, code=1), self.said, self.types("backfill", *DAY, code=1), self.said]
        self.place.change(limits={})
        begin = len(self.requests)
        told["run"] = self.types("run", KEY)
        self.of_the_run = self.requests[begin:]
        told["run again"] = self.types("run", KEY)
        told["shard"] = self.types("shard", KEY, "packs_0_to_1")
        told["status"] = _plain(json.loads(self.types("status", KEY, "--json")))
        told["listed"] = self.types("scenes", "list"), KEY in self.types("status")
        told["done"] = self.preview()
        told["still missing"] = self.types("backfill", *DAY, "--status", "missing", "--dry-run"), self.said
        told["current"] = self.types("why", KEY)
        told["superseded"] = self.types("difference", KEY), self.said
        self.types("export", KEY, "--pixel", "3", "--to", str(self.place.folder / "3.nc"))
        page = self.types("metrics", "--once").splitlines()
        told["metrics"] = [line for line in page if re.match("stilt_assets_(scenes|pixels){", line)]
        return told

    def preview(self) -> dict[str, Any]:
        """What is to come, but for the prices of CPU hours that were measured."""
        told = json.loads(self.types("preview", KEY, "--json"))
        return {name: told[name] for name in ("state", "stages", "pixels", "packs", "packs_left", "dropped")}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scene on a disk, with the real model: what commands tell of it, and what lies in its store."""
    place = Place(tmp_path_factory.mktemp("disk"), shared)
    desk = Desk(place, str(place.folder / "store"))
    return desk.tour(), scene_in(desk.root)


def test_the_first_scene_in_a_bucket_makes_the_bytes_that_it_makes_on_a_disk_and_commands_tell_the_same(
    bucket: Bucket, disk: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path, shared: Path
) -> None:
    told, scene = disk
    root, inbox = f"{bucket.url}/first", f"{bucket.url}/inbox"
    place = Place(tmp_path, shared, store=root, retrievals=inbox)
    place.retrieval.unlink()
    open_store(root).write(f"{inbox}/{place.source.name}", place.source.read_bytes())
    bucket.proxy.seen.clear()
    desk = Desk(place, root, bucket.proxy.seen)
    assert desk.tour() == told
    assert scene_in(root) == scene
    packs = len([name for name in scene if "/outcomes/" in name])
    listings = [unquote(path) for method, path in desk.of_the_run if _is_listing(method, path)]
    aside = [path for path in listings if "unfinished" in path and "pack=" in path]
    assert packs == 3
    assert len(aside) == packs  # once a pack is finished
    assert told["status"]["state"] == "done"
    assert told["status"]["outcomes"]["ok"] + told["status"]["outcomes"]["empty"] == 9


def scene_in(store: str) -> dict[str, Any]:
    """All that a store holds of its scenes, without times."""
    return {name: without_times(name, held) for name, held in objects(store).items() if name.startswith("scenes/")}


def test_files_arrive_in_a_bucket_and_are_noted_in_it(bucket: Bucket, tmp_path: Path, shared: Path) -> None:
    place = Place(tmp_path, shared, store=f"{bucket.url}/arrived/store", retrievals=f"{bucket.url}/arrived/inbox")
    settings = load_settings(str(place.config))
    store = open_store(settings.store)
    store.write(f"{settings.retrievals}/{place.source.name}", place.source.read_bytes())
    first = look(settings, store, None, room=9, now=0.0)
    assert [each.key for each in first.asked] == [KEY]
    assert load_record(store, KEY).retrieval["path"] == f"{settings.retrievals}/{place.source.name}"
    second = look(settings, store, first.cursor.text, room=9, now=0.0)
    assert (second.asked, second.taken, second.waiting) == ([], [], 0)


# ---- requests


def packs_in(store: Store, name: str = "1") -> Packs:
    return Packs(store, store.result("key", f"particles-{name}"), store.result("key", f"footprints-{name}"), "core")


def empty(pixel: int) -> Outcome:
    return Outcome(pixel, Status.failed, "timeout", "", 1, 0.0, 0, 1)


def do_a_pack(packs: Packs, number: int) -> None:
    begun = packs.begun() if number == 0 else set[int]()  # once, of all packs
    assert not packs.is_whole(number, _MEMBERS)
    for pixel in packs.open(number, _MEMBERS, begun=number in begun):
        packs.put_aside(number, empty(pixel), {})
    assert packs.finish(number, _MEMBERS) == set()


def test_a_pack_takes_one_listing_however_many_there_are(bucket: Bucket) -> None:
    packs = packs_in(open_store(f"{bucket.url}/requests"))
    do_a_pack(packs, 0)
    first = bucket.requests_of(lambda: do_a_pack(packs, 1))
    for number in range(2, 6):
        do_a_pack(packs, number)
    last = bucket.requests_of(lambda: do_a_pack(packs, 6))
    assert first == last
    assert last["list"] == 1
    assert last["HEAD"] == 0
    assert sorted(packs.whole(dict.fromkeys(range(7), _MEMBERS))) == list(range(7))


def test_looking_which_packs_are_whole_takes_as_many_listings_as_one(bucket: Bucket) -> None:
    packs = packs_in(open_store(f"{bucket.url}/whole"))
    counts = []
    for number in range(4):
        do_a_pack(packs, number)
        asked = dict.fromkeys(range(number + 1), _MEMBERS)
        seen = bucket.requests_of(lambda asked=asked: (packs.whole(asked), packs.left({9: [1]}), packs.keepers(asked)))
        counts.append((seen["list"], seen["HEAD"], seen["GET"] - number))
    assert set(counts) == {counts[0]}


def test_the_size_of_a_folder_takes_one_listing_however_many_files_it_holds(bucket: Bucket) -> None:
    store = open_store(f"{bucket.url}/sizes")
    folder = store.result("key", "footprints-1")
    for number in range(3):
        store.write(store.pack(folder, number, "outcomes"), b"x" * (number + 2))
    store.write(store.file(folder, "certificate.json"), b"five.")
    sizes: list[int] = []
    seen = bucket.requests_of(lambda: sizes.append(store.size(folder)))
    assert (sizes, seen) == ([2 + 3 + 4 + 5], {"list": 1})
    assert store.size(store.file(folder, "certificate.json")) == 5
    assert store.size(store.result("key", "footprints-2")) == 0


def test_a_gap_is_completed_from_one_fetch_of_each_file(bucket: Bucket) -> None:
    packs = packs_in(open_store(f"{bucket.url}/gap"))
    do_a_pack(packs, 0)
    packs.reopen(0, {5})
    packs.put_aside(0, empty(5), {})
    bucket.proxy.seen.clear()
    assert packs.finish(0, _MEMBERS) == set()
    fetched = [unquote(path) for method, path in bucket.proxy.seen if _is_content(method, path)]
    of_pack = Counter(path for path in fetched if "pack=00000.parquet" in path)
    assert len(of_pack) == 4
    assert set(of_pack.values()) == {1}
