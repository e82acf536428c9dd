"""Scalar expressions as a graph: every node is a number, an input, or an operation on earlier nodes.

Nodes are shared (the same operation on the same nodes is one node) and simplified as they are made: constants are
folded, and 0 + x, 0 x, 1 x, -(-x) and their like vanish. A forward derivative along a unit vector therefore costs only
what its non-zero entries need, without anybody knowing a sparsity pattern. 0 x = 0 holds for finite x only; an x that
is not finite shows in the values that the derivative belongs to. 0 / x = 0 holds for no x that is 0: where XLA divides
a zero by it and has no number, the tape has 0.
"""

import math
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np


class Operation(IntEnum):
    """What a node computes; the numbers are those of `native/src/tape.h`. Truth is 1, falsehood 0."""

    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    FMA = 4  # a b + c
    FMS = 5  # a b - c
    FNMA = 6  # c - a b
    NEG = 7
    SELECT = 8  # b where a holds, else c
    MAX = 9
    MIN = 10
    LT = 11
    LE = 12
    EQ = 13
    NE = 14
    ABS = 15
    SQRT = 16
    SIGN = 17
    FLOOR = 18
    SIN = 19
    COS = 20
    TAN = 21
    EXP = 22
    LOG = 23
    TANH = 24
    POW = 25
    ATAN2 = 26
    ASIN = 27
    ACOS = 28
    ATAN = 29
    SINH = 30
    COSH = 31
    EXPM1 = 32
    LOG1P = 33
    ERF = 34
    FINITE = 35


MEANING: dict[Operation, Callable[..., Any]] = {
    Operation.ADD: lambda a, b: a + b,
    Operation.SUB: lambda a, b: a - b,
    Operation.MUL: lambda a, b: a * b,
    Operation.DIV: np.divide,
    Operation.NEG: lambda a: -a,
    Operation.SELECT: lambda a, b, c: b if a else c,
    Operation.MAX: np.maximum,
    Operation.MIN: np.minimum,
    Operation.LT: lambda a, b: float(a < b),
    Operation.LE: lambda a, b: float(a <= b),
    Operation.EQ: lambda a, b: float(a == b),
    Operation.NE: lambda a, b: float(a != b),
    Operation.ABS: abs,
    Operation.SQRT: np.sqrt,
    Operation.SIGN: np.sign,
    Operation.FLOOR: np.floor,
    Operation.SIN: np.sin,
    Operation.COS: np.cos,
    Operation.TAN: np.tan,
    Operation.EXP: np.exp,
    Operation.LOG: np.log,
    Operation.TANH: np.tanh,
    Operation.POW: np.power,
    Operation.ATAN2: np.arctan2,
    Operation.ASIN: np.arcsin,
    Operation.ACOS: np.arccos,
    Operation.ATAN: np.arctan,
    Operation.SINH: np.sinh,
    Operation.COSH: np.cosh,
    Operation.EXPM1: np.expm1,
    Operation.LOG1P: np.log1p,
    Operation.ERF: math.erf,
    Operation.FINITE: lambda a: float(np.isfinite(a)),
}
_COMMUTE = (Operation.ADD, Operation.MUL, Operation.MAX, Operation.MIN, Operation.EQ, Operation.NE)


class TooLargeError(Exception):
    """The expressions have more nodes than they were allowed."""


class Graph:
    """Nodes by number. `operations[n]` is None for constants and inputs; `arguments[n]` are earlier nodes.

    >>> graph = Graph(limit=100)
    >>> x = graph.input()
    >>> graph.apply(Operation.MUL, graph.constant(1.0), x) == x
    True
    """

    def __init__(self, limit: int):
        self.operations: list[Operation | None] = []
        self.arguments: list[tuple[int, ...]] = []
        self.values: dict[int, float] = {}
        """Of the nodes that are constants."""
        self._limit = limit
        self._constants: dict[tuple[float, float] | str, int] = {}
        self._known: dict[tuple[int, ...], int] = {}
        self.zero, self.one = self.constant(0.0), self.constant(1.0)

    def constant(self, value: float) -> int:
        """The node of a number."""
        value = float(value)
        key = "nan" if math.isnan(value) else (value, math.copysign(1.0, value))
        if key not in self._constants:
            self._constants[key] = self._add(None, ())
            self.values[self._constants[key]] = value
        return self._constants[key]

    def input(self) -> int:
        """A new number that is not known yet."""
        return self._add(None, ())

    def apply(self, operation: Operation, *arguments: int) -> int:
        """The node of an operation, simplified.

        **Raises:** `TooLargeError` beyond the limit.
        """
        if all(argument in self.values for argument in arguments):
            with np.errstate(all="ignore"):
                return self.constant(float(MEANING[operation](*(np.float64(self.values[a]) for a in arguments))))
        simple = self._simplified(operation, arguments)
        if simple is not None:
            return simple
        if operation in _COMMUTE and arguments[0] > arguments[1]:
            arguments = (arguments[1], arguments[0])
        key = (operation, *arguments)
        if key not in self._known:
            self._known[key] = self._add(operation, arguments)
        return self._known[key]

    def _add(self, operation: Operation | None, arguments: tuple[int, ...]) -> int:
        if len(self.operations) >= self._limit:
            raise TooLargeError(f"more than {self._limit} nodes")
        self.operations.append(operation)
        self.arguments.append(arguments)
        return len(self.operations) - 1

    def _simplified(self, operation: Operation, arguments: tuple[int, ...]) -> int | None:
        a, b = arguments[0], arguments[-1]
        first, second = self.values.get(a), self.values.get(b)
        if operation == Operation.ADD:
            if first == 0:
                return b
            if second == 0:
                return a
            if self.operations[b] == Operation.NEG:
                return self.apply(Operation.SUB, a, *self.arguments[b])
            if self.operations[a] == Operation.NEG:
                return self.apply(Operation.SUB, b, *self.arguments[a])
        elif operation == Operation.SUB:
            if second == 0:
                return a
            if first == 0:
                return self.apply(Operation.NEG, b)
            if self.operations[b] == Operation.NEG:
                return self.apply(Operation.ADD, a, *self.arguments[b])
        elif operation == Operation.MUL:
            if first == 0 or second == 0:
                return self.zero
            for value, other in ((first, b), (second, a)):
                if value == 1:
                    return other
                if value == -1:
                    return self.apply(Operation.NEG, other)
        elif operation == Operation.DIV:
            if first == 0:
                return self.zero
            if second == 1:
                return a
        elif operation == Operation.NEG and self.operations[a] == Operation.NEG:
            return self.arguments[a][0]
        elif operation == Operation.SELECT:
            if first is not None:
                return arguments[1] if first else b
            if arguments[1] == b:
                return b
        return None
