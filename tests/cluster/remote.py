"""What does a real API server keep? The same objects as ours, asked for over HTTPS."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import urllib3

from cluster.objects import Change, Object, Objects, RefusedError

_GROUPS = {
    "jobs": "apis/batch/v1",
    "networkpolicies": "apis/networking.k8s.io/v1",
    "rolebindings": "apis/rbac.authorization.k8s.io/v1",
    "roles": "apis/rbac.authorization.k8s.io/v1",
}
_WHOLE = {"namespaces", "nodes"}  # kinds that lie in no namespace
_LOOK = 5  # s that one watch lasts
_CONFLICT, _GONE, _NONE = 409, 410, 404


class Remote(Objects):
    """The objects of a real API server, seen by whoever has the token. `changes` are those of the kinds followed."""

    def __init__(self, url: str, token: str, authority: Path) -> None:
        super().__init__()
        self.url, self._made = url, set[tuple[str, str, str]]()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = urllib3.PoolManager(ca_certs=str(authority), headers=headers, maxsize=16, retries=False)

    def ask(self, method: str, path: str, body: Object | None = None) -> Object:
        """One answer; RefusedError if it is a refusal."""
        answer = self._http.request(method, f"{self.url}/{path}", json=body, timeout=60)
        if answer.status >= 400:
            said = answer.json() if answer.data.startswith(b"{") else {}
            raise RefusedError(answer.status, said.get("reason", ""), said.get("message", answer.data.decode()))
        return answer.json() if answer.data.startswith(b"{") else {"text": answer.data.decode()}

    def create(self, kind: str, namespace: str, given: Object) -> Object:
        """A new object; 409 if the name is taken."""
        made = self.ask("POST", place(kind, namespace), given)
        self._made.add((kind, namespace, made["metadata"]["name"]))
        return made

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """An object; 404 if there is none."""
        return self.ask("GET", place(kind, namespace, name))

    def uid(self, kind: str, namespace: str, name: str) -> str | None:
        """Of an object; None if there is none, or if it is to go."""
        try:
            metadata = self.get(kind, namespace, name)["metadata"]
        except RefusedError as error:
            if error.code == _NONE:
                return None
            raise
        return None if metadata.get("deletionTimestamp") else metadata["uid"]

    def list(self, kind: str, namespace: str, labels: str = "", fields: str = "") -> list[Object]:
        """The objects that both selectors take."""
        asked = {"labelSelector": labels, "fieldSelector": fields}
        chosen = urlencode({name: value for name, value in asked.items() if value})
        return self.ask("GET", f"{place(kind, namespace)}?{chosen}")["items"]

    def change(self, kind: str, namespace: str, name: str, how: Callable[[Object], None]) -> Object | None:
        """Change an object's status; None if it is gone."""
        while True:
            try:
                held = self.get(kind, namespace, name)
                how(held)
                return self.ask("PUT", place(kind, namespace, name, "status"), held)
            except RefusedError as error:
                if error.code == _NONE:
                    return None
                if error.code != _CONFLICT:
                    raise

    def delete(self, kind: str, namespace: str, name: str) -> Object:
        """Ask that an object goes; a pod has its grace."""
        return self.ask("DELETE", place(kind, namespace, name))

    def bury(self, kind: str, given: Object) -> None:
        """An object that was to go is no more."""
        metadata = given["metadata"]
        at_once = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        try:
            self.ask("DELETE", place(kind, metadata["namespace"], metadata["name"]), at_once)
        except RefusedError as error:
            if error.code not in (_NONE, _CONFLICT):
                raise

    def forget(self, kind: str) -> None:
        """Drop the objects of a kind that were made here."""
        for each in [one for one in self._made if one[0] == kind]:
            self._made.discard(each)
            self.delete(*each)

    def follow(self, kind: str, namespace: str, closing: threading.Event, act: Callable[[Change], None]) -> None:
        """Tell of each change from now on, until it closes."""
        since = self.ask("GET", place(kind, namespace))["metadata"]["resourceVersion"]
        while not closing.is_set():
            try:
                for how, seen in self._told(kind, namespace, since):
                    since = seen["metadata"]["resourceVersion"]
                    change = Change(int(since), kind, how, seen)
                    self.changes.append(change)
                    act(change)
            except urllib3.exceptions.HTTPError:  # the server ends
                closing.wait(0.2)

    def _told(self, kind: str, namespace: str, since: str) -> Iterator[tuple[str, Object]]:
        wanted = urlencode({"watch": "1", "resourceVersion": since, "timeoutSeconds": _LOOK})
        path = f"{self.url}/{place(kind, namespace)}?{wanted}"
        answer = self._http.request("GET", path, preload_content=False, timeout=6 * _LOOK)
        try:
            for line in answer:
                told = json.loads(line)
                if told["type"] == "ERROR":
                    raise RefusedError(_GONE, "Gone", str(told["object"]))
                yield told["type"], told["object"]
        finally:
            answer.close()


def place(kind: str, namespace: str, name: str = "", part: str = "") -> str:
    """Where objects of a kind are kept."""
    within = [] if kind in _WHOLE else ["namespaces", namespace]
    words = [_GROUPS.get(kind, "api/v1"), *within, kind, *(quote(word) for word in (name, part) if word)]
    return "/".join(words)
