"""Holding a quadrotor at a point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.experiments.evaluation import evaluate
from planahead.experiments.fixed_planner import FixedPlanner
from planahead.problem.rotation import matrix
from planahead.tasks import make_task
from planahead.tasks.flight.hover import Hover
from planahead.tasks.flight.quadrotor import GRAVITY, MASS

KEY = jax.random.key(0)
HOVERING = jnp.array([MASS * GRAVITY, 0.0, 0.0, 0.0])


def test_hovering_at_the_point_stays_there():
    hover = Hover(start_spread=jnp.array(0.0))
    moved = hover.step(hover.reset(KEY), HOVERING, KEY)
    for _ in range(5):
        moved = hover.step(moved.state, HOVERING, KEY)
    assert float(moved.reward) == pytest.approx(1.0, abs=1e-4) and bool(moved.info.success)
    np.testing.assert_allclose(moved.observation, [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], atol=1e-5)


def test_a_step_by_hand():
    hover = Hover(start_spread=jnp.array(0.0))
    state = hover.reset(KEY)
    moved = hover.step(state, jnp.array([0.0, 0.0, 3.0, 4.0]), KEY)
    fallen, speed = 0.5 * GRAVITY * 0.02**2, GRAVITY * 0.02
    assert float(moved.reward) == pytest.approx(1 - fallen - 0.02 * speed - 0.01 * 5.0, abs=1e-5)
    assert float(moved.observation[2]) == pytest.approx(-fallen, abs=1e-6)


def test_leaving_the_room_ends_it():
    hover = Hover()
    state = hover.reset(KEY)
    away = type(state)(**(vars(state) | {"x": state.x.at[0].set(4.1)}))
    moved = hover.step(away, HOVERING, KEY)
    assert bool(moved.terminated) and bool(moved.info.violation) and not bool(moved.truncated)


def test_starts_are_as_the_docstring_says():
    hover = Hover()
    states = jax.vmap(hover.reset)(jax.random.split(KEY, 500)).x
    assert 0.9 < float(jnp.abs(states[:, :3]).max()) <= 1.0 and 0.9 < float(jnp.abs(states[:, 7:]).max()) <= 1.0
    tilt = jnp.arccos(jax.vmap(matrix)(states[:, 3:7])[:, 2, 2])
    assert 0.5 < float(tilt.max()) < 0.72
    np.testing.assert_allclose(jnp.linalg.norm(states[:, 3:7], axis=1), 1.0, atol=1e-6)


@pytest.mark.long
def test_the_planner_as_it_comes_holds_the_point():
    task = make_task("hover")
    found = evaluate(task, FixedPlanner(task), KEY, episodes=25)
    assert found.success_rate == 1.0 and found.violations_per_step == 0.0 and found.failed_solves == 0.0
