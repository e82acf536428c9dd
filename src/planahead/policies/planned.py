r"""A network that steers a planner: SAC-ZOP, SAC-FOP and SAC-FOA act with this policy.

    observation s -> network -> unit φ ∈ [-1, 1]ⁿ -> problem(φ) -> solve from x(s) -> u₀*(s, φ) -> action a

    noise = "parameters"   unit φ = tanh(μ(s) + σ(s) ξ)                        a = u₀*(s, φ)
    noise = "action"       unit φ = tanh(μ(s))        unit a = tanh(atanh(unit u₀*(s, φ)) + σ(s) ξ)

With noise at the parameters the planner filters what exploration may do; with noise at the action it does not, but the
density of the action is known. Every solve starts cold unless `warm_start`, so that `u₀*(s, φ)` is a function, which a
critic over (s, φ) presumes: with a warm start it depends on the previous plan too, where a problem has several local
minima.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from planahead.planning import SQP
from planahead.policies.distributions import SquashedGaussian, unsquash
from planahead.policies.network import HIDDEN, Network
from planahead.policies.policy import Decision, Setting
from planahead.policies.steering import Remembered, Steering
from planahead.policies.stochastic import (
    ANCHOR_MARGIN,
    POLICY_GAIN,
    ActionBox,
    NoisePlace,
    Proposal,
    StochasticPolicy,
    mask_of,
)
from planahead.problem import ParameterSpace, Problem
from planahead.problem.parameter_space import Scale


@final
class PlannerPolicy(StochasticPolicy):
    """Observation to planner parameters to planned action.

    **Arguments:**

    - `problem`: what is planned; its parameters are the defaults.
    - `planner_state`: the planner's initial state, computed from the observation.
    - `observation_scale`, `box`: of the environment.
    - `names`: which parameters the network writes; all declared ones by default.
    - `scale`: of their box, see `ParameterSpace`.
    - `planner`: how it is solved.
    - `noise`: where exploration enters.
    - `residual`: the network's output is an offset from the default parameters, before squashing, so that an untrained
      policy plans with the default problem; otherwise it starts in the middle of the parameter box.
    - `warm_start`: a solve starts from the previous plan of the episode, shifted by one step.
    - `sees`: the entries of the observation that the network is shown; all by default. The planner knows the whole.
    - `correction`: the share of half the action box by which the network corrects the planned action, beside what it
      writes; see `steering.py`.

    **Raises:** what `Steering` does.
    """

    network: Network
    steering: Steering
    box: ActionBox
    noise: NoisePlace = eqx.field(static=True)
    residual: bool = eqx.field(static=True)

    def __init__(
        self,
        problem: Problem,
        planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]],
        observation_scale: Sequence[float],
        box: ActionBox,
        *,
        key: PRNGKeyArray,
        names: Sequence[str] | None = None,
        scale: Scale = "declared",
        planner: SQP | None = None,
        noise: NoisePlace = "parameters",
        residual: bool = False,
        warm_start: bool = False,
        correction: float = 0.0,
        sees: Sequence[int] | None = None,
        hidden: Sequence[int] = HIDDEN,
    ):
        if noise not in ("parameters", "action"):
            raise ValueError(f"noise='{noise}'; exploration enters at 'parameters' or at the 'action'")
        self.steering = Steering(
            problem,
            planner_state,
            box,
            names=names,
            scale=scale,
            planner=planner,
            warm_start=warm_start,
            correction=correction,
        )
        size = self.steering.size
        outputs = size + (size if noise == "parameters" else box.size)
        self.network = Network(observation_scale, outputs, hidden=hidden, last_gain=POLICY_GAIN, sees=sees, key=key)
        self.box = box
        self.noise = noise
        self.residual = residual

    @property
    def space(self) -> ParameterSpace:
        """The parameters that the network writes."""
        return self.steering.space

    @property
    def plans(self) -> bool:
        return True

    @property
    def proposal_size(self) -> int:
        return self.steering.size

    @property
    def differentiable(self) -> bool:
        return True

    def initial_memory(self) -> Remembered | None:
        return self.steering.initial_memory()

    def settings(self) -> dict[str, Setting]:
        return {
            **self.network.settings(),
            "noise": self.noise,
            "residual": self.residual,
            **self.steering.settings(),
        }

    def propose(self, observation: Float[Array, " observation"], key: PRNGKeyArray | None = None) -> Proposal:
        outputs = self.network(observation)
        mean, log_std = outputs[: self.proposal_size], outputs[self.proposal_size :]
        if self.residual:
            mean = mean + unsquash(self.default_unit(), ANCHOR_MARGIN)
        if self.noise == "action":
            draw = None if key is None else jax.random.normal(key, log_std.shape, log_std.dtype)
            return Proposal(jnp.tanh(mean), jnp.zeros((), mean.dtype), action_log_std=log_std, action_noise=draw)
        return Proposal.draw(SquashedGaussian(mean, log_std), key)

    def execute(self, observation: Float[Array, " observation"], proposal: Proposal, memory: Any = None) -> Decision:
        decision = self.steering.decide(proposal.unit, observation, memory)
        action, log_probability = decision.action, proposal.log_probability
        if proposal.action_log_std is not None and proposal.action_noise is not None:
            anchor = unsquash(self.box.to_unit(action), ANCHOR_MARGIN)
            sample = SquashedGaussian(anchor, proposal.action_log_std).at(proposal.action_noise)
            action, log_probability = self.box.from_unit(sample.value), sample.log_probability
        return eqx.tree_at(lambda d: (d.action, d.log_probability), decision, (action, log_probability))

    def default_unit(self) -> Float[Array, " parameters"]:
        return self.steering.default_unit()

    def trainable(self) -> PyTree[bool]:
        return mask_of(self, lambda policy: policy.network)
