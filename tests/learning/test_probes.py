"""Every learner with a replay on the probe environments, each with its provable outcome."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.learning.probes import AIM_AT_HALF, LEARNERS, QUICK, ProbeTask, actions, direct_policy, probe, train, values

each_learner = pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)


@each_learner
def test_constant_reward_is_the_value_of_everything(learner):
    state = train(probe(base=1.0), chunks=4, learner=learner)
    np.testing.assert_allclose(values(state, [0.0, 0.0, 0.0], [-0.9, 0.0, 0.9]), 1.0, atol=0.05)


@each_learner
def test_value_depends_on_the_observation(learner):
    state = train(probe(sign=1.0, of_observation=1.0), chunks=4, learner=learner)
    np.testing.assert_allclose(values(state, [-1.0, 1.0], [0.0, 0.0]), [[-1.0, 1.0]] * 2, atol=0.05)


@each_learner
def test_reward_of_the_second_step_is_discounted_in_the_first(learner):
    state = train(probe(clock=1.0, late=1.0, length=2), chunks=6, learner=learner)
    np.testing.assert_allclose(values(state, [0.0, 0.5], [0.0, 0.0]), [[QUICK.discount, 1.0]] * 2, atol=0.05)


@each_learner
def test_best_action_is_found(learner):
    state = train(probe(base=1.0, of_action=1.0, aim=0.5), chunks=8, learner=learner)
    np.testing.assert_allclose(actions(state, [0.0]), 0.5, atol=0.1)
    np.testing.assert_allclose(values(state, [0.0] * 3, [0.0, 0.5, 0.9]), [[0.75, 1.0, 0.84]] * 2, atol=0.1)


@each_learner
def test_best_action_depends_on_the_observation(learner):
    state = train(AIM_AT_HALF, chunks=6, learner=learner)
    np.testing.assert_allclose(actions(state, [-1.0, 1.0]), [-0.5, 0.5], atol=0.1)


@each_learner
def test_truncation_bootstraps(learner):
    """A world that pays 1 per step forever is worth 1 / (1 - γ), however short the episodes are."""
    state = train(probe(base=1.0, length=3, truncates=1.0), chunks=10, learner=learner)
    np.testing.assert_allclose(values(state, [0.0], [0.0]), 1.0 / (1.0 - QUICK.discount), rtol=0.05)


@each_learner
def test_termination_does_not(learner):
    """The same world that ends after three steps is worth the sum of what is left."""
    state = train(probe(base=1.0, clock=1.0, length=3), chunks=8, learner=learner)
    g = QUICK.discount
    expected = [[1 + g + g**2, 1 + g, 1.0]] * 2
    np.testing.assert_allclose(values(state, [0.0, 1 / 3, 2 / 3], [0.0] * 3), expected, rtol=0.05)


def test_tuned_temperature_holds_the_entropy():
    """Wherever the temperature starts, the policy settles at the target entropy."""
    learner = dataclasses.replace(QUICK, tune_temperature=True, target_entropy=-1.0, learning_rate=3e-3)
    for start in (0.1, 0.5):
        state = learner.init(ProbeTask(environment=probe(of_action=4.0)), direct_policy(), jax.random.key(0))
        state, metrics = eqx.tree_at(lambda s: s.log_temperature, state, jnp.log(jnp.array(start))), {}
        for chunk in range(16):
            state, metrics = learner.advance(state, jax.random.key(chunk))
        assert metrics["entropy"] == pytest.approx(-1.0, abs=0.15)
