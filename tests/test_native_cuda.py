"""On a card particles fly as on the CPU. No card is needed: numba's simulator runs the same threads in Python."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from made_air import FIRST, full, made_air

from stilt_assets.errors import CannotExecuteError
from stilt_assets.receptor import Receptor
from stilt_assets.simulation import Limits, Simulation
from stilt_assets.transport.native import cuda
from stilt_assets.transport.native.engine import Flight, fly_minute, new_flight, start
from stilt_assets.transport.native.flight import Course, followed
from stilt_assets.transport.native.log import UNBOUNDED, kept_of

HERE = Path(__file__).parent
RELEASES, SEEDS, MINUTES = (FIRST + 100, FIRST + 80), (11, 12), 3
PLACES = ((-111.0, 40.0), (-111.58, 40.02))  # the second is about to leave through the west
HEIGHTS = (5.0, 300.0, 1500.0)

PROGRAM = """
import json
from test_native_cuda import MINUTES, RELEASES, SEEDS, air, kept, started
from stilt_assets.transport.native.cuda import Card
met = air()
flights = [started(met, receptor) for receptor in range(2)]
card = Card(met)
stories = [card.fly(flights, SEEDS, RELEASES, 1, 2), card.fly(flights, SEEDS, RELEASES, 3, MINUTES)]
print(json.dumps({
    "kept": {name: values.tolist() for name, values in kept("gpu").items()},
    "flies": [story.flies.tolist() for story in stories],
    "told": [story.told.tolist() for story in stories],
    "x": [flight.x.tolist() for flight in flights],
    "ratio": [flight.ratio.tolist() for flight in flights],
}))
"""


def air():
    return made_air(wind=(2.0, -1.0, 3.0), mixed_layer=800.0, sigma=0.6, timescale=60.0)


def started(met, receptor: int) -> Flight:
    flight = new_flight(len(HEIGHTS))
    for i, height in enumerate(HEIGHTS):
        assert start(met, flight, i, np.uint64(SEEDS[receptor]), *PLACES[receptor], height, RELEASES[receptor])
    return flight


def kept(device: str) -> dict[str, np.ndarray]:
    """What a scene keeps of two particles that are followed on a device."""
    receptor = Receptor(0, datetime.fromtimestamp(60 * RELEASES[0], UTC), *PLACES[0], 0.0, 400.0)
    course = Course(full(air()), receptor, Simulation("native", 1, 2, 0, device))
    return kept_of(followed(course, UNBOUNDED, "full", Limits(600.0))[0])


@pytest.fixture(scope="module")
def on_a_card() -> dict:
    """What the simulator says; plain Python, as it cannot call machine code."""
    simulated = {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=os.environ | simulated,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def on_the_cpu() -> list[tuple[Flight, np.ndarray, np.ndarray]]:
    """Each receptor's flight at its end, who flew in each minute, and where."""
    met, ends = air(), []
    for receptor in range(2):
        flight, flies, places = started(met, receptor), [], []
        for minute in range(MINUTES):
            fly_minute(met, flight, np.uint64(SEEDS[receptor]), minute, RELEASES[receptor] - minute)
            flies.append(flight.flies.copy())
            places.append([flight.lon.copy(), flight.lat.copy(), flight.zagl.copy(), flight.foot.copy()])
        ends.append((flight, np.array(flies), np.array(places)))
    return ends


def test_particles_fly_on_a_card_as_on_the_cpu(on_a_card, on_the_cpu) -> None:
    for receptor, (flight, flies, places) in enumerate(on_the_cpu):
        told_flies = np.concatenate([part[receptor] for part in on_a_card["flies"]])
        told = np.concatenate([part[receptor] for part in on_a_card["told"]])
        assert told_flies.tolist() == flies.tolist()
        for minute in range(MINUTES):
            fly = flies[minute] == 1
            np.testing.assert_allclose(told[minute][[0, 1, 2, 5]][:, fly], places[minute][:, fly], rtol=1e-9)
        fly = flies[-1] == 1
        np.testing.assert_allclose(np.array(on_a_card["x"][receptor])[fly], flight.x[fly], rtol=1e-9)
        np.testing.assert_allclose(np.array(on_a_card["ratio"][receptor])[fly], flight.ratio[fly], rtol=1e-7)


def test_a_scene_with_a_card_keeps_what_one_without_keeps(on_a_card) -> None:
    # Two ways to round to float32 differ in the last bit, and fixed point by a step at most.
    for name, values in kept("cpu").items():
        step = 1.0 if values.dtype.kind == "i" else 0.0
        np.testing.assert_allclose(on_a_card["kept"][name], values, rtol=1e-4, atol=step)
    assert on_a_card["kept"]["particle"] == kept("cpu")["particle"].tolist()
    assert len(kept("cpu")["age"]) > 10


def test_the_case_says_something(on_the_cpu) -> None:
    flies = np.stack([flies for _, flies, _ in on_the_cpu])
    foot = np.stack([places[:, 3] for _, _, places in on_the_cpu])
    assert 0 < flies.mean() < 1, "some leave, some stay"
    assert (foot[0, :, 0] > 0).all(), "the lowest particle is near the ground"
    assert foot[:, :, 2].max() == 0.0, "the highest is not"


def test_without_a_card_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda.cuda, "is_available", lambda: False)
    cuda._kernel.cache_clear()
    with pytest.raises(CannotExecuteError, match="needs a CUDA card"):
        cuda.Card(air())
