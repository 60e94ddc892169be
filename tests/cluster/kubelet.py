"""What becomes of a Job? A pod, a process on this machine, and a status that says how it ended."""

import contextlib
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
from cluster.objects import Object, Objects, RefusedError, now
from cluster.processes import Process, Processes

_LOOK = 0.15  # s between looks at whether something has happened
_NODE = "node-1"
_SAID = {  # what a pod's status says: phase's reason, message, container's reason
    "OOMKilled": (None, None, "OOMKilled"),
    "Killed": (None, None, "Error"),
    "Evicted": ("Evicted", "The node was low on resource: memory.", "ContainerStatusUnknown"),
    "Preempted": ("Terminated", "Pod was terminated in response to imminent node shutdown.", "Error"),
}


class Kubelet:
    """The node, the scheduler and the controller of Jobs in one: a thread for each pod."""

    def __init__(self, objects: Objects, faults: Faults, folder: Path, server: tuple[str, int]) -> None:
        self.objects, self.faults, self.folder, self.server = objects, faults, folder, server
        self.processes = Processes(folder / "nursery")
        self.running: dict[str, Process] = {}  # by the pod's uid
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
        return self._folder(pod) / "log"

    def _folder(self, pod: Object) -> Path:
        return self.folder / pod["metadata"]["uid"][:8]  # short: sockets of workers lie below

    # ---- Jobs

    def begin(self, job: Object) -> None:
        """A pod for a new Job."""
        self._in_thread(self._live, job, self._pod_of(job))
        deadline = job["spec"].get("activeDeadlineSeconds")
        if deadline is not None:
            self._in_thread(self._end_at, job, deadline)

    def _pod_of(self, job: Object) -> Object:
        name, template = job["metadata"]["name"], job["spec"]["template"]
        labels = dict(template["metadata"].get("labels") or {})
        labels |= {"job-name": name, "batch.kubernetes.io/job-name": name, "controller-uid": job["metadata"]["uid"]}
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": name,
            "uid": job["metadata"]["uid"],
            "controller": True,
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{name[:57]}-{uuid.uuid4().hex[:5]}", "labels": labels, "ownerReferences": [owner]},
            "spec": template["spec"],
            "status": {"phase": "Pending", "conditions": [], "startTime": now()},
        }
        made = self.objects.create("pods", job["metadata"]["namespace"], pod)
        self._of_job(job, lambda status: status.update(startTime=status.get("startTime", now()), active=1))
        return made

    def _of_job(self, job: Object, how: Callable[[Object], None]) -> None:
        metadata = job["metadata"]
        self.objects.change("jobs", metadata["namespace"], metadata["name"], lambda kept: how(kept["status"]))

    def _over(self, job: Object, succeeded: bool) -> None:
        """A pod of a Job has ended: another one, or the end of the Job."""
        again = False

        def count(status: Object) -> None:
            nonlocal again
            status.pop("active", None)
            name = "succeeded" if succeeded else "failed"
            status[name] = status.get(name, 0) + 1
            finished = any(each["type"] == "Failed" for each in status.get("conditions", []))
            again = not succeeded and not finished and status[name] <= job["spec"].get("backoffLimit", 6)
            if succeeded:
                _condition(status, "Complete", None, None)
                status["completionTime"] = now()
            elif not again and not finished:
                _condition(status, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")

        self._of_job(job, count)
        if again and self._is_there("jobs", job):
            self._in_thread(self._live, job, self._pod_of(job))
        elif job["spec"].get("ttlSecondsAfterFinished") is not None:
            self._in_thread(self._forget_after, job, job["spec"]["ttlSecondsAfterFinished"])

    def _forget_after(self, job: Object, seconds: float) -> None:
        if not self.closing.wait(seconds) and self._is_there("jobs", job):
            self.delete_job(job)

    def _end_at(self, job: Object, seconds: float) -> None:
        if self.closing.wait(seconds) or not self._is_there("jobs", job):
            return
        kept = self.objects.get("jobs", job["metadata"]["namespace"], job["metadata"]["name"])
        if not kept["status"].get("active"):
            return
        said = ("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
        self._of_job(job, lambda status: _condition(status, *said))
        for pod in self._pods_of(job):
            self.delete_pod(pod)

    def delete_job(self, job: Object, pods: bool = True) -> None:
        """Take a Job away, and its pods."""
        self.objects.delete("jobs", job["metadata"]["namespace"], job["metadata"]["name"])
        for pod in self._pods_of(job) if pods else ():
            with contextlib.suppress(RefusedError):
                self.delete_pod(pod)

    def _pods_of(self, job: Object) -> list[Object]:
        return self.objects.list("pods", job["metadata"]["namespace"], f"controller-uid={job['metadata']['uid']}")

    def _is_there(self, kind: str, given: Object) -> bool:
        metadata = given["metadata"]
        return self.objects.uid(kind, metadata["namespace"], metadata["name"]) == metadata["uid"]

    # ---- pods

    def delete_pod(self, pod: Object) -> None:
        """Take a pod away: what runs in it is asked to end, and killed after its grace."""
        namespace, mine = pod["metadata"]["namespace"], pod["metadata"]["uid"]
        self.objects.delete("pods", namespace, pod["metadata"]["name"])
        self._in_thread(self._end, pod)
        for job in self.objects.list("jobs", namespace):
            if mine in {owner["uid"] for owner in job["metadata"].get("ownerReferences") or []}:
                self.delete_job(job)

    def _end(self, pod: Object) -> None:
        process = self.running.get(pod["metadata"]["uid"])
        if process:
            process.send(signal.SIGTERM)
            if not process.ended.wait(pod["spec"].get("terminationGracePeriodSeconds", 30)):
                process.send(signal.SIGKILL)

    def _live(self, job: Object, pod: Object) -> None:
        fault = self.faults.of_pod(who_is(pod))
        process = None
        if fault and fault.fate == "Unschedulable":
            self._waits(pod, "FailedScheduling", "0/3 nodes are available: 3 Insufficient memory.", scheduled=False)
        elif fault and fault.fate == "ErrImagePull":
            image = pod["spec"]["containers"][0]["image"]
            self._waits(pod, "ErrImagePull", f'failed to pull image "{image}": not found')
        else:
            process = self._start(pod)
        if process is None:  # it stays as it is until somebody takes it away
            while not self.closing.is_set() and self._is_there("pods", pod):
                self.closing.wait(_LOOK)
            fate = "Deleted"
        else:
            fate = self._wait(pod, process, fault)
            if fate == "NodeGone" and self._is_there("pods", pod):
                self.objects.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
            self.running.pop(pod["metadata"]["uid"])
        if self.closing.is_set() or not self._is_there("jobs", job):
            return
        succeeded = process is not None and process.code == 0 and not fate
        if process is not None:
            self._change(pod, lambda status: _finished(status, process.code or 0, fate))
        self._over(job, succeeded)

    def _start(self, pod: Object) -> Process | None:
        room = Room(self._folder(pod), self.folder / _NODE)
        try:
            found = environment(pod, self.objects, room, self.server)
        except ConfigError as error:
            self._waits(pod, "CreateContainerConfigError", str(error))
            return None
        for container in pod["spec"].get("initContainers") or []:
            words = words_of(container, room.mounts(pod, self.objects))
            first = self.processes.start(words, {"PATH": found["PATH"]}, room.scratch, self.log(pod))
            first.ended.wait(60)
            first.send(signal.SIGKILL)
        words = words_of(pod["spec"]["containers"][0])
        process = self.processes.start(words, found, room.scratch, self.log(pod))
        self.running[pod["metadata"]["uid"]] = process
        process.begun.wait(120)
        self._change(pod, _started)
        return process

    def _wait(self, pod: Object, process: Process, fault: PodFault | None) -> str:
        """Wait for the end of a pod's process, or bring it about; its fate, if it did not end by itself."""
        fate = ""
        while not process.ended.wait(_LOOK):
            if fault and not fate and self._says(pod, fault.after):
                fate = fault.fate
                if fate == "Deleted":
                    self.delete_pod(pod)
                elif fate == "Preempted":
                    self._in_thread(self._end, pod)
                else:
                    process.send(signal.SIGKILL)
            if not fate and not self._is_there("pods", pod):
                fate = "Deleted"
        return fate

    def _says(self, pod: Object, text: str) -> bool:
        log = self.log(pod)
        return not text or (log.exists() and text in log.read_text(errors="replace"))

    def _change(self, pod: Object, how: Callable[[Object], None]) -> None:
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

        self._change(pod, say)
        about = {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
        event = {"metadata": {"name": f"{pod['metadata']['name']}.{uuid.uuid4().hex[:8]}"}, "involvedObject": about}
        event |= {"type": "Warning", "reason": reason, "message": message, "count": 1}
        self.objects.create("events", pod["metadata"]["namespace"], event)

    def _in_thread(self, act: Callable[..., None], *given: Any) -> None:
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
        time.sleep(_LOOK)


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


def _condition(status: Object, kind: str, reason: str | None, message: str | None) -> None:
    said = {"type": kind, "status": "True", "lastTransitionTime": now()}
    said |= {name: value for name, value in (("reason", reason), ("message", message)) if value}
    status.setdefault("conditions", []).append(said)
