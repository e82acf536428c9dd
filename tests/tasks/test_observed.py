"""What a task says would be observed in a planner's state leads back to that state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa

TELL = ("cartpole", "linear", "mass-spring-damper", "obstacles")


@pytest.mark.parametrize("name", TELL)
def test_there_and_back(name):
    task = pa.make_task(name)
    observation = task.environment.observe(task.environment.reset(jax.random.key(0)))
    state = jax.random.normal(jax.random.key(1), (task.problem.state_size,))
    seen, again = task.observed(observation, state), task.observed(observation, task.planner_state(observation))
    assert seen is not None and again is not None
    np.testing.assert_allclose(task.planner_state(seen), state, rtol=1e-6)
    np.testing.assert_allclose(again, observation, rtol=1e-6)


def test_the_cart_pole_drops_whole_turns_as_its_world_does():
    task = pa.make_task("cartpole")
    seen = task.observed(jnp.zeros(4), jnp.array([0.1, 2 * jnp.pi + 0.2, 0.0, 0.0]))
    assert seen is not None
    np.testing.assert_allclose(seen[1], 0.2, atol=1e-5)


def test_others_say_that_they_cannot_tell():
    task = pa.make_task("windmaze-hard")
    assert task.observed(jnp.zeros(6), jnp.zeros(4)) is None
