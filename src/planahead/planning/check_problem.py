"""Look for what a planner cannot work with, in the functions of the user's own problem.

A planner needs of every stage, along the trajectory (x_k, u_k) that it starts from,

    the values of       f, r, ℓ, g, r_N, ℓ_N, g_N           and their derivatives by x_k and u_k
    the curvature of    ℓ and ℓ_N
    the value of        λ                                   and its derivative by x_0
    lower <= upper      in every bound, and no price of a soft one that is negative

and a gradient by a leaf of the problem needs the derivatives of all of them by that leaf. One number among them that is
not finite ends a solve with `Status.INVALID_INPUT`, or makes a gradient NaN; here each is looked at by itself.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from planahead.planning.arguments import check_kinds, check_shapes, guess_of, vector
from planahead.planning.plan import Guess, Plan
from planahead.planning.sqp import SQP
from planahead.planning.stage_numbers import (
    AT_THE_END,
    BOUNDS,
    BOUNDS_AT_STAGES,
    METHODS,
    Looks,
    Numbers,
    look,
    points_of,
)
from planahead.problem import Problem, at_stage
from planahead.problem.bounds import BoundRows
from planahead.qp import Status
from planahead.words import shown

COSTS = ("stage_residual", "stage_cost", "terminal_residual", "terminal_cost")
VALUE_ADVICE = (
    "  Look for a logarithm or a quotient of zero, a root of what is negative, a parameter that is infinite, and "
    "numbers that grow without bound."
)
SLOPE_ADVICE = "  A root, a norm, a logarithm or a quotient of zero has none: add a small number inside."
BROKEN_ADVICE = "  No plan was found that keeps it. Make it soft (a `Slack`), widen it, or start where it can be kept."


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

    **Arguments:** those of `solve`; without a guess the trajectory is that of `cold_start`. Of a `Plan` that is
    `INFEASIBLE`, the hard constraints that it breaks are found too.

    **Raises:** what `solve` raises for a wrong kind or shape, and `ValueError` inside jit, vmap or grad.

    **Returns:** a `ProblemCheck`. What it finds is why a plan is `INVALID_INPUT` or a gradient NaN: numbers that are
    not finite, with function, stage and entry, bounds that cross and prices that are negative; also functions that JAX
    does not differentiate, hard constraints that an infeasible plan breaks, and a problem that has no cost.

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
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((problem, state, guess))):
        raise ValueError(
            "check_problem needs numbers, but was called inside jit, vmap or grad; call it outside, for one lane of a "
            "batch at a time: jax.tree.map(lambda leaf: leaf[0], plans)."
        )
    check_kinds(problem, guess, None)
    state = vector(state, problem.state_size, "state", f"{name}.state_size", dtype)
    # Traced like a plan: bounds that cross are a finding here, and an error where they are built from known numbers.
    eqx.filter_eval_shape(lambda problem: check_shapes(problem, dtype), problem)
    given = guess_of(problem, guess, dtype)
    findings = list(_of_arrays(problem, state, given))
    if not findings:  # which all that follows would repeat
        looks = look(problem, state, given)
        findings = [looks.refusals[method].sentence for method in METHODS if method in looks.refusals]
        findings += _of_bounds(name, looks)
        findings += list(_of_guess(name, looks.along)) or _not_finite(name, state, looks)
        if isinstance(guess, Plan) and int(guess.status) == Status.INFEASIBLE:
            findings += _of_broken_rows(name, looks)
    priced = any(slack is not None for slack in eqx.filter_eval_shape(_slacks, problem))
    if not priced and not any(problem.writes(method) for method in COSTS):
        findings.append(f"{name} has no cost: any trajectory that keeps its constraints solves it.")
    return ProblemCheck(tuple(findings), name)


def _of_arrays(problem: Problem, state: Array, guess: Guess | None) -> Iterator[str]:
    """What came in. Infinite leaves may be bounds."""
    name, key = type(problem).__name__, jax.tree_util.keystr
    for path, leaf in jax.tree_util.tree_flatten_with_path(problem)[0]:
        if eqx.is_inexact_array(leaf) and np.isnan(leaf).any() and leaf is not problem.discount:
            yield f"{name}{key(path)} is not a number{_where(np.isnan(leaf))}."
    if not np.isfinite(problem.discount):
        yield f"{name}.discount is {float(problem.discount)}; a finite number is expected."
    given = {"state": state} if guess is None else {"state": state, "guess": guess}
    for path, array in jax.tree_util.tree_flatten_with_path(given)[0]:
        if not np.isfinite(array).all():
            yield f"{path[0].key}{key(path[1:])} is not finite{_where(~np.isfinite(array))}."


def _slacks(problem: Problem) -> tuple[Any, ...]:
    first, last = at_stage(problem, 0), at_stage(problem, -1)
    return (
        first.control_bounds().slack,
        first.state_bounds().slack,
        first.constraint_slack(),
        last.terminal_bounds().slack,
        last.terminal_constraint_slack(),
    )


def _of_bounds(name: str, looks: Looks) -> Iterator[str]:
    """The first thing that is wrong with each of the bounds."""
    for method in BOUNDS:
        rows, by_leaf = jax.tree.map(np.asarray, looks.bounds[method])
        first = 0 if method in BOUNDS_AT_STAGES else len(looks.along.controls)
        skipped = 1 if method == "state_bounds" else 0  # x_0 is what it is
        yield from itertools.islice(_of_rows(f"{name}.{method}", name, rows, by_leaf, first, skipped), 1)


def _of_rows(
    what: str, name: str, rows: BoundRows, by_leaf: dict[str, np.ndarray], first: int, skipped: int
) -> Iterator[str]:
    """Entries that no number keeps, prices that are none, and derivatives by leaves that are not finite."""

    def found(bad: Any) -> Iterator[tuple[int, ...]]:
        for stage, *at in np.argwhere(bad[skipped:])[:1]:
            yield skipped + int(stage), *map(int, at)

    lower, upper = np.asarray(rows.lower), np.asarray(rows.upper)
    for stage, entry in found(~(lower <= upper) | (lower == np.inf) | (upper == -np.inf)):
        yield (
            f"{what}: no number is between the bounds {lower[stage, entry]:g} and {upper[stage, entry]:g} of entry "
            f"{entry} at stage {first + stage}."
        )
    for field, price in (("linear", np.asarray(rows.linear)), ("quadratic", np.asarray(rows.quadratic))):
        for stage, entry in found(~(price >= 0)):
            yield (
                f"{what}: the {field} price of entry {entry} is {price[stage, entry]:g} at stage {first + stage}; a "
                "number that is not negative is expected."
            )
    for leaf, array in by_leaf.items():
        for stage, *at in found(~np.isfinite(array)):
            derivative = f"the derivative by {name}{leaf}{_index(at)} is {array[(stage, *at)]}"
            yield f"{what}: {derivative} at stage {first + stage}.\n{SLOPE_ADVICE}"


def _of_broken_rows(name: str, looks: Looks) -> Iterator[str]:
    """The hard constraint of each method that the plan breaks by the most. Controls keep their bounds, but for a pinned
    one, which has none.
    """
    states, last = np.asarray(looks.along.states), len(looks.along.controls)
    allowed = SQP().largest_violation(states.dtype)
    kept = {
        "state_bounds": ("state_bounds", states[:-1], 0),
        "terminal_bounds": ("terminal_bounds", states[-1:], last),
    }
    for method, slack, first in (
        ("constraints", "constraint_slack", 0),
        ("terminal_constraints", "terminal_constraint_slack", last),
    ):
        if method in looks.numbers:
            kept[method] = (slack, np.asarray(looks.numbers[method].value), first)
    for method, (rows_of, values, first) in kept.items():
        rows = jax.tree.map(np.asarray, looks.bounds[rows_of].rows)
        values = values.reshape(rows.lower.shape)  # of constraints that are one number at a stage, too
        hard = np.isinf(rows.linear) | np.isinf(rows.quadratic)
        short = np.where(hard, np.maximum(rows.lower - values, values - rows.upper), 0.0)
        if method == "state_bounds":
            short[0] = 0.0  # x_0 is what it is
        if short.size and short.max() > allowed:
            stage, entry = np.unravel_index(short.argmax(), short.shape)
            value, lower, upper = values[stage, entry], rows.lower[stage, entry], rows.upper[stage, entry]
            limit = f"at least {lower:g}" if value < lower else f"at most {upper:g}"
            count = int((short > allowed).any(1).sum())
            yield (
                f"{name}.{method}: entry {entry} is {value:.4g} at stage {first + stage}, where {limit} is asked for; "
                f"broken by {short.max():.2g}, and at {count} of {len(short)} stages.\n{BROKEN_ADVICE}"
            )


def _of_guess(name: str, along: Guess) -> Iterator[str]:
    """What `cold_start` made: of a guess that was given all is finite here."""
    controls = np.asarray(along.controls)
    for stage, entry in np.argwhere(~np.isfinite(controls))[:1]:
        yield f"{name}.control_guess: entry {entry} is {controls[stage, entry]} at stage {stage}."


def _not_finite(name: str, state: Array, looks: Looks) -> Iterator[str]:
    """The first number of each function that is not finite."""
    for method in METHODS:
        if method in looks.numbers:
            points = {letter: np.asarray(part) for letter, part in points_of(method, state, looks.along).items()}
            first = len(looks.along.controls) if method in AT_THE_END else 0
            yield from _first(f"{name}.{method}", name, looks.numbers[method], points, first)


def _first(what: str, name: str, numbers: Numbers, points: dict[str, np.ndarray], first: int) -> Iterator[str]:
    entries = [f"{letter}[{i}]" for letter, part in points.items() for i in range(part.shape[1])]

    def named() -> Iterator[tuple[Array, str, Callable[[list[int]], str]]]:
        yield numbers.value, VALUE_ADVICE, lambda at: f"the value{_of_entry(at)}"
        yield numbers.slope, SLOPE_ADVICE, lambda at: f"the derivative{_of_entry(at[:-1])} by {entries[at[-1]]}"
        yield (
            numbers.curvature,
            SLOPE_ADVICE,
            lambda at: f"the second derivative by {entries[at[0]]} and {entries[at[1]]}",
        )
        for leaf, array in numbers.by_leaf.items():
            yield array, SLOPE_ADVICE, lambda at, leaf=leaf: f"the derivative by {name}{leaf}{_index(at)}"

    for array, advice, words in named():
        array = np.asarray(array)
        bad = ~np.isfinite(array)
        if bad.any():
            stage, *at = map(int, np.argwhere(bad)[0])
            where = " and ".join(f"{letter} = {shown(part[stage])}" for letter, part in points.items())
            count = int(bad.reshape(len(bad), -1).any(1).sum())
            more = f"; so at {count} of {len(bad)} stages" if len(bad) > 1 else ""
            said = f"{what}: {words(at)} is {array[(stage, *at)]}"
            yield f"{said} at stage {first + stage}, where {where}{more}.\n{advice}"
            return


def _where(bad: np.ndarray) -> str:
    """The first entry of which it holds; nothing of a number."""
    return f" at {np.argwhere(bad)[0].tolist()}" if np.ndim(bad) else ""


def _index(at: list[int]) -> str:
    return "".join(f"[{i}]" for i in at)


def _of_entry(index: list[int]) -> str:
    return f" of entry {', '.join(map(str, index))}" if index else ""
