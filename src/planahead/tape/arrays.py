"""Arrays whose entries are nodes of a graph: constants, operations entry by entry, reductions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from planahead.tape.graph import Graph, Operation

Nodes = np.ndarray
"""An array whose entries are nodes."""


class UnsupportedError(Exception):
    """A primitive that has no scalar form here."""


class Arrays:
    """Operations on arrays of nodes of one graph."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def constants(self, values: Any) -> Nodes:
        kind = np.result_type(values)
        if not any(np.issubdtype(kind, known) for known in (np.floating, np.integer, np.bool_)):
            raise UnsupportedError(f"constants of {kind}")
        array = np.asarray(values)
        return _filled(array.shape, [self.graph.constant(float(value)) for value in array.ravel()])

    def each(self, operation: Operation | Callable[..., int], *inputs: Nodes) -> Nodes:
        """An operation, or one written with several, entry by entry."""
        inputs = tuple(np.broadcast_arrays(*inputs))
        if isinstance(operation, Operation):
            apply, chosen = self.graph.apply, operation
            nodes = [apply(chosen, *entries) for entries in zip(*(array.ravel().tolist() for array in inputs))]  # noqa: B905
        else:
            nodes = [operation(self.graph, *entries) for entries in zip(*(array.ravel().tolist() for array in inputs))]  # noqa: B905
        return _filled(inputs[0].shape, nodes)

    def reduce(self, operation: Operation, axes: Any, nodes: Nodes) -> Nodes:
        """`operation` over axes, first to last."""
        moved = np.moveaxis(nodes, axes, range(len(axes)))
        flat = moved.reshape(math.prod(moved.shape[: len(axes)]), *moved.shape[len(axes) :])
        total = np.asarray(flat[0])
        for part in flat[1:]:
            total = self.each(operation, total, np.asarray(part))
        return total

    def known(self, nodes: Nodes) -> np.ndarray:
        """The numbers of nodes that must be constants."""
        if not all(node in self.graph.values for node in nodes.ravel()):
            raise UnsupportedError("an index that is not known")
        return np.asarray([self.graph.values[node] for node in nodes.ravel()]).reshape(nodes.shape)

    def nothing(self, output: Any, value: float) -> Nodes:
        return np.full(output.shape, self.graph.constant(value))


def _filled(shape: tuple[int, ...], nodes: list[int]) -> Nodes:
    return np.asarray(nodes, int).reshape(shape)
