"""How far are the packs of a share, and what of it is worth a line?"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far the packs of a share are."""

    pixels_done: int
    pixels: int
    packs_done: int
    packs: int
    brought: int = 0  # pixels that this process gave an outcome; the others were there before
    waits: str = ""  # for whom, if all that is left is in the hands of others


def waits_in_lines(say: Callable[[str], None]) -> Callable[[Progress], None]:
    """A listener to progress that says for whom it waits, once each."""
    told = set[str]()

    def tell(state: Progress) -> None:
        if state.waits and state.waits not in told:
            told.add(state.waits)
            say(f"waits: {state.waits}")

    return tell


def in_lines(say: Callable[[str], None], part: Callable[[Progress], Hashable]) -> Callable[[Progress], None]:
    """A listener to progress that says how far it is, once for each `part` of it, and for whom it waits."""
    told, tell_waits = set[Hashable](), waits_in_lines(say)

    def tell(state: Progress) -> None:
        if part(state) not in told:
            told.add(part(state))
            say(f"{state.pixels_done} of {state.pixels} pixels, {state.packs_done} of {state.packs} packs")
        tell_waits(state)

    return tell
