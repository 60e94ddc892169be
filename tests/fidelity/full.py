"""
Is the native model faithful, as a whole? `make fidelity` measures all of it and writes `docs/fidelity.md`.

`--no-mutants` leaves out the deliberate errors; `--mutants [WORD ...]` makes those only, or those whose names hold a
word, and leaves all else of the page as it is. Exits with 1 if a value is not within its limits, or a deliberate error
goes unnoticed.
"""

import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from fidelity.measure import SHARED, Measured, all_rows
from fidelity.mutants import CASES, MUTANTS, Mutant, failing, noticed_by

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "fidelity.md"
HEAD = """# How faithful is `native`?

Measured against `hycs_std` v5.1.0 by `make fidelity`, at commit {commit} on {day}. `transport: auto` takes `native` for
HRRR while all of it is green, and `hysplit` for all other meteorology.

Particles of 24 releases in HRRR files and 14 in made-up weather (noon, winter, gale, hills; hybrid levels; cells of a
quarter of a degree with hybrid and with pressure levels), none of which anything was tuned on; the trajectories are
those of the gold file. The yardstick of C is `hycs_std`'s own noise:
4 seeds of 500 particles against 12 of ours.

A: point by point. B: the first ten minutes. C: ensembles. E, the speed, is measured by `make bench`. F, the guard of
production scenes, uses the same differences in standard errors (`stilt_assets/agreement.py`).

| | what | value | limits | of | |
|---|---|---|---|---|---|
"""

NOTES = """
What the numbers hold:

- The trajectories that part by more than 30 m or 1 m all come within 20 m of the ground: where the mean wind presses a
  particle onto steep ground it bounces, and rounding decides where to.
- sigma_w above the mixed layer differs at 1.6 % of the points in HRRR, all at hours in which the mixed layer changes.
- Air aloft whose potential temperature falls with height counts as neutral, and winds of two levels differ by at least
  0.1 m2 s-2 squared; both were asked for in made-up weather (`falling`).
- `hycs_std` prints sigma_w in steps of 0.001 m s-1, and near-field corrections are made of what is printed. `native`
  rounds it likewise: in still nights that is up to 2 % of a minute's influence at 6 m above the ground.
- A minute is one step however strong the wind is: `hycs_std` does not split it at 0.75 of a cell, as its setting
  `tratio` would have it. It was asked with winds of 1.0 to 1.8 cells a minute (`gale.py`), where two steps would end
  some 200 m from where it ends, each minute; one step ends where it does, to the last digit printed.
- A release above the meteorology's own levels is taken up to the second of the model's levels that those do not reach,
  as by `hycs_std`, and refused above (`above_meteorology`). Both look at one column for it, the south-western one; in a
  large box `hycs_std` reads a part of it only, whose corner is another.
- The two releases on hybrid levels by themselves: aggregate foot 0.18 % off, none of 12 Kolmogorov-Smirnov tests
  rejects at 5 %, maps are 0.96 times as far apart as `hycs_std`'s from itself.
- The four releases in cells of a quarter of a degree by themselves, two on hybrid levels three hours apart and two on
  pressure levels: aggregate foot 0.07 % off, none of 24 Kolmogorov-Smirnov tests rejects at 5 %, maps are 1.00 times as
  far apart as `hycs_std`'s from itself.
- Levels of pressure lie at HGTS less SHGT, and those at or below the lowest of the model's levels (some 10 m above
  ground) do not count. What is linear in height there is humidity over that of saturated air: RELH itself, or SPHU over
  exp(21.4 - 5351 / T). The ground has that of the file's first level, even if it lies below the ground. RH2M is not
  read, and heights do not come from temperatures.
- Cells in degrees: winds are turned into cells per minute of each column before anything is interpolated, as on a cone,
  and a particle ends as far from an edge. With three hours between times nothing is different.
- `hycs_std` keeps places in cells of single precision and adds each of turbulence's steps to them. Of cells of a degree
  it loses those that are slow: at 12 m above ground steps take 0.3 s, and a wind of 0.04 m s-1 from the south does not
  carry its particles at all 30 cells from the corner of the grid, one of 0.4 m s-1 at less than half its speed; three
  cells from the corner the second does as it should. `native` does not lose them. Two releases in cells of a degree
  differed by it (maps 1.34 times as far apart, limit 1.1), so such cells are refused; in cells of a quarter of a degree
  it is 2 m a minute and no ensemble sees it.
- Beyond 85 degrees of latitude particles in cells of a quarter of a degree part by up to 2 km in 3 h, without chance;
  cells beyond 80 are refused. `hycs_std` counts longitudes from 0 to 360, and of cells that begin below 0 it does not
  find those that lie to the west of Greenwich.
- Without RGHS `hycs_std` behaves as with 0.2 to 0.5 m in Utah, where its table ROUGLEN.ASC (cm, a degree a cell) has 25
  and 44; without USTR but with UMOF and VMOF as with the root of the stress over some 1.09 kg m-3 where the lowest air
  has 1.25; without these as with another friction velocity. None of it is pinned: files without RGHS or USTR are
  refused by name.
- Dry air is 0.86 q2 less dense in `hycs_std` than here, q the specific humidity: 2e-4 at 16 g kg-1. On sigma levels,
  too, its ground has the first level's humidity over that of saturated air; here it has that of the first level itself.
  Where T02M is 5 K warmer than a first level at 20 m the lowest density is 2.4e-3 off. HRRR's first level is at some
  9 m, where the lowest of the model's is, too.

What it was asked about, and what not:

| | points | ensembles |
|---|---|---|
| HRRR, a day in May, 18 to 05 local | hrrr | 24 releases |
| midday, deep mixing | midday | noon |
| winter, snow-cold ground | winter, falling | winter |
| strong wind | storm; gale: trajectories and clouds | gale, up to 0.7 cell a minute |
| steep ground | steep, hybrid_steep | hills |
| sigma levels without pressure fields | no_pressure | none |
| hybrid levels | hybrid, hybrid_steep, hybrid_hung | hybrid; `auto` takes `hysplit` |
| pressure levels, with SPHU or RELH | pressure, pressure_steep, gdas; ways | era5; `auto` takes `hysplit` |
| cells of a quarter of a degree, over the date line, too | degrees; ways | gfs, era5; `auto` takes `hysplit` |
| three hours between times | gdas; ways | gfs |
| cells of a degree | gdas; ways | differ, see above: refused |
| grids on Mercator or polar maps, around the earth, beyond 80 degrees | none: refused | none |
| no USTR, SHTF, RGHS or humidity | none: refused | none |
| real files of winter, midday or another model | none | none |

"""
NOTHING = "**nothing**"
DELIBERATE = """\
D: deliberate errors, each put into a copy of the checkout, and what fails of it: in CI or of the values above.

| error | fails | of | at commit |
|---|---|---|---|
"""


def table(rows: list[Measured]) -> str:
    """Rows as Markdown."""
    return "\n".join(
        f"| {row.section} | {row.what} | {row.value:.4g} | {row.low:g} to {row.high:g} | {row.count} "
        f"| {'green' if row.is_green else '**not green**'} |"
        for row in rows
    )


def commit() -> str:
    """The commit of the checkout, and whether the package differs from it."""
    name = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "stilt_assets"], cwd=ROOT, check=False).returncode
    return name.stdout.strip() + (" (with changes)" if changed else "")


def judged(mutant: Mutant, commit: str) -> str:
    """A row of section D: what notices an error, or that nothing does."""
    tests = failing(mutant)
    if tests:
        more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
        return f"| {mutant.name} | `{tests[0]}`{more} | CI | {commit} |"
    short = [asdict(row) | {"green": row.is_green} for row in all_rows(SHARED, range(1, 5), CASES)]
    found = noticed_by(mutant, short)
    return f"| {mutant.name} | {found[0] if found else NOTHING} | `make fidelity` | {commit} |"


def rows_of(page: str) -> dict[str, str]:
    """The rows of a page's section D by their errors."""
    lines = page.partition(DELIBERATE)[2].splitlines()
    return {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}


def deliberate(words: list[str]) -> bool:
    """Make the deliberate errors whose names hold one of `words`, and write section D; is each error noticed?"""
    now = commit()
    for mutant in (each for each in MUTANTS if any(word in each.name for word in words)):
        row = judged(mutant, now)
        print(row, flush=True)
        page = PAGE.read_text()
        known = rows_of(page) | {mutant.name: row}
        rows = [known.get(each.name, f"| {each.name} | **not made yet** | | |") for each in MUTANTS]
        PAGE.write_text(page.partition(DELIBERATE)[0] + DELIBERATE + "\n".join(rows) + "\n")
    return not any("**" in row for row in rows_of(PAGE.read_text()).values())


def main() -> int:
    """Measure, write, judge."""
    if "--mutants" in sys.argv:
        return int(not deliberate(sys.argv[sys.argv.index("--mutants") + 1 :] or [""]))
    rows = all_rows(SHARED)
    page = HEAD.format(commit=commit(), day=f"{datetime.now(UTC):%Y-%m-%d}") + table(rows) + "\n" + NOTES
    print(page, flush=True)
    before = PAGE.read_text() if PAGE.exists() else ""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page + DELIBERATE + "\n".join(rows_of(before).values()) + "\n")
    noticed = "--no-mutants" in sys.argv or deliberate([""])
    return int(not (noticed and all(row.is_green for row in rows)))


if __name__ == "__main__":
    sys.exit(main())
