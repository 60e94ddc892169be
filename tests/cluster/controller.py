"""What becomes of a Job? A pod, another if that fails and there may be more, and a status that says how it ended."""

import contextlib
import uuid
from collections.abc import Callable
from typing import Any

from cluster.kubelet import Kubelet
from cluster.objects import Object, RefusedError, now


class Controller(Kubelet):
    """The controller of Jobs, with the one node that runs their pods."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.jobs: dict[str, Object] = {}  # by uid, as they were posted

    def begin(self, job: Object) -> None:
        """A pod for a new Job."""
        self.jobs[job["metadata"]["uid"]] = job
        self.run(self._pod_of(job))
        deadline = job["spec"].get("activeDeadlineSeconds")
        if deadline is not None:
            self.in_thread(self._end_at, job, deadline)

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

    def over(self, pod: Object, succeeded: bool) -> None:
        """Another pod, or the end of the Job."""
        (owner,) = pod["metadata"]["ownerReferences"]
        job = self.jobs[owner["uid"]]
        if not self.is_there("jobs", job):
            return
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
        if again and self.is_there("jobs", job):
            self.run(self._pod_of(job))
        elif job["spec"].get("ttlSecondsAfterFinished") is not None:
            self.in_thread(self._forget_after, job, job["spec"]["ttlSecondsAfterFinished"])

    def _forget_after(self, job: Object, seconds: float) -> None:
        if not self.closing.wait(seconds) and self.is_there("jobs", job):
            self.delete_job(job)

    def _end_at(self, job: Object, seconds: float) -> None:
        if self.closing.wait(seconds) or not self.is_there("jobs", job):
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

    def delete_pod(self, pod: Object) -> None:
        """Take a pod away, and the Jobs that are its own."""
        super().delete_pod(pod)
        mine = pod["metadata"]["uid"]
        for job in self.objects.list("jobs", pod["metadata"]["namespace"]):
            if mine in {owner["uid"] for owner in job["metadata"].get("ownerReferences") or []}:
                self.delete_job(job)


def _condition(status: Object, kind: str, reason: str | None, message: str | None) -> None:
    said = {"type": kind, "status": "True", "lastTransitionTime": now()}
    said |= {name: value for name, value in (("reason", reason), ("message", message)) if value}
    status.setdefault("conditions", []).append(said)
