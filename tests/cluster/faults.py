"""What can happen to a pod, and to a request?"""

import re
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

Fate = Literal[
    "OOMKilled",
    "Killed",
    "Evicted",
    "Preempted",
    "NodeGone",
    "Deleted",
    "Unschedulable",
    "ErrImagePull",
    "CreateContainerConfigError",
]
Answer = Literal["429", "500 after it was made", "503", "drop"]
RUN = "run"  # the pod of a run itself; all others are known by the key of their step


@dataclass
class PodFault:
    """What becomes of a pod: as soon as it runs, or once its log says so."""

    fate: Fate
    who: str  # regular expression: `run`, or the key of a step
    after: str = ""  # what the log must say before it happens
    times: int = 1


@dataclass
class RequestFault:
    """What is answered when the Job of a pod is to be made."""

    answer: Answer
    who: str
    times: int = 1


@dataclass
class Faults:
    """Those that still wait for whom they meet."""

    waiting: list[PodFault | RequestFault] = field(default_factory=list)
    met: list[tuple[str, str]] = field(default_factory=list)  # fate or answer, and whom
    _lock: Lock = field(default_factory=Lock)

    def put(self, *faults: PodFault | RequestFault) -> None:
        """Let these happen, too."""
        with self._lock:
            self.waiting.extend(faults)

    def of_pod(self, who: str) -> PodFault | None:
        """What is to become of a pod."""
        found = self._taken(PodFault, who)
        return found if isinstance(found, PodFault) else None

    def of_request(self, who: str) -> RequestFault | None:
        """How a request for a pod's Job is to be answered."""
        found = self._taken(RequestFault, who)
        return found if isinstance(found, RequestFault) else None

    def _taken(self, kind: type, who: str) -> PodFault | RequestFault | None:
        with self._lock:
            for fault in self.waiting:
                if isinstance(fault, kind) and fault.times and re.fullmatch(fault.who, who):
                    fault.times -= 1
                    self.met.append((fault.fate if isinstance(fault, PodFault) else fault.answer, who))
                    return fault
        return None
