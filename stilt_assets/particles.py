"""
In what form are particles kept, and what does each of them stand for?

Rows in fixed point, each particle's release and last row, its share of the column's air and its averaging kernel.
"""

import numpy as np
import pandas as pd
from stilt.transforms import particle_pwf

from stilt_assets.errors import TransportError
from stilt_assets.receptor import Kernel

# Fixed point of kept particles: the number of steps per unit. HYSPLIT prints no more of a position.
STEPS = {"lon": 10_000, "lat": 10_000, "zagl": 1, "pressure": 10}
CORE = {"particle": "i2", "age": "i2", "lon": "i4", "lat": "i4", "zagl": "i2", "pressure": "i2", "foot": "f4"}
FULL = CORE | dict.fromkeys(("foot_no_hnf_dilution", "mlht", "dens", "samt", "sigw", "tlgr"), "f4")


def kept_form(particles: pd.DataFrame, *, full: bool) -> dict[str, np.ndarray]:
    """Particles in fixed point, sorted by hour back, particle and age: what is stored, and what is gridded."""
    table = particles.rename(columns={"pres": "pressure"})
    hours_back = (-table["age"].to_numpy() - 1) // 60
    order = np.lexsort((-table["age"].to_numpy(), table["particle"].to_numpy(), hours_back))
    columns = FULL if full else CORE
    return {
        name: np.rint(table[name].to_numpy()[order] * STEPS.get(name, 1)).astype(kind)
        if kind[0] == "i"
        else table[name].to_numpy()[order].astype(kind)
        for name, kind in columns.items()
    }


def releases_of(particles: pd.DataFrame) -> dict[str, np.ndarray]:
    """
    Where each particle started and what it stands for, by particle: float64 arrays (particle,).

    `release_height` m above ground; `release_pressure` hPa, of the first minute; `weight`, the share of the column's
    air in the particle's slab: `[P(z - d/2) - P(z + d/2)]/p_s` with ln P fitted to the first minute (X-STILT's rule;
    the weights sum to `(p_s - p_top)/p_s`); `surface_pressure` hPa, of that fit. TransportError without a profile.
    Particles of one height stand for their share of the particles: they show no profile, and no surface pressure.
    """
    first = particles.loc[particles.groupby("particle")["age"].idxmax()]
    if first["release_height"].nunique() == 1:
        return _of_a_point(first)
    try:
        pressure, weight = (values.reindex(first["particle"]).to_numpy() for values in particle_pwf(first))
    except ValueError as error:
        raise TransportError("no_pressure_profile", str(error)) from error
    height = first["release_height"].to_numpy()
    low, high = int(height.argmin()), int(height.argmax())
    slope = np.log(pressure[high] / pressure[low]) / (height[high] - height[low])
    surface = pressure[low] * np.exp(-slope * height[low])
    return {
        "particle": first["particle"].to_numpy().astype("i2"),
        "release_height": height.astype("f8"),
        "release_pressure": first["pres"].to_numpy().astype("f8"),
        "weight": weight.astype("f8"),
        "surface_pressure": np.full(len(first), surface),
    }


def _of_a_point(first: pd.DataFrame) -> dict[str, np.ndarray]:
    return {
        "particle": first["particle"].to_numpy().astype("i2"),
        "release_height": first["release_height"].to_numpy().astype("f8"),
        "release_pressure": first["pres"].to_numpy().astype("f8"),
        "weight": np.full(len(first), 1.0 / len(first)),
        "surface_pressure": np.full(len(first), np.nan),
    }


def column_weights(releases: dict[str, np.ndarray], kernel: Kernel) -> np.ndarray:
    """
    omega (particle,) = averaging kernel x share of the column's air.

    The kernel is looked up by pressure, after the particle's has been scaled from the model's surface pressure to the
    retrieval's; outside its levels it keeps its end values. A kernel of one level holds at any pressure.
    """
    if len(kernel.value) == 1:
        return releases["weight"] * kernel.value[0]
    pressure = releases["release_pressure"] * (kernel.surface_pressure / releases["surface_pressure"])
    order = np.argsort(kernel.pressure)
    return releases["weight"] * np.interp(pressure, kernel.pressure[order], kernel.value[order])


def endpoints_of(kept: dict[str, np.ndarray], releases: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each particle's last row, in fixed point, beside its release: arrays (particle,) in the order of `releases`."""
    last = np.lexsort((kept["age"], kept["particle"]))
    first_of_each = np.unique(kept["particle"][last], return_index=True)[1]
    rows = last[first_of_each]
    order = np.argsort(releases["particle"])
    ends = {name: kept[name][rows] for name in ("particle", "age", "lon", "lat", "zagl", "pressure")}
    return ends | {name: values[order] for name, values in releases.items() if name != "particle"}
