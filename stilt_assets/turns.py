"""How long does one wait for packs that another process of this machine works on?"""

from time import monotonic, sleep

from stilt_assets.errors import BusyError
from stilt_assets.pack import Packs

_LOOK = 2.0  # s between looks at a pack


class Turns:
    """Packs that others hold, as long as they get on; a lock goes with its owner: nobody waits for the dead."""

    def __init__(self, packs: Packs, patience: float) -> None:
        self.packs, self.patience = packs, patience  # s without a further pixel
        self.taken: dict[int, tuple[BusyError, float]] = {}  # by number of the pack: why, and when that was seen
        self._seen: dict[int, int] = {}  # pixels that lie aside of each
        self._since = monotonic()

    def has_come(self, number: int) -> bool:
        """Whether it is time to ask for a pack: at once, and again some time after somebody else had it."""
        return number not in self.taken or monotonic() - self.taken[number][1] >= _LOOK

    def pass_by(self, number: int, why: BusyError) -> None:
        """Note that somebody else has a pack."""
        self.taken[number] = why, monotonic()

    def take(self, number: int) -> None:
        """Note that a pack is ours."""
        self.taken.pop(number, None)

    def wait(self) -> str:
        """Wait for a moment; who is waited for. BusyError if they have finished no pixel for too long."""
        seen = {number: len(self.packs.aside(number)) for number in self.taken}
        if seen != self._seen:
            self._seen, self._since = seen, monotonic()
        who, _ = next(iter(self.taken.values()))
        if monotonic() - self._since > self.patience:
            raise BusyError(f"{who}: it has finished no pixel for {self.patience:.0f} s")
        sleep(_LOOK)
        return str(who)
