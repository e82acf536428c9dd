"""A run with everything that is to be said about its policies: the last one and the one that validated best."""

import dataclasses
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from planahead.experiments.checkpoint import CheckpointInfo
from planahead.experiments.errors import UserError
from planahead.experiments.evaluation import Evaluation, evaluate, has_single_start
from planahead.experiments.experiment import Experiment, Stream, stream_key
from planahead.experiments.files import write_json
from planahead.experiments.progress import percent
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.settings import TrainSettings
from planahead.experiments.trajectory import Trajectory, record_episode
from planahead.policies import Policy
from planahead.tasks import Task


@dataclasses.dataclass(frozen=True)
class Row:
    """One policy from one kind of start: a line of every table."""

    policy: str
    starts: str
    """`perturbed`, `own` (the task draws them itself) or `single`."""
    evaluation: Evaluation

    def cells(self) -> list[str]:
        """policy, starts, episodes, success, its interval, mean return, its interval, violations per step and per
        episode, failed solves.
        """
        e = self.evaluation
        low, high = e.success_interval.low, e.success_interval.high
        several = e.episodes > 1
        return [
            self.policy,
            self.starts if e.start_spread == 0 else f"{self.starts} ±{e.start_spread:g}",
            str(e.episodes),
            percent(e.success_rate),
            f"{100 * low:.0f} – {100 * high:.0f} %" if several else "–",
            f"{e.mean_return:.2f}",
            f"{e.return_interval.low:.2f} – {e.return_interval.high:.2f}" if several else "–",
            percent(e.violations_per_step),
            percent(e.violations_per_episode),
            percent(e.failed_solves),
        ]

    def summary(self) -> dict[str, Any]:
        return {"policy": self.policy, "starts": self.starts, **self.evaluation.summary()}


@dataclasses.dataclass(frozen=True)
class EvaluatedRun:
    """What evaluating a run found."""

    run: RunDirectory
    settings: TrainSettings
    task: Task
    rows: tuple[Row, ...]
    last_step: int
    best_step: int
    trajectory: Trajectory
    """One episode from the task's own start."""
    trajectory_policy: str

    def headline(self) -> Row:
        """What counts: the best checkpoint from starts it has not seen."""
        return next(row for row in self.rows if row.policy == "best" and row.starts != "single")

    def row(self, policy: str, starts: str) -> Evaluation | None:
        return next((row.evaluation for row in self.rows if (row.policy, row.starts) == (policy, starts)), None)

    def require_row(self, policy: str, starts: str) -> Evaluation:
        """The evaluation in the row of `policy` from `starts`."""
        found = self.row(policy, starts)
        if found is None:
            raise KeyError(f"no row for {policy} from {starts} starts")
        return found

    def summary(self) -> dict[str, Any]:
        """As `--json` writes it: the headline's numbers, and every row."""
        return {
            "run": str(self.run.path),
            "algorithm": self.settings.algorithm,
            "task": self.settings.task,
            "seed": self.settings.seed,
            "steps": {"last": self.last_step, "best": self.best_step},
            **self.headline().summary(),
            "rows": [row.summary() for row in self.rows],
        }


def evaluate_policy(
    task: Task, policy: Policy, name: str, key: PRNGKeyArray, episodes: int = 100, spread: float | None = None
) -> list[Row]:
    """A policy from perturbed starts, and from the single start where the task has one."""
    single = has_single_start(task)
    rows = [Row(name, "perturbed" if single else "own", evaluate(task, policy, key, episodes, spread))]
    if single:
        # The same number of lanes as above, so that nothing is compiled again; they are all the same episode.
        rows.append(Row(name, "single", evaluate(task, policy, key, episodes, 0.0).from_one_start()))
    return rows


def evaluate_run(
    run: RunDirectory, episodes: int = 100, seed: int = 0, experiment: Experiment | None = None
) -> EvaluatedRun:
    """Evaluate the last and the best policy of a run, and keep what was found in its `evaluation.json`.

    The starts come from `seed` alone, so every run is evaluated from the same ones.
    """
    experiment = Experiment.of_run(run) if experiment is None else experiment
    task, settings = experiment.task, experiment.settings
    if not run.best_checkpoint.exists():
        raise UserError(
            f"«{run.path}» has no checkpoint yet. Train it first: "
            f"planahead train {settings.algorithm} {settings.task} --run {run.path} --resume"
        )
    policies: dict[str, tuple[Policy, CheckpointInfo]] = {"best": experiment.load_policy(run, "best")}
    if run.last_checkpoint.exists():
        policies["last"] = experiment.load_policy(run, "last")
    key = stream_key(seed, Stream.EVALUATION)
    rows = [row for name, (policy, _) in policies.items() for row in evaluate_policy(task, policy, name, key, episodes)]
    best, best_info = policies["best"]
    evaluated = EvaluatedRun(
        run=run,
        settings=settings,
        task=task,
        rows=tuple(rows),
        last_step=policies["last"][1].step if "last" in policies else best_info.step,
        best_step=best_info.step,
        trajectory=record_episode(task, best, jax.random.fold_in(key, 1)),
        trajectory_policy="best",
    )
    write_json(run.evaluation_path, evaluated.summary())
    return evaluated
