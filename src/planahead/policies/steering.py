"""A planner whose parameters are written from outside, and whose action may be corrected: a unit vector and an
observation in, a planned action out.

    (unit φ, c) in [-1, 1],   φ = box(unit φ),   x = x(o)
    problem(φ) -> solve from x -> u₀*(x, φ) -> `problem.action` -> a = clip(a₀ + κ c (high - low)/2)

Without κ there is no c, and whatever is written the plan's bounds hold. With it a network acts beside the planner (a
*residual* or *parallel* policy) and may leave what was planned by a share κ of half the action box: constraints on
states then hold as far as that allows. φ may be left out, so that the planner plans as it comes.

Reference of residual policies: T. Silver et al., "Residual policy learning", 2018; T. Johannink et al., "Residual
reinforcement learning for robot control", ICRA 2019.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.planning import SQP, Guess, cold_start, solve
from planahead.policies.acting import action_size, first_action
from planahead.policies.failure import plan_failed
from planahead.policies.policy import Decision, Setting, flat_settings
from planahead.policies.stochastic import ActionBox
from planahead.problem import ParameterSpace, Problem
from planahead.problem.parameter_space import Scale


class Remembered(eqx.Module):
    """The memory of a policy that starts warm."""

    guess: Guess
    known: Bool[Array, ""]
    """False before the first plan of an episode and after a failed one; the solve then starts cold."""

    @classmethod
    def nothing(cls, problem: Problem) -> "Remembered":
        """Before the first plan."""
        N, nx, nu = problem.horizon, problem.state_size, problem.control_size
        return cls(Guess(jnp.zeros((N + 1, nx)), jnp.zeros((N, nu))), jnp.array(False))

    def start(self, problem: Problem, state: Float[Array, " nx"]) -> Guess:
        """Where a solve from `state` starts."""
        return self.guess.where(self.known, cold_start(problem, state))


class Steering(eqx.Module):
    """A planner, and what of it is written.

    **Arguments:**

    - `problem`: what is planned; its parameters are the defaults.
    - `planner_state`: the planner's initial state, computed from the observation.
    - `box`: the actions.
    - `names`: which parameters are written; all declared ones by default.
    - `scale`: of their box, see `ParameterSpace`.
    - `planner`: how it is solved.
    - `warm_start`: a solve starts from the previous plan of the episode, shifted by one step.
    - `correction`: κ, the share of half the action box by which the planned action may be corrected; 0 for none.

    **Raises:** `ValueError` for parameter names that do not exist, parameters without a finite box, an action box of
    another size than the planned action, a κ outside [0, 2], and where there is nothing to be written.
    """

    problem: Problem
    planner: SQP
    planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]]
    space: ParameterSpace
    box: ActionBox
    scale: Scale = eqx.field(static=True)
    warm_start: bool = eqx.field(static=True)
    correction: float = eqx.field(static=True)

    def __init__(
        self,
        problem: Problem,
        planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]],
        box: ActionBox,
        *,
        names: Sequence[str] | None = None,
        scale: Scale = "declared",
        planner: SQP | None = None,
        warm_start: bool = False,
        correction: float = 0.0,
    ):
        kind = type(problem).__name__
        if (size := action_size(problem)) != box.size:
            raise ValueError(
                f"{kind} plans {size} controls and the environment takes {box.size} actions; "
                "the planned control is the action, so give them the same size, or translate in the problem's `action`"
            )
        self.space = ParameterSpace(problem, names, scale)
        if not 0.0 <= correction <= 2.0:
            raise ValueError(
                f"correction={correction}; a share of half the action box was expected, from 0 for none to 2, which "
                "overrules any plan"
            )
        if self.space.size == 0 and correction == 0.0:
            raise ValueError(
                f"{kind} has no parameter for the policy to write; declare one with pa.parameter(...), or let the "
                "policy correct the planned action (correction above 0)"
            )
        self.space.to_unit(self.space.flatten(problem))  # a box that is not finite raises here, not in the first step
        self.problem = problem
        self.planner = SQP() if planner is None else planner
        self.planner_state = planner_state
        self.box = box
        self.scale = scale
        self.warm_start = warm_start
        self.correction = correction

    @property
    def size(self) -> int:
        """Numbers that are written: the parameters, and the correction where there is one."""
        return self.space.size + (self.box.size if self.correction else 0)

    def default_unit(self) -> Float[Array, " written"]:
        """The problem's own parameters, and no correction."""
        unit = self.space.to_unit(self.space.flatten(self.problem))
        return jnp.concatenate([unit, jnp.zeros(self.size - self.space.size, unit.dtype)])

    def settings(self) -> dict[str, Setting]:
        """What decides it beside its numbers, by name."""
        names: dict[str, Setting] = {"parameters": ", ".join(self.space.names), "warm_start": self.warm_start}
        if self.scale != "declared":
            names["parameter_scale"] = self.scale
        if self.correction:
            names["correction"] = self.correction
        return names | flat_settings("planner", self.planner)

    def initial_memory(self) -> Remembered | None:
        return Remembered.nothing(self.problem) if self.warm_start else None

    def decide(
        self, unit: Float[Array, " written"], observation: Float[Array, " observation"], memory: Any = None
    ) -> Decision:
        """Plan with the parameters in `unit`, and act with the first control, corrected. Nothing is drawn."""
        parameters = self.space.from_unit(unit[: self.space.size])
        problem = self.space.insert(self.problem, parameters)
        state = self.planner_state(observation)
        warm: Remembered | None = memory if self.warm_start else None
        guess = None if warm is None else warm.start(problem, state)
        plan = solve(problem, state, guess=guess, planner=self.planner)
        failed = plan_failed(plan, self.planner)
        return Decision(
            action=self._corrected(first_action(problem, plan), unit[self.space.size :]),
            log_probability=jnp.zeros((), unit.dtype),
            parameters=parameters,
            plan=plan,
            memory=Remembered(plan.shift(), ~failed) if self.warm_start else None,
            failed=failed,
            gradient_valid=plan.gradient_valid,
        )

    def _corrected(
        self, planned: Float[Array, " action"], unit: Float[Array, " correction"]
    ) -> Float[Array, " action"]:
        if not self.correction:
            return self.box.clip(planned)
        reach = self.box.from_unit(unit) - self.box.from_unit(jnp.zeros_like(unit))
        return self.box.clip(self.box.clip(planned) + self.correction * reach)
