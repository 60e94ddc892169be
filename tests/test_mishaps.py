"""Who is charged with the death of a worker, and what runs next."""

from datetime import UTC, datetime

import numpy as np
import pytest

from stilt_assets.errors import DamagedError, WorkersKilledError
from stilt_assets.mishaps import Mishaps
from stilt_assets.pixel import Job
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Limits

TIME = datetime(2019, 5, 30, 9, tzinfo=UTC)


def job(pixel: int, attempt: int = 1) -> Job:
    receptor, kernel = Receptor(pixel, TIME, 0.5, 0.5, 0, 100), Kernel(np.ones(1), np.ones(1), 1.0)
    return Job(0, receptor, kernel, Limits(1.0, 300), attempt=attempt)


def suspects(mishaps: Mishaps) -> list[tuple[int, int] | int]:
    """Pixels with their attempt, and packs, in the order in which they run."""
    told = []
    while mishaps.has_suspects:
        each = mishaps.take()
        told.append(each if isinstance(each, int) else (each.receptor.pixel, each.attempt))
    return told


def test_of_jobs_that_ran_together_none_is_charged() -> None:
    mishaps = Mishaps(attempts=3)
    assert mishaps.die([job(7), job(5, attempt=3), 2]) is None
    assert suspects(mishaps) == [(7, 1), (5, 3), 2]


def test_a_pixel_that_ran_alone_is_charged_and_gets_twice_the_memory() -> None:
    mishaps = Mishaps(attempts=3)
    assert mishaps.die([job(7, attempt=2)]) is None
    again = mishaps.take()
    assert isinstance(again, Job)
    assert (again.attempt, again.limits.memory) == (3, 600)


def test_a_pack_that_is_finished_is_charged_with_nothing() -> None:
    mishaps = Mishaps(attempts=1)
    assert mishaps.die([4]) is None
    assert suspects(mishaps) == [4]


def test_a_pixel_that_has_had_all_its_attempts_is_lost() -> None:
    mishaps, last = Mishaps(attempts=3), job(7, attempt=3)
    assert mishaps.die([last]) is last
    assert not mishaps.has_suspects


def test_a_job_that_was_refused_runs_after_what_was_under_way_and_takes_the_blame_from_it() -> None:
    mishaps = Mishaps(attempts=3)
    mishaps.suspect(job(1))
    mishaps.refuse(job(9))
    assert mishaps.die([job(7, attempt=3)]) is None
    assert suspects(mishaps) == [(7, 3), (9, 1), (1, 1)]
    assert mishaps.die([]) is None
    assert not mishaps.has_suspects


def test_who_comes_first_comes_before_all_others() -> None:
    mishaps = Mishaps(attempts=3)
    mishaps.suspect(job(1))
    mishaps.suspect(job(2))
    mishaps.suspect_first(6)
    assert suspects(mishaps) == [6, (1, 1), (2, 1)]


def test_a_suspect_runs_alone_until_it_comes_back() -> None:
    mishaps = Mishaps(attempts=3)
    assert not mishaps.one_at_a_time
    mishaps.suspect(job(1))
    assert mishaps.one_at_a_time
    mishaps.take()
    assert mishaps.one_at_a_time
    mishaps.came_back()
    assert not mishaps.one_at_a_time


def test_nine_deaths_in_a_row_are_borne_and_a_tenth_is_not() -> None:
    mishaps = Mishaps(attempts=3)
    for _ in range(9):
        mishaps.die([job(1), job(2)])
    mishaps.came_back()
    for _ in range(9):
        mishaps.die([job(1), job(2)])
    with pytest.raises(WorkersKilledError, match="10 workers were killed one after the other"):
        mishaps.die([job(1), job(2)])


def test_damage_is_borne_as_often_as_a_pixel_has_attempts_pack_by_pack() -> None:
    mishaps = Mishaps(attempts=2)
    for number in (5, 5, 4):
        mishaps.damage(number, "/somewhere/pack=00005.parquet")
    with pytest.raises(DamagedError, match=r"pack 5 made .* again and again; is /somewhere/pack=00005.parquet well"):
        mishaps.damage(5, "/somewhere/pack=00005.parquet")
