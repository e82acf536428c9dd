r"""One Gauss-Newton iteration as a differentiable function: a plan that is not claimed to be a solution.

    z = z̄ + d,      d solves the quadratic program around z̄, the guess

Its derivative is that of this very map, the guess held: by the implicit function theorem for the quadratic program,
which is a planning problem of its own (`taylor.py`). The program's matrices of the forward pass serve the adjoint, so
nothing is linearised twice, and no second derivative by states and controls is taken.

How far z is from a solution is found by linearising there once more; a program that does not ask does not pay.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal
from jaxtyping import Array, Bool, Float

from planahead.planning.elastic import Elastic
from planahead.planning.implicit import Answer, Inputs, lanes_of, pulled_back, start_of
from planahead.planning.plan import Guess
from planahead.planning.sqp import SQP, begun, optimality
from planahead.planning.taylor import Taylor, check_squares
from planahead.problem import Problem
from planahead.qp import Status, backend, interior_point
from planahead.qp.batching import in_blocks, over_lanes, spread
from planahead.qp.derivatives import first_order, refuse, underivable
from planahead.qp.lanes import choose, largest
from planahead.qp.newton import net
from planahead.qp.types import LaneQP, Point


class Reached(eqx.Module):
    """Where one step led."""

    point: Point
    """`point.z` is the trajectory."""
    tau: Float[Array, "*B"]
    usable: Bool[Array, "*B"]
    """Whether the quadratic program gave numbers; where not, z is the guess."""
    gradient_valid: Bool[Array, "*B"]


def step(planner: SQP, rebuild: Callable[[Any], Problem], inputs: Inputs, guess: Guess | None) -> Answer:
    """One step of one lane (natively batched under `vmap`), differentiable in `inputs`.

    **Raises** what `check_squares` does.
    """
    check_squares(rebuild(inputs.leaves))

    def run(lanes: int, in_lanes: Any, inputs: Inputs, guess: Guess | None) -> tuple[Reached, LaneQP, Array]:
        problems, state, control = lanes_of(rebuild, in_lanes[0], inputs, lanes, planner.backend)
        around = begun(start_of(problems, state, in_lanes[1], guess), state, control, problems.control_size)
        qp, data = _program(planner, problems, state, around, control is not None)
        healthy = interior_point.valid(qp)
        elastic = Elastic(data, problems.control_size)
        priced = elastic.priced(qp, elastic.first_price(qp, healthy))
        inner = planner.inner(state.dtype)
        found = backend.solve(priced, backend.everywhere(priced), inner, healthy, gain=False)
        usable = healthy & (found.status != Status.INVALID_INPUT) & jnp.isfinite(found.residual)
        z = around + choose(usable, found.point.z, jnp.zeros_like(around))
        kept = elastic.remaining(priced, found.point) <= planner.largest_violation(state.dtype)
        valid = usable & kept & (found.status == Status.SOLVED)
        blank = jax.tree.map(jnp.zeros_like, found.point)
        point = eqx.tree_at(lambda point: point.z, choose(usable, found.point, blank), z)
        return Reached(point, found.tau, usable, valid), qp, around

    def certify(lanes: int, in_lanes: Any, qp: LaneQP, reached: Reached) -> Array:
        reached = spread(lanes, in_lanes[1], reached)
        return backend.definite(planner.backend, qp, in_lanes[0], reached.point, reached.gradient_valid)

    def look(lanes: int, in_lanes: Any, inputs: Inputs, reached: Reached) -> tuple[Array, Array, Array]:
        problems, state, control = lanes_of(rebuild, in_lanes[0], inputs, lanes, planner.backend)
        reached = spread(lanes, in_lanes[1], reached)
        qp, data = _program(planner, problems, state, reached.point.z, control is not None, reached.point)
        elastic = Elastic(data, problems.control_size)
        violation = jnp.maximum(elastic.violation(qp), largest(qp.c))
        residual = optimality(elastic.priced(qp, elastic.first_price(qp, reached.usable)), reached.point, reached.tau)
        good = (residual <= planner.resolved_tolerance(state.dtype)) & (
            violation <= planner.largest_violation(state.dtype)
        )
        status = jnp.where(good, Status.SOLVED, Status.ITERATION_LIMIT)
        status = jnp.where(reached.usable, status, Status.INVALID_INPUT)
        return status, jnp.where(reached.usable, residual, jnp.inf), jnp.where(reached.usable, violation, jnp.inf)

    block = planner.block(rebuild(inputs.leaves), inputs.state.dtype)

    @jax.custom_vjp
    def move(inputs: Inputs, guess: Guess | None) -> Reached:
        return over_lanes(in_blocks(run, block))(inputs, guess)[0]

    def forward(inputs: Any, guess: Any):
        given = jax.tree.map(
            lambda leaf: leaf.value, (inputs, guess), is_leaf=lambda leaf: isinstance(leaf, CustomVJPPrimal)
        )
        inputs, guess = first_order(given)
        reached, qp, around = over_lanes(in_blocks(run, block))(inputs, guess)
        valid = over_lanes(certify)(qp, reached)
        reached = eqx.tree_at(lambda reached: reached.gradient_valid, reached, valid)
        return reached, (inputs, reached, qp, around)

    def backward(kept, cotangent: Reached):
        refuse("Plan.residual", cotangent.tau)
        inputs, reached, qp, around = kept

        def expanded(leaves: Any) -> Problem:
            *own, trajectory = leaves
            return Taylor.of(rebuild(own), trajectory)

        given, valid = dataclasses.replace(inputs, leaves=[*inputs.leaves, around]), reached.gradient_valid
        found = pulled_back(planner, expanded, given, reached.point, qp, valid, cotangent.point, fixed=1)
        return dataclasses.replace(found, leaves=found.leaves[:-1]), None

    move.defvjp(forward, backward, symbolic_zeros=True)
    reached = move(inputs, guess)
    status, residual, violation = over_lanes(in_blocks(look, block))(*jax.lax.stop_gradient((inputs, reached)))
    return Answer(
        point=reached.point,
        status=status,
        gradient_valid=reached.gradient_valid,
        iterations=jnp.ones((), int),
        residual=underivable("Plan.residual", residual, reached.point.z),
        violation=underivable("Plan.violation", violation, reached.point.z),
    )


def _program(planner: SQP, problems, state, z, pinned: bool, point: Point | None = None):
    """The quadratic program around `z`, and the rows' own bounds and prices."""
    data = problems.row_data(state.dtype, pinned)
    if point is None:
        costates = jnp.zeros((z.shape[0], *state.shape), z.dtype)
        multipliers = jnp.zeros((z.shape[0], data.linear.shape[1], z.shape[-1]), z.dtype)
    else:
        costates, multipliers = point.pi, net(point.lam)
    return problems.linearise(state, z, costates, multipliers, data, planner.hessian, pinned), data
