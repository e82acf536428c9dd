"""A row, a curve and an evaluation of a benchmark that nothing was run for, and a cell of the stub learner."""

import dataclasses
import math

import numpy as np
from rich.console import Console

from planahead.experiments.bench.definition import Cell, Conditions, Entry
from planahead.experiments.bench.results import CURVE, Result
from planahead.experiments.evaluation import Evaluation

RESULT = Result(
    task="cartpole", algorithm="sac", interface="global", seed=0, steps=8, steps_to_goal=None, seconds_to_goal=None,
    seconds=1.0, best_step=8, success_best=1.0, success_last=0.5, success_best_single=None, success_last_single=None,
    return_best=2.0, return_last=1.0, return_best_single=None, success_area=0.5, return_area=1.0, failed_solves=0.0,
    violations_per_step=0.0, violations_per_episode=0.0, train_episodes=4.0, train_violations_per_step=0.1,
    train_violations_per_episode=0.2, train_failed_solves=0.0, episodes=5, settings="", commit=None, planahead="1",
    jax="1", processor="abacus",
)  # fmt: skip
CONDITIONS = Conditions(steps=600, validate_every=200, validation_episodes=3, episodes=4)
CONSOLE = Console(quiet=True)
EVALUATION = Evaluation(
    start_spread=0.1, returns=np.array([1.0, 2.0, 4.0]), lengths=np.array([5, 6, 7]),
    success=np.array([True, True, False]), terminated=np.array([False, True, True]), violations=np.array([0, 0, 1]),
    failed=np.array([0, 0, 2]), outcomes={"lap [s]": np.array([5.0, 6.0, np.nan])},
)  # fmt: skip


def curve(*success: float, step: int = 4) -> list[dict[str, float]]:
    unknown = dict.fromkeys(CURVE, math.nan)
    return [
        unknown | {"step": float(step * i), "seconds": float(i), "success_rate": rate, "mean_return": 2 * rate}
        for i, rate in enumerate(success)
    ]


def stub_cell(seed: int = 0, entry: str = "stub", **changes: object) -> Cell:
    return Cell("point", Entry.parse(entry), "global", seed, dataclasses.replace(CONDITIONS, **changes))
