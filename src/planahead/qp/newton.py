"""One Newton step on the smoothed optimality conditions of a stage QP with two-sided, hard or soft rows.

With v = all z_k, row values G v, sides σ ∈ {+1 (lower), -1 (upper)}, and for every side of every row a distance t, a
multiplier λ, a violation s (soft rows only) and its multiplier λ_s, the conditions smoothed by τ are

    H v + g + Eᵀπ - Gᵀ(σλ) = 0     stationarity        λ t = τ      complementarity
    E v + c                = 0     dynamics            s λ_s = τ      complementarity of the violation
    σ G v - b + s - t      = 0     rows                Z s + z - λ - λ_s = 0   price of the violation

With Γ = λ/t, Γ_s = λ_s/s and w = 1/(Z + Γ + Γ_s), the row variables are eliminated (hard rows are the limit Z → ∞, so
w = 0):

    Γ̃ = Γ (Z + Γ_s) w,     ρ = (Z + Γ_s) w (r_λt/t + Γ r_row) - Γ w (r_price + r_sλ_s/s),     Δλ = -Γ̃ σ G Δv - ρ

and what remains is the QP with H + GᵀΓ̃G and gradient r_stat + Gᵀ(σρ), solved by `riccati`. The system is symmetric, so
the same step with other right-hand sides is also its adjoint. Residuals are the left-hand sides minus the right-hand
sides.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.qp import riccati
from planahead.qp.lanes import along, largest, matmul_transposed, matvec, matvec_transposed
from planahead.qp.types import LaneQP, Point


class Rows(eqx.Module):
    """The rows of a QP with masks instead of infinities."""

    exists: Bool[Array, "nodes 2 m B"]
    soft: Bool[Array, "nodes 2 m B"]
    bound: Float[Array, "nodes 2 m B"]
    linear: Float[Array, "nodes 2 m B"]
    quadratic: Float[Array, "nodes 2 m B"]

    def __init__(self, qp: LaneQP):
        priced = (jnp.isfinite(qp.linear) & jnp.isfinite(qp.quadratic))[:, None]
        self.exists = jnp.isfinite(qp.bound)
        self.soft = self.exists & priced
        self.bound = jnp.where(self.exists, qp.bound, 0.0)
        self.linear = jnp.where(self.soft, qp.linear[:, None], 0.0)
        self.quadratic = jnp.where(self.soft, qp.quadratic[:, None], 0.0)


class Residuals(eqx.Module):
    """Residuals of the six conditions above, and of the initial state."""

    stationarity: Float[Array, "nodes nz B"]
    dynamics: Float[Array, "N nx B"]
    initial: Float[Array, "nx B"]
    row: Float[Array, "nodes 2 m B"]
    complementarity: Float[Array, "nodes 2 m B"]
    price: Float[Array, "nodes 2 m B"]
    violation: Float[Array, "nodes 2 m B"]


class System(eqx.Module):
    """The factorised Newton system at a point."""

    factor: riccati.Factor
    barrier: Float[Array, "nodes 2 m B"]  # Γ
    share: Float[Array, "nodes 2 m B"]  # (Z + Γ_s) w, 1 in hard rows
    w: Float[Array, "nodes 2 m B"]


def sides(rows: Float[Array, "nodes m *B"]) -> Float[Array, "nodes 2 m *B"]:
    """σ times a row quantity, for both sides."""
    return jnp.stack([rows, -rows], 1)


def net(two_sided: Float[Array, "nodes 2 m *B"]) -> Float[Array, "nodes m *B"]:
    """Σ over both sides of σ times a two-sided quantity; the transpose of `sides`."""
    return two_sided[:, 0] - two_sided[:, 1]


def row_values(qp: LaneQP, z: Float[Array, "nodes nz B"]) -> Float[Array, "nodes m B"]:
    """G z."""
    if qp.G.shape[1] == 0:
        return z
    return jnp.concatenate([z, jax.vmap(matvec)(qp.G, z)], 1)


def row_pull(qp: LaneQP, y: Float[Array, "nodes m B"]) -> Float[Array, "nodes nz B"]:
    """Gᵀ y."""
    nz = qp.g.shape[1]
    if qp.G.shape[1] == 0:
        return y
    return y[:, :nz] + jax.vmap(matvec_transposed)(qp.G, y[:, nz:])


def residuals(qp: LaneQP, rows: Rows, point: Point, tau: Float[Array, " B"], *, at_zero: bool = False) -> Residuals:
    """All residuals at `point`; with `at_zero` those at z = 0, whatever `point.z` is, which need no product with H, F
    and G."""
    nu = qp.control_size
    z = jnp.zeros_like(point.z) if at_zero else point.z
    x = z[:, nu:]
    tau = along(tau, point.t)
    curvature = z if at_zero else jax.vmap(matvec)(qp.H, z)
    moved = jnp.zeros_like(qp.c) if at_zero else jax.vmap(matvec)(qp.F, z[:-1])
    values = jnp.zeros_like(qp.linear) if at_zero else row_values(qp, z)
    stationarity = curvature + qp.g - row_pull(qp, net(point.lam))
    pulled = jnp.concatenate([jax.vmap(matvec_transposed)(qp.F, point.pi[1:]), jnp.zeros_like(qp.g[:1])])
    costates = jnp.concatenate([jnp.zeros_like(z[:, :nu]), point.pi], 1)
    initial = jnp.zeros_like(x[0]) if qp.initial_state is None else qp.initial_state - x[0]
    return Residuals(
        stationarity=stationarity + pulled - costates,
        dynamics=moved + qp.c - x[1:],
        initial=initial,
        row=jnp.where(rows.exists, sides(values) - rows.bound + point.s - point.t, 0.0),
        complementarity=jnp.where(rows.exists, point.lam * point.t - tau, 0.0),
        price=jnp.where(rows.soft, rows.quadratic * point.s + rows.linear - point.lam - point.lam_s, 0.0),
        violation=jnp.where(rows.soft, point.s * point.lam_s - tau, 0.0),
    )


def conditioned(qp: LaneQP, rows: Rows, point: Point) -> Point:
    """`point` with distances raised so that no Γ exceeds the Hessian's magnitude by more than 1/√ε of the number
    format.

    Sensitivities of multipliers are differences of size Γ·ε, and what a finite Γ leaves of an active row's motion is of
    size H/Γ: this is where the two errors are equal.
    """
    largest_barrier = along(jnp.maximum(largest(qp.H), 1.0) / jnp.sqrt(jnp.finfo(qp.H.dtype).eps), point.t)
    t = jnp.where(rows.exists, jnp.maximum(point.t, point.lam / largest_barrier), point.t)
    s = jnp.where(rows.soft, jnp.maximum(point.s, point.lam_s / largest_barrier), point.s)
    return Point(point.z, point.pi, t, point.lam, s, point.lam_s)


def factorise(qp: LaneQP, rows: Rows, point: Point, *, square_root: bool = False) -> System:
    """Eliminate the row variables and factorise."""
    barrier = jnp.where(rows.exists, point.lam / point.t, 0.0)
    barrier_s = jnp.where(rows.soft, point.lam_s / jnp.where(rows.soft, point.s, 1.0), 0.0)
    stiffness = rows.quadratic + barrier_s
    w = jnp.where(rows.soft, 1.0 / jnp.where(rows.soft, stiffness + barrier, 1.0), 0.0)
    share = jnp.where(rows.soft, stiffness * w, 1.0)
    nz = qp.g.shape[1]
    weight = jnp.sum(barrier * share, 1)
    H = qp.H + jnp.eye(nz, dtype=qp.H.dtype)[None, :, :, None] * weight[:, :nz, None]
    if qp.G.shape[1]:
        H = H + jax.vmap(matmul_transposed)(qp.G, weight[:, nz:, None] * qp.G)
    factor = riccati.factorise(H, qp.F, free_initial_state=qp.initial_state is None, square_root=square_root)
    return System(factor, barrier, share, w)


def step(qp: LaneQP, rows: Rows, system: System, point: Point, residual: Residuals) -> Point:
    """The Newton step that cancels `residual` to first order."""
    inverse_s = jnp.where(rows.soft, 1.0 / jnp.where(rows.soft, point.s, 1.0), 0.0)
    toward_row = residual.complementarity / point.t + system.barrier * residual.row
    toward_price = residual.price + residual.violation * inverse_s
    rho = system.share * toward_row - system.barrier * system.w * toward_price
    dz, dpi = riccati.solve(
        system.factor, qp.F, residual.stationarity + row_pull(qp, net(rho)), residual.dynamics, residual.initial
    )
    moved = sides(row_values(qp, dz))
    dlam = -system.barrier * system.share * moved - rho
    ds = -system.w * (toward_price + toward_row + system.barrier * moved)
    dt = jnp.where(rows.exists, moved + ds + residual.row, 0.0)
    dlam_s = jnp.where(rows.soft, -(residual.violation + point.lam_s * ds) * inverse_s, 0.0)
    return Point(dz, dpi, dt, dlam, ds, dlam_s)
