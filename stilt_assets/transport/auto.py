"""
Which model does `transport: auto` take?

`native` for meteorology that it covers and for which its acceptance is green; `hysplit` for all other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stilt_assets.simulation import Simulation

AUTO, NATIVE, REFERENCE = "auto", "native", "hysplit"
ACCEPTED = frozenset({"HRRR"})  # source ids of ARL files for which all of `make fidelity` is green


@dataclass(frozen=True)
class Choice:
    """The model that moves particles."""

    transport: str
    why: str  # why it is not `native`; empty if nobody asked for a choice

    @property
    def line(self) -> str:
        """The same for people."""
        return f"{self.transport}: {self.why}" if self.why else self.transport


def choose(meteorology: Path, simulation: Simulation) -> Choice:
    """`native` if it may take this meteorology (an ARL file) and simulation, else `hysplit`, and why."""
    why_not = _not_accepted(meteorology) or _not_covered(meteorology, simulation)
    return Choice(REFERENCE, "; ".join(why_not)) if why_not else Choice(NATIVE, "it covers the meteorology")


def _not_accepted(meteorology: Path) -> Sequence[str]:
    import arlmet  # of no use where nobody asks for a choice

    with arlmet.File(meteorology) as file:
        source = file.source.strip()
    return [] if source in ACCEPTED else [f"native is not accepted for meteorology of {source or 'no name'} yet"]


def _not_covered(meteorology: Path, simulation: Simulation) -> Sequence[str]:
    from stilt_assets.transport.native.coverage import covers

    return covers(meteorology, simulation)
