"""How hycs_std is ended, by whom, and what remains of it: real signals, real files, real processes."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from processes import processes_in
from stilt.transport.hysplit import driver
from taxonomy import causes, seen

from stilt_assets import scratch
from stilt_assets.errors import CannotExecuteError, TransportError
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Limits, Simulation
from stilt_assets.transport import hysplit, launch, program
from stilt_assets.transport.hysplit import Hysplit

LONG = Simulation("hysplit", hours_back=3, particles=5000, seed=0)  # a minute and more
SHORT = Simulation("hysplit", hours_back=1, particles=20, seed=0)
RECEPTOR = Receptor(0, datetime(2019, 5, 30, 9, 58, tzinfo=UTC), -111.91, 40.66, 0.0, 2500.0)
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")


@pytest.fixture
def late(shared: Path) -> Path:
    return shared / "data" / "hrrr" / "20190530_06-11_hrrr"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Scratch of its own, in which nothing is left or runs afterwards."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert processes_in(folder) == {}
    assert list(folder.glob("*/private/*")) == []


def until(question: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = question()
        if answer:
            return answer
        time.sleep(0.01)
    raise AssertionError("it did not come to pass")


def hycs_std_in(folder: Path) -> int | None:
    return next((number for number, name in processes_in(folder).items() if name == "hycs_std"), None)


def meets(late: Path, number: signal.Signals, place: Path, timeout: float = 30.0) -> TransportError:
    """How a run of the real hycs_std fails that is sent a signal from outside."""

    def send() -> None:
        process = until(lambda: hycs_std_in(place))
        until(lambda: any(place.glob("*/private/*/PARTICLE_STILT.DAT")))
        os.kill(process, number)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(TransportError) as caught:
            Hysplit().run(RECEPTOR, LONG, late, Limits(timeout))
    finally:
        sender.join()
    seen(caught.value.reason)
    return caught.value


@causes("crashed")
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGBUS"])
def test_a_fault_of_its_own_is_a_crash(late: Path, place: Path, name: str) -> None:
    lost = meets(late, signal.Signals[name], place)
    assert (lost.reason, name in str(lost)) == ("crashed", True)


@causes("killed")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGXCPU"])
def test_an_end_from_outside_is_killed(late: Path, place: Path, name: str) -> None:
    lost = meets(late, signal.Signals[name], place)
    assert (lost.reason, name in str(lost)) == ("killed", True)


def test_a_program_that_was_stopped_runs_out_of_time(late: Path, place: Path) -> None:
    assert meets(late, signal.SIGSTOP, place, timeout=2.0).reason == "timeout"


def test_an_end_while_the_system_killed_for_want_of_memory_is_out_of_memory(
    late: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The signal is real, the kernel's count is not: a full machine is nothing to make for a test.
    counts = iter([3, 4])
    monkeypatch.setattr(program, "oom_kills", lambda: next(counts))
    assert meets(late, signal.SIGKILL, place).reason == "out_of_memory"


@pytest.mark.parametrize(
    ("told", "file", "content", "count"),
    [
        ("0::/slice/job", "slice/job/memory.events", "low 0\noom 3\noom_kill 2\n", 2),
        ("0::/slice/job", "unified/slice/job/memory.events", "oom_kill 1\n", 1),
        ("0::/the/hosts/path", "memory.events", "oom_kill 4\n", 4),  # in a container
        ("4:cpu:/\n9:memory,x:/job", "memory/job/memory.oom_control", "under_oom 0\noom_kill 5\n", 5),
        ("1:memory:/job\n0::/", "memory/job/memory.oom_control", "oom_kill 6\n", 6),
        ("0::/job", "job/memory.events", "what it may say one day\n", 0),
        ("0::/job", "other/memory.events", "oom_kill 1\n", 0),
        ("", "memory.events", "oom_kill 1\n", 0),
    ],
)
def test_the_systems_count_of_kills_for_want_of_memory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, file: str, content: str, count: int
) -> None:
    (tmp_path / "own").write_text(told)
    (tmp_path / "groups" / file).parent.mkdir(parents=True)
    (tmp_path / "groups" / file).write_text(content)
    monkeypatch.setattr(program, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(program, "_CGROUPS", tmp_path / "groups")
    assert program.oom_kills() == count


def test_without_control_groups_nothing_was_killed_for_want_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "_OWN_CGROUPS", tmp_path / "none")
    assert program.oom_kills() == 0


def test_where_the_system_does_not_tell_what_a_worker_holds_hycs_std_is_not_limited(
    late: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hysplit, "memory_of_this_process", lambda: None)
    assert len(Hysplit().run(RECEPTOR, SHORT, late, Limits(60.0, memory=2**20))) == 20 * 60


# ---- nothing stays behind

WORKER = """
import datetime, sys
from pathlib import Path
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Limits, Simulation
from stilt_assets.transport.hysplit import Hysplit
Hysplit().run({receptor!r}, {simulation!r}, Path({late!r}), Limits({timeout}))
"""


def worker(late: Path, place: Path, timeout: float = 120.0) -> subprocess.Popen[bytes]:
    script = WORKER.format(receptor=RECEPTOR, simulation=LONG, late=str(late), timeout=timeout)
    return subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"TMPDIR": str(place)}, stderr=subprocess.DEVNULL
    )


def test_hycs_std_dies_with_its_worker_and_the_next_sweep_takes_what_it_wrote(late: Path, place: Path) -> None:
    with worker(late, place) as process:
        hycs_std = until(lambda: hycs_std_in(place))
        assert Path(f"/proc/{hycs_std}/oom_score_adj").read_text().strip() == "1000"
        process.kill()
    until(lambda: processes_in(place) == {}, seconds=2.0)
    assert len(list(place.glob("*/private/*"))) == 2  # a folder and its lock
    assert scratch.sweep() == 1


def test_a_timeout_ends_the_programs_own_group_and_no_other(late: Path, place: Path) -> None:
    with worker(late, place) as neighbour:
        other = until(lambda: hycs_std_in(place))
        with pytest.raises(TransportError, match="longer than 1 s"):
            Hysplit().run(RECEPTOR, LONG, late, Limits(1.0))
        assert processes_in(place) == {other: "hycs_std"}
        assert neighbour.poll() is None
        neighbour.kill()
    until(lambda: processes_in(place) == {}, seconds=2.0)
    scratch.sweep()


def test_a_timeout_ends_what_the_program_started_as_well(
    late: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stand-in: the real one starts nothing.
    told = tmp_path / "child"
    instead_of_hycs_std(monkeypatch, f"#!/bin/sh\nsleep 60 & echo $! >'{told}'; wait\n".encode())
    with pytest.raises(TransportError, match="longer"):
        Hysplit().run(RECEPTOR, SHORT, late, Limits(0.5))
    child = Path("/proc") / told.read_text().strip()
    assert not child.exists() or "State:\tZ" in (child / "status").read_text()


def test_a_program_whose_worker_died_before_it_began_does_not_begin() -> None:
    nobody = 2**22  # above every process's number
    done = subprocess.run(
        [sys.executable, "-I", "-S", launch.__file__, str(nobody), "-1", "-1", "/bin/echo"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_a_program_that_python_starts_is_ended_when_it_writes_too_much(tmp_path: Path) -> None:
    script = tmp_path / "writes"  # a stand-in: gfortran's own handler hides what it inherits
    script.write_text(f"#!/bin/sh\necho more than it may >'{tmp_path}/file'\n")
    script.chmod(0o755)
    words = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), "-1", "5", str(script)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGXFSZ


@pytest.mark.parametrize("end", [b"exit 127", b"kill -SEGV $$"])
def test_a_program_whose_fortran_was_interrupted_while_it_told_of_a_signal_was_ended_by_it(
    late: Path, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    says = b"Program received signal SIGXCPU: CPU time limit exceeded.\n\nBacktrace for this error:\n"
    instead_of_hycs_std(monkeypatch, b"#!/bin/sh\ncat <<.\n" + says + b".\n" + end + b"\n")
    with pytest.raises(TransportError, match="SIGXCPU") as caught:
        Hysplit().run(RECEPTOR, SHORT, late, Limits(60.0))
    assert caught.value.reason == "killed"


# ---- it does not start


def instead_of_hycs_std(monkeypatch: pytest.MonkeyPatch, content: bytes | None, mode: int = 0o755) -> None:
    """Put another file in hycs_std's place, or none."""
    honest = hysplit.write_inputs

    def write(folder: Path, *args: object) -> None:
        honest(folder, *args)  # pyright: ignore[reportArgumentType]
        (folder / "hycs_std").unlink()
        if content is not None:
            (folder / "hycs_std").write_bytes(content)
            (folder / "hycs_std").chmod(mode)

    monkeypatch.setattr(hysplit, "write_inputs", write)


def for_another_machine() -> bytes:
    """The real hycs_std, which says that it is for SPARC (`e_machine` 2 at byte 18)."""
    content = bytearray((driver._bundled_exe_dir() / "hycs_std").read_bytes())
    struct.pack_into("<H", content, 18, 2)
    return bytes(content)


def true_that_needs(library: bytes) -> bytes:
    """The system's `true`, which needs another C library."""
    content = Path(shutil.which("true") or "").read_bytes()
    if b"libc.so.6" not in content:
        pytest.skip("no program with shared libraries to change")
    return content.replace(b"libc.so.6", library)


@causes("cannot_execute")
@pytest.mark.parametrize(
    ("make", "mode", "says"),
    [
        (lambda: None, 0, "No such file"),
        (lambda: b"#!/bin/sh\n", 0o644, "Permission denied"),
        (lambda: b"no program\n", 0o755, "Exec format error"),
        (for_another_machine, 0o755, "Exec format error"),
        (lambda: b"#!/no/such/shell\n", 0o755, "No such file"),
        (lambda: true_that_needs(b"libx.so.6"), 0o755, "shared libraries"),
    ],
    ids=["missing", "not executable", "no program", "other machine", "no interpreter", "no library"],
)
def test_a_program_that_does_not_start_stops_the_scene(
    late: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], bytes | None], mode: int, says: str
) -> None:
    instead_of_hycs_std(monkeypatch, make(), mode)
    with pytest.raises(CannotExecuteError, match=says) as caught:
        Hysplit().run(RECEPTOR, SHORT, late, Limits(60.0))
    seen(caught.value.reason)


def test_a_machine_that_pystilt_has_no_program_for_stops_the_scene(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver.platform, "machine", lambda: "sparc64")
    with pytest.raises(CannotExecuteError, match="sparc64"):
        Hysplit().run(RECEPTOR, SHORT, late, Limits(60.0))


def test_without_a_python_to_start_it_nothing_starts(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(CannotExecuteError, match="does not start"):
        Hysplit().run(RECEPTOR, SHORT, late, Limits(60.0))


def test_no_room_for_another_process_is_out_of_memory(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A stand-in for the system: limits on the number of processes do not bind root.
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(TransportError, match="no room for another process") as caught:
        Hysplit().run(RECEPTOR, SHORT, late, Limits(60.0))
    assert caught.value.reason == "out_of_memory"
