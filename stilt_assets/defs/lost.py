"""
Which runs say that they run, although their process is gone?

Whoever executes a run in a process of a machine writes down first which one it is. Dagster sees that a process was
killed as long as the code server that began it lives: not after a restart, nor of a run that a command began. A sensor
looks, and tells the daemon, which repeats such a run as any whose worker is gone.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import cast

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig

from stilt_assets.alive import Process

_PROCESS = "stilt_assets/process"  # tag: the run's own id with its process, as a run that repeats another has its tags
_SAID = "The process of this run is gone: it was killed, or its machine restarted."


class Told(dg.Executor):
    """An executor that writes down which process the run is before it executes it."""

    def __init__(self, inner: dg.Executor) -> None:
        self.inner = inner

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """As the executor inside does."""
        if process := Process.own():
            told = {"run": plan_context.run_id, **asdict(process)}
            plan_context.instance.add_run_tags(plan_context.run_id, {_PROCESS: json.dumps(told)})
        yield from self.inner.execute(plan_context, execution_plan)

    @property
    def retries(self) -> RetryMode:
        """As of the executor inside."""
        return self.inner.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        """As of the executor inside."""
        return self.inner.step_dependency_config


def told(inner: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """An executor of this machine, of whose runs one can tell whether they are lost."""
    make = cast("Callable[[dg.InitExecutorContext], dg.Executor]", inner.executor_creation_fn)
    return dg.ExecutorDefinition(
        name=inner.name,
        config_schema=inner.config_schema,  # pyright: ignore[reportArgumentType]  what it was made of
        requirements=inner.get_requirements,
        executor_creation_fn=lambda context: Told(make(context)),
        description=inner.description,
    )


def end_lost(instance: dg.DagsterInstance) -> list[str]:
    """Report runs whose process is certainly gone as failed; their ids."""
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        process = _process_of(run)
        if process is None or not process.is_gone():
            continue
        now = instance.get_run_by_id(run.run_id)  # a process says how its run ended before it is gone
        if now and now.status == dg.DagsterRunStatus.STARTED:
            instance.report_run_failed(now, _SAID)
            ended.append(run.run_id)
    return ended


def _process_of(run: dg.DagsterRun) -> Process | None:
    told = json.loads(run.tags.get(_PROCESS, "{}"))
    return Process(**told) if told.pop("run", None) == run.run_id else None


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Sees that a run whose process was killed, with its machine or without, does not stay started for ever."""
    ended = end_lost(context.instance)
    for run in ended:
        context.log.warning(f"The process of run {run} is gone: it is told as failed")
    return dg.SkipReason(f"{len(ended)} lost")
