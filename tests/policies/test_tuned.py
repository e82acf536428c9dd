"""A planner with constant parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.policies import TunedPlanner


def tuned(**options) -> tuple[pa.Task, TunedPlanner]:
    task = pa.make_task("linear", **options)
    box = pa.ActionBox(task.environment.action_low, task.environment.action_high)
    return task, TunedPlanner(task.problem, task.planner_state, box, names=task.learned_parameters)


def test_it_starts_as_the_planner_as_it_comes():
    task, policy = tuned()
    state = jnp.array([0.4, -0.2])
    decision = policy.decide(state)
    np.testing.assert_allclose(decision.action, pa.solve(task.problem, state).controls[0], atol=1e-5)
    assert policy.initial_memory() is None and not decision.failed and decision.gradient_valid
    assert policy.settings()["parameters"] == ", ".join(task.learned_parameters)


def test_parameters_are_the_same_in_every_state_and_said_by_name():
    task, policy = tuned()
    space = policy.steering.space
    policy = eqx.tree_at(lambda policy: policy.unit, policy, jnp.linspace(-0.9, 0.9, space.size))
    decisions = jax.vmap(policy.decide)(jnp.array([[0.1, 0.0], [0.9, -0.5]]))
    assert decisions.parameters is not None
    for row in decisions.parameters:
        np.testing.assert_array_equal(row, space.from_unit(policy.unit))
    told = policy.parameters()
    assert tuple(told) == task.learned_parameters
    np.testing.assert_allclose(np.concatenate([np.ravel(value) for value in told.values()]), decisions.parameters[0])


def test_per_stage_parameters_are_said_stage_by_stage():
    _, policy = tuned(interface="stage")
    assert np.shape(policy.parameters()["low_back_off"]) == (10, 2)
