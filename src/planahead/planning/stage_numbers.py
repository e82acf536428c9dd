"""Each function of a problem by itself: its values and derivatives at all its stages along a trajectory.

    symbol                     method                                                at
    λ                          `initial_cost`                                        x_0
    f, r, ℓ, g                 `dynamics`, `stage_residual`, …, `constraints`        (x_k, u_k), k = 0…N-1
    r_N, ℓ_N, g_N              `terminal_residual`, …, `terminal_constraints`        x_N

Derivatives by x and u are taken in the mode in which a planner takes them, those by the leaves of the problem in
reverse mode, like the gradient of a plan. Bounds and prices have no arguments: of them, only those by the leaves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning.cold_start import cold_start
from planahead.planning.plan import Guess
from planahead.planning.transcription import constraint_sizes
from planahead.problem import Bounds, Problem, at_stage, map_stages
from planahead.problem.bounds import BoundRows

AT_THE_START = ("initial_cost",)
AT_STAGES = ("dynamics", "stage_residual", "stage_cost", "constraints")
AT_THE_END = ("terminal_residual", "terminal_cost", "terminal_constraints")
METHODS = (*AT_THE_START, *AT_STAGES, *AT_THE_END)
BOUNDS_AT_STAGES = ("control_bounds", "state_bounds", "constraint_slack")
BOUNDS = (*BOUNDS_AT_STAGES, "terminal_bounds", "terminal_constraint_slack")


class Numbers(NamedTuple):
    """Of one function, at all its stages."""

    value: Array
    slope: Array
    """[..., nz], by x and, before stage N, u."""
    curvature: Array
    """[nz, nz] of the cost of a stage, else nothing."""
    by_leaf: dict[str, Array]


class Rows(NamedTuple):
    """Of the bounds that one method gives or prices, at all its stages."""

    rows: BoundRows
    by_leaf: dict[str, Array]


class Refusal(NamedTuple):
    """Of a method of which JAX gives no derivative."""

    sentence: str
    in_reverse: bool
    """Whether it is the reverse mode alone that is missing."""


class Looks(NamedTuple):
    """All that is looked at, by method; the first axis is that of its stages."""

    numbers: dict[str, Numbers]
    bounds: dict[str, Rows]
    along: Guess
    refusals: dict[str, Refusal]


@eqx.filter_jit
def look(problem: Problem, state: Float[Array, " nx"], guess: Guess | None) -> Looks:
    """Along `guess`, or else the trajectory of `cold_start`. A derivative that JAX refuses is left out, and told."""
    along = cold_start(problem, state) if guess is None else guess
    refusals = _refusals(problem)
    nx, nu, (general, general_last) = problem.state_size, problem.control_size, constraint_sizes(problem)
    sizes = {
        "control_bounds": nu,
        "state_bounds": nx,
        "constraint_slack": general,
        "terminal_bounds": nx,
        "terminal_constraint_slack": general_last,
    }

    def numbers(stage: Problem, method: str, *point: Array) -> Numbers:
        value, nothing, refusal = _value(stage, method, *point), jnp.zeros(0), refusals.get(method)
        slope, curvature = _by_point(stage, method, *point) if refusal is None or refusal.in_reverse else (nothing,) * 2
        return Numbers(value, slope, curvature, _by_leaf(stage, method, *point) if refusal is None else {})

    def rows(stage: Problem, method: str) -> Rows:
        def known(stage: Problem) -> Array:
            parts = jax.tree.leaves(_bound_rows(stage, method, sizes[method]))
            return sum((jnp.sum(jnp.where(jnp.isfinite(part), part, 0.0)) for part in parts), start=jnp.zeros(()))

        return Rows(_bound_rows(stage, method, sizes[method]), _gradient(known, stage))

    found = {
        method: _over(numbers, problem, method, *points_of(method, state, along).values())
        for method in filter(problem.writes, METHODS)
    }
    return Looks(found, {method: _over(rows, problem, method) for method in BOUNDS}, along, refusals)


def _refusals(problem: Problem) -> dict[str, Refusal]:
    x, u = jnp.zeros(problem.state_size), jnp.zeros(problem.control_size)
    looks = (
        (_by_leaf, True, "has no derivative in reverse mode: it can be planned with, but its plans have no gradient"),
        (_by_point, False, "has no derivative by its arguments, which every planner asks for"),
    )
    refusals = {}
    for method in filter(problem.writes, METHODS):
        stage, point = at_stage(problem, -1 if method in AT_THE_END else 0), (x, u) if method in AT_STAGES else (x,)
        for derivative, in_reverse, words in looks:
            try:
                eqx.filter_eval_shape(derivative, stage, method, *point)
            except (TypeError, ValueError, NotImplementedError) as error:  # which is told, and the rest looked at
                sentence = f"{type(problem).__name__}.{method} {words}. JAX says: {str(error).splitlines()[0]}"
                refusals[method] = Refusal(sentence, in_reverse)
    return refusals


def points_of(method: str, state: Any, along: Guess) -> dict[str, Any]:
    """Where a method is looked at; the first axis is that of its stages."""
    if method in AT_STAGES:
        return {"x": along.states[:-1], "u": along.controls}
    return {"x": along.states[-1:] if method in AT_THE_END else state[None]}


def _over(function: Callable, problem: Problem, method: str, *points: Array) -> Any:
    """`function(problem at the stage, method, *point)`, stacked over the stages of the method."""
    if method in (*AT_STAGES, *BOUNDS_AT_STAGES):
        return map_stages(lambda stage, *point: function(stage, method, *point), problem, *points)
    stage = at_stage(problem, 0 if method in AT_THE_START else -1)
    return jax.vmap(lambda point: function(stage, method, *point), axis_size=1)(points)


def _value(problem: Problem, method: str, *point: Array) -> Array:
    """`problem` is the problem at the stage, here and below."""
    value = jnp.asarray(getattr(problem, method)(*point), float)
    return value.reshape(()) if method.endswith("_cost") else value


def _by_point(problem: Problem, method: str, *point: Array) -> tuple[Array, Array]:
    """Slope and curvature of a `Numbers`."""

    def of(*point: Array) -> Array:
        return _value(problem, method, *point)

    # By one part at a time: what is not finite by u makes a derivative by x and u together NaN in x too.
    parts, scalar = range(len(point)), method.endswith("_cost")
    slope = jnp.concatenate([(jax.grad if scalar else jax.jacfwd)(of, part)(*point) for part in parts], -1)
    if not scalar or method in AT_THE_START:
        return slope, jnp.zeros(0)
    blocks = [[jax.jacfwd(jax.grad(of, i), j)(*point) for j in parts] for i in parts]
    return slope, jnp.concatenate([jnp.concatenate(row, -1) for row in blocks])


def _by_leaf(problem: Problem, method: str, *point: Array) -> dict[str, Array]:
    return _gradient(lambda problem, *point: jnp.sum(_value(problem, method, *point)), problem, *point)


def _gradient(function: Callable, problem: Problem, *point: Array) -> dict[str, Array]:
    """By the leaves of a problem. In reverse mode through the point too, like the gradient of a plan."""
    arrays, rest = eqx.partition(problem, eqx.is_inexact_array)
    by_leaf, _ = jax.grad(lambda inputs: function(eqx.combine(inputs[0], rest), *inputs[1]))((arrays, point))
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(by_leaf)[0]}


def _bound_rows(problem: Problem, method: str, size: int) -> BoundRows:
    given = getattr(problem, method)()
    bounds = given if isinstance(given, Bounds) else Bounds(upper=0.0, slack=given)  # of general rows
    return bounds.rows(size, f"{type(problem).__name__}.{method}")
