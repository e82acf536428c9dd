"""The losses of soft actor-critic against hand computation, and what failed solves may say: nothing."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.learning import SAC
from planahead.learning.critics import TwinCritic
from planahead.learning.soft_losses import ActorLoss, CriticPlace, Experience, SoftLosses
from planahead.policies import Network, NoisePlace, StochasticPolicy
from tests.learning.probes import QUICK, Probe, direct_policy, train
from tests.learning.steered import SteeredPolicy

KEY = jax.random.key(7)
TEMPERATURE = jnp.array(0.3)
ROWS = 6


def experience(key=KEY, **fields) -> Experience:
    o, z, r, n = jax.random.uniform(key, (4, ROWS), minval=-1.0, maxval=1.0)
    no = jnp.zeros(ROWS, bool)
    return dataclasses.replace(Experience(o[:, None], z[:, None], r, n[:, None], no, no), **fields)


def critic(point_size: int = 1, seed: int = 1) -> TwinCritic:
    return TwinCritic((1.0,), point_size, hidden=(16,), key=jax.random.key(seed))


def steered(noise: NoisePlace = "parameters", parameters: int = 1, **settings) -> SteeredPolicy:
    outputs = 2 * parameters if noise == "parameters" else parameters + 1
    network = Network((1.0,), outputs, hidden=(16,), last_gain=1.0, key=jax.random.key(2))
    return SteeredPolicy(network, noise, parameters=parameters, **settings)


def losses(place: CriticPlace = "action", discount=0.9, scale=True) -> SoftLosses:
    return SoftLosses(place, discount, scale)


def test_targets_by_hand():
    policy, twin = direct_policy(), critic()
    batch = experience(terminated=jnp.array([False, True, False, False, True, False]))
    expected = []
    for i, key in enumerate(jax.random.split(KEY, ROWS)):
        after = batch.next_observation[i]
        mean, log_std = policy.network(after)
        y = mean + jnp.exp(log_std) * jax.random.normal(key, (1,))[0]
        log_p = (
            -0.5 * ((y - mean) / jnp.exp(log_std)) ** 2
            - log_std
            - 0.5 * np.log(2 * np.pi)
            - np.log(1 - np.tanh(y) ** 2)
        )
        value = min(float(q) for q in twin(after[None], jnp.tanh(y)[None, None])[:, 0])
        bootstrap = 0.0 if batch.terminated[i] else value - 0.3 * log_p
        expected.append(batch.reward[i] + 0.9 * bootstrap)
    found = losses().targets(policy, twin, TEMPERATURE, batch, KEY)
    np.testing.assert_allclose(found.value, jnp.stack(expected), rtol=1e-4, atol=1e-5)
    assert found.usable.all()


def test_targets_carry_no_gradient():
    batch, twin = experience(), critic()
    trained, fixed = eqx.partition(direct_policy(), direct_policy().trainable())

    def total(trained, twin):
        return losses().targets(eqx.combine(trained, fixed), twin, TEMPERATURE, batch, KEY).value.sum()

    gradient = jax.grad(total, argnums=(0, 1))(trained, twin)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def test_critic_actor_and_temperature_losses_by_hand():
    policy, twin, batch = direct_policy(), critic(), experience()
    objective = losses()
    targets = objective.targets(policy, twin, TEMPERATURE, batch, KEY)
    q = twin(batch.observation, batch.point)
    np.testing.assert_allclose(
        objective.critic_loss(twin, batch, targets), 0.5 * ((q - targets.value[None]) ** 2).sum(0).mean(), rtol=1e-5
    )
    drawn = jax.vmap(policy.propose)(batch.observation, jax.random.split(KEY, ROWS))
    value = twin(batch.observation, drawn.unit).min(0)
    loss, actor = objective.actor_loss(policy, twin, TEMPERATURE, batch, KEY)
    np.testing.assert_allclose(loss, (0.3 * drawn.log_probability - value).mean(), rtol=1e-5)
    np.testing.assert_allclose(
        objective.temperature_loss(jnp.array(0.5), actor, 1), -0.5 * (drawn.log_probability - 1).mean(), rtol=1e-5
    )


def test_temperature_rises_when_the_entropy_is_below_its_target():
    usable = jnp.ones(3, bool)
    for log_p, sign in ((jnp.full(3, 2.5), -1.0), (jnp.full(3, -2.5), 1.0)):  # entropy -2.5 and 2.5, target -1
        slope = jax.grad(losses().temperature_loss)(jnp.array(0.0), ActorLoss(log_p, usable), 1)
        assert np.sign(slope) == sign


@pytest.mark.parametrize(("scale", "factor"), [(True, 0.25), (False, 1.0)])
def test_log_probability_of_many_parameters_is_scaled(scale: bool, factor: float):
    policy = steered(parameters=4, plan=lambda unit: unit[:1])
    batch = experience()
    judged = losses("action", scale=scale).judge(policy, batch.observation, None, KEY)
    drawn = jax.vmap(policy.propose)(batch.observation, jax.random.split(KEY, ROWS))
    np.testing.assert_allclose(judged.log_probability, factor * drawn.log_probability, rtol=1e-6)


@pytest.mark.parametrize("noise", ["parameters", "action"])
def test_actor_gradient_goes_through_the_plan(noise):
    """By the network's last bias, against central differences (float32: rounding of 1e-7 over a step of 1e-2)."""
    policy = steered(noise, plan=lambda unit: jnp.sin(1.3 * unit))
    batch, twin = experience(), critic()

    def loss(bias):
        moved = eqx.tree_at(lambda p: p.network.layers[-1].bias, policy, bias)
        return losses().actor_loss(moved, twin, TEMPERATURE, batch, KEY)[0]

    h = 1e-2
    differences = [(loss(h * d) - loss(-h * d)) / (2 * h) for d in jnp.eye(2)]
    np.testing.assert_allclose(jax.grad(loss)(jnp.zeros(2)), differences, rtol=5e-3, atol=5e-4)


@pytest.mark.parametrize("place", ["action", "parameters"])
@pytest.mark.parametrize("noise", ["parameters", "action"])
def test_a_failed_solve_contributes_nothing(place, noise):
    """Losses and gradients of a batch with rows whose solves fail equal those of the batch without these rows."""
    if (place, noise) == ("parameters", "action"):
        pytest.skip("refused at construction")
    policy = steered(noise, fails=lambda observation: observation[0] > 0.0)
    objective, twin = losses(place), critic()
    key = jax.random.split(KEY, ROWS)
    bad = jnp.array([False, False, False, True, True, True])
    signs = jnp.where(bad, 1.0, -1.0)[:, None]
    everything = experience(observation=signs * 0.4, next_observation=signs * 0.3, failed=bad & (place == "parameters"))
    good = jax.tree.map(lambda leaf: leaf[:3], everything)
    np.testing.assert_array_equal(jax.random.key_data(key)[:3], jax.random.key_data(jax.random.split(KEY, 3)))

    def all_losses(parts, batch):
        trained, twin, log_temperature = parts
        now = eqx.combine(trained, fixed)
        targets = objective.targets(now, twin, TEMPERATURE, batch, KEY)
        actor_loss, actor = objective.actor_loss(now, twin, TEMPERATURE, batch, KEY)
        critic_loss = objective.critic_loss(twin, batch, targets)
        return jnp.stack([critic_loss, actor_loss, objective.temperature_loss(log_temperature, actor, 1)])

    trained, fixed = eqx.partition(policy, policy.trainable())
    parts = trained, twin, jnp.array(0.1)
    np.testing.assert_allclose(all_losses(parts, everything), all_losses(parts, good), rtol=1e-5)
    with_bad, without = (jax.jacrev(all_losses)(parts, batch) for batch in (everything, good))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), with_bad, without)
    only_bad = jax.tree.map(lambda leaf: leaf[3:], everything)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(jax.jacrev(all_losses)(parts, only_bad)))


def test_a_terminated_row_needs_no_plan_at_its_end():
    policy = steered(fails=lambda observation: observation[0] > 0.0)
    ends = jnp.array([True, False] * 3)
    batch = experience(next_observation=jnp.full((ROWS, 1), 0.5), terminated=ends)
    found = losses().targets(policy, critic(), TEMPERATURE, batch, KEY)
    np.testing.assert_array_equal(found.usable, ends)
    np.testing.assert_array_equal(found.value[ends], batch.reward[ends])


def test_failures_are_counted():
    policy = steered(fails=lambda observation: observation[0] > 0.0)
    environment = Probe(reward=lambda o, a: 1.0, observes="sign", episode_steps=3)
    learner = dataclasses.replace(QUICK, warm_up_steps=0)
    _, metrics = learner.advance(train(environment, 0, learner, policy), KEY)
    assert 0.3 < metrics["failed_solves"] < 0.7
    assert 0.3 < metrics["failed_updates"] < 0.7


def test_the_presets_coincide_where_the_planner_is_the_identity():
    """With u₀*(s, φ) = φ, parameters are actions: every preset must take the same steps, from the same numbers."""
    environment = Probe(reward=lambda o, a: 1.0 - (a - 0.5 * o) ** 2, observes="sign")
    network = direct_policy().network
    found = {}
    presets: list[tuple[str, CriticPlace, StochasticPolicy]] = [
        ("sac", "action", direct_policy()),
        ("sac-zop", "parameters", SteeredPolicy(network, "parameters")),
        ("sac-fop", "action", SteeredPolicy(network, "parameters")),
        ("sac-foa", "action", SteeredPolicy(network, "action")),
    ]
    for name, place, policy in presets:
        learner = dataclasses.replace(QUICK, critic=place, warm_up_steps=0, steps_per_chunk=256)
        state = train(environment, 1, learner, policy)
        trained = eqx.filter(state.policy, state.policy.trainable())
        found[name] = [*jax.tree.leaves(trained), *jax.tree.leaves(state.critic)]
    start = [*jax.tree.leaves(network), *found["sac"][len(jax.tree.leaves(network)) :]]
    assert any(np.abs(a - b).max() > 1e-2 for a, b in zip(start, found["sac"], strict=True))
    for name in ("sac-zop", "sac-fop", "sac-foa"):
        # The identity costs an arithmetic operation or two: rounding, amplified by Adam over 64 gradient steps.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), found[name], found["sac"])


REFUSALS = [
    (SAC(critic="parameters"), direct_policy, "judges the parameters of a planner and DirectPolicy has none"),
    (SAC(critic="parameters"), lambda: steered("action"), "cannot see noise that enters at the action"),
    (SAC(critic="action"), lambda: steered(has_derivative=False), "this SteeredPolicy has no derivative"),
]


@pytest.mark.parametrize(("learner", "make_policy", "message"), REFUSALS)
def test_what_does_not_fit_is_refused_in_words(learner, make_policy, message):
    with pytest.raises(ValueError, match=message):
        learner.check(make_policy())


def test_a_planner_without_derivative_serves_a_critic_over_parameters():
    policy = steered(has_derivative=False)
    assert SAC(critic="parameters").check(policy) is policy
