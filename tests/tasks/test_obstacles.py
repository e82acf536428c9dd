"""The puck among obstacles: its mechanics, its ends, and the set in which it is safe for ever."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.problem import zero_order_hold
from planahead.tasks import ObstaclesTask
from planahead.tasks.environment import with_constants
from planahead.tasks.obstacles import ACCELERATION_LIMIT, CENTRES, RADII, TABLE, Obstacles, ObstaclesState, moved
from planahead.tasks.obstacles_safety import A, B, StandStill

KEY = jax.random.key(0)


def at(*x, step=0):
    return ObstaclesState(x=jnp.array(x, float), step=jnp.array(step))


def test_the_motion_is_that_of_a_held_acceleration():
    held = zero_order_hold(jnp.eye(4, k=2), jnp.eye(4)[:, 2:], 0.1)
    np.testing.assert_allclose(held[0], A, atol=1e-7)
    np.testing.assert_allclose(held[1], B, atol=1e-7)
    x, u = jnp.array([0.3, -0.2, 1.0, 0.5]), jnp.array([-2.0, 3.0])
    np.testing.assert_allclose(moved(x, u), A @ np.asarray(x) + B @ np.asarray(u), rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "terminated", "success"),
    [
        ((1.5, 0.1, 0.0, 0.0), False, True),
        ((1.2, 0.0, 0.0, 0.0), False, False),
        ((0.0, 0.4, 0.0, 0.0), True, False),  # inside of the middle obstacle
        ((1.95, 0.0, 1.0, 0.0), True, False),  # off the table after a step
        ((jnp.nan, 0.0, 0.0, 0.0), True, False),
    ],
)
def test_ends(x, terminated, success):
    after = Obstacles().step(at(*x), jnp.zeros(2), KEY)
    assert bool(after.terminated) == bool(after.info.violation) == terminated
    assert bool(after.info.success) == success
    assert bool(Obstacles().step(at(*x, step=59), jnp.zeros(2), KEY).truncated) == (not terminated)


def test_gusts_stay_within_their_bound():
    world = with_constants(Obstacles(), gust=0.5)
    pushed = jax.vmap(lambda key: world.step(at(-1.0, 0.0, 0.0, 0.0), jnp.zeros(2), key).state.x)(
        jax.random.split(KEY, 500)
    )
    largest = jnp.max(jnp.abs(pushed - jnp.array([[-1.0, 0.0, 0.0, 0.0]])), axis=0)
    assert np.all(largest <= np.array([0.0025, 0.0025, 0.05, 0.05]) + 1e-6) and np.all(largest[2:] > 0.045)


@pytest.mark.parametrize("gust", [0.0, 0.5])
def test_the_terminal_set_is_invariant_and_free(gust):
    problem = ObstaclesTask(with_constants(Obstacles(), gust=gust)).safety_problem()
    terminal = problem.terminal
    assert isinstance(terminal, StandStill)
    position = jax.random.uniform(KEY, (4_000, 2), minval=-1.0, maxval=1.0) * jnp.array(TABLE)[None]
    speed = 0.45 * jax.random.uniform(jax.random.fold_in(KEY, 1), (4_000, 2), minval=-1.0, maxval=1.0)
    x = jnp.concatenate([position, speed], axis=1)
    inside = jax.vmap(lambda x: jnp.max(terminal.values(x)) <= 0)(x)
    assert 200 < np.sum(inside) < 3_800
    u = jax.vmap(terminal.control)(x)
    after = jax.vmap(problem.dynamics)(x, u)
    assert np.all(np.asarray(jax.vmap(terminal.values)(after))[np.asarray(inside)] <= 1e-6)
    # What the feedback may need, and what errors may take, is left.
    reserve = np.asarray(problem.tube.control_radius.values[-1])
    assert np.all(np.abs(np.asarray(u)[np.asarray(inside)]) <= ACCELERATION_LIMIT - reserve[None] + 1e-5)
    apart = np.linalg.norm(np.asarray(after)[:, None, :2] - np.array(CENTRES)[None], axis=-1)[np.asarray(inside)]
    width = np.linalg.norm(np.asarray(problem.tube.state_radius.values[-1])[:2])
    assert np.all(apart >= np.array(RADII)[None] + width - 1e-6)
