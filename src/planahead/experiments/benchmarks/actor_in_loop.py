r"""What a trained actor is worth to a planner: where solves end, and what the closed loop comes to.

Swinging a pole up to either side, with SAC's actor and a horizon that is too short for it or just long enough: hanging
is a stationary point of the planner's problem, and the way up is another one that a solve finds only from near it.

    solves     of one and the same problem from hanging starts, begun cold, from the actor's roll-out, and from `RANDOM`
               roll-outs of uniform controls: what the best of all costs, and who comes within `NEAR` of it
    episodes   the actor alone, the planner without it, with its roll-outs as guesses, and with its value behind the
               horizon besides (AC4MPC), in full solves and in real time

The planner minimises its own cost, the actor was trained on the world's rewards; both are told. A cost is that of a
whole episode, discounted, of the episodes that ran to their end.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.experiments.benchmarks.timing import measure
from planahead.experiments.episodes import PERTURBATION, Episodes, run_episodes, with_spread
from planahead.experiments.errors import UserError
from planahead.experiments.evaluation import Evaluation
from planahead.experiments.experiment import Experiment, Stream, stream_key
from planahead.experiments.run_directory import RunDirectory
from planahead.learning import make_algorithm
from planahead.learning.terminal_value import FittedValue, fit_terminal_value
from planahead.planning import SQP, Guess, cold_start, judged, simulated, solve
from planahead.policies import AC4MPC, Policy, plan_failed
from planahead.problem import EndingInValue, Problem, stages_only
from planahead.tasks import Task, make_task
from planahead.tasks.cart_pole import CartPoleProblem

TASK = "cartpole"
DISCOUNT = 0.99  # SAC's
RANDOM = 10  # guesses of uniform controls
NEAR = 0.01  # of the best cost, relative: the same optimum
TIMED = 20  # observations at which a decision is timed


def problem_of(horizon: int) -> CartPoleProblem:
    """As the task's, but that a swing to either side is as good, and with prices that let the actor's way of doing it
    be one: it cares little where on the track it stands, and must not leave it."""
    prices: dict[str, Any] = {"position_weight": jnp.asarray(100.0), "track_weight": jnp.asarray(1e5)}
    return CartPoleProblem(horizon=horizon, either_side=True, discount=DISCOUNT, **prices)


@dataclasses.dataclass(frozen=True)
class LoopRow:
    """Episodes of one policy with one actor."""

    actor: str
    """The seed or the run that it came from."""
    horizon: int
    policy: str
    episodes: int
    success: float
    mean_return: float
    violated: float
    """Share of the episodes."""
    cost: float | None
    """Mean discounted cost of the episodes that ran to their end; `None` where none did."""
    failed: float
    """Share of the decisions whose solves all failed."""
    iterations: float | None
    """Mean per decision, of all its solves."""
    milliseconds: float | None
    """Median wall time of one decision, alone; `None` where it was not measured."""


@dataclasses.dataclass(frozen=True)
class StartRow:
    """Solves from one kind of guess."""

    actor: str
    horizon: int
    ends: str
    """In what: the problem's own terminal cost, or the actor's value."""
    guess: str
    starts: int
    best: float
    """Share that come within `NEAR` of the best cost found."""
    excess: float
    """Median cost above the best one, relative to it."""
    iterations: float
    """Median, of the solves that did not fail."""
    failed: float


@dataclasses.dataclass(frozen=True)
class Found:
    """Both tables."""

    loops: list[LoopRow]
    starts: list[StartRow]


def actors(runs: Sequence[pathlib.Path], seeds: Sequence[int], steps: int) -> Iterator[tuple[str, Policy]]:
    """The best policy of every run; without runs SAC's after `steps` steps, seed by seed.

    **Raises:** `UserError` for a run on another task.
    """
    for path in runs:
        run = RunDirectory.open(path)
        if (task := run.settings().task) != TASK:
            raise UserError(f"«{path}» is a run on «{task}»; the actors of this benchmark swing up the «{TASK}».")
        yield path.name, Experiment.of_run(run).load_policy(run, "best")[0]
    for seed in () if runs else seeds:
        task = make_task(TASK)
        policy, learner = make_algorithm("sac", task, stream_key(seed, Stream.NETWORKS))
        state = learner.init(task, policy, stream_key(seed, Stream.FIRST_STATE))
        for chunk in range(-(-steps // learner.steps_per_chunk)):
            state, _ = learner.advance(state, stream_key(seed, Stream.CHUNK, chunk))
        yield f"seed {seed}", learner.policy(state)


def run(
    named: Sequence[tuple[str, Policy]] | Iterator[tuple[str, Policy]],
    horizons: Sequence[int],
    episodes: int,
    repeats: int,
    report: Callable[[str], None] = lambda _: None,
    keep: Callable[[Found], None] = lambda _: None,
) -> Found:
    """Both tables for every actor; decisions are timed with the first one's, `repeats` times each, 0 for not at all.

    `report` is called with a line for every policy, and `keep` with all rows so far after every horizon.
    """
    task, found = make_task(TASK), Found([], [])
    for index, (name, actor) in enumerate(named):
        # How far a planner looks changes no cost to go.
        fitted = fit_terminal_value(task, problem_of(horizons[0]), actor, jax.random.key(index))
        report(f"{name}: its cost to go is known to {float(fitted.error):.3f} of its root mean square")
        for horizon in horizons:
            for policy, row in policies(task, actor, fitted, horizon).items():
                flown = run_episodes(task, row, stream_key(0, Stream.EVALUATION), episodes)
                timed = milliseconds(task, row, flown, repeats) if index == 0 and repeats else None
                found.loops.append(loop_row(name, horizon, policy, flown, timed))
                told = found.loops[-1]
                report(f"{name}, horizon {horizon}, {policy}: success {100 * told.success:.0f} %")
            found.starts.extend(solved(task, name, actor, fitted, horizon, episodes))
            keep(found)
    return found


def policies(task: Task, actor: Policy, fitted: FittedValue, horizon: int) -> dict[str, Policy]:
    """What is compared, by name."""
    plain = problem_of(horizon)
    valued = EndingInValue(plain, fitted.value)
    return {
        "actor": actor,
        "planner, cold": AC4MPC.of(task, plain, actor, starts=("cold",), race_guesses=False),
        "planner, warm": AC4MPC.of(task, plain, actor, starts=("shift",), race_guesses=False),
        "planner, guided": AC4MPC.of(task, plain, actor, starts=("actor",), race_guesses=False),
        "planner with value, warm": AC4MPC.of(task, valued, actor, starts=("shift",), race_guesses=False),
        "AC4MPC": AC4MPC.of(task, valued, actor),
        "AC4MPC, real time": AC4MPC.of(task, valued, actor, planner=SQP.real_time()),
    }


def loop_row(name: str, horizon: int, policy: str, flown: Episodes, milliseconds: float | None) -> LoopRow:
    """What episodes came to."""
    found, costs = Evaluation.of(flown), episode_costs(flown, problem_of(horizon))
    return LoopRow(
        actor=name,
        horizon=horizon,
        policy=policy,
        episodes=found.episodes,
        success=found.success_rate,
        mean_return=found.mean_return,
        violated=found.violations_per_episode,
        cost=float(costs.mean()) if len(costs) else None,
        failed=found.failed_solves,
        iterations=None if found.iterations is None else float(found.iterations.mean()),
        milliseconds=milliseconds,
    )


def episode_costs(flown: Episodes, problem: Problem) -> np.ndarray:
    """Discounted, of the episodes that ran to their end."""
    task, steps = flown.task, flown.steps
    length = task.environment.episode_steps
    whole = np.asarray(steps.alive).sum(axis=0) == length
    ahead = stages_only(problem, length)

    def seen(state: Any) -> Float[Array, " nx"]:
        return task.planner_state(task.environment.observe(state))

    before = jax.vmap(seen)(flown.start)
    after = jax.vmap(jax.vmap(seen))(steps.state)
    states = jnp.moveaxis(jnp.concatenate([before[None], after]), 1, 0)[whole]
    actions = jnp.moveaxis(jnp.asarray(steps.action), 1, 0)[whole]
    return np.asarray(jax.vmap(lambda x, u: judged(ahead, Guess(x, u)).cost)(states, actions))


def milliseconds(task: Task, policy: Policy, flown: Episodes, repeats: int) -> float:
    """Median wall time of a decision, at observations of the first episode, from the memory of a decision there."""
    alive = np.flatnonzero(np.asarray(flown.steps.alive)[:, 0])
    rows = alive[np.linspace(0, len(alive) - 1, TIMED).astype(int)]
    states = jax.tree.map(lambda leaf: leaf[rows, 0], flown.steps.state)
    observations = np.asarray(jax.vmap(task.environment.observe)(states))
    decide = eqx.filter_jit(lambda observation, memory: policy.decide(observation, memory))
    times: list[float] = []
    for observation in observations:
        memory = decide(observation, policy.initial_memory()).memory
        times += measure(lambda o=observation, m=memory: np.asarray(decide(o, m).action), repeats).milliseconds
    return float(np.median(times))


def solved(task: Task, name: str, actor: Policy, fitted: FittedValue, horizon: int, starts: int) -> list[StartRow]:
    """Who comes to the best optimum, with the problem's own terminal cost and with the actor's value."""
    world = with_spread(task, PERTURBATION).environment
    keys = jax.random.split(stream_key(1, Stream.EVALUATION), starts)
    observations = jax.vmap(lambda key: world.observe(world.reset(key)))(keys)
    plain = problem_of(horizon)
    rows: list[StartRow] = []
    for ends, problem in (("own", plain), ("value", EndingInValue(plain, fitted.value))):
        costs, iterations, failed = (np.asarray(x) for x in _solved(task, problem, actor, observations, keys))
        least = np.where(failed, np.inf, costs).min(axis=1, keepdims=True)
        excess = np.where(failed, np.inf, costs) / least - 1.0
        for guess, which in (("cold", [0]), ("actor", [1]), ("random", list(range(2, 2 + RANDOM)))):
            good = ~failed[:, which]
            rows.append(
                StartRow(
                    actor=name,
                    horizon=horizon,
                    ends=ends,
                    guess=guess,
                    starts=starts,
                    best=float((excess[:, which] <= NEAR).mean()),
                    excess=float(np.median(excess[:, which])),
                    iterations=float(np.median(iterations[:, which][good])) if good.any() else float("nan"),
                    failed=float(1.0 - good.mean()),
                )
            )
    return rows


@eqx.filter_jit
def _solved(task: Task, problem: Problem, actor: Policy, observations: Array, keys: Array):
    """Costs, iterations and failures of every start [starts, guesses]."""
    guide, planner = AC4MPC.of(task, problem, actor), SQP()

    def one(observation: Array, key: Array):
        state = task.planner_state(observation)
        drawn = jax.random.uniform(key, (RANDOM, problem.horizon, task.action_box.size), minval=-1.0, maxval=1.0)
        controls = jax.vmap(jax.vmap(task.action_box.from_unit))(drawn)
        random = jax.vmap(lambda controls: simulated(problem, state, controls).trajectory)(controls)
        first = [cold_start(problem, state), guide.rolled_out(observation, state)]
        guesses = jax.tree.map(lambda a, b, c: jnp.concatenate([a[None], b[None], c]), *first, random)
        plans = jax.vmap(lambda guess: solve(problem, state, guess=guess, planner=planner))(guesses)
        return plans.cost, plans.iterations, plan_failed(plans, planner)

    return jax.vmap(one)(observations, keys)
