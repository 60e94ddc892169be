"""A server's file becomes one of this machine whole, checked, once for all, and goes when its room is needed."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import requests
from file_server import Mirror, crc32, file_server, google_hash
from object_store import BUCKET, object_store

from stilt_assets import faults
from stilt_assets.errors import BusyError, MeteorologyError, OverBudgetError, StoppedError, StoreError
from stilt_assets.meteorology.cache import Cache
from stilt_assets.meteorology.download import fetch
from stilt_assets.meteorology.server import Remote, look

KB = 1000
PATH = "/arl/20190530_00-05_hrrr"
CONTENT = np.random.default_rng(5).bytes(700 * KB)
OTHER = np.random.default_rng(6).bytes(900 * KB)


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "FIRST_PAUSE", 0.001)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with file_server() as server:
        server.files.contents[PATH] = CONTENT
        yield server


def there(mirror: Mirror, path: str = PATH) -> Remote:
    remote = look(mirror.url + path)
    assert remote
    return remote


def fetched(mirror: Mirror, part: Path, path: str = PATH) -> dict[str, str]:
    return fetch(there(mirror, path), part, lambda _: None)[1]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- what a server says


def test_a_server_is_asked_for_size_and_tag_before_any_byte_comes(mirror: Mirror) -> None:
    remote = there(mirror)
    assert (remote.size, remote.url) == (700 * KB, mirror.url + PATH)
    assert remote.tag.startswith('"v')
    assert mirror.files.gets == []


def test_a_file_that_is_not_there_is_none_and_no_error(mirror: Mirror) -> None:
    assert look(f"{mirror.url}/nothing") is None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("slow down", "throttled"), ("break", "unreachable"), ("drop", "unreachable"), ("deny", "denied")],
)
def test_a_server_that_fails_has_not_said_that_a_file_is_not_there(mirror: Mirror, kind, reason: str) -> None:
    with mirror.proxy.having(kind), pytest.raises(StoreError) as caught:
        look(mirror.door + PATH)
    assert caught.value.reason == reason
    assert PATH in str(caught.value)


def test_a_server_that_answers_503_twice_is_asked_a_third_time(mirror: Mirror) -> None:
    with mirror.proxy.having("slow down", times=2):
        assert look(mirror.door + PATH)


# ---- checksums

SUMS = {
    "google's md5": ({"x-goog-hash": google_hash(CONTENT, "md5")}, ["md5"]),
    "google's both": ({"x-goog-hash": google_hash(CONTENT, "crc32c", "md5")}, ["crc32c", "md5"]),
    "amazon's sha256": (
        {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()},
        ["sha256"],
    ),
    "amazon's crc32": ({"x-amz-checksum-crc32": crc32(CONTENT)}, ["crc32"]),
    "amazon's etag": ({"ETag": f'"{hashlib.md5(CONTENT).hexdigest()}"', "x-amz-request-id": "1"}, ["md5"]),
}


@pytest.mark.parametrize("kind", SUMS)
def test_whatever_checksum_the_server_tells_is_checked(mirror: Mirror, tmp_path: Path, kind: str) -> None:
    mirror.files.headers, names = SUMS[kind]
    mirror.files.tags = "ETag" not in mirror.files.headers
    with Cache(tmp_path, 1e6).lent([("hrrr/a", there(mirror))], 1) as (file,):
        assert file.path.read_bytes() == CONTENT
        assert list(file.checked) == names


@pytest.mark.parametrize("kind", SUMS)
def test_a_content_that_is_not_what_the_checksum_says_never_lands(mirror: Mirror, tmp_path: Path, kind: str) -> None:
    mirror.files.headers, names = SUMS[kind]
    mirror.files.tags = "ETag" not in mirror.files.headers
    mirror.files.contents[PATH] = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    with pytest.raises(
        MeteorologyError, match=rf"its {names[0]} is [0-9a-f]+, not [0-9a-f]+ as the server says, 3 times"
    ):
        fetched(mirror, tmp_path / "part")
    with pytest.raises(MeteorologyError), Cache(tmp_path, 1e6).lent([("hrrr/a", there(mirror))], 1):
        pass
    assert not (tmp_path / "hrrr" / "a").exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": f'"{"0" * 32}"'},  # of a plain server: anything may be meant
        {"ETag": f'"{"0" * 32}-3"', "x-amz-request-id": "1"},  # of parts
        {"ETag": f'"{"0" * 32}"', "x-amz-server-side-encryption": "aws:kms"},
        {"x-amz-checksum-crc32": "AAAAAA==-2"},  # of parts
        {"x-goog-hash": "md5=###"},
    ],
)
def test_what_is_no_checksum_of_the_whole_is_not_taken_for_one(mirror: Mirror, headers: dict[str, str]) -> None:
    mirror.files.headers, mirror.files.tags = headers, "ETag" not in headers
    assert there(mirror).digests == {}


def test_one_that_was_read_wrong_once_is_read_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files.headers = {"x-goog-hash": google_hash(CONTENT, "md5")}
    mirror.files.tags = False  # nothing but the checksum tells
    mirror.files.contents[PATH] = CONTENT[:-1] + b"?"
    mirror.files.changes[PATH] = [CONTENT]
    assert fetched(mirror, tmp_path / "part")["sha256"] == sha256(CONTENT)


# ---- broken connections


def test_a_broken_download_is_added_to_and_not_begun_anew(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files.breaks = 2
    assert fetched(mirror, tmp_path / "part")["sha256"] == sha256(CONTENT)
    starts = [start for _, start in mirror.files.gets]
    assert len(starts) == 3
    assert starts == sorted(set(starts)), "each begins where the one before ended"


def test_a_server_that_ends_each_answer_early_as_if_that_were_all_is_asked_for_the_rest(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files.at_most = 300 * KB
    assert fetched(mirror, tmp_path / "part")["sha256"] == sha256(CONTENT)
    assert [start for _, start in mirror.files.gets] == [0, 300 * KB, 600 * KB]


def test_a_server_without_ranges_is_asked_for_the_whole_once_more(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files.ranges = False
    mirror.files.breaks = 1
    fetched(mirror, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert mirror.files.gets == [(PATH, 0)] * 2


@pytest.mark.parametrize(("hangs_up", "reason"), [(False, "throttled"), (True, "unreachable")])
def test_a_server_that_is_gone_for_good_is_given_up_and_what_came_is_kept(
    mirror: Mirror, tmp_path: Path, hangs_up: bool, reason: str
) -> None:
    remote, cache = there(mirror), Cache(tmp_path, 1e6)
    mirror.files.breaks, mirror.files.last, mirror.files.hangs_up = 1, 1, hangs_up
    with pytest.raises(StoreError) as caught, cache.lent([("hrrr/a", remote)], 1):
        pass
    assert caught.value.reason == reason
    assert not (tmp_path / "hrrr" / "a").exists()
    came = (tmp_path / "hrrr" / ".a.part").stat().st_size
    assert 0 < came <= 350 * KB
    mirror.files.last = None
    mirror.files.gets.clear()
    with cache.lent([("hrrr/a", remote)], 1) as (file,):
        assert file.path.read_bytes() == CONTENT
    assert mirror.files.gets == [(PATH, came)]


def test_whoever_is_asked_to_stop_keeps_what_came(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="what came is kept"):
        fetch(there(mirror), tmp_path / "part", lambda _: None, lambda: True)
    came = (tmp_path / "part").stat().st_size
    assert 0 < came < 700 * KB
    mirror.files.gets.clear()
    assert fetched(mirror, tmp_path / "part")["sha256"] == sha256(CONTENT)
    assert mirror.files.gets == [(PATH, came)]


def test_one_file_that_cannot_be_had_stops_the_others_and_is_told(mirror: Mirror, tmp_path: Path) -> None:
    files = several(mirror, a=70, b=40, c=10)
    mirror.files.headers = {"x-goog-hash": google_hash(CONTENT[: 40 * KB], "md5")}
    wanted = [files["a"], ("b", there(mirror, "/b")), files["c"]]
    mirror.files.contents["/b"] = bytes(40 * KB)
    with pytest.raises(MeteorologyError, match="/b cannot be had"), Cache(tmp_path, 1e6).lent(wanted, 2):
        pass
    assert "b" not in names(tmp_path)


# ---- a file that changes


def test_a_file_that_changes_while_it_is_read_is_the_new_one_whole(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files.changes[PATH] = [OTHER]
    mirror.files.breaks = 1
    remote, sums = fetch(there(mirror), tmp_path / "part", lambda _: None)
    assert (remote.size, sums["sha256"]) == (900 * KB, sha256(OTHER))
    assert (tmp_path / "part").read_bytes() == OTHER


def test_a_file_that_goes_on_changing_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files.at_most = 300 * KB
    mirror.files.changes[PATH] = [OTHER, CONTENT] * 3
    with pytest.raises(MeteorologyError, match=r"cannot be had: it changes while it is read, 3 times"):
        fetched(mirror, tmp_path / "part")


def test_a_file_that_is_taken_away_while_it_is_read_is_told(mirror: Mirror, tmp_path: Path) -> None:
    remote = there(mirror)
    del mirror.files.contents[PATH]
    with pytest.raises(MeteorologyError, match="was taken away while it was read"):
        fetch(remote, tmp_path / "part", lambda _: None)


def test_what_came_of_an_older_content_is_not_added_to(mirror: Mirror, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1e7)
    mirror.files.breaks = mirror.files.last = 1
    with pytest.raises(StoreError), cache.lent([("a", there(mirror))], 1):
        pass
    assert (tmp_path / ".a.part").stat().st_size
    mirror.files.last, mirror.files.contents[PATH] = None, OTHER
    with cache.lent([("a", there(mirror))], 1) as (file,):
        assert file.path.read_bytes() == OTHER


# ---- the cache


def several(mirror: Mirror, **sizes: int) -> dict[str, tuple[str, Remote]]:
    """Files of these sizes (kB), by name."""
    for name, size in sizes.items():
        mirror.files.contents[f"/{name}"] = CONTENT[: size * KB]
    return {name: (name, there(mirror, f"/{name}")) for name in sizes}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_comes_once_and_nothing_is_left_beside_it_but_its_note_and_lock(mirror: Mirror, tmp_path: Path) -> None:
    for _ in range(3):
        with Cache(tmp_path, 1e6).lent([("a", there(mirror))], 1) as (file,):
            assert file.sha256 == sha256(CONTENT)
    assert len(mirror.files.gets) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.json", ".a.lock", ".room", "a"]


def test_files_come_in_the_order_asked_for_though_side_by_side(mirror: Mirror, tmp_path: Path) -> None:
    files = several(mirror, a=70, b=40, c=10, d=30)
    with Cache(tmp_path, 1e6).lent([files[name] for name in "bdac"], 3) as lent:
        assert [file.path.name for file in lent] == list("bdac")
        assert [file.path.stat().st_size for file in lent] == [40 * KB, 30 * KB, 70 * KB, 10 * KB]


def test_many_that_want_a_file_at_once_have_it_fetched_once(mirror: Mirror, tmp_path: Path) -> None:
    remote = there(mirror)
    program = (
        "import sys; from pathlib import Path; from stilt_assets.meteorology.cache import Cache\n"
        "from stilt_assets.meteorology.server import look\n"
        f"remote = look({remote.url!r}); sys.stdin.readline()\n"
        f"with Cache(Path({str(tmp_path)!r}), 1e6).lent([('a', remote)], 1) as (file,): print(file.sha256)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    mirror.files.at_most = 100 * KB
    answers = [each.communicate("\n", timeout=120)[0].strip() for each in started]
    assert answers == [sha256(CONTENT)] * 3
    assert [start for _, start in mirror.files.gets] == [100 * KB * number for number in range(7)]


def test_the_file_that_was_not_used_for_longest_makes_room(mirror: Mirror, tmp_path: Path) -> None:
    files, cache = several(mirror, a=40, b=30, c=20, d=35), Cache(tmp_path, 100 * KB)
    for number, name in enumerate("abc"):
        with cache.lent([files[name]], 1):
            pass
        os.utime(tmp_path / f".{name}.json", (number, number))
    with cache.lent([files["a"]], 1):
        pass  # so that b is the one used longest ago
    with cache.lent([files["d"]], 1):
        assert names(tmp_path) == ["a", "c", "d"]


def test_a_file_in_use_is_never_removed(mirror: Mirror, tmp_path: Path) -> None:
    files, cache = several(mirror, a=40, b=30, c=60), Cache(tmp_path, 100 * KB)
    with ExitStack() as stack:
        stack.enter_context(cache.lent([files["a"], files["b"]], 1))
        with pytest.raises(BusyError, match=r"no room in .* others use what is there"), cache.lent([files["c"]], 1):
            pass
        assert names(tmp_path) == ["a", "b"]
    with cache.lent([files["c"]], 1):
        assert names(tmp_path) == ["b", "c"]


def test_what_cannot_all_be_here_at_once_is_refused_before_any_of_it_comes(mirror: Mirror, tmp_path: Path) -> None:
    files = several(mirror, a=70, b=40)
    line = r"needs 0.00011 GB of meteorology at once, and meteorology.cache_size is 0.0001: raise it"
    with pytest.raises(OverBudgetError, match=line), Cache(tmp_path, 100 * KB).lent(list(files.values()), 2):
        pass
    assert mirror.files.gets == []


def test_an_older_content_of_a_file_gives_way_to_the_present_one(mirror: Mirror, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1e6)
    with cache.lent([("a", there(mirror))], 1):
        pass
    mirror.files.contents[PATH] = OTHER
    assert not cache.known("a", there(mirror))
    with cache.lent([("a", there(mirror))], 1) as (file,):
        assert file.path.read_bytes() == OTHER
    assert cache.known("a", there(mirror)) == sha256(OTHER)


def damage(path: Path) -> None:
    """A disk forgets a bit, and whoever reads the file finds it."""
    path.write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])
    raise MeteorologyError("a record fails its checksum")


def test_a_file_that_was_damaged_on_this_machine_comes_again(mirror: Mirror, tmp_path: Path) -> None:
    cache, remote = Cache(tmp_path, 1e6), there(mirror)
    with pytest.raises(MeteorologyError, match="a record"), cache.lent([("a", remote)], 1) as (file,):
        damage(file.path)
    with cache.lent([("a", remote)], 1) as (file,):
        assert file.path.read_bytes() == CONTENT
    with pytest.raises(MeteorologyError), cache.lent([("a", remote)], 1):
        raise MeteorologyError("it is the file of the server that is damaged")
    assert cache.known("a", remote), "no use to fetch that again"


def test_a_note_that_is_none_costs_a_download_and_no_more(mirror: Mirror, tmp_path: Path) -> None:
    cache, remote = Cache(tmp_path, 1e6), there(mirror)
    for damage in ("", "[]", '{"url"', json.dumps({"url": 3})):
        with cache.lent([("a", remote)], 1) as (file,):
            assert file.path.read_bytes() == CONTENT
        (tmp_path / ".a.json").write_text(damage)


# ---- a real server of objects


def test_an_s3_server_without_credentials_serves_as_a_public_bucket_does(tmp_path: Path) -> None:
    with object_store() as store:
        place = f"{store.proxy.url}/{BUCKET}"
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/x/s3"}
        policy = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
        for path, content in (("?policy", json.dumps({"Statement": [policy]})), ("/hrrr/a", CONTENT)):
            requests.put(f"{place}{path}", data=content, headers=signed, timeout=30).raise_for_status()
        remote = look(f"{place}/hrrr/a")
        assert remote
        assert remote.digests["md5"] == hashlib.md5(CONTENT).hexdigest()
        store.proxy.have("cut", "GET", times=1)
        with Cache(tmp_path, 1e6).lent([("a", remote)], 1) as (file,):
            assert file.path.read_bytes() == CONTENT
        assert look(f"{place}/hrrr/b") is None
