"""Functions that are written over a batch, called for one lane, and batched natively by `jax.vmap`.

`jax.vmap` of a loop selects between old and new values lane by lane, with the batch in the first axis. The solvers here
loop over the batch themselves, lanes last, and leave finished lanes alone. `over_lanes` hides that: the caller sees a
function of one lane, and every `vmap` around it, nested ones merged, becomes the lane axis of a single call. What all
lanes share is passed once.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array

VECTOR = 8
"""Lanes that share a vector in the native kernel, where it is widest; twice as many in float32 arithmetic."""


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


def in_blocks(kernel: Callable, lanes_in_cache: int) -> Callable:
    """`kernel`, as `over_lanes` takes it, working through large batches in blocks of equal size, one after the other.

    XLA runs a program operation by operation over all lanes, so the numbers between two operations should fit into the
    cache, and a loop inside the kernel ends for each block by itself. `lanes_in_cache` is the largest block; each has
    enough lanes to keep every core busy. A batch that does not divide is filled up with its last lane.

    >>> def double(lanes, in_lanes, x):
    ...     return 2 * x
    >>> in_blocks(double, 4)(6, (True,), jnp.arange(6.0))
    Array([ 0.,  2.,  4.,  6.,  8., 10.], dtype=float32)
    """

    def run(lanes: int, in_lanes: Any, *arguments: Any) -> Any:
        largest = max(lanes_in_cache, _enough_lanes())
        if lanes <= largest or jax.default_backend() != "cpu":
            return kernel(lanes, in_lanes, *arguments)
        size = -(-lanes // (-(-lanes // largest) * VECTOR)) * VECTOR
        blocks = -(-lanes // size)
        flags, structure = jax.tree.flatten(in_lanes)
        leaves = structure.flatten_up_to(arguments)

        def block(own: list[Any]) -> Any:
            parts = iter(own)
            chosen = [next(parts) if carries else leaf for leaf, carries in zip(leaves, flags, strict=True)]
            return kernel(size, in_lanes, *structure.unflatten(chosen))

        carried = [_split(leaf, blocks, size) for leaf, carries in zip(leaves, flags, strict=True) if carries]
        result = jax.lax.map(block, carried)
        return jax.tree.map(lambda leaf: _joined(leaf)[..., :lanes], result)

    return run


def _enough_lanes() -> int:
    """Of a block: a vector, and where several cores share it two for each, as all wait for the slowest."""
    cores = _cores()
    return VECTOR if cores == 1 else 2 * VECTOR * cores


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _split(leaf: Array, blocks: int, size: int) -> Array:
    """[…, lanes] as [blocks, …, size]."""
    missing = blocks * size - leaf.shape[-1]
    full = jnp.concatenate([leaf, jnp.repeat(leaf[..., -1:], missing, axis=-1)], -1)
    return jnp.moveaxis(full.reshape(*leaf.shape[:-1], blocks, size), -2, 0)


def _joined(leaf: Array) -> Array:
    """[blocks, …, size] as […, blocks · size]."""
    apart = jnp.moveaxis(leaf, 0, -2)
    return apart.reshape(*apart.shape[:-2], apart.shape[-2] * apart.shape[-1])


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
