"""A network beside the planner: how far it may lead the action away from the plan, and what it learns there."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.policies import ActionBox, Proposal, Steering
from tests.learning.probes import SteeredProblem

BOX = ActionBox((-1.0,), (1.0,))
OBSERVATION = jnp.array([0.3])


def steering(**settings: Any) -> Steering:
    """Of a problem whose planned control is its parameter, φ ∈ [-1, 1]."""
    return Steering(SteeredProblem(), lambda observation: observation, BOX, **settings)


def policy(name: str, task: str = "mass-spring-damper", **settings: Any) -> Any:
    return pa.make_algorithm(name, pa.make_task(task), jax.random.key(0), hidden_units=16, **settings)


@pytest.mark.parametrize(("unit", "correction"), [(0.2, 0.6), (0.2, -0.6), (0.9, 1.0), (-0.9, -1.0)])
def test_the_action_is_the_plan_and_a_share_of_the_correction(unit: float, correction: float):
    decision = steering(correction=0.5).decide(jnp.array([unit, correction]), OBSERVATION)
    np.testing.assert_allclose(decision.plan.controls[0], [unit], atol=1e-4)
    np.testing.assert_allclose(decision.action, [np.clip(unit + 0.5 * correction, -1, 1)], atol=1e-4)
    assert decision.parameters is not None
    np.testing.assert_allclose(decision.parameters, [unit], atol=1e-6)


def test_without_a_share_nothing_changes_and_nothing_more_is_written():
    plain, none = steering(), steering(correction=0.0)
    assert plain.size == none.size == 1
    unit = jnp.array([0.4])
    assert eqx.tree_equal(plain.decide(unit, OBSERVATION), none.decide(unit, OBSERVATION))


def test_a_planner_that_is_only_corrected_plans_as_it_comes():
    alone = steering(names=(), correction=0.5)
    assert alone.size == 1 and alone.space.size == 0
    np.testing.assert_array_equal(alone.default_unit(), [0.0])
    decision = alone.decide(jnp.array([1.0]), OBSERVATION)
    as_it_comes = pa.solve(SteeredProblem(), OBSERVATION)
    np.testing.assert_allclose(decision.plan.controls, as_it_comes.controls, atol=1e-6)
    np.testing.assert_allclose(decision.action, as_it_comes.controls[0] + 0.5, atol=1e-6)
    assert decision.parameters is not None and decision.parameters.shape == (0,)


def test_the_derivative_by_the_correction_is_its_share():
    def action(unit):
        return steering(correction=0.5).decide(unit, OBSERVATION).action[0]

    np.testing.assert_allclose(jax.grad(action)(jnp.array([0.2, 0.1])), [1.0, 0.5], atol=1e-3)
    np.testing.assert_array_equal(jax.grad(action)(jnp.array([0.9, 0.9]))[1], 0.0)  # beyond the box


@pytest.mark.parametrize("name", ["sac-zop", "sac-fop", "sac-foa", "td3-zop", "ppo-zop", "ac-mpc"])
def test_every_algorithm_that_steers_can_correct(name: str):
    made = policy(name, steers=False, correction=0.5).policy
    steered = policy(name, correction=0.5).policy
    assert (made.steering.size, steered.steering.size) == (1, 9)
    assert made.settings()["correction"] == 0.5 and made.settings()["parameters"] == ""
    for key in jax.random.split(jax.random.key(1), 3):
        decision = steered.decide(jnp.array([1.0, 0.5]), steered.initial_memory(), key)
        assert -0.5 <= float(decision.action[0]) <= 0.5 and np.isfinite(decision.log_probability)


def test_an_untrained_network_hardly_corrects():
    made = policy("sac-zop", steers=False, correction=0.5).policy
    decision = made.decide(jnp.array([0.5, -0.2]))
    assert abs(float(decision.action[0] - decision.plan.controls[0, 0])) < 0.01
    assert isinstance(made.propose(jnp.array([0.5, -0.2])), Proposal)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"correction": -0.1}, "correction=-0.1; a share of half the action box was expected, from 0 for none to 2"),
        ({"names": ()}, r"has no parameter for the policy to write; .* or let the policy correct the planned action"),
    ],
)
def test_refusals(settings: dict[str, Any], text: str):
    with pytest.raises(ValueError, match=text):
        steering(**settings)


@pytest.mark.long
def test_a_chunk_of_learning_moves_the_network_beside_the_planner():
    task = pa.make_task("linear")
    made, learner = policy("sac-zop", "linear", steers=False, correction=1.0, batch_size=64, warm_up_steps=256)
    state = learner.init(task, made, jax.random.key(0))
    before = learner.policy(state)
    state, metrics = eqx.filter_jit(learner.advance)(state, jax.random.key(1))
    after = learner.policy(state)
    assert np.isfinite(metrics["return"])
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before.network, after.network)
    assert any(jax.tree.leaves(moved))
