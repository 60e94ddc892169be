"""Once the writing of a Zarr folder is over, nothing comes to life there again."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore, WrapperStore

from stilt_assets.zarr_folder import Ending, zarr_folder

SLOW = 0.3  # s


class FullForTheFirst(WrapperStore[LocalStore]):
    """A disk with no room for the first chunk of each array; the others take their time."""

    def __init__(self, store: LocalStore, written: list[str]) -> None:
        super().__init__(store)
        self.written = written

    async def set(self, key: str, value: Buffer) -> None:
        if key.endswith("c/0"):
            raise OSError(28, "No space left on device", key)
        await super().set(key, value)
        self.written.append(key)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    put: Callable[..., int] = zarr.storage._local._put

    def slowly(path: Path, value: Buffer, exclusive: bool = False) -> int:
        time.sleep(SLOW if "c" in path.parts else 0)
        return put(path, value, exclusive)

    monkeypatch.setattr(zarr.storage._local, "_put", slowly)


def fill(store: zarr.abc.store.Store) -> None:
    array = zarr.open_group(store, mode="w").create_array("x", shape=(40,), chunks=(10,), dtype="i4")
    array[...] = np.arange(1, 41)


def test_without_an_end_the_other_chunks_make_the_folder_anew(tmp_path: Path, slow_disk: None) -> None:
    place, written = tmp_path / "x.zarr", []
    with pytest.raises(OSError, match="No space left"):
        fill(FullForTheFirst(LocalStore(place), written))
    shutil.rmtree(place)
    time.sleep(3 * SLOW)
    assert place.exists()


def test_after_the_end_a_folder_that_is_taken_away_stays_away(tmp_path: Path, slow_disk: None) -> None:
    place, written = tmp_path / "x.zarr", []
    store = Ending(FullForTheFirst(LocalStore(place), written))
    with pytest.raises(OSError, match="No space left"):
        fill(store)
    store.end()
    at_the_end = list(written)
    shutil.rmtree(place)
    time.sleep(3 * SLOW)
    assert not place.exists()
    assert written == at_the_end


def test_a_folder_takes_no_write_after_its_block(tmp_path: Path) -> None:
    with zarr_folder(tmp_path / "x.zarr") as store:
        fill(store)
    assert zarr.open_group(tmp_path / "x.zarr", mode="r")["x"][39] == 40
    with pytest.raises(PermissionError, match="no more writes"):
        fill(store)
