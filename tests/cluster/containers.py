"""How does a pod run as a real container? By podman and runc, of our image, as its manifest says."""

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.container import Room, variables
from cluster.node import Node
from cluster.objects import Object
from cluster.processes import Process
from cluster.rules import quantity

IMAGE = "localhost/stilt-assets:check"
_WORK = Path(os.environ.get("WORK", "/var/tmp/stilt-assets-image"))  # as docker/check.sh has it
_STORE = ("--root", str(_WORK / "storage"), "--runroot", str(_WORK / "run"), "--storage-driver", "overlay")
_ENGINE = ("podman", *_STORE, "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "/usr/sbin/runc")
# Without both limits of numbers runc fails where the hard ones of this machine are lower than podman's own.
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")


def missing() -> str:
    """Why no container of the image can run here; empty if one can."""
    absent = [name for name in ("podman", "runc") if not shutil.which(name)]
    if absent:
        return f"not on this machine: {', '.join(absent)}"
    asked = subprocess.run([*_ENGINE, "image", "exists", IMAGE], capture_output=True, check=False)
    return f"no image {IMAGE} in {_WORK}: make check_image" if asked.returncode else ""


class Container(Process):
    """A container of podman's, which ends with its first process."""

    def __init__(self, name: str, words: Sequence[str], log: Path) -> None:
        super().__init__()
        self.name = name
        with log.open("ab") as file:
            started = subprocess.Popen([*_ENGINE, "run", "--name", name, *words], stdout=file, stderr=file)
        self.pid = started.pid
        self.begun.set()
        threading.Thread(target=lambda: self.end(started.wait()), daemon=True).start()

    def send(self, number: int) -> None:
        """A signal to its first process; SIGKILL ends all of them."""
        words = [*_ENGINE, "kill", "--signal", signal.Signals(number).name, self.name]
        while subprocess.run(words, capture_output=True, check=False).returncode:  # it has not begun, or it has ended
            if self.ended.wait(0.2):
                return


class ContainerNode(Node):
    """A node whose pods are containers. They see their mounts and, read-only, what is `shown`: places of tests."""

    shown: tuple[Path, ...] = ()
    started: list[Container]

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.started = []

    def close(self) -> None:
        """End everything."""
        names = [each.name for each in self.started]
        for each in self.started:
            each.send(signal.SIGKILL)
        super().close()
        if names:
            subprocess.run([*_ENGINE, "rm", "--force", "--ignore", *names], capture_output=True, check=False)

    def begin_container(self, pod: Object, room: Room) -> Container:
        """The container of a pod, after those that must end before it. ConfigError."""
        first = [*(pod["spec"].get("initContainers") or []), pod["spec"]["containers"][0]]
        *before, last = [self._container(pod, each, room, number) for number, each in enumerate(first)]
        for words in before:
            assert self._started(words, self.log(pod)).ended.wait(60)
        return self._started(last, self.log(pod))

    def _started(self, words: tuple[str, list[str]], log: Path) -> Container:
        made = Container(*words, log)
        self.started.append(made)
        return made

    def _container(self, pod: Object, container: Object, room: Room, number: int) -> tuple[str, list[str]]:
        """Name, and the words of `podman run`."""
        context = pod["spec"]["securityContext"] | (container.get("securityContext") or {})
        user, group = context["runAsUser"], context["runAsGroup"]
        mounts = room.mounts(pod, self.objects)
        for place in {room.scratch, *mounts.values()}:
            for path in (place, *place.rglob("*")):
                os.chown(path, user, group)
        named = {mount["mountPath"]: mount.get("readOnly", False) for mount in container.get("volumeMounts") or []}
        volumes = [f"{mounts[path]}:{path}{':ro' * only}" for path, only in named.items()]
        volumes += [f"{place}:{place}:ro" for place in self.shown]
        volumes.append(f"{self.kubeconfig_of(pod)}:{self.folder / 'kubeconfig'}:ro")
        name = pod["metadata"]["name"]
        words = [
            *("--hostname", name, "--env", f"HOSTNAME={name}"),
            *("--pull=never", "--network", "host", *_LIMITS, "--user", f"{user}:{group}"),
            *_safety(context),
            *_memory(container),
            *(word for volume in volumes for word in ("--volume", volume)),
            *(word for name, value in variables(pod, self.objects) for word in ("--env", f"{name}={value}")),
            *_command(container),
        ]
        return f"{name}-{number}", words


def _command(container: Object) -> list[str]:
    """A `command` stands in the place of the image's own entry point; `args` are given to it."""
    command = container.get("command")
    return [*(("--entrypoint", json.dumps(command)) if command else ()), IMAGE, *(container.get("args") or [])]


def _safety(context: Mapping[str, Any]) -> list[str]:
    words = ["--read-only", "--read-only-tmpfs=false"] if context.get("readOnlyRootFilesystem") else []
    words += [f"--cap-drop={name}" for name in (context.get("capabilities") or {}).get("drop", [])]
    if context.get("allowPrivilegeEscalation") is False:
        words += ["--security-opt", "no-new-privileges"]
    return words


def _memory(container: Object) -> list[str]:
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    return ["--memory", f"{int(quantity(limit))}b"] if limit else []
