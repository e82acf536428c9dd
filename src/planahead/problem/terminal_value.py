r"""A problem that ends in a value: what comes after the horizon is told by a function of the last state.

    minimise  Σ_{k<N} γ^k (ℓ(x_k, u_k) + ½‖r(x_k, u_k)‖²) + γ^N V(x_N)    s.t. the dynamics and limits of `base`

    symbol   shape   meaning
    ℓ, r     [], [r] stage costs of `base`, whose own terminal cost is left out: V stands for all that comes after
    V        []      cost to go from the last state, minimised: ½‖r_V(x)‖², or any scalar

With the cost to go of a policy π for V, and |V - V^π| <= ε at the states where plans end, a plan that is no worse than
the roll-out of π costs at most V^π(x_0) + 2 γ^N ε; with the optimal cost to go, the first control is optimal whatever
the horizon. Where V is wrong, the planner goes where it is wrong in its favour: V has to be fitted beyond the states
that π itself visits.

V as squares has a Gauss-Newton Hessian, never indefinite. Of a scalar V the planner takes the convex part of the
Hessian (`linearisation.py`), which is nothing where V is a network of rectifiers, and concave parts are lost.

Reference: J. B. Rawlings, D. Q. Mayne, M. M. Diehl, *Model Predictive Control*, 2nd ed., section 2.4 (terminal cost);
R. Reiter, A. Ghezzi, K. Baumgärtner, J. Hoffmann, R. McAllister, M. Diehl, "AC4MPC: actor-critic reinforcement
learning for guiding model predictive control", IEEE Transactions on Control Systems Technology.
"""

import abc
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem.fields import static
from planahead.problem.per_stage import is_per_stage
from planahead.problem.problem import Problem
from planahead.problem.wrapped import WrappedProblem


class TerminalValue(eqx.Module):
    """V: the cost to go from a planner's state, to be minimised. A concrete one writes one of the two methods.

    It counts what is paid from its state on: the stage costs there and later, and the prices of limits that later
    states violate.
    """

    def residual(self, x: Float[Array, " nx"]) -> Float[Array, " residuals"]:
        """V as ½‖residual‖²."""
        del x
        return jnp.zeros(0)

    def cost(self, x: Float[Array, " nx"]) -> Float[Array, ""]:
        """V as a scalar."""
        del x
        return jnp.zeros(())

    @property
    @abc.abstractmethod
    def squares(self) -> bool:
        """Whether V is written as `residual`."""

    def __call__(self, x: Float[Array, " nx"]) -> Float[Array, ""]:
        return 0.5 * jnp.sum(jnp.square(self.residual(x))) + self.cost(x)


@final
class QuadraticValue(TerminalValue):
    """V(x) = ½‖root (x - reference)‖².

    >>> value = QuadraticValue(jnp.array([[2.0]]), jnp.array([1.0]))
    >>> float(value(jnp.array([4.0])))
    18.0
    """

    root: Float[Array, "residuals nx"]
    reference: Float[Array, " nx"]

    @property
    def squares(self) -> bool:
        return True

    def residual(self, x: Float[Array, " nx"]) -> Float[Array, " residuals"]:
        return self.root @ (x - self.reference)


@final
class _Nothing(TerminalValue):
    """V = 0."""

    @property
    def squares(self) -> bool:
        return True


@final
class EndingInValue(WrappedProblem):
    """`base` with V in the place of its terminal cost, and with another horizon where one is given.

    **Raises:** `ValueError` for another horizon than its own of a problem with parameters per stage.

    >>> import planahead as pa
    >>> problem = pa.make_task("mass-spring-damper").problem
    >>> ends = EndingInValue(problem, QuadraticValue(3.0 * jnp.eye(2), jnp.zeros(2)), horizon=5)
    >>> plan = pa.solve(ends, jnp.array([0.1, 0.0]))
    >>> pa.Status(int(plan.status)).name, plan.controls.shape
    ('SOLVED', (5, 1))
    """

    terminal_value: TerminalValue
    steps: int = static()

    def __init__(self, base: Problem, value: TerminalValue, *, horizon: int | None = None):
        if horizon is not None and horizon != base.horizon and _has_stages(base):
            raise ValueError(
                f"horizon={horizon}, and {type(base).__name__} has parameters for each of its {base.horizon + 1} "
                "stages; leave its horizon, or give it parameters that are the same at all of them"
            )
        self.base, self.terminal_value = base, value
        self.steps = base.horizon if horizon is None else horizon

    horizon = property(lambda self: self.steps)

    def writes(self, method: str) -> bool:
        if method == "terminal_cost":
            return not self.terminal_value.squares
        if method == "terminal_residual":
            return self.terminal_value.squares
        return super().writes(method)

    def terminal_cost(self, x: Float[Array, " nx"]) -> Float[Array, ""]:
        return self.terminal_value.cost(x)

    def terminal_residual(self, x: Float[Array, " nx"]) -> Float[Array, " residuals"]:
        return self.terminal_value.residual(x)


def stages_only(base: Problem, horizon: int) -> EndingInValue:
    """`base` over another horizon, at whose end nothing is paid: what a trajectory of that length costs by its stages,
    the prices of limits included. **Raises** what `EndingInValue` does.

    >>> import planahead as pa
    >>> problem = stages_only(pa.make_task("mass-spring-damper").problem, horizon=7)
    >>> problem.horizon, float(problem.terminal_cost(jnp.ones(2))), problem.terminal_residual(jnp.ones(2)).shape
    (7, 0.0, (0,))
    """
    return EndingInValue(base, _Nothing(), horizon=horizon)


def _has_stages(problem: Problem) -> bool:
    return any(is_per_stage(leaf) for leaf in jax.tree.leaves(problem, is_leaf=is_per_stage))
