"""A planner with constant parameters, tuned by evolution: what a policy that chooses them from the state has to beat.

CMA-ES draws candidates φ in the unit coordinates of the parameters' box, starting from the problem's own ones. All of a
generation run the same few training episodes, and their mean returns are what it learns from, as long as the next
generation's environment steps, of all candidates together, fit into the budget that a learner would have. As often as a
learner would be, the mean of the distribution is validated, and the best one is kept. A tuning that is interrupted
begins anew.

Reference: N. Hansen, *The CMA Evolution Strategy: A Tutorial*, arXiv 1604.00772; the optimiser is the package `cmaes`.
"""

import dataclasses
import math
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
from planahead.experiments.run_directory import Rows
from planahead.experiments.training import score
from planahead.planning import SQP
from planahead.policies import TunedPlanner
from planahead.tasks import Task

EPISODES = 4  # of every candidate
GENERATIONS = 20  # that the budget should suffice for, with fewer episodes if need be
SPREAD = 0.3  # of the first generation: a standard deviation, in a box of length 2
PLANNER = SQP(arithmetic="float32")  # as policies plan, but to the end: nobody waits for a gradient here


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What a tuning found."""

    task: Task
    best: TunedPlanner
    """As validated."""
    best_step: int
    last: TunedPlanner
    curve: Rows

    def parameters(self) -> dict[str, dict[str, list[float]]]:
        """By name, flat, as they were best and last."""
        return {
            which: {name: np.ravel(values).tolist() for name, values in planner.parameters().items()}
            for which, planner in (("best", self.best), ("last", self.last))
        }


def tune_planner(cell: Cell, console: Console) -> Tuned:
    """Tune the learned parameters of the cell's task."""
    settings, conditions = cell.settings, cell.conditions
    task = make_known_task(settings.task, "--task-options", **settings.task_arguments())
    training_task = make_known_task(settings.task, "--training-options", **settings.training_arguments())
    untuned = _untuned(task)
    default = np.asarray(untuned.unit, np.float64)
    # The distribution may start at no edge of its box.
    optimiser = CMA(np.clip(default, -0.9, 0.9), SPREAD, bounds=np.tile([-1.0, 1.0], (default.size, 1)), seed=cell.seed)

    def planner(unit: np.ndarray) -> TunedPlanner:
        return eqx.tree_at(lambda planner: planner.unit, untuned, jnp.asarray(unit, float))

    began, step, generation, counted = time.perf_counter(), 0, 0, _Counted()
    mean, best_unit, best_step = default, default, 0
    curve: list[dict[str, float]] = []
    best: Evaluation | None = None

    def validate(reached: float) -> None:
        """Add what is due before `reached` to the curve: all of it was found by the generations before."""
        nonlocal best, best_unit, best_step, counted
        due = _due(curve[-1]["step"] if curve else -1.0, reached, conditions)
        if not due:
            return
        key = stream_key(cell.seed, Stream.VALIDATION)
        found = evaluate(task, planner(mean), key, conditions.validation_episodes, conditions.start_spread)
        seconds, training = time.perf_counter() - began, counted.means()
        curve.extend(curve_row(float(at), seconds, found, training if at == due[0] else None) for at in due)
        counted = _Counted()
        if best is None or score(found) > score(best):
            best, best_unit, best_step = found, mean, due[0]
        console.print(
            f"{due[-1]:,} of {conditions.steps:,} steps · validation: success {found.success_rate:.0%}, return "
            f"{found.mean_return:.2f}",
            style="dim",
            highlight=False,
        )

    # Few episodes where the budget is small, and no generation that might end beyond it.
    longest = optimiser.population_size * task.environment.episode_steps
    episodes = min(EPISODES, max(1, conditions.steps // (GENERATIONS * longest)))
    while step + longest * episodes <= conditions.steps and not optimiser.should_stop():
        candidates = np.stack([optimiser.ask() for _ in range(optimiser.population_size)])
        keys = jax.random.split(stream_key(cell.seed, Stream.CHUNK, generation), episodes)
        seen = _run(training_task, _untuned(training_task), jnp.asarray(candidates, float), keys)
        step, generation = step + int(np.sum(seen.alive)), generation + 1
        validate(float(step))
        counted = counted.with_steps(seen)
        returns = np.where(seen.alive, seen.reward, 0.0).sum(1, dtype=np.float64)  # of [candidate, step, episode]
        optimiser.tell([(x, -value) for x, value in zip(candidates, returns.mean(1), strict=True)])
        mean = optimiser.mean.copy()
    validate(math.inf)
    return Tuned(task, planner(best_unit), best_step, planner(mean), curve)


def _due(after: float, before: float, conditions: Conditions) -> list[int]:
    """The steps of the validations in between, the same for all seeds."""
    every = conditions.validate_every
    return [at for at in sorted({*range(0, conditions.steps + 1, every), conditions.steps}) if after < at < before]


def _untuned(task: Task) -> TunedPlanner:
    """The planner of `task` as it comes."""
    return TunedPlanner(
        task.problem, task.planner_state, task.action_box, names=task.learned_parameters, planner=PLANNER
    )


@eqx.filter_jit
def _run(
    task: Task, untuned: TunedPlanner, candidates: Float[Array, "candidates size"], keys: Key[Array, " episodes"]
) -> Step:
    """The episodes of all candidates, [candidate, step, episode]."""

    def one(unit: Float[Array, " size"]) -> Step:
        return run_batch(task, eqx.tree_at(lambda planner: planner.unit, untuned, unit), keys)[1]

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
        return _Counted(
            steps=self.steps + int(alive.sum()),
            episodes=self.episodes + alive.shape[0] * alive.shape[2],
            rewards=self.rewards + float(np.where(alive, seen.reward, 0.0).sum(dtype=np.float64)),
            violated_steps=self.violated_steps + int(violated.sum()),
            violated_episodes=self.violated_episodes + int(violated.any(1).sum()),
            failed_solves=self.failed_solves + int((alive & np.asarray(seen.failed)).sum()),
        )

    def means(self) -> dict[str, float]:
        """As a learner's curve has them."""
        if self.episodes == 0:
            return {}
        return {
            "train_episodes": float(self.episodes),
            "train_return": self.rewards / self.episodes,
            "train_episode_length": self.steps / self.episodes,
            "train_violations_per_step": self.violated_steps / self.steps,
            "train_violations_per_episode": self.violated_episodes / self.episodes,
            "train_failed_solves": self.failed_solves / self.steps,
        }
