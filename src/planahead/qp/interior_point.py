"""A primal-dual interior-point method for batches of stage QPs: Mehrotra's predictor-corrector with a fixed smallest
barrier τ.

Each iteration factorises the Newton system of `newton` once and solves it twice:

    predictor   target τ:                         step α_aff, duality measure μ_aff
    corrector   target max(σ μ, τ), σ = (μ_aff/μ)³, with the predictor's second-order term Δλ∘Δt

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
from planahead.qp.lanes import along, choose, largest, matvec, matvec_transposed
from planahead.qp.newton import Residuals, Rows
from planahead.qp.status import Status
from planahead.qp.types import LaneQP, Point

_MARGIN = 0.1
"""Smallest distance to a bound at the start, relative to the bound's magnitude or the width of its box."""
_RECENTRE = 0.1
"""After a short step, pairs below this share of the mean complementarity are raised to it."""


Backend = Literal["auto", "native", "portable"]


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
    if value not in get_args(Backend):
        raise ValueError(f"{what}{value!r}); the known ones are {', '.join(map(repr, get_args(Backend)))}.")


class InteriorPoint(eqx.Module):
    """Settings of the solver. `None` means: chosen from the number format."""

    tolerance: float | None = eqx.field(static=True, default=None)
    """Largest relative residual of a solved lane: 1e-9 in float64, 2e-5 in float32."""
    tau: float | None = eqx.field(static=True, default=None)
    """The barrier at the solution, in units of cost: λ t = τ. Larger values smooth active-set changes. By default a
    small multiple (1e-11 in float64, 1e-6 in float32) of the gradient's magnitude, so that active bounds are met to
    about the format's precision."""
    iterations: int = eqx.field(static=True, default=60)
    backend: Backend = eqx.field(static=True, default="auto")
    """Who computes: the native kernel, this portable solver, or ("auto") the native one wherever it can."""

    def __check_init__(self):
        check_count("InteriorPoint(iterations=", self.iterations)
        check_backend("InteriorPoint(backend=", self.backend)
        for name in ("tolerance", "tau"):
            check_positive(f"InteriorPoint({name}=", getattr(self, name))

    def resolved_tolerance(self, dtype) -> float:
        return self.tolerance if self.tolerance is not None else (1e-9 if dtype == jnp.float64 else 2e-5)

    def resolved_tau(self, magnitude: Float[Array, " B"]) -> Float[Array, " B"]:
        if self.tau is not None:
            return jnp.full_like(magnitude, self.tau)
        return self.relative_tau(magnitude.dtype) * jnp.maximum(magnitude, 1e-3)

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
    respected."""


def solve(qp: LaneQP, settings: InteriorPoint, active: Bool[Array, " B"]) -> Outcome:
    """Solve all lanes of `qp` in which `active` holds; the others come back as they start, with status
    `INVALID_INPUT`."""
    is_valid = valid(qp)
    active = active & is_valid
    qp = neutral(qp, ~is_valid)
    rows = Rows(qp)
    dtype = qp.H.dtype
    tolerance = settings.resolved_tolerance(dtype)
    start, tau, gain = _start(qp, rows, settings)
    count = jnp.sum(rows.exists, (0, 1, 2)) + jnp.sum(rows.soft, (0, 1, 2))
    count = jnp.maximum(count, 1).astype(dtype)

    def mu(point: Point) -> Float[Array, " B"]:
        pairs = jnp.where(rows.exists, point.lam * point.t, 0.0) + jnp.where(rows.soft, point.s * point.lam_s, 0.0)
        return jnp.sum(pairs, (0, 1, 2)) / count

    def body(carry):
        point, residual, gain, active, status, iterations, error, stuck, boost, k = carry
        system = newton.factorise(qp, rows, point)
        predictor = newton.step(qp, rows, system, point, residual)
        alpha = _longest(rows, point, predictor)
        mu_now = mu(point)
        mu_affine = mu(_move(point, predictor, alpha))
        centring = jnp.clip(mu_affine / mu_now, 0.0, 1.0) ** 3
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
        alpha = jnp.minimum(1.0, 0.995 * _longest(rows, point, direction))
        moved = _move(point, direction, alpha)
        moved = _recentre(rows, moved, jnp.where(alpha < 0.3, _RECENTRE, 1e-3 * _RECENTRE) * mu(moved))
        moved_residual = newton.residuals(qp, rows, moved, tau)
        moved_error = relative_error(qp, rows, moved, moved_residual, tau)
        finite = jnp.isfinite(moved_error) & system.factor.definite
        accept = active & finite
        point = choose(accept, moved, point)
        residual = choose(accept, moved_residual, residual)
        gain = choose(accept, system.factor.K, gain)
        progress = moved_error < 0.9 * error
        stuck = jnp.where(accept & (progress | (alpha > 0.1)), 0, stuck + 1)
        error = jnp.where(accept, moved_error, error)
        boost = jnp.where(alpha < 0.1, 1.0, jnp.where(alpha < 0.3, 0.3, 0.0))
        iterations = iterations + active
        solved = accept & (error <= tolerance)
        stalled = active & ~solved & (~finite | (stuck >= 16))
        status = jnp.where(solved, Status.SOLVED, jnp.where(stalled, Status.STALLED, status))
        return point, residual, gain, active & ~solved & ~stalled, status, iterations, error, stuck, boost, k + 1

    def unfinished(carry):
        return jnp.any(carry[3]) & (carry[-1] < settings.iterations)

    first = newton.residuals(qp, rows, start, tau)
    error = relative_error(qp, rows, start, first, tau)
    done = error <= tolerance
    status = jnp.where(done, Status.SOLVED, Status.ITERATION_LIMIT)
    status = jnp.where(active, status, Status.INVALID_INPUT)
    zeros = jnp.zeros(active.shape, int)
    carry = (
        start,
        first,
        gain,
        active & ~done,
        status,
        zeros,
        error,
        zeros,
        jnp.zeros(active.shape, dtype),
        jnp.zeros((), int),
    )
    point, _, gain, _, status, iterations, error, *_ = jax.lax.while_loop(unfinished, body, carry)
    status = jnp.where(active & (status != Status.SOLVED) & _infeasible(qp, rows, point), Status.INFEASIBLE, status)
    return Outcome(point, status, iterations, error, tau, gain)


def _start(
    qp: LaneQP, rows: Rows, settings: InteriorPoint
) -> tuple[Point, Float[Array, " B"], Float[Array, "N nu nx B"]]:
    """Start from the solution without rows: where it keeps all of them, it is the answer. Also τ, in the units of the
    cost, and the feedback of that solution.

    Elsewhere bounded entries are moved inside, distances are at least a tenth, and λ t = μ₀ with μ₀ from the cost's
    magnitude.
    """
    blank = Point(
        z=jnp.zeros_like(qp.g),
        pi=jnp.zeros((qp.g.shape[0], *qp.c.shape[1:]), qp.g.dtype),
        t=jnp.ones_like(rows.bound),
        lam=jnp.zeros_like(rows.bound),
        s=jnp.where(rows.soft, 1.0, 0.0).astype(qp.g.dtype),
        lam_s=jnp.zeros_like(rows.bound),
    )
    nu, nothing = qp.control_size, jnp.zeros(qp.g.shape[-1], qp.g.dtype)
    if qp.initial_state is not None:
        z = jnp.concatenate([jnp.concatenate([blank.z[:1, :nu], qp.initial_state[None]], 1), blank.z[1:]])
        blank = eqx.tree_at(lambda point: point.z, blank, z)
    absent = eqx.tree_at(lambda r: (r.exists, r.soft), rows, (jnp.zeros_like(rows.exists), jnp.zeros_like(rows.soft)))
    system = newton.factorise(qp, absent, blank)
    free = _move(
        blank, newton.step(qp, absent, system, blank, newton.residuals(qp, absent, blank, nothing)), nothing + 1
    )
    usable = system.factor.definite & jnp.isfinite(largest(free.z) + largest(free.pi))
    free = choose(usable, free, blank)
    gradient = jax.vmap(matvec)(qp.H, free.z) + qp.g
    tau = settings.resolved_tau(largest(gradient))
    magnitude = jnp.maximum(largest(gradient), 1.0)
    distance = newton.sides(newton.row_values(qp, free.z)) - rows.bound
    width = jnp.where(rows.exists.all(1), -(rows.bound[:, 0] + rows.bound[:, 1]), jnp.inf)[:, None]
    margin = _MARGIN * jnp.minimum(jnp.maximum(1.0, jnp.abs(rows.bound)), width)
    inside = jnp.all((distance > 0) | ~rows.exists, (0, 1, 2)) & usable

    every, z, nz = along(inside, free.z), free.z, qp.g.shape[1]
    lower = jnp.where(rows.exists[:, 0, :nz], rows.bound[:, 0, :nz] + margin[:, 0, :nz], -jnp.inf)
    upper = jnp.where(rows.exists[:, 1, :nz], -rows.bound[:, 1, :nz] - margin[:, 1, :nz], jnp.inf)
    z = jnp.where(every, z, jnp.clip(z, lower, upper))
    distance = newton.sides(newton.row_values(qp, z)) - rows.bound
    short = jnp.maximum(-distance, 0.0)
    mu0, every = along(jnp.where(inside, tau, magnitude), short), along(inside, short)
    t = jnp.maximum(distance, jnp.where(every, 0.0, jnp.where(rows.soft, margin, jnp.maximum(margin, 0.5 * short))))
    t = jnp.where(rows.exists, t, 1.0)
    lam = jnp.where(rows.exists, mu0 / jnp.where(every, t, 1.0), 0.0)
    # A soft row starts without a row residual: its violation is what is missing, and its price is shared between λ and
    # λ_s.
    force = rows.linear + rows.quadratic * short
    lam = jnp.where(rows.soft & ~every, jnp.minimum(lam, 0.5 * force), lam)
    balanced = mu0 / jnp.maximum(force, jnp.sqrt(mu0 * jnp.maximum(rows.quadratic, 1e-12)))
    s = jnp.where(rows.soft, jnp.maximum(short, balanced), 0.0)
    lam_s = jnp.maximum(mu0 / jnp.where(rows.soft, s, 1.0), jnp.where(every, 0.0, force - lam))
    return Point(z, free.pi, t, lam, s, jnp.where(rows.soft, lam_s, 0.0)), tau, system.factor.K


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
    """The largest residual, each relative to the magnitude of the terms it is the difference of."""
    dual_scale = 1.0 + largest(qp.g) + largest(point.pi) + largest(point.lam)
    primal_scale = 1.0 + largest(point.z) + largest(qp.c)
    dual = jnp.maximum(largest(residual.stationarity), largest(residual.price)) / dual_scale
    primal = (
        jnp.maximum(jnp.maximum(largest(residual.dynamics), largest(residual.initial)), largest(residual.row))
        / primal_scale
    )
    # λt must meet τ itself, or the solution is not the smoothed one whose derivative is taken: to the tolerance, and to
    # a hundredth of τ.
    miss = jnp.maximum(largest(residual.complementarity), largest(residual.violation))
    return jnp.maximum(jnp.maximum(dual, primal), jnp.where(miss <= 0.01 * tau, miss / dual_scale, miss))


def valid(qp: LaneQP) -> Bool[Array, " B"]:
    """Whether all data are numbers and no lower bound is above its upper bound."""
    numbers = [qp.H, qp.g, qp.F, qp.c, qp.G] + ([] if qp.initial_state is None else [qp.initial_state])
    finite = jnp.isfinite(sum(largest(data) for data in numbers))
    nan = jnp.isinf(largest(jnp.where(jnp.isinf(qp.bound), 0.0, qp.bound)))
    nan |= jnp.any(jnp.isnan(qp.linear) | jnp.isnan(qp.quadratic), (0, 1)) | jnp.any(qp.bound == jnp.inf, (0, 1, 2))
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
    0. The control box alone contradicts nothing."""
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
    return jnp.any(hard[:, :, nu:], (0, 1, 2)) & (gap > 0) & (mismatch <= 1e-6 * gap)
