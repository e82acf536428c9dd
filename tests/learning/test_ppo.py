"""Proximal policy optimisation on the probe environments, its advantages, and what it refuses."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.learning import PPO
from planahead.learning.advantages import generalised_advantages
from planahead.planning import SQP
from planahead.policies import ActionBox, GaussianPolicy, Normaliser, Steering
from tests.learning.probes import AIM_AT_HALF, ProbeTask, SteeredProblem, direct_policy, probe

QUICK_PPO = PPO(
    discount=0.8,
    learning_rate=3e-3,
    environments=32,
    rollout_steps=32,
    batch_size=256,
    epochs=4,
    target_kl=None,
    entropy_weight=0.0,
    normalise_rewards=False,
    hidden_units=32,
)
BOX = ActionBox((-1.0,), (1.0,))


def gaussian(noise=None) -> GaussianPolicy:
    """A network that acts, or one that steers a planner with `noise` at one of its places."""
    steering = None
    if noise is not None:
        planner = SQP.real_time(derivative="step")
        steering = Steering(SteeredProblem(), ProbeTask(environment=probe()).planner_state, BOX, planner=planner)
    key = jax.random.key(0)
    return GaussianPolicy((1.0,), BOX, steering=steering, noise=noise or "action", hidden=(32, 32), key=key)


POLICIES = {
    "network": gaussian(),
    "planner, noise at the action": gaussian("action"),
    "planner, noise at the parameters": gaussian("parameters"),
}
every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def train(environment, chunks, policy=POLICIES["network"], learner=QUICK_PPO):
    state = learner.init(ProbeTask(environment=environment), policy, jax.random.key(0))
    metrics = {}
    for chunk in range(chunks):
        state, metrics = learner.advance(state, jax.random.fold_in(jax.random.key(0), chunk))
    return state, metrics


def values(state, observations):
    judge = jax.vmap(lambda o: state.critic(state.policy.normaliser(o))[0])
    return judge(jnp.array(observations)[:, None])


def actions(state, observations):
    return jax.vmap(lambda o: state.policy.decide(o).action[0])(jnp.array(observations)[:, None])


QUICK_BIAS = dataclasses.replace(QUICK_PPO, learning_rate=0.02)
"""Where nothing is to be seen, only the critic's last bias learns, by one learning rate a step."""


def test_constant_reward_is_the_value_of_everything():
    state, _ = train(probe(base=1.0), chunks=15, learner=QUICK_BIAS)
    np.testing.assert_allclose(values(state, [0.0]), 1.0, atol=0.05)


def test_value_depends_on_the_observation():
    state, _ = train(probe(sign=1.0, of_observation=1.0), chunks=15)
    np.testing.assert_allclose(values(state, [-1.0, 1.0]), [-1.0, 1.0], atol=0.05)


def test_reward_of_the_second_step_is_discounted_in_the_first():
    state, _ = train(probe(clock=1.0, late=1.0, length=2), chunks=15)
    np.testing.assert_allclose(values(state, [0.0, 0.5]), [QUICK_PPO.discount, 1.0], atol=0.06)


@pytest.mark.long
@every_policy
def test_best_action_depends_on_the_observation(policy):
    state, metrics = train(AIM_AT_HALF, chunks=40, policy=policy)
    np.testing.assert_allclose(actions(state, [-1.0, 1.0]), [-0.5, 0.5], atol=0.12)
    assert metrics["failed_solves"] == 0.0


def test_truncation_bootstraps():
    """A world that pays 1 per step forever is worth 1 / (1 - γ), however short the episodes are."""
    state, _ = train(probe(base=1.0, length=3, truncates=1.0), chunks=40, learner=QUICK_BIAS)
    np.testing.assert_allclose(values(state, [0.0]), 1.0 / (1.0 - QUICK_PPO.discount), rtol=0.06)


def test_termination_does_not():
    state, _ = train(probe(base=1.0, clock=1.0, length=3), chunks=25)
    g = QUICK_PPO.discount
    np.testing.assert_allclose(values(state, [0.0, 1 / 3, 2 / 3]), [1 + g + g**2, 1 + g, 1.0], rtol=0.06)


def test_rewards_of_any_size_are_learned_from_alike():
    """With normalised rewards, a thousand times the reward makes the same policy."""
    learner = dataclasses.replace(QUICK_PPO, normalise_rewards=True)
    small, _ = train(AIM_AT_HALF, chunks=3, learner=learner)
    scaled = eqx.tree_at(
        lambda p: (p.base, p.of_action), AIM_AT_HALF, (1000 * AIM_AT_HALF.base, 1000 * AIM_AT_HALF.of_action)
    )
    large, _ = train(scaled, chunks=3, learner=learner)
    np.testing.assert_allclose(actions(small, [-1.0, 1.0]), actions(large, [-1.0, 1.0]), atol=1e-3)


def test_steps_end_where_the_policy_has_moved_far_enough():
    learner = dataclasses.replace(QUICK_PPO, learning_rate=0.03, target_kl=1e-3)
    _, metrics = train(AIM_AT_HALF, chunks=2, learner=learner)
    assert 1 <= metrics["gradient_steps"] < 16
    _, metrics = train(AIM_AT_HALF, chunks=2)
    assert metrics["gradient_steps"] == 16


def test_the_learning_rate_falls_to_a_tenth():
    learner = dataclasses.replace(QUICK_PPO, anneal_steps=1000)
    rates = [float(learner._rate(jnp.array(steps))) for steps in (0, 500, 1000, 5000)]
    np.testing.assert_allclose(rates, 3e-3 * np.array([1.0, 0.55, 0.1, 0.1]), rtol=1e-6)


def test_advantages_are_sums_of_discounted_surprises():
    """Against the definition A_t = Σ_l (γλ)^l δ_{t+l}, cut where an episode ends."""
    rng = np.random.default_rng(0)
    T, n, discount, decay = 12, 5, 0.9, 0.7
    reward, value, after = (rng.normal(size=(T, n)) for _ in range(3))
    terminated, truncated = rng.random((T, n)) < 0.2, rng.random((T, n)) < 0.2
    surprise = reward + discount * np.where(terminated, 0.0, after) - value
    expected = np.zeros((T, n))
    for t in range(T):
        for lane in range(n):
            weight = 1.0
            for later in range(t, T):
                expected[t, lane] += weight * surprise[later, lane]
                weight *= discount * decay
                if terminated[later, lane] or truncated[later, lane]:
                    break
    found = generalised_advantages(
        *map(jnp.asarray, (reward, value, after, terminated, truncated)), discount=discount, decay=decay
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@every_policy
def test_the_first_gradient_step_is_taken_from_a_ratio_of_one(policy):
    """What was acted with is what is learned from: density, statistics and plans are the same in both."""
    learner = dataclasses.replace(QUICK_PPO, epochs=1, batch_size=1024)
    _, metrics = train(AIM_AT_HALF, chunks=2, policy=policy, learner=learner)
    assert metrics["gradient_steps"] == 1
    np.testing.assert_allclose(metrics["kl"], 0.0, atol=1e-6)
    assert metrics["clipped"] == 0.0


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 5000}, r"batch_size=5000 does not divide environments × rollout_steps = 32768; use 4096"),
        ({"batch_size": 0}, r"batch_size=0; at least 1 was expected"),
        ({"entropy_weight": -1.0}, r"entropy_weight=-1.0; expected 0 or more"),
        ({"discount": 1.0}, r"discount=1.0; expected 0 <= discount < 1"),
        ({"target_kl": 0.0}, r"target_kl=0.0; a positive number, or None, was expected"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PPO(**settings)


def test_a_policy_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"PPO trains a GaussianPolicy, .* got DirectPolicy"):
        QUICK_PPO.init(ProbeTask(environment=probe()), direct_policy(), jax.random.key(0))
    with pytest.raises(ValueError, match="noise='parameters' is noise at the parameters of a planner"):
        GaussianPolicy((1.0,), BOX, noise="parameters", key=jax.random.key(0))
    with pytest.raises(ValueError, match="residual=True is an offset from the parameters of a planner"):
        GaussianPolicy((1.0,), BOX, residual=True, key=jax.random.key(0))


def test_statistics_are_those_of_all_that_was_seen():
    """In parts as at once; a row that is no number is not seen."""
    rows = jnp.asarray(np.random.default_rng(0).normal(3.0, 2.0, (100, 4)), float)
    seen = Normaliser.blank((1.0,) * 4)
    for part in (rows[:7], rows[7:50], rows[50:]):
        seen = seen.updated(jnp.concatenate([part, part[:1].at[0, 2].set(jnp.nan)]))
    np.testing.assert_allclose(seen.mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(seen.variance, rows.var(axis=0), rtol=1e-4)
    assert seen.count == 100
    unseen = Normaliser.blank((2.0,)).updated(jnp.full((3, 1), jnp.nan))
    np.testing.assert_allclose(unseen(jnp.array([4.0])), 2.0)


@pytest.mark.long
def test_the_mean_is_decided_without_a_key():
    """Deployed is the planned control itself, of log density 0."""
    policy = POLICIES["planner, noise at the action"]
    decision = policy.decide(jnp.array([0.3]))
    assert decision.log_probability == 0.0 and decision.action == decision.plan.controls[0]
    assert POLICIES["network"].decide(jnp.array([0.3])).log_probability == 0.0
