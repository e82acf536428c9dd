r"""A learned quadratic value at the end of the horizon, in place of a problem's own terminal cost.

    V_N(x) = o + gᵀx + ½ ‖L x + d‖²

    symbol  shape      meaning
    L       [nx, nx]   root of the value's curvature P = LᵀL, so that V_N is convex whatever is learned
    d       [nx]       moves the least value away from the origin
    g       [nx]       slope along directions without curvature
    o       []         moves no plan, and counts where plans are values

The horizon ends and the task does not: with the right V_N a plan of one step is as good as an endless one. A quadratic
value is exact for linear dynamics and quadratic costs without active bounds, and a local model of any other.

Its numbers are leaves of the problem, start as its base, and are set by the coefficients of V_N (`with_value`). A
value that is a function of its own, a network for instance, is what `EndingInValue` ends in (`terminal_value.py`).

Reference: J. B. Rawlings, D. Q. Mayne, M. Diehl, "Model predictive control", 2nd ed. 2017, sect. 2.4 and 2.5.
"""

from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem.per_stage import at_stage
from planahead.problem.problem import Problem
from planahead.problem.wrapped import WrappedProblem

FLAT = 1e-6
"""Of the largest eigenvalue of a curvature: what is less is none."""


class Quadratic(NamedTuple):
    """value + slopeᵀx + ½ xᵀ curvature x."""

    curvature: Float[Array, "nx nx"]
    slope: Float[Array, " nx"]
    value: Float[Array, ""]


@final
class QuadraticTerminalCost(WrappedProblem):
    """`base` with V_N instead of its terminal cost, terminal residual included; at first the base's own to second
    order around the origin, which is all of it where that is quadratic.

    >>> import jax.numpy as jnp, planahead as pa
    >>> base = pa.make_task("mass-spring-damper").problem
    >>> problem, x = QuadraticTerminalCost(base), jnp.array([0.5, -1.0])
    >>> print(f"{problem.value(x):.3f} {0.5 * (base.terminal_residual(x) ** 2).sum():.3f}")
    0.875 0.875
    """

    value_root: Float[Array, "nx nx"]
    """L"""
    value_shift: Float[Array, " nx"]
    """d"""
    value_slope: Float[Array, " nx"]
    """g"""
    value_offset: Float[Array, ""]
    """o"""

    def __init__(self, base: Problem):
        self.base = base
        last, origin = at_stage(base, -1), jnp.zeros(base.state_size)

        def cost(x: Float[Array, " nx"]) -> Float[Array, ""]:
            return last.terminal_cost(x) + 0.5 * jnp.sum(last.terminal_residual(x) ** 2)

        own = Quadratic(jax.hessian(cost)(origin), jax.grad(cost)(origin), cost(origin))
        self.value_root, self.value_shift, self.value_slope, self.value_offset = _squares(own)

    def terminal_residual(self, x: Float[Array, " nx"]) -> Float[Array, " nx"]:
        return self.value_root @ x + self.value_shift

    def terminal_cost(self, x: Float[Array, " nx"]) -> Float[Array, ""]:
        return self.value_offset + self.value_slope @ x

    def value(self, x: Float[Array, " nx"]) -> Float[Array, ""]:
        """V_N(x), a cost."""
        return self.terminal_cost(x) + 0.5 * jnp.sum(self.terminal_residual(x) ** 2)

    @property
    def quadratic(self) -> Quadratic:
        """V_N by its coefficients."""
        slope = self.value_slope + self.value_root.T @ self.value_shift
        return Quadratic(
            self.value_root.T @ self.value_root, slope, self.value_offset + 0.5 * jnp.sum(self.value_shift**2)
        )


def with_value(problem: Problem, value: Quadratic) -> Problem:
    """A `QuadraticTerminalCost`, or what wraps one, with the convex part of `value` for V_N: of a curvature that is not
    positive somewhere, the slope is left."""
    return eqx.tree_at(lambda p: (p.value_root, p.value_shift, p.value_slope, p.value_offset), problem, _squares(value))


def _squares(value: Quadratic) -> tuple[Array, Array, Array, Array]:
    """L, d, g and o."""
    sizes, directions = jnp.linalg.eigh(0.5 * (value.curvature + value.curvature.T))
    curved = sizes > FLAT * jnp.max(jnp.abs(sizes))
    roots = jnp.sqrt(jnp.where(curved, sizes, 1.0))
    along = directions.T @ value.slope
    shift = jnp.where(curved, along / roots, 0.0)
    root = jnp.where(curved, roots, 0.0)[:, None] * directions.T
    return root, shift, directions @ jnp.where(curved, 0.0, along), value.value - 0.5 * jnp.sum(shift**2)
