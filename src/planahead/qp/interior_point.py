"""A primal-dual interior-point method for batches of stage QPs: Mehrotra's predictor-corrector with a fixed smallest
barrier τ.

Each iteration factorises the Newton system of `newton` once and solves it twice:

    predictor   target τ:                         step α_aff, duality measure μ_aff
    corrector   target max(σ μ, τ), σ = (μ_aff/μ)⁴, with the predictor's second-order term Δλ∘Δt

(the fourth power, where Mehrotra has the third, saves a hundredth of the iterations of random problems).

The iterates end at λ t = τ rather than at zero, so a solution is a smooth function of the data, and the smoother the
larger τ. The loop is written over the batch: a lane that has ended is left as it is, and a lane that fails is frozen at
its last finite iterate.

References: S. Mehrotra, SIAM J. Optim. 2 (1992); G. Frison, M. Diehl, HPIPM, IFAC 2020; for τ: J. Frey et al., arXiv
2505.01353. Fails, and says so, where the reduced Hessian is not positive definite, or where the numbers span more than
the format holds.
"""

from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from planahead.qp import newton
from planahead.qp.lanes import along, choose, largest, matvec_transposed
from planahead.qp.newton import Residuals, Rows
from planahead.qp.start import cost_unit, start
from planahead.qp.status import Status
from planahead.qp.types import LaneQP, Point, QPGuess

_RECENTRE = 0.1
"""After a short step, pairs below this share of the mean complementarity are raised to it."""
_RAISE = 10.0
"""After a very short step, or where steps lead nowhere, the target is so many times the mean complementarity:
multipliers that grow large, as those of a contradiction do, need a larger barrier than the first one, and so does a
pair far above the mean, around which predictor and corrector can cycle."""
_WEARY = 5
"""After so many iterations without a smaller residual the barrier is raised."""
_PATIENCE = 30
"""A lane stalls after so many very short steps in a row without progress."""


Backend = Literal["auto", "native", "portable"]
Arithmetic = Literal["float64", "float32"]
Riccati = Literal["classic", "square-root"]


def check_positive(what: str, value: float | None) -> None:
    """Raise `ValueError` unless `value` is a positive number or `None`."""
    if value is not None and not value > 0:
        raise ValueError(f"{what}{value}); a positive number was expected, or None for the default.")


def check_count(what: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is a whole number, at least 0."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{what}{value!r}); a whole number, at least 0, was expected.")


def check_backend(what: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is a `Backend`."""
    _check_known(what, value, get_args(Backend))


def check_arithmetic(what: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is an `Arithmetic`."""
    _check_known(what, value, get_args(Arithmetic))


def _check_known(what: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what}{value!r}); the known ones are {', '.join(map(repr, known))}.")


class InteriorPoint(eqx.Module):
    """Settings of the solver. `None` means: chosen from the number format."""

    tolerance: float | None = eqx.field(static=True, default=None)
    """Largest relative residual of a solved lane: 1e-9 in float64, 2e-5 in float32."""
    tau: float | None = eqx.field(static=True, default=None)
    """The barrier at the solution, in units of cost: λ t = τ. Larger values smooth active-set changes. By default a
    small multiple (1e-11 in float64, 1e-6 in float32) of the gradient's magnitude, so that active bounds are met to
    about the format's precision."""
    iterations: int = eqx.field(static=True, default=60)
    """At most, in either arithmetic."""
    backend: Backend = eqx.field(static=True, default="auto")
    """Who computes: the native kernel, this portable solver, or ("auto") the native one wherever it can."""
    arithmetic: Arithmetic = eqx.field(static=True, default="float64")
    """What the native kernel solves float32 problems in. In float32 twice as many problems share a vector; those that
    rounding brings to a standstill are solved again in float64, and have the iterations of both. The portable solver
    computes in the problem's format, and float64 problems are always solved in float64."""

    riccati: Riccati = eqx.field(static=True, default="classic")
    """The form of the recursion (see `riccati.py`). "square-root" keeps the value function convex whatever the
    rounding, and calls lanes STALLED whose cost is not; "classic" needs convexity only along the dynamics, and is
    faster."""

    def __check_init__(self):
        check_count("InteriorPoint(iterations=", self.iterations)
        check_backend("InteriorPoint(backend=", self.backend)
        check_arithmetic("InteriorPoint(arithmetic=", self.arithmetic)
        _check_known("InteriorPoint(riccati=", self.riccati, get_args(Riccati))
        for name in ("tolerance", "tau"):
            check_positive(f"InteriorPoint({name}=", getattr(self, name))

    def resolved_tolerance(self, dtype) -> float:
        return self.tolerance if self.tolerance is not None else (1e-9 if dtype == jnp.float64 else 2e-5)

    def resolved_tau(self, magnitude: Float[Array, " B"], unit: Float[Array, " B"]) -> Float[Array, " B"]:
        """τ for a gradient of the cost of this `magnitude` and a `cost_unit`."""
        if self.tau is not None:
            return jnp.full_like(magnitude, self.tau)
        return self.relative_tau(magnitude.dtype) * jnp.maximum(magnitude, 1e-3 * unit)

    def relative_tau(self, dtype) -> float:
        """The default τ as a multiple of the gradient's magnitude."""
        return 1e-11 if dtype == jnp.float64 else 1e-6


class Outcome(eqx.Module):
    """Where every lane ended."""

    point: Point
    status: Int[Array, " B"]
    iterations: Int[Array, " B"]
    residual: Float[Array, " B"]
    tau: Float[Array, " B"]
    gain: Float[Array, "N nu nx B"]
    """Feedback u = K x of the last Newton system: what the controls do when the states deviate, active bounds
    respected. Zero where that was not positive definite."""


def solve(qp: LaneQP, settings: InteriorPoint, active: Bool[Array, " B"], guess: QPGuess | None = None) -> Outcome:
    """Solve all lanes of `qp` in which `active` holds; the others come back as they start, with status
    `INVALID_INPUT`."""
    is_valid = valid(qp)
    active = active & is_valid
    qp = neutral(qp, ~is_valid)
    rows = Rows(qp)
    dtype = qp.H.dtype
    tolerance = settings.resolved_tolerance(dtype)
    square_root = settings.riccati == "square-root"
    first_point, tau, gain, definite = start(qp, rows, settings.resolved_tau, guess, square_root=square_root)
    count = jnp.sum(rows.exists, (0, 1, 2)) + jnp.sum(rows.soft, (0, 1, 2))
    count = jnp.maximum(count, 1).astype(dtype)

    def mu(point: Point) -> Float[Array, " B"]:
        pairs = jnp.where(rows.exists, point.lam * point.t, 0.0) + jnp.where(rows.soft, point.s * point.lam_s, 0.0)
        return jnp.sum(pairs, (0, 1, 2)) / count

    def body(carry):
        point, residual, gain, active, status, iterations, error, best, stuck, idle, boost, k = carry
        system = newton.factorise(qp, rows, point, square_root=square_root)
        predictor = newton.step(qp, rows, system, point, residual)
        alpha = _longest(rows, point, predictor)
        mu_now = mu(point)
        mu_affine = mu(_move(point, predictor, alpha))
        centring = jnp.clip(mu_affine / mu_now, 0.0, 1.0) ** 4
        target = jnp.maximum(mu_now * jnp.maximum(centring, boost), tau)
        second, target = along(jnp.where(boost > 0, 0.0, 1.0), point.t), along(target, point.t)
        corrected = eqx.tree_at(
            lambda r: (r.complementarity, r.violation),
            residual,
            (
                jnp.where(rows.exists, point.lam * point.t + second * predictor.lam * predictor.t - target, 0.0),
                jnp.where(rows.soft, point.s * point.lam_s + second * predictor.s * predictor.lam_s - target, 0.0),
            ),
        )
        direction = newton.step(qp, rows, system, point, corrected)
        alpha = _shortened(_longest(rows, point, direction))
        moved = _move(point, direction, alpha)
        moved = _recentre(rows, moved, jnp.where(alpha < 0.3, _RECENTRE, 1e-3 * _RECENTRE) * mu(moved))
        moved_residual = newton.residuals(qp, rows, moved, tau)
        moved_error = relative_error(qp, rows, moved, moved_residual, tau)
        finite = jnp.isfinite(moved_error) & system.factor.definite
        accept = active & finite
        point = choose(accept, moved, point)
        residual = choose(accept, moved_residual, residual)
        gain = choose(active, choose(system.factor.definite, system.factor.K, jnp.zeros_like(gain)), gain)
        progress = moved_error < 0.9 * error
        stuck = jnp.where(accept & (progress | (alpha > 0.1)), 0, stuck + 1)
        error = jnp.where(accept, moved_error, error)
        idle = jnp.where(moved_error < 0.9 * best, 0, idle + 1)
        best = jnp.minimum(best, moved_error)
        weary = idle >= _WEARY
        idle = jnp.where(weary, 0, idle)
        boost = jnp.where((alpha < 0.1) | weary, _RAISE, jnp.where(alpha < 0.3, 0.3, 0.0)).astype(dtype)
        iterations = iterations + active
        solved = accept & (error <= tolerance)
        stalled = active & ~solved & (~finite | (stuck >= _PATIENCE))
        status = jnp.where(solved, Status.SOLVED, jnp.where(stalled, Status.STALLED, status))
        active = active & ~solved & ~stalled
        return point, residual, gain, active, status, iterations, error, best, stuck, idle, boost, k + 1

    def unfinished(carry):
        return jnp.any(carry[3]) & (carry[-1] < settings.iterations)

    first = newton.residuals(qp, rows, first_point, tau)
    error = relative_error(qp, rows, first_point, first, tau)
    done = (error <= tolerance) & definite
    status = jnp.where(done, Status.SOLVED, Status.ITERATION_LIMIT)
    status = jnp.where(active, status, Status.INVALID_INPUT)
    zeros = jnp.zeros(active.shape, int)
    carry = (
        first_point,
        first,
        gain,
        active & ~done,
        status,
        zeros,
        error,
        jnp.full(active.shape, jnp.inf, dtype),
        zeros,
        zeros,
        jnp.zeros(active.shape, dtype),
        jnp.zeros((), int),
    )
    point, _, gain, _, status, iterations, error, *_ = jax.lax.while_loop(unfinished, body, carry)
    status = jnp.where(active & (status != Status.SOLVED) & _infeasible(qp, rows, point), Status.INFEASIBLE, status)
    return Outcome(point, status, iterations, error, tau, gain)


def _longest(rows: Rows, point: Point, direction: Point) -> Float[Array, " B"]:
    """The longest step up to 1 at which no distance, multiplier or violation becomes negative."""

    def ratio(value, change, where):
        return jnp.where(where & (change < 0), -value / jnp.where(change < 0, change, -1.0), jnp.inf)

    ratios = (
        ratio(point.t, direction.t, rows.exists),
        ratio(point.lam, direction.lam, rows.exists),
        ratio(point.s, direction.s, rows.soft),
        ratio(point.lam_s, direction.lam_s, rows.soft),
    )
    smallest = jnp.minimum(jnp.minimum(ratios[0], ratios[1]), jnp.minimum(ratios[2], ratios[3]))
    return jnp.minimum(1.0, jnp.min(smallest, (0, 1, 2), initial=jnp.inf))


def _shortened(alpha: Float[Array, " B"]) -> Float[Array, " B"]:
    """A step that keeps some of its distance to the nearest row: a hundredth if it is short, next to nothing if it is
    nearly whole (the rule of HPIPM)."""
    return jnp.where(alpha < 1.0, alpha * ((1.0 - alpha) * 0.99 + alpha * 0.9999999), alpha)


def _recentre(rows: Rows, point: Point, least: Float[Array, " B"]) -> Point:
    """Raise the factors of every pair whose product is below `least`; none by more than √least."""
    least = along(least, point.t)
    root = jnp.sqrt(least)

    def pair(a, b, where):
        a = jnp.where(where, jnp.maximum(a, least / jnp.maximum(b, root)), a)
        return a, jnp.where(where, jnp.maximum(b, least / jnp.maximum(a, root)), b)

    t, lam = pair(point.t, point.lam, rows.exists)
    s, lam_s = pair(point.s, point.lam_s, rows.soft)
    return Point(point.z, point.pi, t, lam, s, lam_s)


def _move(point: Point, direction: Point, alpha: Float[Array, " B"]) -> Point:
    return jax.tree.map(lambda value, change: value + along(alpha, value) * change, point, direction)


def relative_error(
    qp: LaneQP, rows: Rows, point: Point, residual: Residuals, tau: Float[Array, " B"]
) -> Float[Array, " B"]:
    """The largest residual, each relative to the magnitude of the terms it is the difference of, or to one unit of
    cost or of z where these vanish."""
    unit = cost_unit(qp)
    dual_scale = unit + largest(qp.g) + largest(point.pi) + largest(point.lam)
    primal_scale = 1.0 + largest(point.z) + largest(qp.c)
    dual = jnp.maximum(largest(residual.stationarity), largest(residual.price)) / dual_scale
    primal = (
        jnp.maximum(jnp.maximum(largest(residual.dynamics), largest(residual.initial)), largest(residual.row))
        / primal_scale
    )
    # λt must meet τ itself, or the solution is not the smoothed one whose derivative is taken: to the tolerance, and to
    # a ten-thousandth of τ.
    miss = jnp.maximum(largest(residual.complementarity), largest(residual.violation))
    return jnp.maximum(jnp.maximum(dual, primal), jnp.where(miss <= 1e-4 * tau, miss / dual_scale, miss / unit))


def valid(qp: LaneQP) -> Bool[Array, " B"]:
    """Whether all data are numbers and no lower bound is above its upper bound."""
    numbers = [qp.H, qp.g, qp.F, qp.c, qp.G] + ([] if qp.initial_state is None else [qp.initial_state])
    finite = jnp.isfinite(sum(largest(data) for data in numbers))
    nan = jnp.isinf(largest(jnp.where(jnp.isinf(qp.bound), 0.0, qp.bound)))
    priced = jnp.any(jnp.isfinite(qp.bound), 1)  # prices of rows that do not exist mean nothing
    nan |= jnp.any(priced & (jnp.isnan(qp.linear) | jnp.isnan(qp.quadratic)), (0, 1))
    nan |= jnp.any(qp.bound == jnp.inf, (0, 1, 2))
    crossed = jnp.any(qp.bound[:, 0] > -qp.bound[:, 1], (0, 1))
    return finite & ~nan & ~crossed


def neutral(qp: LaneQP, lanes: Bool[Array, " B"]) -> LaneQP:
    """Replace the data of `lanes` by those of a problem that is solved by zero, so that no NaN can leave them."""
    blank = LaneQP(
        H=jnp.broadcast_to(jnp.eye(qp.H.shape[1], dtype=qp.H.dtype)[None, :, :, None], qp.H.shape),
        g=jnp.zeros_like(qp.g),
        F=jnp.zeros_like(qp.F),
        c=jnp.zeros_like(qp.c),
        G=jnp.zeros_like(qp.G),
        bound=jnp.full_like(qp.bound, -jnp.inf),
        linear=jnp.full_like(qp.linear, jnp.inf),
        quadratic=jnp.full_like(qp.quadratic, jnp.inf),
        initial_state=None if qp.initial_state is None else jnp.zeros_like(qp.initial_state),
    )
    return choose(lanes, blank, qp)


def _infeasible(qp: LaneQP, rows: Rows, point: Point) -> Bool[Array, " B"]:
    """Whether the multipliers prove that the hard rows contradict the dynamics (Farkas): Eᵀπ = Gᵀσλ with λᵀb + πᵀc >
    0. The control box alone contradicts nothing.

    A mismatch of the equation leaves room for feasible points that are gap / mismatch away: that must be a million
    times further than anything here.
    """
    nu = qp.control_size
    hard = rows.exists & ~rows.soft
    lam = jnp.where(hard, point.lam, 0.0)
    pull = newton.row_pull(qp, newton.net(lam))
    costates = jnp.concatenate([jnp.zeros_like(point.z[:, :nu]), point.pi], 1)
    pulled = jnp.concatenate([jax.vmap(matvec_transposed)(qp.F, point.pi[1:]), jnp.zeros_like(qp.g[:1])])
    mismatch = largest(pulled - costates - pull)
    gap = jnp.sum(lam * rows.bound, (0, 1, 2)) + jnp.sum(point.pi[1:] * qp.c, (0, 1))
    if qp.initial_state is not None:
        gap = gap + jnp.sum(point.pi[0] * qp.initial_state, 0)
    size = jnp.maximum(1.0, jnp.maximum(largest(point.z), largest(rows.bound)))
    return jnp.any(hard[:, :, nu:], (0, 1, 2)) & (gap > 0) & (mismatch * size <= 1e-6 * gap)
