"""A planner with constant parameters, tuned by evolution: what a policy that chooses them from the state has to beat.

CMA-ES draws candidates φ in the unit coordinates of the parameters' box, starting from the problem's own ones. All of a
generation run the same few training episodes, and their mean returns are what it learns from, as long as the next
generation's environment steps, of all candidates together, fit into the budget that a learner would have. As often as a
learner would be, the mean of the distribution is validated, and the best one is kept. A tuning that is interrupted goes
on at the next generation.

Reference: N. Hansen, *The CMA Evolution Strategy: A Tutorial*, arXiv 1604.00772; the optimiser is the package `cmaes`.
"""

import dataclasses
import math
import pathlib
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from cmaes import CMA
from jaxtyping import Array, Float, Key
from rich.console import Console

from planahead.experiments.bench.definition import Cell, Conditions
from planahead.experiments.bench.results import curve_row
from planahead.experiments.bench.tuning_progress import Counted, Progress
from planahead.experiments.episodes import Step, run_batch
from planahead.experiments.evaluation import evaluate
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


def tune_planner(cell: Cell, path: pathlib.Path, console: Console) -> Tuned:
    """Tune the learned parameters of the cell's task, from where the one at `path` stopped if there is one."""
    settings, conditions = cell.settings, cell.conditions
    task = make_known_task(settings.task, "--task-options", **settings.task_arguments())
    training_task = make_known_task(settings.task, "--training-options", **settings.training_arguments())
    untuned = _untuned(task)
    default = np.asarray(untuned.unit, np.float64)
    # The distribution may start at no edge of its box.
    optimiser = CMA(np.clip(default, -0.9, 0.9), SPREAD, bounds=np.tile([-1.0, 1.0], (default.size, 1)), seed=cell.seed)
    progress = Progress.read(path, str(conditions))
    began = time.perf_counter() - progress.seconds

    def planner(unit: np.ndarray) -> TunedPlanner:
        return eqx.tree_at(lambda planner: planner.unit, untuned, jnp.asarray(unit, float))

    def ask() -> np.ndarray:
        return np.stack([optimiser.ask() for _ in range(optimiser.population_size)])

    def tell(candidates: np.ndarray, returns: list[float]) -> np.ndarray:
        """The mean of the distribution that comes of it."""
        optimiser.tell([(x, -value) for x, value in zip(candidates, returns, strict=True)])
        return optimiser.mean.copy()

    def validate(mean: np.ndarray, reached: float) -> None:
        """Add what is due before `reached` to the curve: all of it was found by the generations before."""
        due = _due(progress.curve[-1]["step"] if progress.curve else -1.0, reached, conditions)
        if not due:
            return
        key = stream_key(cell.seed, Stream.VALIDATION)
        found = evaluate(task, planner(mean), key, conditions.validation_episodes, conditions.start_spread)
        seconds, training = time.perf_counter() - began, progress.counted.means()
        before = [score(row["success_rate"], row["mean_return"]) for row in progress.curve]
        if not before or score(found.success_rate, found.mean_return) > max(before):
            progress.best, progress.best_step = mean.tolist(), due[0]
        progress.curve += [curve_row(float(at), seconds, found, training if at == due[0] else None) for at in due]
        progress.counted = Counted()
        console.print(
            f"{due[-1]:,} of {conditions.steps:,} steps · validation: success {found.success_rate:.0%}, return "
            f"{found.mean_return:.2f}",
            style="dim",
            highlight=False,
        )

    mean = default
    for returns in progress.generations:
        mean = tell(ask(), returns)
    if progress.generations:
        console.print(f"going on at step {progress.step:,}", style="dim", highlight=False)
    # Few episodes where the budget is small, and no generation that might end beyond it.
    longest = optimiser.population_size * task.environment.episode_steps
    episodes = min(EPISODES, max(1, conditions.steps // (GENERATIONS * longest)))
    while progress.step + longest * episodes <= conditions.steps and not optimiser.should_stop():
        candidates = ask()
        keys = jax.random.split(stream_key(cell.seed, Stream.CHUNK, len(progress.generations)), episodes)
        seen = _run(training_task, _untuned(training_task), jnp.asarray(candidates, float), keys)
        progress.step += int(np.sum(seen.alive))
        validate(mean, float(progress.step))
        progress.counted = progress.counted.with_steps(seen)
        returns = np.where(seen.alive, seen.reward, 0.0).sum(1, dtype=np.float64).mean(1).tolist()
        mean = tell(candidates, returns)
        progress.generations.append(returns)
        progress.seconds = time.perf_counter() - began
        progress.write(path)
    validate(mean, math.inf)
    assert progress.best is not None  # the first validation is the best so far
    return Tuned(task, planner(np.asarray(progress.best)), progress.best_step, planner(mean), progress.curve)


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
