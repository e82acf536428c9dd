"""Functions that are written over a batch, called for one lane, and batched natively by `jax.vmap`.

`jax.vmap` of a loop selects between old and new values lane by lane, with the batch in the first axis. The solvers here
loop over the batch themselves, lanes last, and leave finished lanes alone. `over_lanes` hides that: the caller sees a
function of one lane, and every `vmap` around it, nested ones merged, becomes the lane axis of a single call. What all
lanes share is passed once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap


def over_lanes(kernel: Callable) -> Callable:
    """Turn `kernel(lanes, in_lanes, *arguments)` into a function of the same arguments for one lane.

    The kernel gets the number of lanes, a pytree of booleans like `arguments` that says which leaves carry lanes (in
    their last axis; the others are shared), and the arguments. Everything it returns has lanes in the last axis. Not
    differentiable by itself.
    """

    def single(*arguments):
        leaves, structure = jax.tree.flatten(arguments)

        def run(lanes: int, in_lanes: tuple[bool, ...]) -> Callable:
            @custom_vmap
            def many(*leaves):
                return kernel(lanes, structure.unflatten(in_lanes), *structure.unflatten(leaves))

            @many.def_vmap
            def merge(outer, batched, *leaves):
                merged = [
                    _merge(leaf, outer, lanes, is_outer, is_inner)
                    for leaf, is_outer, is_inner in zip(leaves, batched, in_lanes, strict=True)
                ]
                either = tuple(is_outer or is_inner for is_outer, is_inner in zip(batched, in_lanes, strict=True))
                result = run(outer * lanes, either)(*merged)
                return _map_all(lambda leaf: jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], outer, lanes), -2, 0), result)

            return many

        @custom_vmap
        def one(*leaves):
            return jax.tree.map(lambda leaf: leaf[..., 0], run(1, (False,) * len(leaves))(*leaves))

        @one.def_vmap
        def to_lanes(lanes, batched, *leaves):
            moved = [jnp.moveaxis(leaf, 0, -1) if is_in else leaf for leaf, is_in in zip(leaves, batched, strict=True)]
            return _map_all(lambda leaf: jnp.moveaxis(leaf, -1, 0), run(lanes, tuple(batched))(*moved))

        return one(*leaves)

    return single


def spread(lanes: int, in_lanes: Any, tree: Any) -> Any:
    """Give every leaf of `tree` a lane axis; what is shared is broadcast."""
    return jax.tree.map(
        lambda leaf, is_in: leaf if is_in else jnp.broadcast_to(leaf[..., None], (*jnp.shape(leaf), lanes)),
        tree,
        in_lanes,
    )


def _map_all(function: Callable, result: Any) -> tuple[Any, Any]:
    mapped = jax.tree.map(function, result)
    return mapped, jax.tree.map(lambda _: True, mapped)


def _merge(leaf: Any, outer: int, lanes: int, is_outer: bool, is_inner: bool) -> Any:
    if not (is_outer or is_inner):
        return leaf
    if is_outer and is_inner:
        paired = jnp.moveaxis(leaf, 0, -2)
    elif is_outer:
        paired = jnp.moveaxis(leaf, 0, -1)[..., None]
    else:
        paired = leaf[..., None, :]
    shape = (*paired.shape[:-2], outer, lanes)
    return jnp.broadcast_to(paired, shape).reshape(*shape[:-2], outer * lanes)
