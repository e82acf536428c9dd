"""Guided policy search: the supervisor keeps within its divergence and ends at the planner."""

import dataclasses
import io
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.learning import Expert, GuidedPolicySearch, GuidedState
from planahead.learning.guided_policy_search import Guidance, near, supervision_loss
from planahead.planning import ActionCurvature
from planahead.policies import ActionBox, DirectPolicy, GaussianPolicy
from tests.learning.integrator import IntegratorTask
from tests.learning.test_imitation import BOX, closed_loop_cost
from tests.learning.test_sac import saved

TASK = IntegratorTask()
QUICK = GuidedPolicySearch(batch_size=32, gradient_steps=100, replay_size=200, environments=2, steps_per_chunk=50)


def student(seed: int = 0) -> GaussianPolicy:
    return GaussianPolicy((1.0, 2.0), BOX, hidden=(16, 16), key=jax.random.key(seed))


def advanced(learner: GuidedPolicySearch, chunks: int, seed: int = 0) -> tuple[GuidedState, Any]:
    state, metrics = learner.init(TASK, student(seed), jax.random.key(seed)), {}
    for chunk in range(chunks):
        state, metrics = learner.advance(state, jax.random.fold_in(jax.random.key(seed), chunk))
    return state, metrics


def test_the_supervisor_is_the_product_of_policy_and_costs(x64: None):
    """p ∝ π exp(-Q/η): in one dimension mean and width by hand, and the divergence is all of what is allowed."""
    mean, std, best, h, bound = 0.2, 0.5, -0.6, 8.0, 0.3
    bent = ActionCurvature(jnp.zeros(1), jnp.array([[h]]), jnp.array(True))
    step = near(jnp.array([mean]), jnp.log(jnp.array([std])), jnp.array([best]), bent, bound)
    precision = h / float(step.eta) + 1 / std**2
    expected = (h / float(step.eta) * best + mean / std**2) / precision
    np.testing.assert_allclose(step.controller.offset[0, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(step.controller.covariance[0, 0, 0], 1 / precision, rtol=1e-9)
    ratio = 1 / (precision * std**2)
    divergence = 0.5 * (ratio + (expected - mean) ** 2 / std**2 - 1 - np.log(ratio))
    np.testing.assert_allclose([divergence, step.divergence], bound, rtol=1e-8)


def test_supervision_is_least_where_policy_and_supervisor_agree(x64: None):
    """Its gradient vanishes at m = μ_p, σ² = 1 / C⁻¹, and a row that is not usable has no say."""
    policy, o = student(), jnp.array([[0.3, -0.2], [0.3, -0.2]])
    mean, width = jax.vmap(lambda o: policy.locate(o).mean)(o), jnp.exp(-2 * policy.log_std)
    precision = jnp.stack([jnp.diag(width), jnp.full((1, 1), 77.0)])
    rows = Guidance(o, mean + jnp.array([[0.0], [9.0]]), precision, jnp.array([True, False]), jnp.zeros(2))
    slope = eqx.filter_grad(lambda policy: supervision_loss(policy, rows))(policy)
    assert all(float(jnp.abs(leaf).max()) < 1e-12 for leaf in jax.tree.leaves((slope.network, slope.log_std)))


def test_every_answer_keeps_within_the_bound_and_a_failed_plan_is_no_label():
    expert, policy = Expert(TASK), student()
    ask = jax.jit(jax.vmap(lambda o: QUICK.guide(expert, policy, o)))
    rows = ask(jnp.array([[0.3, -0.2], [1.0, 0.0], [jnp.nan, 0.0]]))
    assert rows.usable.tolist() == [True, True, False]
    np.testing.assert_allclose(rows.divergence[:2], QUICK.kl_bound, rtol=1e-3)


def test_the_supervisor_knows_the_state_and_the_network_is_shown_a_part_of_it():
    """The position alone: what the policy does answers to nothing else, what it is told does, as far as is allowed."""
    policy = GaussianPolicy((1.0, 2.0), BOX, hidden=(16,), sees=(0,), key=jax.random.key(0))
    observations, expert = jnp.array([[0.3, -2.0], [0.3, 2.0]]), Expert(TASK)
    rows = jax.jit(jax.vmap(lambda o: QUICK.guide(expert, policy, o)))(observations)
    means = jax.vmap(lambda o: policy.locate(o).mean)(observations)
    assert rows.usable.all() and means[0] == means[1] and abs(rows.mean[0, 0] - rows.mean[1, 0]) > 0.1
    np.testing.assert_allclose(rows.divergence, QUICK.kl_bound, rtol=1e-3)


@pytest.mark.slow
def test_the_policy_comes_to_do_what_the_planner_does():
    state, metrics = advanced(QUICK, 12)
    assert metrics["std"] < 0.2 and metrics["divergence"] <= 1.001 * QUICK.kl_bound
    assert closed_loop_cost(state.policy) < 5.0  # the planner's own way costs 4.2


@pytest.mark.long
def test_a_break_changes_nothing():
    """Saved, loaded into a fresh state: learning goes on to the same bytes."""
    first, _ = advanced(QUICK, 1)
    loaded = eqx.tree_deserialise_leaves(io.BytesIO(saved(first)), QUICK.init(TASK, student(3), jax.random.key(9)))
    ends = [saved(QUICK.advance(state, jax.random.key(1))[0]) for state in (first, loaded)]
    assert ends[0] == ends[1]


def test_what_does_not_fit_is_refused_in_words():
    with pytest.raises(ValueError, match=r"kl_bound=0\.0; a positive number was expected"):
        dataclasses.replace(QUICK, kl_bound=0.0)
    with pytest.raises(ValueError, match=r"trains a GaussianPolicy without a planner.* got DirectPolicy"):
        QUICK.init(TASK, DirectPolicy((1.0, 2.0), BOX, key=jax.random.key(0)), jax.random.key(0))
    with pytest.raises(ValueError, match="stands for 1 actions and the policy takes 2"):
        wide = GaussianPolicy((1.0, 2.0), ActionBox((-1.0,) * 2, (1.0,) * 2), key=jax.random.key(0))
        QUICK.init(TASK, wide, jax.random.key(0))
