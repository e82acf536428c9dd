r"""The optimality conditions as a function of what the problem is made of, weighted, and its derivative.

    C(p) = ⟨∇_z L(z, π, λ; p), w_z⟩ + ⟨f(z) - x₊, w_π⟩ + ⟨σ h(z) - b, w_λ⟩ + ⟨Z s + z_l, w_s⟩

is a sum over stages, each a function of the problem at that stage: one derivative by reverse mode gives a solution's
cotangents of all leaves p, and needs no Jacobian. What does not depend on p is left out.

    symbol         shape               meaning
    z, π, λ, s     as in `Point`       a solution, which is held
    w_z, w_π, …    as in `Residuals`   weights; those of `backend.adjoint`, which are -w of `implicit.py`, make ∂C/∂p
                                       the cotangents themselves
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import transcription
from planahead.planning.transcription import RowData
from planahead.problem import Problem, at_stage, map_stages
from planahead.qp import newton
from planahead.qp.newton import Residuals, net
from planahead.qp.types import Point, finite_prices


class Held(NamedTuple):
    """What the conditions of stages are made of beside the problem; one entry a node or, in `costates` and `dynamics`,
    a stage."""

    weights: Float[Array, "nodes *B"]
    """γ^k."""
    z: Float[Array, "nodes nz *B"]
    multipliers: Float[Array, "nodes ng *B"]
    """σλ of the general rows."""
    violations: Float[Array, "nodes 2 m *B"]
    along: Float[Array, "nodes nz *B"]
    """w_z"""
    rows: Float[Array, "nodes 2 m *B"]
    """w_λ, zero where no row is: of x_0 and of what a pinned control settles, whatever their methods say."""
    prices: Float[Array, "nodes 2 m *B"]
    """w_s"""
    costates: Float[Array, "N nx *B"]
    """π_{k+1}"""
    dynamics: Float[Array, "N nx *B"]
    """w_π"""

    @classmethod
    def of(cls, point: Point, adjoint: Residuals, weights: Float[Array, "nodes *B"]) -> "Held":
        """With `z` of the point, which has the pinned control where there is one."""
        nz = point.z.shape[1]
        return cls(
            weights,
            point.z,
            net(point.lam)[:, nz:],
            point.s,
            adjoint.stationarity,
            adjoint.row,
            adjoint.price,
            point.pi[1:],
            adjoint.dynamics,
        )


class Slopes(NamedTuple):
    """∂C/∂p."""

    leaves: list[Array | None]
    """Of those that move."""
    control: Float[Array, "nu *B"] | None
    """By a pinned control."""


NODEWISE = 7
"""Fields of `Held` that have an entry for stage N."""


def conditions(problem: Problem, held: Held) -> Float[Array, ""]:
    """C of one lane."""
    inner = [array[:-1] for array in held[:NODEWISE]] + list(held[NODEWISE:])
    stages = map_stages(stage_conditions, problem, *inner)
    last = terminal_conditions(at_stage(problem, -1), *(array[-1] for array in held[:NODEWISE]))
    return jnp.sum(stages) + last


def slopes(
    rebuild: Callable[[Sequence[Array]], Problem],
    leaves: Sequence[Array],
    wanted: Sequence[bool],
    held: Held,
    control: Float[Array, " nu"] | None,
) -> Slopes:
    """The derivatives of C by the leaves that are `wanted`, and by a pinned control, of one lane."""

    def total(moved: list[Array], control: Array | None) -> Array:
        own = iter(moved)
        problem = rebuild([next(own) if moves else leaf for leaf, moves in zip(leaves, wanted, strict=True)])
        weights = transcription.stage_weights(problem, held.z.dtype)
        return conditions(problem, held._replace(weights=weights, z=transcription.pin(control, held.z)))

    asked = [leaf for leaf, moves in zip(leaves, wanted, strict=True) if moves]
    found, by_control = jax.grad(total, (0, 1))(asked, control)
    own = iter(found)
    return Slopes([next(own) if moves else None for moves in wanted], by_control)


def stage_conditions(
    problem: Problem,
    weight: Float[Array, ""],
    z: Float[Array, " nz"],
    multiplier: Float[Array, " ng"],
    violation: Float[Array, "2 m"],
    along: Float[Array, " nz"],
    row: Float[Array, "2 m"],
    price: Float[Array, "2 m"],
    costate: Float[Array, " nx"],
    dynamics: Float[Array, " nx"],
) -> Float[Array, ""]:
    """Of a stage k < N; `problem` is the problem at that stage."""
    nu, size = problem.control_size, multiplier.shape[0]

    def lagrangian(z: Array) -> Array:
        return transcription.stage_lagrangian(problem, weight, z, costate, multiplier)

    _, stationarity = jax.jvp(lagrangian, (z,), (along,))
    found = stationarity + dynamics @ problem.dynamics(z[nu:], z[:nu])
    data = transcription.stage_row_data(problem, weight, size)
    return found + _of_rows(transcription.stage_rows(problem, z, size), data, violation, row, price)


def terminal_conditions(
    problem: Problem,
    weight: Float[Array, ""],
    z: Float[Array, " nz"],
    multiplier: Float[Array, " ng"],
    violation: Float[Array, "2 m"],
    along: Float[Array, " nz"],
    row: Float[Array, "2 m"],
    price: Float[Array, "2 m"],
) -> Float[Array, ""]:
    """Of stage N; `problem` is the problem there."""
    nu, size = problem.control_size, multiplier.shape[0]

    def lagrangian(x: Array) -> Array:
        return transcription.terminal_lagrangian(problem, weight, x, multiplier)

    _, stationarity = jax.jvp(lagrangian, (z[nu:],), (along[nu:],))
    data = transcription.terminal_row_data(problem, weight, size)
    return stationarity + _of_rows(transcription.terminal_rows(problem, z[nu:], size), data, violation, row, price)


def _of_rows(
    general: Float[Array, " ng"],
    data: RowData,
    violation: Float[Array, "2 m"],
    row: Float[Array, "2 m"],
    price: Float[Array, "2 m"],
) -> Float[Array, ""]:
    """⟨σ h - b, w_λ⟩ + ⟨Z s + z_l, w_s⟩; the rows before the general ones are entries of z."""
    bound = jnp.where(jnp.isfinite(data.bound), data.bound, 0.0)
    linear, quadratic = finite_prices(data.linear, data.quadratic)
    boxes = row.shape[1] - general.shape[0]
    return (
        jnp.sum(row[:, boxes:] * newton.sides(general[None])[0])
        - jnp.sum(row * bound)
        + jnp.sum(price * (linear[None] + quadratic[None] * violation))
    )
