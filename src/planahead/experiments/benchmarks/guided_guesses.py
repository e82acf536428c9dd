r"""Where solves of problems with bad local optima end, and how soon, by where they begin.

From states that were not learned from: begun cold, from the shifted plan of the step before (which a push has made a
little wrong), from the network, from what is cheapest of them by simulation, and from all of them. Who comes within
`NEAR` of the best optimum that any of them, or of `RANDOM` random roll-outs, finds?
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import planahead as pa
from planahead.experiments.benchmarks.rows import NOTHING
from planahead.experiments.benchmarks.timing import milliseconds
from planahead.learning.guess_regression import fit_guess_guide, uniform_states
from planahead.learning.solved_plans import PIECE, best_plans, cold_and_random, solve_all
from planahead.planning import SQP, Guess
from planahead.policies.guess_guide import cheapest
from planahead.problem import Problem
from planahead.tasks import make_task

NEAR = 0.01  # of the best cost, relative: the same optimum
RANDOM = 4  # roll-outs beside the guesses, in learning and in judging
HEADS = 3  # of the network


@dataclasses.dataclass(frozen=True)
class GuessRow:
    """Solves of one problem from one kind of guess."""

    task: str
    guess: str
    starts: int
    reached: float
    """Share that comes within `NEAR` of the best cost found."""
    excess: float
    """Mean cost above the best one, relative to it, of the solves that did not fail."""
    iterations: float
    """SQP iterations per start, of all its solves."""
    failed: float
    milliseconds: float | None
    """Per start, `PIECE` side by side; `None` where it was not measured."""


@dataclasses.dataclass(frozen=True)
class GuessCase:
    """A problem with bad local optima, and from where it is solved."""

    task: str
    problem: Problem
    low: tuple[float, ...]
    high: tuple[float, ...]
    push: tuple[float, ...]
    """Largest disturbance of every state between two steps."""


def guess_cases() -> dict[str, GuessCase]:
    """By name."""
    obstacles = make_task("obstacles").problem
    swing = make_task("cartpole").expert(jnp.zeros(4))
    return {
        "obstacles": GuessCase(
            "obstacles", obstacles, (-1.8, -1.0, -1.0, -1.0), (0.5, 1.0, 1.5, 1.0), (0.02, 0.02, 0.2, 0.2)
        ),
        "cartpole": GuessCase(
            "cartpole", swing, (-1.0, -3.14, -1.0, -3.0), (1.0, 3.14, 1.0, 3.0), (0.02, 0.05, 0.2, 0.5)
        ),
    }


def guesses(case: GuessCase, seed: int, rows: int, starts: int, report: Callable[[str], None]) -> list[GuessRow]:
    """Learn from `rows` states, and solve from `starts` others."""
    planner = SQP(iterations=30, arithmetic="float32")
    learning, drawing, pushing, rolling = jax.random.split(jax.random.key(seed), 4)
    low, high = jnp.asarray(case.low), jnp.asarray(case.high)
    fitted = fit_guess_guide(case.problem, low, high, learning, planner=planner, rows=rows, random=RANDOM, heads=HEADS)
    report(f"{case.task}: a network learned from {rows} states to {float(fitted.error):.2f} of the plans' spread")

    before = uniform_states(low, high, starts, drawing)
    cold = jax.vmap(lambda state: pa.cold_start(case.problem, state))(before)
    plans = solve_all(case.problem, before, cold, planner)
    noise = jnp.asarray(case.push) * jax.random.uniform(pushing, before.shape, minval=-1.0, maxval=1.0)
    states = jax.vmap(case.problem.dynamics)(before, plans.controls[:, 0]) + noise

    @eqx.filter_jit
    def proposals(states: Array, plans: Any) -> tuple[Guess, Array]:
        """Cold, shifted and the network's guesses [states, 2 + HEADS], and which is cheapest: of the network's and of
        all."""

        def one(state: Array, plan: pa.Plan) -> tuple[Guess, Array]:
            cold = pa.cold_start(case.problem, state)
            known = jax.tree.map(lambda a, b: jnp.stack([a, b]), cold, plan.shift())
            all_of = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), known, fitted.guide(case.problem, state))
            among = jnp.arange(2 + HEADS)
            feasible = planner.largest_violation(state.dtype)
            own = cheapest(case.problem, state, all_of, feasible, among >= 2).chosen
            return all_of, jnp.stack([own, cheapest(case.problem, state, all_of, feasible).chosen])

        return jax.vmap(one)(states, plans)

    proposed, chosen = proposals(states, plans)
    random = jax.tree.map(lambda leaf: leaf[:, 1:], cold_and_random(case.problem, states, RANDOM, rolling))
    together = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), proposed, random)
    found = best_plans(case.problem, states, together, planner)
    costs, iterations, reached = (np.asarray(x) for x in (found.costs, found.iterations, found.reached(NEAR)))
    every, picked = np.arange(starts)[:, None], np.asarray(chosen)
    kinds: dict[str, np.ndarray] = {
        "cold": np.zeros((starts, 1), int),
        "shifted plan": np.ones((starts, 1), int),
        "network": picked[:, :1],
        "cheapest of these": picked[:, 1:],
        "all of these": np.tile(np.arange(2 + HEADS), (starts, 1)),
        "random roll-out": 2 + HEADS + np.arange(starts)[:, None] % RANDOM,
    }

    def timed(column: np.ndarray) -> float:
        rows = np.arange(PIECE) % starts
        lanes = jax.tree.map(lambda leaf: leaf[rows, column[rows]], together)
        return milliseconds(lambda: solve_all(case.problem, states[rows], lanes, planner).cost, 3, 0) / PIECE

    shown = []
    for name, which in kinds.items():
        own, steps = costs[every, which], iterations[every, which]
        best, least = own.min(axis=1), costs.min(axis=1)
        good = np.isfinite(best)
        shown.append(
            GuessRow(
                task=case.task,
                guess=name,
                starts=starts,
                reached=float(reached[every, which].any(axis=1).mean()),
                excess=float((best[good] / least[good] - 1.0).mean()) if good.any() else float("nan"),
                iterations=float(steps.sum(axis=1).mean()),
                failed=float(1.0 - good.mean()),
                milliseconds=timed(which[:, 0]) if which.shape[1] == 1 and name != "random roll-out" else None,
            )
        )
        report(f"{case.task}, {name}: {100 * shown[-1].reached:.0f} % reach the best, {shown[-1].iterations:.1f} its")
    return shown


GUESS_HEADINGS = ("task", "guess", "at the best", "excess", "SQP iterations", "failed", "ms")


def guess_cells(row: GuessRow) -> tuple[str, ...]:
    """A line of the table, under `GUESS_HEADINGS`."""
    shares = (f"{100 * row.reached:.1f} %", f"{100 * row.excess:.1f} %")
    return (
        row.task,
        row.guess,
        *shares,
        f"{row.iterations:.1f}",
        f"{100 * row.failed:.1f} %",
        NOTHING if row.milliseconds is None else f"{row.milliseconds:.2f}",
    )
