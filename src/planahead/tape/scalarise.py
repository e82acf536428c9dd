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

from planahead.tape.graph import Graph, Operation

Nodes = np.ndarray
"""An array whose entries are nodes."""


class UnsupportedError(Exception):
    """A primitive that has no scalar form here."""


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
        self.graph = graph

    def closed(self, closed: Any, arguments: Sequence[Nodes]) -> list[Nodes]:
        return self.run(closed.jaxpr, [self.constants(constant) for constant in closed.consts], arguments)

    def run(self, jaxpr: Any, constants: Sequence[Nodes], arguments: Sequence[Nodes]) -> list[Nodes]:
        known: dict[Any, Nodes] = {}
        known.update(zip(jaxpr.constvars, constants, strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def read(variable: Any) -> Nodes:
            if isinstance(variable, jax.extend.core.Literal):
                return self.constants(variable.val)
            return known[variable]

        for equation in jaxpr.eqns:
            results = self.equation(equation, [read(variable) for variable in equation.invars])
            known.update(zip(equation.outvars, map(np.asarray, results), strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def constants(self, values: Any) -> Nodes:
        kind = np.result_type(values)
        if not any(np.issubdtype(kind, known) for known in (np.floating, np.integer, np.bool_)):
            raise UnsupportedError(f"constants of {kind}")
        array = np.asarray(values)
        return _filled(array.shape, [self.graph.constant(float(value)) for value in array.ravel()])

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
            if _is(equation.outvars[0], jnp.bool_) and not _is(equation.invars[0], jnp.bool_):
                return [self.each(Operation.NE, inputs[0], np.asarray(self.graph.zero))]
            return inputs
        if name in _OF_NUMBERS and whole:
            raise UnsupportedError(f"{name} of integers")
        if name in _ELEMENTWISE:
            nodes = self.each(_ELEMENTWISE[name], *inputs)
            if whole and self.overflows(nodes, outputs[0].dtype):
                raise UnsupportedError(f"{outputs[0].dtype} beyond its range")
            return [nodes]
        method = getattr(self, "_" + name.replace("-", "_"), None)
        if method is None:
            raise UnsupportedError(name)
        return [np.asarray(method(parameters, outputs[0], *inputs))]

    def whole(self, nodes: Nodes) -> bool:
        """Whether all are known integers."""
        values = self.graph.values
        return all(node in values and values[node].is_integer() for node in nodes.ravel().tolist())

    def overflows(self, nodes: Nodes, dtype: Any) -> bool:
        """Whether a known integer is none of `dtype`, where it would wrap around."""
        limits = jnp.iinfo(dtype)
        known = (self.graph.values.get(node, 0.0) for node in nodes.ravel().tolist())
        return any(not limits.min <= value <= limits.max for value in known)

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
                self.each(Operation.SELECT, np.asarray(here), a, b)
                for a, b in zip(results[number], chosen, strict=True)
            ]
        return chosen

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

    # One method a primitive: its parameters, what comes out, its inputs.

    def _broadcast_in_dim(self, parameters, output, nodes):
        shape = [1] * len(output.shape)
        for axis, place in enumerate(parameters["broadcast_dimensions"]):
            shape[place] = nodes.shape[axis]
        return np.broadcast_to(nodes.reshape(shape), output.shape)

    def _reshape(self, parameters, output, nodes):
        order = parameters["dimensions"]  # in which the axes are read
        return (nodes if order is None else np.transpose(nodes, order)).reshape(output.shape)

    def _squeeze(self, parameters, output, nodes):
        return nodes.reshape(output.shape)

    _expand_dims = _squeeze

    def _transpose(self, parameters, output, nodes):
        return np.transpose(nodes, parameters["permutation"])

    def _rev(self, parameters, output, nodes):
        return np.flip(nodes, parameters["dimensions"])

    def _concatenate(self, parameters, output, *arrays):
        return np.concatenate(arrays, parameters["dimension"])

    def _stack(self, parameters, output, *arrays):
        return np.stack(arrays, parameters["axis"])

    def _tile(self, parameters, output, nodes):
        return np.tile(nodes, parameters["reps"])

    def _slice(self, parameters, output, nodes):
        strides = parameters["strides"] or (1,) * nodes.ndim
        parts = zip(parameters["start_indices"], parameters["limit_indices"], strides, strict=True)
        return nodes[tuple(slice(*part) for part in parts)]

    def _pad(self, parameters, output, nodes, value):
        edges = parameters["padding_config"]
        inner = [max(size - 1, 0) * between + size for size, (_, _, between) in zip(nodes.shape, edges, strict=True)]
        shape = [size + max(low, 0) + max(high, 0) for size, (low, high, _) in zip(inner, edges, strict=True)]
        padded = np.broadcast_to(value, shape).copy()
        places = zip(inner, edges, strict=True)
        padded[tuple(slice(max(low, 0), max(low, 0) + size, between + 1) for size, (low, _, between) in places)] = nodes
        # Negative edges are cut off.
        return padded[tuple(slice(max(-low, 0), min(high, 0) or None) for low, high, _ in edges)]

    def _iota(self, parameters, output):
        axis = parameters["dimension"]
        shape = [1] * len(output.shape)
        shape[axis] = output.shape[axis]
        return np.broadcast_to(self.constants(np.arange(output.shape[axis]).reshape(shape)), output.shape)

    def _gather(self, parameters, output, nodes, indices):
        numbers = self.known(indices)
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

    def _scatter(self, parameters, output, nodes, indices, updates):
        with jax.ensure_compile_time_eval():
            # Where every entry comes from: its old place, or one past them all that counts the updates.
            came = jax.lax.scatter(
                np.arange(nodes.size, dtype=np.int32).reshape(nodes.shape),
                self.known(indices).astype(np.int32),
                nodes.size + np.arange(updates.size, dtype=np.int32).reshape(updates.shape),
                parameters["dimension_numbers"],
                mode=parameters["mode"],
            )
            places = np.asarray(came)
        return np.concatenate([nodes.ravel(), updates.ravel()])[places]

    def _scatter_add(self, parameters, output, nodes, indices, updates):
        numbers = self.known(indices).astype(np.int32)
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
                total[index] = self.graph.apply(Operation.ADD, int(total[index]), update)
        return total

    def _empty2(self, parameters, output):
        return self.nothing(output, 0.0)

    def _dynamic_slice(self, parameters, output, nodes, *starts):
        sizes = parameters["slice_sizes"]
        first = [int(self.known(start)) for start in starts]
        begin = [
            min(max(start, 0), extent - size) for start, extent, size in zip(first, nodes.shape, sizes, strict=True)
        ]
        return nodes[tuple(slice(start, start + size) for start, size in zip(begin, sizes, strict=True))]

    def _dynamic_update_slice(self, parameters, output, nodes, update, *starts):
        first = [int(self.known(start)) for start in starts]
        begin = [
            min(max(start, 0), extent - size)
            for start, extent, size in zip(first, nodes.shape, update.shape, strict=True)
        ]
        changed = nodes.copy()
        changed[tuple(slice(start, start + size) for start, size in zip(begin, update.shape, strict=True))] = update
        return changed

    def _select_n(self, parameters, output, which, *cases):
        if len(cases) != 2:
            raise UnsupportedError("select_n among more than two")
        return self.each(Operation.SELECT, which, cases[1], cases[0])

    def _clamp(self, parameters, output, low, nodes, high):
        return self.each(Operation.MIN, self.each(Operation.MAX, low, nodes), high)

    def _integer_pow(self, parameters, output, nodes):
        power = parameters["y"]
        result = _power(self, nodes, abs(power))
        return self.each(Operation.DIV, np.asarray(self.graph.one), result) if power < 0 else result

    def _reduce_sum(self, parameters, output, nodes):
        return self.reduce(Operation.ADD, parameters["axes"], nodes) if nodes.size else self.nothing(output, 0.0)

    def _reduce_max(self, parameters, output, nodes):
        return self.reduce(Operation.MAX, parameters["axes"], nodes) if nodes.size else self.nothing(output, -math.inf)

    def _reduce_min(self, parameters, output, nodes):
        return self.reduce(Operation.MIN, parameters["axes"], nodes) if nodes.size else self.nothing(output, math.inf)

    def _reduce_prod(self, parameters, output, nodes):
        return self.reduce(Operation.MUL, parameters["axes"], nodes) if nodes.size else self.nothing(output, 1.0)

    def _reduce_and(self, parameters, output, nodes):
        return self.reduce(Operation.MIN, parameters["axes"], nodes) if nodes.size else self.nothing(output, 1.0)

    def _reduce_or(self, parameters, output, nodes):
        return self.reduce(Operation.MAX, parameters["axes"], nodes) if nodes.size else self.nothing(output, 0.0)

    def _cumsum(self, parameters, output, nodes):
        if not nodes.size:
            return nodes
        moved = np.moveaxis(nodes, parameters["axis"], 0)
        moved = moved[::-1] if parameters["reverse"] else moved
        sums = [np.asarray(moved[0])]
        for part in moved[1:]:
            sums.append(self.each(Operation.ADD, sums[-1], np.asarray(part)))
        stacked = np.stack(sums[::-1] if parameters["reverse"] else sums)
        return np.moveaxis(stacked, 0, parameters["axis"])

    def _dot_general(self, parameters, output, left, right):
        (contract_left, contract_right), (batch_left, batch_right) = parameters["dimension_numbers"]
        A, B = _grouped(left, batch_left, contract_left), _grouped(right, batch_right, contract_right)
        total = np.full((A.shape[0], A.shape[1], B.shape[1]), self.graph.zero)
        for j in range(A.shape[2]):
            product = self.each(Operation.MUL, A[:, :, None, j], B[:, None, :, j])
            total = self.each(Operation.ADD, total, product)
        return total.reshape(output.shape)

    def known(self, nodes: Nodes) -> np.ndarray:
        """The numbers of nodes that must be constants."""
        if not all(node in self.graph.values for node in nodes.ravel()):
            raise UnsupportedError("an index that is not known")
        return np.asarray([self.graph.values[node] for node in nodes.ravel()]).reshape(nodes.shape)

    def nothing(self, output: Any, value: float) -> Nodes:
        return np.full(output.shape, self.graph.constant(value))


def _grouped(nodes: Nodes, batch: Sequence[int], contract: Sequence[int]) -> Nodes:
    """As [batch, free, contracted]."""
    free = [axis for axis in range(nodes.ndim) if axis not in batch and axis not in contract]
    sizes = [math.prod(nodes.shape[axis] for axis in axes) for axes in (batch, free, contract)]
    return np.transpose(nodes, (*batch, *free, *contract)).reshape(sizes)


def _power(interpreter: _Interpreter, nodes: Nodes, power: int) -> Nodes:
    """By squaring."""
    result = np.full(nodes.shape, interpreter.graph.one)
    square = nodes
    while power:
        if power & 1:
            result = interpreter.each(Operation.MUL, result, square)
        power >>= 1
        if power:
            square = interpreter.each(Operation.MUL, square, square)
    return result


def _is(entry: Any, kind: Any) -> bool:
    """Whether a variable or literal holds numbers of that kind."""
    dtype = getattr(entry.aval, "dtype", None)  # a token has none
    return dtype is not None and jnp.issubdtype(dtype, kind)


def _filled(shape: tuple[int, ...], nodes: list[int]) -> Nodes:
    return np.asarray(nodes, int).reshape(shape)


def _not(graph: Graph, a: int) -> int:
    return graph.apply(Operation.EQ, a, graph.zero)


_OF_NUMBERS = ("and", "or", "xor", "not", "reduce_and", "reduce_or", "div", "pow", "integer_pow")
"""Which mean something else for integers."""
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
_ELEMENTWISE: dict[str, Operation | Callable[..., int]] = {
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
