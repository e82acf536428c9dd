"""`solve`, `value` and `action_value`: a planning problem as a function."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import transcription
from planahead.planning.derivatives import where_valid
from planahead.planning.implicit import Answer, Inputs, problem_control_bounds, solution
from planahead.planning.plan import Guess, Multipliers, Plan
from planahead.planning.sqp import SQP
from planahead.problem import Problem, at_stage
from planahead.qp import Status
from planahead.qp.newton import net


@eqx.filter_jit
def solve(
    problem: Problem,
    state: Float[Array, "..."],
    control: Float[Array, "..."] | None = None,
    *,
    guess: Guess | Plan | None = None,
    planner: SQP = SQP(),
) -> Plan:
    """The best plan from `state`; with `control` given, the best plan that starts with it.

    One problem and one state; `jax.vmap` gives batches and is solved natively, all lanes at once. Differentiable (reverse mode, once) in
    the problem's leaves, the state and the pinned control, with respect to every array of the plan.

    **Arguments:**

    - `problem`: what to plan; its costs are minimised.
    - `state`: the initial state, `[nx]`.
    - `control`: pins the first control, `[nu]`; its own bounds are dropped. The plan's cost is then Q(state, control).
    - `guess`: a trajectory to start from, for instance `plan.shift()`. Nothing is remembered between calls, and a guess carries no
      gradient. Without it the planner starts from the trajectory under the smallest admissible controls.
    - `planner`: settings of the method.

    **Returns:** a `Plan`. A failed solve is a plan with a `status` that says so, controls inside their bounds, and a zero gradient.

    **Raises:** `ValueError` for arguments of the wrong shape.

    >>> import jax, jax.numpy as jnp
    >>> import planahead as pa
    >>> problem = pa.make_task("mass-spring-damper").problem
    >>> plan = pa.solve(problem, jnp.array([1.0, 0.0]))
    >>> pa.Status(int(plan.status)).name, plan.controls.shape
    ('SOLVED', (20, 1))
    >>> gradient = jax.grad(lambda problem: pa.solve(problem, jnp.array([1.0, 0.0])).cost)(problem)
    >>> bool(gradient.mass != 0)
    True
    """
    inputs, rebuild, guess = _prepare(problem, state, control, guess)
    answer = solution(planner, rebuild, inputs, guess)
    given = where_valid(answer.gradient_valid, inputs)
    return _plan(rebuild(given.leaves), given, answer)


@eqx.filter_jit
def value(
    problem: Problem, state: Float[Array, "..."], *, guess: Guess | Plan | None = None, planner: SQP = SQP()
) -> Float[Array, ""]:
    """V(state): the optimal cost from `state`, to be minimised; NaN, with a zero gradient, where the solve failed.

    Its derivative is the partial derivative of the Lagrangian (envelope theorem), which needs no factorisation. That holds at an exact
    solution, so the planner's `tau` is not used here.

    >>> import jax, jax.numpy as jnp
    >>> import planahead as pa
    >>> problem = pa.make_task("mass-spring-damper").problem
    >>> V, slope = jax.value_and_grad(pa.value, argnums=1)(problem, jnp.array([1.0, 0.0]))
    >>> bool(V > 0) and bool(slope[0] > 0)
    True
    """
    return _value(problem, state, None, guess, planner)


@eqx.filter_jit
def action_value(
    problem: Problem,
    state: Float[Array, "..."],
    action: Float[Array, "..."],
    *,
    guess: Guess | Plan | None = None,
    planner: SQP = SQP(),
) -> Float[Array, ""]:
    """Q(state, action): the optimal cost from `state` when the first control is `action`; see `value`.

    The bounds of the pinned control are dropped, so Q is defined for every action, and V(s) = min_a Q(s, a) over admissible actions.

    >>> import jax.numpy as jnp
    >>> import planahead as pa
    >>> problem, state = pa.make_task("mass-spring-damper").problem, jnp.array([0.2, 0.0])
    >>> best = pa.solve(problem, state).controls[0]
    >>> bool(pa.action_value(problem, state, best + 0.1) > pa.value(problem, state))
    True
    """
    return _value(problem, state, action, guess, planner)


def _value(problem, state, action, guess, planner: SQP) -> Float[Array, ""]:
    inputs, rebuild, guess = _prepare(problem, state, action, guess)
    planner = dataclasses.replace(planner, tau=None)
    answer = solution(planner, rebuild, jax.lax.stop_gradient(inputs), guess)
    inputs = where_valid(answer.status == Status.SOLVED, inputs)
    current = rebuild(inputs.leaves)
    z = transcription.pin(inputs.control, answer.point.z)
    pinned = inputs.control is not None
    data = transcription.row_data(current, transcription.general_size(current), z.dtype, pinned=pinned)
    bound = jnp.where(jnp.isfinite(data.bound), data.bound, 0.0)
    prices = transcription.prices(data, answer.point.s)
    lagrangian = (
        transcription.lagrangian(current, inputs.state, z, answer.point.pi, net(answer.point.lam))
        + prices
        + jnp.sum(answer.point.lam * bound)
    )
    cost = jax.lax.stop_gradient(transcription.objective(current, z) + prices - lagrangian) + lagrangian
    return jnp.where(answer.status == Status.SOLVED, cost, jnp.nan)


def _prepare(problem: Problem, state, control, guess) -> tuple[Inputs, Callable[[Any], Problem], Guess | None]:
    """Check shapes, and part the problem into its arrays and the rest."""
    name = type(problem).__name__
    dtype = jnp.result_type(float)
    state = _vector(state, problem.state_size, "state", f"{name}.state_size", dtype)
    control = None if control is None else _vector(control, problem.control_size, "control", f"{name}.control_size", dtype)
    if isinstance(guess, Plan):
        guess = guess.guess()
    if guess is not None:
        expected = ((problem.horizon + 1, problem.state_size), (problem.horizon, problem.control_size))
        if (jnp.shape(guess.states), jnp.shape(guess.controls)) != expected:
            raise ValueError(
                f"guess has states {jnp.shape(guess.states)} and controls {jnp.shape(guess.controls)}; "
                f"{name} with horizon {problem.horizon} expects {expected[0]} and {expected[1]}."
            )
        guess = jax.lax.stop_gradient(jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), guess))
    arrays, rest = eqx.partition(problem, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    def rebuild(leaves):
        return eqx.combine(structure.unflatten(leaves), rest)

    _check_problem(problem, dtype)
    return Inputs(leaves, state, control), rebuild, guess


def _vector(entries, size: int, what: str, field: str, dtype) -> Array:
    if jnp.shape(entries) != (size,):
        hint = " Use jax.vmap for a batch." if jnp.ndim(entries) == 2 else ""
        raise ValueError(f"{what} has shape {jnp.shape(entries)}; {field} = {size} asks for shape ({size},).{hint}")
    return jnp.asarray(entries, dtype)


def _check_problem(problem: Problem, dtype) -> None:
    """Shapes of what the problem's methods return, at the cost of tracing them."""
    name = type(problem).__name__
    if problem.horizon < 1:
        raise ValueError(f"{name}.horizon is {problem.horizon}; at least 1 is needed.")
    x, u = jax.ShapeDtypeStruct((problem.state_size,), dtype), jax.ShapeDtypeStruct((problem.control_size,), dtype)
    first = at_stage(problem, 0)
    next_state = jax.eval_shape(first.dynamics, x, u)
    if next_state.shape != (problem.state_size,):
        raise ValueError(
            f"{name}.dynamics returns shape {next_state.shape}; with state_size = {problem.state_size} it must return "
            f"({problem.state_size},)."
        )
    for method, arguments in (("stage_cost", (x, u)), ("terminal_cost", (x,))):
        returned = jax.eval_shape(getattr(first, method), *arguments)
        if returned.size != 1:
            raise ValueError(f"{name}.{method} returns shape {returned.shape}; a cost is a scalar (use {method[:-4]}residual for squares).")


def _plan(problem: Problem, inputs: Inputs, answer: Answer) -> Plan:
    nx, nu = problem.state_size, problem.control_size
    z = transcription.pin(inputs.control, answer.point.z)
    size = transcription.general_size(problem)
    data = transcription.row_data(problem, size, z.dtype, pinned=inputs.control is not None)
    u, x = transcription.split(problem, z)
    cost = transcription.objective(problem, z) + transcription.prices(data, answer.point.s)
    lam = answer.point.lam
    last = at_stage(problem, -1)
    stage_rows = jax.eval_shape(lambda: jnp.atleast_1d(at_stage(problem, 0).constraints(x[0], u[0]))).shape[0]
    last_rows = jax.eval_shape(lambda: jnp.atleast_1d(last.terminal_constraints(x[0]))).shape[0]
    multipliers = Multipliers(
        costates=answer.point.pi,
        control_bounds=lam[:-1, :, :nu],
        state_bounds=lam[:, :, nu : nu + nx],
        constraints=lam[:-1, 1, nu + nx : nu + nx + stage_rows],
        terminal_constraints=lam[-1, 1, nu + nx : nu + nx + last_rows],
    )
    return Plan(
        states=x,
        controls=_admissible(problem, u, inputs.control),
        cost=cost,
        status=answer.status,
        gradient_valid=answer.gradient_valid,
        iterations=answer.iterations,
        residual=answer.residual,
        violation=answer.violation,
        multipliers=multipliers,
    )


def _admissible(problem: Problem, u: Float[Array, "N nu"], control: Array | None) -> Float[Array, "N nu"]:
    """Controls without NaN and inside their bounds. A solution's are inside but for rounding, so the derivative is that of u itself."""
    lower, upper = problem_control_bounds(problem)
    safe = jnp.where(jnp.isfinite(u), u, 0.0)
    inside = jax.lax.stop_gradient(jnp.clip(safe, lower, jnp.maximum(lower, upper))) + (safe - jax.lax.stop_gradient(safe))
    return inside if control is None else jnp.concatenate([control[None], inside[1:]])
