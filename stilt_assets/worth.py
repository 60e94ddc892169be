"""Which pixels or points of a scene are run, and what of the settings and files says so?"""

from typing import Any

from stilt_assets.errors import NoArchiveError
from stilt_assets.meteorology import cells
from stilt_assets.retrieval import points
from stilt_assets.retrieval.masks import CODE, Outside, polygons_of
from stilt_assets.scene import Record, Scene, digest
from stilt_assets.settings import GridTargetSettings, Settings, TargetSettings


def worth_of(settings: Settings, target: TargetSettings, record: Record) -> dict[str, Any]:
    """What of the good pixels is run, as far as it differs from all of them: a part of the pixels' recipe."""
    chosen = target.pixels
    if not chosen.given:
        return {}
    worth = {"code": CODE, **chosen.given}
    if chosen.mask:
        worth["mask"] = polygons_of(chosen.mask)[1]
    if chosen.inside_meteorology:
        try:
            worth["cells"] = cells.id_of(cells.cells_of(settings.meteorology))
        except NoArchiveError:
            before = (record.result_of("pixels") or {}).get("made_from", {}).get("worth", {})
            if "cells" not in before:
                raise
            worth["cells"] = before["cells"]  # the files are gone, what was made of them is not
    return {"worth": worth}


def outside_of(settings: Settings, target: TargetSettings) -> Outside | None:
    """Which pixels lie outside the meteorology, if the target leaves those out."""
    return cells.outside(cells.cells_of(settings.meteorology)) if target.pixels.inside_meteorology else None


def points_of(target: GridTargetSettings, scene: Scene, top: float) -> dict[str, Any]:
    """What makes the points of a scene: their recipe."""
    bottom, highest = points.extent_of(target, top)
    places = points.places_of(target)
    where = digest(*(places[name].to_numpy().tobytes() for name in ("longitude", "latitude")))[:12]
    return {
        "code": points.CODE,
        "points": where,
        "bottom": bottom,
        "top": highest,
        "time": f"{scene.time:%Y-%m-%dT%H:%MZ}",
    }
