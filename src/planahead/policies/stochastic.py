"""Policies that draw: one network evaluation proposes, one execution turns the proposal into an action.

    observation, key --propose--> proposal --execute--> decision

All randomness is in the proposal, and only `execute` plans. A learner whose critic judges proposals (SAC-ZOP) therefore
never solves an optimal control problem in its updates.
"""

import abc
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from planahead.policies.distributions import SquashedGaussian
from planahead.policies.policy import Decision, Policy

POLICY_GAIN = 0.01
"""Of a policy network's last layer: it starts at the same proposal for every observation."""

ANCHOR_MARGIN = 1e-2
"""Distance from ±1 at which an anchor is held, where tanh has slope 0.02. Closer, a learned offset from a default at
the edge of its box would move nothing, and the derivative of a noisy action by its anchor, which grows up to 1/0.02,
would drown all others."""


def held_inside(unit: Float[Array, "*b size"]) -> Float[Array, "*b size"]:
    """`unit` at least the anchor's margin away from ±1: what a network behind tanh can be asked to say.

    >>> held_inside(jnp.array([-1.0, 0.5]))
    Array([-0.99,  0.5 ], dtype=float32)
    """
    return jnp.clip(unit, -1 + ANCHOR_MARGIN, 1 - ANCHOR_MARGIN)


NoisePlace = Literal["parameters", "action"]
"""Where exploration enters: at the planner's parameters φ, before planning, or at the action, after it."""


class ActionBox(eqx.Module):
    """The actions `[low, high]`, and their unit coordinates in `[-1, 1]`.

    >>> ActionBox((-80.0,), (80.0,)).from_unit(jnp.array([0.5]))
    Array([40.], dtype=float32)
    """

    low: tuple[float, ...] = eqx.field(static=True)
    high: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self):
        pairs = list(zip(self.low, self.high, strict=False))
        if len(self.low) != len(self.high) or not all(-float("inf") < a < b < float("inf") for a, b in pairs):
            raise ValueError(
                f"action bounds low={self.low}, high={self.high}; a stochastic policy needs one finite pair with "
                "low < high for every action"
            )

    @property
    def size(self) -> int:
        return len(self.low)

    def from_unit(self, unit: Float[Array, " action"]) -> Float[Array, " action"]:
        low, high = self._ends(unit)
        return low + 0.5 * (unit + 1.0) * (high - low)

    def to_unit(self, action: Float[Array, " action"]) -> Float[Array, " action"]:
        low, high = self._ends(action)
        return 2.0 * (action - low) / (high - low) - 1.0

    def clip(self, action: Float[Array, " action"]) -> Float[Array, " action"]:
        return jnp.clip(action, *self._ends(action))

    def _ends(self, like: Array) -> tuple[Array, Array]:
        return jnp.asarray(self.low, like.dtype), jnp.asarray(self.high, like.dtype)


class Proposal(eqx.Module):
    """What the network says about one observation, nothing planned yet."""

    unit: Float[Array, " proposal"]
    """The action, or the planner's parameters φ where there is a planner, in unit coordinates [-1, 1]."""
    log_probability: Float[Array, ""]
    """Log density of `unit`; 0 where it was not drawn."""
    log_std: Float[Array, " proposal"] | None = None
    """With noise at `unit`: its log standard deviation before squashing."""
    action_log_std: Float[Array, " action"] | None = None
    """With noise at a planned action: its log standard deviation before squashing."""
    action_noise: Float[Array, " action"] | None = None
    """With noise at a planned action: the standard normal draw; `None` in the deterministic decision."""

    @classmethod
    def draw(cls, distribution: SquashedGaussian, key: PRNGKeyArray | None) -> "Proposal":
        """A sample of `distribution`, or its mode without a `key`."""
        if key is None:
            return cls(distribution.mode(), jnp.zeros((), distribution.mean.dtype), distribution.log_std)
        sample = distribution.sample(key)
        return cls(sample.value, sample.log_probability, distribution.log_std)


class StochasticPolicy(Policy):
    """A policy in two steps. Only what `trainable` marks is written by a learner."""

    box: eqx.AbstractVar[ActionBox]
    noise: eqx.AbstractVar[NoisePlace]

    @property
    @abc.abstractmethod
    def plans(self) -> bool:
        """Whether there is a planner between proposal and action."""

    @property
    @abc.abstractmethod
    def proposal_size(self) -> int:
        """Length of `Proposal.unit`."""

    @property
    @abc.abstractmethod
    def differentiable(self) -> bool:
        """Whether `Decision.action` has a derivative with respect to the proposal."""

    @abc.abstractmethod
    def propose(self, observation: Float[Array, " observation"], key: PRNGKeyArray | None = None) -> Proposal:
        """Evaluate the network. Without a `key` the proposal is deterministic."""

    @abc.abstractmethod
    def execute(self, observation: Float[Array, " observation"], proposal: Proposal, memory: Any = None) -> Decision:
        """Turn the proposal into an action, planning where there is a planner."""

    def judged(self, observation: Float[Array, " observation"], proposal: Proposal, memory: Any = None) -> Decision:
        """The decision as losses see it: `execute`, unless something behind the policy is kept from them."""
        return self.execute(observation, proposal, memory)

    def judged_memory(self, memory: Any) -> Any:
        """What of the memory `judged` starts from, and is therefore stored with every step."""
        return memory

    @abc.abstractmethod
    def trainable(self) -> PyTree[bool]:
        """A policy-shaped tree that is true at the leaves a learner may write."""

    def default_unit(self) -> Float[Array, " proposal"] | None:
        """The proposal that plans with the problem as it comes, unit φ of its own parameters; `None` where a proposal
        has no default, as without a planner."""
        return None

    @property
    def drawn_size(self) -> int:
        """Length of what is drawn: φ with noise at the parameters, the action otherwise."""
        return self.proposal_size if self.noise == "parameters" else self.box.size

    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        return self.execute(observation, self.propose(observation, key), memory)


AnyModule = TypeVar("AnyModule", bound=eqx.Module)


def mask_of(module: AnyModule, where: Callable[[AnyModule], PyTree]) -> PyTree[bool]:
    """A tree like `module`, a policy for instance, true at the floating-point arrays under `where(module)` and false
    elsewhere."""
    nothing = jax.tree.map(lambda _: False, module)
    return eqx.tree_at(where, nothing, jax.tree.map(eqx.is_inexact_array, where(module)))
