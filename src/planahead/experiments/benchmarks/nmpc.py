"""Two nonlinear problems, single and in batches: real-time iterations, full solves and adjoints, in float64.

Starts of a batch are spread around the published one, and planned from cold. The single real-time iteration starts from
the shifted plan of a closed loop that the model itself closes. The cost of the published start is compared with the
published one, the adjoint with a difference along a random direction.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.experiments.benchmarks.nonlinear import CASES, CartPole, Case
from planahead.experiments.benchmarks.timing import Row, Timing, measure, measure_in_turn

BATCH = 128
STEPS = 200
"""Of the closed loop that times a single real-time iteration."""
RELATIVE = 1e-6
"""Largest relative error of an optimal cost."""
SLOPE, STEP = 1e-4, 1e-5
"""Largest relative error of a derivative along a direction, and the step of the difference that it is compared with."""


def run(repeats: int) -> list[Row]:
    """All rows; acados's times on one core of a Zen 5 are in the notes, from the same problems."""
    with jax.enable_x64(True):
        rows = [row for case in CASES for row in _rows(case, repeats)]
        return [*rows, _cold_starts(repeats)]


def _rows(case: Case, repeats: int) -> list[Row]:
    problem, states = case.build(), case.starts(BATCH)
    once, full = pa.SQP.real_time(), pa.SQP()

    def plans(planner: pa.SQP) -> Callable[[Any, jax.Array], pa.Plan]:
        return jax.jit(jax.vmap(lambda problem, state: pa.solve(problem, state, planner=planner), in_axes=(None, 0)))

    @jax.jit
    def slopes(problem: pa.Problem, states: jax.Array) -> tuple[Any, pa.Plan]:
        def first(problem):
            plan = jax.vmap(lambda state: pa.solve(problem, state, planner=full))(states)
            return jnp.sum(plan.controls[:, 0]), plan

        return jax.grad(first, has_aux=True)(problem)

    def row(what: str, timing: Timing, failed: Any, error: float | None, most: float, note: str) -> Row:
        wrong = None if error is None else int(not error <= most)
        failures = int(np.sum(np.asarray(failed)))
        return Row(case.name, "planahead", what, BATCH, timing.median, timing.p99, failures, wrong, error, note)

    def timed(*calls: Callable[[Any, jax.Array], Any]) -> list[Timing]:
        return measure_in_turn(
            [lambda call=call: jax.block_until_ready(call(problem, states)) for call in calls], repeats
        )

    step, solve = plans(once), plans(full)
    # A real-time iteration may end anywhere near, but not without a step.
    given_up = np.isin(step(problem, states).status, (pa.Status.STALLED, pa.Status.INFEASIBLE, pa.Status.INVALID_INPUT))
    rows = [row("one real-time iteration", timed(step)[0], given_up, None, 0.0, "")]
    solved, both = timed(solve, slopes)  # whose difference is what the adjoint takes
    plan = solve(problem, states)
    cost_error = abs(float(plan.cost[0]) - case.cost) / case.cost
    note = f"{float(plan.iterations.mean()):.1f} iterations; error: of the published start's cost"
    rows.append(row("full solve", solved, plan.status != pa.Status.SOLVED, cost_error, RELATIVE, note))
    gradient, plan = slopes(problem, states)
    error, note = _slope_error(solve, problem, states, gradient), "error: of the derivative along a direction"
    rows.append(row("full solve + adjoint", both, ~plan.gradient_valid, error, SLOPE, note))
    single = jax.jit(lambda problem, state: pa.solve(problem, state, planner=full))
    alone = measure(lambda: jax.block_until_ready(single(problem, states[0])), repeats)
    plan = single(problem, states[0])
    failed, cost_error = int(plan.status != pa.Status.SOLVED), abs(float(plan.cost) - case.cost) / case.cost
    wrong = int(not cost_error <= RELATIVE)
    what = "full solve, single"
    rows.append(Row(case.name, "planahead", what, 1, alone.median, alone.p99, failed, wrong, cost_error))
    return [*rows, closed_loop(case, problem)]


def _slope_error(call: Callable[..., pa.Plan], problem: pa.Problem, states: jax.Array, gradient: Any) -> float:
    """Of the sum of first controls along a random relative change of all leaves, against a central difference."""
    random = np.random.default_rng(0)
    leaves, structure = jax.tree.flatten(problem)
    change = [leaf * random.normal(size=jnp.shape(leaf)) for leaf in leaves]

    def moved(by: float) -> float:
        there = [leaf + by * part for leaf, part in zip(leaves, change, strict=True)]
        return float(jnp.sum(call(structure.unflatten(there), states).controls[:, 0]))

    slope = sum(float(jnp.sum(part * way)) for part, way in zip(jax.tree.leaves(gradient), change, strict=True))
    difference = (moved(STEP) - moved(-STEP)) / (2 * STEP)
    return abs(slope - difference) / abs(difference)


def closed_loop(case: Case, problem: pa.Problem) -> Row:
    """One real-time iteration a step, from a Python call to its result."""
    planner = pa.SQP.real_time()

    @jax.jit
    def step(problem, state, guess):
        plan = pa.solve(problem, state, guess=guess, planner=planner)
        return problem.dynamics(state, plan.controls[0]), plan.shift()

    state = case.starts(1)[0]
    memory = [state, pa.solve(problem, state).shift()]

    def advance():
        memory[:] = jax.block_until_ready(step(problem, *memory))

    timing = measure(advance, STEPS)
    arrived = float(jnp.abs(memory[0] - jnp.asarray(_goal(case))).max())
    return Row(
        case.name,
        "planahead",
        "one real-time iteration, single, closed loop",
        1,
        timing.median,
        timing.p99,
        failed=int(not arrived < 1e-2),
        error=arrived,
        note="error: distance from the goal after the loop",
    )


def _goal(case: Case) -> np.ndarray:
    return np.zeros(4) if case.name == "pendulum" else np.concatenate([[0.0, 0.0, 1.0, 1.0], np.zeros(9)])


def _cold_starts(repeats: int) -> Row:
    """Near upright, from a guess of zeros."""
    problem = CartPole()
    states = jnp.asarray(np.random.default_rng(0).uniform(-0.3, 0.3, (BATCH, 4)))
    zeros = pa.Guess(jnp.zeros((problem.horizon + 1, 4)), jnp.zeros((problem.horizon, 1)))
    call = jax.jit(jax.vmap(lambda state: pa.solve(problem, state, guess=zeros)))
    timing = measure(lambda: jax.block_until_ready(call(states)), repeats)
    plan = call(states)
    failed = int((np.asarray(plan.status) != pa.Status.SOLVED).sum())
    note = f"{float(plan.iterations.mean()):.1f} iterations, at most {int(plan.iterations.max())}"
    return Row(
        "cart-pole",
        "planahead",
        "full solve, guess of zeros",
        BATCH,
        timing.median,
        timing.p99,
        failed=failed,
        note=note,
    )
