"""Expressions are shared and simplified as they are made, and their tape computes what they say."""

import math

import numpy as np
import pytest

from planahead.tape.graph import MEANING, Graph, Operation, TooLargeError
from planahead.tape.schedule import STORE, schedule


@pytest.fixture
def graph() -> Graph:
    return Graph(limit=1000)


def test_the_same_operation_is_one_node(graph):
    x, y = graph.input(), graph.input()
    assert graph.apply(Operation.ADD, x, y) == graph.apply(Operation.ADD, y, x)
    assert graph.apply(Operation.SUB, x, y) != graph.apply(Operation.SUB, y, x)


def test_what_costs_nothing_is_no_operation(graph):
    x = graph.input()
    zero, one, minus = graph.zero, graph.one, graph.constant(-1.0)
    apply = graph.apply
    for node in (
        apply(Operation.ADD, zero, x), apply(Operation.ADD, x, zero), apply(Operation.SUB, x, zero),
        apply(Operation.MUL, one, x), apply(Operation.DIV, x, one), apply(Operation.SELECT, one, x, zero),
        apply(Operation.SELECT, graph.input(), x, x), apply(Operation.NEG, apply(Operation.NEG, x)),
        apply(Operation.MUL, minus, apply(Operation.NEG, x)),
    ):  # fmt: skip
        assert node == x
    assert apply(Operation.MUL, x, zero) == zero
    assert apply(Operation.DIV, zero, x) == zero
    y = graph.input()
    assert apply(Operation.ADD, y, apply(Operation.NEG, x)) == apply(Operation.SUB, y, x)
    assert apply(Operation.SUB, y, apply(Operation.NEG, x)) == apply(Operation.ADD, y, x)


def test_constants_are_folded_and_keep_their_sign_and_their_nan(graph):
    assert graph.values[graph.apply(Operation.SIN, graph.constant(0.5))] == math.sin(0.5)
    assert graph.constant(0.0) != graph.constant(-0.0)
    assert graph.constant(math.nan) == graph.constant(math.nan)
    assert math.isnan(graph.values[graph.apply(Operation.DIV, graph.zero, graph.zero)])


def test_a_graph_that_grows_too_large_says_so():
    graph = Graph(limit=4)
    x = graph.input()
    with pytest.raises(TooLargeError, match="more than 4 nodes"):
        for _ in range(4):
            x = graph.apply(Operation.SIN, x)


def run(tape, inputs: list[float]) -> dict[int, float]:
    """What a tape stores, by an evaluator of ten lines."""
    slots = np.full(tape.slots, np.nan)
    slots[: tape.constants.size] = tape.constants
    for slot, value in zip(tape.inputs, inputs, strict=True):
        if slot >= 0:
            slots[slot] = value
    stored = {}
    fused = {
        Operation.FMA: lambda a, b, c: a * b + c,
        Operation.FMS: lambda a, b, c: a * b - c,
        Operation.FNMA: lambda a, b, c: c - a * b,
    }
    for operation, out, a, b, c in [*tape.once.tolist(), *tape.every.tolist()]:
        if operation == STORE:
            stored[out] = slots[a]
            continue
        meaning = (MEANING | fused)[Operation(operation)]
        slots[out] = meaning(*(slots[index] for index in (a, b, c)[: meaning_size(Operation(operation))]))
    return stored


def meaning_size(operation: Operation) -> int:
    if operation in (Operation.FMA, Operation.FMS, Operation.FNMA, Operation.SELECT):
        return 3
    two = (
        Operation.ADD, Operation.SUB, Operation.MUL, Operation.DIV, Operation.MAX, Operation.MIN,
        Operation.LT, Operation.LE, Operation.EQ, Operation.NE, Operation.POW, Operation.ATAN2,
    )  # fmt: skip
    return 2 if operation in two else 1


def test_a_tape_of_random_expressions_computes_them():
    """Slots are taken and given back in every possible order; a value that is overwritten too early would show."""
    random = np.random.default_rng(0)
    for _ in range(30):
        graph = Graph(limit=1000)
        inputs = [graph.input() for _ in range(4)]
        values = random.normal(size=4).tolist()
        known = dict(zip(inputs, values, strict=True)) | graph.values
        for _ in range(60):
            operation = Operation(int(random.choice([0, 1, 2, 7, 9, 11, 15, 19])))
            arguments = [int(random.choice(list(known))) for _ in range(meaning_size(operation))]
            node = graph.apply(operation, *arguments)
            known |= graph.values
            known.setdefault(node, float(MEANING[operation](*(known[argument] for argument in arguments))))
        results = [int(node) for node in random.choice(list(known), 12)]
        stored = run(schedule(graph, inputs, [True, False, True, True], results), values)
        expected = {number: known[node] for number, node in enumerate(results)}
        assert stored.keys() == expected.keys()
        np.testing.assert_allclose([stored[number] for number in expected], list(expected.values()), rtol=1e-12)


def test_what_does_not_vary_is_computed_once(graph):
    x, mass = graph.input(), graph.input()
    inverse = graph.apply(Operation.DIV, graph.one, graph.apply(Operation.SIN, mass))
    tape = schedule(graph, [x, mass], [True, False], [graph.apply(Operation.MUL, inverse, x)])
    assert [row[0] for row in tape.once.tolist()] == [Operation.SIN, Operation.DIV]
    assert [row[0] for row in tape.every.tolist()] == [Operation.MUL, STORE]


def test_a_product_that_is_used_once_is_fused(graph):
    x, y = graph.input(), graph.input()
    product = graph.apply(Operation.MUL, x, y)
    alone = schedule(graph, [x, y], [True, True], [graph.apply(Operation.ADD, product, x)])
    assert [row[0] for row in alone.every.tolist()] == [Operation.FMA, STORE]
    shared = schedule(graph, [x, y], [True, True], [graph.apply(Operation.ADD, product, x), product])
    assert Operation.FMA not in [row[0] for row in shared.every.tolist()]


def test_an_input_that_is_not_needed_has_no_slot(graph):
    x, y = graph.input(), graph.input()
    assert schedule(graph, [x, y], [True, True], [graph.apply(Operation.SIN, y)]).inputs.tolist()[0] == -1
