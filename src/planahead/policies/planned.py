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
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from planahead.planning import SQP, Guess, cold_start, solve
from planahead.policies.distributions import SquashedGaussian, unsquash
from planahead.policies.failure import plan_failed
from planahead.policies.network import HIDDEN, Network
from planahead.policies.policy import Decision, Setting, flat_settings
from planahead.policies.stochastic import POLICY_GAIN, ActionBox, NoisePlace, Proposal, StochasticPolicy, mask_of
from planahead.problem import ParameterSpace, Problem

ANCHOR_MARGIN = 1e-2
"""Distance from ±1 at which an anchor is held, where tanh has slope 0.02. Closer, a learned offset from a default at
the edge of its box would move nothing, and the derivative of a noisy action by its anchor, which grows up to 1/0.02,
would drown all others."""


class Remembered(eqx.Module):
    """The memory of a policy that starts warm."""

    guess: Guess
    known: Bool[Array, ""]
    """False before the first plan of an episode and after a failed one; the solve then starts cold."""


@final
class PlannerPolicy(StochasticPolicy):
    """Observation to planner parameters to planned action.

    **Arguments:**

    - `problem`: what is planned; its parameters are the defaults.
    - `planner_state`: the planner's initial state, computed from the observation.
    - `observation_scale`, `box`: of the environment.
    - `names`: which parameters the network writes; all declared ones by default.
    - `planner`: how it is solved.
    - `noise`: where exploration enters.
    - `residual`: the network's output is an offset from the default parameters, before squashing, so that an untrained
      policy plans with the default problem; otherwise it starts in the middle of the parameter box.
    - `warm_start`: a solve starts from the previous plan of the episode, shifted by one step.

    **Raises:** `ValueError` for parameter names that do not exist, parameters without a finite box, and an action box
    of another size than the problem's control.
    """

    network: Network
    problem: Problem
    planner: SQP
    planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]]
    space: ParameterSpace
    box: ActionBox
    noise: NoisePlace = eqx.field(static=True)
    residual: bool = eqx.field(static=True)
    warm_start: bool = eqx.field(static=True)

    def __init__(
        self,
        problem: Problem,
        planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]],
        observation_scale: Sequence[float],
        box: ActionBox,
        *,
        key: PRNGKeyArray,
        names: Sequence[str] | None = None,
        planner: SQP | None = None,
        noise: NoisePlace = "parameters",
        residual: bool = False,
        warm_start: bool = False,
        hidden: Sequence[int] = HIDDEN,
    ):
        kind = type(problem).__name__
        if box.size != problem.control_size:
            raise ValueError(
                f"{kind} plans {problem.control_size} controls and the environment takes {box.size} actions; "
                "the planned control is the action, so give them the same size"
            )
        if noise not in ("parameters", "action"):
            raise ValueError(f"noise='{noise}'; exploration enters at 'parameters' or at the 'action'")
        self.space = ParameterSpace(problem, names)
        if self.space.size == 0:
            raise ValueError(f"{kind} has no parameter for the policy to write; declare one with pa.parameter(...)")
        self.space.to_unit(self.space.flatten(problem))  # a box that is not finite raises here, not in the first step
        outputs = self.space.size + (self.space.size if noise == "parameters" else box.size)
        self.network = Network(observation_scale, outputs, hidden=hidden, last_gain=POLICY_GAIN, key=key)
        self.problem = problem
        self.planner = SQP() if planner is None else planner
        self.planner_state = planner_state
        self.box = box
        self.noise = noise
        self.residual = residual
        self.warm_start = warm_start

    @property
    def plans(self) -> bool:
        return True

    @property
    def proposal_size(self) -> int:
        return self.space.size

    @property
    def differentiable(self) -> bool:
        return True

    def initial_memory(self) -> Remembered | None:
        if not self.warm_start:
            return None
        N, nx, nu = self.problem.horizon, self.problem.state_size, self.problem.control_size
        return Remembered(Guess(jnp.zeros((N + 1, nx)), jnp.zeros((N, nu))), jnp.array(False))

    def settings(self) -> dict[str, Setting]:
        return {
            "hidden": str(self.network.hidden),
            "parameters": ", ".join(self.space.names),
            "noise": self.noise,
            "residual": self.residual,
            "warm_start": self.warm_start,
            **flat_settings("planner", self.planner),
        }

    def propose(self, observation: Float[Array, " observation"], key: PRNGKeyArray | None = None) -> Proposal:
        outputs = self.network(observation)
        mean, log_std = outputs[: self.space.size], outputs[self.space.size :]
        if self.residual:
            mean = mean + unsquash(self.default_unit(), ANCHOR_MARGIN)
        if self.noise == "action":
            draw = None if key is None else jax.random.normal(key, log_std.shape, log_std.dtype)
            return Proposal(jnp.tanh(mean), jnp.zeros((), mean.dtype), action_log_std=log_std, action_noise=draw)
        return Proposal.draw(SquashedGaussian(mean, log_std), key)

    def execute(self, observation: Float[Array, " observation"], proposal: Proposal, memory: Any = None) -> Decision:
        parameters = self.space.from_unit(proposal.unit)
        problem = self.space.insert(self.problem, parameters)
        state = self.planner_state(observation)
        plan = solve(problem, state, guess=self._guess(problem, state, memory), planner=self.planner)
        failed = plan_failed(plan, self.planner)
        action, log_probability = self.box.clip(plan.controls[0]), proposal.log_probability
        if proposal.action_log_std is not None and proposal.action_noise is not None:
            anchor = unsquash(self.box.to_unit(action), ANCHOR_MARGIN)
            sample = SquashedGaussian(anchor, proposal.action_log_std).at(proposal.action_noise)
            action, log_probability = self.box.from_unit(sample.value), sample.log_probability
        return Decision(
            action=action,
            log_probability=log_probability,
            parameters=parameters,
            plan=plan,
            memory=Remembered(plan.shift(), ~failed) if self.warm_start else None,
            failed=failed,
            gradient_valid=plan.gradient_valid,
        )

    def _guess(self, problem: Problem, state: Float[Array, " nx"], memory: Remembered | None) -> Guess | None:
        if not self.warm_start or memory is None:
            return None
        cold = cold_start(problem, state)
        return jax.tree.map(lambda warm, cold: jnp.where(memory.known, warm, cold), memory.guess, cold)

    def default_unit(self) -> Float[Array, " parameters"]:
        return self.space.to_unit(self.space.flatten(self.problem))

    def trainable(self) -> PyTree[bool]:
        return mask_of(self, lambda policy: policy.network)
