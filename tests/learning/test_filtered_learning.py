"""Learning with a filter behind the policy: what is stored, and which combinations are refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.experiments.diagnosis import _measure
from planahead.learning import PPO, SACState, algorithm_names, make_algorithm
from planahead.learning.presets import PRESETS
from planahead.learning.settings import check_settings
from planahead.policies import FilteredStochasticPolicy, GaussianPolicy
from planahead.policies.sensitivity import sensitivities
from planahead.tasks import make_task

SMALL: dict = {"hidden_units": 8, "hidden_layers": 1, "batch_size": 4, "replay_size": 64, "environments": 8}


@pytest.mark.long
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


LEARNERS = tuple(name for name in algorithm_names() if PRESETS[name].guarded)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "awareness"),
    [
        ("ac-mlp", "unaware"),
        ("ac-mpc", "penalised"),
        ("ppo-zop", "penalised"),
        ("sac-foa", "stored"),
        ("sac-fop", "differentiated"),
        ("sac-zop", "penalised"),
        ("td3-fop", "unaware"),
    ],
)
def test_a_filter_acts_while_a_chunk_is_learned(name, awareness):
    """Shapes alone: that every part of a chunk gets the memory which it expects."""
    task = make_task("mass-spring-damper")
    small = {"environments": 4, "batch_size": 4, "hidden_units": 8}
    small |= {"rollout_steps": 2} if PRESETS[name].learner is PPO else {"steps_per_chunk": 8, "replay_size": 64}
    start = {"warm_start": True} if PRESETS[name].plans else {}
    policy, learner = make_algorithm(name, task, jax.random.key(0), filter=awareness, **start, **small)
    guard = policy.guard if isinstance(policy, GaussianPolicy | FilteredStochasticPolicy) else None
    assert guard is not None and guard.awareness == awareness
    state = eqx.filter_eval_shape(learner.init, task, policy, jax.random.key(1))
    _, metrics = eqx.filter_eval_shape(learner.advance, state, jax.random.key(2))
    assert {"filter_corrected", "filter_fallback", "filter_uncertified"} < set(metrics)


def test_a_policy_with_a_filter_that_starts_warm_can_be_diagnosed():
    task = make_task("mass-spring-damper")
    policy, _ = make_algorithm("sac-zop", task, jax.random.key(0), filter="unaware", warm_start=True, hidden_units=8)
    found = eqx.filter_eval_shape(sensitivities, policy, jnp.zeros((3, 2)))
    assert found.jacobian.shape == (3, 1, 8)
    own, over_box, _ = eqx.filter_eval_shape(_measure, policy, jnp.zeros((3, 2)), jnp.zeros((3, 5, 8)), None)
    assert own[0].shape == (3, 1) and over_box[0].shape == (3, 5, 1)


def test_who_learns_acts_through_its_filter():
    assert LEARNERS == (
        *("ac-mlp", "ac-mpc", "ppo-zop", "sac", "sac-blended", "sac-foa", "sac-fop", "sac-mpq", "sac-skip", "sac-zop"),
        *("td3", "td3-fop", "td3-zop"),
    )
    for name in set(algorithm_names()) - set(LEARNERS):
        for setting in ({"filter": "unaware"}, {"filter_price": 2.0}):
            with pytest.raises(ValueError, match=f"algorithm '{name}' acts without a safety filter while it learns"):
                make_algorithm(name, make_task("cartpole"), jax.random.key(0), **setting)


@pytest.mark.parametrize(
    ("name", "task", "settings", "message"),
    [
        ("sac", "cartpole", {"filter": "unaware", "filter_price": -1.0}, "filter_price=-1.0: a finite number"),
        ("sac", "chain", {"filter": "stored"}, "task 'chain' knows no safe set to end in, so it has no safety filter"),
        ("sac-zop", "cartpole", {"filter": "stored"}, "filter='stored' is about the actions that a critic judges"),
        (
            "ac-mpc",
            "cartpole",
            {"filter": "unaware", "value_expansion": 1.0},
            "neither the safety filter behind it nor",
        ),
        ("ac-mlp", "cartpole", {"filter": "differentiated"}, "use filter='unaware' or filter='penalised'"),
    ],
)
def test_what_has_no_meaning_is_refused(name, task, settings, message):
    with pytest.raises(ValueError, match=message):
        make_algorithm(name, make_task(task), jax.random.key(0), **settings)


def test_an_unknown_awareness_is_answered_by_the_known_ones():
    with pytest.raises(ValueError, match="filter='aware': 'none' or 'unaware' or 'stored' or 'penalised' or"):
        check_settings("sac", {"filter": "aware"})
