"""One table of reasons: every failure is named by it, and the README shows it as it is."""

import ast
from pathlib import Path

import pytest

import stilt_assets
from stilt_assets import errors
from stilt_assets.reasons import REASONS, Remedy, as_markdown
from stilt_assets.simulation import Limits

HOUSE = Path(stilt_assets.__file__).parent
README = HOUSE.parent / "README.md"


def family() -> list[type[errors.StiltAssetsError]]:
    found = [errors.StiltAssetsError]
    for kind in found:
        found += kind.__subclasses__()
    return found


def texts() -> set[str]:
    """Every string in the package, the table aside."""
    files = [path for path in HOUSE.rglob("*.py") if path.name != "reasons.py"]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text())))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_failure_of_the_family_is_named_by_the_table() -> None:
    named = {kind.reason for kind in family() if hasattr(kind, "reason")}
    assert named <= REASONS.keys()
    assert len(named) > 14


def test_no_row_of_the_table_is_without_somebody_who_says_it() -> None:
    assert REASONS.keys() <= texts()


def test_the_readme_shows_the_table() -> None:
    assert as_markdown() in README.read_text()


def test_what_is_permanent_is_never_done_again() -> None:
    again = {Remedy.retry, Remedy.retry_longer, Remedy.retry_larger, Remedy.repeat, Remedy.remake}
    for reason in REASONS.values():
        assert (reason.remedy in again) is reason.transient, reason.name
        assert reason.of_a_pixel is (reason.remedy not in {Remedy.repeat, Remedy.remake, Remedy.stop}), reason.name
        assert reason.reader in {"user", "operator", "developer"}


@pytest.mark.parametrize(
    ("reason", "after"),
    [
        ("timeout", Limits(20.0, 300, 7)),
        ("killed", Limits(10.0, 600, 7)),
        ("out_of_memory", Limits(10.0, 600, 7)),
        ("incomplete", Limits(10.0, 300, 7)),
        ("fortran_error", Limits(10.0, 300, 7)),
    ],
)
def test_the_next_attempt_may_take_what_the_last_one_lacked(reason: str, after: Limits) -> None:
    assert Limits(10.0, 300, 7).after(reason) == after
    assert Limits(10.0).after("out_of_memory") == Limits(10.0)


def test_an_error_comes_back_whole_from_another_process() -> None:
    import pickle

    for error in (
        errors.DamagedError("it is damaged", "/a/file"),
        errors.TransportError("timeout", "too slow"),
        errors.StoreError("no answer", "unreachable"),
        errors.UnknownTargetError("x", ["y"]),
    ):
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), str(back), back.reason, vars(back)) == (type(error), str(error), error.reason, vars(error))
