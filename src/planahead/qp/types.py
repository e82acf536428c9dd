"""The stage-structured quadratic program, as users write it (`QP`) and as the kernels see it (`LaneQP`).

    minimise    Σ_{k<N} ½ x_kᵀQ_k x_k + u_kᵀS_k x_k + ½ u_kᵀR_k u_k + q_kᵀx_k + r_kᵀu_k
                + ½ x_NᵀQ_N x_N + q_Nᵀx_N + prices
    subject to  x_{k+1} = A_k x_k + B_k u_k + c_k,     x_0 given (or free)
                control_bounds_k, k = 0…N-1;   state_bounds_k, k = 0…N (k = 0 only where x_0 is free)
                lower_k <= C_k x_k + D_k u_k <= upper_k, k = 0…N          (D_N = 0)

Bounds are two-sided, absent where infinite, and hard unless priced: a violation s costs
`linear · s + ½ quadratic · s²`.
"""

import dataclasses
from typing import Any, TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from planahead.problem.bounds import check_limits, check_prices


def _numbers(value: Any) -> Any:
    """Lists and integers become floating-point arrays; whatever is no data (`None`, the axes of a `vmap`) passes."""
    if isinstance(value, list | tuple):
        return jnp.asarray(value, float)
    if isinstance(value, jax.Array | np.ndarray):
        return jnp.asarray(value) if jnp.issubdtype(value.dtype, jnp.inexact) else jnp.asarray(value, float)
    return value


def _bound(value: Any) -> Any:
    return jnp.asarray(value, float) if isinstance(value, bool | int | float | np.generic) else _numbers(value)


class StageBounds(eqx.Module):
    """Bounds at every stage. `linear` and `quadratic` are prices of violation; `inf` in either makes an entry hard.

    Shapes: all `[stages, rows]`; scalars and missing leading axes are broadcast.

    **Raises:** `ValueError` for numbers that are known to be no bounds: NaN, a lower bound above its upper bound, a
    negative price.
    """

    lower: Float[Array, "..."] = eqx.field(converter=_bound, default=-np.inf)
    upper: Float[Array, "..."] = eqx.field(converter=_bound, default=np.inf)
    linear: Float[Array, "..."] = eqx.field(converter=_bound, default=np.inf)
    quadratic: Float[Array, "..."] = eqx.field(converter=_bound, default=np.inf)

    def __check_init__(self):
        if all(isinstance(leaf, jax.Array) for leaf in (self.lower, self.upper, self.linear, self.quadratic)):
            check_limits("StageBounds", self.lower, self.upper)
            check_prices("StageBounds", self.linear, self.quadratic)


class QP(eqx.Module):
    """One stage-structured QP (see the top of this file for the mathematics and the symbols).

    Shapes: `A [N, nx, nx]`, `B [N, nx, nu]`, `c [N, nx]`, `Q [N+1, nx, nx]`, `R [N, nu, nu]`, `S [N, nu, nx]`,
    `q [N+1, nx]`, `r [N, nu]`, `C [N+1, ng, nx]`, `D [N, ng, nu]`, `initial_state [nx]` or `None` where the initial
    state is free. `Q` and `R` are symmetric; every reduced Hessian must be positive definite (`R` positive definite and
    `Q` semidefinite suffices).

    **Raises:** `ValueError` for an array of the wrong shape.
    """

    A: Float[Array, "_ _ _"] = eqx.field(converter=_numbers)
    B: Float[Array, "_ _ _"] = eqx.field(converter=_numbers)
    Q: Float[Array, "_ _ _"] = eqx.field(converter=_numbers)
    R: Float[Array, "_ _ _"] = eqx.field(converter=_numbers)
    initial_state: Float[Array, " _"] | None = eqx.field(converter=_numbers)
    c: Float[Array, "_ _"] | None = eqx.field(converter=_numbers, default=None)
    S: Float[Array, "_ _ _"] | None = eqx.field(converter=_numbers, default=None)
    q: Float[Array, "_ _"] | None = eqx.field(converter=_numbers, default=None)
    r: Float[Array, "_ _"] | None = eqx.field(converter=_numbers, default=None)
    C: Float[Array, "_ _ _"] | None = eqx.field(converter=_numbers, default=None)
    D: Float[Array, "_ _ _"] | None = eqx.field(converter=_numbers, default=None)
    control_bounds: StageBounds = eqx.field(default_factory=lambda: StageBounds())
    state_bounds: StageBounds = eqx.field(default_factory=lambda: StageBounds())
    constraint_bounds: StageBounds = eqx.field(default_factory=lambda: StageBounds())

    def __check_init__(self):
        if not _is_data(self.B) or jnp.ndim(self.B) > 3:
            return  # batched by vmap or an abstract tree; shapes are checked where a lane is solved
        if jnp.ndim(self.B) < 3:
            raise ValueError(f"QP.B has shape {self.B.shape}; (N, nx, nu) is expected, one matrix for every interval.")
        N, nx, nu = self.B.shape
        ng = self.C.shape[1] if _is_data(self.C) and self.C.ndim > 1 else 0
        expected = {
            "A": (N, nx, nx), "Q": (N + 1, nx, nx), "R": (N, nu, nu), "S": (N, nu, nx), "initial_state": (nx,),
            "c": (N, nx), "q": (N + 1, nx), "r": (N, nu), "C": (N + 1, ng, nx), "D": (N, ng, nu),
        }  # fmt: skip
        for name, shape in expected.items():
            value = getattr(self, name)
            if _is_data(value) and value.shape != shape:
                raise ValueError(
                    f"QP.{name} has shape {value.shape}; with B of shape {self.B.shape} it must be {shape}."
                )
        rows = {"control_bounds": (N, nu), "state_bounds": (N + 1, nx), "constraint_bounds": (N + 1, ng)}
        for name, shape in rows.items():
            for side in ("lower", "upper", "linear", "quadratic"):
                value = getattr(getattr(self, name), side, None)
                if _is_data(value) and value.ndim <= 2 and not _fits(value.shape, shape):
                    raise ValueError(
                        f"QP.{name}.{side} has shape {value.shape}; a scalar, {shape[1:]} or {shape} is expected"
                        + (", one entry for every row of C." if name == "constraint_bounds" else ".")
                    )

    def pack(self) -> "LaneQP":
        """The same QP in the kernels' layout, one lane, without a lane axis. Linear in all data, so its derivative is
        exact."""
        self.__check_init__()  # of one lane, which vmap and tree surgery did not let it see
        N, nx, nu = self.B.shape
        given_arrays = [getattr(self, field.name) for field in dataclasses.fields(self)]
        dtype = jnp.result_type(*(value.dtype for value in given_arrays if _is_data(value)))
        if dtype not in (jnp.float32, jnp.float64):
            raise TypeError(f"QP has arrays of {dtype}; float32 or float64 is expected.")

        def given(value, shape):
            return jnp.zeros(shape, dtype) if value is None else jnp.asarray(value, dtype)

        ng = 0 if self.C is None else self.C.shape[1]
        S, q, r = given(self.S, (N, nu, nx)), given(self.q, (N + 1, nx)), given(self.r, (N, nu))
        C, D = given(self.C, (N + 1, ng, nx)), given(self.D, (N, ng, nu))
        stages = jnp.concatenate(
            [
                jnp.concatenate([self.R, S], 2),
                jnp.concatenate([jnp.swapaxes(S, 1, 2), self.Q[:-1]], 2),
            ],
            1,
        )
        last = jax.scipy.linalg.block_diag(jnp.eye(nu, dtype=dtype), self.Q[-1])
        bounds = {}
        for name in ("lower", "upper", "linear", "quadratic"):
            absent = {"lower": -np.inf, "upper": np.inf, "linear": np.inf, "quadratic": np.inf}[name]
            u = jnp.broadcast_to(getattr(self.control_bounds, name), (N, nu)).astype(dtype)
            x = jnp.broadcast_to(getattr(self.state_bounds, name), (N + 1, nx)).astype(dtype)
            h = jnp.broadcast_to(getattr(self.constraint_bounds, name), (N + 1, ng)).astype(dtype)
            if self.initial_state is not None:
                x = jnp.concatenate([jnp.full((1, nx), absent, dtype), x[1:]])
            u = jnp.concatenate([u, jnp.full((1, nu), absent, dtype)])
            bounds[name] = jnp.concatenate([u, x, h], 1)
        H = jnp.concatenate([stages, last[None]]).astype(dtype)
        return LaneQP(
            H=0.5 * (H + jnp.swapaxes(H, 1, 2)),  # z'Hz knows no more of H
            g=jnp.concatenate([jnp.concatenate([r, jnp.zeros((1, nu), dtype)]), q], 1),
            F=jnp.concatenate([self.B, self.A], 2).astype(dtype),
            c=given(self.c, (N, nx)),
            G=jnp.concatenate([jnp.concatenate([D, jnp.zeros((1, ng, nu), dtype)]), C], 2),
            bound=jnp.stack([bounds["lower"], -bounds["upper"]], 1),
            linear=bounds["linear"],
            quadratic=bounds["quadratic"],
            initial_state=None if self.initial_state is None else jnp.asarray(self.initial_state, dtype),
        )


class LaneQP(eqx.Module):
    """A QP in the kernels' layout: z_k = (u_k, x_k), rows = (all entries of z, then general rows), sides = (lower,
    -upper).

    Shapes are those of one lane; kernels work on arrays with one more axis at the end, the lanes `B`. `nz = nu + nx`,
    `m = nz + ng`. Stage N has a control that is decoupled and zero. `bound = -inf`: no such row. `linear` or
    `quadratic = inf`: a hard row.
    """

    H: Float[Array, "nodes nz nz *B"]
    g: Float[Array, "nodes nz *B"]
    F: Float[Array, "N nx nz *B"]
    c: Float[Array, "N nx *B"]
    G: Float[Array, "nodes ng nz *B"]
    bound: Float[Array, "nodes 2 m *B"]
    linear: Float[Array, "nodes m *B"]
    quadratic: Float[Array, "nodes m *B"]
    initial_state: Float[Array, "nx *B"] | None

    @property
    def state_size(self) -> int:
        return self.F.shape[1]

    @property
    def control_size(self) -> int:
        return self.F.shape[2] - self.F.shape[1]


def _is_data(value: Any) -> TypeGuard[jax.Array]:
    return isinstance(value, jax.Array | np.ndarray)


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether `shape` is broadcast to `target`."""
    return all(size in (1, aim) for size, aim in zip(reversed(shape), reversed(target), strict=False))


def finite_prices(
    linear: Float[Array, "*rows"], quadratic: Float[Array, "*rows"]
) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
    """Prices with zeros in hard rows, those where `linear` or `quadratic` is infinite."""
    soft = jnp.isfinite(linear) & jnp.isfinite(quadratic)
    return jnp.where(soft, linear, 0.0), jnp.where(soft, quadratic, 0.0)


def price_of_violations(
    linear: Float[Array, "nodes m *B"], quadratic: Float[Array, "nodes m *B"], violation: Float[Array, "nodes 2 m *B"]
) -> Float[Array, "*B"]:
    """Σ linear · s + ½ quadratic · s² over both sides of all soft rows; part of the cost, which is minimised.

    >>> row = jnp.ones((1, 1))
    >>> violation = jnp.array([[[3.0], [0.0]]])                                # of the lower side
    >>> float(price_of_violations(2 * row, row, violation)), float(price_of_violations(jnp.inf * row, row, violation))
    (10.5, 0.0)
    """
    linear, quadratic = finite_prices(linear, quadratic)
    return jnp.sum(linear[:, None] * violation + 0.5 * quadratic[:, None] * violation**2, (0, 1, 2))


class Point(eqx.Module):
    """A primal-dual point of a `LaneQP`, or a step between two.

    `pi[k]` is the gradient of the cost-to-go with respect to x_k; `t`, `lam`, `s`, `lam_s` are distance, multiplier,
    violation and the violation's multiplier of every side of every row (1, 0, 0, 0 where there is none).
    """

    z: Float[Array, "nodes nz *B"]
    pi: Float[Array, "nodes nx *B"]
    t: Float[Array, "nodes 2 m *B"]
    lam: Float[Array, "nodes 2 m *B"]
    s: Float[Array, "nodes 2 m *B"]
    lam_s: Float[Array, "nodes 2 m *B"]


class QPGuess(eqx.Module):
    """Where a solver may start: a trajectory and multipliers, as in a `Point`.

    Lanes whose multipliers are all zero, or in which something is not finite, start cold.
    """

    z: Float[Array, "nodes nz *B"]
    pi: Float[Array, "nodes nx *B"]
    lam: Float[Array, "nodes 2 m *B"]


class QPSolution(eqx.Module):
    """What `solve_qp` returns. A lane that is not solved keeps its last finite iterate, and its gradient is zero."""

    states: Float[Array, "nodes nx"]
    controls: Float[Array, "N nu"]
    cost: Float[Array, ""]
    """The objective at the solution, prices of violations included; minimised."""
    costates: Float[Array, "nodes nx"]
    """Multipliers of the dynamics: the gradient of the optimal cost with respect to x_k."""
    multipliers: Float[Array, "nodes 2 m"]
    """Multipliers (not negative) of the lower and upper sides of all rows, ordered controls, states, general rows."""
    status: Array
    iterations: Array
    residual: Float[Array, ""]
    """The largest optimality residual, relative to the data's magnitude."""
    gradient_valid: Bool[Array, ""]
