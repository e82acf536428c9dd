"""What the primitives of JAX that know no shapes do to the entries of their arrays."""

from collections.abc import Callable

from planahead.tape.graph import Graph, Operation


def _not(graph: Graph, a: int) -> int:
    return graph.apply(Operation.EQ, a, graph.zero)


ELEMENTWISE: dict[str, Operation | Callable[..., int]] = {
    "add": Operation.ADD,
    "add_any": Operation.ADD,
    "sub": Operation.SUB,
    "mul": Operation.MUL,
    "div": Operation.DIV,
    "neg": Operation.NEG,
    "max": Operation.MAX,
    "min": Operation.MIN,
    "lt": Operation.LT,
    "le": Operation.LE,
    "gt": lambda graph, a, b: graph.apply(Operation.LT, b, a),
    "ge": lambda graph, a, b: graph.apply(Operation.LE, b, a),
    "eq": Operation.EQ,
    "ne": Operation.NE,
    "and": Operation.MIN,
    "or": Operation.MAX,
    "xor": Operation.NE,
    "not": _not,
    "abs": Operation.ABS,
    "sqrt": Operation.SQRT,
    "rsqrt": lambda graph, a: graph.apply(Operation.DIV, graph.one, graph.apply(Operation.SQRT, a)),
    "square": lambda graph, a: graph.apply(Operation.MUL, a, a),
    "sign": Operation.SIGN,
    "floor": Operation.FLOOR,
    "sin": Operation.SIN,
    "cos": Operation.COS,
    "tan": Operation.TAN,
    "exp": Operation.EXP,
    "log": Operation.LOG,
    "tanh": Operation.TANH,
    "pow": Operation.POW,
    "atan2": Operation.ATAN2,
    "asin": Operation.ASIN,
    "acos": Operation.ACOS,
    "atan": Operation.ATAN,
    "sinh": Operation.SINH,
    "cosh": Operation.COSH,
    "expm1": Operation.EXPM1,
    "log1p": Operation.LOG1P,
    "erf": Operation.ERF,
    "is_finite": Operation.FINITE,
    "logistic": lambda graph, a: graph.apply(
        Operation.DIV,
        graph.one,
        graph.apply(Operation.ADD, graph.one, graph.apply(Operation.EXP, graph.apply(Operation.NEG, a))),
    ),
    "copy": lambda graph, a: a,
    "copy_p": lambda graph, a: a,
    "stop_gradient": lambda graph, a: a,
}
"""Primitives of single entries, as operations or of several."""
OF_NUMBERS = ("and", "or", "xor", "not", "reduce_and", "reduce_or", "div", "pow", "integer_pow")
"""Which mean something else for integers."""
