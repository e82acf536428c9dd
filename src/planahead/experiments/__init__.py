"""Runs: settings, training, evaluation, reports, and the `planahead` command.

Names are imported when they are first used: the command passes through here on its way to `--help`, needing none.
"""

import importlib
from typing import TYPE_CHECKING, Any

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

_MODULES = {
    "Episodes": "episodes",
    "EvaluatedRun": "evaluated_run",
    "Evaluation": "evaluation",
    "Experiment": "experiment",
    "FixedPlanner": "fixed_planner",
    "RunDirectory": "run_directory",
    "TrainSettings": "settings",
    "TrainingResult": "training",
    "Trajectory": "trajectory",
    "UserError": "errors",
    "evaluate": "evaluation",
    "evaluate_run": "evaluated_run",
    "prepare": "training",
    "run_episodes": "episodes",
    "train": "training",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)
