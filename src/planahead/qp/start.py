"""Where the interior-point method starts.

Without rows a stage QP is solved by one Newton step: z*, π*, and a feedback K. Where z* keeps all rows it is the
answer, but for τ. Elsewhere the start is a rollout of that feedback with clipped controls,

    u_k = clip(u*_k + K_k (x_k - x*_k)),     x_{k+1} = F_k (u_k, x_k) + c_k,

which satisfies the dynamics and does not run away where they are unstable. Distances t are at least a tenth of the
bound's magnitude (of 1, if that is larger) or of the width of its box, whichever is smaller, and multipliers are

    λ = μ₀,   μ₀ = mean |∂J/∂u_k|

with J the cost along the dynamics, by a sweep of adjoints (λ = τ / t where z* keeps all rows; at most half of the
price in soft rows). Multipliers of the control box have to balance ∂J/∂u, so μ₀ grows with the costates of unstable
dynamics under saturated controls; a start that ignores them stalls there.

A guess (z, π, λ) replaces the rollout in lanes where it says that some row is active: μ₀ is then a tenth of the
residual of stationarity at the guess, so the closer it is, the closer to the bounds the method starts, and pairs whose
product is below μ₀ are raised to it.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.qp import newton
from planahead.qp.lanes import along, choose, largest, matvec, matvec_transposed
from planahead.qp.newton import Rows
from planahead.qp.types import LaneQP, Point, QPGuess

_MARGIN = 0.1
"""Smallest distance to a bound, relative to the bound's magnitude or the width of its box."""
_SMALLEST = 1e-3
"""Of μ₀ relative to the cost's gradient at z*, for lanes whose controls are right and only states break their rows."""

_WARM = 0.1
"""Of μ₀ relative to the residual of stationarity at a guess."""

_HOT = 1e-5
"""The smallest μ₀ from a guess, relative to the cost's gradient at z*: hotter starts get stuck at rows whose activity
changes."""
_NARROW = 1e-6
"""Boxes narrower than this, of fixed controls for instance, start as if they had this width."""


class Start(NamedTuple):
    """A first iterate, τ in the units of the cost, and the feedback without rows, with the lanes in which that exists:
    where the Hessian is positive definite without rows."""

    point: Point
    tau: Float[Array, " B"]
    gain: Float[Array, "N nu nx B"]
    definite: Bool[Array, " B"]


def cost_unit(qp: LaneQP) -> Float[Array, " B"]:
    """What counts as one unit of cost: 1, or the largest curvature where that is smaller, so that a cost may be
    multiplied by any number. The dummy control of stage N has no say."""
    nu = qp.control_size
    curvature = jnp.maximum(largest(qp.H[:-1]), largest(qp.H[-1:, nu:, nu:]))
    return jnp.where(curvature > 0, jnp.minimum(curvature, 1.0), 1.0)


def start(
    qp: LaneQP,
    rows: Rows,
    resolve_tau: Callable[[Float[Array, " B"], Float[Array, " B"]], Float[Array, " B"]],
    guess: QPGuess | None = None,
    *,
    square_root: bool = False,
) -> Start:
    """The start of all lanes; `resolve_tau` turns the magnitude of the cost's gradient and its unit into τ, and
    `square_root` is the form of the recursion."""
    free, gain, usable = _without_rows(qp, rows, square_root)
    magnitude = largest(_cost_gradient(qp, free.z))
    unit = cost_unit(qp)
    tau = resolve_tau(magnitude, unit)
    distance = newton.sides(newton.row_values(qp, free.z)) - rows.bound
    inside = jnp.all((distance > 0) | ~rows.exists, (0, 1, 2)) & usable
    width = jnp.where(rows.exists.all(1), -(rows.bound[:, 0] + rows.bound[:, 1]), jnp.inf)[:, None]
    margin = _MARGIN * jnp.minimum(jnp.maximum(1.0, jnp.abs(rows.bound)), jnp.maximum(width, _NARROW))
    z = choose(inside, free.z, _roll_out(qp, rows, free.z, gain, margin))
    mu = jnp.maximum(_mean_slope(qp, z), _SMALLEST * jnp.maximum(magnitude, unit))
    pi, warm, given = free.pi, jnp.zeros_like(inside), jnp.zeros_like(rows.bound)
    if guess is not None:
        given = jnp.where(rows.exists, guess.lam, 0.0)
        finite = jnp.isfinite(largest(guess.z) + largest(guess.pi) + largest(given))
        warm = ~inside & finite & (largest(given) > 0)
        z, pi = choose(warm, (guess.z, guess.pi), (z, pi))
        least = jnp.maximum(_HOT * jnp.maximum(magnitude, unit), tau)
        zeros = jnp.zeros_like(given)
        residual = newton.residuals(qp, rows, Point(z, pi, zeros, given, zeros, zeros), tau)
        mu = jnp.where(warm, jnp.maximum(_WARM * largest(residual.stationarity), least), mu)
        given = jnp.where(along(warm, given), jnp.maximum(given, 0.0), 0.0)
    point = _place_rows(qp, rows, z, pi, inside, warm, given, jnp.where(inside, tau, mu), margin)
    return Start(point, tau, gain, usable)


def _without_rows(
    qp: LaneQP, rows: Rows, square_root: bool
) -> tuple[Point, Float[Array, "N nu nx B"], Bool[Array, " B"]]:
    """The solution without rows, its feedback, and the lanes in which it is one; zero in the others."""
    nu, zeros = qp.control_size, jnp.zeros_like(rows.bound)
    z = jnp.zeros_like(qp.g)
    if qp.initial_state is not None:
        z = jnp.concatenate([jnp.concatenate([z[:1, :nu], qp.initial_state[None]], 1), z[1:]])
    pi = jnp.zeros((z.shape[0], *qp.c.shape[1:]), z.dtype)
    blank = Point(z, pi, zeros + 1, zeros, zeros, zeros)
    none = jnp.zeros_like(rows.exists)
    absent = eqx.tree_at(lambda rows: (rows.exists, rows.soft), rows, (none, none))
    system = newton.factorise(qp, absent, blank, square_root=square_root)
    residual = newton.residuals(qp, absent, blank, jnp.zeros(z.shape[-1], z.dtype))
    step = newton.step(qp, absent, system, blank, residual)
    free = eqx.tree_at(lambda point: (point.z, point.pi), blank, (blank.z + step.z, blank.pi + step.pi))
    usable = system.factor.definite & jnp.isfinite(largest(free.z) + largest(free.pi))
    return choose(usable, free, blank), system.factor.K, usable


def _roll_out(
    qp: LaneQP,
    rows: Rows,
    free: Float[Array, "nodes nz B"],
    gain: Float[Array, "N nu nx B"],
    margin: Float[Array, "nodes 2 m B"],
) -> Float[Array, "nodes nz B"]:
    """The feedback without rows, its controls clipped, through the dynamics; where that is not finite, `free` with its
    controls clipped."""
    nu = qp.control_size
    inner = jnp.where(rows.exists, rows.bound + margin, -jnp.inf)[:, :, :nu]
    low, high = inner[:, 0], -inner[:, 1]

    def forward(x, stage):
        z_free, K, F, c, low, high = stage
        u = jnp.clip(z_free[:nu] + matvec(K, x - z_free[nu:]), low, high)
        z = jnp.concatenate([u, x])
        return matvec(F, z) + c, z

    x_N, z = jax.lax.scan(forward, free[0, nu:], (free[:-1], gain, qp.F, qp.c, low[:-1], high[:-1]))
    rolled = jnp.concatenate([z, jnp.concatenate([free[-1, :nu], x_N])[None]])
    clipped = jnp.concatenate([jnp.clip(free[:, :nu], low, high), free[:, nu:]], 1)
    return choose(jnp.isfinite(largest(rolled)), rolled, clipped)


def _cost_gradient(qp: LaneQP, z: Float[Array, "nodes nz B"]) -> Float[Array, "nodes nz B"]:
    return jax.vmap(matvec)(qp.H, z) + qp.g


def _mean_slope(qp: LaneQP, z: Float[Array, "nodes nz B"]) -> Float[Array, " B"]:
    """mean |∂J/∂u_k| at z; 0 where it is no number."""
    nu, gradient = qp.control_size, _cost_gradient(qp, z)

    def backward(costate, stage):
        F, g = stage
        slope = g + matvec_transposed(F, costate)
        return slope[nu:], jnp.abs(slope[:nu])

    _, slopes = jax.lax.scan(backward, gradient[-1, nu:], (qp.F, gradient[:-1]), reverse=True)
    mean = jnp.mean(slopes, (0, 1))
    return jnp.where(jnp.isfinite(mean), mean, 0.0)


def _place_rows(
    qp: LaneQP,
    rows: Rows,
    z: Float[Array, "nodes nz B"],
    pi: Float[Array, "nodes nx B"],
    inside: Bool[Array, " B"],
    warm: Bool[Array, " B"],
    given: Float[Array, "nodes 2 m B"],
    mu: Float[Array, " B"],
    margin: Float[Array, "nodes 2 m B"],
) -> Point:
    """Distances, multipliers and violations for `z`; `inside`: it keeps all rows; `warm`: it is the guess, with the
    multipliers `given`."""
    distance = newton.sides(newton.row_values(qp, z)) - rows.bound
    short = jnp.maximum(-distance, 0.0)
    mu, inside, warm = along(mu, short), along(inside, short), along(warm, short)
    least = jnp.where(rows.soft, margin, jnp.maximum(margin, 0.5 * short))
    least = jnp.where(warm, mu / jnp.maximum(given, jnp.sqrt(mu)), least)
    t = jnp.where(rows.exists, jnp.maximum(distance, jnp.where(inside, 0.0, least)), 1.0)
    lam = jnp.where(warm, jnp.maximum(given, mu / t), mu / jnp.where(inside, t, 1.0))
    lam = jnp.where(rows.exists, lam, 0.0)
    # A soft row starts without a row residual: its violation is what is missing, and its price is shared between λ and
    # λ_s.
    force = rows.linear + rows.quadratic * short
    lam = jnp.where(rows.soft & ~inside, jnp.minimum(lam, jnp.where(warm, 0.99, 0.5) * force), lam)
    balanced = mu / jnp.maximum(force, jnp.sqrt(mu * jnp.maximum(rows.quadratic, 1e-12)))
    s = jnp.where(rows.soft, jnp.maximum(short, balanced), 0.0)
    lam_s = jnp.maximum(mu / jnp.where(rows.soft, s, 1.0), jnp.where(inside, 0.0, force - lam))
    return Point(z, pi, t, lam, s, jnp.where(rows.soft, lam_s, 0.0))
