"""Where is a real control plane? etcd, kube-apiserver and kube-controller-manager as processes of this machine."""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

from cluster import kubeconfig
from cluster.objects import RefusedError
from cluster.remote import Remote

VARIABLE = "STILT_ASSETS_CONTROL_PLANE"  # the folder with the three programs: control_plane.sh fills one
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
# Without those of nodes: ours says nothing of itself, and its pods would be taken away.
_CONTROLLERS = "garbagecollector,job,namespace,resourcequota,root-ca-cert-publisher,serviceaccount,serviceaccount-token"
_CLOSED = 24  # minor version from which on there is no port without TLS that would have to be closed
_READY = 300  # s


@dataclass(frozen=True)
class ControlPlane:
    """One that runs."""

    url: str
    token: str  # of who may do everything
    certificate: Path  # the server's own, which it signed itself
    key: Path
    version: str

    def objects(self, token: str | None = None) -> Remote:
        """What it keeps, as seen by a token's owner; without a word, by who may do everything."""
        return Remote(self.url, self.token if token is None else token, self.certificate)


def programs() -> Path:
    """The folder of the programs."""
    return Path(os.environ.get(VARIABLE, "/var/tmp/stilt-assets-control-plane/bin"))


def missing() -> str:
    """Why there can be no control plane here; empty if there can."""
    absent = [name for name in PROGRAMS if not (programs() / name).is_file()]
    return f"no {', '.join(absent)} in {programs()}: run tests/cluster/control_plane.sh, or set {VARIABLE}" * bool(
        absent
    )


@contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """A control plane with nothing in it. All that it started ends with it."""
    certificate, key, token = folder / "server.crt", folder / "server.key", secrets.token_hex(16)
    _sign(certificate, key)
    (folder / "tokens").write_text(f'{token},admin,admin,"system:masters"\n')
    store, peers, port = _free_port(), _free_port(), _free_port()
    url = f"https://127.0.0.1:{port}"
    (folder / "admin").write_text(kubeconfig(url, certificate.read_bytes(), {"token": token}))
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(_start(folder, "etcd", _of_etcd(folder, store, peers)))
        started.append(_start(folder, "kube-apiserver", _of_server(folder, store, port)))
        found = ControlPlane(url, token, certificate, key, "")
        version = _wait(found.objects(), started, folder)
        started.append(_start(folder, "kube-controller-manager", _of_controllers(folder, version)))
        yield ControlPlane(url, token, certificate, key, version)
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def _of_etcd(folder: Path, port: int, peers: int) -> dict[str, str]:
    here, between = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    return {
        "data-dir": str(folder / "etcd-data"),
        "listen-client-urls": here,
        "advertise-client-urls": here,
        "listen-peer-urls": between,
        "initial-advertise-peer-urls": between,
        "initial-cluster": f"default={between}",
    }


def _of_server(folder: Path, store: int, port: int) -> dict[str, str]:
    return {
        "etcd-servers": f"http://127.0.0.1:{store}",
        "bind-address": "127.0.0.1",
        "advertise-address": "127.0.0.1",
        "endpoint-reconciler-type": "none",
        "secure-port": str(port),
        "tls-cert-file": str(folder / "server.crt"),
        "tls-private-key-file": str(folder / "server.key"),
        "authorization-mode": "RBAC",
        "token-auth-file": str(folder / "tokens"),
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-signing-key-file": str(folder / "server.key"),
        "service-account-key-file": str(folder / "server.key"),
        "service-cluster-ip-range": "10.0.0.0/24",
        "kubelet-preferred-address-types": "InternalIP",
    }


def _of_controllers(folder: Path, version: str) -> dict[str, str]:
    minor = int(version.removeprefix("v").split(".")[1])
    open_door = {"port": "0"} if minor < _CLOSED else {}
    return open_door | {
        "kubeconfig": str(folder / "admin"),
        "controllers": _CONTROLLERS,
        "service-account-private-key-file": str(folder / "server.key"),
        "root-ca-file": str(folder / "server.crt"),
        "leader-elect": "false",
        "secure-port": "0",
    }


def _start(folder: Path, name: str, options: dict[str, str]) -> subprocess.Popen[bytes]:
    words = [f"--{option}={value}" for option, value in options.items()]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen([programs() / name, *words], stdout=log, stderr=log, cwd=folder)


def _wait(objects: Remote, started: list[subprocess.Popen[bytes]], folder: Path) -> str:
    """The version of a server that is ready."""
    end = time.monotonic() + _READY
    while True:
        ended = [str(process.args) for process in started if process.poll() is not None]
        logs = "".join(log.read_text(errors="replace")[-3000:] for log in folder.glob("*.log"))
        assert not ended, logs
        try:
            if objects.ask("GET", "readyz")["text"] == "ok":
                return objects.ask("GET", "version")["gitVersion"]
        except (urllib3.exceptions.HTTPError, RefusedError):
            pass
        assert time.monotonic() < end, logs
        time.sleep(0.2)


def _sign(certificate: Path, key: Path) -> None:
    """A certificate of 127.0.0.1, signed by itself."""
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["-nodes", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", *made, *names], check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]
