"""How far is a scene? Counted from what the store holds, also while it runs."""

from dataclasses import asdict, dataclass
from typing import Any

from stilt_assets.scene import Record, load_record
from stilt_assets.store import Store
from stilt_assets.whole import read_outcomes, summary_of


@dataclass(frozen=True)
class SceneStatus:
    """Where a scene stands."""

    scene: str
    state: str  # registered, started, footprints, done or reissued
    pixels: int
    outcomes: dict[str, int]  # ok, empty, failed, missing
    reasons: dict[str, int]
    packs_done: int
    packs: int
    seconds: float  # of all workers together
    current: dict[str, str]
    dropped: dict[str, int]
    gaps: int  # rows of the Jacobian without a footprint, because their pixels failed
    closed: str | None  # UTC, when all pixels had an outcome
    seconds_expected: float | None  # of all workers together, as they were told before the scene ran
    transport: str  # the model that moved the particles, and why if there was a choice
    guard: str  # what the model that is trusted said of the particles; empty if it was not asked
    doubtful: bool  # whether it did not agree

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def status_of(store: Store, key: str) -> SceneStatus:
    """Where a scene stands. UnknownSceneError if it is not in the store."""
    record = load_record(store, key)
    pixels = (record.result_of("pixels") or {}).get("summary") or record.retrieval.get("counted", {})
    name = record.under_way or record.current.get("footprints")
    rows = read_outcomes(store, store.result(key, name), sound_only=True) if name else []
    waiting = _waiting(store, store.result(key, name)) if name else 0
    counted = summary_of(rows)
    total = pixels.get("pixels", 0)
    outcomes = {status: int(counted[status]) for status in ("ok", "empty", "failed")}
    done = store.packs(store.result(key, name), "outcomes") if name else []
    packs = -(-total // record.results[name]["pack_pixels"]) if name else 0
    state = state_of(record)
    told = {} if record.under_way else (record.result_of("footprints") or {}).get("summary", {})
    return SceneStatus(
        scene=key,
        state=state,
        pixels=total,
        outcomes=outcomes | {"missing": total - len(rows), "waiting_for_their_pack": waiting},
        reasons=counted["reasons"],
        packs_done=len(done),
        packs=packs,
        seconds=float(counted["seconds"]),
        current=dict(record.current),
        dropped=pixels.get("dropped", {}),
        gaps=gaps_of(record),
        closed=None if record.under_way or not name else record.results[name].get("closed"),
        seconds_expected=record.results[name].get("expected", {}).get("seconds") if name else None,
        transport=told.get("transport", ""),
        guard=told.get("guard", ""),
        doubtful=not told.get("guard_agrees", True),
    )


def _waiting(store: Store, footprints: str) -> int:
    """Pixels that are done and wait for their pack."""
    packs = [name for name in store.names(store.unfinished(footprints)) if name.startswith("pack=")]
    return sum(len(store.names(store.unfinished(footprints, name))) for name in packs)


def state_of(record: Record) -> str:
    """Where a scene stands, as its record alone says; reissued: done, of an earlier issue of its retrieval."""
    jacobian, footprints = record.result_of("jacobian"), record.current.get("footprints")
    if record.under_way:
        return "started"
    if jacobian and footprints == f"footprints-{jacobian['made_from']['footprints']}":
        return "done" if _is_of_its_issue(record) else "reissued"
    return "footprints" if footprints else "registered"


def gaps_of(record: Record) -> int:
    """Rows of a scene's Jacobian without a footprint because their pixels failed; 0 as long as it is not done."""
    made = record.result_of("jacobian") if state_of(record) in ("done", "reissued") else None
    return (made or {}).get("summary", {}).get("gaps", 0)


def _is_of_its_issue(record: Record) -> bool:
    made_from = (record.result_of("pixels") or {}).get("made_from", {})
    return made_from.get("retrieval") == record.retrieval.get("sha256") or "retrieval" not in made_from
