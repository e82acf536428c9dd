"""Derivatives of a QP's solution by the implicit function theorem: one factorisation, one back-solve, no Jacobian.

At a solution y = (v, π, λ, …) of the smoothed conditions R(y; data) = 0, a cotangent ȳ on the solution gives

    (∂R/∂y)ᵀ w = ȳ,        cotangent of the data = -(∂R/∂data)ᵀ w

The conditions are symmetric up to the signs of λ and s, so w is a Newton step whose right-hand sides are the
cotangents, and the second product is `data_cotangents`. The system is factorised at a nearby
point where it is well conditioned (`newton.conditioned`), which leaves an error of √ε; one step of iterative refinement
with the true system squares that.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.qp import newton
from planahead.qp.newton import Residuals, Rows, System
from planahead.qp.types import LaneQP, Point


def factorise(qp: LaneQP, rows: Rows, point: Point, square_root: bool = False) -> System:
    """The system that `adjoint` solves with."""
    return newton.factorise(qp, rows, newton.conditioned(qp, rows, point), square_root=square_root)


def adjoint(qp: LaneQP, rows: Rows, system: System, point: Point, cotangent: Point) -> Residuals:
    """-w as cotangents of the residuals: `data_cotangents` of what this returns is the cotangent of the data.

    `system` comes from `factorise`.
    `cotangent.t` and `cotangent.lam_s` are ignored: distances and the violations' multipliers are not outputs.
    """
    zeros = jnp.zeros_like(point.t)
    seeds = Residuals(
        stationarity=-cotangent.z,
        dynamics=-cotangent.pi[1:],
        initial=-cotangent.pi[0],
        row=jnp.where(rows.exists, cotangent.lam, 0.0),
        complementarity=zeros,
        price=jnp.where(rows.soft, -cotangent.s, 0.0),
        violation=zeros,
    )
    near = newton.conditioned(qp, rows, point)
    w = newton.step(qp, rows, system, near, seeds)
    tau = jnp.zeros(zeros.shape[-1], zeros.dtype)
    _, reached = jax.jvp(lambda point: newton.residuals(qp, rows, point, tau), (point,), (w,))
    correction = newton.step(qp, rows, system, near, jax.tree.map(jnp.add, seeds, reached))
    w = jax.tree.map(jnp.add, w, correction)
    return Residuals(
        stationarity=-w.z,
        dynamics=-w.pi[1:],
        initial=-w.pi[0],
        row=w.lam,
        complementarity=zeros,
        price=-w.s,
        violation=zeros,
    )


def data_cotangents(qp: LaneQP, point: Point, weights: Residuals) -> LaneQP:
    """The cotangents of one lane's data from those of its residuals at a fixed point: what `jax.vjp` of
    `newton.residuals` by the data gives, written out.

    Products of a few vectors, which XLA sums over lanes and stages while it makes them, where those share the data; the
    matrices of every lane never exist.
    """
    nz, z = qp.g.shape[1], point.z
    rows = Rows(jax.tree.map(lambda leaf: leaf[..., None], qp))
    exists, soft = rows.exists[..., 0], rows.soft[..., 0]
    stationarity, row = weights.stationarity, jnp.where(exists, weights.row, 0.0)
    price = jnp.where(soft, weights.price, 0.0)
    return LaneQP(
        H=_outer(stationarity, z),
        g=stationarity,
        F=_outer(weights.dynamics, z[:-1]) + _outer(point.pi[1:], stationarity[:-1]),
        c=weights.dynamics,
        G=_outer(newton.net(row)[:, nz:], z) - _outer(newton.net(point.lam)[:, nz:], stationarity),
        bound=-row,
        linear=jnp.sum(price, 1),
        quadratic=jnp.sum(price * point.s, 1),
        initial_state=None if qp.initial_state is None else weights.initial,
    )


def _outer(left: Float[Array, "stages a"], right: Float[Array, "stages b"]) -> Float[Array, "stages a b"]:
    return left[:, :, None] * right[:, None, :]
