"""What becomes of a pod? A process on this machine, and a status that says how it ended."""

import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.container import ConfigError, Room, environment, words_of
from cluster.faults import RUN, Faults, PodFault
from cluster.objects import Object, Objects, now
from cluster.processes import Process, Processes

NODE = "node-1"
_SAID = {  # what a pod's status says: phase's reason, message, container's reason
    "OOMKilled": (None, None, "OOMKilled"),
    "Killed": (None, None, "Error"),
    "Evicted": ("Evicted", "The node was low on resource: memory.", "ContainerStatusUnknown"),
    "Preempted": ("Terminated", "Pod was terminated in response to imminent node shutdown.", "Error"),
}


class Kubelet:
    """A node: a thread for each pod."""

    look = 0.15  # s between looks at whether something has happened

    def __init__(self, objects: Objects, faults: Faults, folder: Path, server: tuple[str, int]) -> None:
        self.objects, self.faults, self.folder, self.server = objects, faults, folder, server
        self.processes = Processes(folder / "nursery")
        self.closing = threading.Event()
        self.threads: list[threading.Thread] = []

    def close(self) -> None:
        """End everything."""
        self.closing.set()
        self.processes.close()
        for thread in self.threads:
            thread.join(20)

    def log(self, pod: Object) -> Path:
        """Where the log of a pod lies."""
        return self.place_of(pod) / "log"

    def place_of(self, pod: Object) -> Path:
        """A pod's own folder."""
        return self.folder / pod["metadata"]["uid"][:8]  # short: sockets of workers lie below

    # ---- pods

    def run(self, pod: Object) -> None:
        """Let a pod live."""
        self.in_thread(self._live, pod)

    def over(self, pod: Object, succeeded: bool) -> None:
        """A pod has ended, and its status says so."""

    def delete_pod(self, pod: Object) -> None:
        """Take a pod away: what runs in it is asked to end, and killed after its grace."""
        self.objects.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _end(self, pod: Object, process: Process) -> None:
        process.send(signal.SIGTERM)
        if not process.ended.wait(pod["spec"].get("terminationGracePeriodSeconds", 30)):
            process.send(signal.SIGKILL)

    def is_there(self, kind: str, given: Object) -> bool:
        """Whether this very object is there, and not one of its name."""
        metadata = given["metadata"]
        return self.objects.uid(kind, metadata["namespace"], metadata["name"]) == metadata["uid"]

    def _live(self, pod: Object) -> None:
        fault = self.faults.of_pod(who_is(pod))
        process = None
        if fault and fault.fate == "Unschedulable":
            self._waits(pod, "FailedScheduling", "0/3 nodes are available: 3 Insufficient memory.", scheduled=False)
        elif fault and fault.fate == "ErrImagePull":
            image = pod["spec"]["containers"][0]["image"]
            self._waits(pod, "ErrImagePull", f'failed to pull image "{image}": not found')
        elif fault and fault.fate == "CreateContainerConfigError":
            self._waits(pod, fault.fate, 'secret "database" not found')
        else:
            process = self._start(pod)
        if process is None:  # it stays as it is until somebody takes it away
            while not self.closing.is_set() and self.is_there("pods", pod):
                self.closing.wait(self.look)
            fate = "Deleted"
        else:
            fate = self._wait(pod, process, fault)
            if fate == "NodeGone" and self.is_there("pods", pod):
                self.objects.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        if self.closing.is_set():
            return
        succeeded = process is not None and process.code == 0 and not fate
        if process is not None:
            self.change(pod, lambda status: _finished(status, process.code or 0, fate))
        self.over(pod, succeeded)

    def _start(self, pod: Object) -> Process | None:
        room = Room(self.place_of(pod), self.folder / NODE)
        try:
            process = self.begin_container(pod, room)
        except ConfigError as error:
            self._waits(pod, "CreateContainerConfigError", str(error))
            return None
        process.begun.wait(120)
        self.change(pod, _started)
        return process

    def begin_container(self, pod: Object, room: Room) -> Process:
        """The first process of a pod's container, after those that must end before it. ConfigError."""
        found = environment(pod, self.objects, room, self.server)
        for container in pod["spec"].get("initContainers") or []:
            words = words_of(container, room.mounts(pod, self.objects))
            first = self.processes.start(words, {"PATH": found["PATH"]}, room.scratch, self.log(pod))
            first.ended.wait(60)
            first.send(signal.SIGKILL)
        words = self.words(pod, words_of(pod["spec"]["containers"][0]))
        return self.processes.start(words, found, room.scratch, self.log(pod))

    def words(self, _pod: Object, words: list[str]) -> list[str]:
        """The command of a pod's container as it is said on this machine."""
        return words

    def _wait(self, pod: Object, process: Process, fault: PodFault | None) -> str:
        """Wait for the end of a pod's process, or bring it about; its fate, if it did not end by itself."""
        fate = ""
        while not process.ended.wait(self.look):
            if fault and not fate and self._says(pod, fault.after):
                fate, fault = self._strike(pod, process, fault), None
            elif not fate and not self.is_there("pods", pod):
                fate = "Deleted"
                self.in_thread(self._end, pod, process)
        return fate

    def _strike(self, pod: Object, process: Process, fault: PodFault) -> str:
        if fault.fate == "Deleted":
            self.delete_pod(pod)
            return ""
        if fault.fate == "Preempted":
            self.in_thread(self._end, pod, process)
        else:
            process.send(signal.SIGKILL)
        return fault.fate

    def _says(self, pod: Object, text: str) -> bool:
        log = self.log(pod)
        return not text or (log.exists() and text in log.read_text(errors="replace"))

    def change(self, pod: Object, how: Callable[[Object], None]) -> None:
        """Say something else in the status of a pod, if it is still there."""
        metadata = pod["metadata"]
        self.objects.change("pods", metadata["namespace"], metadata["name"], lambda kept: how(kept["status"]))

    def _waits(self, pod: Object, reason: str, message: str, scheduled: bool = True) -> None:
        def say(status: Object) -> None:
            said: dict[str, Any] = {"type": "PodScheduled", "status": str(scheduled)}
            if scheduled:
                status["containerStatuses"] = [_container({"waiting": {"reason": reason, "message": message}})]
            else:
                said |= {"reason": "Unschedulable", "message": message}
            status["conditions"] = [said]

        self.change(pod, say)
        about = {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
        event = {"metadata": {"name": f"{pod['metadata']['name']}.{uuid.uuid4().hex[:8]}"}, "involvedObject": about}
        event |= {"type": "Warning", "reason": reason, "message": message, "count": 1}
        self.objects.create("events", pod["metadata"]["namespace"], event)

    def in_thread(self, act: Callable[..., None], *given: Any) -> None:
        """Beside everything else."""
        thread = threading.Thread(target=act, args=given, daemon=True)
        self.threads.append(thread)
        thread.start()


def who_is(given: Object) -> str:
    """Whose pod or Job it is: the key of its step, or `run`."""
    spec = given["spec"].get("template", given)["spec"]
    variables = spec["containers"][0].get("env") or []
    return next((each["value"] for each in variables if each["name"] == "DAGSTER_RUN_STEP_KEY"), RUN)


def clear(folder: Path) -> None:
    """Remove what pods left, which processes that were just killed may still be writing."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.15)


def _container(state: Object) -> Object:
    return {"name": "dagster", "ready": False, "restartCount": 0, "image": "", "imageID": "", "state": state}


def _started(status: Object) -> None:
    status["phase"] = "Running"
    status["conditions"] = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]
    status["containerStatuses"] = [_container({"running": {"startedAt": now()}}) | {"ready": True}]


def _finished(status: Object, code: int, fate: str) -> None:
    reason, message, of_container = _SAID.get(fate, (None, None, "Error" if code else "Completed"))
    number = 128 - code if code < 0 else code
    status["phase"] = "Failed" if code or fate else "Succeeded"
    status |= {name: value for name, value in (("reason", reason), ("message", message)) if value}
    ended = {"exitCode": number, "reason": of_container, "startedAt": now(), "finishedAt": now()}
    status["containerStatuses"] = [_container({"terminated": ended})]
