"""
Which measurement does a retrieval file hold, and which issue of it?

Read from the file's name alone, as missions name their files by rules. A re-issue (a newer collection or processor)
holds the same measurement once more.

Sentinel-5P: Level 2 Product User Manual Methane, SRON-S5P-LEV2-MA-001, "file name convention".
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlsplit

_S5P = re.compile(
    r"S5P_(?P<stream>[A-Z]{4})_(?P<product>L2__\w{6})_(?P<start>\d{8}T\d{6})_(?P<stop>\d{8}T\d{6})"
    r"_(?P<orbit>\d{5})_(?P<collection>\d\d)_(?P<processor>\d{6})_(?P<produced>\d{8}T\d{6})"
)
_OCO = re.compile(
    r"(?P<product>oco[23]_Lt(?:CO2|SIF))_(?P<day>\d{6})_(?P<version>B\d+\w*?)(?:_(?P<produced>\w+))?\.nc4?"
)
_DATED = re.compile(r"(?P<head>.*?)(?<!\d)(?P<day>(?:19|20)\d{6})(?P<tail>(?!\d).*)")
ONE_OVERPASS = timedelta(minutes=60)  # first good pixels of one overpass in two issues: less than an orbit
_ALIKE = timedelta(minutes=20)  # the same, of files whose names say nothing


@dataclass(frozen=True)
class Issue:
    """What a file's name says: what was measured, from when to when (UTC), and the order of its issues."""

    measurement: str
    start: datetime
    stop: datetime
    version: tuple[int | str, ...]

    @property
    def days(self) -> tuple[date, date]:
        """First and last day that it may hold pixels of."""
        return self.start.date(), self.stop.date()


def name_of(location: str) -> str:
    """The last part of a path or URL."""
    return (urlsplit(location).path if "://" in location else location).rstrip("/").rsplit("/", 1)[-1]


def issue_of(location: str) -> Issue | None:
    """What the name of a file (path or URL) says; None if it says no date."""
    name = name_of(location)
    try:
        if parts := _S5P.match(name):
            start, stop = (_moment(parts[each]) for each in ("start", "stop"))
            version = (int(parts["collection"]), int(parts["processor"]), parts["produced"])
            return Issue(f"S5P {parts['product']} orbit {parts['orbit']}", start, stop, version)
        if parts := _OCO.match(name):
            day = _moment(f"20{parts['day']}T000000")
            return _of_a_day(parts["product"], day, (parts["version"], parts["produced"] or ""))
        if parts := _DATED.match(name):
            day = _moment(f"{parts['day']}T000000")
            return _of_a_day(parts["head"], day, tuple(int(each) for each in re.findall(r"\d+", parts["tail"])))
    except ValueError:  # digits that are no date
        return None
    return None


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def _of_a_day(product: str, day: datetime, version: tuple[int | str, ...]) -> Issue:
    return Issue(f"{product} {day:%Y-%m-%d}", day, day + timedelta(days=1, seconds=-1), version)


def same_overpass(one: Issue | None, other: Issue | None, apart: timedelta) -> bool:
    """
    Whether two files of one instrument hold the same overpass of a target, their first good pixels being `apart`.

    Slices of an orbit have its number, too; they differ in their span.
    """
    if one is None or other is None:
        return one is other and abs(apart) <= _ALIKE
    shared = min(one.stop, other.stop) - max(one.start, other.start)
    shorter = min(one.stop - one.start, other.stop - other.start)
    return one.measurement == other.measurement and 2 * shared >= shorter and abs(apart) <= ONE_OVERPASS


def is_older(one: Issue | None, other: Issue | None) -> bool:
    """Whether the first is an earlier issue than the second; False if nobody can tell."""
    if one is None or other is None or one.measurement != other.measurement:
        return False
    kinds = [[isinstance(part, int) for part in issue.version] for issue in (one, other)]
    alike = kinds[0][: len(kinds[1])] == kinds[1][: len(kinds[0])]
    return alike and one.version < other.version
