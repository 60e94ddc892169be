"""Whatever a disk, a network or a library says becomes one reason and one line; a bug stays a bug."""

import errno
import http.client
import json
import os
import socket
import ssl
import urllib.error
import zipfile
from typing import Any

import aiohttp
import botocore.exceptions as boto
import multidict
import pyarrow as pa
import pytest
import requests
import urllib3.exceptions
import yarl
from hypothesis import given
from hypothesis import strategies as st

from stilt_assets.errors import BusyError, DamagedError, DiskFullError, StoreError
from stilt_assets.faults import in_words, intact, reason_of, redacted, steadily
from stilt_assets.reasons import REASONS


def foreign(module: str, *names: str, **facts: Any) -> Exception:
    """An exception of a library: its class, after its ancestors."""
    kind: type[Exception] = Exception
    for name in names:
        kind = type(name, (kind,), {"__module__": module})
    error = kind("what it says")
    for name, value in facts.items():
        setattr(error, name, value)
    return error


def answer(code: str, status: int) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # pyright: ignore
        "PutObject",
    )


def because(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("refused", response=response)


def refused(status: int) -> aiohttp.ClientResponseError:
    url = yarl.URL("http://host/key")
    return aiohttp.ClientResponseError(
        aiohttp.RequestInfo(url, "GET", multidict.CIMultiDictProxy(multidict.CIMultiDict()), url), (), status=status
    )


def gcsfs(code: Any) -> Exception:
    return foreign("gcsfs.retry", "HttpError", code=code)


FAILURES = [
    # ---- the system
    (OSError(errno.ENOSPC, "full"), "disk_full"),
    (OSError(errno.EDQUOT, "full"), "disk_full"),
    (FileNotFoundError(errno.ENOENT, "gone"), "not_found"),
    (FileNotFoundError("bucket/key"), "not_found"),
    (PermissionError(errno.EACCES, "no"), "denied"),
    (PermissionError("Access Denied"), "denied"),
    (OSError(errno.EROFS, "read-only"), "denied"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "no"), "unreachable"),
    (BrokenPipeError(), "unreachable"),
    (TimeoutError(), "unreachable"),
    (OSError(errno.ENETUNREACH, "no"), "unreachable"),
    (OSError(errno.ESTALE, "stale"), "unreachable"),
    (socket.gaierror(socket.EAI_NONAME, "no such host"), "unreachable"),
    (ssl.SSLError(1, "handshake"), "unreachable"),
    (OSError(errno.EIO, "broken"), "store"),
    (OSError(errno.EBUSY, "busy"), "store"),
    (NotADirectoryError(errno.ENOTDIR, "file"), "store"),
    (OSError("something"), "store"),
    # ---- S3
    (answer("SlowDown", 503), "throttled"),
    (answer("503", 503), "throttled"),
    (answer("Throttling", 400), "throttled"),
    (answer("RequestTimeout", 400), "unreachable"),
    (answer("InternalError", 200), "unreachable"),
    (answer("502", 502), "unreachable"),
    (answer("AccessDenied", 403), "denied"),
    (answer("ExpiredToken", 400), "denied"),
    (answer("NoSuchBucket", 404), "not_found"),
    (answer("InvalidArgument", 400), "store"),
    (because(OSError(errno.EBUSY, "slow"), answer("SlowDown", 503)), "throttled"),
    (because(OSError(errno.EBUSY, "twice"), answer("OperationAborted", 409)), "store"),
    (because(OSError(errno.EINVAL, "token"), answer("InvalidToken", 400)), "denied"),
    (because(OSError(errno.EIO, "why?"), ValueError("a detail")), "store"),
    (boto.EndpointConnectionError(endpoint_url="u"), "unreachable"),
    (boto.ConnectTimeoutError(endpoint_url="u"), "unreachable"),
    (boto.ReadTimeoutError(endpoint_url="u"), "unreachable"),
    (boto.ConnectionClosedError(endpoint_url="u"), "unreachable"),
    (boto.HTTPClientError(error="e"), "unreachable"),
    (boto.NoCredentialsError(), "denied"),
    (boto.PartialCredentialsError(provider="p", cred_var="v"), "denied"),
    (boto.ProfileNotFound(profile="p"), "denied"),
    (boto.ParamValidationError(report="r"), "store"),
    # ---- Google
    (gcsfs(429), "throttled"),
    (gcsfs("503"), "throttled"),
    (gcsfs(500), "unreachable"),
    (gcsfs(401), "denied"),
    (gcsfs(404), "not_found"),
    (gcsfs(400), "store"),
    (gcsfs(None), "store"),
    (foreign("gcsfs.retry", "ChecksumError"), "unreachable"),
    (OSError("Forbidden: bucket/key\nno access"), "denied"),
    (ValueError("Bad Request: bucket/key\ninvalid"), "store"),
    (foreign("google.auth.exceptions", "GoogleAuthError", "DefaultCredentialsError"), "denied"),
    (foreign("google.auth.exceptions", "GoogleAuthError", "TransportError"), "unreachable"),
    (foreign("google.auth.exceptions", "GoogleAuthError", "RefreshError", retryable=True), "unreachable"),
    (foreign("google.auth.exceptions", "GoogleAuthError", "RefreshError", retryable=False), "denied"),
    (foreign("google.api_core.exceptions", "GoogleAPIError", "TooManyRequests", code=429), "throttled"),
    # ---- HTTP
    (aiohttp.ServerDisconnectedError(), "unreachable"),
    (aiohttp.ClientPayloadError("short"), "unreachable"),
    (refused(429), "throttled"),
    (refused(403), "denied"),
    (requests.ConnectionError("no"), "unreachable"),
    (requests.exceptions.ProxyError(), "unreachable"),
    (answered(404), "not_found"),
    (answered(507), "disk_full"),
    (urllib3.exceptions.ProtocolError("no"), "unreachable"),
    (http.client.IncompleteRead(b""), "unreachable"),
    (urllib.error.URLError("no"), "unreachable"),
]
BUGS = [
    TypeError("bug"),
    KeyError("bug"),
    ValueError("bug"),
    RuntimeError("bug"),
    MemoryError(),
    foreign("numpy.exceptions", "AxisError"),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize(("error", "reason"), FAILURES, ids=lambda value: repr(value)[:60])
def test_every_failure_of_storage_has_its_reason_and_one_line(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
    assert reason in REASONS
    with pytest.raises(StoreError) as caught, in_words("reading", "s3://b/k"):
        raise error
    assert caught.value.reason == reason
    assert isinstance(caught.value, DiskFullError) == (reason == "disk_full")
    assert "\n" not in str(caught.value)
    assert "reading s3://b/k" in str(caught.value)
    assert str(caught.value).split("failed:")[-1].strip()
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("bug", BUGS, ids=repr)
def test_a_bug_passes_as_it_came(bug: BaseException) -> None:
    with pytest.raises(type(bug)) as caught, in_words("reading", "x"), intact("x"):
        raise bug
    assert caught.value is bug


def test_what_has_a_reason_keeps_it() -> None:
    with pytest.raises(BusyError, match="as it was"), in_words("reading", "x"):
        raise BusyError("as it was")


# ---- again


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are written down instead of waited for."""
    pauses: list[float] = []
    monkeypatch.setattr("stilt_assets.faults.sleep", pauses.append)
    return pauses


def failing(times: int, error: Exception) -> Any:
    left = [error] * times

    def act() -> str:
        if left:
            raise left.pop()
        return "done"

    return act


@pytest.mark.parametrize("passing", [TimeoutError(), answer("SlowDown", 503)])
def test_what_may_pass_is_tried_five_times_with_growing_pauses(at_once: list[float], passing: Exception) -> None:
    assert steadily("reading", "x", failing(4, passing)) == "done"
    assert len(at_once) == 4
    for number, pause in enumerate(at_once):
        assert 0.25 * 2**number <= pause <= 0.75 * 2**number
    with pytest.raises(StoreError):
        steadily("reading", "x", failing(5, passing))
    assert len(at_once) == 8


def test_two_processes_do_not_come_back_at_the_same_moment(at_once: list[float]) -> None:
    for _ in range(5):
        steadily("reading", "x", failing(1, TimeoutError()))
    assert len(set(at_once)) == 5


@pytest.mark.parametrize("lasting", [PermissionError("no"), FileNotFoundError("no"), OSError(errno.EIO, "broken")])
def test_what_will_not_pass_is_tried_once(at_once: list[float], lasting: Exception) -> None:
    with pytest.raises(StoreError):
        steadily("reading", "x", failing(1, lasting))
    assert at_once == []


def test_a_library_that_was_patient_itself_is_asked_once(at_once: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 33.0])
    monkeypatch.setattr("stilt_assets.faults.monotonic", lambda: next(times))
    with pytest.raises(StoreError):
        steadily("reading", "x", failing(1, gcsfs(503)))
    assert at_once == []


# ---- damage


@pytest.mark.parametrize(
    "error",
    [
        OSError("CRC checksum verification failed"),
        pa.ArrowInvalid("no magic bytes"),
        zipfile.BadZipFile("no zip"),
        json.JSONDecodeError("no JSON", "x", 0),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        EOFError(),
    ],
    ids=repr,
)
def test_a_content_that_its_reader_refuses_is_damaged(error: Exception) -> None:
    damaged = pytest.raises(DamagedError, match=r"^s3://b/k is damaged: .+")
    with damaged as caught, in_words("reading", "x"), intact("s3://b/k"):
        raise error
    assert (caught.value.reason, caught.value.path) == ("damaged", "s3://b/k")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "broken"),
        OSError("Forbidden: no"),
        because(OSError("why?"), answer("SlowDown", 503)),
        ConnectionResetError(),
        pa.ArrowMemoryError("malloc failed"),
    ],
    ids=repr,
)
def test_a_content_that_could_not_be_fetched_is_not_damaged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, intact("x"):
        raise error
    assert caught.value is error


# ---- credentials

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"
TEXTS = [
    "https://user:{}@host/path",
    "https://{}@host/path".replace("{}", "token0123"),
    "s3://AKIAIOSFODNN7EXAMPLE:{}@bucket/x",
    "GET https://h/b/k?X-Amz-Algorithm=A&X-Amz-Credential={}&X-Amz-Signature={} failed",
    "https://h/b?X-Amz-Security-Token={}",
    "https://storage/b/k?GoogleAccessId={}&Expires=1&Signature={}",
    "https://h/b?sv=2020&sig={}&se=1",
    "https://h/b?key={}",
    "https://h/b?a=1&access_token={}",
    "aws_secret_access_key={}",
    '{"refresh_token": "{}"}'.replace("{", "{{", 1).replace("}}", "}}}}"),
    "Authorization: Bearer {}",
    "Authorization: Token {}",
    "{'x-api-key': '{}'}",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};EndpointSuffix=core",
    '"private_key": "-----BEGIN PRIVATE KEY-----\\nMII {}\\n-----END PRIVATE KEY-----\\n"',
    "Authorization: AWS4-HMAC-SHA256 Credential={}, SignedHeaders=host, Signature={}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_no_message_shows_credentials(text: str) -> None:
    full = text.replace("{}", SECRET)
    for error in (OSError(full), because(OSError("harmless"), OSError(full)), FileNotFoundError(2, full, full)):
        with pytest.raises(StoreError) as caught, in_words("reading", full):
            raise error
        shown = f"{caught.value} {caught.value.__cause__}"
        assert "***" in shown
        for secret in (SECRET, SECRET.rsplit("/", 1)[-1], "token0123", "AKIA"):
            assert secret not in shown
        assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/store/scenes/20190530T0958Z_tropomi_slc/pack=00001.parquet",
        "gs://bucket/a-b_c.d",
        "http://127.0.0.1:5000/bucket/key",
        "/home/someone/store/tokens/x",
        "no room left while writing /x; free some space and run again",
    ],
)
def test_what_is_no_credential_is_shown(text: str) -> None:
    assert redacted(text) == text


@given(st.text(st.characters(codec="ascii", exclude_characters=" /@\"'<>\n\r\t\f\v\x1c\x1d\x1e\x1f"), min_size=1))
def test_no_user_of_a_url_is_shown(user: str) -> None:
    assert redacted(f"s3://{user}@bucket/key") == "s3://***@bucket/key"


def test_a_disk_that_says_where_else_it_is_full_is_quoted() -> None:
    with pytest.raises(DiskFullError, match=r"while fetching s3://b/k \(/tmp/x\);"), in_words("fetching", "s3://b/k"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")
