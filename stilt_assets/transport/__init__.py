"""
Which transport models are there?

One file each; a class of somebody else's is named by where it can be imported from, as `module:Class`.
"""

import pkgutil

from stilt_assets.errors import SettingsError
from stilt_assets.simulation import Transport

TRANSPORTS = {
    "hysplit": "stilt_assets.transport.hysplit:Hysplit",
    "native": "stilt_assets.transport.native.model:Native",
}


def transport_named(name: str) -> Transport:
    """The transport model of that name; SettingsError if there is none."""
    try:
        model = pkgutil.resolve_name(TRANSPORTS.get(name, name))()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise SettingsError(f"no transport model '{name}' ({error}); known: {', '.join(TRANSPORTS)}") from error
    if not isinstance(model, Transport):
        raise SettingsError(f"no transport model '{name}' (it has not what one needs); known: {', '.join(TRANSPORTS)}")
    return model


def reference_of(name: str) -> str | None:
    """The model that a guard asks about the particles of the one of that name; None for one that needs no guard."""
    return getattr(transport_named(name), "reference", None)
