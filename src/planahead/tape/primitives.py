"""What the primitives of JAX do to arrays of nodes: they move entries about, or add them up. Those that work
entry by entry are in `elementwise`; loops, branches and calls are `scalarise`'s.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from planahead.tape.arrays import Arrays, Nodes, UnsupportedError
from planahead.tape.graph import Operation


def _broadcast_in_dim(arrays, parameters, output, nodes):
    shape = [1] * len(output.shape)
    for axis, place in enumerate(parameters["broadcast_dimensions"]):
        shape[place] = nodes.shape[axis]
    return np.broadcast_to(nodes.reshape(shape), output.shape)


def _reshape(arrays, parameters, output, nodes):
    order = parameters["dimensions"]  # in which the axes are read
    return (nodes if order is None else np.transpose(nodes, order)).reshape(output.shape)


def _squeeze(arrays, parameters, output, nodes):
    return nodes.reshape(output.shape)


def _transpose(arrays, parameters, output, nodes):
    return np.transpose(nodes, parameters["permutation"])


def _rev(arrays, parameters, output, nodes):
    return np.flip(nodes, parameters["dimensions"])


def _concatenate(arrays, parameters, output, *parts):
    return np.concatenate(parts, parameters["dimension"])


def _stack(arrays, parameters, output, *parts):
    return np.stack(parts, parameters["axis"])


def _tile(arrays, parameters, output, nodes):
    return np.tile(nodes, parameters["reps"])


def _slice(arrays, parameters, output, nodes):
    strides = parameters["strides"] or (1,) * nodes.ndim
    parts = zip(parameters["start_indices"], parameters["limit_indices"], strides, strict=True)
    return nodes[tuple(slice(*part) for part in parts)]


def _pad(arrays, parameters, output, nodes, value):
    edges = parameters["padding_config"]
    inner = [max(size - 1, 0) * between + size for size, (_, _, between) in zip(nodes.shape, edges, strict=True)]
    shape = [size + max(low, 0) + max(high, 0) for size, (low, high, _) in zip(inner, edges, strict=True)]
    padded = np.broadcast_to(value, shape).copy()
    places = zip(inner, edges, strict=True)
    padded[tuple(slice(max(low, 0), max(low, 0) + size, between + 1) for size, (low, _, between) in places)] = nodes
    # Negative edges are cut off.
    return padded[tuple(slice(max(-low, 0), min(high, 0) or None) for low, high, _ in edges)]


def _iota(arrays, parameters, output):
    axis = parameters["dimension"]
    shape = [1] * len(output.shape)
    shape[axis] = output.shape[axis]
    return np.broadcast_to(arrays.constants(np.arange(output.shape[axis]).reshape(shape)), output.shape)


def _gather(arrays, parameters, output, nodes, indices):
    numbers = arrays.known(indices)
    chosen = {key: value for key, value in parameters.items() if key != "indices_are_sorted"}
    with jax.ensure_compile_time_eval():
        places = np.arange(nodes.size, dtype=np.int32).reshape(nodes.shape)
        bound = jax.lax.gather(
            places,
            numbers.astype(np.int32),
            dimension_numbers=chosen["dimension_numbers"],
            slice_sizes=chosen["slice_sizes"],
            mode=chosen["mode"],
            fill_value=-1,
        )
        found = np.asarray(bound)
    if (found < 0).any():
        raise UnsupportedError("gather beyond its operand")
    return nodes.ravel()[found]


def _scatter(arrays, parameters, output, nodes, indices, updates):
    with jax.ensure_compile_time_eval():
        # Where every entry comes from: its old place, or one past them all that counts the updates.
        came = jax.lax.scatter(
            np.arange(nodes.size, dtype=np.int32).reshape(nodes.shape),
            arrays.known(indices).astype(np.int32),
            nodes.size + np.arange(updates.size, dtype=np.int32).reshape(updates.shape),
            parameters["dimension_numbers"],
            mode=parameters["mode"],
        )
        places = np.asarray(came)
    return np.concatenate([nodes.ravel(), updates.ravel()])[places]


def _scatter_add(arrays, parameters, output, nodes, indices, updates):
    numbers = arrays.known(indices).astype(np.int32)
    with jax.ensure_compile_time_eval():
        # Where every update goes, from one: the derivative of a sum by its terms.
        _, pull = jax.vjp(
            lambda updates: jax.lax.scatter_add(
                jnp.zeros(nodes.shape), numbers, updates, parameters["dimension_numbers"], mode=parameters["mode"]
            ),
            jnp.zeros(updates.shape),
        )
        places = np.asarray(pull(1.0 + jnp.arange(nodes.size, dtype=float).reshape(nodes.shape))[0], int)
    total = nodes.copy()
    for place, update in zip(places.ravel().tolist(), updates.ravel().tolist(), strict=True):
        if place > 0:
            index = np.unravel_index(place - 1, nodes.shape)
            total[index] = arrays.graph.apply(Operation.ADD, int(total[index]), update)
    return total


def _empty2(arrays, parameters, output):
    return arrays.nothing(output, 0.0)


def _dynamic_slice(arrays, parameters, output, nodes, *starts):
    sizes = parameters["slice_sizes"]
    first = [int(arrays.known(start)) for start in starts]
    begin = [min(max(start, 0), extent - size) for start, extent, size in zip(first, nodes.shape, sizes, strict=True)]
    return nodes[tuple(slice(start, start + size) for start, size in zip(begin, sizes, strict=True))]


def _dynamic_update_slice(arrays, parameters, output, nodes, update, *starts):
    first = [int(arrays.known(start)) for start in starts]
    begin = [
        min(max(start, 0), extent - size) for start, extent, size in zip(first, nodes.shape, update.shape, strict=True)
    ]
    changed = nodes.copy()
    changed[tuple(slice(start, start + size) for start, size in zip(begin, update.shape, strict=True))] = update
    return changed


def _select_n(arrays, parameters, output, which, *cases):
    if len(cases) != 2:
        raise UnsupportedError("select_n among more than two")
    return arrays.each(Operation.SELECT, which, cases[1], cases[0])


def _clamp(arrays, parameters, output, low, nodes, high):
    return arrays.each(Operation.MIN, arrays.each(Operation.MAX, low, nodes), high)


def _integer_pow(arrays, parameters, output, nodes):
    power = parameters["y"]
    result = _power(arrays, nodes, abs(power))
    return arrays.each(Operation.DIV, np.asarray(arrays.graph.one), result) if power < 0 else result


def _reduce_sum(arrays, parameters, output, nodes):
    return arrays.reduce(Operation.ADD, parameters["axes"], nodes) if nodes.size else arrays.nothing(output, 0.0)


def _reduce_max(arrays, parameters, output, nodes):
    return arrays.reduce(Operation.MAX, parameters["axes"], nodes) if nodes.size else arrays.nothing(output, -math.inf)


def _reduce_min(arrays, parameters, output, nodes):
    return arrays.reduce(Operation.MIN, parameters["axes"], nodes) if nodes.size else arrays.nothing(output, math.inf)


def _reduce_prod(arrays, parameters, output, nodes):
    return arrays.reduce(Operation.MUL, parameters["axes"], nodes) if nodes.size else arrays.nothing(output, 1.0)


def _reduce_and(arrays, parameters, output, nodes):
    return arrays.reduce(Operation.MIN, parameters["axes"], nodes) if nodes.size else arrays.nothing(output, 1.0)


def _reduce_or(arrays, parameters, output, nodes):
    return arrays.reduce(Operation.MAX, parameters["axes"], nodes) if nodes.size else arrays.nothing(output, 0.0)


def _cumsum(arrays, parameters, output, nodes):
    if not nodes.size:
        return nodes
    moved = np.moveaxis(nodes, parameters["axis"], 0)
    moved = moved[::-1] if parameters["reverse"] else moved
    sums = [np.asarray(moved[0])]
    for part in moved[1:]:
        sums.append(arrays.each(Operation.ADD, sums[-1], np.asarray(part)))
    stacked = np.stack(sums[::-1] if parameters["reverse"] else sums)
    return np.moveaxis(stacked, 0, parameters["axis"])


def _dot_general(arrays, parameters, output, left, right):
    (contract_left, contract_right), (batch_left, batch_right) = parameters["dimension_numbers"]
    A, B = _grouped(left, batch_left, contract_left), _grouped(right, batch_right, contract_right)
    total = np.full((A.shape[0], A.shape[1], B.shape[1]), arrays.graph.zero)
    for j in range(A.shape[2]):
        product = arrays.each(Operation.MUL, A[:, :, None, j], B[:, None, :, j])
        total = arrays.each(Operation.ADD, total, product)
    return total.reshape(output.shape)


def _grouped(nodes: Nodes, batch: Sequence[int], contract: Sequence[int]) -> Nodes:
    """As [batch, free, contracted]."""
    free = [axis for axis in range(nodes.ndim) if axis not in batch and axis not in contract]
    sizes = [math.prod(nodes.shape[axis] for axis in axes) for axes in (batch, free, contract)]
    return np.transpose(nodes, (*batch, *free, *contract)).reshape(sizes)


def _power(arrays: Arrays, nodes: Nodes, power: int) -> Nodes:
    """By squaring."""
    result = np.full(nodes.shape, arrays.graph.one)
    square = nodes
    while power:
        if power & 1:
            result = arrays.each(Operation.MUL, result, square)
        power >>= 1
        if power:
            square = arrays.each(Operation.MUL, square, square)
    return result


ARRAYS: dict[str, Callable[..., Nodes]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "expand_dims": _squeeze,
    "transpose": _transpose,
    "rev": _rev,
    "concatenate": _concatenate,
    "stack": _stack,
    "tile": _tile,
    "slice": _slice,
    "pad": _pad,
    "iota": _iota,
    "gather": _gather,
    "scatter": _scatter,
    "scatter-add": _scatter_add,
    "empty2": _empty2,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "select_n": _select_n,
    "clamp": _clamp,
    "integer_pow": _integer_pow,
    "reduce_sum": _reduce_sum,
    "reduce_max": _reduce_max,
    "reduce_min": _reduce_min,
    "reduce_prod": _reduce_prod,
    "reduce_and": _reduce_and,
    "reduce_or": _reduce_or,
    "cumsum": _cumsum,
    "dot_general": _dot_general,
}
"""Primitives of whole arrays: functions of an `Arrays`, their parameters, what comes out and what goes in."""
