"""The way of what flies, and what is drawn of it."""

import jax
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from planahead.experiments.flight_figure import draw_flight, flight_figure, speeds, widest_view
from planahead.experiments.trajectory import _actions
from planahead.tasks import make_task
from planahead.tasks.flight.hover import Hover
from planahead.tasks.flight.race import Race


def straight(speed: float = 2.0) -> np.ndarray:
    """Ten moments along x, 20 ms apart."""
    flight = np.zeros((10, 6))
    flight[:, 0], flight[:, 3] = 0.02 * speed * np.arange(10), speed
    return flight


def lines_of(figure: Figure) -> list[LineCollection]:
    return [c for axes in figure.axes for c in axes.collections if isinstance(c, LineCollection)]


def test_every_flight_is_drawn_in_both_views_on_one_scale():
    race = Race.on("circle")
    figure = flight_figure(race, {"slow": straight(2.0), "fast": straight(8.0)})
    lines = lines_of(figure)
    lines = [line for line in lines if len(line.get_segments()) == 9]  # a colour bar may have some of its own
    assert len(lines) == 4 and {line.get_clim() for line in lines} == {(0.0, 8.0)}
    assert sorted({float(np.asarray(line.get_array()).mean()) for line in lines}) == [2.0, 8.0]
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles[:4] == ["slow, from above", "fast, from above", "from the side", "from the side"]


def test_a_view_holds_the_flight_and_the_course():
    race, axes = Race.on("circle"), Figure().subplots()
    draw_flight(axes, race, straight(), (0, 1), fastest=2.0)
    low, high = axes.get_xlim()
    assert low < -6.0 and high > 6.0, "gates at a radius of 6 m"
    hover, axes = Hover(), Figure().subplots()
    draw_flight(axes, hover, straight(), (0, 1), fastest=2.0)
    assert axes.get_xlim()[1] < 0.5, "the room of 4 m is not drawn where nothing goes there"


def test_what_is_seen_most_of_is_shown():
    assert widest_view(Race.on("split-s"), [straight()]) == (0, 1)
    assert widest_view(Race.on("vertical"), [straight()]) == (0, 2)
    np.testing.assert_allclose(speeds(straight(3.0)), 3.0)


@pytest.mark.parametrize("name", ["race-circle", "hover"])
def test_a_world_tells_where_it_is_flown(name):
    world = make_task(name).environment
    state = world.reset(jax.random.key(0))
    np.testing.assert_array_equal(world.flight(state), [*state.x[:3], *state.x[7:10]])
    assert make_task("cartpole").environment.flight(None) is None


def test_plans_of_rotor_thrusts_are_shown_as_the_commands_they_stand_for():
    task = make_task("race-circle", model="rotors")
    x = np.zeros((1, 3, 13), np.float32)
    x[..., 3] = 1.0
    told = _actions(task, x, np.ones((1, 2, 4), np.float32))
    assert told is not None
    np.testing.assert_allclose(told, np.broadcast_to([4.0, 0.0, 0.0, 0.0], (1, 2, 4)), atol=1e-6)
    foreign = np.ones((1, 25, 5), np.float32)
    assert _actions(task, np.zeros((1, 26, 11)), foreign) is foreign, "of another problem"
