"""
How do the particles of many receptors move, all in one process over one decoded meteorology?

A model of our own with the same answers as `hycs_std`. Formulas come from the papers (Lin et al. 2003, Hanna 1982,
Thomson et al. 1997, Beljaars and Holtslag 1991, Draxler and Hess 1997) and from questions put to `hycs_std` itself.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stilt_assets.transport.native.pystilt_model import NativeModel

__all__ = ["NativeModel"]


def __getattr__(name: str) -> Any:
    """PYSTILT's model, imported when it is asked for: what compiles is of no use to those who only look."""
    if name == "NativeModel":
        from stilt_assets.transport.native.pystilt_model import NativeModel

        return NativeModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
