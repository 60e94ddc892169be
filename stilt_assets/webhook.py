"""
How is somebody told? By a POST of JSON to a webhook, whose address is a secret.

The body's `text` is what Slack and those that do as it does show; the other keys are for programs.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from time import sleep
from typing import Any
from urllib.parse import urlsplit

from stilt_assets.errors import SettingsError

VARIABLE = "STILT_ASSETS_ALERTS_WEBHOOK"
_SECONDS = (5.0, 10.0)  # to connect, and between two bytes of the answer
_TRIES = 2
_PAUSE = 1.0  # s between them
_SHOWN = 20  # scenes that one alert names
_AWAY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


@dataclass(frozen=True)
class Alert:
    """What somebody is to know."""

    id: str  # the same whenever the same thing is told
    kind: str  # failed, or stuck
    what: str  # a line
    then: str = ""  # what to do about it
    reason: str = ""  # a word of the table of reasons, if one is known
    scenes: Sequence[str] = ()
    count: int = 1  # of runs
    run: str = ""  # the first one's id
    link: str = ""  # to its page
    runbook: str = ""  # where to read on
    time: str = ""  # UTC

    @property
    def text(self) -> str:
        """All of it, for people."""
        return " ".join(filter(None, [self.what, self.then, self.link, self.runbook and f"(see {self.runbook})"]))

    def as_json(self) -> dict[str, Any]:
        """As it is sent, and kept until it is."""
        return asdict(self) | {"scenes": list(self.scenes)[:_SHOWN], "text": self.text}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Alert":
        """As it was kept."""
        return cls(**{name: value for name, value in given.items() if name != "text"})


@dataclass(frozen=True)
class Answer:
    """What became of one POST."""

    told: bool
    away: bool = False  # nobody answers there just now: others need not be tried
    line: str = ""  # if it was not told


@dataclass(frozen=True)
class Webhook:
    """Where alerts go."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        return f"the webhook at {urlsplit(self.url).hostname}"

    def post(self, alert: Alert) -> Answer:
        """Send an alert, tried again once while nobody answers. A redirection is not followed."""
        answer = Answer(False)
        for number in range(_TRIES):
            if number:
                sleep(_PAUSE)
            answer = self._post(alert)
            if not answer.away:
                break
        return answer

    def _post(self, alert: Alert) -> Answer:
        import requests

        try:
            with requests.post(
                self.url,
                json=alert.as_json(),
                headers={"Idempotency-Key": alert.id},
                timeout=_SECONDS,
                allow_redirects=False,
                stream=True,  # nobody reads what it answers, however long
            ) as response:
                status = response.status_code
        except requests.RequestException as error:  # its message holds the address
            return Answer(False, away=True, line=f"{self} does not answer ({type(error).__name__})")
        if status < HTTPStatus.MULTIPLE_CHOICES:
            return Answer(True)
        away = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _AWAY
        return Answer(False, away, f"{self} answers {status} to {alert.id}")


def webhook() -> Webhook | None:
    """The webhook that the environment names; None if it names none. SettingsError if it is no http(s) address."""
    url = os.environ.get(VARIABLE, "").strip()
    if not url:
        return None
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        sound = False
    if not sound:
        raise SettingsError(f"{VARIABLE} is no address of the form https://host/path")
    return Webhook(url)
