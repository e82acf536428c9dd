"""`solve`, `value` and `action_value`: a planning problem as a function."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import transcription
from planahead.planning.arguments import check_kinds, check_shapes, guess_of, vector
from planahead.planning.envelope import optimal_cost
from planahead.planning.implicit import Answer, Inputs, solution
from planahead.planning.plan import Guess, Multipliers, Plan
from planahead.planning.single_shooting import shot, shot_guess, whole_plan
from planahead.planning.sqp import SQP
from planahead.planning.step import step
from planahead.planning.taylor import check_squares
from planahead.problem import Problem
from planahead.qp.derivatives import where_valid
from planahead.qp.types import price_of_violations


def solve(
    problem: Problem,
    state: Float[Array, "..."],
    control: Float[Array, "..."] | None = None,
    *,
    guess: Guess | Plan | None = None,
    planner: SQP = SQP(),
) -> Plan:
    """The best plan from `state`; with `control` given, the best plan that starts with it.

    One problem and one state; `jax.vmap` gives batches and is solved natively, all lanes at once. Differentiable
    (reverse mode, once) in the problem's leaves, the state and the pinned control, with respect to every array of the
    plan.

    **Arguments:**

    - `problem`: what to plan; its costs are minimised.
    - `state`: the initial state, `[nx]`.
    - `control`: pins the first control, `[nu]`; its own bounds are dropped. The plan's cost is then Q(state, control).
    - `guess`: a trajectory to start from, for instance `plan.shift()`. Nothing is remembered between calls, and a guess
      carries no gradient. Without it the planner starts from the trajectory under the problem's `control_guess`.
    - `planner`: settings of the method.

    **Returns:** a `Plan`. A failed solve is a plan with a `status` that says so, controls inside their bounds, and a
    zero gradient.

    **Raises:** `ValueError` for arguments of the wrong shape, `TypeError` for those of the wrong kind, and `TypeError`
    where a derivative is asked for that does not exist: a second one (of the cost alone it does, see `value`), or that
    of `residual` and `violation`.

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
    state, control, guess = _arrays(problem, state, control, guess, planner)
    if planner.shooting == "single":
        return _solve_shot(problem, state, control, guess, planner)
    return _solve(problem, state, control, guess, planner)


def value(
    problem: Problem, state: Float[Array, "..."], *, guess: Guess | Plan | None = None, planner: SQP = SQP()
) -> Float[Array, ""]:
    """V(state): the optimal cost from `state`, to be minimised; NaN, with a zero gradient, where the solve failed.

    Its derivative is the partial derivative of the Lagrangian (envelope theorem), which needs no factorisation. That
    holds at an exact solution, so the planner's `tau` and `derivative` are not used here. Its second derivatives are
    had by reverse mode, twice: `jax.jacrev(jax.grad(…))`, see `envelope.py`.

    >>> import jax, jax.numpy as jnp
    >>> import planahead as pa
    >>> problem = pa.make_task("mass-spring-damper").problem
    >>> V, slope = jax.value_and_grad(pa.value, argnums=1)(problem, jnp.array([1.0, 0.0]))
    >>> bool(V > 0) and bool(slope[0] > 0)
    True
    """
    return _value(problem, *_arrays(problem, state, None, guess, planner), planner)


def action_value(
    problem: Problem,
    state: Float[Array, "..."],
    action: Float[Array, "..."],
    *,
    guess: Guess | Plan | None = None,
    planner: SQP = SQP(),
) -> Float[Array, ""]:
    """Q(state, action): the optimal cost from `state` when the first control is `action`; see `value`.

    The bounds of the pinned control are dropped, so Q is defined for every action, and V(s) = min_a Q(s, a) over
    admissible actions.

    >>> import jax, jax.numpy as jnp
    >>> import planahead as pa
    >>> problem, state = pa.make_task("mass-spring-damper").problem, jnp.array([0.2, 0.0])
    >>> best = pa.solve(problem, state).controls[0]
    >>> bool(pa.action_value(problem, state, best + 0.1) > pa.value(problem, state))
    True
    >>> slope = jax.grad(pa.action_value, argnums=2)                            # the multiplier of the pinned control
    >>> bool(jax.jacrev(slope, argnums=2)(problem, state, best)[0, 0] > 0)
    True
    """
    return _value(problem, *_arrays(problem, state, action, guess, planner), planner)


@eqx.filter_jit
def _solve(problem: Problem, state: Array, control: Array | None, guess: Guess | Plan | None, planner: SQP) -> Plan:
    inputs, rebuild, guess = _prepare(problem, state, control, guess)
    answer = (step if planner.derivative == "step" else solution)(planner, rebuild, inputs, guess)
    given = where_valid(answer.gradient_valid, inputs)
    return _plan(rebuild(given.leaves), given, answer)


@eqx.filter_jit
def _value(problem, state, action, guess, planner: SQP) -> Float[Array, ""]:
    inputs, rebuild, guess = _prepare(problem, state, action, guess)
    planner = dataclasses.replace(planner, tau=None)
    if planner.shooting == "single":
        _check_free(action)
        start = None if guess is None else shot_guess(guess)
        current = shot(rebuild(inputs.leaves), inputs.state)
        return _value(current, jnp.zeros(1), None, start, dataclasses.replace(planner, shooting="multiple"))
    return optimal_cost(planner, rebuild, inputs, guess)


@eqx.filter_jit
def _solve_shot(problem: Problem, state: Array, control: Array | None, guess: Guess | Plan | None, planner: SQP):
    _check_free(control)
    inputs, rebuild, guess = _prepare(problem, state, None, guess)
    start = None if guess is None else shot_guess(guess)
    current = rebuild(inputs.leaves)
    if planner.derivative == "step":
        check_squares(current)  # a shot would name itself, which nobody wrote
    found = _solve(shot(current, inputs.state), jnp.zeros(1), None, start, planner)
    given = where_valid(found.gradient_valid, inputs)
    return whole_plan(rebuild(given.leaves), given.state, found)


def _check_free(control: Array | None) -> None:
    if control is not None:
        raise ValueError(
            "a pinned control needs a stage of its own, and SQP(shooting='single') has one for all controls; use "
            "shooting='multiple'."
        )


def _arrays(problem: Any, state: Any, control: Any, guess: Any, planner: Any) -> tuple[Array, Array | None, Any]:
    """Numbers as arrays, before compilation: a list's entries would be part of the program, compiled anew for each."""
    check_kinds(problem, guess, planner)
    control = None if control is None else jnp.asarray(control, float)
    return jnp.asarray(state, float), control, jax.tree.map(lambda leaf: jnp.asarray(leaf), guess)


def _prepare(problem: Problem, state, control, guess) -> tuple[Inputs, Callable[[Any], Problem], Guess | None]:
    """Check shapes, and part the problem into its arrays and the rest."""
    name = type(problem).__name__
    dtype = jnp.result_type(float)
    state = vector(state, problem.state_size, "state", f"{name}.state_size", dtype)
    if control is not None:
        control = vector(control, problem.control_size, "control", f"{name}.control_size", dtype)
    guess = guess_of(problem, guess, dtype)
    check_shapes(problem, dtype)
    arrays, rest = eqx.partition(problem, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    def rebuild(leaves):
        return eqx.combine(structure.unflatten(leaves), rest)

    return Inputs(leaves, state, control), rebuild, guess


def _plan(problem: Problem, inputs: Inputs, answer: Answer) -> Plan:
    nx, nu = problem.state_size, problem.control_size
    z = transcription.pin(inputs.control, answer.point.z)
    size = transcription.general_size(problem)
    data = transcription.row_data(problem, size, z.dtype, pinned=inputs.control is not None)
    u, x = transcription.split(problem, z)
    here, slope = jax.value_and_grad(lambda state: transcription.initial_cost(problem, state))(inputs.state)
    cost = here + transcription.objective(problem, z) + price_of_violations(data.linear, data.quadratic, answer.point.s)
    lam = answer.point.lam
    stage_rows, last_rows = transcription.constraint_sizes(problem)
    multipliers = Multipliers(
        costates=jnp.concatenate([answer.point.pi[:1] + slope[None], answer.point.pi[1:]]),
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
    """Controls without NaN and inside their bounds.

    Those of a solution are inside but for rounding, so the derivative is that of u itself.
    """
    lower, upper = transcription.control_box(problem)
    safe = jnp.where(jnp.isfinite(u), u, 0.0)
    inside = jax.lax.stop_gradient(jnp.clip(safe, lower, jnp.maximum(lower, upper))) + (
        safe - jax.lax.stop_gradient(safe)
    )
    return inside if control is None else jnp.concatenate([control[None], inside[1:]])
