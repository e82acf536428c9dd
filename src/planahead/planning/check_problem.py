"""Look for what a planner cannot work with, in the functions of the user's own problem.

A planner needs of every stage, along the trajectory (x_k, u_k) that it starts from,

    the values of       f, r, ℓ, g, r_N, ℓ_N, g_N           and their derivatives by x_k and u_k
    the curvature of    ℓ and ℓ_N
    lower <= upper      in every bound

and a gradient by a leaf of the problem needs the derivatives by that leaf. One number among them that is not finite
ends a solve with `Status.INVALID_INPUT`, or makes a gradient NaN; here each is looked at by itself.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.planning.arguments import check_kinds, check_shapes, guess_of, vector
from planahead.planning.cold_start import cold_start
from planahead.planning.plan import Guess, Plan
from planahead.problem import Problem, at_stage, map_stages
from planahead.problem.bounds import BoundRows

COSTS = ("stage_residual", "stage_cost", "terminal_residual", "terminal_cost")
AT_STAGES = ("dynamics", "stage_residual", "stage_cost", "constraints")
AT_THE_END = ("terminal_residual", "terminal_cost", "terminal_constraints")
ADVICE = "  A root, a norm, a logarithm or a quotient of zero has none: add a small number inside."


@dataclasses.dataclass(frozen=True)
class ProblemCheck:
    """What was found; print it."""

    findings: tuple[str, ...]
    """A sentence or two each."""
    problem: str
    """Its class."""

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.problem}: nothing found; all values and derivatives are finite, and no bounds cross."
        return "\n".join(f"- {finding}" for finding in self.findings)


def check_problem(problem: Problem, state: Float[Array, "..."], guess: Guess | Plan | None = None) -> ProblemCheck:
    """Look at each function of a problem by itself, with its derivatives, stage by stage along a trajectory.

    **Arguments:** those of `solve`; without a guess the trajectory is that of `cold_start`.

    **Raises:** what `solve` raises for a wrong kind or shape.

    **Returns:** a `ProblemCheck`. What it finds is why a plan is `INVALID_INPUT` or a gradient NaN: numbers that are
    not finite, with function, stage and entry, and bounds that cross; also a problem that has no cost.

    >>> import jax.numpy as jnp
    >>> import planahead as pa
    >>> class Homing(pa.Problem):
    ...     horizon: int = pa.static(5)
    ...     state_size: int = pa.static(2)
    ...     control_size: int = pa.static(2)
    ...     def dynamics(self, x, u):
    ...         return x + 0.1 * u
    ...     def stage_cost(self, x, u):
    ...         return jnp.sqrt(x @ x) + u @ u
    >>> print(pa.check_problem(Homing(), jnp.ones(2)))
    Homing: nothing found; all values and derivatives are finite, and no bounds cross.
    >>> print(pa.check_problem(Homing(), jnp.zeros(2)))
    - Homing.stage_cost: the derivative by x[0] is nan at stage 0, where x = [0, 0] and u = [0, 0]; so at 5 of 5 stages.
      A root, a norm, a logarithm or a quotient of zero has none: add a small number inside.
    """
    dtype, name = jnp.result_type(float), type(problem).__name__
    check_kinds(problem, guess, None)
    state = vector(state, problem.state_size, "state", f"{name}.state_size", dtype)
    # Traced like a plan: bounds that cross are a finding here, and an error where they are built from known numbers.
    eqx.filter_eval_shape(lambda problem: check_shapes(problem, dtype), problem)
    given = guess_of(problem, guess, dtype)
    findings = list(_of_arrays(problem, state, given))
    if not findings:  # which all that follows would repeat
        looks = eqx.filter_jit(_look)(problem, state, given)
        findings = [*_crossing(name, looks.bounds), *_not_finite(name, looks)]
    priced = any(slack is not None for slack in eqx.filter_eval_shape(_slacks, problem))
    if not priced and not any(problem.writes(method) for method in COSTS):
        findings.append(f"{name} has no cost: any trajectory that keeps its constraints solves it.")
    return ProblemCheck(tuple(findings), name)


def _of_arrays(problem: Problem, state: Array, guess: Guess | None) -> Iterator[str]:
    """What came in. Infinite leaves may be bounds."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(problem)[0]:
        if eqx.is_inexact_array(leaf) and np.isnan(leaf).any():
            yield f"{type(problem).__name__}{jax.tree_util.keystr(path)} has a NaN: {_shown(leaf)}."
    given = {"state": state} if guess is None else {"state": state, "guess": guess}
    for path, array in jax.tree_util.tree_flatten_with_path(given)[0]:
        if not np.isfinite(array).all():
            what = path[0].key + jax.tree_util.keystr(path[1:])
            yield f"{what} is not finite at {_shown(np.argwhere(~np.isfinite(array))[0])}."


class _Numbers(NamedTuple):
    """Of one function, at all its stages."""

    value: Array
    slope: Array
    """[..., nz], by x and, before stage N, u."""
    curvature: Array
    """[nz, nz] of a cost, else nothing."""
    by_leaf: dict[str, Array]


class _Looks(NamedTuple):
    """All that is looked at, by method; the first axis is that of its stages."""

    at_stages: dict[str, _Numbers]
    at_the_end: dict[str, _Numbers]
    bounds: dict[str, BoundRows]
    along: Guess


def _look(problem: Problem, state: Array, guess: Guess | None) -> _Looks:
    nx, nu, last = problem.state_size, problem.control_size, at_stage(problem, -1)
    along = cold_start(problem, state) if guess is None else guess
    states, controls, end = along.states[:-1], along.controls, along.states[-1:]
    at_stages = {
        method: map_stages(
            lambda stage, x, u, method=method: _numbers(stage, method, (x, u)), problem, states, controls
        )
        for method in AT_STAGES
        if problem.writes(method)
    }
    at_the_end = {
        method: jax.vmap(lambda x, method=method: _numbers(last, method, (x,)))(end)
        for method in AT_THE_END
        if problem.writes(method)
    }
    bounds = {
        "control_bounds": map_stages(lambda stage: stage.control_bounds().rows(nu, "control_bounds"), problem),
        "state_bounds": map_stages(lambda stage: stage.state_bounds().rows(nx, "state_bounds"), problem),
        "terminal_bounds": jax.tree.map(lambda rows: rows[None], last.terminal_bounds().rows(nx, "terminal_bounds")),
    }
    return _Looks(at_stages, at_the_end, bounds, along)


def _numbers(problem: Problem, method: str, point: tuple[Array, ...]) -> _Numbers:
    """`problem` is the problem at the stage."""
    parts = range(len(point))

    def call(problem: Problem, *point: Array) -> Array:
        value = jnp.asarray(getattr(problem, method)(*point), float)
        return value.reshape(()) if method.endswith("_cost") else value

    def of(*point: Array) -> Array:
        return call(problem, *point)

    # By one part at a time: what is not finite by u makes a derivative by x and u together NaN in x too.
    slope = jnp.concatenate([jax.jacfwd(of, part)(*point) for part in parts], -1)
    curvature = jnp.zeros(0)
    if method.endswith("_cost"):
        blocks = [[jax.jacfwd(jax.grad(of, i), j)(*point) for j in parts] for i in parts]
        curvature = jnp.concatenate([jnp.concatenate(row, -1) for row in blocks])
    arrays, rest = eqx.partition(problem, eqx.is_inexact_array)
    by_leaf = jax.grad(lambda arrays: jnp.sum(call(eqx.combine(arrays, rest), *point)))(arrays)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(by_leaf)[0]}
    return _Numbers(of(*point), slope, curvature, named)


def _slacks(problem: Problem) -> tuple[Any, ...]:
    first, last = at_stage(problem, 0), at_stage(problem, -1)
    return (
        first.control_bounds().slack,
        first.state_bounds().slack,
        first.constraint_slack(),
        last.terminal_bounds().slack,
        last.terminal_constraint_slack(),
    )


def _crossing(name: str, bounds: dict[str, BoundRows]) -> Iterator[str]:
    """The first entry of each bound that no number keeps."""
    horizon = len(bounds["control_bounds"].lower)
    for method in ("control_bounds", "state_bounds", "terminal_bounds"):
        rows = bounds[method]
        lower, upper = np.asarray(rows.lower), np.asarray(rows.upper)
        crossed = ~(lower <= upper) | (lower == np.inf) | (upper == -np.inf)
        if method == "state_bounds":
            crossed[0] = False  # x_0 is what it is
        for stage, entry in np.argwhere(crossed)[:1]:
            yield (
                f"{name}.{method}: no number is between the bounds {lower[stage, entry]:g} and {upper[stage, entry]:g} "
                f"of entry {entry} at stage {horizon if method == 'terminal_bounds' else stage}."
            )


def _not_finite(name: str, looks: _Looks) -> Iterator[str]:
    """The first number of each function that is not finite."""
    states, controls = np.asarray(looks.along.states), np.asarray(looks.along.controls)
    for method in (*AT_STAGES, *AT_THE_END):
        if method in looks.at_stages:
            yield from _first(name, method, looks.at_stages[method], {"x": states[:-1], "u": controls}, 0)
        if method in looks.at_the_end:
            yield from _first(name, method, looks.at_the_end[method], {"x": states[-1:]}, len(controls))


def _first(name: str, method: str, numbers: _Numbers, points: dict[str, np.ndarray], first_stage: int) -> Iterator[str]:
    entries = [f"{letter}[{i}]" for letter, part in points.items() for i in range(part.shape[1])]

    def named() -> Iterator[tuple[Array, Callable[[list[int]], str]]]:
        yield numbers.value, lambda at: f"the value{_of_entry(at)}"
        yield numbers.slope, lambda at: f"the derivative{_of_entry(at[:-1])} by {entries[at[-1]]}"
        yield numbers.curvature, lambda at: f"the second derivative by {entries[at[0]]} and {entries[at[1]]}"
        for leaf, array in numbers.by_leaf.items():
            yield array, lambda at, leaf=leaf: f"the derivative by {name}{leaf}{''.join(f'[{i}]' for i in at)}"

    for array, words in named():
        array = np.asarray(array)
        bad = ~np.isfinite(array)
        if bad.any():
            stage, *at = map(int, np.argwhere(bad)[0])
            where = " and ".join(f"{letter} = {_shown(part[stage])}" for letter, part in points.items())
            count = int(bad.reshape(len(bad), -1).any(1).sum())
            more = f"; so at {count} of {len(bad)} stages" if len(bad) > 1 else ""
            what = f"{name}.{method}: {words(at)} is {array[(stage, *at)]}"
            yield f"{what} at stage {first_stage + stage}, where {where}{more}.\n{ADVICE}"
            return


def _of_entry(index: list[int]) -> str:
    return f" of entry {', '.join(map(str, index))}" if index else ""


def _shown(array: Any) -> str:
    numbers = ", ".join(f"{number:.4g}" for number in np.ravel(array))
    return f"[{numbers}]" if np.ndim(array) else numbers
