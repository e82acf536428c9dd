"""A planner with constant parameters, tuned by evolution: what a policy that chooses them from the state has to beat.

CMA-ES draws candidates φ in the unit coordinates of the parameters' box, starting from the problem's own ones. All of a
generation run the same few training episodes, and their mean returns are what it learns from, until the environment
steps of all candidates together reach the budget that a learner would have. As often as a learner would be, the mean of
the distribution is validated, and the best one is kept.

Reference: N. Hansen, *The CMA Evolution Strategy: A Tutorial*, arXiv 1604.00772; the optimiser is the package `cmaes`.
"""

import dataclasses
import operator
import time
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from cmaes import CMA
from jaxtyping import Array, Float, Key
from rich.console import Console

from planahead.experiments.bench.definition import Cell, Conditions
from planahead.experiments.bench.results import curve_row
from planahead.experiments.episodes import Step, run_batch
from planahead.experiments.evaluation import Evaluation, evaluate
from planahead.experiments.experiment import Stream, make_known_task, stream_key
from planahead.experiments.fixed_planner import FixedPlanner
from planahead.experiments.run_directory import Rows
from planahead.planning import SQP
from planahead.problem import ParameterSpace
from planahead.tasks import Task

EPISODES = 4  # of every candidate
SPREAD = 0.3  # of the first generation: a standard deviation, in a box of length 2


@dataclasses.dataclass(frozen=True)
class TunedPlanner:
    """What a tuning found."""

    best: FixedPlanner
    """As validated."""
    best_step: int
    last: FixedPlanner
    curve: Rows


def tune_planner(cell: Cell, console: Console) -> TunedPlanner:
    """Tune the learned parameters of the cell's task."""
    settings, conditions = cell.settings, cell.conditions
    task = make_known_task(settings.task, "--task-options", **settings.task_arguments())
    training_task = make_known_task(settings.task, "--training-options", **settings.training_arguments())
    space = ParameterSpace(task.problem, task.learned_parameters)
    default = np.asarray(space.to_unit(space.flatten(task.problem)), np.float64)
    # The distribution may start at no edge of its box.
    optimiser = CMA(np.clip(default, -0.9, 0.9), SPREAD, bounds=np.tile([-1.0, 1.0], (space.size, 1)), seed=cell.seed)

    def planner(unit: np.ndarray) -> FixedPlanner:
        problem = space.insert(task.problem, space.from_unit(jnp.asarray(unit, float)))
        return FixedPlanner(eqx.tree_at(lambda task: task.problem, task, problem))

    def validate(unit: np.ndarray) -> Evaluation:
        key = stream_key(cell.seed, Stream.VALIDATION)
        return evaluate(task, planner(unit), key, conditions.validation_episodes, conditions.start_spread)

    began, step, generation = time.perf_counter(), 0, 0
    found = validate(default)
    best, best_unit, best_step = found, default, 0
    curve = [curve_row(0.0, 0.0, found)]
    counted = _Counted()
    while step < conditions.steps:
        candidates = np.stack([optimiser.ask() for _ in range(optimiser.population_size)])
        keys = jax.random.split(stream_key(cell.seed, Stream.CHUNK, generation), EPISODES)
        seen = _run(training_task, space, jnp.asarray(candidates, float), keys)
        counted = counted.with_steps(seen)
        returns = np.where(seen.alive, seen.reward, 0.0).sum(1, dtype=np.float64)  # of [candidate, step, episode]
        optimiser.tell([(x, -score) for x, score in zip(candidates, returns.mean(1), strict=True)])
        step, generation = step + int(np.sum(seen.alive)), generation + 1
        due = _due(curve[-1]["step"], min(step, conditions.steps), conditions)
        if not due:
            continue
        found, seconds = validate(optimiser.mean), time.perf_counter() - began
        # Where a generation is longer than the steps between validations, several are one.
        curve += [curve_row(float(at), seconds, found, counted.means() if at == due[0] else None) for at in due]
        counted = _Counted()
        if (found.success_rate, found.mean_return) > (best.success_rate, best.mean_return):
            best, best_unit, best_step = found, optimiser.mean.copy(), due[0]
        console.print(
            f"{due[-1]:,} of {conditions.steps:,} steps · validation: success {found.success_rate:.0%}, return "
            f"{found.mean_return:.2f}",
            style="dim",
            highlight=False,
        )
    return TunedPlanner(planner(best_unit), best_step, planner(optimiser.mean), curve)


def _due(before: float, step: int, conditions: Conditions) -> list[int]:
    """The steps of the validations after `before` that `step` has reached, the same for all seeds."""
    every = conditions.validate_every
    steps = {*range(every, conditions.steps + 1, every), conditions.steps}
    return sorted(at for at in steps if before < at <= step)


@eqx.filter_jit
def _run(
    task: Task, space: ParameterSpace, candidates: Float[Array, "candidates size"], keys: Key[Array, " episodes"]
) -> Step:
    """The episodes of all candidates, [candidate, step, episode]."""

    def one(unit: Float[Array, " size"]) -> Step:
        problem = space.insert(task.problem, space.from_unit(unit))
        tuned = eqx.tree_at(lambda task: task.problem, task, problem)
        return run_batch(tuned, FixedPlanner(tuned, SQP(arithmetic="float32")), keys)[1]

    return jax.vmap(one)(candidates)


class _Counted(NamedTuple):
    """Sums over training episodes."""

    steps: int = 0
    episodes: int = 0
    rewards: float = 0.0
    violated_steps: int = 0
    violated_episodes: int = 0
    failed_solves: int = 0

    def with_steps(self, seen: Step) -> "_Counted":
        """And those of `seen`, [candidate, step, episode]."""
        alive = np.asarray(seen.alive)
        violated = alive & np.asarray(seen.violation)
        new = (
            int(alive.sum()),
            alive.shape[0] * alive.shape[2],
            float(np.where(alive, seen.reward, 0.0).sum(dtype=np.float64)),
            int(violated.sum()),
            int(violated.any(1).sum()),
            int((alive & np.asarray(seen.failed)).sum()),
        )
        return _Counted(*map(operator.add, self, new))

    def means(self) -> dict[str, float]:
        """As a learner's curve has them."""
        return {
            "train_episodes": float(self.episodes),
            "train_return": self.rewards / self.episodes,
            "train_episode_length": self.steps / self.episodes,
            "train_violations_per_step": self.violated_steps / self.steps,
            "train_violations_per_episode": self.violated_episodes / self.episodes,
            "train_failed_solves": self.failed_solves / self.steps,
        }
