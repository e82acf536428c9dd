"""A filter behind a policy: what acts, what is credited, what it costs, and what losses see."""

from typing import final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import planahead as pa
from planahead.policies import (
    ActionBox,
    Awareness,
    Decision,
    DirectPolicy,
    FilteredPolicy,
    FilteredStochasticPolicy,
    GaussianPolicy,
    Guard,
    SafetyFilter,
)
from planahead.tasks import make_task
from tests.policies.test_safety_filter import PLANNER

TASK = make_task("mass-spring-damper", matched=True)
BOX = ActionBox((-0.5,), (0.5,))
AT_THE_LIMIT = jnp.array([1.9, 0.45])
AWARENESS = get_args(Awareness)
SCALE = TASK.environment.observation_scale


def guard(awareness: Awareness = "unaware", price: float = 1.0) -> Guard:
    problem = TASK.safety_problem()
    assert problem is not None
    return Guard(SafetyFilter(problem, PLANNER), TASK.planner_state, BOX, awareness, price)


def pushing() -> DirectPolicy:
    """Half of the force outwards, everywhere."""
    policy = DirectPolicy(SCALE, BOX, hidden=(4,), key=jax.random.key(0))
    policy = eqx.tree_at(lambda p: p.network, policy, replace_fn=lambda n: jax.tree.map(jnp.zeros_like, n))
    return eqx.tree_at(lambda p: p.network.layers[-1].bias, policy, jnp.array([jnp.arctanh(0.5), 0.0]))


@pytest.mark.long
@pytest.mark.parametrize("awareness", AWARENESS)
def test_all_act_alike_and_learning_knows_what_it_was_told(awareness):
    policy = FilteredStochasticPolicy(pushing(), guard(awareness, price=2.0))
    proposal = policy.propose(AT_THE_LIMIT)
    decision = policy.execute(AT_THE_LIMIT, proposal, policy.initial_memory())
    judged = policy.judged(AT_THE_LIMIT, proposal, policy.judged_memory(policy.initial_memory()))
    raw, action = 0.25, float(decision.action[0])
    assert action < raw - 0.05 and bool(decision.filtered.certified) and not bool(decision.failed)
    np.testing.assert_allclose(decision.filtered.proposal, raw, rtol=1e-6)
    credited = decision.action if decision.credited is None else decision.credited
    np.testing.assert_allclose(credited, raw if awareness in ("unaware", "penalised") else action, rtol=1e-6)
    penalty = 2.0 * ((action - raw) / 0.5) ** 2 if awareness == "penalised" else 0.0
    np.testing.assert_allclose(decision.penalty, penalty, rtol=1e-5)
    np.testing.assert_allclose(judged.action, action if awareness == "differentiated" else raw, atol=1e-5)


def test_only_the_policy_is_trained():
    policy = FilteredStochasticPolicy(pushing(), guard())
    mask = policy.trainable()
    assert jax.tree.leaves(mask.inner) == jax.tree.leaves(pushing().trainable())
    assert not any(jax.tree.leaves(mask.guard))


def test_a_filter_goes_behind_policies_of_every_kind():
    gaussian = GaussianPolicy(SCALE, BOX, guard=guard(), start=jnp.array([0.5]), hidden=(4,), key=jax.random.key(0))
    wrapped = FilteredPolicy(pushing(), guard())
    first = wrapped.decide(AT_THE_LIMIT, wrapped.initial_memory())
    second = gaussian.decide(AT_THE_LIMIT, gaussian.initial_memory())
    assert float(first.action[0]) < 0.2 and float(second.action[0]) < 0.2
    np.testing.assert_allclose(first.action, second.action, atol=2e-3)
    for decision in (first, second):
        assert bool(decision.memory.certificate.safe)
    # Proximal policy optimisation takes the ratio of densities of what was drawn.
    drawn = jnp.array([0.9])
    acted = gaussian.act(AT_THE_LIMIT, drawn, gaussian.locate(AT_THE_LIMIT), gaussian.initial_memory())
    at = gaussian.locate(AT_THE_LIMIT).mean
    np.testing.assert_allclose(acted.log_probability, gaussian.log_probability(at, drawn), rtol=1e-6)
    assert float(acted.action[0]) < 0.2


def test_settings_tell_policies_apart():
    settings = FilteredPolicy(pushing(), guard("stored")).settings()
    assert settings["filter"] == "stored" and settings["filter_horizon"] == 10
    assert settings["filter_terminal"] == "Polytope" and settings["hidden"] == "(4,)"


def test_a_step_in_which_the_remembered_plan_acted_is_no_failed_solve():
    """It is masked by nobody; that it has no derivative is said."""
    blind = Guard(SafetyFilter(guard().filter.problem, PLANNER), TASK.planner_state, BOX, "differentiated")
    proposal = jnp.array([jnp.nan])
    decision = blind.behind(AT_THE_LIMIT, Decision(proposal, jnp.zeros(())), blind.initial_memory(None))
    assert bool(decision.filtered.fallback) and not bool(decision.failed) and not bool(decision.gradient_valid)


@final
class Halved(pa.Problem):
    """Plans in halves of what the plant is told."""

    horizon: int = pa.static(1)
    state_size: int = pa.static(1)
    control_size: int = pa.static(1)

    def dynamics(self, x: Array, u: Array) -> Array:
        return x + 2.0 * u

    def action(self, x: Array, u: Array) -> Array:
        del x
        return 2.0 * u

    def control_bounds(self) -> pa.Bounds:
        return pa.Bounds(-1.0, 1.0)

    def state_bounds(self) -> pa.Bounds:
        return pa.Bounds(-1.0, 1.0)


def test_what_does_not_fit_is_refused():
    halved = SafetyFilter(pa.linear_safety_problem(Halved(), horizon=1))
    with pytest.raises(ValueError, match="Halved plans in other terms than the plant is commanded in"):
        Guard(halved, lambda observation: observation, ActionBox((-2.0,), (2.0,)))
    with pytest.raises(ValueError, match="the filter is for 1 controls and the environment takes 2 actions"):
        Guard(guard().filter, TASK.planner_state, ActionBox((-1.0, -1.0), (1.0, 1.0)))
