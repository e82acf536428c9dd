"""A graph as a list of instructions over numbered slots, the tape that the native evaluator reads.

Nodes are visited depth first from each result, so that few are alive at a time, and a slot is free again after the last
use of its node. A product that is used once, in a sum, becomes one fused instruction. What depends on nothing that
varies comes first, once a call.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planahead.tape.graph import Graph, Operation

STORE = 255
"""The operation that writes slot `a` to output `out`."""


class Tape(NamedTuple):
    """Instructions and the slots they start from. Every slot holds one number a lane."""

    constants: np.ndarray
    """Their values, in slots 0, 1, …"""
    inputs: np.ndarray
    """The slot of every input, -1 where it is not needed."""
    once: np.ndarray
    """[instructions, 5]: operation, out, a, b, c. For what does not vary."""
    every: np.ndarray
    """The same for the rest, results stored as they are reached."""
    slots: int


def schedule(graph: Graph, inputs: Sequence[int], varying: Sequence[bool], results: Sequence[int]) -> Tape:
    """The instructions that compute `results` from `inputs`, of which those that are not `varying` are the same for
    everything that a call evaluates."""
    fused = _fused(graph, results)
    order = _depth_first(fused, results)
    slots = _Slots()
    wanted = set(order)
    constants = [node for node in order if node in graph.values]
    place = {node: slots.take() for node in constants}
    input_slots = []
    for node in inputs:
        if node in wanted:
            place[node] = slots.take()
        input_slots.append(place.get(node, -1))

    changing = {node for node, varies in zip(inputs, varying, strict=True) if varies}
    once, every = [], []
    for node in order:
        if not fused[node]:
            continue
        if any(argument in changing for argument in fused[node][1:]):
            changing.add(node)
            every.append(node)
        else:
            once.append(node)

    def instruction(node: int) -> list[int]:
        operation, *arguments = fused[node]
        return [int(operation), place[node], *(place[argument] for argument in arguments), *[0] * (3 - len(arguments))]

    first = []
    for node in once:
        place[node] = slots.take()
        first.append(instruction(node))
    permanent = set(place)
    stores: dict[int, list[int]] = {}
    for number, node in enumerate(results):
        stores.setdefault(node, []).append(number)
    # The instruction after which a slot is free.
    last = {}
    for index, node in enumerate(every):
        last[node] = index
        for argument in fused[node][1:]:
            last[argument] = index
    rest = [[STORE, number, place[node], 0, 0] for node in stores if node in permanent for number in stores[node]]
    for index, node in enumerate(every):
        ending = {argument for argument in fused[node][1:] if argument not in permanent and last[argument] == index}
        arguments = [place[argument] for argument in fused[node][1:]]
        for argument in ending:
            slots.give(place[argument])
        place[node] = slots.take()
        operation = int(fused[node][0])
        rest.append([operation, place[node], *arguments, *[0] * (3 - len(arguments))])
        rest += [[STORE, number, place[node], 0, 0] for number in stores.get(node, [])]
        if last[node] == index:
            slots.give(place[node])
    values = np.array([graph.values[node] for node in constants], float)
    return Tape(values, np.array(input_slots, int), _table(first), _table(rest), slots.used)


class _Slots:
    """Numbers to keep nodes in; the one given back last is taken first, while it is in the cache."""

    def __init__(self):
        self.used = 0
        self._free: list[int] = []

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self.used += 1
        return self.used - 1

    def give(self, slot: int) -> None:
        self._free.append(slot)


def _fused(graph: Graph, results: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """(operation, *arguments) of every node that `results` need, products folded into the sums that alone use them;
    empty for constants and inputs."""
    needed: dict[int, int] = {}
    stack = list(dict.fromkeys(results))
    for node in stack:
        needed[node] = needed.get(node, 0) + 1  # a result is used by its store
    seen = set(stack)
    while stack:
        node = stack.pop()
        for argument in graph.arguments[node]:
            needed[argument] = needed.get(argument, 0) + 1
            if argument not in seen:
                seen.add(argument)
                stack.append(argument)

    def product(node: int) -> bool:
        return graph.operations[node] == Operation.MUL and needed[node] == 1

    found: dict[int, tuple[int, ...]] = {}
    for node in sorted(seen):
        operation, arguments = graph.operations[node], graph.arguments[node]
        if operation is None:
            found[node] = ()
            continue
        found[node] = (operation, *arguments)
        if operation in (Operation.ADD, Operation.SUB) and arguments[0] != arguments[1]:
            a, b = arguments
            if product(b):
                fused = Operation.FMA if operation == Operation.ADD else Operation.FNMA
                found[node] = (fused, *graph.arguments[b], a)
            elif product(a):
                fused = Operation.FMA if operation == Operation.ADD else Operation.FMS
                found[node] = (fused, *graph.arguments[a], b)
    return found


def _depth_first(nodes: dict[int, tuple[int, ...]], results: Sequence[int]) -> list[int]:
    """Every node that `results` need, after its arguments."""
    done: set[int] = set()
    order: list[int] = []
    for result in results:
        stack = [(result, False)]
        while stack:
            node, complete = stack.pop()
            if node in done:
                continue
            if complete:
                done.add(node)
                order.append(node)
                continue
            stack.append((node, True))
            stack += [(argument, False) for argument in reversed(nodes[node][1:]) if argument not in done]
    return order


def _table(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.int32).reshape(-1, 5)
