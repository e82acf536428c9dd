"""A planner whose parameters are written from outside: unit φ and an observation in, a planned action out.

φ = box(unit φ),   x = x(o),   problem(φ) -> solve from x -> u₀*(x, φ) -> `problem.action`
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
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

    **Raises:** `ValueError` for parameter names that do not exist, parameters without a finite box, and an action box
    of another size than the planned action.
    """

    problem: Problem
    planner: SQP
    planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]]
    space: ParameterSpace
    box: ActionBox
    scale: Scale = eqx.field(static=True)
    warm_start: bool = eqx.field(static=True)

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
    ):
        kind = type(problem).__name__
        if (size := action_size(problem)) != box.size:
            raise ValueError(
                f"{kind} plans {size} controls and the environment takes {box.size} actions; "
                "the planned control is the action, so give them the same size, or translate in the problem's `action`"
            )
        self.space = ParameterSpace(problem, names, scale)
        if self.space.size == 0:
            raise ValueError(f"{kind} has no parameter for the policy to write; declare one with pa.parameter(...)")
        self.space.to_unit(self.space.flatten(problem))  # a box that is not finite raises here, not in the first step
        self.problem = problem
        self.planner = SQP() if planner is None else planner
        self.planner_state = planner_state
        self.box = box
        self.scale = scale
        self.warm_start = warm_start

    def default_unit(self) -> Float[Array, " parameters"]:
        """The problem's own parameters."""
        return self.space.to_unit(self.space.flatten(self.problem))

    def settings(self) -> dict[str, Setting]:
        """What decides it beside its numbers, by name."""
        names: dict[str, Setting] = {"parameters": ", ".join(self.space.names), "warm_start": self.warm_start}
        if self.scale != "declared":
            names["parameter_scale"] = self.scale
        return names | flat_settings("planner", self.planner)

    def initial_memory(self) -> Remembered | None:
        if not self.warm_start:
            return None
        N, nx, nu = self.problem.horizon, self.problem.state_size, self.problem.control_size
        return Remembered(Guess(jnp.zeros((N + 1, nx)), jnp.zeros((N, nu))), jnp.array(False))

    def decide(
        self, unit: Float[Array, " parameters"], observation: Float[Array, " observation"], memory: Any = None
    ) -> Decision:
        """Plan with the parameters `unit`, and act with the first control. Nothing is drawn."""
        parameters = self.space.from_unit(unit)
        problem = self.space.insert(self.problem, parameters)
        state = self.planner_state(observation)
        plan = solve(problem, state, guess=self._guess(problem, state, memory), planner=self.planner)
        failed = plan_failed(plan, self.planner)
        return Decision(
            action=self.box.clip(first_action(problem, plan)),
            log_probability=jnp.zeros((), unit.dtype),
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
