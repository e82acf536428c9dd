"""The entropy of the planned action in place of that of the parameters: closed forms, and one number in all losses."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from planahead.learning import SAC
from planahead.learning.soft_losses import Judged, SoftLosses
from planahead.policies import Network, StochasticPolicy, linearised
from tests.learning.probes import QUICK, ProbeTask, SteeredProblem, direct_policy, probe
from tests.learning.steered import SteeredPolicy
from tests.learning.test_soft_losses import KEY, ROWS, TEMPERATURE, critic, experience, steered
from tests.policies.test_planned import planner_policy

FLOOR = 1e-3
OF_ACTION = SoftLosses("action", 0.9, entropy="action", action_noise_floor=FLOOR)
GAINS = jnp.array([0.7, -0.4, 0.2])


def linear_policy() -> SteeredPolicy:
    """Three parameters move one action by `GAINS`."""
    return steered(parameters=3, plan=lambda unit: GAINS @ unit[:, None])


def drawn(policy: StochasticPolicy, batch):
    return jax.vmap(policy.propose)(batch.observation, jax.random.split(KEY, 2 * ROWS)[:ROWS])


def test_entropy_is_that_of_the_gaussian_through_a_linear_plan():
    """Check 7 of the methods, wide case; the plan is linear in φ, so its own slope is exact."""
    policy, batch = linear_policy(), experience()
    draws, proposals = OF_ACTION.draw(policy, batch, KEY), drawn(policy, batch)
    assert proposals.log_std is not None
    variance = ((GAINS[None] * (1 - proposals.unit**2) * jnp.exp(proposals.log_std)) ** 2).sum(1) + FLOOR**2
    expected = stats.norm(scale=np.sqrt(variance)).entropy()
    np.testing.assert_allclose(-draws.now.log_probability, expected, rtol=1e-5)
    np.testing.assert_allclose(draws.now.point[:, 0], (GAINS @ proposals.unit.T), rtol=1e-5, atol=1e-6)
    assert OF_ACTION.scale(policy) == 1.0  # it is already the entropy of the actions


def test_entropy_estimates_the_mean_log_density_of_the_action():
    """With little noise the squash is straight too, and E[-log p] of the actions that really come out is H."""
    network = Network((1.0,), 2, hidden=(4,), last_gain=0.0, key=KEY)
    bias = jnp.array([0.3, -3.0])  # mean and log σ before squashing
    network = eqx.tree_at(lambda n: n.layers[-1].bias, network, bias)
    policy, batch = SteeredPolicy(network, plan=lambda unit: 0.5 * unit), experience()
    keys = jax.random.split(jax.random.key(3), 4096)
    actions = jax.vmap(lambda key: 0.5 * policy.propose(batch.observation[0], key).unit[0])(keys)
    found = -OF_ACTION.draw(policy, batch, KEY).now.log_probability.mean()
    assert found == pytest.approx(stats.norm(scale=float(jnp.std(actions))).entropy(), abs=0.05)


def test_gradient_by_the_width_of_the_noise():
    """∂H/∂log σᵢ is the share of parameter i in the variance of the action."""
    policy, batch = linear_policy(), experience()
    proposals = drawn(policy, batch)
    assert proposals.log_std is not None
    parts = (GAINS[None] * (1 - proposals.unit**2) * jnp.exp(proposals.log_std)) ** 2

    def entropy(log_std):
        judged = OF_ACTION.judge(policy, batch.observation, eqx.tree_at(lambda p: p.log_std, proposals, log_std), None)
        return -judged.log_probability.sum()

    shares = parts / (parts.sum(1, keepdims=True) + FLOOR**2)
    np.testing.assert_allclose(jax.grad(entropy)(proposals.log_std), shares, rtol=1e-4, atol=1e-6)


def test_gradient_by_the_proposal_sees_the_squash_and_takes_the_plan_as_straight():
    """With a curved plan the derivative is that of the tangent: only the slope of tanh changes."""
    policy, batch = steered(plan=lambda unit: jnp.sin(2.0 * unit)), experience()
    proposals = drawn(policy, batch)

    def entropy(unit, plan_slope):
        assert proposals.log_std is not None
        std = plan_slope * (1 - unit**2) * jnp.exp(proposals.log_std)
        return (0.5 * jnp.log(2 * math.pi * math.e * (std**2 + FLOOR**2))).sum()

    def of_losses(unit):
        judged = OF_ACTION.judge(policy, batch.observation, eqx.tree_at(lambda p: p.unit, proposals, unit), None)
        return -judged.log_probability.sum()

    expected = jax.grad(entropy)(proposals.unit, 2.0 * jnp.cos(2.0 * proposals.unit))
    np.testing.assert_allclose(jax.grad(of_losses)(proposals.unit), expected, rtol=1e-4, atol=1e-5)


def test_without_temperature_both_entropies_take_the_same_step():
    """The linearised plan moves the actor exactly as the plan does."""
    policy, batch, twin = steered(plan=lambda unit: jnp.sin(1.3 * unit)), experience(), critic()
    trained, fixed = eqx.partition(policy, policy.trainable())

    def loss(trained, objective):
        draws = objective.draw(eqx.combine(trained, fixed), batch, KEY)
        return objective.actor_loss(draws.now, twin, jnp.array(0.0), batch)

    found = jax.value_and_grad(loss)(trained, OF_ACTION)
    expected = jax.value_and_grad(loss)(trained, dataclasses.replace(OF_ACTION, entropy="drawn"))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_one_number_enters_target_actor_and_temperature():
    policy, batch, twin = linear_policy(), experience(), critic()
    draws = OF_ACTION.draw(policy, batch, KEY)
    after = twin(batch.next_observation, draws.after.point).min(0)
    target = batch.reward + 0.9 * (after - TEMPERATURE * draws.after.log_probability)
    np.testing.assert_allclose(OF_ACTION.targets(draws.after, twin, TEMPERATURE, batch).value, target, rtol=1e-5)
    now = draws.now.log_probability
    value = twin(batch.observation, draws.now.point).min(0)
    expected = (TEMPERATURE * now - value).mean()
    np.testing.assert_allclose(OF_ACTION.actor_loss(draws.now, twin, TEMPERATURE, batch), expected, rtol=1e-5)
    found = OF_ACTION.temperature_loss(jnp.array(0.5), draws.now, batch, -1.0)
    np.testing.assert_allclose(found, -0.5 * (now - 1.0).mean(), rtol=1e-5)


def test_a_plan_that_does_not_answer_has_no_say_in_the_temperature():
    """Half of the plans are flat: no width of the noise could give their actions the entropy aimed at."""
    batch = experience()
    policy = steered(plan=lambda unit: jnp.where(unit > 0.0, 0.8 * unit, 0.0))
    now = OF_ACTION.draw(policy, batch, KEY).now
    assert now.proposal is not None and now.answers is not None
    answers = now.proposal[:, 0] > 0.0
    assert 0 < answers.sum() < ROWS
    np.testing.assert_array_equal(now.answers, answers)
    found = OF_ACTION.temperature_loss(jnp.array(0.5), now, batch, -1.0)
    np.testing.assert_allclose(found, -0.5 * (now.log_probability[answers] - 1.0).mean(), rtol=1e-5)


def test_through_a_real_planner():
    """u₀* = φ inside the bound, and the bound beyond: there the action is certain up to ε, and no width changes it."""
    policy, batch = planner_policy(problem=SteeredProblem(limit=0.5)), experience()

    @eqx.filter_jit
    def judged(unit: jax.Array, log_std: jax.Array) -> tuple[Judged, jax.Array]:
        proposal = eqx.tree_at(lambda p: (p.unit, p.log_std), policy.propose(batch.observation[0]), (unit, log_std))
        rows = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (1, *leaf.shape)), proposal)

        def of_width(log_std):
            one = OF_ACTION.judge(policy, batch.observation[:1], eqx.tree_at(lambda p: p.log_std, rows, log_std), None)
            return one.log_probability.sum(), one

        slope, one = jax.grad(of_width, has_aux=True)(log_std[None])
        return one, slope

    inside, slope = judged(jnp.array([0.2]), jnp.array([-2.0]))
    expected = stats.norm(scale=np.hypot((1 - 0.2**2) * np.exp(-2.0), FLOOR)).entropy()
    np.testing.assert_allclose(-inside.log_probability, expected, rtol=1e-4)
    np.testing.assert_allclose(slope, -1.0, rtol=1e-3)
    outside, slope = judged(jnp.array([0.9]), jnp.array([-2.0]))
    np.testing.assert_allclose(-outside.log_probability, stats.norm(scale=FLOOR).entropy(), rtol=1e-4)
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)
    np.testing.assert_allclose(outside.point, 0.5, atol=1e-4)


def test_a_linearised_decision_is_the_decision():
    policy, batch = steered(plan=lambda unit: jnp.sin(2.0 * unit)), experience()
    proposal = policy.propose(batch.observation[0], KEY)
    found, decision = linearised(policy, batch.observation[0], proposal), policy.execute(batch.observation[0], proposal)
    np.testing.assert_allclose(found.decision.action, decision.action, rtol=1e-6)
    assert found.decision.log_probability == decision.log_probability
    np.testing.assert_allclose(found.jacobian, 2.0 * jnp.cos(2.0 * proposal.unit)[None], rtol=1e-5)


def test_tuned_temperature_holds_the_entropy_of_the_action():
    """The plan halves what the parameters ask for; the action settles at the entropy aimed at, not the parameters."""
    learner = dataclasses.replace(
        QUICK, entropy="action", tune_temperature=True, target_entropy=-1.0, learning_rate=3e-3, initial_temperature=0.1
    )
    network = Network((1.0,), 2, hidden=(32, 32), last_gain=0.01, key=KEY)
    policy = SteeredPolicy(network, plan=lambda unit: 0.5 * unit)
    state, metrics = learner.init(ProbeTask(environment=probe(of_action=4.0)), policy, KEY), {}
    for chunk in range(18):
        state, metrics = learner.advance(state, jax.random.key(chunk))
    assert metrics["entropy"] == pytest.approx(-1.0, abs=0.15)


REFUSALS = [
    (dict(critic="parameters"), lambda: steered(), "critic='parameters' with noise='parameters' and SteeredPolicy"),
    (dict(critic="action"), lambda: steered("action"), "critic='action' with noise='action' and SteeredPolicy"),
    (dict(critic="action"), direct_policy, "critic='action' with noise='action' and DirectPolicy"),
]


@pytest.mark.parametrize(("switches", "make_policy", "message"), REFUSALS)
def test_where_the_entropy_of_the_action_is_known_or_never_planned_it_is_refused(switches, make_policy, message):
    with pytest.raises(ValueError, match=message):
        SAC(entropy="action", **switches).check(make_policy())


def test_settings_that_do_not_fit_are_refused_in_words():
    with pytest.raises(ValueError, match=r"action_noise_floor=0\.0; a positive number was expected"):
        SAC(action_noise_floor=0.0)
