"""Sensitivities of the planned action: where learning through the plan is blind, and the entropy of what is done."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from scipy import stats

from planahead.learning.critics import TwinCritic
from planahead.learning.soft_losses import SoftLosses
from planahead.planning import SQP
from planahead.policies import local_action_entropy, sensitivities, smallest_singular_value
from tests.learning.probes import SteeredProblem, direct_policy
from tests.learning.test_soft_losses import experience
from tests.policies.test_planned import planner_policy


def slope_of_smoothed_clip(target: float, tau: float, limit: float = 0.5) -> float:
    """du/dtarget of the optimum with a barrier: the root of u - target + τ/(limit - u) - τ/(limit + u)."""
    below, above = -limit, limit
    for _ in range(60):  # the expression rises with u
        root = 0.5 * (below + above)
        rises = root - target + tau / (limit - root) - tau / (limit + root) > 0
        below, above = (below, root) if rises else (root, above)
    return 1 / (1 + tau / (limit - above) ** 2 + tau / (limit + above) ** 2)


@eqx.filter_jit
def diagnosed(target: Float[Array, ""], tau: float | None):
    """Of a policy that asks for `target` with |u| <= 0.5: its sensitivity, and the actor's slope in that wish."""
    policy = planner_policy(problem=SteeredProblem(limit=0.5), planner=SQP(tau=tau))
    batch, objective = experience(), SoftLosses("action", 0.9, True)

    def aiming(wish):
        last = policy.network.layers[-1]
        new = 0 * last.weight, jnp.stack([wish, -4.0])
        return eqx.tree_at(lambda p: (p.network.layers[-1].weight, p.network.layers[-1].bias), policy, new)

    def actor_loss(wish):
        draws = objective.draw(aiming(wish), batch, jax.random.key(2))
        return objective.actor_loss(draws.now, CRITIC, jnp.array(0.0), batch)

    wish = jnp.arctanh(target)
    return sensitivities(aiming(wish), batch.observation), jax.grad(actor_loss)(wish)


CRITIC = TwinCritic((1.0,), 1, hidden=(16,), key=jax.random.key(1))


@pytest.mark.long
@pytest.mark.parametrize(
    ("target", "tau", "slope"),
    [(0.2, None, 1.0), (0.9, None, 0.0), (0.9, 1e-2, slope_of_smoothed_clip(0.9, 1e-2))],
    ids=["inside", "saturated", "saturated, smoothed"],
)
def test_a_saturated_plan_is_blind_unless_smoothed(target: float, tau: float | None, slope: float):
    """Check 8 of the methods: at its bound ∂u₀/∂φ = 0 although the critic asks for more; with τ > 0 it is not."""
    found, gradient = diagnosed(jnp.array(target), tau)
    np.testing.assert_allclose(found.smallest_singular_value, slope, rtol=1e-3, atol=1e-5)
    assert found.vanishing.all() == (slope == 0.0)

    observation = experience().observation
    asked = jax.grad(lambda point: CRITIC(observation, point).min(0).mean())(jnp.full((6, 1), 0.5)).sum()
    assert abs(asked) > 1e-2
    assert (abs(gradient) < 1e-6) if slope == 0.0 else (abs(gradient) > 1e-4)


def test_rows_of_the_jacobian_must_be_independent():
    np.testing.assert_allclose(smallest_singular_value(jnp.array([[3.0, 0.0, 0.0], [0.0, 0.5, 0.0]])), 0.5, rtol=1e-6)
    np.testing.assert_allclose(smallest_singular_value(jnp.array([[1.0, 2.0], [2.0, 4.0]])), 0.0, atol=1e-6)
    assert smallest_singular_value(jnp.ones((2, 1))) == 0.0


def test_entropy_of_as_many_parameters_as_actions_is_the_change_of_variables():
    """Check 7 of the methods, square case: H(Jy) = H(y) + log|det J|."""
    jacobian, std = jnp.array([[2.0, 0.3], [-0.5, 1.5]]), jnp.array([0.4, 1.2])
    expected = stats.norm(scale=np.asarray(std)).entropy().sum() + np.log(abs(np.linalg.det(jacobian)))
    np.testing.assert_allclose(local_action_entropy(jacobian, std), expected, rtol=1e-6)


def test_entropy_of_more_parameters_than_actions_is_that_of_the_projection():
    """Check 7, wide case: exact, while the density at a point of the fibre with ½ log det J Jᵀ is only a proxy."""
    jacobian, std = jnp.array([[1.0, -2.0, 0.5], [0.3, 0.8, 1.1]]), jnp.array([0.4, 1.2, 0.7])
    covariance: Any = np.asarray(jacobian) @ np.diag(np.asarray(std) ** 2) @ np.asarray(jacobian).T
    exact = stats.multivariate_normal.entropy(cov=covariance)
    np.testing.assert_allclose(local_action_entropy(jacobian, std), exact, rtol=1e-6)
    samples = np.asarray(jax.random.normal(jax.random.key(0), (20_000, 3)) * std[None]) @ np.asarray(jacobian).T
    fitted_covariance: Any = np.cov(samples.T)
    fitted = stats.multivariate_normal.entropy(cov=fitted_covariance)
    np.testing.assert_allclose(local_action_entropy(jacobian, std), fitted, atol=0.03)
    proxy = stats.norm(scale=np.asarray(std)).entropy().sum() + 0.5 * np.log(np.linalg.det(jacobian @ jacobian.T))
    assert abs(proxy - exact) > 0.3


def test_a_floor_keeps_the_entropy_of_a_blind_plan_finite():
    assert np.isneginf(local_action_entropy(jnp.zeros((1, 2)), jnp.ones(2)))
    expected = stats.norm(scale=0.1).entropy()
    np.testing.assert_allclose(local_action_entropy(jnp.zeros((1, 2)), jnp.ones(2), floor=0.01), expected, rtol=1e-6)


def test_a_policy_without_a_plan_has_no_sensitivity():
    with pytest.raises(ValueError, match="DirectPolicy has no differentiable plan"):
        sensitivities(direct_policy(), jnp.zeros((2, 1)))
