"""The quadratic model of a problem around a trajectory: linearised dynamics and rows, and a Hessian.

In the step d = z - z̄, with multipliers that stay absolute:

    minimise  ½ dᵀH d + ∇φᵀd   s.t.   F_k d_k + (f(z̄_k) - x̄_{k+1}) = d_{x,k+1},   σ(h + G d) >= b

`GaussNewton` takes H = JᵀJ of the residuals plus the convex part of scalar costs: always positive semidefinite, no
multipliers needed. `Exact` takes the Hessian of the Lagrangian, stage by stage; it may be indefinite, so in the forward
pass its eigenvalues are mirrored or cut (`convexify`). Derivatives of a solution always use the exact Hessian as it is:
a Gauss-Newton or regularised Hessian finds the right solution but has the wrong sensitivities.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import transcription
from planahead.planning.transcription import (
    RowData,
    stage_lagrangian,
    stage_rows,
    terminal_lagrangian,
    terminal_rows,
)
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


class Model(NamedTuple):
    """The quadratic model of one stage. Where the Hessian has to be made convex first, `curved` is what has to be, and
    H the rest."""

    H: Float[Array, "nz nz"]
    g: Float[Array, " nz"]
    h: Float[Array, " ng"]
    G: Float[Array, "ng nz"]
    curved: Float[Array, "nz nz"] | None
    c: Float[Array, " nx"] | None = None
    F: Float[Array, "nx nz"] | None = None


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
    weights = transcription.stage_weights(problem, z.dtype)
    multipliers = net_multipliers[:, z.shape[1] :]

    def stage(stage_problem, *arguments):
        return stage_model(stage_problem, hessian, *arguments)

    inner = map_stages(stage, problem, z[:-1], z[1:], costates[1:], multipliers[:-1], weights[:-1])
    last = terminal_model(at_stage(problem, -1), hessian, z[-1], multipliers[-1], weights[-1])

    def joined(stages: Array, terminal: Array) -> Array:
        return jnp.concatenate([stages, terminal[None]])

    whole = jax.tree.map(joined, inner._replace(c=None, F=None), last)
    if whole.curved is not None:
        whole = whole._replace(H=jax.vmap(lambda H, curved: H + convex(hessian, curved))(whole.H, whole.curved))
    return assembled(problem.control_size, whole._replace(c=inner.c, F=inner.F), state, z, data, pinned)


def stage_model(
    problem: Problem,
    hessian: Hessian,
    z: Float[Array, " nz"],
    z_next: Float[Array, " nz"],
    costate: Float[Array, " nx"],
    multiplier: Float[Array, " ng"],
    weight: Float[Array, ""],
) -> Model:
    """Of a stage k < N; `problem` is the problem at that stage."""
    nu, size = problem.control_size, multiplier.shape[0]

    def functions(z):
        u, x = z[:nu], z[nu:]
        return problem.dynamics(x, u), jnp.ravel(problem.stage_residual(x, u)), stage_rows(problem, z, size)

    def scalar(z):
        return jnp.reshape(problem.stage_cost(z[nu:], z[:nu]), ())

    def contribution(z):
        return stage_lagrangian(problem, weight, z, costate, multiplier)

    (f, r, h), (F, J, G) = _with_jacobian(functions, z)
    cost = scalar if overrides(problem, "stage_cost") else None
    g = _gradient(r, J, cost, weight, z)
    H, curved = _hessian(hessian, problem, contribution, cost, J, weight, z)
    return Model(H, g, h, G, curved, c=f - z_next[nu:], F=F)


def terminal_model(
    problem: Problem,
    hessian: Hessian,
    z: Float[Array, " nz"],
    multiplier: Float[Array, " ng"],
    weight: Float[Array, ""],
) -> Model:
    """Of stage N; `problem` is the problem there. Its control is a dummy, which stays where it is."""
    nu, size = problem.control_size, multiplier.shape[0]

    def functions(x):
        return jnp.ravel(problem.terminal_residual(x)), terminal_rows(problem, x, size)

    def scalar(x):
        return jnp.reshape(problem.terminal_cost(x), ())

    def contribution(x):
        return terminal_lagrangian(problem, weight, x, multiplier)

    x = z[nu:]
    (r, h), (J, G) = _with_jacobian(functions, x)
    cost = scalar if overrides(problem, "terminal_cost") else None
    g = _gradient(r, J, cost, weight, x)
    H, curved = _hessian(hessian, problem, contribution, cost, J, weight, x)

    def beside(block: Array, corner: Array) -> Array:
        return jax.scipy.linalg.block_diag(corner, block)

    eye, zeros = jnp.eye(nu, dtype=z.dtype), jnp.zeros((nu, nu), z.dtype)
    return Model(
        H=beside(H, eye),
        g=jnp.concatenate([jnp.zeros(nu, z.dtype), g]),
        h=h,
        G=jnp.concatenate([jnp.zeros((size, nu), z.dtype), G], 1),
        curved=None if curved is None else beside(curved, zeros),
    )


def assembled(
    nu: int,
    model: Model,
    state: Float[Array, "nx *B"],
    z: Float[Array, "nodes nz *B"],
    data: RowData,
    pinned: bool,
) -> LaneQP:
    """The QP of the models of all stages, for one lane or for all."""
    H, g, F, G = model.H, model.g, model.F, model.G
    assert F is not None and model.c is not None, "the model of stages before the last"
    if pinned:
        H, g, F, G = _without_first_control(nu, H, g, F, G)
    values = jnp.concatenate([z, model.h], 1)
    return LaneQP(
        H=H,
        g=g,
        F=F,
        c=model.c,
        G=G,
        bound=data.bound - jnp.stack([values, -values], 1),
        linear=data.linear,
        quadratic=data.quadratic,
        initial_state=state - z[0, nu:],
    )


def needs_convex(problem: Problem, hessian: Hessian) -> bool:
    """Whether some Hessian has to be made convex: that of a scalar cost in Gauss-Newton, or any that is exact."""
    if isinstance(hessian, Exact):
        return hessian.convexify != "none"
    return overrides(problem, "stage_cost") or overrides(problem, "terminal_cost")


def convex(hessian: Hessian, H: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """H with the eigenvalues that `hessian` says."""
    if isinstance(hessian, GaussNewton):
        return _convex(H, "project", 0.0)
    return _convex(H, hessian.convexify, hessian.smallest)


def _gradient(r: Array, J: Array, scalar, weight: Array, at: Array) -> Array:
    gradient = weight * (r @ J)
    return gradient if scalar is None else gradient + weight * jax.grad(scalar)(at)


def _hessian(
    hessian: Hessian, problem: Problem, contribution, scalar, J: Array, weight: Array, at: Float[Array, " n"]
) -> tuple[Array, Array | None]:
    """What of the Hessian is settled, and what has to be made convex first: at all stages or at none."""
    if isinstance(hessian, GaussNewton):
        settled = weight * (J.T @ J)
        if not needs_convex(problem, hessian):
            return settled, None
        return settled, jnp.zeros_like(settled) if scalar is None else weight * jax.hessian(scalar)(at)
    H = jax.hessian(contribution)(at)
    return (jnp.zeros_like(H), H) if needs_convex(problem, hessian) else (H, None)


def _convex(H: Float[Array, "n n"], how: str, smallest: float) -> Float[Array, "n n"]:
    if how == "none":
        return H
    values, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(H), H, 0.0))
    values = jnp.maximum(jnp.abs(values) if how == "mirror" else values, smallest)
    return jnp.where(jnp.all(jnp.isfinite(H)), (vectors * values[None]) @ vectors.T, jnp.nan)


def _without_first_control(nu: int, H, g, F, G):
    """Decouple u_0: a pinned control does not move."""
    corner = jnp.eye(nu, dtype=H.dtype).reshape(nu, nu, *(1,) * (H.ndim - 3))
    H_0 = H[0].at[:nu].set(0.0).at[:, :nu].set(0.0).at[:nu, :nu].set(corner)
    g_0, F_0, G_0 = g[0].at[:nu].set(0.0), F[0].at[:, :nu].set(0.0), G[0].at[:, :nu].set(0.0)
    return tuple(jnp.concatenate([first[None], rest[1:]]) for first, rest in ((H_0, H), (g_0, g), (F_0, F), (G_0, G)))


def _with_jacobian(function, at: Float[Array, " n"]):
    """Values and Jacobians of a function with several outputs, by forward mode: one pass an input."""
    values, push = jax.linearize(function, at)
    jacobians = jax.vmap(push, out_axes=-1)(jnp.eye(at.shape[0], dtype=at.dtype))
    return values, jacobians
