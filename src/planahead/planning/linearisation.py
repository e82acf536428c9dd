"""The quadratic model of a problem around a trajectory: linearised dynamics and rows, and a Hessian.

In the step d = z - z̄, with multipliers that stay absolute:

    minimise  ½ dᵀH d + ∇φᵀd   s.t.   F_k d_k + (f(z̄_k) - x̄_{k+1}) = d_{x,k+1},   σ(h + G d) >= b

`GaussNewton` takes H = JᵀJ of the residuals plus the convex part of scalar costs: always positive semidefinite, no
multipliers needed. `Exact` takes the Hessian of the Lagrangian, stage by stage; it may be indefinite, so in the forward
pass its eigenvalues are mirrored or cut (`convexify`). Derivatives of a solution always use the exact Hessian as it is:
a Gauss-Newton or regularised Hessian finds the right solution but has the wrong sensitivities.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import transcription
from planahead.planning.transcription import RowData, pad, stage_cost, terminal_cost
from planahead.problem import Problem, at_stage, map_stages, overrides
from planahead.qp.types import LaneQP


class GaussNewton(eqx.Module):
    """H = JᵀJ of the residuals, plus the convex part of scalar costs."""


class Exact(eqx.Module):
    """The Hessian of the Lagrangian, made convex stage by stage for the forward pass."""

    convexify: Literal["mirror", "project", "none"] = eqx.field(static=True, default="project")
    """`project` raises eigenvalues to at least `smallest`, `mirror` takes their magnitude, `none` leaves them."""
    smallest: float = eqx.field(static=True, default=1e-6)

    def __check_init__(self):
        known = ("mirror", "project", "none")
        if self.convexify not in known:
            raise ValueError(f"Exact(convexify={self.convexify!r}): the known ones are {', '.join(map(repr, known))}.")
        if not self.smallest >= 0:
            raise ValueError(f"Exact(smallest={self.smallest}): the smallest eigenvalue must not be negative.")


Hessian = GaussNewton | Exact


def linearise(
    problem: Problem,
    state: Float[Array, " nx"],
    z: Float[Array, "nodes nz"],
    costates: Float[Array, "nodes nx"],
    net_multipliers: Float[Array, "nodes m"],
    data: RowData,
    *,
    hessian: Hessian,
    pinned: bool,
) -> LaneQP:
    """The QP in the step from `z`, for one lane."""
    nu = problem.control_size
    size = data.linear.shape[1] - z.shape[1]
    weights = transcription.stage_weights(problem, z.dtype)
    last = at_stage(problem, -1)

    def stage(stage_problem, z_k, costate, multiplier, weight):
        def functions(z_k):
            u, x = z_k[:nu], z_k[nu:]
            rows = pad(jnp.atleast_1d(stage_problem.constraints(x, u)), size) if size else jnp.zeros(0, z_k.dtype)
            return stage_problem.dynamics(x, u), jnp.ravel(stage_problem.stage_residual(x, u)), rows

        def scalar(z_k):
            return jnp.reshape(stage_problem.stage_cost(z_k[nu:], z_k[:nu]), ())

        (f, r, h), (F, J, G) = _with_jacobian(functions, z_k)
        gradient = weight * (r @ J)
        if overrides(problem, "stage_cost"):
            gradient += weight * jax.grad(scalar)(z_k)

        def contribution(z_k):
            u, x = z_k[:nu], z_k[nu:]
            value = weight * stage_cost(stage_problem, x, u) + costate @ stage_problem.dynamics(x, u)
            if size:
                value -= multiplier @ pad(jnp.atleast_1d(stage_problem.constraints(x, u)), size)
            return value

        H = _hessian(hessian, contribution, scalar if overrides(problem, "stage_cost") else None, J, weight, z_k)
        return f, h, F, G, gradient, H

    multipliers = net_multipliers[:, z.shape[1] :]
    f, h, F, G, gradient, H = map_stages(stage, problem, z[:-1], costates[1:], multipliers[:-1], weights[:-1])
    x_N, weight = z[-1, nu:], weights[-1]

    def terminal(x):
        rows = pad(jnp.atleast_1d(last.terminal_constraints(x)), size) if size else jnp.zeros(0, x.dtype)
        return jnp.ravel(last.terminal_residual(x)), rows

    def terminal_contribution(x):
        value = weight * terminal_cost(last, x)
        return value - multipliers[-1] @ terminal(x)[1] if size else value

    def terminal_scalar(x):
        return jnp.reshape(last.terminal_cost(x), ())

    (r_N, h_N), (J_N, G_N) = _with_jacobian(terminal, x_N)
    scalar = terminal_scalar if overrides(problem, "terminal_cost") else None
    gradient_N = weight * (r_N @ J_N)
    if scalar is not None:
        gradient_N += weight * jax.grad(scalar)(x_N)
    H_N = _hessian(hessian, terminal_contribution, scalar, J_N, weight, x_N)

    H = jnp.concatenate([H, jax.scipy.linalg.block_diag(jnp.eye(nu, dtype=z.dtype), H_N)[None]])
    g = jnp.concatenate([gradient, jnp.concatenate([jnp.zeros(nu, z.dtype), gradient_N])[None]])
    G = jnp.concatenate([G, jnp.concatenate([jnp.zeros((size, nu), z.dtype), G_N], 1)[None]])
    values = jnp.concatenate([z, jnp.concatenate([h, h_N[None]])], 1)
    if pinned:
        H, g, F, G = _without_first_control(nu, H, g, F, G)
    return LaneQP(
        H=H,
        g=g,
        F=F,
        c=f - z[1:, nu:],
        G=G,
        bound=data.bound - jnp.stack([values, -values], 1),
        linear=data.linear,
        quadratic=data.quadratic,
        initial_state=state - z[0, nu:],
    )


def _hessian(hessian: Hessian, contribution, scalar, J, weight, at: Float[Array, " n"]) -> Float[Array, "n n"]:
    if isinstance(hessian, GaussNewton):
        H = weight * (J.T @ J)
        return H if scalar is None else H + weight * _convex(jax.hessian(scalar)(at), "project", 0.0)
    return _convex(jax.hessian(contribution)(at), hessian.convexify, hessian.smallest)


def _convex(H: Float[Array, "n n"], how: str, smallest: float) -> Float[Array, "n n"]:
    if how == "none":
        return H
    values, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(H), H, 0.0))
    values = jnp.maximum(jnp.abs(values) if how == "mirror" else values, smallest)
    return jnp.where(jnp.all(jnp.isfinite(H)), (vectors * values[None]) @ vectors.T, jnp.nan)


def _without_first_control(nu: int, H, g, F, G):
    """Decouple u_0: a pinned control does not move."""
    H_0 = H[0].at[:nu].set(0.0).at[:, :nu].set(0.0).at[:nu, :nu].set(jnp.eye(nu, dtype=H.dtype))
    g_0, F_0, G_0 = g[0].at[:nu].set(0.0), F[0].at[:, :nu].set(0.0), G[0].at[:, :nu].set(0.0)
    return tuple(jnp.concatenate([first[None], rest[1:]]) for first, rest in ((H_0, H), (g_0, g), (F_0, F), (G_0, G)))


def _with_jacobian(function, at: Float[Array, " n"]):
    """Values and Jacobians of a function with several outputs, by forward mode: one pass an input."""
    values, push = jax.linearize(function, at)
    jacobians = jax.vmap(push, out_axes=-1)(jnp.eye(at.shape[0], dtype=at.dtype))
    return values, jacobians
