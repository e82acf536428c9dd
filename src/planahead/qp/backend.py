"""Which solver computes: the native kernel where it can, the portable one elsewhere. One set of functions over both."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from planahead.qp import interior_point, native, sensitivity
from planahead.qp.batching import spread
from planahead.qp.interior_point import Backend, InteriorPoint, Outcome, Riccati
from planahead.qp.lanes import along
from planahead.qp.newton import Residuals, Rows
from planahead.qp.types import LaneQP, Point, QPGuess


def is_native(backend: Backend) -> bool:
    """Whether `backend` means the native kernel here.

    **Raises:** `RuntimeError` where "native" was asked for and is not there.
    """
    if backend == "native" and not native.available():
        raise RuntimeError(f"backend='native' was asked for, but: {native.description()}. Use backend='auto'.")
    return backend != "portable" and native.available()


def solve(
    qp: LaneQP,
    in_lanes: Any,
    settings: InteriorPoint,
    active: Bool[Array, " B"],
    *,
    rows: bool = True,
    gain: bool = True,
    guess: QPGuess | None = None,
) -> Outcome:
    """Solve all `active` lanes; `in_lanes` says which arrays of `qp` carry lanes. The rest: see `native.solve`."""
    if is_native(settings.backend):
        return native.solve(qp, in_lanes, settings, active, rows=rows, gain=gain, guess=guess)
    return interior_point.solve(spread(active.shape[0], in_lanes, qp), settings, active, guess)


def definite(
    backend: Backend,
    qp: LaneQP,
    in_lanes: Any,
    point: Point,
    valid: Bool[Array, " B"],
    riccati: Riccati = "classic",
) -> Bool[Array, " B"]:
    """The `valid` lanes whose reduced Hessian at `point` is positive definite: strict local minima."""
    if is_native(backend):
        return native.definite(qp, in_lanes, point, valid, riccati)
    qp = _healthy(qp, in_lanes, valid)
    return valid & sensitivity.factorise(qp, Rows(qp), point, riccati == "square-root").factor.definite


def adjoint(
    backend: Backend,
    qp: LaneQP,
    in_lanes: Any,
    point: Point,
    cotangent: Point,
    valid: Bool[Array, " B"],
    riccati: Riccati = "classic",
) -> Residuals:
    """What `sensitivity.adjoint` returns, zero where not `valid`. `point` and `cotangent` carry lanes."""
    if is_native(backend):
        return native.adjoint(qp, in_lanes, point, cotangent, valid, riccati)
    qp = _healthy(qp, in_lanes, valid)
    # Cotangents of bad lanes are replaced before the solve: a NaN times a zero mask would still be a NaN.
    cotangent = _masked(cotangent, valid)
    rows = Rows(qp)
    system = sensitivity.factorise(qp, rows, point, riccati == "square-root")
    return sensitivity.adjoint(qp, rows, system, point, cotangent)


def everywhere(tree: Any) -> Any:
    """`in_lanes` of a tree all of whose arrays carry lanes."""
    return jax.tree.map(lambda _: True, tree)


def _healthy(qp: LaneQP, in_lanes: Any, valid: Bool[Array, " B"]) -> LaneQP:
    return interior_point.neutral(spread(valid.shape[0], in_lanes, qp), ~valid)


def _masked(tree: Any, valid: Bool[Array, " B"]) -> Any:
    return jax.tree.map(lambda value: jnp.where(along(valid, value), value, 0.0), tree)
