"""Soft actor-critic on the probe environments, each with its provable outcome."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.learning.probes import QUICK, Probe, actions, train, values


def test_constant_reward_is_the_value_of_everything():
    state = train(Probe(reward=lambda o, a: 1.0), chunks=2)
    np.testing.assert_allclose(values(state, [0.0, 0.0, 0.0], [-0.9, 0.0, 0.9]), 1.0, atol=0.05)


def test_value_depends_on_the_observation():
    state = train(Probe(reward=lambda o, a: o, observes="sign"), chunks=2)
    np.testing.assert_allclose(values(state, [-1.0, 1.0], [0.0, 0.0]), [[-1.0, 1.0]] * 2, atol=0.05)


def test_reward_of_the_second_step_is_discounted_in_the_first():
    state = train(Probe(reward=lambda o, a: 1.0 * (o > 0.25), observes="time", episode_steps=2), chunks=3)
    np.testing.assert_allclose(values(state, [0.0, 0.5], [0.0, 0.0]), [[QUICK.discount, 1.0]] * 2, atol=0.05)


def test_best_action_is_found():
    state = train(Probe(reward=lambda o, a: 1.0 - (a - 0.5) ** 2), chunks=4)
    np.testing.assert_allclose(actions(state, [0.0]), 0.5, atol=0.1)
    np.testing.assert_allclose(values(state, [0.0] * 3, [0.0, 0.5, 0.9]), [[0.75, 1.0, 0.84]] * 2, atol=0.1)


def test_best_action_depends_on_the_observation():
    state = train(Probe(reward=lambda o, a: 1.0 - (a - 0.5 * o) ** 2, observes="sign"), chunks=3)
    np.testing.assert_allclose(actions(state, [-1.0, 1.0]), [-0.5, 0.5], atol=0.1)


def test_truncation_bootstraps():
    """A world that pays 1 per step forever is worth 1 / (1 - γ), however short the episodes are."""
    state = train(Probe(reward=lambda o, a: 1.0, end="truncated", episode_steps=3), chunks=5)
    np.testing.assert_allclose(values(state, [0.0], [0.0]), 1.0 / (1.0 - QUICK.discount), rtol=0.05)


def test_termination_does_not():
    """The same world that ends after three steps is worth the sum of what is left."""
    state = train(Probe(reward=lambda o, a: 1.0, observes="time", episode_steps=3), chunks=4)
    g = QUICK.discount
    np.testing.assert_allclose(
        values(state, [0.0, 1 / 3, 2 / 3], [0.0] * 3), [[1 + g + g**2, 1 + g, 1.0]] * 2, rtol=0.05
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_tuned_temperature_holds_the_entropy(temperature: float):
    """Wherever the temperature starts, the policy settles at the target entropy -n_a."""
    learner = dataclasses.replace(QUICK, tune_temperature=True, initial_temperature=temperature, learning_rate=3e-3)
    state = train(Probe(reward=lambda o, a: -4.0 * a**2), chunks=8, learner=learner)
    _, metrics = learner.advance(state, jax.random.key(9))
    np.testing.assert_allclose(metrics["entropy"], -1.0, atol=0.15)
