r"""Where a learner that differentiates through the plan is blind, and what entropy the planned action has.

    J(s) = ∂ unit u₀*(s, φ) / ∂ unit φ     [nu, nφ],  at the policy's deterministic φ

The policy gradient is Jᵀ ∇_a Q: it vanishes where the critic still asks for another action as soon as J loses full row
rank, at active control bounds for instance. The smallest of the nu singular values tells: 0 means blind in some
direction. With nφ < nu it is always 0, since fewer parameters than controls cannot move every control.

For a Gaussian y before squashing with covariance Σ, and J_y = J diag(1 - tanh² y), the planned action is locally
Gaussian:

    H(a) ≈ ½ log det(2πe (J_y Σ J_yᵀ + ε I))

which is exact for a linear map, also with nφ > nu, where a density at one point of the fibre {φ: u₀*(s, φ) = a} would
be a proxy.
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.policies.policy import Decision
from planahead.policies.stochastic import Proposal, StochasticPolicy

VANISHING = 1e-4
"""A smallest singular value below it counts as none: φ crossing its whole box would move some direction of the action
by less than a ten-thousandth of the action's box."""


class Sensitivity(eqx.Module):
    """How the planned action answers to the planner's parameters, for a batch of observations."""

    jacobian: Float[Array, "batch nu parameters"]
    """J, in unit coordinates on both sides; zero where the plan has no valid gradient."""
    smallest_singular_value: Float[Array, " batch"]
    vanishing: Bool[Array, " batch"]
    """Whether it is below the threshold."""


def sensitivities(
    policy: StochasticPolicy, observations: Float[Array, "batch observation"], threshold: float = VANISHING
) -> Sensitivity:
    """J of a planning policy at its deterministic proposals.

    `threshold` is relative to the boxes. **Raises** `ValueError` for a policy that does not plan or has no derivative.
    """
    if not (policy.plans and policy.differentiable):
        raise ValueError(
            f"{type(policy).__name__} has no differentiable plan; sensitivities need a PlannerPolicy whose "
            "planner has a derivative"
        )
    jacobian = jax.vmap(lambda observation: control_jacobian(policy, observation))(observations)
    smallest = jax.vmap(smallest_singular_value)(jacobian)
    return Sensitivity(jacobian, smallest, smallest < threshold)


def control_jacobian(
    policy: StochasticPolicy, observation: Float[Array, " observation"]
) -> Float[Array, "nu parameters"]:
    """J at one observation and the deterministic φ: one back-solve per control."""
    memory = policy.judged_memory(policy.initial_memory())
    return linearised(policy, observation, policy.propose(observation), memory).jacobian


class Linearised(eqx.Module):
    """A decision and how its action answers to the proposal."""

    decision: Decision
    """Its action has the derivative J by the proposal, and none by anything else."""
    jacobian: Float[Array, "nu parameters"]
    """J, in unit coordinates on both sides, a constant; zero where the plan has no valid gradient."""


def linearised(
    policy: StochasticPolicy, observation: Float[Array, " observation"], proposal: Proposal, memory: Any = None
) -> Linearised:
    """Judge a proposal and keep J: one solve and one back-solve per control, and none when it is differentiated.
    `memory` is a `judged_memory`.

    a(φ + dφ) ≈ a(φ) + J dφ is exact to first order, which is all there is: J has no derivative here, since that would
    be a second derivative of the plan.
    """

    def act(unit: Float[Array, " parameters"]) -> tuple[Float[Array, " nu"], Decision]:
        decision = policy.judged(observation, Proposal(unit, jnp.zeros((), unit.dtype)), memory)
        return policy.box.to_unit(decision.action), decision

    here = jax.lax.stop_gradient(proposal.unit)
    action, pull_back, decision = jax.vjp(act, here, has_aux=True)
    (jacobian,) = jax.vmap(pull_back)(jnp.eye(action.size, dtype=action.dtype))
    jacobian = jax.lax.stop_gradient(jacobian)
    moved = action + jacobian @ (proposal.unit - here)
    decision = dataclasses.replace(
        decision, action=policy.box.from_unit(moved), log_probability=proposal.log_probability
    )
    return Linearised(decision, jacobian)


def smallest_singular_value(jacobian: Float[Array, "nu parameters"]) -> Float[Array, ""]:
    """The smallest of the `nu` singular values: 0 unless the rows are independent."""
    controls, parameters = jacobian.shape
    if parameters < controls:
        return jnp.zeros((), jacobian.dtype)
    return jnp.min(jnp.linalg.svd(jacobian, compute_uv=False))


def local_action_entropy(
    jacobian: Float[Array, "nu parameters"], std: Float[Array, " parameters"], floor: float = 0.0
) -> Float[Array, ""]:
    """H(a) in nats for a Gaussian with standard deviations `std` sent through the linear map `jacobian`.

    `floor` is ε, a variance that keeps the value finite where the map loses rank.

    >>> entropy = local_action_entropy(jnp.array([[3.0, 4.0]]), jnp.ones(2))
    >>> print(f"{entropy:.4f}, that of one Gaussian: {0.5 * math.log(2 * math.pi * math.e * 5.0**2):.4f}")
    3.0284, that of one Gaussian: 3.0284
    """
    covariance = (jacobian * std[None] ** 2) @ jacobian.T + floor * jnp.eye(jacobian.shape[0])
    return 0.5 * (jacobian.shape[0] * math.log(2 * math.pi * math.e) + jnp.linalg.slogdet(covariance)[1])
