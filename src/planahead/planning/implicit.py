"""The solution of a planning problem as a differentiable function, by the implicit function theorem.

At a solution y = (z, π, λ, s) of the optimality conditions R(y; p) = 0 smoothed by τ, with p the problem's leaves, the state and the pinned
control, a cotangent ȳ gives (∂R/∂y)ᵀ w = ȳ and the cotangent of p as -∂/∂p of the scalar

    ⟨∇_z L(z, π, λ; p), w_z⟩ + ⟨f(z) - x₊, w_π⟩ + ⟨state - x_0, w_π0⟩ + ⟨σ h(z) - b, w_λ⟩ + ⟨Z s + z_l, w_s⟩

whose first term is a directional derivative of the Lagrangian. One factorisation with the exact Hessian (made in the forward pass, where
it also tells whether the solution is a strict local minimum), one back-solve, one reverse pass; no Jacobian is formed.
Reference: J. Frey et al., *Differentiable Nonlinear Model Predictive Control*, arXiv 2505.01353.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from planahead.planning import sqp, transcription
from planahead.planning.lanes import Lanes
from planahead.planning.linearisation import Exact
from planahead.planning.plan import Guess
from planahead.planning.sqp import SQP
from planahead.problem import Problem, scan_stages
from planahead.qp import Status, interior_point, newton, sensitivity
from planahead.qp.batching import over_lanes, spread
from planahead.qp.lanes import along
from planahead.qp.newton import Residuals, Rows, System, net
from planahead.qp.types import LaneQP, Point


class Inputs(eqx.Module):
    """What the solution depends on and is differentiated with respect to."""

    leaves: list[Array]
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


class _Linear(eqx.Module):
    """The exact QP at the solution and its factorisation, kept for the backward pass."""

    qp: LaneQP
    point: Point
    system: System


def solution(planner: SQP, rebuild: Callable[[Any], Problem], inputs: Inputs, guess: Guess | None) -> Answer:
    """Solve one lane (natively batched under `vmap`), differentiable in `inputs`. `rebuild(leaves)` makes the problem."""

    def lanes_of(in_lanes: Any, inputs: Inputs, lanes: int) -> tuple[Lanes, Array, Array | None]:
        problems = Lanes(rebuild, inputs.leaves, in_lanes.leaves, lanes)
        return problems, *spread(lanes, (in_lanes.state, in_lanes.control), (inputs.state, inputs.control))

    def run(lanes: int, in_lanes: Any, inputs: Inputs, guess: Guess | None) -> Answer:
        problems, state, control = lanes_of(in_lanes[0], inputs, lanes)
        if guess is None:
            start = problems.map(cold_start, state)
        else:
            states, controls = spread(lanes, (in_lanes[1].states, in_lanes[1].controls), (guess.states, guess.controls))
            start = problems.map(lambda problem, u, x: transcription.join(u, x), controls, states)
        end = sqp.solve(planner, problems, state, control, start)
        near = (end.residual <= planner.resolved_gradient_tolerance(state.dtype)) & (end.status != Status.INVALID_INPUT)
        valid = (end.status == Status.SOLVED) | (near & (end.status == Status.ITERATION_LIMIT))
        point = eqx.tree_at(lambda point: point.z, end.point, end.z)
        return Answer(point, end.status, valid, end.iterations, end.residual, end.violation)

    def differentiate(lanes: int, in_lanes: Any, inputs: Inputs, point: Point, valid: Array) -> tuple[_Linear, Array]:
        problems, state, control = lanes_of(in_lanes[0], inputs, lanes)
        point, valid = spread(lanes, in_lanes[1:], (point, valid))
        pinned = control is not None
        data = problems.row_data(state.dtype, pinned)
        exact = Exact(convexify="none")
        qp = problems.linearise(state, point.z, point.pi, net(point.lam), data, exact, pinned)
        valid = valid & interior_point.valid(qp)
        # Bad lanes are replaced before anything is factorised: a NaN times a zero mask would still be a NaN.
        qp = interior_point.neutral(qp, ~valid)
        system = sensitivity.factorise(qp, Rows(qp), point)
        return _Linear(qp, point, system), valid & system.factor.definite

    def back(lanes: int, in_lanes: Any, linear: _Linear, cotangent: Point, valid: Array) -> Residuals:
        linear, cotangent, valid = spread(lanes, in_lanes, (linear, cotangent, valid))
        cotangent = jax.tree.map(lambda value: jnp.where(along(valid, value), value, 0.0), cotangent)
        return sensitivity.adjoint(linear.qp, Rows(linear.qp), linear.system, linear.point, cotangent)

    @jax.custom_vjp
    def solve(inputs: Inputs, guess: Guess | None) -> Answer:
        return over_lanes(run)(inputs, guess)

    def forward(inputs: Inputs, guess: Guess | None):
        answer = over_lanes(run)(inputs, guess)
        linear, valid = over_lanes(differentiate)(inputs, answer.point, answer.gradient_valid)
        answer = eqx.tree_at(lambda answer: answer.gradient_valid, answer, valid)
        return answer, (inputs, answer.point, linear, valid)

    def backward(kept, cotangent: Answer):
        inputs, point, linear, valid = kept
        seeds = _without_pinned(inputs.control, cotangent.point)
        weights = over_lanes(back)(linear, seeds, valid)
        (result,) = jax.vjp(lambda inputs: _conditions(rebuild, inputs, point, weights), inputs)[1](
            jnp.ones((), inputs.state.dtype)
        )
        if inputs.control is not None:
            direct = cotangent.point.z[0, : inputs.control.shape[0]]
            result = eqx.tree_at(lambda inputs: inputs.control, result, result.control + direct)
        return jax.tree.map(lambda leaf: jnp.where(valid, leaf, 0.0), result), None

    solve.defvjp(forward, backward)
    return solve(inputs, guess)


def cold_start(problem: Problem, state: Float[Array, " nx"]) -> Float[Array, "nodes nz"]:
    """The trajectory under the smallest admissible controls; where it leaves the numbers, the state stays where it is."""
    bounds = problem_control_bounds(problem)
    controls = jnp.clip(jnp.zeros_like(bounds[0]), *bounds)
    states = rollout(problem, state, controls)
    states = jnp.where(jnp.all(jnp.isfinite(states)), states, jnp.broadcast_to(state, states.shape))
    return transcription.join(controls, states)


def problem_control_bounds(problem: Problem) -> tuple[Float[Array, "N nu"], Float[Array, "N nu"]]:
    """Lower and upper control bounds of all stages; a NaN is taken as no bound."""
    data = transcription.row_data(problem, transcription.general_size(problem), jnp.result_type(float), pinned=False)
    nu = problem.control_size
    lower, upper = data.bound[:-1, 0, :nu], -data.bound[:-1, 1, :nu]
    return jnp.where(jnp.isnan(lower), -jnp.inf, lower), jnp.where(jnp.isnan(upper), jnp.inf, upper)


def rollout(problem: Problem, state: Float[Array, " nx"], controls: Float[Array, "N nu"]) -> Float[Array, "nodes nx"]:
    """The states that the problem's dynamics make of `controls`."""
    def follow(x, stage_problem, u):
        return stage_problem.dynamics(x, u), u

    return scan_stages(follow, problem, state, controls)[0]


def _conditions(rebuild, inputs: Inputs, point: Point, weights: Residuals) -> Float[Array, ""]:
    """⟨R(y; p), w⟩ as a function of p; what does not depend on p is left out."""
    problem = rebuild(inputs.leaves)
    nu = problem.control_size
    size = transcription.general_size(problem)
    z = transcription.pin(inputs.control, point.z)
    multipliers = net(point.lam)

    def along(z):
        return transcription.lagrangian(problem, inputs.state, z, point.pi, multipliers)

    _, stationarity = jax.jvp(along, (z,), (weights.stationarity,))
    data = transcription.row_data(problem, size, z.dtype, pinned=inputs.control is not None)
    bound = jnp.where(jnp.isfinite(data.bound), data.bound, 0.0)
    rows = newton.sides(transcription.row_values(problem, z, size)) - bound
    soft = (jnp.isfinite(data.linear) & jnp.isfinite(data.quadratic))[:, None]
    linear, quadratic = (jnp.where(soft, price[:, None], 0.0) for price in (data.linear, data.quadratic))
    price = linear + quadratic * point.s
    return (
        stationarity
        + jnp.sum(weights.dynamics * transcription.defects(problem, z))
        + jnp.sum(weights.initial * (inputs.state - z[0, nu:]))
        + jnp.sum(weights.row * rows)
        + jnp.sum(weights.price * price)
    )


def _without_pinned(control: Array | None, cotangent: Point) -> Point:
    """A pinned control passes its cotangent on directly, not through the conditions."""
    if control is None:
        return cotangent
    z = jnp.concatenate([cotangent.z[:1].at[:, : control.shape[0]].set(0.0), cotangent.z[1:]])
    return eqx.tree_at(lambda point: point.z, cotangent, z)
