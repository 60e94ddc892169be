"""
How many operations has each part of a particle-minute, as numba compiles it for this machine?

Counted in the machine code of parts in which nearly all is done once a call: `PYTHONPATH=. python
benchmarks/operations.py`, half a minute of a core on x86-64. A vector instruction counts for as many operations as it
has lanes; loads are those from other places than the stack. All else, such as the counting of references, belongs to
calls that inlining takes away.
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from typing import Any

PACKED = {"ss": 0, "sd": 0, "ps": 4, "pd": 8}  # bytes of a lane; 0 is one number
WIDTHS = {"x": 16, "y": 32, "z": 64}  # bytes of a register
KINDS = {
    "add": re.compile(r"v?(?:add|sub|min|max)([sp][sd])$"),
    "multiply": re.compile(r"v?mul([sp][sd])$"),
    "fused": re.compile(r"vfn?m(?:add|sub)\d+([sp][sd])$"),
    "divide": re.compile(r"v?div([sp][sd])$"),
    "root": re.compile(r"v?sqrt([sp][sd])$"),
}
COLUMNS = (*KINDS, "loads")


def parts() -> Mapping[str, tuple[Any, tuple[Any, ...]]]:
    """Functions of the engine, and what they are called with."""
    import numpy as np

    from stilt_assets.transport.native import draws, engine, turbulence, winds
    from tests.made_air import FIRST, made_air

    met = made_air(wind=(0.05, 0.02, 0.1))
    place, moment = winds.place_of(met, 20.3, 14.6), winds.moment_of(met, FIRST + 90)
    column, flight = turbulence.column_of(met, 20.3, 14.6, moment), engine.new_flight(3)
    stream = draws.stream_of(np.uint64(1), np.uint64(2), np.uint64(3))
    return {
        "a blend": (winds.blend, (met, met.wind, place, moment, 3, 0)),
        "the mean wind, at both ends": (winds.drift, (met, place, moment, moment, 20.3, 14.6, 300.0)),
        "a layer, and the wind within it": (turbulence.layer_of, (met, place, moment, column, 2)),
        "sigma of gusts": (engine.horizontal_sigma, (met, place, moment, 300.0)),
        "pressure, density and place on the earth": (engine.tell, (met, flight, 0, moment)),
        "a normal number": (draws.normal, (stream,)),
    }


def code_of(function: Any, given: tuple[Any, ...]) -> list[str]:
    """Lines of the machine code of a compiled function for such arguments, without those of its wrappers."""
    from numba import typeof

    signature = tuple(typeof(value) for value in given)
    function.compile(signature)
    overload = function.overloads[signature]
    name = overload.fndesc.mangled_name
    whole = overload.library.get_asm_str()
    start = re.search(rf"^\"?{re.escape(name)}\"?:", whole, re.MULTILINE)
    if start is None:
        raise SystemExit(f"no machine code of {name}")
    return whole[start.end() : whole.index(".cfi_endproc", start.end())].splitlines()


def counted(lines: list[str]) -> Counter[str]:
    """Operations by kind."""
    counts: Counter[str] = Counter()
    for line in lines:
        words = line.split("#")[0].split(None, 1)
        if not words or words[0].endswith(":") or words[0].startswith("."):
            continue
        word, operands = words[0], words[1] if len(words) > 1 else ""
        source = operands.rpartition(", %")[0]
        counts["loads"] += "(" in source and "%rsp" not in source and not word.startswith("lea")
        for kind, pattern in KINDS.items():
            if found := pattern.match(word):
                lane = PACKED[found[1]]
                register = re.search(r"%([xyz])mm", operands)
                counts[kind] += WIDTHS[register[1]] // lane if lane and register else 1
    return counts


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder  # what was compiled before cannot be looked into
        print("| part | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|")
        for name, (function, given) in parts().items():
            counts = counted(code_of(function, given))
            print(f"| {name} | " + " | ".join(str(counts[kind]) for kind in COLUMNS) + " |", flush=True)


if __name__ == "__main__":
    main()
