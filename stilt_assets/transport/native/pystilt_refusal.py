"""
How does PYSTILT learn why one of many receptors has no particles?

PYSTILT takes one table and one log from a batched model, and says NO_PARTICLE_DATA of each receptor without rows. It
parts the table by receptor and asks each part whether it is empty; a SimulationError raised there is recorded with that
receptor alone. So the part of a receptor that failed answers with its own.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NoReturn, Self

import pandas as pd
from stilt.exceptions import SimulationError

from stilt_assets.errors import TransportError

WAY_OUT = "set `model: hysplit`"
NOT_COVERED = "NOT_COVERED"


class Refusal(SimulationError):
    """Why one receptor has no particles. Its log stays its own: PYSTILT hands each receptor the log of all."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "log" or not self.log:
            super().__setattr__(name, value)


def refusal(error: SimulationError | TransportError) -> Refusal:
    """An expected failure as PYSTILT is to hear of it."""
    message = str(error).replace("lower `simulation.top`", "lower the receptor")  # which is no setting of PYSTILT's
    return Refusal(message, error.reason, f"{error.reason}: {message}\n")


def told_apart(particles: pd.DataFrame, refused: Mapping[str, Refusal]) -> pd.DataFrame:
    """Particles with a column `receptor`, which tell PYSTILT why others have none, by their ids."""
    return _Particles(particles, refused) if refused else particles


class _Particles(pd.DataFrame):
    """Particles of many receptors. Of their groups those that have no particles come last."""

    _metadata = ["_refused"]  # noqa: RUF012  pandas' way to name what is no column

    def __init__(self, particles: pd.DataFrame, refused: Mapping[str, Refusal]) -> None:
        super().__init__(particles)
        self._refused = refused

    # A part need not be a table: PYSTILT asks no more of this one.
    def groupby(self, *by: Any, **how: Any) -> Iterator[tuple[Any, Any]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        nothing = ((receptor, _Nothing(why)) for receptor, why in self._refused.items())
        return chain(super().groupby(*by, **how), nothing)


class _Nothing:
    """The particles of a receptor that has none: whoever looks at them is told why."""

    def __init__(self, why: Refusal) -> None:
        self._why = why

    def drop(self, *, columns: str) -> Self:  # noqa: ARG002  there are none
        return self

    def reset_index(self, *, drop: bool) -> Self:  # noqa: ARG002  there is none
        return self

    @property
    def empty(self) -> NoReturn:
        raise self._why
