"""What may be given to `solve`, `value` and `action_value`, and what to do where something else came."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning.plan import Guess, Plan
from planahead.planning.sqp import SQP
from planahead.problem import Bounds, Problem, Slack, at_stage, is_per_stage


def check_kinds(problem: Any, guess: Any, planner: Any) -> None:
    """**Raises** `TypeError` where an argument is not a problem, a guess or a planner."""
    if not isinstance(problem, Problem):
        hint = f"; build one with {problem.__name__}()" if isinstance(problem, type) else ""
        raise TypeError(
            f"problem is {_described(problem)}; an instance of a subclass of planahead.Problem is expected{hint}."
        )
    if not isinstance(guess, Guess | Plan | None):
        raise TypeError(f"guess is {_described(guess)}; a Guess, a Plan (plan.shift()) or None is expected.")
    if not isinstance(planner, SQP | None):
        raise TypeError(f"planner is {_described(planner)}; planner settings such as planahead.SQP(...) are expected.")


def check_shapes(problem: Problem, dtype: Any) -> None:
    """Shapes and kinds of what the problem's methods return, at the cost of tracing them.

    **Raises:** `ValueError` for a wrong shape, `TypeError` for a wrong kind.
    """
    name, nx, nu = type(problem).__name__, problem.state_size, problem.control_size
    for path, leaf in jax.tree_util.tree_flatten_with_path(problem, is_leaf=is_per_stage)[0]:
        if is_per_stage(leaf) and leaf.values.shape[:1] != (problem.horizon + 1,):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} is PerStage with values of shape {leaf.values.shape}; their "
                f"first axis must be N + 1 = {problem.horizon + 1} long, one for every stage."
            )
    x, u = jax.ShapeDtypeStruct((nx,), dtype), jax.ShapeDtypeStruct((nu,), dtype)
    first, last = at_stage(problem, 0), at_stage(problem, -1)
    following = _differentiable(f"{name}.dynamics", first.dynamics, x, u)
    if following.shape != (nx,):
        raise ValueError(
            f"{name}.dynamics returns shape {following.shape}; with state_size = {nx} it must return ({nx},)."
        )
    control = _returned(f"{name}.control_guess", lambda: jnp.asarray(first.control_guess()))
    if control.shape != (nu,):
        raise ValueError(
            f"{name}.control_guess returns shape {control.shape}; with control_size = {nu} it must return ({nu},)."
        )
    costs = (("initial_cost", first, (x,)), ("stage_cost", first, (x, u)), ("terminal_cost", last, (x,)))
    for method, stage, given in costs:
        cost = _differentiable(f"{name}.{method}", getattr(stage, method), *given)
        if cost.size != 1:
            hint = "" if method == "initial_cost" else f" (use {method[:-4]}residual for squares)"
            raise ValueError(f"{name}.{method} returns shape {cost.shape}; a cost is a scalar{hint}.")
    for method, stage, given in (("stage_residual", first, (x, u)), ("terminal_residual", last, (x,))):
        _differentiable(f"{name}.{method}", getattr(stage, method), *given)
    for method, stage, given in (("constraints", first, (x, u)), ("terminal_constraints", last, (x,))):
        rows = _differentiable(f"{name}.{method}", getattr(stage, method), *given)
        if rows.ndim > 1:
            raise ValueError(
                f"{name}.{method} returns shape {rows.shape}; a scalar or one axis is expected (use jnp.ravel)."
            )
    for method, stage in (("control_bounds", first), ("state_bounds", first), ("terminal_bounds", last)):
        _check_returned(f"{name}.{method}", getattr(stage, method)(), Bounds, "Bounds(lower, upper)")
    for method, stage in (("constraint_slack", first), ("terminal_constraint_slack", last)):
        _check_returned(f"{name}.{method}", getattr(stage, method)(), Slack | None, "a Slack or None")


def guess_of(problem: Problem, guess: Guess | Plan | None, dtype: Any) -> Guess | None:
    """The guess as arrays of the right shape, without a gradient. **Raises** `ValueError` for a wrong shape."""
    if guess is None:
        return None
    if isinstance(guess, Plan):
        guess = guess.guess()
    shapes = (jnp.shape(guess.states), jnp.shape(guess.controls))
    expected = ((problem.horizon + 1, problem.state_size), (problem.horizon, problem.control_size))
    if shapes != expected:
        hint = " Use jax.vmap for a batch." if jnp.ndim(guess.states) == 3 else ""
        raise ValueError(
            f"guess has states {shapes[0]} and controls {shapes[1]}; {type(problem).__name__} with horizon "
            f"{problem.horizon} expects {expected[0]} and {expected[1]}.{hint}"
        )
    return jax.lax.stop_gradient(jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), guess))


def vector(entries: Any, size: int, what: str, field: str, dtype: Any) -> Float[Array, " size"]:
    """`entries` as an array. **Raises** `ValueError` unless there are `size` of them."""
    if jnp.shape(entries) != (size,):
        hint = " Use jax.vmap for a batch." if jnp.ndim(entries) == 2 else ""
        raise ValueError(f"{what} has shape {jnp.shape(entries)}; {field} = {size} asks for shape ({size},).{hint}")
    return jnp.asarray(entries, dtype)


def _returned(what: str, method: Callable, *arguments: Any) -> Any:
    shape = jax.eval_shape(method, *arguments)
    if not isinstance(shape, jax.ShapeDtypeStruct):
        raise TypeError(f"{what} returns a {type(shape).__name__}; an array is expected (use jnp.stack or jnp.array).")
    return shape


def _differentiable(what: str, method: Callable, *arguments: Any) -> Any:
    shape = _returned(what, method, *arguments)
    if shape.size and not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(
            f"{what} returns {shape.dtype}, which has no derivative; floating-point numbers are expected (1.0 and not "
            "1, x[0] - 1.0 and not x[0] > 1.0)."
        )
    return shape


def _check_returned(what: str, value: Any, kind: Any, expected: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{what} returns a {type(value).__name__}; {expected} is expected.")


def _described(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
