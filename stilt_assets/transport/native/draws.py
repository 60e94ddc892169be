"""
Which chance does a particle meet in a minute?

Random numbers without a state that is shared: those of a particle's minute follow from the receptor's seed, the
particle's number and the minute alone, so they do not depend on threads or on the order of the work. A stream is
splitmix64 (Steele, Lea and Flood 2014) from a start that a hash of the three gives.
"""

from math import exp, log, sqrt

import numpy as np
import numpy.typing as npt
from numba import int64, uint64

from stilt_assets.transport.native.compiled import compiled

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11, _ONE = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11), np.uint64(1)
_UNIT = 2.0**-53
RELEASE, _HEIGHT = 2**62, 2**62 + 1  # in the place of a minute: draws that a particle starts with, of its height
_LAYERS = 128
_MASK = np.uint64(_LAYERS - 1)
_EDGE = 3.442619855899  # where the tail begins, for 128 layers
_AREA = 9.91256303526217e-3  # of each layer


def _layers() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Widths of the layers of equal area under exp(-x^2/2), widest first, and the next width over each."""
    width = np.empty(_LAYERS + 1)
    width[0], width[1], width[_LAYERS] = _AREA / exp(-0.5 * _EDGE**2), _EDGE, 0.0
    for i in range(2, _LAYERS):
        width[i] = sqrt(-2.0 * log(_AREA / width[i - 1] + exp(-0.5 * width[i - 1] ** 2)))
    return width, width[1:] / width[:-1]


_WIDTH, _INSIDE = _layers()


@compiled(forceinline=True)
def _scatter(bits):
    """A one-to-one hash of 64 bits."""
    bits = (bits ^ (bits >> _S30)) * _FIRST
    bits = (bits ^ (bits >> _S27)) * _SECOND
    return bits ^ (bits >> _S31)


@compiled(forceinline=True)
def stream_of(seed, particle, minute):
    """The start of the random numbers of a receptor's particle in a minute (all as uint64)."""
    one = _scatter(uint64(seed) + _STEP * (uint64(particle) + _ONE))
    return _scatter(one + _STEP * (uint64(minute) + _ONE))


@compiled(forceinline=True)
def even(stream):
    """The stream's next state and a number spread evenly over (0, 1)."""
    stream = stream + _STEP
    return stream, (float(int64(_scatter(stream) >> _S11)) + 0.5) * _UNIT


@compiled(forceinline=True)
def normal(stream):
    """The stream's next state and a standard normal number, by layers (Marsaglia and Tsang 2000, Doornik 2005)."""
    stream = stream + _STEP
    bits = _scatter(stream)
    layer = bits & _MASK
    across = float(int64(bits >> _S11)) * (2.0 * _UNIT) - 1.0
    if abs(across) < _INSIDE[layer]:
        return stream, across * _WIDTH[layer]
    return _outside(stream, layer, across)


@compiled
def _outside(stream, layer, across):
    """What `normal` does where the layer's sure part ends: one number in 85."""
    while True:
        if layer == 0:
            stream, x = _tail(stream)
            return stream, x if across > 0.0 else -x
        x = across * _WIDTH[layer]
        outer = exp(-0.5 * (_WIDTH[layer] * _WIDTH[layer] - x * x))
        inner = exp(-0.5 * (_WIDTH[layer + _ONE] * _WIDTH[layer + _ONE] - x * x))
        stream, u = even(stream)
        if inner + u * (outer - inner) < 1.0:
            return stream, x
        stream = stream + _STEP
        bits = _scatter(stream)
        layer = bits & _MASK
        across = float(int64(bits >> _S11)) * (2.0 * _UNIT) - 1.0
        if abs(across) < _INSIDE[layer]:
            return stream, across * _WIDTH[layer]


@compiled
def _tail(stream):
    """A normal number beyond the layers' edge."""
    while True:
        stream, u = even(stream)
        stream, v = even(stream)
        x = -log(u) / _EDGE
        if -2.0 * log(v) > x * x:
            return stream, _EDGE + x


@compiled
def slab_height(seed, particle, particles, bottom, top):
    """
    Where in a column a particle starts, m above ground: somewhere in a slab of its own, the lowest first.

    There is one slab more than there are particles, and the highest stays empty, as in `hycs_std`.
    """
    _, u = even(stream_of(uint64(seed), uint64(particle), uint64(_HEIGHT)))
    return bottom + (particle + u) * (top - bottom) / (particles + 1)
