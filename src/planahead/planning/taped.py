"""A problem's functions of one stage through the native evaluator (`planahead.tape`), at all stages and in all lanes:
what XLA gives for them, in a third to a tenth of its time, where they have a tape.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning.conditions import NODEWISE, Held, Slopes, stage_conditions, terminal_conditions
from planahead.planning.linearisation import Hessian, Model, convex, needs_convex, stage_model, terminal_model
from planahead.problem import Problem
from planahead.problem.per_stage import is_per_stage
from planahead.tape.arrays import UnsupportedError
from planahead.tape.evaluate import Argument, Segment, evaluate

MATRIX = 200
"""Entries of a matrix, at most, that all lanes and stages share: XLA multiplies a batch by larger ones in fewer
instructions than a tape has. Networks of two hidden layers take it two thirds of the tape's time with 16 units a layer,
less than half with 32."""


class Source(NamedTuple):
    """Where a leaf of a problem comes from."""

    number: int
    """Among the leaves of the batch."""
    array: Array
    in_lanes: bool
    """Whether its last axis are lanes."""


class Taped:
    """A problem whose leaves are arguments of tapes.

    `single` is the problem of one lane; `sources` says where its leaves come from, by their identity.

    **Raises:** `UnsupportedError` where one is nobody's, and where one is better left to XLA.
    """

    def __init__(self, single: Problem, sources: Mapping[int, Source]):
        self.single = single
        leaves, self._structure = jax.tree.flatten(single, is_leaf=is_per_stage)
        # Numbers of Python are no leaves that anybody could change: the functions close over them.
        self._leaves = [None if isinstance(_values(leaf), jax.Array) else leaf for leaf in leaves]
        self.arrays = [leaf for leaf in leaves if isinstance(_values(leaf), jax.Array)]
        if any(id(_values(leaf)) not in sources for leaf in self.arrays):
            raise UnsupportedError(f"{type(single).__name__} computes with its leaves when it is made")
        self.sources = [sources[id(_values(leaf))] for leaf in self.arrays]
        for leaf, source in zip(self.arrays, self.sources, strict=True):
            shared = not (source.in_lanes or is_per_stage(leaf))
            if shared and leaf.ndim > 1 and leaf.size > MATRIX:
                raise UnsupportedError(f"all lanes share a matrix of shape {leaf.shape}")

    def problem(self, values: Sequence[Array]) -> Problem:
        """At one stage, of the values of `arrays` there."""
        rest = iter(values)
        return jax.tree.unflatten(self._structure, [next(rest) if leaf is None else leaf for leaf in self._leaves])

    def parameters(self, stage: int) -> list[Argument]:
        """`arrays` from a stage on."""
        return [
            Argument(source.array, stage if is_per_stage(leaf) else None, source.in_lanes)
            for leaf, source in zip(self.arrays, self.sources, strict=True)
        ]


def models(
    taped: Taped,
    hessian: Hessian,
    z: Float[Array, "nodes nz B"],
    costates: Float[Array, "nodes nx B"],
    multipliers: Float[Array, "nodes m B"],
    weights: Float[Array, "nodes B"],
) -> Model:
    """The quadratic models of all stages around `z`, lanes last: what `linearise` gives for each lane.

    **Raises:** `UnsupportedError` or `TooLargeError` where there is no tape.
    """
    nodes, nz, lanes = z.shape
    nx, N, number = taped.single.state_size, nodes - 1, len(taped.arrays)
    general = multipliers[:, nz:]

    def parts(model: Callable[..., Model]) -> Callable[..., Any]:
        def function(*values: Array) -> list[Array]:
            found = model(taped.problem(values[:number]), hessian, *values[number:])
            return [part for part in found if part is not None]

        return function

    inner = [_at(0, z), _at(1, z), _at(1, costates), _at(0, general), _at(0, weights)]
    last = [_at(N, z), _at(N, general), _at(N, weights)]
    # Their order is that of the fields of `Model`, as far as there are results.
    fields = _fields(nx, nz, general.shape[1], curved=needs_convex(taped.single, hessian))
    outputs = [
        jax.ShapeDtypeStruct((N if name in ("c", "F") else nodes, *shape, lanes), z.dtype) for name, shape in fields
    ]
    everywhere = [index for index, (name, _) in enumerate(fields) if name not in ("c", "F")]
    segments = [
        Segment(parts(stage_model), N, taped.parameters(0) + inner, [(index, 0) for index in range(len(fields))]),
        Segment(parts(terminal_model), 1, taped.parameters(N) + last, [(index, N) for index in everywhere]),
    ]
    results = dict(zip((name for name, _ in fields), evaluate(segments, outputs, lanes), strict=True))
    curved = results.get("curved")
    if curved is not None:
        over_lanes = jax.vmap(lambda curved: convex(hessian, curved), in_axes=-1, out_axes=-1)
        results["H"] += jax.vmap(over_lanes)(curved)
    return Model(**{"curved": None, **results})


def slopes(taped: Taped, held: Held, wanted: Sequence[bool], pinned: bool) -> Slopes:
    """What `conditions.slopes` gives for each lane, lanes last.

    **Raises:** `UnsupportedError` or `TooLargeError` where there is no tape.
    """
    nodes, _, lanes = held.z.shape
    N, nu, number = nodes - 1, taped.single.control_size, len(taped.arrays)
    moving = [index for index, source in enumerate(taped.sources) if wanted[source.number]]
    held_leaves = [leaf for index, leaf in enumerate(taped.arrays) if index not in moving]
    discount = taped.single.discount
    # One that is none of the leaves was computed, and from which of them nothing here tells.
    if moving and isinstance(discount, jax.Array) and not any(discount is leaf for leaf in held_leaves):
        raise UnsupportedError("a discount that moves, or may: stages are not told which they are")

    def gradients(part: Callable[..., Array], by_control: bool = False) -> Callable[..., Any]:
        def function(*values: Array) -> list[Array]:
            leaves, (weight, z, *rest) = values[:number], values[number:]

            def scalar(moved: list[Array], control: Array) -> Array:
                here = list(leaves)
                for index, value in zip(moving, moved, strict=True):
                    here[index] = value
                return part(taped.problem(here), weight, jnp.concatenate([control, z[nu:]]), *rest)

            by_leaves, by_u = jax.grad(scalar, (0, 1))([leaves[index] for index in moving], z[:nu])
            return [*by_leaves, *([by_u] if by_control else [])]

        return function

    inner, last = [_at(0, array) for array in held], [_at(N, array) for array in held[:NODEWISE]]
    shapes = [_values(taped.arrays[index]).shape[is_per_stage(taped.arrays[index]) :] for index in moving]
    outputs = [jax.ShapeDtypeStruct((nodes, *shape, lanes), held.z.dtype) for shape in shapes]
    segments, first = [], taped.parameters(0) + inner
    if moving:
        segments.append(_part(gradients(terminal_conditions), N, nodes, taped.parameters(N) + last, len(moving)))
    if pinned:
        targets = [(index, 0) for index in range(len(moving) + 1)]
        segments.append(Segment(gradients(stage_conditions, True), 1, first, targets))
        outputs.append(jax.ShapeDtypeStruct((1, nu, lanes), held.z.dtype))
    if moving and N > pinned:
        later = [_later(argument, int(pinned)) for argument in first]
        segments.append(_part(gradients(stage_conditions), int(pinned), N, later, len(moving)))
    found = evaluate(segments, outputs, lanes) if segments else []
    leaves: list[Array | None] = [None] * len(wanted)
    for index, slope in zip(moving, found, strict=False):
        leaf, source = taped.arrays[index], taped.sources[index].number
        slope, known = slope if is_per_stage(leaf) else jnp.sum(slope, axis=0), leaves[source]
        leaves[source] = slope if known is None else known + slope
    return Slopes(leaves, found[-1][0] if pinned else None)


def _part(function: Callable[..., Any], begin: int, end: int, arguments: list[Argument], results: int) -> Segment:
    """`function` at the stages from `begin` to before `end`, each result into an output of its own."""
    return Segment(function, end - begin, arguments, [(index, begin) for index in range(results)])


def _values(leaf: Any) -> Any:
    return leaf.values if is_per_stage(leaf) else leaf


def _at(stage: int, array: Array) -> Argument:
    return Argument(array, stage, True)


def _later(argument: Argument, stages: int) -> Argument:
    return argument if argument.first is None else argument._replace(first=argument.first + stages)


def _fields(nx: int, nz: int, ng: int, curved: bool) -> list[tuple[str, tuple[int, ...]]]:
    shapes = {"H": (nz, nz), "g": (nz,), "h": (ng,), "G": (ng, nz), "curved": (nz, nz), "c": (nx,), "F": (nx, nz)}
    return [(name, shape) for name, shape in shapes.items() if curved or name != "curved"]
