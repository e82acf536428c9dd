"""Learning with a filter behind the policy: what is stored, and which combinations are refused."""

import jax
import numpy as np
import pytest

from planahead.learning import SACState, make_algorithm
from planahead.learning.settings import check_settings
from planahead.policies import FilteredStochasticPolicy, GaussianPolicy
from planahead.tasks import make_task

SMALL: dict = {"hidden_units": 8, "hidden_layers": 1, "batch_size": 4, "replay_size": 64, "environments": 8}


@pytest.mark.parametrize("awareness", ["penalised", "differentiated"])
def test_the_replay_holds_what_learning_is_to_know(awareness):
    """The force that acted follows from the states; the reward and the stored action follow from it and the price."""
    price = 3.0
    task = make_task("mass-spring-damper", matched=True, start_spread=1.9)
    policy, learner = make_algorithm(
        "sac",
        task,
        jax.random.key(0),
        filter=awareness,
        filter_price=price,
        warm_up_steps=64,
        steps_per_chunk=64,
        **SMALL,
    )
    assert isinstance(policy, FilteredStochasticPolicy)
    state, _ = learner.advance(learner.init(task, policy, jax.random.key(1)), jax.random.key(2))
    assert isinstance(state, SACState)
    seen = state.replay.sample(jax.random.key(3), 256)
    world, (x, v) = task.environment, seen.observation.T
    slope = (seen.next_observation[:, 1] - v) / world.time_step
    force = slope * world.mass + world.damping * v + world.stiffness * x
    correction = force / 0.5 - seen.point[:, 0]
    earned = -(x**2 + 0.1 * v**2 + 0.01 * force**2)
    if awareness == "penalised":
        assert np.mean(np.abs(correction) > 0.05) > 0.02
        np.testing.assert_allclose(seen.reward, earned - price * correction**2, atol=2e-3)
        assert seen.memory is None
    else:
        np.testing.assert_allclose(correction, 0.0, atol=1e-3)
        np.testing.assert_allclose(seen.reward, earned, atol=1e-3)


def test_every_learner_can_have_a_filter_behind():
    task = make_task("cartpole")
    policy, _ = make_algorithm("ac-mlp", task, jax.random.key(0), filter="penalised")
    assert isinstance(policy, GaussianPolicy) and policy.guard is not None and policy.guard.awareness == "penalised"
    for name in ("td3", "sac-zop", "sac-foa"):
        policy, _ = make_algorithm(name, task, jax.random.key(0), filter="unaware")
        assert isinstance(policy, FilteredStochasticPolicy)


@pytest.mark.parametrize(
    ("name", "task", "settings", "message"),
    [
        ("sac", "cartpole", {"filter": "unaware", "filter_price": -1.0}, "filter_price=-1.0: a finite number"),
        ("sac", "chain", {"filter": "stored"}, "task 'chain' knows no safe set to end in, so it has no safety filter"),
        ("sac-zop", "cartpole", {"filter": "stored"}, "filter='stored' is about the actions that a critic judges"),
        ("ac-mlp", "cartpole", {"filter": "differentiated"}, "use filter='unaware' or filter='penalised'"),
    ],
)
def test_what_has_no_meaning_is_refused(name, task, settings, message):
    with pytest.raises(ValueError, match=message):
        make_algorithm(name, make_task(task), jax.random.key(0), **settings)


def test_an_unknown_awareness_is_answered_by_the_known_ones():
    with pytest.raises(ValueError, match="filter='aware': 'none' or 'unaware' or 'stored' or 'penalised' or"):
        check_settings("sac", {"filter": "aware"})
