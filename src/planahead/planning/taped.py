"""The quadratic models of all stages and lanes by the native evaluator (`planahead.tape`), where the problem's
functions have a tape: what `linearise` gives for each lane, in a third to a tenth of XLA's time.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from planahead.planning.linearisation import Hessian, Model, convex, needs_convex, stage_model, terminal_model
from planahead.problem import Problem
from planahead.problem.per_stage import is_per_stage
from planahead.tape.arrays import UnsupportedError
from planahead.tape.evaluate import Argument, Segment, evaluate


class Source(NamedTuple):
    """Where a leaf of a problem comes from: an array, with lanes in the last axis or without."""

    array: Array
    in_lanes: bool


def taped(
    single: Problem,
    sources: Mapping[int, Source],
    hessian: Hessian,
    z: Float[Array, "nodes nz B"],
    costates: Float[Array, "nodes nx B"],
    multipliers: Float[Array, "nodes m B"],
    weights: Float[Array, "nodes B"],
) -> Model:
    """The models of all stages around `z`, lanes last. `single` is the problem of one lane, whose leaves are found in
    `sources` by their identity.

    **Raises:** `UnsupportedError` or `TooLargeError` where there is no tape.
    """
    nodes, nz, lanes = z.shape
    nx, N = single.state_size, nodes - 1
    general = multipliers[:, nz:]
    leaves, structure = jax.tree.flatten(single, is_leaf=is_per_stage)
    # Numbers of Python are no leaves that anybody could change: the functions close over them.
    is_array = [isinstance(leaf.values if is_per_stage(leaf) else leaf, jax.Array) for leaf in leaves]

    def parameters(stage: int) -> list[Argument]:
        found = []
        for leaf, wanted in zip(leaves, is_array, strict=True):
            if not wanted:
                continue
            source = sources.get(id(leaf.values if is_per_stage(leaf) else leaf))
            if source is None:
                raise UnsupportedError(f"{type(single).__name__} computes with its leaves when it is made")
            found.append(Argument(source.array, stage if is_per_stage(leaf) else None, source.in_lanes))
        return found

    def at(stage: int, array: Array) -> Argument:
        return Argument(array, stage, True)

    def of_problem(model: Callable[..., Model]) -> Callable[..., Any]:
        def function(*values):
            rest = iter(values)
            problem = jax.tree.unflatten(
                structure, [next(rest) if array else leaf for leaf, array in zip(leaves, is_array, strict=True)]
            )
            return [part for part in model(problem, hessian, *rest) if part is not None]

        return function

    inner = [at(0, z), at(1, z), at(1, costates), at(0, general), at(0, weights)]
    last = [at(N, z), at(N, general), at(N, weights)]
    # Their order is that of the fields of `Model`, as far as there are results.
    fields = _fields(nx, nz, general.shape[1], curved=needs_convex(single, hessian))
    outputs = [
        jax.ShapeDtypeStruct((N if name in ("c", "F") else nodes, *shape, lanes), z.dtype) for name, shape in fields
    ]
    everywhere = [index for index, (name, _) in enumerate(fields) if name not in ("c", "F")]
    segments = [
        Segment(of_problem(stage_model), N, parameters(0) + inner, [(index, 0) for index in range(len(fields))]),
        Segment(of_problem(terminal_model), 1, parameters(N) + last, [(index, N) for index in everywhere]),
    ]
    results = dict(zip((name for name, _ in fields), evaluate(segments, outputs, lanes), strict=True))
    curved = results.get("curved")
    if curved is not None:
        over_lanes = jax.vmap(lambda curved: convex(hessian, curved), in_axes=-1, out_axes=-1)
        results["H"] += jax.vmap(over_lanes)(curved)
    return Model(**{"curved": None, **results})


def _fields(nx: int, nz: int, ng: int, curved: bool) -> list[tuple[str, tuple[int, ...]]]:
    shapes = {"H": (nz, nz), "g": (nz,), "h": (ng,), "G": (ng, nz), "curved": (nz, nz), "c": (nx,), "F": (nx, nz)}
    return [(name, shape) for name, shape in shapes.items() if curved or name != "curved"]
