"""Derivatives of a QP's solution by the implicit function theorem: one factorisation, one back-solve, no Jacobian.

At a solution y = (v, π, λ, …) of the smoothed conditions R(y; data) = 0, a cotangent ȳ on the solution gives

    (∂R/∂y)ᵀ w = ȳ,        cotangent of the data = -(∂R/∂data)ᵀ w

The conditions are symmetric up to the signs of λ and s, so w is a Newton step whose right-hand sides are the
cotangents, and the second product is one `vjp` of R with respect to the data. The system is factorised at a nearby
point where it is well conditioned (`newton.conditioned`), which leaves an error of √ε; one step of iterative refinement
with the true system squares that.
"""

import jax
import jax.numpy as jnp

from planahead.qp import newton
from planahead.qp.newton import Residuals, Rows, System
from planahead.qp.types import LaneQP, Point


def factorise(qp: LaneQP, rows: Rows, point: Point) -> System:
    """The system that `adjoint` solves with."""
    return newton.factorise(qp, rows, newton.conditioned(qp, rows, point))


def adjoint(qp: LaneQP, rows: Rows, system: System, point: Point, cotangent: Point) -> Residuals:
    """-w as cotangents of the residuals: `vjp(data -> residuals)` of what this returns is the cotangent of the data.

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


def data_residuals(qp: LaneQP, point: Point) -> Residuals:
    """The residuals of one lane as a function of its data, at a fixed point; the parts that depend on no data are
    zero."""
    qp, point = jax.tree.map(lambda leaf: leaf[..., None], (qp, point))
    residual = newton.residuals(qp, Rows(qp), point, jnp.zeros(1, qp.H.dtype))
    return jax.tree.map(lambda leaf: leaf[..., 0], residual)
