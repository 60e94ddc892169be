"""
How is a Zarr folder written so that nothing writes there any more once its writer has given up?

zarr-python writes chunks at the same time, and when one of them fails, as on a full disk, it raises at once and lets
the others go on. They would make the folder anew while it is taken away.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zarr.abc.store import Store
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore, WrapperStore


class Ending(WrapperStore[Store]):
    """A store that takes writes until it is ended."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._change = threading.Condition()
        self._writes = 0
        self._ended = False

    def end(self) -> None:
        """Refuse every further write and wait for those under way."""
        with self._change:
            self._ended = True
            self._change.wait_for(lambda: not self._writes)

    @contextmanager
    def _write(self) -> Iterator[None]:
        with self._change:
            if self._ended:
                raise PermissionError("the store takes no more writes")
            self._writes += 1
        try:
            yield
        finally:
            with self._change:
                self._writes -= 1
                self._change.notify_all()

    async def set(self, key: str, value: Buffer) -> None:
        """Write one value; PermissionError once the store has ended."""
        with self._write():
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write one value unless there is one; PermissionError once the store has ended."""
        with self._write():
            await super().set_if_not_exists(key, value)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        with self._write():
            await super()._set_many(values)


@contextmanager
def zarr_folder(place: Path) -> Iterator[Store]:
    """A store at a folder; nothing writes there after the block, however it ends."""
    store = Ending(LocalStore(place))
    try:
        yield store
    finally:
        store.end()
