"""How is an array of a Zarr store read, from a disk or from a bucket?"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import zarr

from stilt_assets.faults import steadily
from stilt_assets.filesystem import options_of

_Value = TypeVar("_Value")


def opened_group(path: Any) -> zarr.Group:
    """The root group of what zarr opens, to read. StoreError if a bucket does not give it."""
    return _of_a_bucket(path, "", lambda options: zarr.open_group(path, mode="r", storage_options=options))


def read_array(path: Any, name: str) -> np.ndarray:
    """One whole array of a Jacobian (what zarr opens), by its path below the root, such as `H/data`."""

    def read(options: dict[str, Any] | None) -> np.ndarray:
        array = zarr.open_group(path, mode="r", storage_options=options)[name]
        return np.asarray(array[...])  # pyright: ignore[reportArgumentType, reportCallIssue]

    return _of_a_bucket(path, f"/{name}", read)


def _of_a_bucket(path: Any, name: str, read: Callable[[dict[str, Any] | None], _Value]) -> _Value:
    """What `read` returns, tried again if it comes over a network."""
    options = options_of(path) if isinstance(path, str) else {}
    return steadily("reading", f"{path}{name}", lambda: read(options)) if options else read(None)
