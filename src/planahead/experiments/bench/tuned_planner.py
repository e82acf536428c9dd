"""A planner with constant parameters, tuned by evolution: what a policy that chooses them from the state has to beat.

CMA-ES draws candidates φ in the unit coordinates of the parameters' box, starting from the problem's own ones. All of a
generation run the same few training episodes, and their mean returns are what it learns from, as long as the next
generation's environment steps, of all candidates together, fit into the budget that a learner would have. As often as a
learner would be, the mean of the distribution is validated, and the best one is kept. A tuning that is interrupted goes
on behind the last generation that was whole.

Reference: N. Hansen, *The CMA Evolution Strategy: A Tutorial*, arXiv 1604.00772; the optimiser is the package `cmaes`.
"""

import dataclasses
import math
import pathlib
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from cmaes import CMA
from jaxtyping import Array, Float, Key
from rich.console import Console

from planahead.experiments.bench.definition import Cell, Conditions
from planahead.experiments.bench.results import curve_row
from planahead.experiments.bench.tuning_progress import EpisodeSums, Generation, Progress
from planahead.experiments.episodes import Step, run_batch
from planahead.experiments.evaluation import evaluate
from planahead.experiments.experiment import Stream, make_known_task, stream_key
from planahead.experiments.run_directory import Rows
from planahead.experiments.settings import settings_to_json
from planahead.experiments.training import score
from planahead.planning import SQP
from planahead.policies import TunedPlanner
from planahead.tasks import Task

EPISODES = 4  # of every candidate
GENERATIONS = 20  # that the budget should suffice for, with fewer episodes if need be
SPREAD = 0.3  # of the first generation: a standard deviation, in a box of length 2
WORST = -1e30  # the return of a candidate whose own is not finite
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


def tune_planner(cell: Cell, path: pathlib.Path, console: Console) -> Tuned:
    """Tune the learned parameters of the cell's task, from where the one at `path` stopped if there is one.

    **Raises:** `UserError` where what is at `path` is another tuning, or damaged.
    """
    settings, steps = cell.settings, cell.conditions.steps
    task = make_known_task(settings.task, "--task-options", **settings.task_arguments())
    training_task = make_known_task(settings.task, "--training-options", **settings.training_arguments())
    start = np.asarray(_untuned(task).unit, np.float64)
    evolution = _Evolution(start, cell.seed)
    # Few episodes where the budget is small, and no generation that might end beyond it.
    longest = evolution.population * task.environment.episode_steps
    episodes = min(EPISODES, max(1, steps // (GENERATIONS * longest)))
    tuning = _Tuning(cell, task, Progress.read(path, _about(cell, start, evolution.population, episodes)), console)
    progress = tuning.progress
    for generation in progress.generations:
        evolution.tell(generation)
    if progress.generations:
        console.print(f"going on at step {progress.step:,}", style="dim", highlight=False)
    while progress.step + longest * episodes <= steps and not evolution.finished:
        candidates = evolution.ask()
        keys = jax.random.split(stream_key(cell.seed, Stream.CHUNK, len(progress.generations)), episodes)
        seen = _run(training_task, _untuned(training_task), jnp.asarray(candidates, float), keys)
        progress.step += int(np.sum(seen.alive))
        tuning.validate(evolution.mean, float(progress.step))
        progress.sums = progress.sums.with_steps(seen)
        returns = np.where(seen.alive, seen.reward, 0.0).sum(1, dtype=np.float64).mean(1)
        generation = Generation(candidates, np.where(np.isfinite(returns), returns, WORST))
        progress.generations.append(generation)
        evolution.tell(generation)
        progress.seconds = tuning.seconds
        progress.write(path)
    tuning.validate(evolution.mean, math.inf)
    assert progress.best is not None  # the first validation is the best so far
    best, last = _with_unit(_untuned(task), progress.best), _with_unit(_untuned(task), evolution.mean)
    return Tuned(task, best, progress.best_step, last, progress.curve)


def _about(cell: Cell, start: np.ndarray, population: int, episodes: int) -> dict[str, Any]:
    """What a tuning depends on, and the number of steps, of which a longer one has more."""
    settings = settings_to_json(cell.settings)
    del settings["options"]  # of learners
    return {**settings, "start": start.tolist(), "population": population, "episodes": episodes, "spread": SPREAD}


class _Evolution:
    """CMA-ES in the unit box. What it asks for next follows from the seed and what it was told, in one sitting or in
    several, since every generation has random numbers of its own.
    """

    def __init__(self, start: np.ndarray, seed: int) -> None:
        # The distribution may start at no edge of its box.
        box = np.tile([-1.0, 1.0], (start.size, 1))
        self._optimiser = CMA(np.clip(start, -0.9, 0.9), SPREAD, bounds=box, seed=seed)
        self._seed = seed
        self.mean = start
        """Of the distribution; before the first generation the start itself."""

    @property
    def population(self) -> int:
        return self._optimiser.population_size

    @property
    def finished(self) -> bool:
        return self._optimiser.should_stop()

    def ask(self) -> np.ndarray:
        """The next generation, [candidate, parameter]."""
        own = np.random.SeedSequence((self._seed, self._optimiser.generation)).generate_state(1)
        self._optimiser.reseed_rng(int(own[0]))
        return np.stack([self._optimiser.ask() for _ in range(self.population)])

    def tell(self, generation: Generation) -> None:
        self._optimiser.tell([(x, -value) for x, value in zip(*generation, strict=True)])
        self.mean = self._optimiser.mean.copy()


class _Tuning:
    """What is known of a tuning, and its validations."""

    def __init__(self, cell: Cell, task: Task, progress: Progress, console: Console) -> None:
        self.progress = progress
        self._cell, self._task, self._console = cell, task, console
        self._began = time.perf_counter() - progress.seconds

    @property
    def seconds(self) -> float:
        """Of all sittings."""
        return time.perf_counter() - self._began

    def validate(self, mean: np.ndarray, reached: float) -> None:
        """Add what is due before step `reached` to the curve: all of it was found by the generations before."""
        progress, conditions = self.progress, self._cell.conditions
        due = _due(progress.curve[-1]["step"] if progress.curve else -1.0, reached, conditions)
        if not due:
            return
        key, planner = stream_key(self._cell.seed, Stream.VALIDATION), _with_unit(_untuned(self._task), mean)
        found = evaluate(self._task, planner, key, conditions.validation_episodes, conditions.start_spread)
        before = [score(row["success_rate"], row["mean_return"]) for row in progress.curve]
        if not before or score(found.success_rate, found.mean_return) > max(before):
            progress.best, progress.best_step = mean, due[0]
        training = progress.sums.means()
        rows = [curve_row(float(at), self.seconds, found, training if at == due[0] else None) for at in due]
        progress.curve += rows
        progress.sums = EpisodeSums()
        self._console.print(
            f"{due[-1]:,} of {conditions.steps:,} steps · validation: success {found.success_rate:.0%}, return "
            f"{found.mean_return:.2f}",
            style="dim",
            highlight=False,
        )


def _due(after: float, before: float, conditions: Conditions) -> list[int]:
    """The steps of the validations in between, the same for all seeds."""
    every = conditions.validate_every
    return [at for at in sorted({*range(0, conditions.steps + 1, every), conditions.steps}) if after < at < before]


def _untuned(task: Task) -> TunedPlanner:
    """The planner of `task` as it comes."""
    return TunedPlanner(
        task.problem, task.planner_state, task.action_box, names=task.learned_parameters, planner=PLANNER
    )


def _with_unit(planner: TunedPlanner, unit: np.ndarray | Float[Array, " size"]) -> TunedPlanner:
    """`planner` with other parameters, in unit coordinates."""
    return eqx.tree_at(lambda planner: planner.unit, planner, jnp.asarray(unit, float))


@eqx.filter_jit
def _run(
    task: Task, untuned: TunedPlanner, candidates: Float[Array, "candidates size"], keys: Key[Array, " episodes"]
) -> Step:
    """The episodes of all candidates, [candidate, step, episode]."""

    def one(unit: Float[Array, " size"]) -> Step:
        return run_batch(task, _with_unit(untuned, unit), keys)[1]

    return jax.vmap(one)(candidates)
