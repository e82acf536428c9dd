"""The losses of soft actor-critic against hand computation, and what failed solves may say: nothing."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.learning import SAC
from planahead.learning.critics import TwinCritic
from planahead.learning.soft_losses import CriticPlace, Experience, Judged, SoftLosses
from planahead.policies import Network, NoisePlace, StochasticPolicy
from tests.learning.probes import QUICK, direct_policy, probe, train
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


def losses(place: CriticPlace = "action", discount=0.9, scale=True, **switches) -> SoftLosses:
    return SoftLosses(place, discount, scale, **switches)


def test_targets_by_hand():
    policy, twin = direct_policy(), critic()
    batch = experience(terminated=jnp.array([False, True, False, False, True, False]))
    expected = []
    for i, key in enumerate(jax.random.split(KEY, 2 * ROWS)[ROWS:]):
        after = batch.next_observation[i]
        mean, log_std = policy.network(after)
        y = mean + jnp.exp(log_std) * jax.random.normal(key, (1,))[0]
        gaussian = -0.5 * ((y - mean) / jnp.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
        log_p = gaussian - np.log(1 - np.tanh(y) ** 2)
        value = min(float(q) for q in twin(after[None], jnp.tanh(y)[None, None])[:, 0])
        expected.append(batch.reward[i] + (0.0 if batch.terminated[i] else 0.9 * (value - 0.3 * log_p)))
    found = losses().targets(losses().draw(policy, batch, KEY).after, twin, TEMPERATURE, batch)
    np.testing.assert_allclose(found.value, jnp.stack(expected), rtol=1e-4, atol=1e-5)
    assert found.usable.all()


def test_targets_carry_no_gradient():
    batch, twin = experience(), critic()
    trained, fixed = eqx.partition(direct_policy(), direct_policy().trainable())

    def total(trained, twin):
        after = losses().draw(eqx.combine(trained, fixed), batch, KEY).after
        return losses().targets(after, twin, TEMPERATURE, batch).value.sum()

    gradient = jax.grad(total, argnums=(0, 1))(trained, twin)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def test_critic_actor_and_temperature_losses_by_hand():
    policy, twin, batch, objective = direct_policy(), critic(), experience(), losses()
    draws = objective.draw(policy, batch, KEY)
    targets = objective.targets(draws.after, twin, TEMPERATURE, batch)
    q = twin(batch.observation, batch.point)
    expected = 0.5 * ((q - targets.value[None]) ** 2).sum(0).mean()
    np.testing.assert_allclose(objective.critic_loss(twin, batch, targets), expected, rtol=1e-5)
    drawn = jax.vmap(policy.propose)(batch.observation, jax.random.split(KEY, 2 * ROWS)[:ROWS])
    expected = (0.3 * drawn.log_probability - twin(batch.observation, drawn.unit).min(0)).mean()
    np.testing.assert_allclose(objective.actor_loss(draws.now, twin, TEMPERATURE, batch), expected, rtol=1e-5)
    expected = -0.5 * (drawn.log_probability - 1).mean()
    np.testing.assert_allclose(objective.temperature_loss(jnp.array(0.5), draws.now, batch, -1.0), expected, rtol=1e-5)


@pytest.mark.parametrize(("entropy", "sign"), [(-2.5, -1.0), (2.5, 1.0)])
def test_temperature_rises_when_the_entropy_is_below_its_target(entropy: float, sign: float):
    """A gradient below zero makes α rise; the target is -1."""
    yes = jnp.ones(ROWS, bool)
    now = Judged(jnp.zeros((ROWS, 1)), jnp.full(ROWS, -entropy), yes, yes)
    assert jnp.sign(jax.grad(losses().temperature_loss)(jnp.array(0.0), now, experience(), -1.0)) == sign


@pytest.mark.parametrize(("scale", "factor"), [(True, 0.25), (False, 1.0)])
def test_log_probability_of_many_parameters_is_scaled(scale: bool, factor: float):
    policy = steered(parameters=4, plan=lambda unit: unit[:1])
    batch = experience()
    now = losses(scale=scale).draw(policy, batch, KEY).now
    drawn = jax.vmap(policy.propose)(batch.observation, jax.random.split(KEY, 2 * ROWS)[:ROWS])
    np.testing.assert_allclose(now.log_probability, factor * drawn.log_probability, rtol=1e-6)


@pytest.mark.parametrize("noise", ["parameters", "action"])
def test_actor_gradient_goes_through_the_plan(noise):
    """By the network's last bias, against central differences (float32: rounding of 1e-7 over a step of 1e-2)."""
    policy = steered(noise, plan=lambda unit: jnp.sin(1.3 * unit))
    batch, twin = experience(), critic()

    @jax.jit
    def loss(bias):
        moved = eqx.tree_at(lambda p: p.network.layers[-1].bias, policy, bias)
        return losses().actor_loss(losses().draw(moved, batch, KEY).now, twin, TEMPERATURE, batch)

    h = 1e-2
    differences = [(loss(h * d) - loss(-h * d)) / (2 * h) for d in jnp.eye(2)]
    np.testing.assert_allclose(jax.grad(loss)(jnp.zeros(2)), differences, rtol=5e-3, atol=5e-4)


@pytest.mark.parametrize(
    ("place", "noise", "entropy"),
    [
        ("action", "parameters", "drawn"),
        ("action", "parameters", "action"),
        ("action", "action", "drawn"),
        ("parameters", "parameters", "drawn"),
    ],
)
def test_a_failed_solve_contributes_nothing(place, noise, entropy):
    """Losses and gradients with rows whose solves fail do not depend on these rows, and are means over the others."""
    policy = steered(noise, fails=lambda observation: observation[0] > 0.0)
    objective, twin = losses(place, entropy=entropy, action_noise_floor=1e-3), critic()
    trained, fixed = eqx.partition(policy, policy.trainable())

    @jax.jit
    def losses_and_gradients(batch):
        def three(parts):
            trained, twin, log_temperature = parts
            draws = objective.draw(eqx.combine(trained, fixed), batch, KEY)
            targets = objective.targets(draws.after, twin, TEMPERATURE, batch)
            return jnp.stack(
                [
                    objective.critic_loss(twin, batch, targets),
                    objective.actor_loss(draws.now, twin, TEMPERATURE, batch),
                    objective.temperature_loss(log_temperature, draws.now, batch, -1.0),
                ]
            )

        parts = trained, twin, jnp.array(0.1)
        return three(parts), jax.jacrev(three)(parts)

    bad = jnp.arange(ROWS) >= ROWS // 2
    where = jnp.where(bad, 0.4, -0.4)[:, None]
    failed = bad & (place == "parameters")
    batch = experience(observation=where, next_observation=where, failed=failed)
    other = experience(jax.random.key(8), observation=where, next_observation=where, failed=failed)
    mixed = jax.tree.map(lambda a, b: jnp.where(jnp.reshape(bad, (-1, *[1] * (a.ndim - 1))), b, a), batch, other)
    assert not (mixed.reward == batch.reward).all()
    for a, b in zip(*(jax.tree.leaves(losses_and_gradients(rows)) for rows in (batch, mixed)), strict=True):
        np.testing.assert_array_equal(a, b)

    draws = objective.draw(policy, batch, KEY)
    value = 0.3 * draws.now.log_probability - twin(batch.observation, draws.now.point).min(0)
    np.testing.assert_allclose(losses_and_gradients(batch)[0][1], value[~bad].mean(), rtol=1e-5)

    only_bad = experience(
        observation=jnp.abs(where), next_observation=jnp.abs(where), failed=failed | (place == "parameters")
    )
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(losses_and_gradients(only_bad)))


def test_a_terminated_row_needs_no_plan_at_its_end():
    policy = steered(fails=lambda observation: observation[0] > 0.0)
    ends = jnp.array([True, False] * 3)
    batch = experience(next_observation=jnp.full((ROWS, 1), 0.5), terminated=ends)
    found = losses().targets(losses().draw(policy, batch, KEY).after, critic(), TEMPERATURE, batch)
    np.testing.assert_array_equal(found.usable, ends)
    np.testing.assert_array_equal(found.value[ends], batch.reward[ends])


def test_failures_are_counted():
    """Half of the observations are bad; a row is left out where one of its two ends is, and both ends have one sign."""
    policy = steered(fails=lambda observation: observation[0] > 0.0)
    learner = dataclasses.replace(QUICK, warm_up_steps=0)
    _, metrics = learner.advance(train(probe(sign=1.0, length=3), 0, learner, policy), KEY)
    assert metrics["failed_solves"] == pytest.approx(0.5, abs=0.1)
    assert metrics["failed_updates"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.long
def test_the_presets_coincide_where_the_planner_is_the_identity():
    """With u₀*(s, φ) = φ, parameters are actions: every preset must take the same steps, from the same numbers."""
    network = direct_policy().network
    presets: dict[str, tuple[CriticPlace, StochasticPolicy]] = {
        "sac": ("action", direct_policy()),
        "sac-zop": ("parameters", SteeredPolicy(network, "parameters")),
        "sac-fop": ("action", SteeredPolicy(network, "parameters")),
        "sac-foa": ("action", SteeredPolicy(network, "action")),
    }
    found = {}
    for name, (place, policy) in presets.items():
        learner = dataclasses.replace(QUICK, critic=place, learning_rate=1e-2, tune_temperature=True)
        state = train(probe(), 0, learner, policy)
        update = eqx.filter_jit(learner.update)
        for i in range(10):
            state, _ = update(state, experience(jax.random.key(i)), jax.random.key(100 + i))
        trained = eqx.filter(state.policy, state.policy.trainable())
        found[name] = jax.tree.leaves((trained, state.critic, state.target_critic, state.log_temperature))
    moved = [np.abs(a - b).max() for a, b in zip(found["sac"], jax.tree.leaves(network), strict=False)]
    assert min(moved) > 0.01
    for name in ("sac-zop", "sac-fop", "sac-foa"):
        for a, b in zip(found[name], found["sac"], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4, err_msg=name)  # rounding, amplified by ten steps of Adam


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
