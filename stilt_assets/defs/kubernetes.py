"""
How does each step of a scene get a pod of its own?

Dagster's own executor for Kubernetes makes a Job for each step. This is the same, with what it leaves undone: requests
that are the scene's, pools of nodes, an API server that asks for patience, pods that no node takes or whose image is
missing, and steps of a run that was lost.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import kubernetes.client
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.events import EngineEventData
from dagster._core.execution.retries import RetryMode, get_retries_config
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor, StepHandlerContext
from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import PatchedApiClient
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from kubernetes.client.rest import ApiException

from stilt_assets.defs.fates import Fate, fate_of, why_it_waits
from stilt_assets.defs.pods import WORK
from stilt_assets.errors import StiltAssetsError, UsageError
from stilt_assets.pod import Request, requests_of_scene
from stilt_assets.recipes import desk_of
from stilt_assets.settings import load_settings
from stilt_assets.store import open_store

_POOL_OF = {"run_shard": "PACKS", "guard": "PACKS", "meteorology": "METEOROLOGY"}  # all others: STEPS
_POOL = "stilt-assets/pool"  # label and taint of the nodes of a pool
CORES = "STILT_ASSETS_CORES"  # variable: cores that a process takes as its machine's
_TOO_MANY = 429
_PAUSES = (1, 2, 4, 8, 16, 32)  # s before a Job is posted once more to an API server that asks for patience


@dataclass(frozen=True)
class Pods:
    """What a deployment says of step pods, in environment variables."""

    pools: dict[str, str]  # name of a pool by kind of work: PACKS, METEOROLOGY, STEPS
    account: str | None  # service account; the launcher's if there is none
    image_patience: int  # s that a pod may wait for its image
    node_patience: int  # s that a pod may wait for a node
    look: int  # s between looks at the pods of running steps

    @classmethod
    def from_environment(cls) -> "Pods":
        """As the variables say now. UsageError if a number is none."""
        pools = {kind: os.environ.get(f"STILT_ASSETS_POOL_{kind}", "") for kind in ("PACKS", "METEOROLOGY", "STEPS")}
        pools["METEOROLOGY"] = pools["METEOROLOGY"] or pools["STEPS"]
        return cls(
            pools={kind: name for kind, name in pools.items() if name},
            account=os.environ.get("STILT_ASSETS_STEP_SERVICE_ACCOUNT") or None,
            image_patience=_seconds("STILT_ASSETS_IMAGE_PATIENCE", 300),
            node_patience=_seconds("STILT_ASSETS_NODE_PATIENCE", 3600),
            look=_seconds("STILT_ASSETS_POD_LOOK", 20),
        )

    def spec(self, work: str) -> dict[str, Any]:
        """What a pod's spec says of its node and its account."""
        spec: dict[str, Any] = {} if self.account is None else {"service_account_name": self.account}
        pool = self.pools.get(_POOL_OF.get(work, "STEPS"))
        if pool:
            taint = {"key": _POOL, "operator": "Equal", "value": pool, "effect": "NoSchedule"}
            spec |= {"node_selector": {_POOL: pool}, "tolerations": [taint]}
        return spec


def _seconds(name: str, default: int) -> int:
    said = os.environ.get(name) or str(default)
    if not said.isdecimal():
        raise UsageError(f"{name} is '{said}', which is no whole number of seconds")
    return int(said)


@dg.executor(
    name="kubernetes",
    config_schema={
        "retries": get_retries_config(),
        "max_concurrent": dg.Field(
            dg.Noneable(int), is_required=False, description="steps of a run that run at a time, at most"
        ),
    },
    requirements=multiple_process_executor_requirements(),
)
def kubernetes_executor(init_context: dg.InitExecutorContext) -> StepDelegatingExecutor:
    """Each step in a pod of its own."""
    launcher, given = init_context.instance.run_launcher, init_context.executor_config
    if not isinstance(launcher, K8sRunLauncher):
        raise UsageError(
            "STILT_ASSETS_EXECUTOR is kubernetes, and the Dagster instance launches its runs elsewhere: set "
            "DAGSTER_HOME to dagster_home/kubernetes, or unset STILT_ASSETS_EXECUTOR"
        )
    most, pods = given.get("max_concurrent"), Pods.from_environment()
    return StepDelegatingExecutor(
        SceneSteps(launcher, pods),
        retries=RetryMode.from_config(given["retries"]),  # pyright: ignore[reportArgumentType]  a checked config
        max_concurrent=most if isinstance(most, int) else None,
        check_step_health_interval_seconds=pods.look,
        should_verify_step=True,
    )


class PatientBatchApi(kubernetes.client.BatchV1Api):
    """Posts a Job again to a server that answers 429, which asks for no more than time; nothing was made then."""

    def create_namespaced_job(self, namespace: str, body: Any, **more: Any) -> Any:
        """The Job that was made."""
        for pause in _PAUSES:
            try:
                return super().create_namespaced_job(namespace, body, **more)
            except ApiException as error:
                if error.status != _TOO_MANY:
                    raise
            time.sleep(pause)
        return super().create_namespaced_job(namespace, body, **more)


class SceneSteps(K8sStepHandler):
    """Makes the Jobs of a run's steps, and looks after them."""

    def __init__(self, launcher: K8sRunLauncher, pods: Pods) -> None:
        super().__init__(
            image=None,
            container_context=K8sContainerContext(),
            load_incluster_config=launcher.load_incluster_config,
            kubeconfig_file=launcher.kubeconfig_file,
            enable_owner_references=True,  # who deletes a run's pod deletes its steps
        )
        self._api_client.batch_api = PatientBatchApi(api_client=PatchedApiClient())
        self.pods = pods
        self.given: dict[str, UserDefinedDagsterK8sConfig] = {}  # by the step's key
        self.too_large: Counter[str] = Counter()  # times that a step's pod had too little memory
        self.alone = False  # whether nothing of a lost run runs beside this one

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        """Post the Job of a step."""
        if not self.alone:
            self._end_what_the_parent_left(step_handler_context)
            self.alone = True
        key = self._get_step_key(step_handler_context)
        self.given[key] = self._config_of(step_handler_context, key)
        yield from super().launch_step(step_handler_context)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Whether a step still runs or waits in reason; if not, why, in a word of the table of reasons."""
        seen = super().check_step_health(step_handler_context)
        job, namespace = self._get_k8s_step_job_name(step_handler_context), self._namespace(step_handler_context)
        pods = self._api_client.get_pods_in_job(job, namespace)
        if not seen.is_healthy:
            fate = fate_of(pods)
            self.too_large[self._get_step_key(step_handler_context)] += fate.reason == "pod_memory"
            return _lost(job, fate)
        fate = why_it_waits(pods, datetime.now(UTC), self.pods.image_patience, self.pods.node_patience)
        if fate is None:
            return seen
        self._api_client.delete_job(job, namespace)  # or it would run once it can, beside the next try
        return _lost(job, fate)

    def _get_container_context(self, step_handler_context: StepHandlerContext) -> K8sContainerContext:
        made = super()._get_container_context(step_handler_context)
        given = self.given.get(self._get_step_key(step_handler_context))
        return made if given is None else made.merge(K8sContainerContext(run_k8s_config=given))

    def _namespace(self, context: StepHandlerContext) -> str | None:
        return self._get_container_context(context).namespace

    def _config_of(self, context: StepHandlerContext, key: str) -> UserDefinedDagsterK8sConfig:
        work = context.step_tags[key].get(WORK, "")
        config: dict[str, Any] = {"pod_spec_config": self.pods.spec(work)}
        request = self._request_of(context, key, work)
        if request is not None:
            larger = replace(request, memory=request.memory * 2 ** self.too_large[key])
            cores = {"name": CORES, "value": str(max(int(larger.cpu), 1))}
            config["container_config"] = {"resources": larger.resources, "env": [cores]}
        return UserDefinedDagsterK8sConfig.from_dict(config)

    def _request_of(self, context: StepHandlerContext, key: str, work: str) -> Request | None:
        """What a step of this scene asks for; None if it belongs to no scene or that cannot be told."""
        scene = context.dagster_run.tags.get("dagster/partition")
        if not work or scene is None:
            return None
        try:
            settings = load_settings()
            return requests_of_scene(desk_of(scene, settings, open_store(settings.store))).get(work)
        except StiltAssetsError as error:
            said = f"{key} asks for what a typical scene needs: {error}"
            dg.DagsterEvent.engine_event(context.get_step_context(key), said, EngineEventData())
            return None

    def _end_what_the_parent_left(self, context: StepHandlerContext) -> None:
        """End the steps of the run that this one repeats: their pods live on when the run's own pod is killed."""
        parent, namespace = context.dagster_run.parent_run_id, self._namespace(context)
        if parent is None:
            return
        labels = f"dagster/run-id={parent},app.kubernetes.io/component=step_worker"
        found: Any = self._api_client.batch_api.list_namespaced_job(namespace, label_selector=labels)
        for job in found.items:
            if job.status.active:
                self._api_client.delete_job(job.metadata.name, namespace)


def _lost(job: str, fate: Fate) -> CheckStepHealthResult:
    return CheckStepHealthResult.unhealthy(f"{fate.reason}: Job {job}: {fate.line}")
