"""
What does a step ask of Kubernetes, whatever its scene? The tags that Dagster's executor for Kubernetes reads.

A tag is fixed when the code is loaded, so these numbers are those of a typical scene; `kubernetes` puts a scene's own
in their place when it makes a step's Job. Without Kubernetes they change nothing.
"""

from typing import Any

from stilt_assets.pod import TYPICAL

WORK = "stilt_assets/work"  # tag of a step: its name in the table of requests
_CONFIG = "dagster-k8s/config"
_KEPT = 86_400  # s that the Job of an ended pod stays, for `kubectl logs` and `describe`
_LONGEST = 172_800  # s after which a Job ends, whatever it does: also one that no run waits for any more
_SECURITY = {
    "allow_privilege_escalation": False,
    "capabilities": {"drop": ["ALL"]},
    "read_only_root_filesystem": True,
    "run_as_non_root": True,
    "seccomp_profile": {"type": "RuntimeDefault"},
}


def as_pod(work: str, *, of_scene: bool = True) -> dict[str, Any]:
    """
    Tags of a step that does this `work`, a name of the table of requests; with the scene's numbers, if it has one.

    A pod that is replaced by Kubernetes itself would end without a word, at which the step would wait for ever; so it
    is never replaced, and Dagster makes another Job.
    """
    config = {
        "container_config": {"resources": TYPICAL[work].resources, "security_context": _SECURITY},
        "pod_spec_config": {
            "automount_service_account_token": False,  # nosec B105: a switch, no token
            "restart_policy": "Never",
        },
        "job_spec_config": {
            "backoff_limit": 0,
            "ttl_seconds_after_finished": _KEPT,
            "active_deadline_seconds": _LONGEST,
        },
    }
    return {_CONFIG: config} | ({WORK: work} if of_scene else {})
