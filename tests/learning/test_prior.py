"""The pull towards the problem's own parameters: its closed form, and where it leads."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.learning import SAC
from planahead.policies import PlannerPolicy
from tests.learning.probes import AIM_AT_HALF, QUICK, ProbeTask, SteeredProblem, direct_policy
from tests.learning.test_soft_losses import KEY, ROWS, experience, losses
from tests.policies.test_planned import planner_policy

DEFAULT = 0.6
PROBLEM = SteeredProblem(target=jnp.array(DEFAULT))


def test_loss_by_hand_and_its_gradient():
    """w mean (φ - φ⁰)², in unit coordinates; the box of the target is [-1, 1], so they are its own."""
    policy, batch = planner_policy(problem=PROBLEM), experience()
    np.testing.assert_allclose(policy.default_unit(), [DEFAULT], rtol=1e-6)
    objective = losses("parameters", prior_weight=3.0)
    now = objective.draw(policy, batch, KEY).now
    drawn = jax.vmap(policy.propose)(batch.observation, jax.random.split(KEY, 2 * ROWS)[:ROWS]).unit
    np.testing.assert_allclose(objective.prior_loss(policy, now), 3.0 * ((drawn - DEFAULT) ** 2).mean(), rtol=1e-5)
    slope = jax.grad(lambda unit: objective.prior_loss(policy, dataclasses.replace(now, proposal=unit)))(drawn)
    np.testing.assert_allclose(slope, 3.0 * 2 * (drawn - DEFAULT) / drawn.size, rtol=1e-5)


def test_a_default_at_the_edge_pulls_no_further_than_just_inside():
    """The edge itself, where tanh of nothing finite leads, would pull for ever."""
    policy, batch = planner_policy(problem=SteeredProblem(target=jnp.array(1.0))), experience()
    np.testing.assert_allclose(policy.default_unit(), [1.0], rtol=1e-6)
    objective = losses("parameters", prior_weight=1.0)
    now = objective.draw(policy, batch, KEY).now
    slope = jax.grad(lambda unit: objective.prior_loss(policy, dataclasses.replace(now, proposal=unit)))
    outside, inside = (slope(jnp.full((ROWS, 1), unit)) for unit in (0.999, 0.95))
    assert (outside > 0).all() and (inside < 0).all()  # it leads somewhere between them


@pytest.mark.long
@pytest.mark.parametrize(("weight", "expected"), [(0.0, [-0.5, 0.5]), (100.0, [DEFAULT, DEFAULT])])
def test_a_huge_weight_leads_back_to_the_default_planner(weight: float, expected: list[float]):
    """The reward asks for half of what is observed; the default planner always does the same."""
    learner = dataclasses.replace(QUICK, critic="parameters", prior_weight=weight)
    task, policy = ProbeTask(environment=AIM_AT_HALF, problem=PROBLEM), planner_policy(problem=PROBLEM)
    state = learner.init(task, policy, jax.random.key(1))
    for chunk in range(6):
        state, _ = learner.advance(state, jax.random.key(chunk))
    assert isinstance(state.policy, PlannerPolicy)
    found = jax.vmap(lambda o: state.policy.propose(o).unit[0])(jnp.array([[-1.0], [1.0]]))
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_what_has_no_default_is_refused_in_words():
    with pytest.raises(
        ValueError, match=r"prior_weight=0\.5 pulls the parameters of a planner .* DirectPolicy has none"
    ):
        SAC(prior_weight=0.5).check(direct_policy())
    with pytest.raises(ValueError, match=r"prior_weight=-1\.0; expected 0"):
        SAC(prior_weight=-1.0)
