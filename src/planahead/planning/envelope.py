"""The optimal cost as a function of the problem, the state and a pinned control, twice differentiable.

With the Lagrangian L(p, y) at a solution y = (z, π, λ, s) for the inputs p,

    ∇V(p)  = ∂L/∂p (p, y(p))                                    no factorisation
    ∇²V(p) = ∂²L/∂p² + ∂²L/∂p∂y · dy/dp                         one back-solve for every row that is asked for

the first by the envelope theorem, the second by differentiating the first along the solution (`implicit.py`): the
derivative of the multiplier of the pinned control, for instance. The theorem holds at an exact solution. Reverse mode
only: a Hessian is `jax.jacrev(jax.grad(…))`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.planning import transcription
from planahead.planning.implicit import Inputs, solution
from planahead.planning.plan import Guess
from planahead.planning.sqp import SQP
from planahead.problem import Problem
from planahead.qp import Status
from planahead.qp.derivatives import where_valid, zero_unless
from planahead.qp.newton import net
from planahead.qp.types import Point, price_of_violations


class _Kept(NamedTuple):
    """What the gradient is made of."""

    inputs: Inputs
    point: Point
    solved: Bool[Array, ""]


def optimal_cost(
    planner: SQP, rebuild: Callable[[Any], Problem], inputs: Inputs, guess: Guess | None
) -> Float[Array, ""]:
    """The cost at the solution from `inputs`, of one lane; NaN, with zero derivatives, where the solve failed. Second
    derivatives are zero too where the solution is not known to be a strict minimum."""

    @jax.custom_vjp
    def cost(inputs: Inputs, guess: Guess | None) -> Array:
        return forward(inputs, guess)[0]

    def forward(inputs: Inputs, guess: Guess | None) -> tuple[Array, _Kept]:
        answer = solution(planner, rebuild, inputs, guess)
        solved = answer.status == Status.SOLVED
        given, point = where_valid(solved, (inputs, jax.lax.stop_gradient(answer.point)))
        bound, paid = lagrangian(rebuild, given, point), primal(rebuild, given, point)
        here = bound + jax.lax.stop_gradient(paid - bound)  # moves as the Lagrangian does
        return jnp.where(solved, here, jnp.nan), _Kept(inputs, answer.point, solved)

    def backward(kept: _Kept, cotangent: Array) -> tuple[Inputs, None]:
        inputs, point = where_valid(kept.solved, (kept.inputs, kept.point))
        floating, rest = eqx.partition(inputs, eqx.is_inexact_array)
        slope = jax.grad(lambda floating: lagrangian(rebuild, eqx.combine(floating, rest), point))(floating)
        return zero_unless(kept.solved, jax.tree.map(lambda leaf: cotangent * leaf, slope)), None

    cost.defvjp(forward, backward)
    return cost(inputs, guess)


def primal(rebuild: Callable[[Any], Problem], inputs: Inputs, point: Point) -> Float[Array, ""]:
    """The cost at `point`, prices of violations included."""
    problem = rebuild(inputs.leaves)
    z = transcription.pin(inputs.control, point.z)
    paid = transcription.initial_cost(problem, inputs.state) + transcription.objective(problem, z)
    return paid + _prices(problem, inputs, point)


def lagrangian(rebuild: Callable[[Any], Problem], inputs: Inputs, point: Point) -> Float[Array, ""]:
    """L as a function of the inputs; what does not depend on them is left out."""
    problem = rebuild(inputs.leaves)
    z = transcription.pin(inputs.control, point.z)
    bound = _rows(problem, inputs, z.dtype).bound
    bound = jnp.where(jnp.isfinite(bound), bound, 0.0)
    return (
        transcription.initial_cost(problem, inputs.state)
        + transcription.lagrangian(problem, inputs.state, z, point.pi, net(point.lam))
        + _prices(problem, inputs, point)
        + jnp.sum(point.lam * bound)
    )


def _prices(problem: Problem, inputs: Inputs, point: Point) -> Float[Array, ""]:
    data = _rows(problem, inputs, point.z.dtype)
    return price_of_violations(data.linear, data.quadratic, point.s)


def _rows(problem: Problem, inputs: Inputs, dtype: Any) -> transcription.RowData:
    pinned = inputs.control is not None
    return transcription.row_data(problem, transcription.general_size(problem), dtype, pinned=pinned)
