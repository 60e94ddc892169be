"""What a process borrows from its machine is gone with it, however it ends, and nobody else's is touched."""

import fcntl
import hashlib
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from taxonomy import causes, seen

from stilt_assets import scratch
from stilt_assets.errors import BusyError, DamagedError, DiskFullError, StiltAssetsError, StoreError, UsageError

BEGIN = """
import os, random, sys, time
from pathlib import Path
from stilt_assets import scratch
def say(*words): print(*words, flush=True)
def wait(): sys.stdin.readline()
"""
CONTENT = b"0123456789" * 1000
FETCH = f"""
def fetch(place):
    with Path(sys.argv[1]).open("a") as log:
        log.write(f"{{os.getpid()}}\\n")
    with place.open("wb") as file:
        for number in range(10):
            file.write({CONTENT!r}[number * 1000:(number + 1) * 1000])
            file.flush()
            time.sleep(SLOW)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TMPDIR of its own, for this process and those that it starts."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "tmp"


Started = list[subprocess.Popen[str]]


@pytest.fixture
def started() -> Iterator[Started]:
    """Processes that are killed when the test ends."""
    processes: Started = []
    yield processes
    for each in processes:
        each.kill()
        each.communicate()


def start(started: Started, program: str, *words: object, **more: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + program, *map(str, words)],
        env=os.environ | {name: str(value) for name, value in more.items()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    started.append(process)
    return process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def lying(place: Path) -> set[str]:
    """What lies in the rooms below TMPDIR."""
    rooms = place / f"stilt-assets-{os.getuid()}"
    return {path.relative_to(rooms).as_posix() for path in rooms.rglob("*")} - {"private", "copies", "locks"}


# ---- the folder of a user


def test_nobody_else_can_look_into_it(place: Path) -> None:
    assert scratch.root().parent == place
    assert stat.S_IMODE(scratch.root().stat().st_mode) == 0o700
    scratch.root().chmod(0o777)
    assert stat.S_IMODE(scratch.root().stat().st_mode) == 0o700


def refused() -> str:
    with pytest.raises(StoreError) as caught, scratch.folder():
        pass
    assert caught.value.reason == "denied"
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_somebody_elses_is_refused() -> None:
    os.chown(scratch.root(), 12345, 12345)
    assert "is not this user's folder; remove it or set TMPDIR to a folder of yours" in refused()


def test_what_is_no_folder_is_refused(place: Path, tmp_path: Path) -> None:
    name = place / f"stilt-assets-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir()
    name.symlink_to(tmp_path / "elsewhere")
    assert f"{name} is not this user's folder" in refused()
    name.unlink()
    name.touch()
    assert f"{name} is not this user's folder" in refused()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_full_tmpdir_is_told_with_its_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DiskFullError, match=f"no room left in {place}: .* free, a copy needs .*; free some or set TMP"):
        scratch.needs_room(place, 2**60, "a copy")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    scratch.root()
    monkeypatch.setattr("fcntl.flock", full)
    for block in (scratch.folder(), scratch.alone("x"), scratch.copy_of("x", lambda _: None)):
        with pytest.raises(DiskFullError, match=f"no room left while .* {place}"), block:
            pass


def test_a_disk_that_fills_up_while_a_lock_is_written_is_told_in_words(place: Path) -> None:
    scratch.root()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # the file can be made, and nothing written to it
    try:
        with pytest.raises(StiltAssetsError, match=f"locking {place}"), scratch.alone("x"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---- alone


@causes("busy")
def test_one_process_at_a_time_and_the_next_when_it_has_been_killed(started: Started, place: Path) -> None:
    first = start(started, "with scratch.alone('s3://u:secret@b/k'): say('mine'); wait()")
    assert said(first) == "mine"
    busy = rf"another process works on s3://\*\*\*@b/k \({first.pid}, since 20..-..-..T..:..Z\); wait for it or stop it"
    with pytest.raises(BusyError, match=busy) as caught, scratch.alone("s3://u:secret@b/k"):
        pass
    assert seen(caught.value.reason) == "busy"
    with scratch.alone("another"):
        pass
    kill(first)
    with scratch.alone("s3://u:secret@b/k"), pytest.raises(BusyError), scratch.alone("s3://u:secret@b/k"):
        pass
    assert lying(place) == set()


def test_never_two_of_many(started: Started, tmp_path: Path) -> None:
    program = """
from stilt_assets.errors import BusyError
inside, done = Path(sys.argv[1]), 0
while done < 30:
    try:
        with scratch.alone("x"):
            inside.mkdir()
            inside.rmdir()
            done += 1
    except BusyError:
        pass
say("done")
"""
    processes = [start(started, program, tmp_path / "inside") for _ in range(3)]
    assert [said(each) for each in processes] == ["done"] * 3


# ---- folders


def test_a_folder_is_gone_with_its_block_or_with_the_next_sweep(started: Started, place: Path) -> None:
    with scratch.folder() as mine:
        (mine / "deep").mkdir()
        assert stat.S_IMODE(mine.stat().st_mode) == 0o700
        theirs = start(started, "with scratch.folder() as f: (f / 'x').touch(); say(f); wait()")
        folder = Path(said(theirs))
        assert scratch.sweep() == 0
        assert (folder / "x").exists()
        kill(theirs)
        assert scratch.sweep() == 1
        assert not folder.exists()
        assert mine.exists()
    assert lying(place) == set()


def test_what_lost_its_lock_is_swept_too(place: Path) -> None:
    for name in ("private/1-a", "copies/b.part", "locks/c.lock"):
        path = scratch.root() / name
        path.mkdir() if name.startswith("private") else path.touch()
    scratch.sweep()
    assert lying(place) == set()


def test_a_sweep_never_takes_what_others_begin(started: Started, place: Path) -> None:
    sweeper = start(started, "say('on')\nwhile True: scratch.sweep()")
    said(sweeper)
    program = """
for number in range(150):
    with scratch.alone(f"{os.getpid()}"), scratch.folder() as folder:
        (folder / "x").touch()
        time.sleep(random.random() / 500)
        assert (folder / "x").exists()
say("well")
"""
    processes = [start(started, program) for _ in range(2)]
    assert [said(each) for each in processes] == ["well"] * 2
    kill(sweeper)
    scratch.sweep()
    assert lying(place) == set()


# ---- copies


def copier(slow: float) -> str:
    return (
        f"SLOW = {slow}\n{FETCH}\nsay('on')\nwith scratch.copy_of('name', fetch, {len(CONTENT)}) as copy:\n"
        "    say(len(copy.read_bytes())); wait()\nsay('done')"
    )


def test_many_processes_have_one_copy_fetched_once_and_gone_with_the_last(
    started: Started, place: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    processes = [start(started, copier(0.02), log) for _ in range(4)]
    assert [(said(each), said(each)) for each in processes] == [("on", str(len(CONTENT)))] * 4
    assert len(log.read_text().splitlines()) == 1
    assert len([name for name in lying(place) if name.startswith("copies/") and "." not in name]) == 1
    for each in processes:
        assert any(name.startswith("copies/") for name in lying(place))
        go_on(each)
        assert said(each) == "done"
    assert lying(place) == set()


def test_who_comes_late_does_not_wait_until_the_copy_is_free(started: Started, tmp_path: Path) -> None:
    first = start(started, copier(0), tmp_path / "log")
    assert (said(first), said(first)) == ("on", str(len(CONTENT)))
    with scratch.copy_of("name", lambda _: pytest.fail("it is there"), len(CONTENT)) as copy:
        assert copy.read_bytes() == CONTENT
    go_on(first)  # it waits for this until then
    assert said(first) == "done"


def test_when_the_first_is_killed_in_mid_fetch_the_second_fetches_anew(started: Started, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = start(started, copier(0.2), log)
    said(first)
    while not log.exists():
        time.sleep(0.01)
    second = start(started, copier(0), log)
    assert said(second) == "on"
    time.sleep(0.3)
    kill(first)
    assert said(second) == str(len(CONTENT))
    assert log.read_text().split() == [str(first.pid), str(second.pid)]


def test_a_copy_that_is_short_is_told(place: Path) -> None:
    short = pytest.raises(StoreError, match="fetching name ended after 2 of 3 bytes")
    with short as caught, scratch.copy_of("name", lambda copy: copy.write_bytes(b"ab") and None, 3):
        pass
    assert caught.value.reason == "unreachable"
    assert lying(place) == set()


def test_an_object_that_has_another_size_now_is_another_copy(place: Path) -> None:
    with scratch.copy_of("name", lambda copy: copy.write_bytes(b"ab") and None, 2) as old:
        with scratch.copy_of("name", lambda copy: copy.write_bytes(b"abc") and None, 3) as new:
            assert new.read_bytes() == b"abc"
        assert old.read_bytes() == b"ab"


def test_a_fetch_that_fails_leaves_nothing(place: Path) -> None:
    def broken(copy: Path) -> None:
        copy.write_bytes(b"half")
        raise StoreError("no", "unreachable")

    with pytest.raises(StoreError), scratch.copy_of("name", broken):
        pass
    assert lying(place) == set()


def test_somebody_who_cleans_up_below_tmpdir_does_not_end_a_run(place: Path) -> None:
    with scratch.copy_of("name", lambda copy: copy.write_bytes(b"x") and None), scratch.alone("x"), scratch.folder():
        shutil.rmtree(scratch.root())
    assert lying(place) == set()


# ---- containers of one machine: a TMPDIR each, and a folder that all see


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the machine."""
    (tmp_path / "node").mkdir()
    monkeypatch.setenv("STILT_ASSETS_SHARED_SCRATCH", str(tmp_path / "node"))
    return tmp_path / "node"


def container(started: Started, tmp_path: Path, program: str) -> subprocess.Popen[str]:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    return start(started, program, tmp_path / "log", TMPDIR=folder)


def shared_copies(node: Path) -> list[int]:
    """Bytes of each copy, the smallest first."""
    return sorted(int(path.stat().st_size) for path in scratch.copies().iterdir() if not path.suffix)


def test_containers_share_one_copy_and_the_next_one_finds_it(started: Started, node: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    containers = [container(started, tmp_path, copier(0.02)) for _ in range(3)]
    assert [(said(each), said(each)) for each in containers] == [("on", str(len(CONTENT)))] * 3
    assert lying(node) == {path for path in lying(node) if path.startswith("copies/")}
    for each in containers:
        go_on(each)
        assert said(each) == "done"
    late = container(started, tmp_path, copier(0))
    assert (said(late), said(late)) == ("on", str(len(CONTENT)))
    assert len(log.read_text().splitlines()) == 1
    assert shared_copies(node) == [len(CONTENT)]


def test_what_a_killed_container_had_begun_goes_and_what_is_whole_stays(
    started: Started, node: Path, tmp_path: Path
) -> None:
    user = container(started, tmp_path, copier(0))
    assert (said(user), said(user)) == ("on", str(len(CONTENT)))
    program = copier(0.2).replace("'name'", "'another'")
    fetching = container(started, tmp_path, program)
    said(fetching)
    while not list(scratch.copies().glob("*.part")):
        time.sleep(0.01)
    kill(fetching)
    kill(user)
    assert scratch.sweep() == 1
    assert not list(scratch.copies().glob("*.part"))
    assert shared_copies(node) == [len(CONTENT)]


def write(size: int) -> Callable[[Path], None]:
    def fetch(place: Path) -> None:
        scratch.needs_room(place.parent, size, "an aggregate")
        place.write_bytes(bytes(size))

    return fetch


def test_the_copy_that_was_not_used_for_longest_makes_room_and_one_in_use_never(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILT_ASSETS_SHARED_SCRATCH_GB", "1e-5")  # ten thousand bytes
    for name, size in (("old", 3000), ("older", 2000), ("old", 3000)):
        with scratch.copy_of(name, write(size), size):
            time.sleep(0.02)
    with scratch.copy_of("new", write(6000), 6000):
        assert shared_copies(node) == [3000, 6000]
        message = r"no room left in .*copies: 0\.0 MiB free, an aggregate needs 0\.0; wait, free some or raise STILT_"
        with pytest.raises(DiskFullError, match=message), scratch.copy_of("too large", write(4001), 4001):
            pass
        assert shared_copies(node) == [6000]
        with scratch.copy_of("small", write(4000), 4000):
            assert shared_copies(node) == [4000, 6000]


def test_a_copy_of_the_machine_goes_an_hour_after_its_last_use(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scratch.copy_of("name", write(5), 5):
        pass
    now = time.time()
    monkeypatch.setattr(scratch, "time", lambda: now + 3500)
    assert scratch.sweep() == 0
    monkeypatch.setattr(scratch, "time", lambda: now + 3700)
    assert scratch.sweep() == 1
    assert lying(node) == set()


def test_a_copy_that_turned_out_damaged_is_fetched_anew(node: Path) -> None:
    with pytest.raises(DamagedError), scratch.copy_of("name", write(5), 5):
        raise DamagedError("not its sha256", "name")
    assert lying(node) == set()


def test_a_folder_of_the_machine_that_is_not_mounted_is_told(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILT_ASSETS_SHARED_SCRATCH", str(node / "not"))
    with pytest.raises(UsageError, match=f"STILT_ASSETS_SHARED_SCRATCH is {node}/not, which is no folder here: mount"):
        scratch.copies()
    monkeypatch.setenv("STILT_ASSETS_SHARED_SCRATCH", str(node))
    monkeypatch.setenv("STILT_ASSETS_SHARED_SCRATCH_GB", "ten")
    with pytest.raises(UsageError, match="is 'ten', which is no number"), scratch.copy_of("name", write(5), 5):
        pass


# ---- killed at any moment

BUSY = f"""
SLOW = 0.002
{FETCH}
from stilt_assets.errors import BusyError
random.seed(os.getpid())
say("on")
while True:
    try:
        with scratch.alone(str(random.randrange(3))), scratch.folder() as folder:
            (folder / "x").write_bytes(b"x")
            with scratch.copy_of(str(random.randrange(2)), fetch, {len(CONTENT)}) as copy:
                if copy.read_bytes() != {CONTENT!r} or not (folder / "x").exists():
                    Path(sys.argv[1]).with_name("wrong").touch()
    except BusyError:
        pass
"""


def test_processes_that_are_killed_at_any_moment_harm_nobody_and_leave_nothing(
    started: Started, place: Path, tmp_path: Path
) -> None:
    dice = random.Random(0)
    ends = time.monotonic() + 6
    alive = [start(started, BUSY, tmp_path / "log") for _ in range(4)]
    kills = 0
    while time.monotonic() < ends:
        victim = alive.pop(dice.randrange(len(alive)))
        said(victim)
        time.sleep(dice.random() / 10)
        assert victim.poll() is None, "it ended by itself"
        kill(victim)
        kills += 1
        alive.append(start(started, BUSY, tmp_path / "log"))
    for each in alive:
        kill(each)
    assert kills > 5
    assert not (tmp_path / "wrong").exists()
    scratch.sweep()
    assert lying(place) == set()


# ---- moments that seldom meet


def test_who_only_looked_whether_its_owner_lives_makes_no_one_busy() -> None:
    lock = scratch.root() / "locks" / f"{hashlib.sha256(b'x').hexdigest()[:16]}.lock"
    looking = scratch.held(lock, fcntl.LOCK_EX)
    looking.__enter__()
    done = threading.Timer(0.1, looking.__exit__, (None, None, None))
    done.start()
    with scratch.alone("x"):
        pass
    done.join()


def test_a_sweep_never_takes_a_copy_between_its_fetch_and_its_use(started: Started, place: Path) -> None:
    sweepers = [start(started, "say('on')\nwhile True: scratch.sweep()") for _ in range(2)]
    for each in sweepers:
        said(each)
    program = """
count = 0
def fetch(place):
    global count
    count += 1
    place.write_bytes(b"x")
for number in range(200):
    with scratch.copy_of(f"{os.getpid()} {number}", fetch, 1) as copy:
        assert copy.read_bytes() == b"x"
say(count)
"""
    assert said(start(started, program)) == "200"
    for each in sweepers:
        kill(each)
    scratch.sweep()
    assert lying(place) == set()
