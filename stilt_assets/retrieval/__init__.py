"""
What did the satellite measure, as one table?

One product, one file (`tropomi`, `oco`, …): each knows one layout, and all give the same table. `reading` chooses the
good pixels, `damage` knows what no intact file says, and `apart` keeps a damaged file's harm to a process of its own.
Which good pixels are worth running, `masks` says; neighbours become one in `aggregation`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from stilt_assets.errors import RetrievalError, UsageError
from stilt_assets.faults import steadily
from stilt_assets.filesystem import opened
from stilt_assets.retrieval.aggregation import aggregated
from stilt_assets.retrieval.apart import read_apart
from stilt_assets.retrieval.masks import Outside, thinned, without_masked
from stilt_assets.retrieval.reading import PRODUCTS, Bounds, Retrieval
from stilt_assets.scratch import folder
from stilt_assets.settings import is_url, without_credentials
from stilt_assets.settings.pixels import PixelSettings

__all__ = ["CODE", "PRODUCTS", "Bounds", "Retrieval", "read_retrieval", "readable", "worth_running"]

CODE = "1"


@contextmanager
def readable(location: str) -> Iterator[Path]:
    """A retrieval file (path or URL) as a path of this machine, for the length of a block. RetrievalError."""
    if not is_url(location):
        yield Path(location)
        return
    without_credentials(location, "the retrieval file")
    with folder() as place:
        copy = place / (Path(urlsplit(location).path).name or "retrieval")
        try:
            fs, path = opened(location, "the retrieval file"), location
            if not steadily("looking for", location, lambda: fs.exists(path)):
                raise FileNotFoundError("no such file")
            steadily("fetching", location, lambda: fs.get_file(path, str(copy)))
        except (UsageError, ValueError, FileNotFoundError) as error:
            raise RetrievalError(f"cannot fetch {location}: {' '.join(str(error).split())}") from error
        yield copy


def read_retrieval(location: str, bounds: Bounds) -> Retrieval:
    """
    The pixels of a retrieval file (path or URL) inside `bounds` (west, south, east, north, degrees).

    Raises RetrievalError if the file is of no known product, damaged, or lacks a variable.
    """
    with readable(location) as path:
        if not path.is_file():
            raise RetrievalError(f"no retrieval file {location}")
        return read_apart(path, bounds, Path(location).name)


def worth_running(found: Retrieval, chosen: PixelSettings, outside: Outside | None = None) -> Retrieval:
    """
    What of the good pixels is run: masks first, then neighbours become one, then some are left out.

    `outside` says which pixels lie outside the meteorology, if they are to be left out.
    """
    if not len(found.pixels) or (not chosen.given and outside is None):
        return found
    kept = without_masked(replace(found, begins=found.time), chosen, outside)
    return thinned(kept if chosen.aggregate is None else aggregated(kept, chosen.aggregate), chosen)
