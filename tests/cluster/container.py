"""What does a container find? The variables that its manifest names, and its mounts, as folders of this machine."""

import base64
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cluster.objects import Object, Objects, RefusedError


class ConfigError(Exception):
    """A container names what is not there; the kubelet waits for it."""


@dataclass
class Room:
    """A pod's folders on this machine."""

    scratch: Path  # the pod's own
    node: Path  # of its node: what hostPath names lies below

    def __post_init__(self) -> None:
        for place in (self.scratch / "tmp", self.scratch / "v", self.node):
            place.mkdir(parents=True, exist_ok=True)

    def mounts(self, pod: Object, objects: Objects) -> dict[str, Path]:
        """Where each mount of a container lies on this machine, the longest path first."""
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        volumes = {volume["name"]: volume for volume in spec.get("volumes") or []}
        container = spec["containers"][0]
        found = {
            mount["mountPath"]: self._volume(volumes[mount["name"]], namespace, objects)
            for mount in container.get("volumeMounts") or []
        }
        return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))

    def _volume(self, volume: Object, namespace: str, objects: Objects) -> Path:
        if "hostPath" in volume:
            place = self.node / volume["hostPath"]["path"].lstrip("/")
        else:
            place = self.scratch / "v" / volume["name"]
        place.mkdir(parents=True, exist_ok=True)
        named = {"configMap": ("configmaps", "name"), "secret": ("secrets", "secretName")}
        for source, (kind, field) in named.items():
            if source in volume:
                for name, value in _data(objects, kind, namespace, volume[source][field]).items():
                    (place / name).write_text(value)
        return place


def environment(pod: Object, objects: Objects, room: Room, server: tuple[str, int]) -> dict[str, str]:
    """
    The variables of a pod's container, and nothing else than these.

    A value that names a place below a mount, and none of this machine, names the folder that stands for it here. What
    an image and a kubelet add: PATH, HOME, HOSTNAME, TMPDIR and the address of the API server. ConfigError if a source
    is missing.
    """
    given = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
        "HOME": str(room.scratch),
        "HOSTNAME": pod["metadata"]["name"],
        "TMPDIR": str(room.scratch / "tmp"),
        "KUBERNETES_SERVICE_HOST": server[0],
        "KUBERNETES_SERVICE_PORT": str(server[1]),
    }
    mounts = room.mounts(pod, objects)
    for name, value in variables(pod, objects):
        below = next((path for path in mounts if value == path or value.startswith(f"{path}/")), None)
        here = below is None or Path(value).exists()
        given[name] = value if here else str(mounts[below]) + value.removeprefix(below)
    return given


def words_of(container: Object, mounts: Mapping[str, Path] = MappingProxyType({})) -> list[str]:
    """The command of a container, with the folders of this machine in the place of mounts."""
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    if not mounts:
        return words
    places = re.compile("|".join(rf"{re.escape(path)}(?![-\w])" for path in mounts))
    return [places.sub(lambda found: str(mounts[found[0]]), word) for word in words]


def variables(pod: Object, objects: Objects) -> Iterator[tuple[str, str]]:
    """Those that a pod's container is given, as its manifest says them. ConfigError."""
    container, namespace = pod["spec"]["containers"][0], pod["metadata"]["namespace"]
    for source in container.get("envFrom") or []:
        for field, kind in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if field in source:
                found = _data(objects, kind, namespace, source[field]["name"], bool(source[field].get("optional")))
                yield from ((source.get("prefix", "") + name, value) for name, value in found.items())
    for variable in container.get("env") or []:
        value = _value(variable, pod, objects)
        if value is not None:
            yield variable["name"], value


def _value(variable: dict[str, Any], pod: Object, objects: Objects) -> str | None:
    source, namespace = variable.get("valueFrom"), pod["metadata"]["namespace"]
    if not source:
        return variable.get("value", "")
    if "fieldRef" in source:
        value: Any = pod
        for part in source["fieldRef"]["fieldPath"].split("."):
            value = value[part]
        return str(value)
    for field, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if field in source:
            optional = bool(source[field].get("optional"))
            found = _data(objects, kind, namespace, source[field]["name"], optional)
            if source[field]["key"] not in found and not optional:
                raise ConfigError(f"couldn't find key {source[field]['key']} in {kind} {source[field]['name']}")
            return found.get(source[field]["key"])
    raise ConfigError(f"a source that this kubelet does not know: {sorted(source)}")


def _data(objects: Objects, kind: str, namespace: str, name: str, optional: bool = False) -> dict[str, str]:
    try:
        held = objects.get(kind, namespace, name).get("data") or {}
    except RefusedError as error:
        if optional:
            return {}
        raise ConfigError(str(error)) from error
    return {key: base64.b64decode(value).decode() if kind == "secrets" else value for key, value in held.items()}
