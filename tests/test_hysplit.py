"""What hycs_std really does, asked of the real one: its exit code says nothing, an outcome's reason does."""

import shutil
import signal
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stilt

from stilt_assets.errors import DiskFullError, TransportError
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Simulation, seed_of
from stilt_assets.transport import hysplit
from stilt_assets.transport.hysplit import Hysplit

SIMULATION = Simulation("hysplit", hours_back=2, particles=20, seed=0)
RECEPTOR = Receptor(0, datetime(2019, 5, 30, 9, 58, tzinfo=UTC), -111.91, 40.66, 0.0, 2500.0)
HEADER = "a line of names\n"


@pytest.fixture
def late(shared: Path) -> Path:
    """Meteorology of the six hours 06 to 11Z."""
    return shared / "data" / "hrrr" / "20190530_06-11_hrrr"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every run, good or not, leaves its scratch folder's parent empty."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def moved(**changes: object) -> Receptor:
    return Receptor(**(vars(RECEPTOR) | changes))  # pyright: ignore[reportArgumentType]


def run(
    meteorology: Path, receptor: Receptor = RECEPTOR, timeout: float = 60.0, hours_back: int = 2, seed: int = 0
) -> pd.DataFrame:
    return Hysplit().run(receptor, Simulation("hysplit", hours_back, 20, seed), meteorology, timeout)


def reason(meteorology: Path, **settings: object) -> str:
    with pytest.raises(TransportError) as caught:
        run(meteorology, **settings)  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(caught.value)
    return caught.value.pixel_reason


def processes_in(folder: Path) -> list[int]:
    """Processes whose working folder lies below one; a zombie's cannot be read."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def pretend(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in hycs_std's place."""

    def write(folder: Path, *_: object) -> None:
        program = folder / "hycs_std"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    monkeypatch.setattr(hysplit, "write_inputs", write)


def say_rows(*ages: int) -> str:
    """Shell that writes one particle of that many rows: names as hycs_std prints them, numbers in their places."""
    names = hysplit._config(SIMULATION, 1).varsiwant
    line = {"time": "{age}", "indx": "1", "long": "-111.91", "lati": "40.66", "zagl": "100", "foot": "0.1"}
    rows = "".join(" ".join(line.get(name, "1.5") for name in names).replace("{age}", str(age)) + "\n" for age in ages)
    return f"cat > PARTICLE_STILT.DAT <<'END'\n{HEADER}{rows}END"


# ---- the real one


def test_a_good_run_has_every_particle_at_every_minute(late: Path) -> None:
    particles = run(late)
    assert len(particles) == 20 * 120
    assert sorted(particles["particle"].unique()) == list(range(1, 21))
    assert (particles["age"].min(), particles["age"].max()) == (-120, -1)
    heights = particles.groupby("particle")["release_height"].first()
    assert heights.to_numpy() == pytest.approx((np.arange(20) + 0.5) * 125.0)  # evenly over 2,500 m, slab by slab


def test_a_receptor_outside_the_domain_is_lost_as_outside_meteorology(late: Path) -> None:
    assert reason(late, receptor=moved(longitude=-100.0)) == "outside_meteorology"


def test_meteorology_that_ends_early_is_a_gap_although_hycs_std_says_complete(
    late: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = []
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **how: logs.append(read(path, **how)) or logs[-1])
    assert reason(late, hours_back=6) == "meteorology_gap"
    assert any("Complete Hysplit" in log for log in logs)


def test_a_release_after_the_meteorologys_end_is_a_gap(late: Path) -> None:
    assert reason(late, receptor=moved(time=datetime(2019, 5, 30, 13, 0, tzinfo=UTC))) == "meteorology_gap"
    assert reason(late, receptor=moved(time=datetime(2019, 5, 30, 11, 1, tzinfo=UTC))) == "meteorology_gap"


def test_a_release_on_the_last_hour_is_none(late: Path) -> None:
    assert run(late, moved(time=datetime(2019, 5, 30, 11, 0, tzinfo=UTC)))["age"].min() == -120


def test_a_file_cut_short_is_a_gap(late: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.arl"
    cut.write_bytes(late.read_bytes()[: late.stat().st_size // 3])
    assert reason(cut) == "meteorology_gap"


def test_a_column_beyond_the_files_top_is_lost_as_above_meteorology(late: Path) -> None:
    assert reason(late, receptor=moved(top=8000.0)) == "above_meteorology"


def test_a_run_that_takes_too_long_is_ended_with_its_process_group(late: Path, scratch: Path) -> None:
    assert reason(late, timeout=0.03) == "timeout"
    assert processes_in(scratch) == []


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


# ---- what the real one does too seldom to wait for


def test_a_run_said_complete_whose_last_particle_is_too_young_ended_early(
    late: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, f"{say_rows(-1, -2, -119)}\necho Complete Hysplit")
    assert reason(late) == "ended_early"


def test_particles_that_all_left_the_domain_are_a_result(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = say_rows(-1, -2, -119)
    pretend(monkeypatch, f"{rows}\necho particles off spatial domain of all grids >WARNING\necho Complete Hysplit")
    assert run(late)["age"].tolist() == [-1, -2, -119]


def test_a_log_that_does_not_say_complete_is_incomplete(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, say_rows(-1, -120))
    assert reason(late) == "incomplete"


def test_a_run_ended_by_a_signal_was_killed(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, f"{say_rows(-1, -120)}\necho Complete Hysplit\nkill -{signal.SIGKILL:d} $$")
    assert reason(late) == "killed"


def test_a_run_without_rows_or_file_has_no_particles(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "echo Complete Hysplit")
    assert reason(late) == "no_particles"
    pretend(monkeypatch, f"{say_rows()}\necho Complete Hysplit")
    assert reason(late) == "no_particles"


def test_numbers_that_ran_into_each_other_are_unreadable(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, f"{say_rows(-1, -120).replace('-111.91', '*******')}\necho Complete Hysplit")
    assert reason(late) == "unreadable_particles"


def test_a_row_that_lacks_numbers_is_unreadable(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = say_rows(-1, -120).replace(" 1.5\nEND", "\nEND")
    assert cut != say_rows(-1, -120)
    pretend(monkeypatch, f"{cut}\necho Complete Hysplit")
    assert reason(late) == "unreadable_particles"


def test_a_gap_told_in_the_warning_file_alone_is_a_gap(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warning = "echo ' WARNING advpnt: no more meteorology' >WARNING"
    pretend(monkeypatch, f"{say_rows(-1, -120)}\n{warning}\necho Complete Hysplit")
    assert reason(late) == "meteorology_gap"


def test_a_full_disk_is_no_lost_pixel_before_a_run_or_after_it(late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "exit 2")
    free = iter([2**40, 2**40, 2**40, 2**10, 2**10])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 0, next(free)))  # pyright: ignore[reportAttributeAccessIssue]
    assert reason(late) == "incomplete"
    for _ in ("after", "before"):
        with pytest.raises(DiskFullError, match="TMPDIR"):
            run(late)


def test_a_timeout_ends_what_the_program_started_as_well(
    late: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "child"
    pretend(monkeypatch, f"sleep 60 & echo $! >'{told}'; wait")
    assert reason(late, timeout=0.5) == "timeout"
    child = Path("/proc") / told.read_text().strip()
    assert processes_in(scratch) == []
    assert not child.exists() or "State:\tZ" in (child / "status").read_text()
