"""A function that some lanes of a batch need now, and the others do not.

    y_i = function(a_i)   where due_i,      y_i = y_i before   elsewhere

`jax.vmap` of a `jax.lax.cond` computes both branches in every lane. Here the lanes that are due are gathered, computed
in blocks of one size, and put back, so that a step of B lanes costs as much as ⌈(number due) / block⌉ blocks.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from planahead.qp.batching import over_lanes, spread

BLOCK = 16
"""Lanes computed at once: two vectors of the native kernel."""


def where_due(
    function: Callable[..., Any], due: Bool[Array, ""], otherwise: Any, *arguments: Any, block: int = BLOCK
) -> Any:
    """`function(*arguments)` where `due`, `otherwise`, of the same structure, elsewhere.

    Written for one lane; under `jax.vmap` only lanes that are due are computed. It carries no gradient.

    **Raises:** `TypeError` where an array of `otherwise` has another shape or format than the function's.

    >>> import jax
    >>> values = jnp.array([1.0, 4.0, 9.0])
    >>> due = jnp.array([True, False, True])
    >>> jax.vmap(lambda d, x: where_due(jnp.sqrt, d, -1.0, x))(due, values).tolist()
    [1.0, -1.0, 3.0]
    """

    def kernel(lanes: int, in_lanes: Any, due: Array, otherwise: Any, arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        carried = jax.tree.leaves(in_lanes[2])
        due, otherwise = spread(lanes, in_lanes[:2], (due, otherwise))
        size, number, order = min(block, lanes), jnp.sum(due), jnp.argsort(~due, stable=True)

        def one(leaves: list[Array]) -> Any:
            return function(*structure.unflatten(leaves))

        axes = [-1 if carries else None for carries in carried]
        some = jax.vmap(one, in_axes=(axes,), out_axes=-1, axis_size=size)

        def compute(index: Array, found: Any) -> Any:
            rows = order[jnp.minimum(index * size + jnp.arange(size), number - 1)]  # the last lane fills up its block
            own = [leaf[..., rows] if carries else leaf for leaf, carries in zip(leaves, carried, strict=True)]
            return jax.tree.map(lambda all, new: _put(all, rows, new), found, some(own))

        return jax.lax.fori_loop(0, (number + size - 1) // size, compute, otherwise)

    fixed = jax.lax.stop_gradient(jax.tree.map(jnp.asarray, (otherwise, arguments)))
    return over_lanes(kernel)(jnp.asarray(due), *fixed)


def _put(all: Array, rows: Array, new: Array) -> Array:
    """`all` with other values in the lanes `rows`; a scatter alone would broadcast and round what does not fit."""
    if (all.shape[:-1], all.dtype) != (new.shape[:-1], new.dtype):
        kinds = [f"{array.dtype}{list(array.shape[:-1])}" for array in (new, all)]
        raise TypeError(
            f"where_due: the function gives {kinds[0]} where `otherwise` is {kinds[1]}; give it the same shapes and "
            "formats"
        )
    return all.at[..., rows].set(new)
