"""What of a scene's record counts when all scenes are counted together?"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stilt_assets.prices import Bill, bill_of
from stilt_assets.scene import Record
from stilt_assets.settings import PriceSettings
from stilt_assets.status import state_of
from stilt_assets.volume import STAGES, Volume, load_behind

HOUR = 3600.0  # s
_HAS_A_JACOBIAN = ("done", "reissued")


@dataclass(frozen=True)
class Facts:
    """What a look keeps of one scene's record."""

    state: str
    time: datetime  # of the overpass, UTC
    pixels: int  # made, or counted when it was registered
    under_way: str  # the footprints that are being made
    latest: str  # the current footprints
    counted: Mapping[str, Any]  # the summary of the current footprints
    dropped: Mapping[str, int]
    gaps: int
    closed: float | None  # s since 1970
    seconds: float  # of workers, for all footprints that were closed and are not being made again
    bytes: Mapping[str, int]  # of all results, by stage
    requests: int  # that wrote its current results, as formulas say
    retrieval: str  # path or URL; empty of a grid of points
    arrived: float | None  # s since 1970: the time of its retrieval file

    @property
    def resting(self) -> bool:
        """Whether nothing is left to do."""
        return self.state == "done"

    def bill(self, prices: PriceSettings, seconds: float) -> Bill:
        """
        What the scene has cost so far, its results kept for `prices.months`; `seconds` are those of workers.

        What it took to download meteorology is not known, and nothing here.
        """
        free = prices.model_copy(update={"gigabyte_in": None})
        return bill_of(free, seconds / HOUR, sum(self.bytes.values()) / 1e9, self.requests, 0.0)


def facts_of(record: Record) -> Facts:
    """What a look keeps of a record."""
    summaries = {stage: (record.result_of(stage) or {}).get("summary", {}) for stage in STAGES}
    pixels, foot = summaries["pixels"], summaries["footprints"]
    counted, state = record.retrieval.get("counted", {}), state_of(record)
    closed = (record.result_of("footprints") or {}).get("closed")
    written = Counter[str]()
    for name, entry in record.results.items():
        written[name.partition("-")[0]] += int(entry.get("summary", {}).get("bytes", 0))
    closed_ones = {name: entry for name, entry in record.results.items() if name != record.under_way}
    ran = [
        entry["summary"] for name, entry in closed_ones.items() if name.startswith("footprints-") and "summary" in entry
    ]
    load = load_behind(record, summaries)
    stages = [*(stage for stage in STAGES if summaries[stage]), "meteorology"]
    stamp = record.retrieval.get("mtime_ns")
    return Facts(
        state=state,
        time=record.scene.time,
        pixels=pixels.get("pixels", counted.get("pixels", 0)),
        under_way=record.under_way,
        latest=record.current.get("footprints", ""),
        counted=foot,
        dropped=pixels.get("dropped", counted.get("dropped", {})),
        gaps=summaries["jacobian"].get("gaps", 0) if state in _HAS_A_JACOBIAN else 0,
        closed=datetime.fromisoformat(closed).timestamp() if closed else None,
        seconds=sum(summary["seconds"] for summary in ran),
        bytes=written,
        requests=sum(Volume().objects(stage, load) for stage in stages) + load.pixels if load else 0,
        retrieval=record.retrieval.get("path", ""),
        arrived=stamp / 1e9 if stamp else None,
    )
