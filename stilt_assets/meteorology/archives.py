"""
Which file of a public archive holds which hour, and which part of the world?

Paths of NOAA's archives are arlmet's; the two of Google's mirror of HRRR are classes of our own. Everything comes by
https, without credentials. The real buckets could not be reached where this was written: paths of Google's mirror are
as its users name them, and steps, grids and beginnings as NOAA describes them. Nothing rests on them that is not seen
again in the files: an hour that a file lacks is refused, and so is a file of another grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import arlmet
import numpy as np
import pandas as pd
from arlmet.archives import Archive, HRRRArchive, HRRRv1Archive, get_archive

from stilt_assets.meteorology import Box

_GOOGLE = "https://storage.googleapis.com/high-resolution-rapid-refresh"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST = timedelta(hours=18)  # that any cycle of HRRR forecasts
_CYCLES = 6  # hours between the cycles that are asked for: as many as an analysis file holds


class GoogleHRRRArchive(HRRRArchive):
    """HRRR 3 km analysis, Google's mirror: six hours a file, all in one folder; its beginning is nowhere written."""

    name = "hrrr_google"
    description = "HRRR 3 km analysis, Google's mirror"
    start_date = HRRRv1Archive.start_date

    def _archive_path(self, time: pd.Timestamp) -> str:
        return f"noaa_arl_formatted/{self._filename(time)}"


class GoogleHRRRForecastArchive(Archive):
    """HRRR 3 km forecasts, Google's mirror: a file per cycle with hours 0 to 18. `time` is that of the cycle."""

    name = "hrrr_forecast"
    description = "HRRR 3 km forecast, Google's mirror"
    start_date = HRRRv1Archive.start_date
    source = "HRRR"

    def _archive_path(self, time: pd.Timestamp) -> str:
        return f"noaa_arl_formatted/forecast/{time:%Y%m%d}/hysplit.t{time:%H}z.hrrrf"


# The grids as NCEP defines them: corner of the first cell, spacing, count of cells.
_HRRR = arlmet.Grid(
    arlmet.Projection(90.0, 0.0, 38.5, -97.5, 3.0, 0.0, 38.5, 1.0, 1.0, 21.138123, -122.719528), 1799, 1059
)
_NAM12 = arlmet.Grid(arlmet.Projection(90.0, 0.0, 25.0, -95.0, 12.191, 0.0, 25.0, 1.0, 1.0, 12.19, -133.459), 614, 428)


@dataclass(frozen=True)
class Product:
    """One public archive."""

    name: str
    base: str  # address below which its paths lie
    step: timedelta  # between the times that its files hold
    grid: arlmet.Grid | None  # None: the whole earth
    forecast: bool = False

    def steps(self, hours: Sequence[datetime]) -> list[datetime]:
        """The times of the product, UTC, that bracket the whole hours (oldest first)."""
        first = hours[0] - (hours[0] - _EPOCH) % self.step
        last = hours[-1] + (_EPOCH - hours[-1]) % self.step
        return [first + self.step * number for number in range(round((last - first) / self.step) + 1)]

    def paths(self, time: datetime) -> list[str]:
        """Paths of the files that may hold a time (UTC), the best first; none before the archive begins."""
        archive = get_archive(self.name)
        if time < archive.start_date.to_pydatetime().replace(tzinfo=UTC):
            return []
        if not self.forecast:
            return archive.paths_for_range(_naive(time), _naive(time))
        newest = time.replace(hour=time.hour - time.hour % _CYCLES)
        cycles = [newest - timedelta(hours=back) for back in range(0, 24, _CYCLES)]
        return [
            path
            for cycle in cycles
            if time - cycle <= _LONGEST
            for path in archive.paths_for_range(_naive(cycle), _naive(cycle))
        ]

    def covers(self, box: Box) -> bool:
        """Whether the product's cells hold a box (degrees)."""
        return self.grid is None or holds(self.grid, box)


def holds(grid: arlmet.Grid, box: Box) -> bool:
    """Whether a grid's cells hold a box (degrees); seen on its outline, a point every tenth of a side."""
    west, south, east, north = box
    width = (east - west) % 360.0 or (360.0 if east > west else 0.0)
    lon, lat = np.linspace(west, west + width, 11), np.linspace(south, north, 11)
    outline = [(each, edge) for each in lon for edge in (south, north)]
    outline += [(edge, each) for each in lat for edge in (west, east)]
    x, y = grid.fractional_indices(*(np.array(values) for values in zip(*outline, strict=True)))
    last = grid.nx if grid.wraps_lon else grid.nx - 1
    return bool(np.all((x >= 0) & (x <= last) & (y >= 0) & (y <= grid.ny - 1)))


def _naive(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M}"


_NOAA = f"https://{Archive.S3_BUCKET}.s3.amazonaws.com"
_HOUR, _THREE_HOURS = timedelta(hours=1), timedelta(hours=3)

PRODUCTS = {
    product.name: product
    for product in (
        Product("hrrr", _NOAA, _HOUR, _HRRR),
        Product("hrrr_google", _GOOGLE, _HOUR, _HRRR),
        Product("hrrr_forecast", _GOOGLE, _HOUR, _HRRR, forecast=True),
        Product("nam12", _NOAA, _THREE_HOURS, _NAM12),
        Product("gfs0p25", _NOAA, _THREE_HOURS, None),
        Product("gdas1", _NOAA, _THREE_HOURS, None),
    )
}
