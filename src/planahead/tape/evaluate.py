"""Functions of stages and lanes through the native evaluator: written once, without batch, evaluated at all of them.

XLA runs a small function over a batch operation by operation, at a twentieth of what the processor can do, and knows
nothing of the zeros in a Jacobian. Here the function becomes a tape of scalar instructions (`scalarise`, `schedule`),
of which each works on 32 lanes in the first cache.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from planahead.qp import native
from planahead.tape.arrays import UnsupportedError
from planahead.tape.graph import Graph, TooLargeError
from planahead.tape.scalarise import closed_jaxpr, hidden_arrays, interpret, work
from planahead.tape.schedule import Tape, schedule

NODES = 60_000
"""At most, of a graph. Larger functions are those with networks inside, which XLA multiplies faster."""
WORK = 400_000
"""Scalar operations at most before simplification, some seconds of it: a chain of five masses has half as many in its
Hessian."""


class Argument(NamedTuple):
    """An array that a function reads an entry of: `[stages, ..., lanes]`, or without one of these axes, or both."""

    array: Array
    first: int | None
    """Where in the first axis the segment's first stage is; None where all stages read the same."""
    in_lanes: bool


class Segment(NamedTuple):
    """A function for consecutive stages."""

    function: Callable[..., Any]
    stages: int
    arguments: Sequence[Argument]
    targets: Sequence[tuple[int, int]]
    """Which output each of the function's flattened results goes to, and where its first stage is in there."""


def evaluate(segments: Sequence[Segment], outputs: Sequence[jax.ShapeDtypeStruct], lanes: int) -> list[Array]:
    """All results of all segments, in `outputs` of shapes `[stages, ..., lanes]`.

    Every entry of every output must be some segment's. Not differentiable.

    **Raises:** `UnsupportedError` and `TooLargeError` for functions that have no tape, and for formats other than
    float32 and float64.
    """
    dtype = outputs[0].dtype
    if dtype not in (jnp.float32, jnp.float64):
        raise UnsupportedError(f"arrays of {dtype}")
    arrays: list[Array] = []
    program, values = [len(segments)], []
    for segment in segments:
        for argument in segment.arguments:
            if argument.array.dtype != dtype:
                raise UnsupportedError(f"arguments of {argument.array.dtype} beside {dtype}")
            if not any(argument.array is known for known in arrays):
                arrays.append(argument.array)
        tape = _tape(segment, dtype)
        sources = _sources(segment, tape, arrays, lanes)
        targets = _targets(segment, outputs, lanes)
        counts = (segment.stages, tape.slots, tape.constants.size, len(sources), len(tape.once), len(tape.every))
        program += [*counts, len(targets)]
        for table in (sources, tape.once, tape.every, targets):
            program += np.asarray(table, int).ravel().tolist()
        values.append(tape.constants)
    if max(program) >= 2**31:
        raise UnsupportedError("arrays beyond 2³¹ entries")
    bits = np.frombuffer(np.concatenate(values).astype(np.float64).tobytes(), np.int32)
    call = native.call("evaluate", dtype, list(outputs))
    return call(np.asarray(program, np.int32), bits, *arrays, lanes=np.int64(lanes))


def _tape(segment: Segment, dtype: Any) -> Tape:
    shapes = [_entry_shape(argument) for argument in segment.arguments]
    closed = closed_jaxpr(segment.function, shapes, dtype)
    varying = tuple(argument.first is not None or argument.in_lanes for argument in segment.arguments)
    return _compiled(_Traced(closed), varying)


class _Traced:
    """A jaxpr that is equal to others with the same text and the same arrays: a planner is traced several times on the
    way to one program, and its functions are the same every time."""

    def __init__(self, closed: Any):
        self.closed = closed
        shown = (np.asarray(array) for array in hidden_arrays(closed))
        self._key = (str(closed.jaxpr), tuple((str(array.dtype), array.shape, array.tobytes()) for array in shown))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Traced) and self._key == other._key


@functools.lru_cache(maxsize=64)
def _compiled(traced: _Traced, varying: tuple[bool, ...]) -> Tape:
    graph, closed = Graph(NODES), traced.closed
    if work(closed) > WORK:
        raise TooLargeError(f"more than {WORK} operations")
    arguments = [
        np.array([graph.input() for _ in range(variable.aval.size)], int).reshape(variable.aval.shape)
        for variable in closed.jaxpr.invars
    ]
    results = interpret(graph, closed, arguments)
    inputs = np.concatenate([nodes.ravel() for nodes in arguments]).tolist()
    varies = [varies for nodes, varies in zip(arguments, varying, strict=True) for _ in range(nodes.size)]
    return schedule(graph, inputs, varies, np.concatenate([nodes.ravel() for nodes in results]).tolist())


def _entry_shape(argument: Argument) -> tuple[int, ...]:
    shape = argument.array.shape
    shape = shape if argument.first is None else shape[1:]
    return shape[:-1] if argument.in_lanes else shape


def _sources(segment: Segment, tape: Tape, arrays: Sequence[Array], lanes: int) -> list[list[int]]:
    """[slot, array, offset, stage step, lane step] of the inputs that are needed."""
    rows, number = [], 0
    for argument in segment.arguments:
        array = next(index for index, known in enumerate(arrays) if known is argument.array)
        each = lanes if argument.in_lanes else 1  # what an entry takes
        size = int(np.prod(_entry_shape(argument), dtype=int))
        stage_step = 0 if argument.first is None else size * each
        for entry in range(size):
            if tape.inputs[number] >= 0:
                offset = (argument.first or 0) * stage_step + entry * each
                rows.append([int(tape.inputs[number]), array, offset, stage_step, int(argument.in_lanes)])
            number += 1
    return rows


def _targets(segment: Segment, outputs: Sequence[jax.ShapeDtypeStruct], lanes: int) -> list[list[int]]:
    """[output, offset, stage step] of every entry of every result."""
    rows = []
    for output, first in segment.targets:
        size = int(np.prod(outputs[output].shape[1:-1], dtype=int))
        step = size * lanes
        rows += [[output, first * step + entry * lanes, step] for entry in range(size)]
    return rows
