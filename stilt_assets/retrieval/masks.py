"""
Which good pixels are not worth running, and why?

Quality, what a pixel looks at, polygons that somebody drew, and thinning: one in so many away from the core. Each pixel
that is left out is counted by the first reason that holds.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import shapely
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from stilt_assets.errors import SettingsError
from stilt_assets.filesystem import opened
from stilt_assets.retrieval.reading import Retrieval, inside
from stilt_assets.settings.pixels import PixelSettings

CODE = "1"  # of masks, aggregation and thinning
_LARGEST = 64 * 2**20  # bytes of a mask's file
_GOLDEN = 0.381966  # share of a turn between neighbouring leaves: how lines of a thinned scene are shifted
Outside = Callable[[pd.DataFrame], np.ndarray]  # which pixels (pixel,) lie outside the meteorology


def polygons_of(location: str) -> tuple[BaseGeometry, str]:
    """The polygons of a GeoJSON file (path or URL) as one shape, and its sha256. SettingsError if it has none."""
    try:
        with opened(location, "the mask").open(location, "rb") as file:
            content: bytes = file.read(_LARGEST)
        shape = shapely.union_all(_shapes(json.loads(content)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, GEOSException) as error:
        why = " ".join(str(error).split())[:200]
        raise SettingsError(f"cannot read the mask {location}: {why}; it must be GeoJSON") from error
    if shape.is_empty or shape.geom_type not in ("Polygon", "MultiPolygon"):
        raise SettingsError(f"the mask {location} holds no polygons")
    shapely.prepare(shape)
    return shape, hashlib.sha256(content).hexdigest()


def _shapes(given: dict) -> list[BaseGeometry]:
    """The geometries of any GeoJSON object."""
    if "features" in given:
        return [shape for feature in given["features"] for shape in _shapes(feature)]
    return [shapely.from_geojson(json.dumps(given.get("geometry", given)))]


def without_masked(found: Retrieval, chosen: PixelSettings, outside: Outside | None = None) -> Retrieval:
    """The pixels that no mask leaves out; those left out are counted in `dropped`."""
    pixels, reason = found.pixels, pd.Series("", index=found.pixels.index)
    if not len(pixels):
        return found
    checks: list[tuple[str, np.ndarray]] = []
    if chosen.quality > 0:
        checks.append(("below_quality", ~(pixels["qa"].to_numpy() >= chosen.quality)))
    if chosen.surface is not None:
        checks.append(_told(pixels, "surface", "other_surface", lambda kinds: ~kinds.isin(chosen.surface)))
    if not chosen.glint:
        checks.append(_told(pixels, "glint", "glint", lambda glint: glint.astype(bool)))
    if chosen.mask is not None:
        shape, _ = polygons_of(chosen.mask)
        checks.append(("masked", shapely.contains_xy(shape, pixels["longitude"], pixels["latitude"])))
    if outside is not None:
        checks.append(("outside_meteorology", outside(pixels)))
    for name, holds in checks:
        reason[(reason == "") & holds] = name
    return _left(found, reason)


def thinned(found: Retrieval, chosen: PixelSettings) -> Retrieval:
    """
    All pixels of the core, and one in `every` elsewhere.

    Which ones follows from their own lines and columns alone, so that a pixel stays or goes whatever became of others:
    those with `(line + s column) mod every = 0`, whose shift s spreads them evenly.
    """
    if chosen.every == 1 or not len(found.pixels):
        return found
    pixels = found.pixels
    shift = _shift(chosen.every)
    lines, columns = (pixels[name].to_numpy().astype(np.int64) for name in _lattice(pixels))
    kept = (lines + shift * columns) % chosen.every == 0
    if chosen.core is not None:
        kept |= inside(pixels, chosen.core).to_numpy()
    return _left(found, pd.Series(np.where(kept, "", "thinned"), index=pixels.index))


def _shift(every: int) -> int:
    """The number nearest to the golden share of `every` that has no divisor in common with it."""
    return min(
        (number for number in range(1, every) if math.gcd(number, every) == 1),
        key=lambda number: abs(number - _GOLDEN * every),
    )


def _lattice(pixels: pd.DataFrame) -> tuple[str, str]:
    """The columns that say where a pixel stands among its neighbours."""
    return ("block_row", "block_column") if "block_row" in pixels else ("row", "column")


def _told(
    pixels: pd.DataFrame, what: str, reason: str, holds: Callable[[pd.Series], pd.Series]
) -> tuple[str, np.ndarray]:
    """A reason and which pixels it holds for; all of them, as unknown, if their product does not tell."""
    if what not in pixels:
        return f"unknown_{what}", np.ones(len(pixels), bool)
    return reason, holds(pd.Series(pixels[what])).to_numpy()


def _left(found: Retrieval, reason: pd.Series) -> Retrieval:
    """Pixels without a reason to go, numbered anew; the others' source pixels counted by reason."""
    weight = found.pixels["members"].map(len) if "members" in found.pixels else pd.Series(1, index=reason.index)
    gone = {str(word): int(weight[reason == word].sum()) for word in sorted(set(reason) - {""})}
    if not gone:
        return found
    kept = found.pixels.loc[reason == ""].reset_index(drop=True)
    kept["pixel"] = np.arange(len(kept), dtype=np.int32)
    return replace(found, pixels=kept, dropped={**found.dropped, **gone})
