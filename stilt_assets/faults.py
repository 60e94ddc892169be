"""
What does it mean when a disk or an object store fails?

Each failure of storage becomes one error with a reason and one line that shows no credentials; what may pass is tried
again. Libraries are known by the names of their exceptions: none is loaded for it. A bug passes as it came.
"""

import errno
import logging
import random
import re
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic, sleep
from types import TracebackType
from typing import Any, TypeVar

from stilt_assets.errors import DamagedError, DiskFullError, StiltAssetsError, StoreError

_Value = TypeVar("_Value")
_log = logging.getLogger(__name__)

TRIES = 5  # of one request; with the pauses between them a store has some ten seconds to come back
FIRST_PAUSE = 0.5  # s; each next one is twice as long, and each up to half longer or shorter, so that processes part
PATIENCE = 20.0  # s after which no new try begins: a library that was patient itself is not asked five times
_LINE = 400  # characters of what a library says

# ---- credentials

_HIDDEN = "***"
_TELLTALE = (
    r"[\w.-]*(?:signature|credential|secret|token|passw(?:or)?d|accessid|(?:access|api|account|private)[_-]?key)[\w.-]*"
)
_CREDENTIALS = (
    (re.compile(r"(://)[^/\s@'\"]+@"), rf"\1{_HIDDEN}@"),
    (re.compile(r"(://)[^/\s@:'\"]+:(?!\d+/)[^\s@'\"]+@"), rf"\1{_HIDDEN}@"),  # a password with slashes
    (re.compile(rf"([?&;](?:{_TELLTALE}|sig|key|code|auth)=)[^&\s'\"<>)]+", re.I), rf"\1{_HIDDEN}"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.S), _HIDDEN),
    (re.compile(rf"(\b{_TELLTALE}[\"']?\s*[:=]\s*[\"']?)[^&\s'\",;<>]+", re.I), rf"\1{_HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.I), rf"\1 {_HIDDEN}"),
    (re.compile(r"(\bAuthorization[\"']?\s*[:=]\s*[\"']?[\w-]+\s+)(?!\*)[^\s,'\"]+", re.I), rf"\1{_HIDDEN}"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"), _HIDDEN),
    (re.compile(r"\bya29\.[\w.-]+"), _HIDDEN),
)


def redacted(text: str) -> str:
    """A text without the credentials that URLs and messages may hold."""
    for pattern, instead in _CREDENTIALS:
        text = pattern.sub(instead, text)
    return text


# ---- reasons

_FULL = {errno.ENOSPC, errno.EDQUOT}
_GONE = {errno.ENOENT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_AWAY = {
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ESTALE,
    getattr(errno, "EREMOTEIO", errno.ESTALE),  # s3fs says so of an internal error of S3; macOS has no such number
}
_BY_STATUS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "denied",
    HTTPStatus.FORBIDDEN: "denied",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "denied",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.GONE: "not_found",
    HTTPStatus.REQUEST_TIMEOUT: "unreachable",
    HTTPStatus.TOO_MANY_REQUESTS: "throttled",
    HTTPStatus.SERVICE_UNAVAILABLE: "throttled",
    HTTPStatus.INSUFFICIENT_STORAGE: "disk_full",
}
# Codes of S3 which say more than the status that comes with them.
_BY_CODE = {
    "SlowDown": "throttled",
    "RequestLimitExceeded": "throttled",
    "Throttling": "throttled",
    "ThrottlingException": "throttled",
    "TooManyRequests": "throttled",
    "RequestTimeout": "unreachable",
    "InternalError": "unreachable",
    "AuthorizationHeaderMalformed": "denied",
    "ExpiredToken": "denied",
    "InvalidToken": "denied",
    "TokenRefreshRequired": "denied",
    "NoSuchBucket": "not_found",
    "NoSuchKey": "not_found",
}
# What libraries raise which carries neither errno nor status, by package and by a name in the class's ancestry.
_BY_CLASS = {
    "botocore": {
        "HTTPClientError": "unreachable",
        "ConnectionError": "unreachable",
        "ResponseParserError": "unreachable",
        "IncompleteReadError": "unreachable",
        "NoCredentialsError": "denied",
        "PartialCredentialsError": "denied",
        "CredentialRetrievalError": "denied",
        "TokenRetrievalError": "denied",
        "SSOError": "denied",
        "ProfileNotFound": "denied",
        "NoAuthTokenError": "denied",
    },
    "aiobotocore": {"HTTPClientError": "unreachable"},
    "aiohttp": {"ClientError": "unreachable"},
    "gcsfs": {"ChecksumError": "unreachable"},
    "google": {
        "TransportError": "unreachable",
        "TimeoutError": "unreachable",
        "RetryError": "unreachable",
        "GoogleAuthError": "denied",
    },
    "requests": {"RequestException": "unreachable"},
    "urllib3": {"HTTPError": "unreachable"},
    "http": {"HTTPException": "unreachable"},
    "urllib": {"URLError": "unreachable"},
    "fsspec": {},
    "s3fs": {},
}


def reason_of(error: BaseException) -> str | None:
    """The reason of a storage failure, as the table of reasons names it; None if it is no failure of storage."""
    said = _own_reason(error)
    if said == "store" and error.__cause__ is not None:
        return reason_of(error.__cause__) or said
    return said


def _own_reason(error: BaseException) -> str | None:
    library = type(error).__module__.partition(".")[0]
    if not isinstance(error, OSError) and library not in _BY_CLASS:
        # gcsfs says so of names that the service does not take
        return "store" if isinstance(error, ValueError) and str(error).startswith("Bad Request: ") else None
    if isinstance(error, OSError) and (by_system := _system_reason(error)):
        return by_system
    if getattr(error, "retryable", False) is True:
        return "unreachable"
    return _answer_reason(error) or _class_reason(error, library) or "store"


def _system_reason(error: OSError) -> str | None:
    if type(error).__module__ in {"socket", "ssl"}:
        return "unreachable"  # the numbers of these are no errno
    if error.errno in _FULL:
        return "disk_full"
    if isinstance(error, FileNotFoundError) or error.errno in _GONE:
        return "not_found"
    if isinstance(error, PermissionError) or error.errno in _REFUSED or str(error).startswith("Forbidden: "):
        return "denied"
    return "unreachable" if isinstance(error, ConnectionError | TimeoutError) or error.errno in _AWAY else None


def _answer_reason(error: BaseException) -> str | None:
    """What the service answered: the code of an S3 error, or the status of HTTP."""
    response: Any = getattr(error, "response", None)
    status: Any = getattr(response, "status_code", None)
    if isinstance(response, dict):
        code = str(response.get("Error", {}).get("Code", ""))
        if code in _BY_CODE:
            return _BY_CODE[code]
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") or code
    for name in ("status", "code"):
        status = getattr(error, name, None) if status is None else status
    if not isinstance(status, int | str) or not str(status).isdigit():
        return None
    return _BY_STATUS.get(int(status)) or ("unreachable" if int(status) // 100 == 5 else None)


def _class_reason(error: BaseException, library: str) -> str | None:
    named = _BY_CLASS.get(library, {})
    return next((named[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in named), None)


# ---- words


def in_words(doing: str, where: object) -> "_InWords":
    """A block whose storage failures are told in one line: StoreError or DiskFullError, with their reason."""
    return _InWords(doing, redacted(str(where)))


class _InWords:
    def __init__(self, doing: str, where: str) -> None:
        self.doing, self.where = doing, where

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, StiltAssetsError):
            return
        reason = reason_of(error)
        if reason is not None:
            raise self._told(error, reason) from (None if _shows_credentials(error) else error)

    def _told(self, error: BaseException, reason: str) -> StoreError:
        elsewhere = getattr(error, "filename", None)
        elsewhere = redacted(elsewhere) if isinstance(elsewhere, str) else ""
        other = f" ({elsewhere})" if elsewhere not in self.where else ""
        if reason == "disk_full":
            return DiskFullError(f"no room left while {self.doing} {self.where}{other}; free some space and run again")
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        line = redacted(" ".join(f"{said}".split())) + other
        return StoreError(f"{self.doing} {self.where} failed: {line[:_LINE]}", reason)


def _shows_credentials(error: BaseException) -> bool:
    """Whether a traceback of this error, or of one that it came from, would show credentials."""
    come_from: BaseException | None = error
    while come_from is not None:
        if redacted(str(come_from)) != str(come_from):
            return True
        come_from = come_from.__cause__ or come_from.__context__
    return False


def steadily(doing: str, where: str, act: Callable[[], _Value]) -> _Value:
    """What `act` returns; it is tried again while a store is throttled or unreachable, for some ten seconds."""
    begun = monotonic()
    for number in range(1, TRIES + 1):
        try:
            with in_words(doing, where):
                return act()
        except StoreError as error:
            pause = FIRST_PAUSE * 2 ** (number - 1) * random.uniform(0.5, 1.5)
            passing = error.reason in {"throttled", "unreachable"}
            if not passing or number == TRIES or monotonic() + pause - begun > PATIENCE:
                raise
            _log.info("%s; trying again in %.1f s", error, pause)
        sleep(pause)
    raise AssertionError("the last try returns or raises")


# ---- damage

_READERS = {"pyarrow", "zipfile", "zlib", "json"}


def intact(path: str, *also: type[Exception]) -> "_Intact":
    """A block that reads a file's content; DamagedError if that is bad, as its reader or an error of `also` says."""
    return _Intact(path, also)


class _Intact:
    def __init__(self, path: str, also: tuple[type[Exception], ...]) -> None:
        self.path, self.also = path, also

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not (_is_damage(error) or isinstance(error, self.also)):
            return
        said = " ".join(str(error).split()) or type(error).__name__
        raise DamagedError(f"{redacted(self.path)} is damaged: {said[:_LINE]}", self.path) from error


def _is_damage(error: BaseException) -> bool:
    """Whether a reader found a content that is not what it should be; Arrow tells of some as of a bare OSError."""
    if isinstance(error, MemoryError | StiltAssetsError):
        return False
    bare = type(error) is OSError and error.errno is None and error.__cause__ is None and reason_of(error) == "store"
    known = type(error).__module__.partition(".")[0] in _READERS
    return bare or known or isinstance(error, UnicodeDecodeError | EOFError)
