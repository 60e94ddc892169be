"""What does an API server keep? Objects by kind, namespace and name; each change is told to whoever watches."""

import copy
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]


class RefusedError(Exception):
    """An answer other than success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


@dataclass(frozen=True)
class Change:
    """What a watcher is told."""

    version: int
    kind: str
    how: str  # ADDED, MODIFIED, DELETED
    object: Object


@dataclass
class Objects:
    """Every object of a cluster. What goes in and what comes out are copies."""

    changes: list[Change] = field(default_factory=list)
    told: threading.Condition = field(default_factory=threading.Condition)
    _kept: dict[tuple[str, str, str], Object] = field(default_factory=dict)

    def create(self, kind: str, namespace: str, given: Object) -> Object:
        """A new object, with what the server adds to it; 409 if the name is taken."""
        with self.told:
            key = (kind, namespace, given["metadata"]["name"])
            if key in self._kept:
                raise RefusedError(409, "AlreadyExists", f'{kind} "{key[2]}" already exists')
            kept = self._kept[key] = copy.deepcopy(given)
            kept["metadata"] |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": now()}
            return self._tell(kind, "ADDED", kept)

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """An object; 404 if there is none."""
        with self.told:
            return copy.deepcopy(self._found(kind, namespace, name))

    def uid(self, kind: str, namespace: str, name: str) -> str | None:
        """Of an object; None if there is none."""
        with self.told:
            kept = self._kept.get((kind, namespace, name))
            return kept and kept["metadata"]["uid"]

    def list(self, kind: str, namespace: str, labels: str = "", fields: str = "") -> list[Object]:
        """The objects that both selectors (`a=b,c!=d,e`) take."""
        with self.told:
            mine = [each for key, each in self._kept.items() if key[:2] == (kind, namespace)]
            return [copy.deepcopy(each) for each in mine if taken(each, labels, fields)]

    def change(self, kind: str, namespace: str, name: str, how: Callable[[Object], None]) -> Object | None:
        """Change an object; None if it is gone."""
        with self.told:
            kept = self._kept.get((kind, namespace, name))
            if kept is None:
                return None
            how(kept)
            return self._tell(kind, "MODIFIED", kept)

    def delete(self, kind: str, namespace: str, name: str) -> Object:
        """Take an object away; 404 if there is none."""
        with self.told:
            kept = self._found(kind, namespace, name)
            del self._kept[(kind, namespace, name)]
            return self._tell(kind, "DELETED", kept)

    def forget(self, kind: str) -> None:
        """Drop all objects of a kind."""
        with self.told:
            for namespace, name in [key[1:] for key in self._kept if key[0] == kind]:
                self.delete(kind, namespace, name)

    def watch(self, kind: str, namespace: str, since: int, seconds: float) -> Iterator[Change]:
        """Changes after a version, as they come, for so long."""
        end = datetime.now(UTC).timestamp() + seconds
        seen = since
        while (left := end - datetime.now(UTC).timestamp()) > 0:
            with self.told:
                new = [each for each in self.changes if each.version > seen]
                if not new:
                    self.told.wait(left)
                    continue
            seen = new[-1].version
            yield from (c for c in new if c.kind == kind and c.object["metadata"]["namespace"] == namespace)

    @property
    def version(self) -> int:
        """Of the last change."""
        return self.changes[-1].version if self.changes else 0

    def _found(self, kind: str, namespace: str, name: str) -> Object:
        if (kind, namespace, name) not in self._kept:
            raise RefusedError(404, "NotFound", f'{kind} "{name}" not found')
        return self._kept[(kind, namespace, name)]

    def _tell(self, kind: str, how: str, kept: Object) -> Object:
        kept["metadata"]["resourceVersion"] = str(self.version + 1)
        self.changes.append(Change(self.version + 1, kind, how, copy.deepcopy(kept)))
        self.told.notify_all()
        return copy.deepcopy(kept)


def now() -> str:
    """The time as Kubernetes writes it: UTC, to the second."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def taken(given: Object, labels: str, fields: str) -> bool:
    """Whether a label selector and a field selector take an object."""
    said: Mapping[str, str] = given["metadata"].get("labels") or {}
    return all(_holds(term, said.get) for term in _terms(labels)) and all(
        _holds(term, lambda name: _at(given, name)) for term in _terms(fields)
    )


def _terms(selector: str) -> list[str]:
    return [term.strip() for term in selector.split(",") if term.strip()]


def _at(given: Object, path: str) -> str | None:
    value: Any = given
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else str(value)


def _holds(term: str, value_of: Callable[[str], str | None]) -> bool:
    if "!=" in term:
        name, _, wanted = term.partition("!=")
        return value_of(name.strip()) != wanted.strip()
    name, equals, wanted = term.replace("==", "=").partition("=")
    found = value_of(name.strip())
    return found == wanted.strip() if equals else found is not None
