"""Two nonlinear problems, single and in batches: real-time iterations, full solves and adjoints, in float64.

Starts of a batch are spread around the published one. A real-time iteration starts from the shifted plan of a closed
loop that the model itself closes. Costs are compared with the published ones.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.experiments.benchmarks.nonlinear import CASES, CartPole, Case
from planahead.experiments.benchmarks.timing import Row, measure

BATCH = 128
STEPS = 200
"""Of the closed loop that times a single real-time iteration."""
RELATIVE = 1e-6
"""Largest relative error of an optimal cost."""


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

    def slopes(problem: pa.Problem, states: jax.Array) -> tuple[Any, pa.Plan]:
        def first(problem):
            plan = jax.vmap(lambda state: pa.solve(problem, state, planner=full))(states)
            return jnp.sum(plan.controls[:, 0]), plan

        return jax.grad(first, has_aux=True)(problem)

    best = plans(full)(problem, states)
    cost_error = abs(float(best.cost[0]) - case.cost) / case.cost
    timings = {
        "one real-time iteration": (plans(once), None),
        "full solve": (plans(full), best),
        "full solve + adjoint": (jax.jit(slopes), best),
    }
    rows = []
    for what, (call, checked) in timings.items():
        timing = measure(lambda call=call: jax.block_until_ready(call(problem, states)), repeats)
        failed = None if checked is None else int((np.asarray(checked.status) != pa.Status.SOLVED).sum())
        note = "" if checked is None else f"{float(checked.iterations.mean()):.1f} iterations"
        wrong = None if checked is None else int(cost_error > RELATIVE)
        error = None if checked is None else cost_error
        rows.append(Row(case.name, "planahead", what, BATCH, timing.median, timing.p99, failed, wrong, error, note))
    single = jax.jit(lambda problem, state: pa.solve(problem, state, planner=full))
    alone = measure(lambda: jax.block_until_ready(single(problem, states[0])), repeats)
    rows.append(Row(case.name, "planahead", "full solve, single", 1, alone.median, alone.p99, error=cost_error))
    return [*rows, closed_loop(case, problem)]


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
