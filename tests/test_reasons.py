"""One table of reasons: every failure is named by it, and the README shows it as it is."""

import ast
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

import stilt_assets
from stilt_assets import errors
from stilt_assets.reasons import REASONS, Remedy, as_markdown
from stilt_assets.simulation import Limits

HOUSE = Path(stilt_assets.__file__).parent
README = HOUSE.parent / "README.md"
HERE = Path(__file__).parent


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


@cache
def words_given() -> Mapping[str, set[str]]:
    """Words that tests give to functions as they stand there, by the function's name."""
    words = defaultdict[str, set[str]](set)
    for node in (node for path in sorted(HERE.glob("test_*.py")) for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            words[node.func.id] |= {str(each.value) for each in node.args if isinstance(each, ast.Constant)}
    return words


def test_each_row_of_the_table_has_a_test_that_causes_it() -> None:
    assert words_given()["causes"] == REASONS.keys()


def test_no_test_says_itself_what_it_has_seen() -> None:
    assert "seen" in words_given()
    assert words_given()["seen"] | words_given()["seen_at_the_end"] == set()


def test_a_test_that_does_not_cause_what_it_says_fails(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from taxonomy import causes, seen\n"
        "@causes('busy')\ndef test_does(): seen('busy')\n"
        "@causes('busy')\ndef test_does_not(): pass\n"
        "@causes('busy', 'stopped')\ndef test_does_half(): seen('stopped')\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "test_it.py"]
    said = subprocess.run(
        words,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    ).stdout
    assert "2 failed, 1 passed" in said
    for name in ("test_does_not", "test_does_half"):
        assert f"FAILED test_it.py::{name} - Failed: it does not cause busy\n" in said


def test_what_is_permanent_is_never_done_again() -> None:
    again = {Remedy.retry, Remedy.retry_longer, Remedy.retry_larger, Remedy.repeat, Remedy.remake, Remedy.go_on}
    for reason in REASONS.values():
        assert (reason.remedy in again) is reason.transient, reason.name
        of_a_scene = {Remedy.repeat, Remedy.remake, Remedy.go_on, Remedy.stop}
        assert reason.of_a_pixel is (reason.remedy not in of_a_scene), reason.name
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
