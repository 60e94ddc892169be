"""
What does it cost in dollars? As the settings' prices say; what has no price there is not counted, and that is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from stilt_assets.settings import PriceSettings


@dataclass(frozen=True)
class Bill:
    """Dollars by what they are paid for: cpu, storage (of all months), writes, download. None: no price is given."""

    parts: Mapping[str, float | None]

    @property
    def dollars(self) -> float | None:
        """All that have a price; None if nothing has."""
        known = [part for part in self.parts.values() if part is not None]
        return sum(known) if known else None

    @property
    def unpriced(self) -> list[str]:
        """What has no price."""
        return [name for name, part in self.parts.items() if part is None]


def bill_of(prices: PriceSettings, cpu_hours: float, gigabytes: float, requests: float, gigabytes_in: float) -> Bill:
    """Dollars of CPU hours, 1e9 bytes kept for `prices.months`, requests that write, and 1e9 bytes downloaded."""
    per_gigabyte = None if prices.gigabyte_month is None else prices.gigabyte_month * prices.months
    amounts = {
        "cpu": (prices.cpu_hour, cpu_hours),
        "storage": (per_gigabyte, gigabytes),
        "writes": (prices.thousand_writes, requests / 1000),
        "download": (prices.gigabyte_in, gigabytes_in),
    }
    return Bill({name: None if price is None else price * amount for name, (price, amount) in amounts.items()})
