"""A policy with a stand-in for a planner: a known function of the parameters that fails where it is told to."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from planahead.policies import ActionBox, Decision, Network, NoisePlace, Proposal, SquashedGaussian, StochasticPolicy
from planahead.policies.distributions import unsquash
from planahead.policies.stochastic import mask_of


@final
class SteeredPolicy(StochasticPolicy):
    """`unit u₀*(s, φ) = plan(φ)` on the action box [-1, 1]; where `fails(s)`, the plan is `garbage`."""

    network: Network
    box: ActionBox
    noise: NoisePlace = eqx.field(static=True)
    plan: Callable[[Array], Array] = eqx.field(static=True)
    fails: Callable[[Array], Array] = eqx.field(static=True)
    garbage: Float[Array, ""]
    parameters: int = eqx.field(static=True)
    has_derivative: bool = eqx.field(static=True)

    def __init__(
        self,
        network: Network,
        noise: NoisePlace = "parameters",
        plan: Callable[[Array], Array] = lambda unit: unit,
        fails: Callable[[Array], Array] = lambda observation: jnp.array(False),
        garbage: float = 0.9,
        parameters: int = 1,
        has_derivative: bool = True,
    ):
        self.network = network
        self.box = ActionBox((-1.0,), (1.0,))
        self.noise, self.plan, self.fails = noise, plan, fails
        self.garbage = jnp.array(garbage)
        self.parameters, self.has_derivative = parameters, has_derivative

    def settings(self) -> dict:
        return {}

    @property
    def plans(self) -> bool:
        return True

    @property
    def differentiable(self) -> bool:
        return self.has_derivative

    @property
    def proposal_size(self) -> int:
        return self.parameters

    def initial_memory(self) -> None:
        return None

    def propose(self, observation: Float[Array, " 1"], key: PRNGKeyArray | None = None) -> Proposal:
        mean, log_std = jnp.split(self.network(observation), [self.parameters])
        if self.noise == "parameters":
            return Proposal.draw(SquashedGaussian(mean, log_std), key)
        draw = None if key is None else jax.random.normal(key, log_std.shape)
        return Proposal(jnp.tanh(mean), jnp.zeros(()), action_log_std=log_std, action_noise=draw)

    def execute(self, observation: Float[Array, " 1"], proposal: Proposal, memory: Any = None) -> Decision:
        del memory
        failed = self.fails(observation)
        action = jnp.where(failed, self.garbage, self.plan(proposal.unit))
        log_probability = proposal.log_probability
        if proposal.action_log_std is not None and proposal.action_noise is not None:
            sample = SquashedGaussian(unsquash(action), proposal.action_log_std).at(proposal.action_noise)
            action, log_probability = sample.value, sample.log_probability
        return Decision(action, log_probability, proposal.unit, failed=failed, gradient_valid=~failed)

    def trainable(self) -> PyTree[bool]:
        return mask_of(self, lambda policy: policy.network)
