r"""A Gaussian whose width does not depend on the state: what proximal policy optimisation acts with.

    o -> (o - μ_o)/σ_o -> network -> [unit φ -> plan] -> mean m(o),      y = m(o) + σ ξ,   ξ ~ N(0, I)

    planner   noise at       drawn y                            action
    no        "action"       unit action                        clip(y)
    yes       "action"       unit action around the planned     clip(y)
    yes       "parameters"   unit φ before its squashing        planned with tanh(y)

Densities are those of y, before clipping and squashing: ratios of them, all that the learner uses, are the same after
squashing, and clipping belongs to the world. σ is one number for each entry of y, learned.

Reference: J. Schulman et al., "Proximal policy optimization algorithms", 2017; with a planner and noise at the action
A. Romero et al., "Actor-critic model predictive control", 2024.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from planahead.policies.distributions import unsquash
from planahead.policies.filtered import Guard
from planahead.policies.network import HIDDEN, Network
from planahead.policies.normaliser import Normaliser
from planahead.policies.policy import Decision, Policy, Setting
from planahead.policies.steering import Steering
from planahead.policies.stochastic import ANCHOR_MARGIN, POLICY_GAIN, ActionBox, NoisePlace, mask_of

INITIAL_LOG_STD = -0.8  # σ = 0.45 of half a box


class Located(NamedTuple):
    """The Gaussian at one observation."""

    mean: Float[Array, " drawn"]
    decision: Decision | None
    """The planned one behind the mean, with noise at a planned action."""


@final
class GaussianPolicy(Policy):
    """Observation to a Gaussian over unit actions or unit parameters.

    **Arguments:**

    - `observation_scale`, `box`: of the environment; the scale holds until the normaliser has seen something.
    - `steering`: the planner between network and action; `None` for a network that acts by itself.
    - `noise`: where exploration enters; without a planner it is the action.
    - `residual`: the network's output is an offset from the problem's own parameters, so that an untrained policy plans
      with the problem as it comes; otherwise it starts in the middle of their box.
    - `guard`: a safety filter behind the action. Densities remain those of what was drawn.
    - `sees`: the entries of the observation that the network is shown; all by default.
    - `start`: the unit action of an untrained network without a planner; the middle of the box by default.
    - `log_std`: log σ at the start, in unit coordinates.

    **Raises:** `ValueError` for noise at the parameters of no planner.

    >>> policy = GaussianPolicy((1.0, 2.0), ActionBox((-80.0,), (80.0,)), key=jax.random.key(0))
    >>> abs(float(policy.decide(jnp.array([0.5, -1.0])).action[0])) < 5.0
    True
    """

    network: Network
    normaliser: Normaliser
    log_std: Float[Array, " drawn"]
    steering: Steering | None
    guard: Guard | None
    box: ActionBox
    noise: NoisePlace = eqx.field(static=True)
    residual: bool = eqx.field(static=True)

    def __init__(
        self,
        observation_scale: Sequence[float],
        box: ActionBox,
        *,
        key: PRNGKeyArray,
        steering: Steering | None = None,
        guard: Guard | None = None,
        noise: NoisePlace = "action",
        residual: bool = False,
        sees: Sequence[int] | None = None,
        start: Float[Array, " action"] | None = None,
        hidden: Sequence[int] = HIDDEN,
        log_std: float = INITIAL_LOG_STD,
    ):
        if noise not in ("parameters", "action"):
            raise ValueError(f"noise='{noise}'; exploration enters at 'parameters' or at the 'action'")
        if noise == "parameters" and steering is None:
            raise ValueError("noise='parameters' is noise at the parameters of a planner; without one use 'action'")
        if steering is None and residual:
            raise ValueError("residual=True is an offset from the parameters of a planner; without one leave it out")
        if steering is not None and start is not None:
            raise ValueError("start is the first action of a network without a planner; with one use residual=True")
        outputs = box.size if steering is None else steering.size
        drawn = box.size if noise == "action" else outputs
        ones = (1.0,) * len(observation_scale)
        network = Network(ones, outputs, hidden=hidden, last_gain=POLICY_GAIN, sees=sees, key=key)
        if start is not None:
            network = eqx.tree_at(lambda network: network.layers[-1].bias, network, start)
        self.network = network
        self.normaliser = Normaliser.blank(observation_scale)
        self.log_std = jnp.full(drawn, log_std)
        self.steering = steering
        self.guard = guard
        self.box = box
        self.noise = noise
        self.residual = residual

    @property
    def plans(self) -> bool:
        return self.steering is not None

    def initial_memory(self) -> Any:
        memory = None if self.steering is None else self.steering.initial_memory()
        return memory if self.guard is None else self.guard.initial_memory(memory)

    def settings(self) -> dict[str, Setting]:
        settings: dict[str, Setting] = {**self.network.settings(), "noise": self.noise}
        if self.steering is not None:
            settings |= {"residual": self.residual, **self.steering.settings()}
        if self.guard is not None:
            settings |= self.guard.settings()
        return settings

    def locate(self, observation: Float[Array, " observation"], memory: Any = None) -> Located:
        """The mean of what is drawn; plans where the action is drawn around a planned one."""
        output = self.network(self.normaliser(observation))
        if self.steering is not None and self.residual:
            output = output + unsquash(self.steering.default_unit(), ANCHOR_MARGIN)
        if self.steering is None or self.noise == "parameters":
            return Located(output, None)
        decision = self.steering.decide(jnp.tanh(output), observation, self._own(memory))
        return Located(self.box.to_unit(decision.action), decision)

    def act(
        self, observation: Float[Array, " observation"], drawn: Float[Array, " drawn"], at: Located, memory: Any = None
    ) -> Decision:
        """The decision that a draw stands for."""
        decision = self._unguarded(observation, drawn, at, memory)
        return decision if self.guard is None else self.guard.behind(observation, decision, memory)

    def _own(self, memory: Any) -> Any:
        """Memory without the guard's."""
        return memory if self.guard is None or memory is None else memory.inner

    def _unguarded(
        self, observation: Float[Array, " observation"], drawn: Float[Array, " drawn"], at: Located, memory: Any
    ) -> Decision:
        log_probability = self.log_probability(at.mean, drawn)
        if self.noise == "parameters":
            assert self.steering is not None  # `__init__` refuses it
            decision = self.steering.decide(jnp.tanh(drawn), observation, self._own(memory))
            return eqx.tree_at(lambda d: d.log_probability, decision, log_probability)
        action = self.box.from_unit(jnp.clip(drawn, -1.0, 1.0))
        if at.decision is None:
            return Decision(action, log_probability)
        return eqx.tree_at(lambda d: (d.action, d.log_probability), at.decision, (action, log_probability))

    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        at = self.locate(observation, memory)
        if key is not None:
            return self.act(observation, self.draw(at.mean, key), at, memory)
        if at.decision is not None and self.guard is None:
            return at.decision
        decision = self.act(observation, at.mean, at, memory)
        return eqx.tree_at(lambda d: d.log_probability, decision, jnp.zeros_like(decision.log_probability))

    def draw(self, mean: Float[Array, " drawn"], key: PRNGKeyArray) -> Float[Array, " drawn"]:
        """A sample around `mean`."""
        return mean + jnp.exp(self.log_std) * jax.random.normal(key, mean.shape, mean.dtype)

    def log_probability(self, mean: Float[Array, " drawn"], drawn: Float[Array, " drawn"]) -> Float[Array, ""]:
        """Log density of a draw around `mean`, in unit coordinates before clipping or squashing."""
        noise = (drawn - mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * noise**2 - self.log_std - 0.5 * math.log(2 * math.pi))

    def entropy(self) -> Float[Array, ""]:
        """Of the Gaussian, in nats."""
        return jnp.sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e))

    def trainable(self) -> PyTree[bool]:
        return mask_of(self, lambda policy: (policy.network, policy.log_std))
