"""What does Kubernetes refuse? A Job that its schema, or a rule beside the schema, does not allow."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate

from cluster.objects import Object, RefusedError

SCHEMAS = "1.33"  # the latest that kubernetes-validate brings
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LONGEST = 63  # of a label, and of a Job's name, which its pods carry as a label
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def check_job(job: Object) -> None:
    """RefusedError, as the API server answers, if it would not take the Job."""
    try:
        kubernetes_validate.validate(job, SCHEMAS, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise RefusedError(422, "Invalid", f"Job is invalid: {error.message}") from error
    wrong = list(_wrong(job))
    if wrong:
        raise RefusedError(422, "Invalid", f"Job is invalid: {'; '.join(wrong)}")


def quantity(text: str) -> float:
    """A number that a manifest writes with a unit."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise RefusedError(422, "Invalid", f"Job is invalid: quantities must match the regular expression: {text}")
    return float(found[1]) * _UNITS[found[2] or ""]


def _wrong(job: Object) -> Iterator[str]:
    name, spec = job["metadata"]["name"], job["spec"]
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        yield f"metadata.name: '{name}' is no lower case name of at most {_LONGEST} characters"
    template = spec["template"]
    for metadata in (job["metadata"], template.get("metadata") or {}):
        yield from _wrong_labels(metadata.get("labels") or {}, "labels")
    pod = template["spec"]
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        yield "spec.template.spec.restartPolicy: supported values are Never and OnFailure"
    yield from _wrong_labels(pod.get("nodeSelector") or {}, "nodeSelector")
    volumes = {volume["name"] for volume in pod.get("volumes") or []}
    for container in pod["containers"]:
        yield from _wrong_container(container, volumes)


def _wrong_labels(labels: Mapping[str, str], where: str) -> Iterator[str]:
    for key, value in labels.items():
        prefix, _, name = key.rpartition("/")
        if not name or len(name) > _LONGEST or not _LABEL.fullmatch(name) or (prefix and not _NAME.fullmatch(prefix)):
            yield f"{where}: '{key}' is no label"
        if len(value) > _LONGEST or not _LABEL.fullmatch(value):
            yield f"{where}: '{value}' is no value of a label"


def _wrong_container(container: Mapping[str, Any], volumes: set[str]) -> Iterator[str]:
    mounts = container.get("volumeMounts") or []
    if len({mount["mountPath"] for mount in mounts}) < len(mounts):
        yield "volumeMounts: mountPath must be unique"
    yield from (f"volumeMounts: '{m['name']}' not found" for m in mounts if m["name"] not in volumes)
    resources = container.get("resources") or {}
    limits = {name: quantity(text) for name, text in (resources.get("limits") or {}).items()}
    for name, text in (resources.get("requests") or {}).items():
        if quantity(text) > limits.get(name, float("inf")):
            yield f"resources.requests: {name} must be less than or equal to its limit"
    for variable in container.get("env") or []:
        if "value" in variable and "valueFrom" in variable:
            yield f"env: {variable['name']} may not have both a value and a source"
