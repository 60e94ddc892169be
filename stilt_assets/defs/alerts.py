"""
Who is told of scenes that failed and of runs that are stuck?

A sensor puts alerts into a ledger and posts them to a webhook. The ledger lies in the instance, is kept before an alert
is posted and after each one that was taken: an alert waits there as long as nobody answers, whatever is restarted, and
is not sent again once it was.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import dagster as dg

from stilt_assets.defs.failures import failures, told
from stilt_assets.defs.stuck import stuck
from stilt_assets.errors import SettingsError
from stilt_assets.settings import AlertSettings, load_settings
from stilt_assets.webhook import VARIABLE, Alert, Webhook, webhook

_KEY = "stilt_assets/alerts"  # of the ledger among the instance's values
_MOST = 200  # alerts that wait; more are looked for once these are gone
_REMEMBERED = 300  # failed runs: one may fail twice, when its worker and the daemon both say so
_POSTS = 20  # of one tick, at most
_SECONDS = 30.0  # after which a tick posts no further one: Dagster gives it 60


@dataclass
class Ledger:
    """What was told, and what waits to be."""

    after: int | None = None  # storage id of the last failure that was looked at
    doubtful: dict[str, float] = field(default_factory=dict)  # failed runs that Dagster means to repeat, since when
    known: list[str] = field(default_factory=list)  # ids of failed runs that became alerts
    waiting: list[dict[str, Any]] = field(default_factory=list)  # alerts
    stuck: list[str] = field(default_factory=list)  # ids of alerts about what is stuck still

    @classmethod
    def of(cls, instance: dg.DagsterInstance) -> "Ledger":
        """As the instance keeps it."""
        kept = instance.daemon_cursor_storage.get_cursor_values({_KEY}).get(_KEY)
        return cls(**json.loads(kept)) if kept else cls()

    @property
    def text(self) -> str:
        """As the instance keeps it."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def keep(self, instance: dg.DagsterInstance) -> None:
        """Let the instance keep it."""
        instance.daemon_cursor_storage.set_cursor_values({_KEY: self.text})


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING if os.environ.get(VARIABLE) else dg.DefaultSensorStatus.STOPPED,
)
def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Posts failed scenes and stuck runs to the webhook that STILT_ASSETS_ALERTS_WEBHOOK names."""
    try:
        where = webhook()
    except SettingsError as error:
        return dg.SkipReason(str(error))
    if where is None:
        return dg.SkipReason(f"{VARIABLE} is not set: nobody is told")
    ledger = Ledger.of(context.instance)
    before = ledger.text
    if len(ledger.waiting) < _MOST:
        _look(context.instance, ledger, _wanted(), time.time())
    if ledger.text != before:
        ledger.keep(context.instance)
    taken, trouble = _post(ledger, where, lambda: ledger.keep(context.instance))
    for line in trouble:
        context.log.warning(line)
    return dg.SkipReason(f"{taken} told, {len(ledger.waiting)} wait" + "".join(f"; {line}" for line in trouble[:1]))


def _wanted() -> AlertSettings:
    """What the settings say, or would say by themselves: alerts come though nothing else can be read."""
    try:
        return load_settings().alerts
    except SettingsError:
        return AlertSettings()  # pyright: ignore[reportCallIssue]


def _look(instance: dg.DagsterInstance, ledger: Ledger, wanted: AlertSettings, now: float) -> None:
    """Put what failed and what got stuck since the last look into the ledger."""
    seen = failures(instance, ledger.after, ledger.doubtful, now)
    new = [each for each in seen.failed if each.run not in ledger.known]
    held_up = stuck(instance, wanted, now)
    alerts = [*told(new), *(each for each in held_up if each.id not in ledger.stuck)]
    ledger.after, ledger.doubtful = seen.after, dict(seen.doubtful)
    ledger.known = [*ledger.known, *(each.run for each in new)][-_REMEMBERED:]
    ledger.stuck = [each.id for each in held_up]
    ledger.waiting += [_linked(each, wanted).as_json() for each in alerts]


def _linked(alert: Alert, wanted: AlertSettings) -> Alert:
    return replace(alert, link=f"{wanted.page.rstrip('/')}/runs/{alert.run}") if wanted.page else alert


def _post(ledger: Ledger, where: Webhook, keep: Callable[[], None]) -> tuple[int, list[str]]:
    """How many alerts were taken, and lines about those that were not: they wait, those that were refused behind."""
    begun, taken, trouble = time.monotonic(), 0, list[str]()
    for given in ledger.waiting[:_POSTS]:
        if time.monotonic() - begun > _SECONDS:
            break
        answer = where.post(Alert.from_json(given))
        if not answer.told:
            trouble.append(answer.line)
        if answer.away:
            break
        ledger.waiting.remove(given)
        ledger.waiting += [] if answer.told else [given]
        taken += answer.told
        keep()
    return taken, trouble
