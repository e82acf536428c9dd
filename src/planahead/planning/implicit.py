"""The solution of a planning problem as a differentiable function, by the implicit function theorem.

At a solution y = (z, π, λ, s) of the optimality conditions R(y; p) = 0 smoothed by τ, with p the problem's leaves, the
state and the pinned control, a cotangent ȳ gives (∂R/∂y)ᵀ w = ȳ and the cotangent of p as -∂/∂p of the scalar

    ⟨∇_z L(z, π, λ; p), w_z⟩ + ⟨f(z) - x₊, w_π⟩ + ⟨state - x_0, w_π0⟩ + ⟨σ h(z) - b, w_λ⟩ + ⟨Z s + z_l, w_s⟩

whose first term is a directional derivative of the Lagrangian. One factorisation with the exact Hessian (in the forward
pass it tells whether the solution is a strict local minimum), one back-solve, one reverse pass (`conditions.py`); no
Jacobian is formed.
Reference: J. Frey et al., *Differentiable Nonlinear Model Predictive Control*, arXiv 2505.01353.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal
from jaxtyping import Array, Bool, Float, Int

from planahead.planning import sqp, transcription
from planahead.planning.cold_start import cold_start
from planahead.planning.conditions import Slopes
from planahead.planning.linearisation import Exact
from planahead.planning.plan import Guess
from planahead.planning.problem_batch import ProblemBatch
from planahead.planning.sqp import SQP
from planahead.problem import Problem
from planahead.qp import Status, backend, interior_point
from planahead.qp.batching import in_blocks, over_lanes, spread
from planahead.qp.derivatives import first_order, numbers, refuse, zero_unless
from planahead.qp.interior_point import Backend
from planahead.qp.newton import net
from planahead.qp.types import LaneQP, Point


class Inputs(eqx.Module):
    """What the solution depends on: all arrays of the problem, the state and the pinned control.

    Those of floating-point numbers are what it is differentiated with respect to.
    """

    leaves: list[Any]
    """Arrays; `None` for what has no cotangent."""
    state: Float[Array, " nx"]
    control: Float[Array, " nu"] | None


class Answer(eqx.Module):
    """A point that satisfies the optimality conditions where `status` says so. `point.z` is the trajectory."""

    point: Point
    status: Int[Array, "*B"]
    gradient_valid: Bool[Array, "*B"]
    iterations: Int[Array, "*B"]
    residual: Float[Array, "*B"]
    violation: Float[Array, "*B"]


def solution(planner: SQP, rebuild: Callable[[Any], Problem], inputs: Inputs, guess: Guess | None) -> Answer:
    """Solve one lane (natively batched under `vmap`), differentiable in `inputs`. `rebuild(leaves)` makes the
    problem."""

    def run(lanes: int, in_lanes: Any, inputs: Inputs, guess: Guess | None) -> Answer:
        problems, state, control = lanes_of(rebuild, in_lanes[0], inputs, lanes, planner.backend)
        end = sqp.solve(planner, problems, state, control, start_of(problems, state, in_lanes[1], guess))
        near = (end.residual <= planner.resolved_gradient_tolerance(state.dtype)) & (end.status != Status.INVALID_INPUT)
        valid = (end.status == Status.SOLVED) | (near & (end.status == Status.ITERATION_LIMIT))
        point = eqx.tree_at(lambda point: point.z, end.point, end.z)
        return Answer(point, end.status, valid, end.iterations, end.residual, end.violation)

    def differentiate(lanes: int, in_lanes: Any, inputs: Inputs, point: Point, valid: Array) -> tuple[LaneQP, Array]:
        problems, state, control = lanes_of(rebuild, in_lanes[0], inputs, lanes, planner.backend)
        point, valid = spread(lanes, in_lanes[1:], (point, valid))
        pinned = control is not None
        data = problems.row_data(state.dtype, pinned)
        exact = Exact(convexify="none")
        qp = problems.linearise(state, point.z, point.pi, net(point.lam), data, exact, pinned)
        valid = valid & interior_point.valid(qp)
        return qp, backend.definite(planner.backend, qp, backend.everywhere(qp), point, valid)

    block = planner.block(rebuild(inputs.leaves), inputs.state.dtype)

    @jax.custom_vjp
    def solve(inputs: Inputs, guess: Guess | None) -> Answer:
        return over_lanes(in_blocks(run, block))(inputs, guess)

    def forward(inputs: Any, guess: Any):
        given = jax.tree.map(
            lambda leaf: leaf.value, (inputs, guess), is_leaf=lambda leaf: isinstance(leaf, CustomVJPPrimal)
        )
        inputs, guess = first_order(given)
        answer = over_lanes(in_blocks(run, block))(inputs, guess)
        qp, valid = over_lanes(differentiate)(inputs, answer.point, answer.gradient_valid)
        answer = eqx.tree_at(lambda answer: answer.gradient_valid, answer, valid)
        return answer, (inputs, answer.point, qp, valid)

    def backward(kept, cotangent: Answer):
        refuse("Plan.residual", cotangent.residual)
        refuse("Plan.violation", cotangent.violation)
        inputs, point, qp, valid = kept
        return pulled_back(planner, rebuild, inputs, point, qp, valid, cotangent.point), None

    solve.defvjp(forward, backward, symbolic_zeros=True)
    return solve(inputs, guess)


def lanes_of(
    rebuild: Callable[[Any], Problem], in_lanes: Any, inputs: Inputs, lanes: int, backend: Backend
) -> tuple[ProblemBatch, Array, Array | None]:
    """The problems, states and pinned controls of all lanes."""
    problems = ProblemBatch(rebuild, inputs.leaves, in_lanes.leaves, lanes, backend)
    return problems, *spread(lanes, (in_lanes.state, in_lanes.control), (inputs.state, inputs.control))


def start_of(problems: ProblemBatch, state: Float[Array, "nx B"], in_lanes: Any, guess: Guess | None) -> Array:
    """The trajectory that all lanes start from, `[nodes, nz, B]`."""
    first: Guess = problems.map(cold_start, state) if guess is None else spread(state.shape[-1], in_lanes, guess)
    return problems.map(lambda _, u, x: transcription.join(u, x), first.controls, first.states)


def pulled_back(
    planner: SQP,
    rebuild: Callable[[Any], Problem],
    inputs: Inputs,
    point: Point,
    qp: LaneQP,
    valid: Array,
    cotangent: Any,
    fixed: int = 0,
) -> Inputs:
    """The cotangent of `inputs`, of one lane, that belongs to one of `point`. `qp` has the matrices of
    the conditions' derivative there: second derivatives of the Lagrangian, first ones of dynamics and rows. The last
    `fixed` leaves do not move."""
    moving = len(inputs.leaves) - fixed
    wanted = [eqx.is_inexact_array(leaf) and number < moving for number, leaf in enumerate(inputs.leaves)]

    def back(
        lanes: int, in_lanes: Any, inputs: Inputs, qp: LaneQP, point: Point, cotangent: Point, valid: Array
    ) -> tuple[Slopes, Array]:
        problems, _, control = lanes_of(rebuild, in_lanes[0], inputs, lanes, planner.backend)
        point, cotangent, valid = spread(lanes, in_lanes[2:], (point, cotangent, valid))
        adjoint = backend.adjoint(planner.backend, qp, in_lanes[1], point, cotangent, valid)
        return problems.slopes(control, point, adjoint, wanted), adjoint.initial

    cotangent, control = numbers(cotangent), inputs.control
    slopes, state = over_lanes(back)(inputs, qp, point, _without_pinned(control, cotangent), valid)
    by_control = slopes.control
    if control is not None:
        by_control += cotangent.z[0, : control.shape[0]]
    return zero_unless(valid, Inputs(slopes.leaves, state, by_control))


def _without_pinned(control: Array | None, cotangent: Point) -> Point:
    """A pinned control passes its cotangent on directly, not through the conditions."""
    if control is None:
        return cotangent
    z = jnp.concatenate([cotangent.z[:1].at[:, : control.shape[0]].set(0.0), cotangent.z[1:]])
    return eqx.tree_at(lambda point: point.z, cotangent, z)
