"""`solve_qp`: a stage-structured QP as a differentiable layer."""

import dataclasses
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal
from jaxtyping import Array, Bool, Float, Int

from planahead.qp import active_set as proposals, backend as solvers
from planahead.qp.active_set import ActiveSet
from planahead.qp.batching import over_lanes, spread
from planahead.qp.derivatives import first_order, numbers, refuse, where_valid, zero_unless
from planahead.qp.interior_point import Backend, InteriorPoint
from planahead.qp.newton import Residuals
from planahead.qp.sensitivity import data_cotangents
from planahead.qp.status import Status
from planahead.qp.types import QP, LaneQP, Point, QPGuess, QPSolution, price_of_violations


class _Answer(eqx.Module):
    point: Point
    status: Int[Array, "*B"]
    iterations: Int[Array, "*B"]
    residual: Float[Array, "*B"]
    gradient_valid: Bool[Array, "*B"]
    """Where differentiated, only lanes whose factorisation at the solution succeeds."""


@eqx.filter_jit
def solve_qp(
    qp: QP,
    *,
    solver: InteriorPoint = InteriorPoint(),
    backend: Backend | None = None,
    guess: QPSolution | None = None,
    active_set: ActiveSet | None = None,
) -> QPSolution:
    """Solve one stage-structured QP; `jax.vmap` solves a batch at once.

    Differentiable in all data of `qp` (`jax.grad`, `jax.vjp`; reverse mode, once). The derivative is that of the
    solution smoothed by `solver.tau`. Lanes that are not solved say so in `status` and contribute a zero gradient
    (`gradient_valid` is false).

    **Arguments:** `qp` as described in `QP`; `solver` the settings of the interior-point method; `backend` replaces
    that of the settings: "native" (the C++ kernel), "portable" (JAX) or "auto" (the kernel wherever it can); `guess`
    the solution of a similar QP, for a warm start: close by it saves half of the iterations, and one that is no number
    or knows of no active row is not used. It carries no gradient; `active_set` the rows that are thought to be active:
    where all of them are, and no others, one linear system is the solution (0 iterations), see `active_set.py`.

    **Raises:** `RuntimeError` where the native kernel was asked for and is not there (`planahead doctor` says why);
    `ValueError` for a guess or an active set of other sizes, and an active set for a solver with a `tau` of its own.

    **Returns:** a `QPSolution`; its `cost` is minimised.

    >>> import jax, jax.numpy as jnp
    >>> import planahead as pa
    >>> eye = lambda n: jnp.ones((n, 1, 1))
    >>> def first_control(bound):
    ...     qp = pa.QP(A=eye(3), B=eye(3), Q=eye(4), R=eye(3), initial_state=jnp.array([2.0]),
    ...                control_bounds=pa.StageBounds(-bound, bound))
    ...     return pa.solve_qp(qp).controls[0, 0]
    >>> round(float(first_control(0.5)), 2), round(float(jax.grad(first_control)(0.5)), 2)
    (-0.5, -1.0)
    """
    for name, value, kind in (("qp", qp, QP), ("solver", solver, InteriorPoint)):
        if not isinstance(value, kind):
            raise TypeError(f"{name} is of type {type(value).__name__}; a planahead.{kind.__name__} is expected.")
    if qp.B.ndim != 3:
        raise ValueError(
            f"solve_qp takes one QP, with B [N, nx, nu]; got B of shape {qp.B.shape}. Use jax.vmap for a batch."
        )
    if backend is not None:
        solver = dataclasses.replace(solver, backend=backend)
    packed = qp.pack()
    near = None if guess is None else jax.lax.stop_gradient(_guess(packed, guess))
    if active_set is not None:
        _check_rows(packed, active_set)
    answer: _Answer = _solve(solver, packed, near, active_set)  # pyright: ignore[reportAssignmentType]
    nu, z = packed.control_size, answer.point.z
    data = where_valid(answer.gradient_valid, packed)
    prices = price_of_violations(data.linear, data.quadratic, answer.point.s)
    cost = jnp.sum(data.g * z) + 0.5 * jnp.einsum("ki,kij,kj->", z, data.H, z) + prices
    return QPSolution(
        states=z[:, nu:],
        controls=z[:-1, :nu],
        cost=cost,
        costates=answer.point.pi,
        multipliers=answer.point.lam,
        status=answer.status,
        iterations=answer.iterations,
        residual=answer.residual,
        gradient_valid=answer.gradient_valid,
    )


def _guess(qp: LaneQP, guess: QPSolution) -> QPGuess:
    controls = jnp.concatenate([guess.controls, jnp.zeros_like(guess.controls[:1])])
    found = QPGuess(jnp.concatenate([controls, guess.states], 1), guess.costates, guess.multipliers)
    for name, value, like in (("states", found.z, qp.g), ("multipliers", found.lam, qp.bound)):
        if value.shape != like.shape:
            raise ValueError(
                f"solve_qp(guess=...): {name} make an array of shape {value.shape}, and this QP's has {like.shape}; "
                "the guess must come from a QP of the same sizes."
            )
    return jax.tree.map(lambda leaf: leaf.astype(qp.g.dtype), found)


def _check_rows(qp: LaneQP, proposed: ActiveSet) -> None:
    for name in ("held", "violated"):
        if (shape := getattr(proposed, name).shape) != qp.bound.shape:
            raise ValueError(
                f"solve_qp(active_set=...): {name} has shape {shape}, and this QP has rows {qp.bound.shape} (nodes, "
                "sides, rows); the active set must come from a QP of the same sizes."
            )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _solve(solver: InteriorPoint, qp: LaneQP, guess: QPGuess | None, proposed: ActiveSet | None) -> _Answer:
    return _solver(solver, rows=False)(qp, guess, proposed)


def _solver(solver: InteriorPoint, *, rows: bool):
    def kernel(lanes, in_lanes, qp: LaneQP, guess: QPGuess | None, proposed: ActiveSet | None) -> _Answer:
        near, everyone = spread(lanes, in_lanes[1], guess), jnp.ones(lanes, bool)
        if proposed is None:
            outcome = solvers.solve(qp, in_lanes[0], solver, everyone, rows=rows, gain=False, guess=near)
        else:
            given = spread(lanes, in_lanes[2], proposed)
            outcome = proposals.solve(qp, in_lanes[0], solver, everyone, given, rows=rows, guess=near)
        solved = outcome.status == Status.SOLVED
        return _Answer(outcome.point, outcome.status, outcome.iterations, outcome.residual, solved)

    return over_lanes(kernel)


def _adjoint(solver: InteriorPoint):
    def kernel(lanes, in_lanes, qp: LaneQP, point: Point, cotangent: Point, valid: Array) -> Residuals:
        point, cotangent, valid = spread(lanes, in_lanes[1:], (point, cotangent, valid))
        return solvers.adjoint(solver.backend, qp, in_lanes[0], point, cotangent, valid, solver.riccati)

    return over_lanes(kernel)


def _definite(solver: InteriorPoint):
    def kernel(lanes, in_lanes, qp: LaneQP, point: Point, valid: Array) -> Array:
        point, valid = spread(lanes, in_lanes[1:], (point, valid))
        return solvers.definite(solver.backend, qp, in_lanes[0], point, valid, solver.riccati)

    return over_lanes(kernel)


def _forward(solver: InteriorPoint, qp: Any, guess: Any, proposed: Any) -> tuple[_Answer, tuple[LaneQP, _Answer]]:
    given = jax.tree.map(
        lambda leaf: leaf.value, (qp, guess, proposed), is_leaf=lambda leaf: isinstance(leaf, CustomVJPPrimal)
    )
    qp, guess, proposed = first_order(given)
    answer = _solver(solver, rows=True)(qp, guess, proposed)
    valid = _definite(solver)(qp, answer.point, answer.gradient_valid)
    answer = eqx.tree_at(lambda answer: answer.gradient_valid, answer, valid)
    return answer, (qp, answer)


def _backward(solver: InteriorPoint, kept: tuple[LaneQP, _Answer], cotangent: Any) -> tuple[LaneQP, None, None]:
    qp, answer = kept
    refuse("QPSolution.residual", cotangent.residual)
    cotangent = numbers(cotangent)
    valid = answer.gradient_valid
    weights = _adjoint(solver)(qp, answer.point, cotangent.point, valid)
    return zero_unless(valid, data_cotangents(qp, answer.point, weights)), None, None


_solve.defvjp(_forward, _backward, symbolic_zeros=True)
