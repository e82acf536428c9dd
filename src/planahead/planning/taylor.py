r"""A problem with its functions replaced by their first-order expansions around a trajectory.

    f(z_k) -> f(z̄_k) + F_k (z_k - z̄_k),      likewise residuals and constraints; bounds are linear as they are

The quadratic program of a Gauss-Newton iteration is this problem, exactly: ½‖r‖² becomes ½‖r̄ + J d‖², and the
dynamics and rows are the linearised ones. What holds of a problem's solution therefore holds of one step's, its
derivative above all.
"""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem import Bounds, PerStage, Problem, Slack, overrides, static


def check_squares(problem: Problem, asker: str = "derivative='step'", instead: str = "derivative='solution'") -> None:
    """**Raises** `ValueError` for scalar costs, whose second derivatives an iteration changes in ways of its own; it
    says what could be used instead of `asker`."""
    for method in ("stage_cost", "terminal_cost"):
        if overrides(problem, method):
            raise ValueError(
                f"{type(problem).__name__}.{method} is a scalar cost, and {asker} is for costs that are "
                f"residuals; write it as a residual, or use {instead}."
            )


@final
class Taylor(Problem):
    """`problem` around the trajectory `around`, as the planner's z [nodes, nu + nx]."""

    problem: Problem = eqx.field(kw_only=True)
    around: PerStage = eqx.field(kw_only=True)
    discount: Any = eqx.field(kw_only=True)  # pyright: ignore[reportIncompatibleVariableOverride]
    horizon: int = static()
    state_size: int = static()
    control_size: int = static()

    @classmethod
    def of(cls, problem: Problem, around: Float[Array, "nodes nz"]) -> "Taylor":
        """`problem`, whose costs are residuals, around `around`."""
        sizes = {name: getattr(problem, name) for name in ("horizon", "state_size", "control_size")}
        return cls(problem=problem, around=PerStage(around), discount=problem.discount, **sizes)

    def dynamics(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " nx"]:
        return self._expanded(self.problem.dynamics, x, u)

    def stage_residual(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " residuals"]:
        return self._expanded(self.problem.stage_residual, x, u)

    def terminal_residual(self, x: Float[Array, " nx"]) -> Float[Array, " residuals"]:
        return self._expanded_last(self.problem.terminal_residual, x)

    def constraints(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " ng"]:
        return self._expanded(self.problem.constraints, x, u)

    def terminal_constraints(self, x: Float[Array, " nx"]) -> Float[Array, " ng_N"]:
        return self._expanded_last(self.problem.terminal_constraints, x)

    def control_bounds(self) -> Bounds:
        return self.problem.control_bounds()

    def state_bounds(self) -> Bounds:
        return self.problem.state_bounds()

    def terminal_bounds(self) -> Bounds:
        return self.problem.terminal_bounds()

    def constraint_slack(self) -> Slack | None:
        return self.problem.constraint_slack()

    def terminal_constraint_slack(self) -> Slack | None:
        return self.problem.terminal_constraint_slack()

    def _expanded(self, function: Any, x: Array, u: Array) -> Array:
        nu = self.control_size
        x_0, u_0 = self.around_here[nu:], self.around_here[:nu]
        value, change = jax.jvp(function, (x_0, u_0), (x - x_0, u - u_0))
        return value + change

    def _expanded_last(self, function: Any, x: Array) -> Array:
        x_0 = self.around_here[self.control_size :]
        value, change = jax.jvp(function, (x_0,), (x - x_0,))
        return value + change

    @property
    def around_here(self) -> Float[Array, " nz"]:
        """At one stage: where its methods are called, `PerStage` values come as those of the stage."""
        return jnp.asarray(self.around)
