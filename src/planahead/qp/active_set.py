r"""A QP whose active rows are proposed: one linear system instead of an interior-point method, where they are right.

With the rows held that the proposal names, a QP has equalities only, and its conditions are linear (`newton` writes
them down, w means the solution of that system):

    held, not violated     t = 0, s = 0        λ and, where soft, λ_s follow
    held, violated (soft)  t = 0, λ_s = 0      s and λ = linear + quadratic · s follow
    not held               λ = 0, s = 0        t follows

One factorisation, one back-solve and one of refinement: the same that a derivative costs. The solution is that of the
QP itself if nothing came out with the wrong sign,

    λ >= 0,   t >= 0,   s >= 0,   λ_s >= 0       to the tolerance, every row of it

and the reduced Hessian is positive definite on its own. Lanes in which the proposal is wrong, in a single row, are
solved as if there had been none; the others cost the interior-point method nothing, and tell 0 iterations. A proposal
cannot make an answer wrong, but a wrong one costs its linear system.

Reference: J. Nocedal, S. Wright, *Numerical Optimization*, 2nd ed., §16.4–16.5. Proposals by a network:
`policies.ActiveSetGuide`. It fails where a row is active weakly (λ and t both near zero): either guess is then half
wrong, to a tolerance that decides.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.qp import backend, interior_point, newton
from planahead.qp.batching import spread
from planahead.qp.interior_point import InteriorPoint, Outcome
from planahead.qp.lanes import choose, largest, matvec
from planahead.qp.newton import Rows
from planahead.qp.start import cost_unit
from planahead.qp.status import Status
from planahead.qp.types import QP, LaneQP, Point, QPGuess, QPSolution

_LEAST = 1e-12
"""Distances and violations of pairs that are zero on both sides: a Γ of 0/0 would be no number."""


class ActiveSet(eqx.Module):
    """Which sides of which rows a solution lies at, in the order of `QPSolution.multipliers`."""

    held: Bool[Array, "nodes 2 m *B"]
    """At its bound, or beyond it."""
    violated: Bool[Array, "nodes 2 m *B"]
    """Beyond it, for a price; a part of `held`."""

    @classmethod
    def of(cls, qp: QP, solution: QPSolution) -> "ActiveSet":
        """That of a solution of `qp`; one lane, as `solve_qp` takes it.

        >>> import jax.numpy as jnp, planahead as pa
        >>> eye = lambda n: jnp.ones((n, 1, 1))
        >>> qp = pa.QP(A=eye(3), B=eye(3), Q=eye(4), R=eye(3), initial_state=jnp.array([1.5]),
        ...            control_bounds=pa.StageBounds(-0.5, 0.5))
        >>> active = ActiveSet.of(qp, pa.solve_qp(qp))
        >>> [int(row[0, 0]) for row in active.held], int(pa.solve_qp(qp, active_set=active).iterations)
        ([1, 1, 0, 0], 0)
        """
        lane = jax.tree.map(lambda leaf: leaf[..., None], qp.pack())
        rows = Rows(lane)
        controls = jnp.concatenate([solution.controls, jnp.zeros_like(solution.controls[:1])])
        z = jnp.concatenate([controls, solution.states], 1)[..., None]
        distance = newton.sides(newton.row_values(lane, z)) - rows.bound
        lam = solution.multipliers[..., None]
        violation = jnp.maximum(-distance, 0.0)
        left = rows.quadratic * violation + rows.linear - lam  # of the price: λ_s
        held = rows.exists & (lam > distance)
        return cls(held[..., 0], (held & rows.soft & (violation > left))[..., 0])


def solve(
    qp: LaneQP,
    in_lanes: Any,
    settings: InteriorPoint,
    active: Bool[Array, " B"],
    proposed: ActiveSet,
    *,
    rows: bool = True,
    guess: QPGuess | None = None,
) -> Outcome:
    """As `backend.solve` without the gain, but that lanes in which `proposed` is right need no iteration. All arrays of
    `proposed` carry lanes.

    **Raises:** `ValueError` for a solver with a `tau` of its own: a smoothed solution has no active set.
    """
    if settings.tau is not None:
        raise ValueError(
            f"an active set was proposed to InteriorPoint(tau={settings.tau}), whose solutions are smoothed and have "
            "none; leave tau out"
        )
    lanes = active.shape[0]
    healthy = active & interior_point.valid(spread(lanes, in_lanes, qp))
    tried, right = _held(spread(lanes, in_lanes, qp), qp, in_lanes, settings, healthy, proposed)
    remaining = active & ~right

    def fall_back(_: None) -> Outcome:
        found = backend.solve(qp, in_lanes, settings, remaining, rows=rows, gain=False, guess=guess)
        return choose(right, tried, found)

    return jax.lax.cond(jnp.any(remaining) | ~jnp.all(active), fall_back, lambda _: tried, None)


def _held(
    qp: LaneQP, given: LaneQP, in_lanes: Any, settings: InteriorPoint, healthy: Bool[Array, " B"], proposed: ActiveSet
) -> tuple[Outcome, Bool[Array, " B"]]:
    """The solution with the proposed rows held, and the lanes in which it is that of the QP; `given` is `qp` as it
    came, with what lanes share."""
    rows, nu = Rows(qp), qp.control_size
    held = proposed.held & rows.exists
    violated = proposed.violated & held & rows.soft
    zeros, ones = jnp.zeros_like(rows.bound), jnp.ones_like(rows.bound)
    z = jnp.zeros_like(qp.g)
    if qp.initial_state is not None:
        z = jnp.concatenate([jnp.concatenate([z[:1, :nu], qp.initial_state[None]], 1), z[1:]])
    pi = jnp.zeros((z.shape[0], *qp.c.shape[1:]), z.dtype)

    # Γ and Γ_s are next to infinite where this point says 1/0, and zero where it says 0/1.
    system = Point(
        z, pi,
        t=jnp.where(held, zeros, ones), lam=jnp.where(held, ones, zeros),
        s=jnp.where(violated, ones, zeros), lam_s=jnp.where(rows.soft & ~violated, ones, zeros),
    )  # fmt: skip
    start = Point(z, pi, zeros, zeros, zeros, jnp.where(violated, 0.0, rows.linear))
    wrong = newton.residuals(qp, rows, start, jnp.zeros(healthy.shape, z.dtype))
    seeds = Point(
        -wrong.stationarity,
        -jnp.concatenate([wrong.initial[None], wrong.dynamics]),
        zeros, jnp.where(held, wrong.row, 0.0), -jnp.where(violated, wrong.price, 0.0), zeros,
    )  # fmt: skip
    step = backend.adjoint(settings.backend, given, in_lanes, system, seeds, healthy, settings.riccati)

    z = z - step.stationarity
    pi = pi - jnp.concatenate([step.initial[None], step.dynamics])
    lam, s = jnp.where(held, step.row, 0.0), jnp.where(violated, -step.price, 0.0)
    t = jnp.where(rows.exists, newton.sides(newton.row_values(qp, z)) - rows.bound + s, 1.0)
    t = jnp.where(held, 0.0, t)
    lam_s = jnp.where(rows.soft & ~violated, rows.quadratic * s + rows.linear - lam, 0.0)

    tolerance = settings.resolved_tolerance(z.dtype)
    unit = cost_unit(qp)
    dual = tolerance * (unit + largest(qp.g) + largest(pi) + largest(lam))
    primal = tolerance * (1.0 + largest(z) + largest(qp.c))
    signs = (_least(lam) >= -dual) & (_least(lam_s) >= -dual) & (_least(t) >= -primal) & (_least(s) >= -primal)
    point = Point(z, pi, *(jnp.maximum(pair, 0.0) for pair in (t, lam, s, lam_s)))
    point = eqx.tree_at(
        lambda point: (point.t, point.s),
        point,
        (
            jnp.where(rows.exists & (point.lam == 0), jnp.maximum(point.t, _LEAST), point.t),
            jnp.where(rows.soft & (point.lam_s == 0), jnp.maximum(point.s, _LEAST), point.s),
        ),
    )
    tau = settings.resolved_tau(largest(jax.vmap(matvec)(qp.H, z) + qp.g), unit)
    error = interior_point.relative_error(qp, rows, point, newton.residuals(qp, rows, point, tau), tau)
    right = healthy & signs & (error <= tolerance)
    right = backend.definite(settings.backend, given, in_lanes, point, right, settings.riccati)
    outcome = Outcome(
        point=point,
        status=jnp.where(right, Status.SOLVED, Status.INVALID_INPUT),
        iterations=jnp.zeros(right.shape, int),
        residual=error,
        tau=tau,
        gain=jnp.zeros((qp.F.shape[0], nu, qp.state_size, right.shape[0]), z.dtype),
    )
    return outcome, right


def _least(values: Array) -> Float[Array, " B"]:
    """The smallest entry of each lane; minus infinity where there is a NaN."""
    return jnp.min(jnp.where(jnp.isnan(values), -jnp.inf, values), axis=tuple(range(values.ndim - 1)), initial=0.0)
