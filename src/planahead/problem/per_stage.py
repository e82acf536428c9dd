"""Parameters with one value per stage.

A problem's methods are written for one stage. A leaf wrapped in `PerStage(values)`, with `values[k]` for the stages k =
0…N, arrives in them already sliced, so that nothing in a method tells a global parameter from a per-stage one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem.fields import parameter_boxes

if TYPE_CHECKING:
    from planahead.problem.problem import Problem

P = TypeVar("P", bound=eqx.Module)


class PerStage(eqx.Module):
    """A leaf of a problem with one value for every stage.

    **Arguments:**

    - `values`, shape `[N + 1, ...]`: `values[k]` is what the problem's methods see at stage `k`; the terminal methods
        see `values[N]`.
    - `stages`: which of them a `ParameterSpace` lists, all by default. The others keep their values: a weight on the
        given initial state, for instance, moves no plan, and neither does one on the control that stage N lacks.
    """

    values: Float[Array, "stages ..."] = eqx.field(converter=jnp.asarray)
    stages: range | None = eqx.field(static=True, default=None)

    @property
    def listed(self) -> Float[Array, "listed ..."]:
        """The values at `stages`."""
        return self.values[self._slice]

    def with_listed(self, values: Float[Array, "listed ..."]) -> "PerStage":
        """The same with other values at `stages`."""
        return PerStage(self.values.at[self._slice].set(values), self.stages)

    @property
    def _slice(self) -> slice:
        return slice(None) if self.stages is None else slice(self.stages.start, self.stages.stop)


def is_per_stage(node: Any) -> bool:
    return isinstance(node, PerStage)


def per_stage(problem: P, name: str, stages: range | None = None) -> P:
    """Turn the global parameter `name` of `problem` into a per-stage one with the same value at every stage.

    `stages` are those that a `ParameterSpace` lists, without a gap; all by default.

    **Raises:** `ValueError` for a name or for stages that do not exist; the message lists the names that do.

    >>> import planahead as pa
    >>> problem = per_stage(pa.make_task("cartpole").problem, "angle_reference")
    >>> problem.angle_reference.values.shape
    (6,)
    >>> problem = per_stage(pa.make_task("cartpole").problem, "angle_reference", range(1, 6))
    >>> pa.ParameterSpace(problem).size
    5
    """
    known = list(parameter_boxes(problem))
    if name not in known:
        raise ValueError(
            f"{type(problem).__name__} has no parameter '{name}'; its parameters are: {', '.join(known) or 'none'}."
        )
    horizon = _horizon(problem)
    if stages is not None and not (stages.step == 1 and 0 <= stages.start < stages.stop <= horizon + 1):
        raise ValueError(f"per_stage got stages={stages}; a range(first, last + 1) within 0…{horizon} was expected.")
    value = getattr(problem, name)
    if is_per_stage(value) and stages is None:
        return problem
    everywhere = value.values if is_per_stage(value) else jnp.broadcast_to(value, (horizon + 1, *jnp.shape(value)))
    values = PerStage(everywhere, stages)
    return eqx.tree_at(lambda tree: getattr(tree, name), problem, values, is_leaf=is_per_stage)


def _horizon(problem: Any) -> int:
    return problem.horizon


def at_stage(problem: P, stage: int) -> P:
    """The problem as its methods see it at `stage` (negative stages count from the end)."""
    return jax.tree.map(lambda leaf: leaf.values[stage] if is_per_stage(leaf) else leaf, problem, is_leaf=is_per_stage)


def map_stages(function: Callable, problem: "Problem", *arguments: Any) -> Any:
    """Stack `function(problem at stage k, *(argument[k] for argument in arguments))` over the stages k = 0…N-1."""
    values, rebuild = _stage_values(problem)
    return jax.vmap(lambda values, *rest: function(rebuild(values), *rest), axis_size=problem.horizon)(
        values, *arguments
    )


def scan_stages(
    function: Callable, problem: "Problem", x_0: Float[Array, " nx"], stages: Any, unroll: int = 1
) -> tuple[Float[Array, "nodes nx"], Any]:
    """Carry a state through `x_{k+1}, output_k = function(x_k, problem at stage k, stages[k])`, k = 0…N-1, `unroll` of
    them at a time.

    **Returns:** the states x_0…x_N and the stacked outputs.
    """
    values, rebuild = _stage_values(problem)

    def advance(x, inputs):
        values, stage = inputs
        x_next, output = function(x, rebuild(values), stage)
        return x_next, (x_next, output)

    _, (states, outputs) = jax.lax.scan(advance, x_0, (values, stages), length=problem.horizon, unroll=unroll)
    return jnp.concatenate([x_0[None], states]), outputs


def _stage_values(problem: "Problem") -> tuple[list[Array], Callable]:
    """The per-stage values of the stages 0…N-1, and how to make the problem of one stage of theirs."""
    leaves, structure = jax.tree.flatten(problem, is_leaf=is_per_stage)

    def rebuild(values):
        remaining = iter(values)
        return jax.tree.unflatten(structure, [next(remaining) if is_per_stage(leaf) else leaf for leaf in leaves])

    return [leaf.values[:-1] for leaf in leaves if is_per_stage(leaf)], rebuild
