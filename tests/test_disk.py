"""On a disk: processes that are killed, that meet each other, and disks that refuse."""

import errno
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stilt_assets import disk as disk_module
from stilt_assets.errors import StoreError
from stilt_assets.store import Store, open_store


@pytest.fixture
def disk(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def build(store: Store, name: str) -> None:
    with store.building(store.result("key", name), "m") as work:
        (work / "m").touch()


# ---- processes that are killed, and those that meet

BUILDER = """
import sys
from stilt_assets.store import open_store
store = open_store(sys.argv[1])
with store.building(store.result("key", "r"), "m") as work:
    (work / "m").write_bytes(b"half")
    print(work, flush=True)
    sys.stdin.readline()
    (work / "n").write_bytes(b"whole")
"""


def builder(store: Store) -> tuple[subprocess.Popen[str], Path]:
    """A process that builds a folder until it reads a line, and the folder that it has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_builder_began_is_never_read_and_swept_by_the_next(disk: Store) -> None:
    (dead, begun), (alive, other) = builder(disk), builder(disk)
    with dead, alive:
        dead.kill()
        dead.wait()
        assert begun.exists()
        assert disk.names(disk.scene("key")) == []
        assert disk.sizes(disk.scene("key")) == {}
        build(disk, "s")
        assert not begun.exists()
        assert other.exists()
        alive.communicate("\n")
        assert alive.returncode == 0
    assert everything(Path(disk.scene("key"))) == {"r", "r/m", "r/n", "s", "s/m"}


def test_builders_of_the_same_folder_leave_one_whole_result(disk: Store) -> None:
    builders = [builder(disk)[0] for _ in range(3)]
    for each in builders:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    for each in builders:
        each.communicate()
    assert [each.returncode for each in builders] == [0, 0, 0]
    assert everything(Path(disk.scene("key"))) == {"r", "r/m", "r/n"}


def test_a_folder_without_its_marker_gives_way(disk: Store) -> None:
    disk.write(disk.file(disk.result("key", "r"), "stale"), b"")
    build(disk, "r")
    assert everything(Path(disk.result("key", "r"))) == {"m"}


def test_a_folder_is_removed_at_once_and_what_a_killed_remover_left_goes_with_the_next(
    disk: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(disk, "r")
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    disk.remove(disk.result("key", "r"))
    assert disk.names(disk.scene("key")) == []
    assert not disk.exists(disk.result("key", "r"))


def test_a_folder_that_somebody_else_removes_meanwhile_is_gone_and_no_failure(
    disk: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(disk, "r")
    real = disk_module.sweep

    def meanwhile(folder: Path) -> None:
        monkeypatch.setattr(disk_module, "sweep", real)
        disk.remove(disk.result("key", "r"))
        real(folder)

    monkeypatch.setattr(disk_module, "sweep", meanwhile)
    disk.remove(disk.result("key", "r"))
    assert everything(Path(disk.scene("key"))) == set()


def test_what_a_killed_writer_began_is_overwritten_by_the_next(disk: Store) -> None:
    path = Path(disk.record("key"))
    disk.write(str(path), b"old")
    (path.parent / ".scene.json.part").write_bytes(b"a long half of something")
    assert disk.names(disk.scene("key")) == ["scene.json"]
    disk.write(str(path), b"new")
    assert everything(path.parent) == {"scene.json"}
    assert path.read_bytes() == b"new"


def test_writers_of_the_same_file_take_turns(disk: Store) -> None:
    path, size = disk.record("key"), 2**18
    program = "import sys; from stilt_assets.store import open_store; store = open_store(sys.argv[1])\n"
    program += f"for _ in range(20): store.write(sys.argv[2], sys.argv[3].encode() * {size})"
    writers = [subprocess.Popen([sys.executable, "-c", program, disk.root, path, letter]) for letter in "abc"]
    assert [each.wait() for each in writers] == [0, 0, 0]
    content = disk.read(path)
    assert (len(content), len(set(content))) == (size, 1)
    assert everything(Path(disk.scene("key"))) == {"scene.json"}


def test_a_disk_without_locks_does(disk: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    disk.write(disk.record("key"), b"{}")
    for name in ("r", "s"):
        build(disk, name)
    disk.remove(disk.result("key", "s"))
    assert everything(Path(disk.scene("key"))) == {"scene.json", "r", "r/m"}


# ---- disks that refuse


def on_a_read_only_disk(folder: Path, program: str) -> str:
    """What a program prints that finds `folder` remounted read-only, in a namespace of its own."""
    mount = f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
    script = f"{mount} && exec {sys.executable} -c '{program}'"
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"needs unshare: {error}")
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"needs a mount in a user namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_disk_that_is_read_only_refuses_access(disk: Store) -> None:
    build(disk, "r")
    disk.write(disk.record("key"), b"{}")
    program = f"""
from stilt_assets.store import open_store
from stilt_assets.errors import StoreError
store = open_store("{disk.root}")
print(len(store.read(store.record("key"))))
def build():
    with store.building(store.result("key", "s"), "m"): pass
for act in (lambda: store.write(store.record("key"), b"x"), build, lambda: store.remove(store.result("key", "r"))):
    try: act()
    except StoreError as error: print(error.reason, "|", error)
"""
    lines = on_a_read_only_disk(Path(disk.root), program).splitlines()
    assert lines[0] == "2"
    for line, doing in zip(lines[1:], ("writing", "building", "removing"), strict=True):
        assert re.fullmatch(rf"denied \| {doing} {disk.root}/.* failed: Read-only file system.*", line), line
    assert everything(Path(disk.scene("key"))) == {"scene.json", "r", "r/m"}


@pytest.mark.skipif(not Path("/proc/self/attr").exists(), reason="needs /proc")
def test_a_file_that_no_one_may_write_refuses_access() -> None:
    store = open_store("/proc/self")
    with pytest.raises(StoreError) as caught:
        store.remove("/proc/self/status")
    assert caught.value.reason == "denied"
    assert "\n" not in str(caught.value)
