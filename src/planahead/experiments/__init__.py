"""Runs: settings, training, evaluation, reports, and the `planahead` command.

Names are imported when they are first used: the command passes through here on its way to `--help`, needing none.
"""

from typing import TYPE_CHECKING

from planahead.lazy import lazy_names

if TYPE_CHECKING:
    from planahead.experiments.episodes import Episodes as Episodes, run_episodes as run_episodes
    from planahead.experiments.errors import UserError as UserError
    from planahead.experiments.evaluated_run import EvaluatedRun as EvaluatedRun, evaluate_run as evaluate_run
    from planahead.experiments.evaluation import Evaluation as Evaluation, evaluate as evaluate
    from planahead.experiments.experiment import Experiment as Experiment
    from planahead.experiments.fixed_planner import FixedPlanner as FixedPlanner
    from planahead.experiments.report import write_report as write_report
    from planahead.experiments.run_directory import RunDirectory as RunDirectory
    from planahead.experiments.settings import TrainSettings as TrainSettings
    from planahead.experiments.training import TrainingResult as TrainingResult, prepare as prepare, train as train
    from planahead.experiments.trajectory import Trajectory as Trajectory

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "planahead.experiments.episodes": ["Episodes", "run_episodes"],
        "planahead.experiments.errors": ["UserError"],
        "planahead.experiments.evaluated_run": ["EvaluatedRun", "evaluate_run"],
        "planahead.experiments.evaluation": ["Evaluation", "evaluate"],
        "planahead.experiments.experiment": ["Experiment"],
        "planahead.experiments.fixed_planner": ["FixedPlanner"],
        "planahead.experiments.report": ["write_report"],
        "planahead.experiments.run_directory": ["RunDirectory"],
        "planahead.experiments.settings": ["TrainSettings"],
        "planahead.experiments.training": ["TrainingResult", "prepare", "train"],
        "planahead.experiments.trajectory": ["Trajectory"],
    },
)
