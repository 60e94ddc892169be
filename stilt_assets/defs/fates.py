"""What became of a step's pod, in a word of the table of reasons?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_NO_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_NO_START = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


@dataclass(frozen=True)
class Fate:
    """Why a step goes on no more."""

    reason: str  # of the table of reasons
    line: str


def fate_of(pods: Sequence[Any]) -> Fate:
    """Why a Job failed, as its pods (objects of Kubernetes' client) tell it."""
    for pod in pods:
        ended = [status.state.terminated for status in pod.status.container_statuses or [] if status.state.terminated]
        if any(each.reason == "OOMKilled" for each in ended):
            return Fate("pod_memory", "its pod needed more memory than it may have")
        if pod.status.reason:  # Evicted, Preempting, Terminated, NodeLost
            return Fate("pod_lost", f"its pod was ended: {pod.status.reason}: {pod.status.message or 'no more said'}")
        if any(each.exit_code for each in ended):
            return Fate("pod_lost", f"its pod ended with {', '.join(str(each.exit_code) for each in ended)}")
    return Fate("pod_lost", "its pod is gone, with its node or by somebody's hand")


def why_it_waits(pods: Sequence[Any], now: datetime, for_image: float, for_node: float) -> Fate | None:
    """Why a Job's pod has waited too long, s for its image or for a node; None if it runs or may wait on."""
    for pod in pods:
        waited = (now - pod.metadata.creation_timestamp).total_seconds()
        if pod.status.phase != "Pending":
            continue
        for status in pod.status.container_statuses or []:
            waiting = status.state.waiting
            if waiting and waiting.reason in _NO_IMAGE and waited > for_image:
                return Fate("no_image", f"after {waited:.0f} s its image is not there: {waiting.message}")
            if waiting and waiting.reason in _NO_START and waited > for_image:
                return Fate("no_start", f"after {waited:.0f} s its pod cannot start: {waiting.message}")
        placed = [each for each in pod.status.conditions or [] if each.type == "PodScheduled"]
        if waited > for_node and any(each.status == "False" for each in placed):
            return Fate("not_scheduled", f"after {waited:.0f} s no node has taken its pod: {placed[0].message}")
    return None
