"""Sequential quadratic programming over batches of optimal control problems.

Each iteration linearises all lanes, solves their QPs together, and moves along the steps:

    z ← trial(z, d, α),     (π, λ, s, …) ← (1 - α) old + α QP's

Hard rows other than the control box are elastic inside the iteration: priced at ρ per unit, ρ raised while a violation
remains. For ρ above the multipliers the solution is the same (an exact penalty), and a problem without a feasible
trajectory still has a best one. What is left of a violation at the largest ρ makes the lane infeasible. Lanes that have
ended stay as they are, bit for bit.

References: J. Nocedal, S. Wright, *Numerical Optimization*, 2nd ed., ch. 18; the real-time iteration: M. Diehl et al.,
J. Process Control 12 (2002).
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from planahead.planning.globalisation import FullStep, Globalisation, LineSearch, search, violations
from planahead.planning.lanes import Lanes
from planahead.planning.linearisation import Exact, GaussNewton, Hessian
from planahead.planning.transcription import RowData
from planahead.qp import InteriorPoint, Status, backend, interior_point, newton
from planahead.qp.interior_point import Backend, check_positive
from planahead.qp.lanes import along, choose, largest
from planahead.qp.newton import Rows, net
from planahead.qp.types import LaneQP, Point


class SQP(eqx.Module):
    """Settings of the planner. `None` means: chosen from the number format."""

    hessian: Hessian = eqx.field(static=True, default=GaussNewton())
    globalisation: Globalisation = eqx.field(static=True, default=LineSearch())
    tau: float | None = eqx.field(static=True, default=None)
    """The barrier at the solution, in units of cost. The default is next to exact; 1e-3 or so smooths the plan as a
    function of the problem across active-set changes, in the plan and in its derivative alike."""
    tolerance: float | None = eqx.field(static=True, default=None)
    """Largest relative optimality residual of a solved lane: 1e-8 in float64, 1e-4 in float32."""
    iterations: int = eqx.field(static=True, default=100)
    gradient_tolerance: float | None = eqx.field(static=True, default=None)
    """Derivatives are kept up to this residual; by default the tolerance, so that only solved lanes have them."""

    backend: Backend = eqx.field(static=True, default="auto")
    """Who solves the QPs; see `InteriorPoint`."""

    def __check_init__(self):
        if self.iterations < 0:
            raise ValueError(f"SQP(iterations={self.iterations}); at least 0 was expected.")
        for name in ("tau", "tolerance", "gradient_tolerance"):
            check_positive(f"SQP({name}=", getattr(self, name))
        if not isinstance(self.hessian, GaussNewton | Exact):
            raise ValueError(f"SQP(hessian={self.hessian!r}); pa.GaussNewton() or pa.Exact() was expected.")
        if not isinstance(self.globalisation, FullStep | LineSearch):
            raise ValueError(
                f"SQP(globalisation={self.globalisation!r}); pa.LineSearch() or pa.FullStep() was expected."
            )

    @classmethod
    def real_time(cls, *, iterations: int = 1, gradient_tolerance: float = jnp.inf, **settings: Any) -> "SQP":
        """One full step from the guess. Derivatives are those of the conditions at the point reached, however close
        that is."""
        return cls(
            iterations=iterations, globalisation=FullStep(), gradient_tolerance=float(gradient_tolerance), **settings
        )

    def resolved_tolerance(self, dtype) -> float:
        return self.tolerance if self.tolerance is not None else (1e-8 if dtype == jnp.float64 else 1e-4)

    def resolved_gradient_tolerance(self, dtype) -> float:
        return self.resolved_tolerance(dtype) if self.gradient_tolerance is None else self.gradient_tolerance


class Iterate(eqx.Module):
    """Where every lane is, and how it ended."""

    z: Float[Array, "nodes nz B"]
    point: Point
    """Multipliers and row variables at z; its `z` is a step and means nothing between iterations."""
    tau: Float[Array, " B"]
    status: Int[Array, " B"]
    iterations: Int[Array, " B"]
    residual: Float[Array, " B"]
    violation: Float[Array, " B"]


class _Loop(eqx.Module):
    """The state of the iteration, lane by lane."""

    z: Float[Array, "nodes nz B"]
    point: Point
    tau: Float[Array, " B"]
    price: Float[Array, " B"]  # ρ
    first_price: Float[Array, " B"]
    weight: Float[Array, " B"]  # μ
    status: Int[Array, " B"]
    iterations: Int[Array, " B"]
    residual: Float[Array, " B"]
    violation: Float[Array, " B"]
    active: Bool[Array, " B"]
    relaxed: Bool[Array, " B"]  # taking full steps from `start`
    start: Float[Array, "nodes nz B"]
    best: Float[Array, " B"]  # smallest residual since
    idle: Int[Array, " B"]  # full steps that did not lower it
    failures: Int[Array, " B"]  # searches in a row that found nothing
    iteration: Int[Array, ""]


_PRICE_RANGE = 1e5
"""Largest over first price of an elastic row."""
_PROGRESS = 0.9
"""A full step leads somewhere if it lowers the smallest residual so far by this factor."""
_SEARCHES = 3
"""A lane stalls after this many searches in a row that found nothing."""


def solve(
    settings: SQP,
    problems: Lanes,
    state: Float[Array, "nx B"],
    control: Float[Array, "nu B"] | None,
    guess: Float[Array, "nodes nz B"],
) -> Iterate:
    """Solve all lanes of `problems` from `state`, starting at `guess`."""
    nu, lanes = problems.control_size, state.shape[-1]
    dtype = state.dtype
    tolerance = settings.resolved_tolerance(dtype)
    feasible = 1e-6 if dtype == jnp.float64 else 1e-3
    pinned = control is not None
    z = jnp.concatenate([jnp.concatenate([guess[:1, :nu], state[None]], 1), guess[1:]])
    if pinned:
        z = jnp.concatenate([jnp.concatenate([control[None], z[:1, nu:]], 1), z[1:]])
    data = problems.row_data(dtype, pinned)
    elastic = _elastic(data, nu)
    inner = InteriorPoint(tau=settings.tau, tolerance=0.1 * tolerance, backend=settings.backend)

    def linearised(z: Array, point: Point) -> LaneQP:
        return problems.linearise(state, z, point.pi, net(point.lam), data, settings.hessian, pinned)

    def priced(qp: LaneQP, price: Array) -> LaneQP:
        linear = jnp.where(elastic, along(price, elastic), data.linear)
        return eqx.tree_at(lambda qp: (qp.linear, qp.quadratic), qp, (linear, jnp.where(elastic, 0.0, data.quadratic)))

    def error_of(qp: LaneQP, point: Point, tau: Array) -> tuple[Array, Array]:
        rows = Rows(qp)
        at = eqx.tree_at(lambda p: p.z, point, jnp.zeros_like(point.z))
        error = interior_point.relative_error(qp, rows, at, newton.residuals(qp, rows, at, tau), tau)
        left = jnp.max(
            jnp.where(elastic[:, None], violations(qp.bound, jnp.zeros_like(qp.linear)), 0.0), (0, 1, 2), initial=0.0
        )
        return error, jnp.maximum(left, largest(qp.c))

    blank = jnp.zeros_like(data.bound)
    nothing = Point(jnp.zeros_like(z), jnp.zeros((z.shape[0], *state.shape), dtype), blank + 1, blank, blank, blank)
    full_steps = settings.globalisation.full_steps if isinstance(settings.globalisation, LineSearch) else 0

    def iteration(loop: _Loop) -> _Loop:
        """Look at where the lanes are, then move those that are not done."""
        qp = linearised(loop.z, loop.point)
        first = loop.iteration == 0
        usable = interior_point.valid(qp)
        # A power of ten: what is left of ρ in a smoothed plan must not move with the data, or derivatives would have to
        # know.
        magnitude = 10.0 ** jnp.ceil(jnp.log10(jnp.maximum(jnp.where(usable, largest(qp.g), 1.0), 1.0)))
        price = jnp.where(first, 10 * magnitude, loop.price)
        first_price = jnp.where(first, price, loop.first_price)
        limit = _PRICE_RANGE * first_price
        qp = priced(qp, price)
        error, left = error_of(qp, loop.point, loop.tau)

        invalid = loop.active & ~usable & first
        active = loop.active & ~invalid
        optimal = active & (error <= tolerance) & (loop.iterations > 0)
        solved = optimal & (left <= feasible)
        infeasible = optimal & ~solved & (price >= limit)
        status = jnp.where(invalid, Status.INVALID_INPUT, loop.status)
        status = jnp.where(solved, Status.SOLVED, jnp.where(infeasible, Status.INFEASIBLE, status))
        loop = dataclasses.replace(
            loop,
            price=jnp.where(optimal & ~solved, jnp.minimum(10 * price, limit), price),
            first_price=first_price,
            status=status,
            residual=jnp.where(active, error, loop.residual),
            best=jnp.minimum(loop.best, error),
            idle=loop.idle + ~(error <= _PROGRESS * loop.best),
            violation=jnp.where(active, left, loop.violation),
            active=active & ~solved & ~infeasible & (loop.iterations < settings.iterations),
            iteration=loop.iteration + 1,
        )
        # When the last lane has just ended there is nothing left to move.
        return jax.lax.cond(jnp.any(loop.active), lambda loop: move(loop, qp, limit), lambda loop: loop, loop)

    def move(loop: _Loop, qp: LaneQP, limit: Float[Array, " B"]) -> _Loop:
        outcome = backend.solve(qp, backend.everywhere(qp), inner, loop.active)
        found = outcome.point
        usable = loop.active & (outcome.status != Status.INVALID_INPUT) & jnp.isfinite(outcome.residual)
        weight = loop.weight
        line_search = settings.globalisation
        if isinstance(line_search, LineSearch):
            needed = 1.1 * largest(found.pi)
            weight = jnp.where(usable, jnp.maximum(needed, 0.5 * (weight + needed)), weight)

            def advance(alpha: Array) -> Array:
                return problems.advance(loop.z, found.z, outcome.gain, qp.c, alpha, data.bound)

            def backtrack(searching: Array) -> tuple[Array, Array, Array]:
                return search(
                    line_search, problems.evaluate, advance, data.bound, qp, loop.z, found.z, weight, searching
                )

            def stay(searching: Array) -> tuple[Array, Array, Array]:
                return loop.z, jnp.ones(lanes, dtype), ~searching

            searching = usable & ~loop.relaxed
            z, alpha, accepted = jax.lax.cond(jnp.any(searching), backtrack, stay, searching)
            z = choose(loop.relaxed, loop.z + found.z, z)
        else:
            z, alpha, accepted = loop.z + found.z, jnp.ones(lanes, dtype), usable
        point = jax.tree.map(lambda new, old: old + along(alpha, old) * (new - old), found, loop.point)
        z, point = choose(usable, (z, point), (loop.z, loop.point))

        remaining = jnp.max(jnp.where(elastic[:, None] & Rows(qp).exists, found.s, 0.0), (0, 1, 2), initial=0.0)
        failed, violated = ~(usable & accepted), loop.violation > feasible
        costlier = (usable & (remaining > feasible)) | (failed & violated)
        price = jnp.where(costlier, jnp.minimum(10 * loop.price, limit), loop.price)
        searched = loop.active & ~loop.relaxed
        failures = jnp.where(searched, jnp.where(failed, loop.failures + 1, 0), loop.failures)
        stalled = searched & (failures >= _SEARCHES) & ~(violated & (loop.price < limit))
        status = jnp.where(stalled, jnp.where(violated, Status.INFEASIBLE, Status.STALLED), loop.status)
        # Full steps that lead nowhere are taken back; a search that finds nothing at a feasible point gives way
        # to full steps from there, once.
        lost = loop.active & loop.relaxed & (~usable | (loop.idle >= full_steps))
        z, point, price = choose(lost, (loop.start, nothing, loop.first_price), (z, point, price))
        free = searched & failed & (failures == 1) & ~violated & (full_steps > 0)
        return dataclasses.replace(
            loop,
            z=z,
            point=point,
            tau=jnp.where(usable, outcome.tau, loop.tau),
            price=price,
            weight=weight,
            status=status,
            iterations=loop.iterations + loop.active,
            active=loop.active & ~stalled,
            relaxed=(loop.relaxed & ~lost) | free,
            start=choose(free, z, loop.start),
            best=jnp.where(free, jnp.inf, loop.best),
            idle=jnp.where(free, 0, loop.idle),
            failures=failures,
        )

    zeros, ones, everyone = jnp.zeros(lanes, int), jnp.ones(lanes, dtype), jnp.ones(lanes, bool)
    loop = _Loop(
        z=z,
        point=nothing,
        tau=ones,
        price=ones,
        first_price=ones,
        weight=0 * ones,
        status=jnp.full(lanes, Status.ITERATION_LIMIT),
        iterations=zeros,
        residual=jnp.inf * ones,
        violation=jnp.inf * ones,
        active=everyone,
        relaxed=everyone & (full_steps > 0),
        start=z,
        best=jnp.inf * ones,
        idle=zeros,
        failures=zeros,
        iteration=jnp.zeros((), int),
    )
    end = jax.lax.while_loop(lambda loop: jnp.any(loop.active), iteration, loop)
    return Iterate(end.z, end.point, end.tau, end.status, end.iterations, end.residual, end.violation)


def _elastic(data: RowData, nu: int) -> Bool[Array, "nodes m B"]:
    """Hard rows other than those of the control box."""
    hard = ~(jnp.isfinite(data.linear) & jnp.isfinite(data.quadratic))
    return hard & (jnp.arange(hard.shape[1]) >= nu)[None, :, None]
