"""The yardstick of `make fidelity` is one: it passes `hycs_std` with other seeds, and not with one setting changed."""

import pytest

from fidelity.acceptance import Row, rows
from fidelity.ensembles import CASES, CONTROLLED, CONTROLS, KEPT, kept
from fidelity.mutants import MUTANTS, NATIVE, applies, checkout_with


def controls(name: str) -> list[Row]:
    """hycs_std run in another way, against its own ensembles."""
    mark = f"{name}:"
    others = {key.removeprefix(mark): told for key, told in kept(CONTROLS).items() if key.startswith(mark)}
    assert set(others) == {case.name for case in CONTROLLED}
    return rows(others, kept())


def test_at_least_thirty_releases_are_held_out() -> None:
    assert len({case.name for case in CASES}) >= 30
    assert set(kept()) == {case.name for case in CASES}
    assert len({case.weather for case in CASES}) == 8
    assert KEPT.stat().st_size + CONTROLS.stat().st_size < 700_000


def test_hycs_std_with_other_seeds_passes() -> None:
    # Five releases are few: the root mean square of five z-scores is below 1.8 but once in a hundred times.
    limits = {"rms z, total foot": 1.8, "aggregate foot, relative difference": 0.02}
    wrong = [row for row in controls("again") if not abs(row.value) <= limits.get(row.what, row.high)]
    assert wrong == []


def test_hycs_std_with_one_setting_changed_does_not_pass() -> None:
    wrong = {row.what for row in controls("kmix0") if not row.is_green}
    assert {"rms z, total foot", "rms z, hourly foot", "aggregate foot, relative difference"} <= wrong


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_deliberate_error_can_still_be_made(mutant) -> None:
    assert applies(mutant)
    with checkout_with(mutant) as checkout:
        changed = (checkout / NATIVE / mutant.file).read_text()
    assert mutant.wrong in changed
    compile(changed, mutant.file, "exec")
