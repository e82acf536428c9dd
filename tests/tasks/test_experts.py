"""What an expert is told beyond the planner: how far to look, and the way through the maze."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.tasks.cart_pole import EXPERT_HORIZON, CartPoleProblem, CartPoleTask
from planahead.tasks.way_past import PASSED, WAIT
from planahead.tasks.wind_maze import WindMaze, WindMazeTask


def test_unless_a_task_knows_more_its_expert_is_its_planner():
    task = pa.make_task("mass-spring-damper")
    assert task.expert(jnp.zeros(2)) is task.problem


def test_the_cart_poles_expert_looks_further_and_aims_at_upright():
    task = CartPoleTask(problem=CartPoleProblem(pole_mass=jnp.array(0.2), angle_reference=jnp.array(1.0)))
    expert = task.expert(jnp.zeros(4))
    assert (expert.horizon, float(expert.angle_reference), float(expert.pole_mass)) == (
        EXPERT_HORIZON, 0.0, pytest.approx(0.2),
    )  # fmt: skip
    assert CartPoleTask(problem=CartPoleProblem(horizon=40)).expert(jnp.zeros(4)).horizon == 40
    assert CartPoleTask(interface="stage").expert(jnp.zeros(4)).angle_reference.shape == ()


@pytest.mark.parametrize(
    ("name", "position", "expected"),
    [
        ("windmaze-easy", (0.25, 0.8), (0.5 - WAIT, 0.1)),  # across, in front of the first zone
        ("windmaze-easy", (0.38, 0.11), (1.5 + PASSED + WAIT, 0.1)),  # in its gap: along
        ("windmaze-easy", (1.54, 0.1), (1.5 + PASSED + WAIT, 0.1)),  # not past it yet
        ("windmaze-easy", (1.56, 0.1), (2.5 - WAIT, 0.9)),  # past it: on to the second, whose gap is above
        ("windmaze-easy", (3.56, 0.9), (3.75, 0.2)),  # past both: the goal
        ("windmaze-hard", (2.0, 0.95), (3.5 + PASSED + WAIT, 0.95)),
        (
            "windmaze-walls",
            (2.5, 0.53),
            (3.05 + PASSED + WAIT, 0.5),
        ),  # between two walls that stand one above the other
        ("windmaze-walls", (2.5, 0.9), (2.95 - WAIT, 0.5)),
    ],
)
def test_the_way_through_the_maze(name: str, position: tuple[float, float], expected: tuple[float, float]):
    environment = pa.make_task(name).environment
    assert isinstance(environment, WindMaze)
    np.testing.assert_allclose(environment.next_point(jnp.array(position)), expected, atol=1e-5)


def test_the_way_does_not_jump_until_an_obstacle_has_been_passed():
    environment = pa.make_task("windmaze-hard").environment
    assert isinstance(environment, WindMaze)
    across = jnp.stack([jnp.full(2_000, 0.4), jnp.linspace(0.02, 0.9, 2_000)], axis=1)
    along = jnp.stack([jnp.linspace(0.05, 1.5, 2_000), jnp.full(2_000, 0.06)], axis=1)
    for line in (across, along):
        steps = jnp.abs(jnp.diff(jax.vmap(environment.next_point)(line), axis=0)).max()
        assert steps < 0.05


def test_an_open_course_leads_to_the_goal():
    np.testing.assert_allclose(
        WindMaze(zones=jnp.zeros((0, 4))).next_point(jnp.array([1.0, 0.5])), (3.75, 0.2), rtol=1e-6
    )


def test_stages_of_the_maze_have_no_expert():
    with pytest.raises(ValueError, match="no expert; one is known with interface='global'"):
        WindMazeTask(interface="stage").expert(jnp.zeros(6))
