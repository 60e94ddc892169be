"""
How do particles fly on a CUDA card?

One thread a particle, many receptors in a launch, an hour or so of minutes at a time. What a thread does is the same
code that the CPU runs: numba compiles `engine.move`, and all below it, once more for the card.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from stilt_assets.errors import CannotExecuteError
from stilt_assets.transport.native.compiled import compiled
from stilt_assets.transport.native.engine import Flight, Met, move
from stilt_assets.transport.native.winds import moment_of

TOLD = ("lon", "lat", "zagl", "pres", "dens", "foot", "samt", "mlht", "sigw", "tlgr")
THREADS = 128  # of a block: a particle needs some 220 registers, of which a multiprocessor has 65,536

_CARDS: list[tuple[Met, "Card"]] = []  # at most one: a scene has one meteorology


class Story(NamedTuple):
    """What minutes were like for all particles of all receptors."""

    flies: np.ndarray  # (receptor, minute, particle) int8, whether a particle has this minute
    told: np.ndarray  # (receptor, minute, TOLD, particle) float64, as in `Flight`


class Card:
    """A meteorology on a card, and what flies there. CannotExecuteError if there is no card, or no numba-cuda."""

    def __init__(self, met: Met) -> None:
        _kernel()
        arrays = {name: cuda.to_device(value) for name, value in met._asdict().items() if isinstance(value, np.ndarray)}
        self.met = met._replace(**arrays)

    def fly(
        self, flights: Sequence[Flight], seeds: Sequence[int], releases: Sequence[int], first: int, last: int
    ) -> Story:
        """
        The minutes from `first` to `last` after the releases (minutes since 1970); `flights` are moved in place.

        All flights have as many particles; the k-th has the k-th of the seeds and releases.
        """
        receptors, particles = len(flights), len(flights[0].flies)
        minutes = last - first + 1
        together: Any = Flight(*(cuda.to_device(np.stack(arrays)) for arrays in zip(*flights, strict=True)))
        story: Any = Story(
            cuda.to_device(np.zeros((receptors, minutes, particles), "i1")),
            cuda.to_device(np.zeros((receptors, minutes, len(TOLD), particles))),
        )
        blocks = (-(-particles // THREADS), receptors)
        given = (cuda.to_device(np.array(seeds, "u8")), cuda.to_device(np.array(releases, "i8")))
        _kernel()[blocks, THREADS](self.met, together, *given, first, last, *story)
        for name, arrays in zip(Flight._fields, together, strict=True):
            for flight, row in zip(flights, arrays.copy_to_host(), strict=True):
                getattr(flight, name)[:] = row
        return Story(*(each.copy_to_host() for each in story))


def card_with(met: Met) -> Card:
    """The card of this process with a meteorology on it, copied there if another one is."""
    if not _CARDS or _CARDS[0][0] is not met:
        _CARDS[:] = [(met, Card(met))]
    return _CARDS[0][1]


def retold(story: Story, receptor: int, minute: int, flight: Flight) -> None:
    """Make a flight look as it did after a minute (0 is the first) of its story; not what it remembers."""
    flight.flies[:] = story.flies[receptor, minute]
    for number, name in enumerate(TOLD):
        getattr(flight, name)[:] = story.told[receptor, minute, number]


@compiled(allocates=True)
def flight_of(flights, receptor):
    """One receptor's part of a flight whose arrays are (receptor, particle)."""
    return Flight(
        flights.flies[receptor],
        flights.x[receptor],
        flights.y[receptor],
        flights.zeta[receptor],
        flights.ratio[receptor],
        flights.gust_x[receptor],
        flights.gust_y[receptor],
        flights.lon[receptor],
        flights.lat[receptor],
        flights.zagl[receptor],
        flights.pres[receptor],
        flights.dens[receptor],
        flights.foot[receptor],
        flights.samt[receptor],
        flights.mlht[receptor],
        flights.sigw[receptor],
        flights.tlgr[receptor],
    )


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """`_fly`, to be compiled for the card. CannotExecuteError without one."""
    if not (os.environ.get("NUMBA_ENABLE_CUDASIM") or cuda.is_available()):
        raise CannotExecuteError(
            "device: gpu needs a CUDA card, and none is to be seen; install stilt-assets[gpu] where one is, or take cpu"
        )
    return cuda.jit(_fly)


def _fly(met, flights, seeds, releases, first, last, flies, told):
    """What one thread does: `first` to `last` minutes of one particle."""
    i, receptor = cuda.grid(2)  # pyright: ignore[reportCallIssue]  numba fills in the rest
    if i >= flights.flies.shape[1] or flights.flies[receptor, i] == 0:
        return
    flight = flight_of(flights, receptor)
    for minute in range(first, last + 1):
        at = releases[receptor] - minute + 1
        if move(met, flight, i, seeds[receptor], minute - 1, moment_of(met, at), moment_of(met, at - 1)) == 0:
            return
        flies[receptor, minute - first, i] = 1
        row = told[receptor, minute - first]
        row[0, i], row[1, i], row[2, i] = flight.lon[i], flight.lat[i], flight.zagl[i]
        row[3, i], row[4, i], row[5, i] = flight.pres[i], flight.dens[i], flight.foot[i]
        row[6, i], row[7, i], row[8, i] = flight.samt[i], flight.mlht[i], flight.sigw[i]
        row[9, i] = flight.tlgr[i]
