r"""CACTO's loop: how often a solve from the actor's roll-out ends in the best optimum, as the loop goes on.

    starts      as the learner draws its own, from another key and without states that plans passed
    guesses     cold; `RANDOM` roll-outs of uniform controls, each held for `HELD` steps; the actor's roll-out, after
                0, 1, 2, 4, … chunks
    best        the least cost of all solves from that start that did not fail, of all seeds and switches
    at the best within `NEAR` of it
    value       root mean square of √V - √V_best over the starts at stage 0, relative to that of √V_best

with the critic fitted to costs alone, and to slopes as well (Sobolev). The cart-pole is to stand at one angle, with the
second of foresight that its expert has; on the table of obstacles there is a way past on either side, seen for 3 s; the
mass-spring-damper has one optimum, and shows what slopes are worth to the critic alone.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.experiments.benchmarks.actor_in_loop import NEAR
from planahead.experiments.benchmarks.rows import NOTHING
from planahead.experiments.experiment import Stream, stream_key
from planahead.learning import Cacto, CactoState, make_algorithm
from planahead.learning.cacto import rolled_out
from planahead.learning.solved_plans import HELD
from planahead.planning import Guess, cold_start, simulated, solve
from planahead.policies import plan_failed
from planahead.problem import Problem
from planahead.tasks import Task, make_task

RANDOM = 8
SOBOLEV = 0.1
UNITS = 64
"""Of each of the two hidden layers of actor and critic."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A task as it is learned here."""

    task: Callable[[], Task]
    options: dict[str, Any]
    """Of the learner."""


SETTINGS = {
    "cartpole": Setting(lambda: make_task("cartpole"), {"spread": 0.25}),
    "obstacles": Setting(lambda: make_task("obstacles"), {"spread": 1.0, "horizon": 30}),
    "mass-spring-damper": Setting(lambda: make_task("mass-spring-damper"), {"spread": 0.5}),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """Solves from one kind of guess."""

    task: str
    guess: str
    sobolev: float | None
    """ω; `None` where nothing was learned."""
    seed: int | None
    problems: int
    """That had been solved to learn."""
    starts: int
    best: float
    """Share of the solves that end at the best."""
    excess: float
    """Median cost above the best, relative."""
    iterations: float
    """Mean, of the solves that did not fail."""
    failed: float
    value_error: float | None


@dataclasses.dataclass(frozen=True)
class _Solves:
    """What one kind of guess came to, before the best is known."""

    about: dict[str, Any]
    costs: np.ndarray
    """`[starts, guesses]`, infinite where a solve failed."""
    iterations: np.ndarray
    roots: np.ndarray | None = None
    """√V of the critic, `[starts]`."""


def run(
    names: Sequence[str],
    seeds: Sequence[int],
    chunks: int,
    starts: int,
    report: Callable[[str], None] = lambda _: None,
    keep: Callable[[list[Row]], None] = lambda _: None,
) -> list[Row]:
    """All rows; `report` is called with a line for every checkpoint, and `keep` with the rows after every training."""
    rows: list[Row] = []
    for name in names:
        found: list[_Solves] = []
        for seed in seeds:
            for sobolev in (0.0, SOBOLEV):
                found += _trained(name, sobolev, seed, chunks, starts, not found, report)
                keep([*rows, *_rows(found)])
        rows += _rows(found)
    return rows


def _trained(
    name: str, sobolev: float, seed: int, chunks: int, starts: int, first: bool, report: Callable[[str], None]
) -> list[_Solves]:
    setting, key = SETTINGS[name], stream_key(seed, Stream.NETWORKS)
    task, options = setting.task(), {**setting.options, "sobolev_weight": sobolev, "hidden_units": UNITS}
    policy, learner = make_algorithm("cacto", task, key, **options)
    assert isinstance(learner, Cacto)
    state = learner.init(task, policy, stream_key(seed, Stream.FIRST_STATE))
    asked = dataclasses.replace(learner, steps_per_chunk=starts, replay_size=starts, revisits=0.0)
    tested = asked.starts(asked.init(task, policy, key), stream_key(0, Stream.EVALUATION))
    found: list[_Solves] = []
    if first:
        found.append(_solves({"task": name, "guess": "cold"}, state.problem, tested, _cold(state.problem, tested)))
        random = [_random(task, state.problem, tested, jax.random.key(i)) for i in range(RANDOM)]
        several = [_solves({"task": name, "guess": "random"}, state.problem, tested, guess) for guess in random]
        together = [np.concatenate([getattr(s, field) for s in several], axis=1) for field in ("costs", "iterations")]
        found.append(_Solves(several[0].about, *together))
    for chunk in range(chunks + 1):
        if chunk == chunks or chunk & (chunk - 1) == 0:  # 0, 1, 2, 4, …
            about = {"task": name, "guess": "actor", "sobolev": sobolev, "seed": seed, "problems": int(state.steps)}
            solves = _solves(about, state.problem, tested, _guided(state, tested))
            found.append(dataclasses.replace(solves, roots=np.asarray(_roots(state, tested))))
            report(
                f"{name}, ω = {sobolev:g}, seed {seed}, {int(state.steps):,} problems: median cost "
                f"{np.median(found[-1].costs):.4g}, failed {100 * np.mean(np.isinf(found[-1].costs)):.0f} %"
            )
        if chunk < chunks:
            state, _ = learner.advance(state, stream_key(seed, Stream.CHUNK, chunk))
    return found


def _rows(found: Sequence[_Solves]) -> list[Row]:
    """Every kind of guess against the best of all of them."""
    if not found:
        return []
    best = np.min(np.concatenate([solves.costs for solves in found], axis=1), axis=1)
    known = np.isfinite(best)  # a start from which all solves failed tells nothing
    return [_row(solves, best, known) for solves in found]


def _row(solves: _Solves, best: np.ndarray, known: np.ndarray) -> Row:
    costs, least = solves.costs[known], best[known]
    excess, done = costs / least[:, None] - 1.0, np.isfinite(costs)
    error = None
    if solves.roots is not None:
        error = float(np.sqrt(np.mean((solves.roots[known] - np.sqrt(least)) ** 2) / np.mean(least)))
    return Row(
        **{"sobolev": None, "seed": None, "problems": 0, **solves.about},
        starts=int(known.sum()),
        best=float(np.mean(excess <= NEAR)),
        excess=float(np.median(excess)),
        iterations=float(np.mean(solves.iterations[known][done])) if done.any() else float("nan"),
        failed=float(np.mean(~done)),
        value_error=error,
    )


def _solves(about: dict[str, Any], problem: Problem, starts: Array, guesses: Guess) -> _Solves:
    costs, iterations = (np.asarray(x)[:, None] for x in _solved(problem, starts, guesses))
    return _Solves(about, costs, iterations)


@eqx.filter_jit
def _solved(problem: Problem, starts: Float[Array, "n nx"], guesses: Guess) -> tuple[Array, Array]:
    planner = Cacto().planner

    def one(x: Array, guess: Guess) -> tuple[Array, Array]:
        plan = solve(problem, x, guess=guess, planner=planner)
        return jnp.where(plan_failed(plan, planner), jnp.inf, plan.cost), plan.iterations

    return jax.vmap(one)(starts, guesses)


@eqx.filter_jit
def _cold(problem: Problem, starts: Float[Array, "n nx"]) -> Guess:
    return jax.vmap(lambda x: cold_start(problem, x))(starts)


@eqx.filter_jit
def _random(task: Task, problem: Problem, starts: Float[Array, "n nx"], key: Array) -> Guess:
    shape = (len(starts), -(-problem.horizon // HELD), task.action_box.size)
    drawn = jax.vmap(jax.vmap(task.action_box.from_unit))(jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))
    controls = jnp.repeat(drawn, HELD, axis=1)[:, : problem.horizon]
    return jax.vmap(lambda x, u: simulated(problem, x, u).trajectory)(starts, controls)


@eqx.filter_jit
def _guided(state: CactoState, starts: Float[Array, "n nx"]) -> Guess:
    return jax.vmap(lambda x: rolled_out(state.problem, state.policy, state.task, x))(starts)


@eqx.filter_jit
def _roots(state: CactoState, starts: Float[Array, "n nx"]) -> Float[Array, " n"]:
    return jnp.sqrt(jax.vmap(state.value)(starts))


HEADINGS = ("task", "guess", "problems", "at the best", "median excess", "iterations", "failed", "error of the value")


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Lines of the table, under `HEADINGS`: means over the seeds."""
    lines = []
    for key in dict.fromkeys((row.task, row.guess, row.sobolev, row.problems) for row in rows):
        some = [row for row in rows if (row.task, row.guess, row.sobolev, row.problems) == key]
        guess = {None: key[1], 0.0: "actor"}.get(key[2], "actor, with slopes")
        errors = [row.value_error for row in some if row.value_error is not None]
        lines.append(
            (
                key[0],
                guess,
                f"{key[3]:,}" if key[1] == "actor" else NOTHING,
                f"{100 * np.mean([row.best for row in some]):.0f} %",
                f"{100 * np.mean([row.excess for row in some]):.1f} %",
                f"{np.mean([row.iterations for row in some]):.1f}",
                f"{100 * np.mean([row.failed for row in some]):.0f} %",
                f"{100 * np.mean(errors):.1f} %" if errors else NOTHING,
            )
        )
    return lines
