"""
How is a value checked that a person typed?

Unknown keys are named with their nearest neighbour, control characters refused, and nothing that may be a secret is
repeated.
"""

import difflib
import re
from typing import Annotated, Any
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from stilt_assets.errors import UsageError
from stilt_assets.plain_yaml import in_a_line

_SECRET = re.compile(
    r"^(sig|key|auth|sas|pwd|se|sv)$|signature|token|secret|passw|credential|api_?key|access.?key|accessid|^x-(amz|goog)-"
)


class Strict(BaseModel):
    """A part of a settings file."""

    # Errors keep what was typed to themselves: they travel into logs, and a path may turn out to hold a password.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest_key(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for key in given:
            if key not in cls.model_fields:
                near = difflib.get_close_matches(in_a_line(key), list(cls.model_fields), n=1, cutoff=0.5)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(cls.model_fields)}"
                raise ValueError(f"unknown key '{in_a_line(key)}'; {hint}")
        return given


def is_url(location: str) -> bool:
    """Whether a location is a URL and no path of this machine."""
    return "://" in location


def without_credentials(location: str, what: str, kind: type[UsageError] = UsageError) -> str:
    """
    The location, if it is no URL with a user name, password, token or signature in it.

    Locations are written into results, logs and messages. The error of that `kind` repeats nothing of the location.
    """
    for url in re.split(r"(?=\b[A-Za-z][A-Za-z0-9+.-]*://)", location):
        scheme, _, rest = url.partition("://")
        place, *more = re.split(r"[?#]", rest)
        host, _, path = place.partition("/")
        port = re.sub(r"\[.*\]", "", host).partition(":")[2].removesuffix("::")
        secret = "@" in host or (port and (not port.isdigit() or "@" in path))
        names = [name.lower() for name, _ in parse_qsl("&".join(more).replace(";", "&"), keep_blank_values=True)]
        if secret or any(_SECRET.search(name) for name in names):
            where = f"{scheme.rpartition('::')[2]}://…" if rest else "a URL"
            raise kind(
                f"{what} ({where}) holds a user name, password, token or signature; credentials belong into the "
                "environment, ~/.aws or the file that GOOGLE_APPLICATION_CREDENTIALS names, never into a URL"
            )
    return location


def _place(location: str) -> str:
    try:
        return without_credentials(location, "this URL")
    except UsageError as error:
        raise ValueError(str(error)) from None


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Place = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$"), AfterValidator(_place)]
