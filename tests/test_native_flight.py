"""What becomes of receptors that are points, at the ground or too high for the model?"""

from datetime import UTC, datetime

import numpy as np
import pytest
from made_weather import lambert

from stilt_assets.errors import TransportError
from stilt_assets.grid import Grid
from stilt_assets.meteorology.proof import Edges
from stilt_assets.receptor import Kernel, Receptor
from stilt_assets.simulation import Flown, Limits, Simulation
from stilt_assets.transport.native.flight import Air, Course, fly
from stilt_assets.transport.native.geometry import to_degrees
from stilt_assets.transport.native.layout import HEIGHTS, LEVELS
from tests.made_air import FIRST, NX, NY, made_air

KERNEL = Kernel(np.array([np.nan]), np.array([0.8]), np.nan)
COUNT = 40


def flown(bottom: float, top: float, reached: tuple[int, int, int] = (LEVELS,) * 3) -> Flown:
    met = made_air(wind=(0.05, -0.03, 0.0), mixed_layer=600.0, sigma=0.3)
    lon, lat = to_degrees(20.0, 14.0, met.projection)
    receptor = Receptor(0, datetime.fromtimestamp(60 * (FIRST + 120), UTC), lon, lat, bottom, top)
    course = Course(Air(met, np.array(reached, "i1")), receptor, Simulation("native", 1, COUNT, 3))
    edges = Edges(lambert(NX, NY), (False, False, False, False), None)
    return fly(course, KERNEL, Grid(-112.0, 39.4, -110.0, 40.7, 0.01), edges, "core", Limits(600.0))


@pytest.mark.parametrize("height", [0.0, 35.0])
def test_particles_of_a_point_start_there_and_count_alike(height):
    found = flown(height, height)
    assert found.ends["release_height"].tolist() == [height] * COUNT
    assert found.ends["weight"] == pytest.approx(np.full(COUNT, 1 / COUNT))
    felt = found.kept["foot"].astype(float).sum() / COUNT
    assert felt > 0
    assert np.sum(found.cells.foot) == pytest.approx(0.8 * felt, rel=1e-4)


def test_a_column_that_is_higher_than_the_model_is_told_by_its_reason():
    with pytest.raises(TransportError, match="26000 m above ground") as raised:
        flown(0.0, 26_000.0)
    assert raised.value.reason == "above_meteorology"
    assert flown(0.0, 20_000.0).cells


def test_above_its_own_levels_the_meteorology_serves_up_to_the_second_level_that_they_do_not_reach():
    assert HEIGHTS[12:15] == (4750.0, 5535.0, 6380.0)
    assert flown(0.0, 6379.0, reached=(9, 12, 13)).cells  # the release is at the last of three times
    with pytest.raises(TransportError, match="6380 m above ground, lies above the meteorology") as raised:
        flown(0.0, 6380.0, reached=(14, 14, 13))
    assert raised.value.reason == "above_meteorology"
