"""
Which transport models are there?

One file each; a class of somebody else's is named by where it can be imported from, as `module:Class`.
"""

import pkgutil

from stilt_assets.errors import SettingsError
from stilt_assets.simulation import Transport
from stilt_assets.transport.hysplit import Hysplit

TRANSPORTS: dict[str, type[Transport]] = {"hysplit": Hysplit}


def transport_named(name: str) -> Transport:
    """The transport model of that name; SettingsError if there is none."""
    if name in TRANSPORTS:
        return TRANSPORTS[name]()
    try:
        return pkgutil.resolve_name(name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"no transport model '{name}' ({error}); known: {', '.join(TRANSPORTS)}") from error
