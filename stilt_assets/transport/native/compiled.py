"""
How is a function compiled, and where is its machine code kept?

Machine code is kept for the next process in a folder of this user, named by a digest of all sources of this package:
a function holds the code of those it calls, whose sources numba does not look at. The folder is `NUMBA_CACHE_DIR` if
that is set, else the user's cache, else the machine's scratch; an installation that cannot be written is none.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

import numba
from numba.core import config

from stilt_assets import scratch

_Function = Callable[..., Any]
_UNUSED = 30 * 86400.0  # s


def _digest() -> str:
    sources = [source.read_bytes() for source in sorted(Path(__file__).parent.glob("*.py"))]
    compiled_ones = b"".join(source for source in sources if re.search(rb"@compiled|@njit|NamedTuple", source))
    return hashlib.sha256(numba.__version__.encode() + compiled_ones).hexdigest()[:12]


def _folder() -> Path:
    """Where machine code is kept: a folder that only this user can write."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        base = Path(given) if given else Path(home).expanduser() / "stilt-assets"
        place = base / f"native-{_digest()}"
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(place, os.W_OK) and place.stat().st_uid == os.getuid():
            os.utime(place)
            _sweep(place)
            return place
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        pass
    place = scratch.root() / f"native-{_digest()}"
    place.mkdir(exist_ok=True, mode=0o700)
    return place


def _sweep(place: Path) -> None:
    """Take away the folders of other versions beside `place` that nobody has used for `_UNUSED`."""
    for other in place.parent.glob("native-*"):
        with suppress(FileNotFoundError):  # another process takes it away, too
            if other != place and time() - other.stat().st_mtime > _UNUSED:
                shutil.rmtree(other, ignore_errors=True)


FOLDER = _folder()


def compiled(function: _Function | None = None, *, allocates: bool = False, **options: Any) -> Any:
    """
    Compile a function when it is first called, to code that holds no lock of Python's, or take it as it was kept.

    Unless it `allocates` arrays, it counts no references to those that it is given, which its caller holds: counting
    takes half of a particle's time, and two threads would wait for each other's counts. So it may neither call a
    function that allocates nor hand on arrays to one; numba itself refuses only what makes arrays without saying so.
    """
    if function is None:
        return lambda later: compiled(later, allocates=allocates, **options)
    # `_nrt` is numba's own name for the counting, which it does not document; tests show that it does what is meant.
    options |= {"nogil": True, "cache": True, "_nrt": allocates}
    before = config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
    config.CACHE_DIR = str(FOLDER)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return numba.njit(**options)(function)
    finally:
        config.CACHE_DIR = before  # pyright: ignore[reportAttributeAccessIssue]
