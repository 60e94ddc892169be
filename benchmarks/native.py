"""
How much faster than `hycs_std` is `native`?

CPU seconds of the same receptors in the same run, `hycs_std` before and after ours, everything compiled and decoded.
Needs ../shared/data.

    transport    hycs_std as we set it                          the engine alone
    pixel        hycs_std and PYSTILT's calc_footprint          from release to cells
    two cores    wall seconds of pixels in one process          and in two
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import arlmet
import numpy as np

from stilt_assets.footprint import grid_particles
from stilt_assets.grid import Grid
from stilt_assets.meteorology.proof import Edges
from stilt_assets.particles import column_weights, kept_form, releases_of
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Limits, Simulation, seed_of
from stilt_assets.transport.hysplit import Hysplit
from stilt_assets.transport.native import decoded
from stilt_assets.transport.native.engine import fly_back, met_of, new_flight
from stilt_assets.transport.native.flight import Course, start_all
from stilt_assets.transport.native.model import Native

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hrrr"
GRID = Grid(-112.8, 40.15, -111.2, 41.35, 0.01)
KERNEL = Kernel(np.array([870.0, 500.0, 100.0]), np.array([1.0, 1.1, 0.8]), 860.0)
LIMITS = Limits(3600.0)
CASES = {  # release (UTC; six hours ahead of local time) and hours back
    "night": (datetime(2019, 5, 30, 10, tzinfo=UTC), 6),
    "day": (datetime(2019, 5, 30, 3, tzinfo=UTC), 3),
}


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
    course = Course(met_of(decoded.opened(meteorology)), receptor, simulation)
    flight, seed = new_flight(simulation.particles), np.uint64(seed_of(receptor, simulation))
    column = (receptor.longitude, receptor.latitude, receptor.bottom, receptor.top)
    start_all(course.met, flight, seed, column, course.minute)
    moving = cpu(lambda: fly_back(course.met, flight, seed, course.minute, course.minutes))[0]
    return moving, cpu(lambda: pixel(receptor, simulation, meteorology))[0]


def pixel(receptor: Receptor, simulation: Simulation, meteorology: Path) -> int:
    """A pixel from its release to its cells; how many those are."""
    with arlmet.File(meteorology) as file:
        edges = Edges(file.grid, (True,) * 4, None)
    flown = Native().fly(receptor, KERNEL, GRID, simulation, meteorology, edges, "endpoints", LIMITS)
    return len(flown.cells.foot)


def side_by_side(processes: int, jobs: list[tuple[Receptor, Simulation, Path]]) -> float:
    """Wall seconds of pixels in so many processes that have started."""
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(pixel, *zip(*jobs[:1] * (4 * processes), strict=True)))
        started = time.monotonic()
        list(pool.map(pixel, *zip(*jobs, strict=True)))
        return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, default=500)
    parser.add_argument("--pixels", type=int, default=8, help="of native, for each of hycs_std")
    chosen = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"needs the test data in {DATA}")
    with tempfile.TemporaryDirectory(prefix="stilt-assets-bench-") as name:
        meteorology = Path(name) / "meteorology.arl"
        meteorology.write_bytes(b"".join(file.read_bytes() for file in sorted(DATA.glob("2019*"))))
        with Native().prepare(Simulation("native", 1, 2, 0), meteorology):
            compare(meteorology, chosen.particles, chosen.pixels)


def compare(meteorology: Path, particles: int, pixels: int) -> None:
    print(f"{particles} particles; µs of a core per particle-minute; {os.cpu_count()} cores\n")
    print(f"{'':8}{'hycs_std':>10}{'ours':>8}{'ratio':>8}  |{'+ calc_footprint':>18}{'pixel':>8}{'ratio':>8}")
    jobs = []
    for name, (release, hours) in CASES.items():
        receptors = [Receptor(k, release, -111.95 + 0.01 * k, 40.6, 0.0, 2500.0) for k in range(pixels)]
        simulation = Simulation("native", hours, particles, 0)
        ours(receptors[0], simulation, meteorology)  # whatever is loaded at first use
        before = theirs(receptors[0], simulation, meteorology)
        mine = np.mean([ours(each, simulation, meteorology) for each in receptors], axis=0)
        after = theirs(receptors[-1], simulation, meteorology)
        (moving, gridding), per = np.mean([before, after], axis=0), 1e6 / (particles * hours * 60)
        print(
            f"{name:8}{moving * per:10.1f}{mine[0] * per:8.3f}{moving / mine[0]:8.1f}  |"
            f"{(moving + gridding) * per:18.1f}{mine[1] * per:8.3f}{(moving + gridding) / mine[1]:8.1f}"
            f"   hycs_std before and after: {before[0] * per:.1f}, {after[0] * per:.1f}"
        )
        jobs += [(each, simulation, meteorology) for each in receptors]
    jobs = jobs * 4
    one, two, again = (side_by_side(processes, jobs) for processes in (1, 2, 1))
    print(
        f"\ntwo cores: {(one + again) / 2 / two:.2f} times one (wall; one before and after: {one:.2f}, {again:.2f} s)"
    )


if __name__ == "__main__":
    main()
