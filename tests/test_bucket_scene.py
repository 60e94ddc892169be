"""The first scene with its store in a bucket: the bytes that it makes on a disk, and few requests."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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

from stilt_assets.pack import Packs
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


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Place:
    """The scene on a disk, with the real model."""
    place = Place(tmp_path_factory.mktemp("disk"), shared)
    place.add()
    place.make()
    return place


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


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
def test_the_first_scene_in_a_bucket_makes_the_bytes_that_it_makes_on_a_disk(
    bucket: Bucket, disk: Place, tmp_path: Path, shared: Path
) -> None:
    place = Place(tmp_path, shared, store=f"{bucket.url}/first", retrievals=f"{bucket.url}/inbox")
    arrived = f"{bucket.url}/inbox/{place.source.name}"
    open_store(bucket.url).write(arrived, place.source.read_bytes())
    assert place.cli("scenes", "add", arrived, **bucket.environment).stdout == f"{KEY}\n"
    bucket.proxy.seen.clear()
    place.cli("run", KEY, **bucket.environment)
    listings = [path for method, path in bucket.proxy.seen if _is_listing(method, path)]
    there, here = objects(f"{bucket.url}/first"), objects(str(disk.folder / "store"))
    assert there.keys() == here.keys()
    assert {name: without_times(name, content) for name, content in there.items()} == {
        name: without_times(name, content) for name, content in here.items()
    }
    packs = len([name for name in here if "/outcomes/" in name])
    of_packs = [path for path in listings if "pack=" in unquote(path)]
    assert packs == 3
    assert len(of_packs) == packs  # of what lies aside, when a pack is finished
    told = json.loads(place.cli("status", KEY, "--json", **bucket.environment).stdout)
    assert (told["state"], told["outcomes"]["ok"] + told["outcomes"]["empty"]) == ("done", 9)


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
