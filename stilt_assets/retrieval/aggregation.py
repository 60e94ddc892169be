"""
How do neighbouring pixels become one?

With weights a_m that sum to 1, all that is linear in a pixel's members is the weighted mean of theirs, so that the new
row of H is the weighted mean of theirs, up to the receptor's position: one column over their weighted mean place. A
receptor at each member's place would split the particles among them, and chance costs a row more (7.5 % at 1,000
particles) than a shift of its column by part of a pixel.

- value, place, angles, pressures, prior, weights of layers: sum of a_m x_m; time too.
- error: sigma^2 = (1 - rho) sum of (a_m sigma_m)^2 + rho (sum of a_m sigma_m)^2, rho the correlation of two members'
  errors; with equal members sigma sqrt((1 - rho)/n + rho), the superobservation of Eskes et al. 2003 (Q. J. R.
  Meteorol. Soc. 129, 1663).
- kernel: A(s) = sum of a_m A_m(s p_m), s = p/p_surface, on all members' levels: a particle's weight omega is then the
  weighted mean of what each member would give it, as kernels are looked up by s.
- what the retrieval carries of its prior, sum of w (1 - A) x_a: the weighted mean of the members', kept beside, since
  the product of means is none.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import shapely

from stilt_assets.errors import SettingsError
from stilt_assets.retrieval.reading import Retrieval
from stilt_assets.settings.pixels import AggregationSettings

MEMBERS = "members"
_OVERPASS = np.timedelta64(10, "m")  # pixels further apart in time are of different overpasses
_KM = 111.195  # of a degree of latitude
_SAME = 1e-5  # share of the surface pressure by which members' levels may differ and still be the same
_PROFILES = ("pressure_levels", "ak_pressure", "ak", "apriori", "layer_weight")
_PLACES = ("longitude", "latitude", "longitude_bounds", "latitude_bounds")
_MEANS = ("surface_altitude", "surface_pressure", "zenith", "value")


def aggregated(found: Retrieval, chosen: AggregationSettings) -> Retrieval:
    """Neighbours as one pixel each, with their members; those of groups that are too small are counted as dropped."""
    pixels = found.pixels
    if not len(pixels):
        return found
    groups = _groups_of(found, chosen)
    order = np.lexsort((pixels["column"].to_numpy(), pixels["row"].to_numpy(), groups.number))
    table = pixels.iloc[order].reset_index(drop=True)
    starts = np.flatnonzero(np.diff(groups.number[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(table)))
    kept = sizes >= chosen.at_least
    table = table.loc[np.repeat(kept, sizes)].reset_index(drop=True)
    dropped = {"too_few_members": int(sizes[~kept].sum())} if (~kept).any() else {}
    if not len(table):
        return replace(found, pixels=table, dropped={**found.dropped, **dropped})
    new = _united(table, _Groups(np.cumsum([0, *sizes[kept]])[:-1], sizes[kept]), chosen)
    first = order[starts[kept]]
    new = new.assign(block_row=groups.line[first], block_column=groups.column[first])
    new = new.sort_values(["row", "column"], kind="stable").reset_index(drop=True)
    new["pixel"] = np.arange(len(new), dtype=np.int32)
    return replace(found, pixels=new, dropped={**found.dropped, **dropped})


# ---- who belongs together


@dataclass(frozen=True)
class _Numbered:
    """For each pixel its group, and where that group stands among its neighbours."""

    number: np.ndarray
    line: np.ndarray
    column: np.ndarray


def _groups_of(found: Retrieval, chosen: AggregationSettings) -> _Numbered:
    """Pixels of one block or cell, one overpass, and profiles of one length belong together."""
    pixels = found.pixels
    if chosen.size is not None:
        if len(pixels) > 1 and pixels["column"].max() == 0:
            raise SettingsError(f"{found.product} files have no lines and columns: aggregate by km, not by size")
        line, column = (pixels[name].to_numpy() // chosen.size for name in ("row", "column"))
    else:
        line, column = _cells(pixels["longitude"].to_numpy(), pixels["latitude"].to_numpy(), float(chosen.km or 0))
    times = np.sort(pixels["time"].to_numpy())
    begins = times[np.flatnonzero(np.diff(times, prepend=times[:1]) > _OVERPASS)]
    overpass = np.searchsorted(begins, pixels["time"].to_numpy(), side="right")
    lengths = pixels["ak"].map(len).to_numpy()
    keys = np.stack([overpass, line, column, lengths], axis=1)
    return _Numbered(np.unique(keys, axis=0, return_inverse=True)[1].ravel(), line, column)


def _cells(lon: np.ndarray, lat: np.ndarray, km: float) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the cell of about `km` x `km` that each place lies in; rows begin at the south pole."""
    rows = max(1, round(180.0 * _KM / km))
    row = np.minimum(((lat + 90.0) / 180.0 * rows).astype(np.int64), rows - 1)
    middle = np.radians((row + 0.5) / rows * 180.0 - 90.0)
    columns = np.maximum(1, np.rint(360.0 * _KM * np.cos(middle) / km))
    return row, ((lon % 360.0) / 360.0 * columns).astype(np.int64)


# ---- what they become


@dataclass(frozen=True)
class _Groups:
    """Where each group starts in a table that is sorted by group, and how many members it has."""

    starts: np.ndarray
    sizes: np.ndarray

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sums over each group's rows."""
        return np.add.reduceat(values, self.starts, axis=0)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Each group's value for all of its rows."""
        return np.repeat(values, self.sizes, axis=0)

    def lists(self, values: np.ndarray) -> list[np.ndarray]:
        """Each group's rows."""
        return np.split(values, self.starts[1:])


def _united(table: pd.DataFrame, groups: _Groups, chosen: AggregationSettings) -> pd.DataFrame:
    """One row per group, in the order of the groups."""
    a = _weights(table["uncertainty"].to_numpy(), groups, chosen.weights)

    def mean(values: np.ndarray) -> np.ndarray:
        return groups.sum((a[:, None] if values.ndim == 2 else a) * values)

    first = table.iloc[groups.starts].reset_index(drop=True)
    new = first.assign(**{name: mean(table[name].to_numpy(float)) for name in _MEANS})
    since = table["time"].min()
    late = (table["time"] - since).dt.total_seconds().to_numpy()
    new["time"] = (since + pd.to_timedelta(mean(late), unit="s")).round("us")
    new["azimuth"] = _turned(mean, table["azimuth"].to_numpy())
    new["longitude"], new["latitude"] = _place(mean, table["longitude"].to_numpy(), table["latitude"].to_numpy())
    new["uncertainty"] = _error(a * table["uncertainty"].to_numpy(), groups, chosen.correlation)
    new["qa"] = np.minimum.reduceat(table["qa"].to_numpy(), groups.starts)
    for name, values in _profiles(table, groups, a).items():
        new[name] = pd.Series(values, dtype=object)
    new["prior_term"] = mean(np.array([np.sum(w * (1 - k) * x) for w, k, x in _each(table)]))
    new["longitude_bounds"], new["latitude_bounds"] = _hulls(table, groups)
    new[MEMBERS] = pd.Series(_members(table, groups, a), dtype=object)
    alone = groups.sizes == 1  # and so just what it was, to the last bit
    for name in (*_MEANS, *_PROFILES, *_PLACES, "time", "azimuth", "uncertainty"):
        new[name] = new[name].where(~alone, first[name])
    for name, own in (("kernel_pressure", "ak_pressure"), ("kernel", "ak")):
        new[name] = new[name].where(~alone, first[own])
    return new.assign(sounding_id=_names(first["sounding_id"], groups.sizes))


def _each(table: pd.DataFrame) -> zip:
    return zip(table["layer_weight"], table["ak"], table["apriori"], strict=True)


def _weights(error: np.ndarray, groups: _Groups, kind: str) -> np.ndarray:
    """Weights (row,) that sum to 1 in each group; where a member has no error, only such members count."""
    if kind == "equal":
        return groups.spread(1.0 / groups.sizes)
    perfect = error == 0
    has_perfect = groups.spread(groups.sum(perfect.astype(int)) > 0)
    with np.errstate(divide="ignore"):
        raw = np.where(has_perfect, perfect.astype(float), error**-2.0)
    return raw / groups.spread(groups.sum(raw))


def _error(shares: np.ndarray, groups: _Groups, correlation: float) -> np.ndarray:
    """Error (group,) of weighted sums whose members contribute `shares`, a_m sigma_m."""
    return np.sqrt((1.0 - correlation) * groups.sum(shares**2) + correlation * groups.sum(shares) ** 2)


Mean = Callable[[np.ndarray], np.ndarray]


def _turned(mean: Mean, azimuth: np.ndarray) -> np.ndarray:
    """Mean direction, degrees in 0 to 360."""
    way = mean(np.cos(np.radians(azimuth))), mean(np.sin(np.radians(azimuth)))
    return np.degrees(np.arctan2(way[1], way[0])) % 360.0


def _place(mean: Mean, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude (degrees) of the mean of points on a sphere."""
    east, north = np.radians(lon), np.radians(lat)
    x, y, z = (mean(part) for part in (np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)))
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


def _profiles(table: pd.DataFrame, groups: _Groups, a: np.ndarray) -> dict[str, list[np.ndarray]]:
    """
    Profiles of each group: means level by level, and the kernel that H takes.

    The kernel's own levels (`kernel_pressure`, `kernel`) are all of its members', as shares of the surface pressure.
    """
    made: dict[str, list[np.ndarray]] = {name: [] for name in (*_PROFILES, "kernel_pressure", "kernel")}
    numbers = range(len(table))
    surface = table["surface_pressure"].to_numpy()
    columns = {name: table[name].to_list() for name in _PROFILES}
    for rows in groups.lists(np.array(numbers)):
        weight = a[rows]
        means = {name: weight @ np.stack([columns[name][row] for row in rows]) for name in _PROFILES}
        levels = np.stack([columns["ak_pressure"][row] / surface[row] for row in rows])
        kernels = np.stack([columns["ak"][row] for row in rows])
        if np.ptp(levels, axis=0).max() <= _SAME:
            shares, kernel = levels[0], means["ak"]
        else:
            shares = np.unique(levels)[::-1]
            kernel = weight @ np.stack(
                [np.interp(shares, s[::-1], k[::-1]) for s, k in zip(levels, kernels, strict=True)]
            )
        ground = float(weight @ surface[rows])
        for name, values in (means | {"kernel_pressure": shares * ground, "kernel": kernel}).items():
            made[name].append(values)
    return made


def _hulls(table: pd.DataFrame, groups: _Groups) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Corners of the convex hull of each group's corners, counter-clockwise, degrees."""
    lons, lats = [], []
    corners = [table[f"{name}_bounds"].to_list() for name in ("longitude", "latitude")]
    for rows in groups.lists(np.arange(len(table))):
        lon, lat = (np.concatenate([each[row] for row in rows]) for each in corners)
        near = lon[0] + (lon - lon[0] + 180.0) % 360.0 - 180.0
        hull = shapely.get_coordinates(shapely.MultiPoint(np.stack([near, lat], axis=1)).convex_hull)
        ring = hull[:-1] if len(hull) > 2 else hull  # the first corner closes a polygon
        x, y = ring.T
        ring = ring if np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) >= 0 else ring[::-1]
        lons.append((ring[:, 0] + 180.0) % 360.0 - 180.0)
        lats.append(ring[:, 1])
    return lons, lats


def _members(table: pd.DataFrame, groups: _Groups, a: np.ndarray) -> list[list[dict[str, float]]]:
    """Row and column in the source, and weight, of each group's members."""
    each = [
        {"row": int(row), "column": int(column), "weight": float(weight)}
        for row, column, weight in zip(table["row"], table["column"], a, strict=True)
    ]
    return [each[start : start + size] for start, size in zip(groups.starts, groups.sizes, strict=True)]


def _names(first: pd.Series, sizes: np.ndarray) -> list[str]:
    """The first member's name, and how many more there are."""
    return [f"{name}+{size - 1}" if size > 1 else name for name, size in zip(first, sizes, strict=True)]
