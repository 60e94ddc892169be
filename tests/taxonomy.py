"""
Which reasons does a test bring about, and did it?

A test that is marked with `causes("timeout")` fails unless it has shown "timeout" to `seen`: as an error, an outcome, a
result's metadata or a program says it, never as the test itself writes it.
"""

import pytest

causes = pytest.mark.causes
_seen: set[str] = set()


def seen(reason: str) -> str:
    """Note the word that a failure gives as its reason."""
    _seen.add(reason)
    return reason


def seen_at_the_end(line: str) -> str:
    """Note the word in brackets with which a command's line ends."""
    return seen(line.removesuffix(")").rpartition(" (")[2])


def forget() -> None:
    """Begin another test."""
    _seen.clear()


def not_seen(test: pytest.Item) -> set[str]:
    """Reasons that a test says it brings about and has not seen."""
    return {word for mark in test.iter_markers("causes") for word in mark.args} - _seen
