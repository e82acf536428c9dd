"""A JAX function as a graph of scalar expressions: its jaxpr, every array entry a node.

Loops of known length are unrolled, branches become selections, calls are inlined. What cannot be told entry by entry
(a `while_loop`, a decomposition of a matrix, a random number) is refused with `UnsupportedError`, and the caller
evaluates the function with XLA instead.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.core
import jax.extend
import jax.numpy as jnp
import numpy as np

from planahead.tape.arrays import Arrays, Nodes, UnsupportedError
from planahead.tape.elementwise import ELEMENTWISE, OF_NUMBERS
from planahead.tape.graph import Graph, Operation
from planahead.tape.primitives import ARRAYS


def closed_jaxpr(function: Callable[..., Any], shapes: Sequence[tuple[int, ...]], dtype: Any) -> Any:
    """`function` of arrays of these shapes as a jaxpr.

    **Raises:** `UnsupportedError` where it closes over values of a transformation around it.
    """
    closed = jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes))
    if any(isinstance(constant, jax.core.Tracer) for constant in closed.consts):
        raise UnsupportedError("a function that closes over values of a surrounding transformation")
    return closed


def interpret(graph: Graph, closed: Any, arguments: Sequence[Nodes]) -> list[Nodes]:
    """The results of a jaxpr applied to arrays of nodes.

    **Raises:** `UnsupportedError`, and `TooLargeError` beyond the graph's limit.
    """
    return _Interpreter(graph).closed(closed, arguments)


def work(jaxpr: Any) -> int:
    """Scalar operations of a jaxpr before anything is simplified, about."""
    total = 0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        parameters, inner = equation.params, _inside(equation)
        if inner:
            times = parameters["length"] if equation.primitive.name == "scan" else 1
            total += times * sum(work(part) for part in inner)
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        else:
            total += sum(variable.aval.size for variable in equation.outvars)
    return total


def hidden_arrays(jaxpr: Any) -> Iterator[Any]:
    """What the text of a jaxpr does not show: arrays that it, or a jaxpr inside of it, closes over or has as literals.

    >>> table = np.array([1.0, 2.0])
    >>> closed = closed_jaxpr(jax.jit(lambda x: jnp.sum(table * x)), [()], float)
    >>> closed.consts, [np.asarray(array).tolist() for array in hidden_arrays(closed)]
    ([], [[1.0, 2.0]])
    """
    yield from getattr(jaxpr, "consts", ())
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        literals = (entry.val for entry in equation.invars if isinstance(entry, jax.extend.core.Literal))
        yield from (value for value in literals if np.ndim(value))
        for part in _inside(equation):
            yield from hidden_arrays(part)


def _inside(equation: Any) -> list[Any]:
    """The jaxprs in the parameters of an equation: the body of a loop, what is called, branches."""
    values = equation.params.values()
    found = [value for value in values if hasattr(value, "eqns") or hasattr(value, "jaxpr")]
    return [*found, *equation.params.get("branches", ())]


class _Interpreter:
    def __init__(self, graph: Graph):
        self.graph, self.arrays = graph, Arrays(graph)

    def closed(self, closed: Any, arguments: Sequence[Nodes]) -> list[Nodes]:
        return self.run(closed.jaxpr, [self.arrays.constants(constant) for constant in closed.consts], arguments)

    def run(self, jaxpr: Any, constants: Sequence[Nodes], arguments: Sequence[Nodes]) -> list[Nodes]:
        known: dict[Any, Nodes] = {}
        known.update(zip(jaxpr.constvars, constants, strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def read(variable: Any) -> Nodes:
            if isinstance(variable, jax.extend.core.Literal):
                return self.arrays.constants(variable.val)
            return known[variable]

        for equation in jaxpr.eqns:
            results = self.equation(equation, [read(variable) for variable in equation.invars])
            known.update(zip(equation.outvars, map(np.asarray, results), strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def equation(self, equation: Any, inputs: list[Nodes]) -> list[Nodes]:
        name, parameters = equation.primitive.name, equation.params
        if name in _CALLS:
            return self.closed_or_open(parameters[_CALLS[name]], inputs)
        if name == "scan":
            return self.scan(parameters, inputs)
        if name == "cond":
            return self.cond(parameters["branches"], inputs)
        if name == "unstack":
            return [np.asarray(part) for part in np.moveaxis(inputs[0], parameters["axis"], 0)]
        if name == "split":
            ends = np.cumsum(parameters["sizes"])[:-1]
            return list(np.split(inputs[0], ends, axis=parameters["axis"]))
        outputs = [variable.aval for variable in equation.outvars]
        if any(_is(entry, jnp.complexfloating) for entry in (*equation.invars, *equation.outvars)):
            raise UnsupportedError(f"{name} of complex numbers")
        whole = any(_is(entry, jnp.integer) for entry in equation.outvars)
        if name in ("custom_lin", "convert_element_type", "reduce_precision"):
            if whole and _is(equation.invars[0], jnp.inexact) and not self.whole(inputs[0]):
                raise UnsupportedError("a floating-point number made an integer")
            if whole:
                self.check_range(inputs[0], outputs[0].dtype)
            if _is(equation.outvars[0], jnp.bool_) and not _is(equation.invars[0], jnp.bool_):
                return [self.arrays.each(Operation.NE, inputs[0], np.asarray(self.graph.zero))]
            return inputs
        if name in OF_NUMBERS and whole:
            raise UnsupportedError(f"{name} of integers")
        if name in ELEMENTWISE:
            nodes = self.arrays.each(ELEMENTWISE[name], *inputs)
        elif name in ARRAYS:
            nodes = np.asarray(ARRAYS[name](self.arrays, parameters, outputs[0], *inputs))
        else:
            raise UnsupportedError(name)
        if whole:
            self.check_range(nodes, outputs[0].dtype)
        return [nodes]

    def whole(self, nodes: Nodes) -> bool:
        """Whether all are known integers."""
        values = self.graph.values
        return all(node in values and values[node].is_integer() for node in nodes.ravel().tolist())

    def check_range(self, nodes: Nodes, dtype: Any) -> None:
        """Refuse known integers that are none of `dtype`, where they would wrap around."""
        limits = jnp.iinfo(dtype)
        known = (self.graph.values.get(node, 0.0) for node in nodes.ravel().tolist())
        if any(not limits.min <= value <= limits.max for value in known):
            raise UnsupportedError(f"{dtype} beyond its range")

    def closed_or_open(self, jaxpr: Any, inputs: list[Nodes]) -> list[Nodes]:
        if hasattr(jaxpr, "consts"):
            return self.closed(jaxpr, inputs)
        return self.run(jaxpr, [], inputs)

    def scan(self, parameters: dict[str, Any], inputs: list[Nodes]) -> list[Nodes]:
        fixed, carried = parameters["num_consts"], parameters["num_carry"]
        constants, carry, slices = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]
        length = parameters["length"]
        collected: list[list[Nodes]] = [[] for _ in parameters["jaxpr"].jaxpr.outvars[carried:]]
        order = range(length - 1, -1, -1) if parameters["reverse"] else range(length)
        for k in order:
            results = self.closed(
                parameters["jaxpr"], [*constants, *carry, *(np.asarray(values[k]) for values in slices)]
            )
            carry = results[:carried]
            for kept, value in zip(collected, results[carried:], strict=True):
                kept.append(value)
        if parameters["reverse"]:
            collected = [kept[::-1] for kept in collected]
        shapes = [variable.aval.shape for variable in parameters["jaxpr"].jaxpr.outvars[carried:]]
        return [
            *carry,
            *(
                np.stack(kept) if kept else np.zeros((0, *shape), int)
                for kept, shape in zip(collected, shapes, strict=True)
            ),
        ]

    def cond(self, branches: Sequence[Any], inputs: list[Nodes]) -> list[Nodes]:
        index = int(inputs[0].ravel()[0])
        results = [self.closed(branch, inputs[1:]) for branch in branches]
        chosen = results[-1]
        for number in range(len(branches) - 2, -1, -1):
            # Indices are clamped, so that everything up to the first branch's number is the first branch's.
            here = self.graph.apply(Operation.LE, index, self.graph.constant(float(number)))
            chosen = [
                self.arrays.each(Operation.SELECT, np.asarray(here), a, b)
                for a, b in zip(results[number], chosen, strict=True)
            ]
        return chosen


def _is(entry: Any, kind: Any) -> bool:
    """Whether a variable or literal holds numbers of that kind."""
    dtype = getattr(entry.aval, "dtype", None)  # a token has none
    return dtype is not None and jnp.issubdtype(dtype, kind)


_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
