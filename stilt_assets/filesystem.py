"""
How is the file system behind a folder or URL opened?

It remembers no listing, as others write too; it leaves trying again to `faults`; and it logs nothing that may hold a
credential.
"""

import logging
from typing import Any

import fsspec
from fsspec.config import conf

from stilt_assets.errors import UsageError
from stilt_assets.faults import in_words, redacted
from stilt_assets.settings import is_url

# They tell, with a traceback, what is raised as well or was tried again: gcsfs with URLs as they are, asyncio of writes
# to a connection that is gone.
_LOUD = tuple(map(logging.getLogger, ("gcsfs", "asyncio")))


def opened(location: str, what: str) -> Any:
    """The fsspec file system of a location, which the error calls `what`. UsageError if there can be none."""
    for logger in _LOUD if is_url(location) else ():
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)
    try:
        with in_words(f"opening {what}", redacted(location)):
            return fsspec.core.url_to_fs(location, **options_of(location))[0]
    except (ImportError, ValueError) as error:
        raise UsageError(redacted(f"cannot open {what} {location}: {error}")) from error


def options_of(location: str) -> dict[str, Any]:
    """What fsspec, and zarr which uses it, is told of a location."""
    if not is_url(location) or location.startswith(("file://", "local://")):
        return {}
    if not location.startswith(("s3://", "s3a://")):
        return {"use_listings_cache": False}
    given = conf.get("s3", {}).get("config_kwargs", {})
    # botocore's five tries inside each of s3fs's five make minutes of one refused connection
    retries = {"retries": {"total_max_attempts": 1}}
    # With more at once s3fs asks for the size of each object before it reads it.
    return {"use_listings_cache": False, "config_kwargs": retries | given, "max_concurrency": 1}
