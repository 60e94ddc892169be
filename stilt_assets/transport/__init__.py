"""Which transport models are there? One file each; `transport_named` gives them by the name in the settings."""

from stilt_assets.errors import SettingsError
from stilt_assets.simulation import Transport
from stilt_assets.transport.hysplit import Hysplit

TRANSPORTS: dict[str, type[Transport]] = {"hysplit": Hysplit}


def transport_named(name: str) -> Transport:
    """The transport model of that name; SettingsError if there is none."""
    if name not in TRANSPORTS:
        raise SettingsError(f"no transport model '{name}'; known: {', '.join(TRANSPORTS)}")
    return TRANSPORTS[name]()
