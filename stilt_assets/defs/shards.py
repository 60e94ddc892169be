"""
How do the packs of a scene run in Dagster?

One asset of several steps: a plan, a step for each shard with retries and logs of its own, and a closing. Nothing
passes from step to step but their names, so each may run in a process or on a machine of its own.
"""

import dagster as dg

from stilt_assets import shard as shards
from stilt_assets.budget import hold_to_nodes
from stilt_assets.defs.limits import hold
from stilt_assets.defs.metadata import RETRIES, facts_of, in_one_line, particles_per_second
from stilt_assets.defs.pods import as_pod
from stilt_assets.plan import Footprints
from stilt_assets.preview import preview_of
from stilt_assets.progress import Progress, in_lines
from stilt_assets.recipes import desk_of
from stilt_assets.settings import Settings
from stilt_assets.shard import Runner
from stilt_assets.store import Store

_LINES = 20  # of progress in a shard's log: each is a row of the event log


class FootprintsConfig(dg.Config):
    """How a scene's footprints are made, this time."""

    retry_failed: bool = False  # run pixels again that failed, whatever the reason


@dg.op(ins={"ready": dg.In(dg.Nothing)}, out=dg.DynamicOut(dg.Nothing), retry_policy=RETRIES, tags=as_pod("plan"))
def plan(
    context: dg.OpExecutionContext,
    config: FootprintsConfig,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[Store],
    runner: dg.ResourceParam[Runner],
):
    """Share out the packs that are not whole, unless they would cost more than the limits allow."""
    with in_one_line():
        desk = desk_of(context.partition_key, settings, store)
        weighed = preview_of(desk, retry_failed=config.retry_failed)
        hold_to_nodes(weighed, settings)
        hold(context, desk, lambda: weighed)
        left = shards.plan_footprints(desk, retry_failed=config.retry_failed, expected=weighed.expected)
        mover = Footprints.of(desk).mover
    context.log.info(f"{weighed.cpu_hours:.3g} CPU hours expected; {weighed.cost_told}")
    context.log.info(f"{len(left)} packs to do, transport: {mover.line}")
    for shard in runner.shards_of(left, settings.packs.shards):
        yield dg.DynamicOutput(None, mapping_key=shard.name)


@dg.op(ins={"ran": dg.In(dg.Nothing)}, out=dg.DynamicOut(dg.Nothing), retry_policy=RETRIES, tags=as_pod("widen"))
def widen(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[Store],
    runner: dg.ResourceParam[Runner],
):
    """If the crop of the meteorology was too small, make a wider one and share out all packs once more."""
    with in_one_line():
        desk = desk_of(context.partition_key, settings, store)
        verdict = shards.widen_if_too_small(desk)
        if verdict.can_be_widened:
            context.log.warning(f"{verdict.line}; once more with a wider one")
        expected = preview_of(desk).expected if verdict.can_be_widened else None
        left = shards.plan_footprints(desk, reopen=False, expected=expected)
    for shard in runner.shards_of(left, settings.packs.shards):
        yield dg.DynamicOutput(None, mapping_key=shard.name)


@dg.op(
    ins={"planned": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    retry_policy=RETRIES,
    tags=as_pod("run_shard"),
    pool="cores",
)
def run_shard(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[Store],
    runner: dg.ResourceParam[Runner],
) -> None:
    """Give every pixel of a shard an outcome and every pack its files."""

    def part(state: Progress) -> tuple[int, bool]:
        return _LINES * state.pixels_done // state.pixels, state.packs_done == state.packs

    with in_one_line():
        shard = shards.Shard.from_name(context.get_mapping_key() or "")
        runner.run(desk_of(context.partition_key, settings, store), shard, in_lines(context.log.info, part))


@dg.op(
    ins={"ran": dg.In(dg.Nothing), "ran_again": dg.In(dg.Nothing)},
    out=dg.DynamicOut(dg.Nothing),
    retry_policy=RETRIES,
    tags=as_pod("guard"),
    pool="cores",
)
def guard(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[Store],
    runner: dg.ResourceParam[Runner],
):
    """Compare some pixels with the model that is trusted; if they differ and are to, share out all packs once more."""
    left: list[int] = []
    with in_one_line():
        desk = desk_of(context.partition_key, settings, store)
        judgement = shards.ask_the_guard(desk, say=context.log.info)
        if judgement:
            (context.log.info if judgement.agrees else context.log.warning)(f"guard: {judgement.line}")
            if judgement.disagrees and desk.runs_again_in_doubt:
                left = shards.plan_footprints(desk)
    for shard in runner.shards_of(left, settings.packs.shards):
        yield dg.DynamicOutput(None, mapping_key=shard.name)


@dg.op(
    ins={name: dg.In(dg.Nothing) for name in ("ran", "ran_again", "ran_instead")},
    out=dg.Out(dg.Nothing),
    retry_policy=RETRIES,
    tags=as_pod("close"),
)
def close(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings], store: dg.ResourceParam[Store]) -> None:
    """Sum the scene's outcomes up."""
    with in_one_line():
        done = shards.close_footprints(desk_of(context.partition_key, settings, store))
    facts = facts_of(done) | {"particles_per_second": particles_per_second(done)}
    context.add_output_metadata(facts)
    context.set_data_version(dg.AssetKey("footprints"), dg.DataVersion(done.name))
