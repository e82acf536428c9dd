r"""The closed loop of a planner that decides how far ahead it plans, and whether at all.

A puck between obstacles (`tasks/obstacles.py`), pushed by gusts which no plan knows of, with a planner that keeps
`MARGIN` from what it must not touch. Beside the policies that learned: always the long horizon, always the short one,
and the long one in every n-th step. *Cost* is that of whole episodes, of those that ran to their end, by the stage
costs of the problem: what touching the margin costs included.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.experiments.benchmarks.actor_in_loop import episode_costs
from planahead.experiments.benchmarks.rows import NOTHING
from planahead.experiments.benchmarks.timing import measure_in_turn
from planahead.experiments.episodes import run_episodes
from planahead.experiments.experiment import Stream, stream_key
from planahead.learning.regret import fit_adaptive_planner
from planahead.planning import SQP
from planahead.policies.adaptive import ENDLESS, AdaptivePlanner, InUse
from planahead.problem import WrappedProblem
from planahead.tasks import Task, make_task
from planahead.tasks.obstacles import ObstaclesProblem

HORIZONS = (5, 15)
GUST = 0.5  # m/s²
MARGIN = 0.05  # m
NEVER = 1e6  # as computation: too dear at any price
PRICES = (1e-3, 1e-2)  # of a stage, in cost
EVERY = (2, 3, 5)


class Apart(WrappedProblem):
    """Obstacles that are larger by `MARGIN`."""

    def __init__(self, base: ObstaclesProblem):
        self.base = base

    def constraints(self, x: Float[Array, " 4"], u: Float[Array, " 2"]) -> Float[Array, " 3"]:
        return self.base.constraints(x, u) + MARGIN


@dataclasses.dataclass(frozen=True)
class LoopRow:
    """Episodes of one policy."""

    task: str
    policy: str
    price: float | None
    episodes: int
    cost: float | None
    """Mean of the episodes that ran to their end; `None` where none did."""
    finished: float
    """Share of the episodes that did."""
    success: float
    planned: float
    """Stages that were planned, per step."""
    anew: float
    """Share of the steps with a new plan."""
    far: float
    """Share of the steps with a new plan of the longest horizon."""
    iterations: float
    """Of SQP, per step."""
    failed: float
    milliseconds: float
    """Per step, one world: those of the three options, by their shares."""


def loops(name: str, seed: int, worlds: int, episodes: int, report: Callable[[str], None]) -> list[LoopRow]:
    """Measure regrets in `worlds` worlds over an episode, and run `episodes` of every policy."""
    task = make_task(name, gust=GUST)
    begin, learn = jax.random.split(jax.random.key(seed))
    policy = AdaptivePlanner(
        [Apart(ObstaclesProblem(horizon=horizon)) for horizon in HORIZONS],
        task.planner_state,
        task.action_box,
        planner=SQP(iterations=20, gradient_tolerance=1e-2, arithmetic="float32"),
        key=begin,
    )
    fitted = fit_adaptive_planner(task, policy, learn, lanes=worlds, steps=task.environment.episode_steps)
    report(
        f"{name}: regrets known to {float(fitted.error):.2f}, of a spread of {float(fitted.spread):.2f}, in log(1 + R)"
    )
    times = option_times(task, fitted.policy)
    rows = []
    for told, price, chosen in policies(fitted.policy):
        rows.append(_row(task, told, price, chosen, times, episodes))
        report(f"{name}, {told}: {rows[-1].planned:.1f} stages a step, cost {loop_cells(rows[-1])[3]}")
    return rows


def policies(learned: AdaptivePlanner) -> list[tuple[str, float | None, AdaptivePlanner]]:
    """What is compared: name, price and policy. All have the same shapes, so that one program serves them."""
    short, far = map(float, HORIZONS)

    def put(policy: AdaptivePlanner, price: float, patience: int, computation: tuple[float, ...]) -> AdaptivePlanner:
        values = jnp.asarray(price, float), jnp.asarray(patience), jnp.asarray(computation, float)
        return eqx.tree_at(lambda policy: (policy.price, policy.patience, policy.computation), policy, values)

    blind = eqx.tree_at(lambda policy: policy.unit, learned, jnp.zeros(()))  # all regrets are nothing to it
    found: list[tuple[str, float | None, AdaptivePlanner]] = [
        (f"always {far:g} stages", None, put(blind, 1.0, 1, (0.0, NEVER, far))),
        (f"always {short:g} stages", None, put(blind, 1.0, 1, (0.0, short, NEVER))),
    ]
    for number in EVERY:
        found.append((f"{far:g} stages, every {number} steps", None, put(blind, 1.0, number, (0.0, NEVER, far))))
    for price in PRICES:
        found += [
            ("learned horizon", price, put(learned, price, 1, (0.0, short, far))),
            ("learned event", price, put(learned, price, ENDLESS, (0.0, NEVER, far))),
            ("both learned", price, put(learned, price, ENDLESS, (0.0, short, far))),
        ]
    return found


def option_times(task: Task, policy: AdaptivePlanner) -> np.ndarray:
    """Milliseconds of a decision that takes each option, where an episode begins: a step after a plan was made."""
    observation = task.environment.observe(task.environment.reset(jax.random.key(0)))
    blind = eqx.tree_at(lambda policy: (policy.unit, policy.price), policy, (jnp.zeros(()), jnp.ones(())))

    @jax.jit
    def decide(computation: Array, memory: InUse) -> tuple[Array, InUse]:
        forced = eqx.tree_at(lambda policy: policy.computation, blind, computation)
        decision = forced.decide(observation, memory)
        return decision.action, decision.memory

    options = len(HORIZONS) + 1
    memory = decide(blind.computation, policy.initial_memory())[1]
    calls = []
    for option in range(options):
        cheap = jnp.where(jnp.arange(options) == option, 0.0, NEVER)
        assert int(decide(cheap, memory)[1].chosen) == option
        calls.append(lambda cheap=cheap: jax.block_until_ready(decide(cheap, memory)))
    return np.asarray([timing.median for timing in measure_in_turn(calls, 50)])


def _row(
    task: Task, name: str, price: float | None, policy: AdaptivePlanner, times: np.ndarray, episodes: int
) -> LoopRow:
    flown = run_episodes(task, policy, stream_key(0, Stream.EVALUATION), episodes)
    steps, costs = flown.steps, episode_costs(flown, policy.problems[-1])
    alive = np.asarray(steps.alive)
    assert steps.parameters is not None and steps.iterations is not None
    stages = np.asarray(steps.parameters)[..., 0][alive]
    shares = np.array([(stages == horizon).mean() for horizon in (0, *HORIZONS)])
    last = alive.sum(axis=0) - 1
    return LoopRow(
        task=task.name,
        policy=name,
        price=price,
        episodes=episodes,
        cost=float(costs.mean()) if len(costs) else None,
        finished=len(costs) / episodes,
        success=float(np.asarray(steps.success)[last, np.arange(episodes)].mean()),
        planned=float(stages.mean()),
        anew=float((stages > 0).mean()),
        far=float(shares[-1]),
        iterations=float(np.asarray(steps.iterations)[alive].mean()),
        failed=float(np.asarray(steps.failed)[alive].mean()),
        milliseconds=float(shares @ times),
    )


LOOP_HEADINGS = (
    "task", "policy", "price", "cost", "finished", "success", "stages planned", "new plans", "of the long",
    "iterations", "failed", "ms",
)  # fmt: skip


def loop_cells(row: LoopRow) -> tuple[str, ...]:
    """A line of the table, under `LOOP_HEADINGS`."""
    return (
        row.task,
        row.policy,
        NOTHING if row.price is None else f"{row.price:g}",
        NOTHING if row.cost is None else f"{row.cost:.2f}",
        f"{100 * row.finished:.0f} %",
        f"{100 * row.success:.0f} %",
        f"{row.planned:.1f}",
        f"{100 * row.anew:.0f} %",
        f"{100 * row.far:.0f} %",
        f"{row.iterations:.2f}",
        f"{100 * row.failed:.1f} %",
        f"{row.milliseconds:.3f}",
    )
