"""Which runs failed since the last look, why, and who does what about it?"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile

import dagster as dg
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, PARTITION_NAME_TAG, WILL_RETRY_TAG
from dagster_shared.error import SerializableErrorInfo

from stilt_assets import errors
from stilt_assets.faults import redacted
from stilt_assets.reasons import REASONS
from stilt_assets.webhook import Alert

RUNBOOK = "docs/runbook.md"
_FAILED = dg.DagsterEventType.RUN_FAILURE
_SETTLED = 10.0  # s: two events may come in another order than their ids
_REPEATED = 1800.0  # s in which Dagster begins to repeat a run, if it does
_AT_ONCE = 200  # failures that one look reads, at most
_MANY = 5  # failures of one reason that one look tells one by one
_SHOWN = 10  # scenes that a line names
_LINE = 300  # characters
_OF_A_POD = re.compile(r"failed health check: (\w+): (.*)", re.DOTALL)  # as our executor on Kubernetes tells it
_FAMILY = {
    name: getattr(kind, "reason", "")  # those whose reason differs from one to the next are told without it
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.StiltAssetsError)
}
_BY_CHECK = {"few_pixels_lost": "pixels_lost", "jacobian_is_physical": "not_physical"}


@dataclass(frozen=True)
class Failed:
    """A run that failed and that Dagster does not repeat."""

    run: str  # id
    scene: str  # key, or whatever else was run
    reason: str  # a word of the table; empty if nobody gave one
    line: str
    time: float  # s since 1970


@dataclass(frozen=True)
class Seen:
    """How far a look came."""

    after: int  # storage id of the last failure that was looked at
    doubtful: Mapping[str, float]  # runs that Dagster means to repeat and has not yet, by the time of their failure
    failed: tuple[Failed, ...] = ()


def failures(instance: dg.DagsterInstance, after: int | None, doubtful: Mapping[str, float], now: float) -> Seen:
    """
    Runs that failed after the failure with the storage id `after`, and those of `doubtful` that were not repeated.

    Nothing that failed before the first look (`after` is None) is told.
    """
    newest = instance.fetch_run_status_changes(_FAILED, limit=1).records
    last = newest[0].storage_id if newest else 0
    if after is None or last < after:  # an instance that was put back counts anew
        return Seen(last, {})
    wanted = dg.RunStatusChangeRecordsFilter(_FAILED, after_storage_id=after)
    found = instance.fetch_run_status_changes(wanted, limit=_AT_ONCE, ascending=True).records if last > after else []
    settled = list(takewhile(lambda each: now - each.timestamp > _SETTLED, found))
    times = dict(doubtful) | {each.run_id: each.timestamp for each in settled}
    failed, still = list[Failed](), dict[str, float]()
    for run_id, when in times.items():
        run = instance.get_run_by_id(run_id)
        if run is None or run.tags.get(AUTO_RETRY_RUN_ID_TAG):
            continue
        if run.tags.get(WILL_RETRY_TAG) == "true" and now - when < _REPEATED:
            still[run_id] = when
            continue
        failed.append(_failed(instance, run, when))
    return Seen(settled[-1].storage_id if settled else after, still, tuple(failed))


def _failed(instance: dg.DagsterInstance, run: dg.DagsterRun, when: float) -> Failed:
    reason, line = _why(instance, run.run_id)
    tags = run.tags
    days = [
        tags[name]
        for name in ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        if name in tags
    ]
    what = tags.get(PARTITION_NAME_TAG) or "retrievals of " * bool(days) + " to ".join(dict.fromkeys(days)) or "a run"
    return Failed(run.run_id, what, reason, redacted(" ".join(line.split()))[:_LINE], when)


def _why(instance: dg.DagsterInstance, run_id: str) -> tuple[str, str]:
    """The reason, as a word of the table if a step gave one, and a line."""
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION, _FAILED}
    records = instance.get_records_for_run(run_id, of_type=kinds).records
    events = [event for each in records if (event := each.event_log_entry.dagster_event)]
    steps = [event.step_failure_data for event in events if event.event_type == dg.DagsterEventType.STEP_FAILURE]
    for given in filter(None, (step.user_failure_data for step in steps)):
        reason = given.metadata.get("reason")
        if reason is not None and reason.value in REASONS:
            return str(reason.value), given.description or ""
    for event in events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if check.blocking and not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                return _BY_CHECK.get(check.check_name, ""), f"{check.check_name}: {check.description}"
    ends = [event for event in events if event.event_type == _FAILED]
    errors_told = [*(step.error for step in steps), *(end.job_failure_data.error for end in ends if _has_data(end))]
    for error in filter(None, errors_told):
        return _of_an_error(error)
    return "", (ends[-1].message if ends else "") or "Dagster tells no cause"


def _has_data(event: dg.DagsterEvent) -> bool:
    return event.event_specific_data is not None


def _of_an_error(error: SerializableErrorInfo) -> tuple[str, str]:
    """The reason and the line of an error of our family that lies behind another; otherwise the line of the first."""
    chain = [error]
    while cause := chain[-1].cause:
        chain.append(cause)
    ours = next((each for each in chain if each.cls_name in _FAMILY), None)
    if ours:
        return _FAMILY[ours.cls_name or ""], ours.message.partition(": ")[2]
    pod = _OF_A_POD.search(chain[-1].message)
    return (pod[1], pod[2]) if pod and pod[1] in REASONS else ("", chain[-1].message)


# ---- as alerts


def told(failed: Iterable[Failed]) -> list[Alert]:
    """An alert for each failure; one for all of a reason, if these are many."""
    by_reason: dict[str, list[Failed]] = defaultdict(list)
    for each in failed:
        by_reason[each.reason].append(each)
    found = []
    for alike in by_reason.values():
        found += [_alert([each]) for each in alike] if len(alike) <= _MANY else [_alert(alike)]
    return found


def _alert(alike: list[Failed]) -> Alert:
    first, last = alike[0], alike[-1]
    named = ", ".join(each.scene for each in alike[:_SHOWN])
    more = f" and {len(alike) - _SHOWN} more" if len(alike) > _SHOWN else ""
    why = f"{first.reason}: {first.line}" if first.reason else first.line
    reason = REASONS.get(first.reason)
    if len(alike) == 1:
        what, name = f"{first.scene} failed: {why}", f"failed:{first.run}"
    else:
        what, name = f"{len(alike)} runs failed: {named}{more}; the first: {why}", f"failed:{first.run}:{last.run}"
    return Alert(
        id=name,
        kind="failed",
        what=what,
        then=f"{reason.reader}: {reason.then}." if reason else "Look at the run's log.",
        reason=first.reason,
        scenes=[each.scene for each in alike],
        count=len(alike),
        run=first.run,
        runbook=f"{RUNBOOK}#{first.reason or 'no-reason-is-told'}",
        time=f"{datetime.fromtimestamp(last.time, UTC):%Y-%m-%dT%H:%M:%SZ}",
    )
