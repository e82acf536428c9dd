"""A run with everything that is to be said about its policies: the last one and the one that validated best."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from planahead.experiments.checkpoint import CheckpointInfo
from planahead.experiments.episodes import has_single_start, run_episodes
from planahead.experiments.errors import UserError
from planahead.experiments.evaluation import Evaluation
from planahead.experiments.experiment import Experiment, Stream, make_known_task, stream_key
from planahead.experiments.files import write_json
from planahead.experiments.progress import percent
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.settings import TrainSettings, read_options
from planahead.experiments.trajectory import Trajectory
from planahead.learning.presets import PRESETS
from planahead.policies import Policy
from planahead.tasks import Task

HEADINGS = (
    "policy",
    "starts",
    "episodes",
    "success (95 %)",
    "mean return (95 %)",
    "violations, step / episode",
    "failed solves",
)


UNTRAINED = (
    "The best policy is the untrained one: no later validation was better. Train for longer (nothing is learned within "
    "warm_up_steps, and after an imitation within imitation_hold_steps, where the algorithm has them), or with other "
    "settings (planahead list ALGORITHM)."
)
"""Of a run whose best checkpoint is its first."""
NEAR_THE_PLANNER = (
    " What keeps near a planner that is good already: narrower boxes of its parameters, and prior_weight and "
    "imitation_steps, where the algorithm has them."
)
"""Added where the policy plans."""
NO_NUMBERS = (
    "Some returns are not numbers: the world gave NaN or infinity, in a reward or an observation, and what is learned "
    "from them is nothing. planahead.check_task(task) looks at an episode of random actions."
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One policy from one kind of start: a line of every table."""

    policy: str
    starts: str
    """`perturbed`, `own` (the task draws them itself) or `single`."""
    evaluation: Evaluation

    def cells(self) -> list[str]:
        """The row in words, one for each of `HEADINGS`."""
        e = self.evaluation
        success, returns = e.success_interval, e.return_interval
        several = e.episodes > 1  # one episode has no interval
        return [
            self.policy,
            self.starts if e.start_spread == 0 else f"{self.starts} ±{e.start_spread:g}",
            str(e.episodes),
            percent(e.success_rate) + (f" ({100 * success.low:.0f}–{100 * success.high:.0f})" if several else ""),
            f"{e.mean_return:.2f}" + (f" ({returns.low:.2f}, {returns.high:.2f})" if several else ""),
            f"{percent(e.violations_per_step)} / {percent(e.violations_per_episode)}",
            percent(e.failed_solves),
        ]

    def summary(self) -> dict[str, Any]:
        return {"policy": self.policy, "starts": self.starts, **self.evaluation.summary()}


def outcome_cells(row: Row) -> dict[str, str]:
    """What the row's successful episodes came to, by name: mean and standard deviation in words."""
    found = row.evaluation.outcomes_of_successes()
    return {name: f"{v.mean():.3f} ± {v.std():.3f}" if len(v) else "–" for name, v in found.items()}


@dataclasses.dataclass(frozen=True)
class EvaluatedRun:
    """What evaluating a run found."""

    run: RunDirectory
    settings: TrainSettings
    task: Task
    rows: tuple[Row, ...]
    last_step: int | None
    """Environment steps behind the last checkpoint; `None` where it cannot be read."""
    best_step: int | None
    trajectory: Trajectory
    """One episode from the task's own start."""
    trajectory_policy: str
    unreadable: tuple[str, ...] = ()
    """Why a checkpoint could not be read, in words."""

    def headline(self) -> Row:
        """What counts: the best checkpoint, the last where the best cannot be read, from starts it has not seen."""
        return next(row for row in self.rows if row.starts != "single")

    def warning(self) -> str:
        """What has to be said of the run beside its numbers, or nothing."""
        if not all(np.isfinite(row.evaluation.mean_return) for row in self.rows):
            return NO_NUMBERS
        preset = PRESETS.get(self.settings.algorithm)
        advice = UNTRAINED + (NEAR_THE_PLANNER if preset is not None and preset.plans else "")
        return advice if self.best_step == 0 else ""

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
            "unreadable": self.unreadable,
            **self.headline().summary(),
            "rows": [row.summary() for row in self.rows],
        }


def evaluate_policy(
    task: Task, policy: Policy, name: str, key: PRNGKeyArray, episodes: int = 100
) -> tuple[list[Row], Trajectory]:
    """A policy from perturbed starts, and from the single start where the task has one; an episode from the task's own
    start.
    """
    if not has_single_start(task):
        run = run_episodes(task, policy, key, episodes)
        return [Row(name, "own", Evaluation.of(run))], Trajectory.of(run)
    perturbed = run_episodes(task, policy, key, episodes)
    single = run_episodes(task, policy, key, 1, 0.0)
    rows = [Row(name, "perturbed", Evaluation.of(perturbed)), Row(name, "single", Evaluation.of(single))]
    return rows, Trajectory.of(single)


def evaluate_run(
    run: RunDirectory,
    episodes: int = 100,
    seed: int = 0,
    experiment: Experiment | None = None,
    options: Sequence[str] = (),
) -> EvaluatedRun:
    """Evaluate the best and the last policy of a run; nothing is written. One whose checkpoint is damaged is left out
    and told.

    The starts come from `seed` alone, so every run is evaluated from the same ones. With `options` of the form
    name=value the world is another one, and the policy, its planner's belief included, the same.

    **Raises:** `UserError` where there is no checkpoint that can be read, and for options that the task does not know.
    """
    experiment = Experiment.of_run(run) if experiment is None else experiment
    task, settings = experiment.task, experiment.settings
    if options:
        changed = settings.task_arguments() | read_options("--task-options", options)
        task = make_known_task(settings.task, "--task-options", **changed)
    found: dict[str, tuple[Policy, CheckpointInfo]] = {}
    unreadable: list[str] = []
    for which, path in (("best", run.best_checkpoint), ("last", run.last_checkpoint)):
        if path.exists():
            try:
                found[which] = experiment.load_policy(run, which)
            except UserError as error:
                unreadable.append(str(error))
    if not found:
        raise UserError(
            " ".join(unreadable)
            or f"«{run.path}» has no checkpoint yet. Train it first: "
            f"planahead train {settings.algorithm} {settings.task} --run {run.path} --resume"
        )
    if not run.last_checkpoint.exists():  # killed between its first `best` and its first `last`
        found["last"] = found["best"]
    key = stream_key(seed, Stream.EVALUATION)
    rows: dict[str, list[Row]] = {}
    trajectories: dict[str, Trajectory] = {}
    steps = {which: info.step for which, (_, info) in found.items()}
    for which, (policy, _) in found.items():
        if which == "last" and steps.get("best") == steps["last"]:  # the same policy
            rows["last"] = [dataclasses.replace(row, policy="last") for row in rows["best"]]
        else:
            rows[which], trajectories[which] = evaluate_policy(task, policy, which, key, episodes)
    shown = next(iter(found))
    return EvaluatedRun(
        run=run,
        settings=settings,
        task=task,
        rows=tuple(row for which in found for row in rows[which]),
        last_step=steps.get("last"),
        best_step=steps.get("best"),
        trajectory=trajectories[shown],
        trajectory_policy=shown,
        unreadable=tuple(unreadable),
    )


def write_evaluation(evaluated: EvaluatedRun) -> None:
    """Keep what was found in the run's `evaluation.json`. Raises `UserError` where it cannot be written."""
    write_json(evaluated.run.evaluation_path, evaluated.summary())
