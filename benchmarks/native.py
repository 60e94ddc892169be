"""
How much faster than `hycs_std` is `native`?

CPU seconds of the same receptors in the same run, `hycs_std` before and after ours, everything compiled and decoded.
Needs ../shared/data.

    transport    hycs_std as we set it                          the engine alone
    pixel        hycs_std and PYSTILT's calc_footprint          from release to cells
    two cores    pixels one after the other                     and two at once, in processes and in threads

Two at once are told in wall seconds, which others on the machine spoil, and in CPU seconds, which show what two cost
each other: twice the CPU of one after the other over that of two at once is what two cores of one's own would give.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import arlmet
import numpy as np
from fidelity.weathers import WEATHERS

from stilt_assets.footprint import grid_particles
from stilt_assets.grid import Grid
from stilt_assets.meteorology.proof import Edges
from stilt_assets.particles import column_weights, kept_form, releases_of
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Limits, Simulation, seed_of
from stilt_assets.transport.hysplit import Hysplit
from stilt_assets.transport.native import decoded
from stilt_assets.transport.native.engine import fly_back, new_flight
from stilt_assets.transport.native.flight import Course, air_of, start_all
from stilt_assets.transport.native.model import Native

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hrrr"
GRID = Grid(-112.8, 40.15, -111.2, 41.35, 0.01)
KERNEL = Kernel(np.array([870.0, 500.0, 100.0]), np.array([1.0, 1.1, 0.8]), 860.0)
LIMITS = Limits(3600.0)
HRRR = "hrrr"


@dataclass(frozen=True)
class Case:
    """A release and the weather it is followed back in."""

    weather: str  # HRRR of the test data (local time is six hours behind UTC), or a made-up one
    release: datetime  # UTC
    hours: int  # back


CASES = {
    "night": Case(HRRR, datetime(2019, 5, 30, 10, tzinfo=UTC), 6),
    "evening": Case(HRRR, datetime(2019, 5, 30, 3, tzinfo=UTC), 3),
    "midday": Case("noon", datetime(2019, 5, 30, 2, 45, tzinfo=UTC), 2),  # 380 W m-2 into a mixed layer of 2.2 km
}
Job = tuple[Receptor, Simulation, Path]


def cpu(work: Callable[[], Any], who: int = resource.RUSAGE_SELF) -> tuple[float, Any]:
    """CPU seconds of this process, or of the programs that it waited for, and what came of it."""
    before = resource.getrusage(who)
    made = work()
    after = resource.getrusage(who)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, made


def theirs(receptor: Receptor, simulation: Simulation, meteorology: Path) -> tuple[float, float]:
    """CPU seconds of `hycs_std`, and of PYSTILT's gridding of its particles."""
    moving, particles = cpu(lambda: Hysplit().run(receptor, simulation, meteorology, LIMITS), resource.RUSAGE_CHILDREN)
    kept, releases = kept_form(particles, full=False), releases_of(particles)
    omega = column_weights(releases, KERNEL)
    return moving, cpu(lambda: grid_particles(kept, releases, omega, receptor, GRID))[0]


def ours(receptor: Receptor, simulation: Simulation, meteorology: Path) -> tuple[float, float]:
    """CPU seconds of the engine, and of a pixel from its release to its cells."""
    course = Course(air_of(decoded.opened(meteorology)), receptor, simulation)
    met = course.air.met
    flight, seed = new_flight(simulation.particles), np.uint64(seed_of(receptor, simulation))
    column = (receptor.longitude, receptor.latitude, receptor.bottom, receptor.top)
    start_all(met, flight, seed, column, course.minute)
    moving = cpu(lambda: fly_back(met, flight, seed, course.minute, course.minutes))[0]
    return moving, cpu(lambda: pixel(receptor, simulation, meteorology))[0]


def pixel(receptor: Receptor, simulation: Simulation, meteorology: Path) -> int:
    """A pixel from its release to its cells; how many those are."""
    edges = edges_of(meteorology)
    flown = Native().fly(receptor, KERNEL, GRID, simulation, meteorology, edges, "endpoints", LIMITS)
    return len(flown.cells.foot)


@lru_cache(maxsize=2)
def edges_of(meteorology: Path) -> Edges:
    """Where a meteorology ends; a scene has one for all of its pixels."""
    with arlmet.File(meteorology) as file:
        return Edges(file.grid, (True,) * 4, None)


def timed_pixel(job: Job) -> float:
    """CPU seconds of a pixel."""
    before = time.thread_time()
    pixel(*job)
    return time.thread_time() - before


def at_once(pool: Executor, workers: int, jobs: list[Job]) -> tuple[float, float]:
    """Wall and CPU seconds of pixels by so many workers that have started."""
    with pool:
        list(pool.map(timed_pixel, jobs[:1] * (4 * workers)))
        started = time.monotonic()
        spent = sum(pool.map(timed_pixel, jobs))
        return time.monotonic() - started, spent


def compare_two(jobs: list[Job]) -> None:
    """Two at once against one before and one after, as workers of a scene are and as threads."""
    print(f"\ntwo at once, of {len(jobs)} pixels; load before {os.getloadavg()[0]:.1f}")
    for name, pools in (("processes", ProcessPoolExecutor), ("threads", ThreadPoolExecutor)):
        (wall, spent), (two, both), (again, after) = (at_once(pools(n), n, jobs) for n in (1, 2, 1))
        print(
            f"{name:10}{(wall + again) / 2 / two:5.2f} times one by the clock, {(spent + after) / both:5.2f} by CPU"
            f"   wall {wall:.2f}, {two:.2f}, {again:.2f} s; CPU {spent:.2f}, {both:.2f}, {after:.2f} s"
        )


def weather(name: str, folder: Path) -> Path:
    """One ARL file of a weather."""
    path = folder / f"{name}.arl"
    if name == HRRR:
        path.write_bytes(b"".join(file.read_bytes() for file in sorted(DATA.glob("2019*"))))
        return path
    return WEATHERS[name](path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, default=500)
    parser.add_argument("--pixels", type=int, default=8, help="of native, for each of hycs_std")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=4, help="of all pixels, one at a time and two at once")
    chosen = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"needs the test data in {DATA}")
    cases = {name: CASES[name] for name in chosen.cases}
    with tempfile.TemporaryDirectory(prefix="stilt-assets-bench-") as name, ExitStack() as prepared:
        files = {each: weather(each, Path(name)) for each in {case.weather for case in cases.values()}}
        for file in files.values():
            prepared.enter_context(Native().prepare(Simulation("native", 1, 2, 0), file))
        print(f"{chosen.particles} particles; µs of a core per particle-minute; {os.cpu_count()} cores\n")
        print(f"{'':8}{'hycs_std':>10}{'ours':>8}{'ratio':>8}  |{'+ calc_footprint':>18}{'pixel':>8}{'ratio':>8}")
        jobs = [job for each, case in cases.items() for job in compare(each, case, files[case.weather], chosen)]
        compare_two(jobs * chosen.rounds)


def compare(name: str, case: Case, meteorology: Path, chosen: argparse.Namespace) -> list[Job]:
    """Print a case's line; its pixels."""
    receptors = [Receptor(k, case.release, -111.95 + 0.01 * k, 40.6, 0.0, 2500.0) for k in range(chosen.pixels)]
    simulation = Simulation("native", case.hours, chosen.particles, 0)
    ours(receptors[0], simulation, meteorology)  # whatever is loaded at first use
    before = theirs(receptors[0], simulation, meteorology)
    mine = np.mean([ours(each, simulation, meteorology) for each in receptors], axis=0)
    after = theirs(receptors[-1], simulation, meteorology)
    (moving, gridding), per = np.mean([before, after], axis=0), 1e6 / (chosen.particles * case.hours * 60)
    print(
        f"{name:8}{moving * per:10.1f}{mine[0] * per:8.3f}{moving / mine[0]:8.1f}  |"
        f"{(moving + gridding) * per:18.1f}{mine[1] * per:8.3f}{(moving + gridding) / mine[1]:8.1f}"
        f"   hycs_std before and after: {before[0] * per:.1f}, {after[0] * per:.1f}",
        flush=True,
    )
    return [(each, simulation, meteorology) for each in receptors]


if __name__ == "__main__":
    main()
