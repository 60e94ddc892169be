"""
How are many scenes run, one batch that the web page shows and cancels?

As one asset backfill of explicit keys, put into the instance; Dagster's daemon does the rest, with or without a web
server. A range of scene keys is never given to Dagster: it follows the order in which keys were added, not their time.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._core.utils import make_new_backfill_id

from stilt_assets.defs.assets import OF_A_SCENE
from stilt_assets.defs.limits import BEYOND
from stilt_assets.defs.partitions import add_keys, scenes
from stilt_assets.errors import UsageError

ORIGIN = "stilt_assets/origin"  # of a run: arrival or backfill
PAUSED = "stilt_assets/paused"  # dagster.yaml lets no run begin that says yes
_HELD = "yes"  # of a backfill: all of its runs are in the queue, and those that wait are held
_HALFWAY = "halfway"  # of a backfill: the daemon was still putting runs into the queue
_TAGS = {ORIGIN: "backfill", "dagster/priority": "-10"}  # after whatever else waits
_SETTLE = 3.0  # s between two looks at runs that are still being put into the queue
_LOOKS = 20


@dataclass(frozen=True)
class Batch:
    """A backfill of scenes, as its instance knows it."""

    name: str
    title: str
    state: str  # requested, paused, canceling, canceled, completed_success, completed_failed, …
    scenes: int
    begun: float  # s since 1970
    runs: dict[str, int]  # by status


@contextmanager
def instance() -> Iterator[dg.DagsterInstance]:
    """The instance of DAGSTER_HOME. UsageError if there is none."""
    home = os.environ.get("DAGSTER_HOME", "")
    if not home:
        raise UsageError("DAGSTER_HOME is not set: a backfill belongs to a Dagster instance, as the README shows")
    if not Path(home).is_absolute() or not Path(home).is_dir():
        raise UsageError(f"DAGSTER_HOME is {home}, which is no absolute path of a folder; mend or unset it")
    with dg.DagsterInstance.get() as there:
        yield there


def launch(
    there: dg.DagsterInstance, keys: Sequence[str], title: str, name: str = "", *, beyond_limits: bool = False
) -> str:
    """
    Put a backfill of these scenes into an instance, unless one of this name is there; its name.

    Keys that the instance does not know are registered there. With `beyond_limits` no scene is held to its limits.
    """
    name = name or make_new_backfill_id()
    if there.get_backfill(name):
        return name
    add_keys(there, keys)
    begun = time.time()
    assets = [asset.key for asset in OF_A_SCENE]
    subset = scenes.subset_with_partition_keys(keys)
    targets = AssetGraphSubset(partitions_subsets_by_asset_key=dict.fromkeys(assets, subset))
    data = AssetBackfillData.from_asset_graph_subset(targets, there, begun)
    there.add_backfill(
        PartitionBackfill(
            backfill_id=name,
            status=BulkActionStatus.REQUESTED,
            from_failure=False,
            tags=_TAGS | ({BEYOND: "yes"} if beyond_limits else {}),
            backfill_timestamp=begun,
            asset_selection=assets,
            asset_backfill_data=data,
            title=title,
        )
    )
    return name


def start(keys: Sequence[str], title: str, *, beyond_limits: bool = False) -> str:
    """Put a backfill of these scenes into the instance of DAGSTER_HOME; its name."""
    with instance() as there:
        return launch(there, keys, title, beyond_limits=beyond_limits)


def failed(keys: Sequence[str]) -> list[str]:
    """Those of these scenes whose last run in the instance of DAGSTER_HOME failed before it made a Jacobian."""
    wanted = set(keys)
    with instance() as there:
        tried = there.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations(
            dg.AssetKey("jacobian")
        )
        runs = {run_id for key, (run_id, _) in tried.items() if key in wanted}
        broken = {run_id for run_id in runs if _ended_badly(there, run_id)}
        return sorted(key for key, (run_id, _) in tried.items() if key in wanted and run_id in broken)


def _ended_badly(there: dg.DagsterInstance, run_id: str) -> bool:
    run = there.get_run_by_id(run_id)
    return run is not None and run.status == dg.DagsterRunStatus.FAILURE


# ---- batches that are there


def batches(limit: int = 20) -> list[Batch]:
    """The last backfills of the instance of DAGSTER_HOME, the newest first."""
    with instance() as there:
        return [_batch(there, each) for each in there.get_backfills(limit=limit)]


def _batch(there: dg.DagsterInstance, given: PartitionBackfill) -> Batch:
    of_it = {BACKFILL_ID_TAG: given.backfill_id}
    runs = {
        status.value.lower(): count
        for status in dg.DagsterRunStatus
        if (count := there.get_runs_count(dg.RunsFilter(tags=of_it, statuses=[status])))
    }
    state = "paused" if _is_paused(given) else given.status.value.lower()
    return Batch(given.backfill_id, given.title or "", state, _size(given), given.backfill_timestamp, runs)


def _is_paused(given: PartitionBackfill) -> bool:
    held = given.status == BulkActionStatus.REQUESTED and given.tags.get(PAUSED) == _HELD
    return held or _is_halfway(given)


def _is_halfway(given: PartitionBackfill) -> bool:
    return given.status == BulkActionStatus.CANCELED and given.tags.get(PAUSED) == _HALFWAY


def _size(given: PartitionBackfill) -> int:
    if given.asset_backfill_data is None:
        return len(given.partition_names or [])
    subset = given.asset_backfill_data.target_subset
    return max((len(subset.get_partitions_subset(key)) for key in subset.asset_keys if _has(subset, key)), default=0)


def _has(subset, key: dg.AssetKey) -> bool:
    return key in subset.partitions_subsets_by_asset_key


def _named(there: dg.DagsterInstance, name: str) -> PartitionBackfill:
    found = there.get_backfill(name)
    if found is None:
        raise UsageError(f"the instance has no backfill '{name}'; see: stilt-assets backfill list")
    return found


def pause(name: str, tell: Callable[[str], None] = lambda _: None) -> int:
    """
    Let no further run of a backfill begin; those that run go on to their end. How many wait.

    Runs that are in the queue stay there with a tag that blocks them. The backfill is marked as canceled meanwhile, at
    which the daemon stops putting others into the queue and keeps the list of the rest. If there is no rest it is in
    progress again, with a tag that says so, and the web page can cancel it.
    """
    with instance() as there:
        _sees_tag(there)
        given = _named(there, name)
        if given.status != BulkActionStatus.REQUESTED and not _is_halfway(given):
            raise UsageError(f"backfill {name} is {given.status.value.lower()}: there is nothing to pause")
        if _is_paused(given) and not _is_halfway(given):
            raise UsageError(f"backfill {name} is paused already")
        _mark(there, given, BulkActionStatus.CANCELED, _HALFWAY)
        held, quiet = 0, 0
        for _ in range(_LOOKS):
            more = _hold(there, name, "yes")
            held, quiet = held + more, 0 if more else quiet + 1
            if quiet > 2 or (quiet and not _named(there, name).submitting_run_requests):
                break
            tell(f"{held} runs in the queue are held")
            time.sleep(_SETTLE)
        given = _named(there, name)
        if _all_are_queued(given) and _is_halfway(given):
            _mark(there, given, BulkActionStatus.REQUESTED, _HELD)
        return held + len(given.submitting_run_requests)


def _sees_tag(there: dg.DagsterInstance) -> None:
    """UsageError if the instance would begin runs that are paused."""
    queue = there.get_concurrency_config().run_queue_config
    limits = queue.tag_concurrency_limits if queue else []
    if not any((each["key"], each.get("value"), each["limit"]) == (PAUSED, "yes", 0) for each in limits):
        raise UsageError(
            f"the instance's dagster.yaml does not hold runs that are tagged {PAUSED}: take tag_concurrency_limits "
            "from dagster_home/dagster.yaml of this package"
        )


def _all_are_queued(given: PartitionBackfill) -> bool:
    data = given.asset_backfill_data
    if data is None or given.submitting_run_requests:
        return False
    return not (data.target_subset - data.requested_subset).asset_keys


def _mark(there: dg.DagsterInstance, given: PartitionBackfill, status: BulkActionStatus, paused: str) -> None:
    there.update_backfill(given._replace(tags={**given.tags, PAUSED: paused}, status=status))


def _hold(there: dg.DagsterInstance, name: str, value: str) -> int:
    queued = dg.RunsFilter(tags={BACKFILL_ID_TAG: name}, statuses=[dg.DagsterRunStatus.QUEUED])
    runs = [run for run in there.get_runs(queued) if run.tags.get(PAUSED, "no") != value]
    for run in runs:
        there.add_run_tags(run.run_id, {PAUSED: value})
    return len(runs)


def resume(name: str) -> int:
    """Let a paused backfill go on. How many runs of it wait in the queue."""
    with instance() as there:
        given = _named(there, name)
        if not _is_paused(given):
            raise UsageError(
                f"backfill {name} is not paused; start those of its scenes anew that have no Jacobian: "
                "stilt-assets backfill --from … --to … --status missing"
            )
        _mark(there, given, BulkActionStatus.REQUESTED, "no")
        return _hold(there, name, "no")


def cancel(name: str) -> None:
    """End a backfill: the daemon takes its runs out of the queue and stops those that run, as in the web page."""
    with instance() as there:
        given = _named(there, name)
        if given.status in BULK_ACTION_TERMINAL_STATUSES and not _is_halfway(given):
            raise UsageError(f"backfill {name} is {given.status.value.lower()} already")
        _mark(there, given, BulkActionStatus.CANCELING, "no")
