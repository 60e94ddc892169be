"""What hycs_std really does, asked of the real one: its exit code says nothing, an outcome's reason does."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stilt
from taxonomy import causes, seen

from stilt_assets.errors import DiskFullError, OverBudgetError, TransportError
from stilt_assets.particles import releases_of
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Limits, Simulation, seed_of
from stilt_assets.transport import hysplit
from stilt_assets.transport.hysplit import Hysplit
from stilt_assets.transport.program import memory_of_this_process

SIMULATION = Simulation("hysplit", hours_back=2, particles=20, seed=0)
RECEPTOR = Receptor(0, datetime(2019, 5, 30, 9, 58, tzinfo=UTC), -111.91, 40.66, 0.0, 2500.0)
HEADER = "a line of names\n"
RECORD = 50 + 59 * 41  # bytes of a record of the test meteorology
HOUR = 171 * RECORD


@pytest.fixture
def late(shared: Path) -> Path:
    """Meteorology of the six hours 06 to 11Z."""
    return shared / "data" / "hrrr" / "20190530_06-11_hrrr"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every run, good or not, leaves no file of its own."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert [path for path in folder.rglob("*") if not path.is_dir()] == []
    assert list(folder.glob("*/private/*")) == []


def moved(**changes: object) -> Receptor:
    return Receptor(**(vars(RECEPTOR) | changes))  # pyright: ignore[reportArgumentType]


def run(
    meteorology: Path,
    receptor: Receptor = RECEPTOR,
    hours_back: int = 2,
    seed: int = 0,
    particles: int = 20,
    **limits: float,
) -> pd.DataFrame:
    may = Limits(**({"timeout": 60.0} | limits))  # pyright: ignore[reportArgumentType]
    return Hysplit().run(receptor, Simulation("hysplit", hours_back, particles, seed), meteorology, may)


def reason(meteorology: Path, **settings: object) -> str:
    return failure(meteorology, **settings).reason


def failure(meteorology: Path, **settings: object) -> TransportError:
    with pytest.raises(TransportError) as caught:
        run(meteorology, **settings)  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(caught.value)
    seen(caught.value.reason)
    return caught.value


def configure(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Give the real hycs_std a setting that we never do."""
    honest = hysplit._config
    monkeypatch.setattr(hysplit, "_config", lambda *args, **how: honest(*args, **how).model_copy(update=changes))


def with_every(late: Path, folder: Path, variable: bytes, mean: bytes) -> Path:
    """The meteorology with one variable's mean overwritten in every label, which no checksum covers."""
    content = bytearray(late.read_bytes())
    for at in range(0, len(content), RECORD):
        if content[at + 14 : at + 18] == variable:
            content[at + 36 : at + 50] = mean.rjust(14)
    (folder / "damaged.arl").write_bytes(content)
    return folder / "damaged.arl"


def pretend(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in hycs_std's place."""

    def write(folder: Path, *_: object) -> None:
        program = folder / "hycs_std"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    monkeypatch.setattr(hysplit, "write_inputs", write)


Row = dict[str, object]


def say(*changes: Row, minutes: int = 120, particles: int = 20) -> str:
    """Shell that writes particles that stay where they are, as hycs_std prints them; changes are by age and number."""
    names = hysplit._config(SIMULATION, 1).varsiwant
    lines = []
    for age in range(-1, -minutes - 1, -1):
        for number in range(1, particles + 1):
            height = (number - 0.5) * 2500.0 / 20
            row: Row = {"time": age, "indx": number, "long": -111.91, "lati": 40.66, "zagl": height, "foot": 0.01}
            for change in changes:
                if change["time"] == age and change["indx"] == number:
                    row |= change.get("row", {})  # pyright: ignore[reportArgumentType, reportOperatorIssue]
            if "drop" not in row:
                lines.append(" ".join(str(row.get(name, 1.5)) for name in names))
    rows = "".join(f"{line}\n" for line in lines)
    return f"cat > PARTICLE_STILT.DAT <<'END'\n{HEADER}{rows}END\n"


def at(age: int, number: int, **row: object) -> Row:
    return {"time": age, "indx": number, "row": row}


COMPLETE = "echo Complete Hysplit"


# ---- the real one


def test_a_good_run_has_every_particle_at_every_minute(late: Path) -> None:
    particles = run(late)
    assert len(particles) == 20 * 120
    assert sorted(particles["particle"].unique()) == list(range(1, 21))
    assert (particles["age"].min(), particles["age"].max()) == (-120, -1)
    heights = particles.groupby("particle")["release_height"].first()
    assert heights.to_numpy() == pytest.approx((np.arange(20) + 0.5) * 125.0)  # evenly over 2,500 m, slab by slab


@causes("outside_meteorology")
def test_a_receptor_outside_the_domain_is_lost_as_outside_meteorology(late: Path) -> None:
    assert reason(late, receptor=moved(longitude=-100.0)) == "outside_meteorology"
    on_the_last_row = moved(longitude=-112.0, latitude=41.266)  # found outside only once the run has begun
    assert reason(late, receptor=on_the_last_row) == "outside_meteorology"


@causes("meteorology_ends")
def test_meteorology_that_ends_early_is_a_gap_although_hycs_std_says_complete(
    late: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = []
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **how: logs.append(read(path, **how)) or logs[-1])
    assert reason(late, hours_back=6) == "meteorology_ends"
    assert any("Complete Hysplit" in log for log in logs)


def test_a_release_after_the_meteorologys_end_is_a_gap(late: Path) -> None:
    assert reason(late, receptor=moved(time=datetime(2019, 5, 30, 13, 0, tzinfo=UTC))) == "meteorology_ends"
    assert reason(late, receptor=moved(time=datetime(2019, 5, 30, 11, 1, tzinfo=UTC))) == "meteorology_ends"


def test_a_release_on_the_last_hour_is_none(late: Path) -> None:
    assert run(late, moved(time=datetime(2019, 5, 30, 11, 0, tzinfo=UTC)))["age"].min() == -120


def test_a_file_cut_short_is_a_gap(late: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.arl"
    cut.write_bytes(late.read_bytes()[: late.stat().st_size // 3])
    assert reason(cut) == "meteorology_ends"


def test_an_hour_that_lacks_between_others_is_a_gap(late: Path, tmp_path: Path) -> None:
    content = late.read_bytes()
    (tmp_path / "gap.arl").write_bytes(content[: 2 * HOUR] + content[3 * HOUR :])
    assert reason(tmp_path / "gap.arl", hours_back=3) == "meteorology_ends"


@causes("ended_early")
def test_a_run_that_ends_early_is_found_although_hycs_std_names_only_a_particle_that_left(late: Path) -> None:
    # The meteorology ends 238 minutes back. Its WARNING says so only if no particle has left the domain before.
    assert reason(late, receptor=moved(longitude=-112.9), hours_back=6) == "ended_early"


def test_particles_that_all_left_the_domain_are_a_result(late: Path) -> None:
    ends = run(late, moved(longitude=-112.995), hours_back=3).groupby("particle")["age"].min()
    assert len(ends) == 20
    assert (ends.min(), ends.max()) == (-51, -1)


@causes("above_meteorology")
def test_a_column_beyond_the_files_top_or_the_models_is_lost_as_above_meteorology(late: Path) -> None:
    assert reason(late, receptor=moved(top=8000.0)) == "above_meteorology"
    assert reason(late, receptor=moved(top=30_000.0)) == "above_meteorology"


@causes("timeout")
def test_a_run_that_takes_too_long_is_ended(late: Path) -> None:
    assert reason(late, particles=2000, timeout=0.5) == "timeout"


@causes("fortran_error")
@pytest.mark.parametrize("content", [b"", b"no meteorology at all\n" * 100, bytes(20 * RECORD)])
def test_a_file_that_is_no_meteorology_is_an_error_of_hycs_stds_own(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "wrong.arl").write_bytes(content)
    assert reason(tmp_path / "wrong.arl") == "fortran_error"


@causes("incomplete")
def test_a_file_that_vanished_leaves_a_run_incomplete(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.arl") == "incomplete"


@causes("particle_limit")
def test_fewer_particles_than_asked_for_are_no_result_although_hycs_std_says_complete(
    late: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, maxpar=5)  # PYSTILT gives one release point as many as it wants
    assert reason(late) == "particle_limit"


@causes("no_particles")
def test_no_particles_to_release_are_no_particles_although_hycs_std_says_complete(
    late: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, numpar=0)  # settings ask for one at least
    assert reason(late) == "no_particles"


@causes("unreadable_particles")
@pytest.mark.parametrize(
    ("variable", "mean", "what"),
    [
        ("UWND", b"NaN", "not a number"),
        ("U10M", b"NaN", "above or below its place"),  # all particles start above the boundary layer
        ("U10M", b"0.1000000E+30", "in a minute"),  # to the South Pole, which is in range
    ],
)
def test_wrong_numbers_in_the_meteorology_become_no_footprint_although_hycs_std_says_complete(
    late: Path, tmp_path: Path, variable: str, mean: bytes, what: str
) -> None:
    lost = failure(with_every(late, tmp_path, variable.encode(), mean))
    assert lost.reason == "unreadable_particles"
    assert what in str(lost)


# ---- what it may take of the machine


@causes("out_of_memory")
def test_memory_that_does_not_suffice_is_told_by_hycs_std_and_twice_as_much_does(late: Path) -> None:
    run(late)  # what this process takes for itself with its first run, it takes before it is measured
    worker = memory_of_this_process()
    assert worker is not None
    may = Limits(60.0, memory=worker + 125 * 2**20)  # 104 are the least, 100,000 particles need over 150
    assert run(late, memory=may.memory)["age"].min() == -120
    lost = failure(late, particles=100_000, hours_back=1, memory=may.memory, timeout=may.timeout)
    assert (lost.reason, "memory allocation" in str(lost)) == ("out_of_memory", True), lost
    assert reason(late, particles=100_000, hours_back=1, memory=may.after("out_of_memory").memory, timeout=2) == (
        "timeout"  # it runs
    )


def test_memory_that_a_worker_needs_for_itself_is_told_before_hycs_std_starts(late: Path) -> None:
    worker = memory_of_this_process()
    assert worker is not None
    lost = failure(late, memory=worker + 50 * 2**20)
    assert (lost.reason, "50 MiB are left" in str(lost)) == ("out_of_memory", True)


def test_particles_that_do_not_fit_into_memory_are_out_of_memory(tmp_path: Path) -> None:
    big = tmp_path / "particles"
    big.write_text(HEADER + " ".join(["-1.5"] * 12 + ["\n"]) * 400_000)
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom stilt_assets.transport.hysplit import _config, _read\n"
        "from stilt_assets.errors import TransportError\nfrom stilt_assets.simulation import Simulation\n"
        "variables = _config(Simulation('hysplit', 1, 2, 0), 1).varsiwant\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "held = next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmData'))\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (held + 2**24, held + 2**24))\n"
        f"try: _read(Path({str(big)!r}), variables)\nexcept TransportError as error: print(error.reason)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "out_of_memory", done.stderr


@causes("over_budget")
def test_a_pixel_that_can_never_fit_its_budget_stops_before_it_starts(late: Path) -> None:
    needed = Hysplit().scratch_needed(SIMULATION)
    with pytest.raises(OverBudgetError, match=r"packs\.scratch"):
        run(late, scratch=needed - 1)
    with pytest.raises(OverBudgetError, match=r"packs\.memory") as caught:
        run(late, memory=50 * 2**20)
    seen(caught.value.reason)
    assert run(late, scratch=needed)["age"].min() == -120


def test_a_pixel_writes_less_than_it_says_it_needs(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    read = hysplit._read

    def measured(path: Path, variables: list[str]) -> pd.DataFrame:
        sizes.append(sum(each.lstat().st_size for each in path.parent.iterdir()))
        return read(path, variables)

    monkeypatch.setattr(hysplit, "_read", measured)
    for particles, hours_back in ((20, 2), (200, 3)):
        run(late, particles=particles, hours_back=hours_back)
        needed = Hysplit().scratch_needed(Simulation("hysplit", hours_back, particles, 0))
        assert 0.99 * (needed - 2**20) < sizes[-1] < needed


def test_a_program_that_writes_more_than_it_may_is_ended(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hysplit, "_ROW", 1)
    with pytest.raises(OverBudgetError, match=r"packs\.scratch"):
        run(late, particles=200, scratch=2 * 10**6)


def test_limits_are_the_programs_and_not_the_workers(late: Path) -> None:
    before = [resource.getrlimit(what) for what in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE)]
    run(late, scratch=2**30, memory=2**40)
    assert [resource.getrlimit(what) for what in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE)] == before


ON_A_SMALL_DISK = """
import datetime, os, subprocess, sys
from pathlib import Path
from stilt_assets import scratch
from stilt_assets.errors import StiltAssetsError
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Limits, Simulation
from stilt_assets.transport import hysplit

def run(disk, options, row=hysplit._ROW):
    hysplit._ROW = row
    Path(disk).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], check=True)
    scratch.tempfile.tempdir = disk
    try:
        particles = hysplit.Hysplit().run(RECEPTOR, Simulation("hysplit", 2, 200, 0), Path(LATE), Limits(60))
        return str(len(particles))
    except StiltAssetsError as error:
        return error.reason
    finally:
        assert not [*scratch.root().glob("private/*")]
"""


def on_a_disk_of_its_own(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a program says that may mount file systems; skips where nobody may."""
    unshared = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*unshared, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a file system of one's own needs user namespaces")
    command = [*unshared, sys.executable, "-c", program]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240
    )


@causes("disk_full")
def test_a_small_disk_is_full_whenever_that_shows(late: Path, tmp_path: Path) -> None:
    program = ON_A_SMALL_DISK.replace("RECEPTOR", repr(RECEPTOR)).replace("LATE", repr(str(late))) + (
        "print(run('before', 'size=4m'))\n"
        "print(run('midway', 'size=1500k', row=1))\n"  # hycs_std exits with 0, its log is empty
        "print(run('files', 'size=40m,nr_inodes=9'))\n"
        "print(run('noexec', 'size=40m,noexec'))"
    )
    done = on_a_disk_of_its_own(program, tmp_path)
    assert [seen(word) for word in done.stdout.split()] == ["disk_full", "disk_full", "disk_full", "24000"], done.stderr


ON_A_DISK_FULL_FOR_A_MOMENT = """
import datetime, os, signal, subprocess, threading, time
from pathlib import Path
from processes import processes_in
from stilt_assets import scratch
from stilt_assets.errors import StiltAssetsError
from stilt_assets.reasons import is_transient
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Limits, Simulation
from stilt_assets.transport.hysplit import Hysplit

disk = Path("disk").absolute()
disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=True)
scratch.tempfile.tempdir = str(disk)

def cpu_seconds(process):
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("inf")  # it has ended
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

def fill():
    while not any(path.stat().st_size > 10**5 for path in disk.glob("*/private/*/PARTICLE_STILT.DAT")):
        time.sleep(0.005)
    (process,) = processes_in(disk)
    os.kill(process, signal.SIGSTOP)  # so that it writes no more until the disk is full
    ballast = disk / "ballast"
    for size in (2**16, 1):
        try:
            with ballast.open("ab", 0) as file:
                while True:
                    file.write(bytes(size))
        except OSError:
            pass
    before = cpu_seconds(process)
    os.kill(process, signal.SIGCONT)
    while cpu_seconds(process) < before + 0.1:  # enough to have written more
        time.sleep(0.005)
    ballast.unlink()

filling = threading.Thread(target=fill, daemon=True)
filling.start()
try:
    print(len(Hysplit().run(RECEPTOR, Simulation("hysplit", 1, 300, 0), Path(LATE), Limits(400))))
except StiltAssetsError as error:
    print(error.reason, is_transient(error.reason))
"""


def test_a_disk_that_is_full_for_a_moment_costs_a_try_and_not_the_pixel(late: Path, tmp_path: Path) -> None:
    program = ON_A_DISK_FULL_FOR_A_MOMENT.replace("RECEPTOR", repr(RECEPTOR)).replace("LATE", repr(str(late)))
    done = on_a_disk_of_its_own(program, tmp_path)
    assert done.stdout.split() in (["unreadable_particles", "True"], ["disk_full", "True"]), done.stderr


# ---- what it makes


def test_the_same_receptor_gives_the_same_particles_and_another_seed_others(late: Path) -> None:
    first = run(late)
    assert run(late, moved(pixel=7)).equals(first)
    other = run(late, seed=1)
    assert other.shape == first.shape
    assert (other["lon"] != first["lon"]).mean() > 0.5


def test_without_particle_dat_particles_are_bit_for_bit_what_pystilt_gives_with_it(shared: Path, late: Path) -> None:
    column = stilt.ColumnReceptor(time=RECEPTOR.time, longitude=-111.91, latitude=40.66, bottom=0.0, top=2500.0)
    met = {"directory": late.parent, "file_format": "%Y%m%d_%H", "file_tres": "6h"}
    seed = seed_of(RECEPTOR, SIMULATION)
    with_it = stilt.run_trajectories(column, met, n_hours=-2, numpar=20, krand=2, seed=seed)
    ours = run(late)
    assert list(ours.columns) == list(with_it.columns)
    pd.testing.assert_frame_equal(ours, with_it, check_exact=True, check_dtype=False)


def test_a_long_path_to_the_meteorology_changes_nothing(late: Path, tmp_path: Path) -> None:
    far = tmp_path / ("x" * 150) / ("y" * 150)
    far.mkdir(parents=True)
    shutil.copyfile(late, far / "meteorology.arl")
    assert run(far / "meteorology.arl").equals(run(late))


def test_a_relative_path_to_the_meteorology_works(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(late.parent)
    assert run(Path(late.name))["age"].min() == -120


# ---- what the real one does too seldom to wait for: a stand-in


def test_the_stand_in_does_as_the_real_one(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, say() + COMPLETE)
    assert run(late).shape == (20 * 120, 14)


def test_a_run_said_complete_whose_last_particle_is_too_young_ended_early(
    late: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, say(minutes=119) + COMPLETE)
    assert reason(late) == "ended_early"


def test_a_log_that_does_not_say_complete_is_incomplete(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, say())
    assert reason(late) == "incomplete"


def test_a_run_without_rows_or_file_has_no_particles(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, COMPLETE)
    assert reason(late) == "no_particles"
    pretend(monkeypatch, say(minutes=0) + COMPLETE)
    assert reason(late) == "no_particles"


@pytest.mark.parametrize(
    "change",
    [
        at(-7, 3, foot="NaN"),
        at(-7, 3, dens="Infinity"),
        at(-7, 3, long="*******"),
        at(-7, 3, foot=-0.001),
        at(-7, 3, lati=91.0),
        at(-7, 3, long=-181.0),
        at(-7, 3, pres=0.0),
        at(-7, 3, zagl=-400.0),
        at(-7, 3, long=-111.51),  # 34 km away
        at(-7, 3, indx=21),
        at(-7, 3, indx=0),
        at(-7, 3, indx=4),
        at(-7, 3, time=-7.5),
        at(-7, 3, time=-8),
        at(-120, 3, time=-121),
        at(-1, 3, drop=True),
        at(-7, 3, drop=True),
        at(-1, 3, lati=41.0),  # 38 km from the receptor
        at(-1, 3, zagl=1600.0),
    ],
    ids=str,
)
def test_a_single_number_that_cannot_be_is_unreadable(late: Path, monkeypatch: pytest.MonkeyPatch, change: Row) -> None:
    pretend(monkeypatch, say(change) + COMPLETE)
    assert reason(late) == "unreadable_particles"


def test_a_single_number_that_can_be_is_not(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, say(at(-7, 3, long=-111.61), at(-120, 3, drop=True), at(-1, 5, zagl=1600.0)) + COMPLETE)
    assert len(run(late)) == 20 * 120 - 1


def test_a_particle_that_is_missing_altogether_is_unreadable(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, say(particles=19) + COMPLETE)
    assert "19 of 20" in str(failure(late))


def test_a_row_that_lacks_numbers_is_unreadable(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = say().replace(" 1.5\nEND", "\nEND")
    assert cut != say()
    pretend(monkeypatch, cut + COMPLETE)
    assert reason(late) == "unreadable_particles"


def test_a_gap_told_in_the_warning_file_alone_is_a_gap(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, f"{say()}echo ' WARNING advpnt: no more meteorology' >WARNING\n{COMPLETE}")
    assert reason(late) == "meteorology_ends"


@causes("no_pressure_profile")
def test_pressure_that_does_not_fall_with_height_is_no_profile(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, say(*(at(-1, number, pres=700 + number) for number in range(1, 21))) + COMPLETE)
    with pytest.raises(TransportError) as caught:
        releases_of(run(late))
    seen(caught.value.reason)


def test_a_disk_that_is_full_after_a_failure_is_the_failure(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "exit 2")
    free = iter([2**40, 2**40, 2**40, 2**10])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 0, next(free)))  # pyright: ignore[reportAttributeAccessIssue]
    assert reason(late) == "incomplete"
    with pytest.raises(DiskFullError, match="TMPDIR"):
        run(late)
