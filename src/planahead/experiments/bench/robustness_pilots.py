"""Who flies in the benchmark of robustness: what `bench racing` trained, and planners that nothing trained."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax.numpy as jnp

from planahead.experiments.bench.definition import World
from planahead.experiments.bench.report import finished_results
from planahead.experiments.bench.results import Result
from planahead.experiments.errors import UserError, known_names
from planahead.experiments.experiment import Experiment
from planahead.experiments.run_directory import RunDirectory
from planahead.policies import Policy
from planahead.tasks import RaceTask, make_task
from planahead.tasks.flight.believed import Believed
from planahead.tasks.flight.lap import Lap
from planahead.tasks.flight.lap_policy import LapPolicy
from planahead.tasks.flight.tracking import TrackingProblem

TRACK = "race-split-s"
"""Where all fly, whatever they were trained on."""


@dataclasses.dataclass(frozen=True)
class Pilot:
    """Who flies."""

    group: str
    """Algorithm, or baseline: what tables have a column for."""
    name: str
    """Of its flights; a policy that was trained further has another one."""
    load: Callable[[], Policy]


def pilots_of_runs(racing: pathlib.Path, task: str) -> list[Pilot]:
    """The best policies of the finished cells on `task` in the folder `racing` of `bench racing`; one is read from its
    run when it is to fly."""
    world = World.parse(task)
    if world.task != TRACK:
        raise UserError(
            f"--task got «{task}»; the flights are on {TRACK}, with options after it: {TRACK}+plant=realistic."
        )
    results = [result for result in finished_results(racing) if result.task == str(world)]
    if not results:
        raise UserError(
            f"«{racing}» has no finished cell on {world}; train some first: "
            f"planahead bench racing --tasks {world} --out {racing}"
        )
    return [Pilot(result.label, f"{result.name}-{result.best_step}", _loader(racing, result)) for result in results]


def _loader(racing: pathlib.Path, result: Result) -> Callable[[], Policy]:
    def load() -> Policy:
        run = RunDirectory.open(racing / "runs" / result.name)
        policy, info = Experiment.of_run(run).load_policy(run, "best")
        if info.step != result.best_step:
            raise UserError(
                f"«{run.path}» has a best policy of {info.step:,} steps, its row in results.csv one of "
                f"{result.best_step:,}; finish it with planahead bench racing."
            )
        return policy

    return load


def baselines(names: Sequence[str]) -> list[Pilot]:
    """Planners that follow a lap; `UserError` for an unknown name."""
    for name in names:
        if name not in _BASELINES:
            raise UserError(f"--baselines got «{name}»; the known ones are {known_names(tuple(_BASELINES))}.")
    return [Pilot(name, name, _BASELINES[name]) for name in names]


def _tracking() -> LapPolicy:
    """Weights and drag as they fly best on the realistic quadrotor, undisturbed, from starts that the benchmark does
    not use: 25 flights each of some forty random choices."""
    vehicle = Believed(lags=True, drag=jnp.asarray(0.34))
    weights = {"position_weight": 9.0, "attitude_weight": 7.7, "velocity_weight": 1.7}
    problem = TrackingProblem.of(vehicle, **weights, command_weight=(0.021, 0.31, 0.31, 0.93))
    return LapPolicy(_task(), Lap.load("split-s-90", 7), problem)


def _adaptive() -> LapPolicy:
    """Not tuned yet since its compensation changed: it flies no lap at these weights."""
    vehicle = Believed(lags=True, drag=jnp.asarray(0.19))
    weights = {"position_weight": 16.0, "attitude_weight": 3.2, "velocity_weight": 2.9}
    problem = TrackingProblem.of(vehicle, **weights, command_weight=(0.014, 0.73, 0.73, 2.2))
    return LapPolicy(_task(), Lap.load("split-s-90", 7), problem, adaptive=True, bandwidth=17.5)


def _task() -> RaceTask:
    task = make_task(TRACK, plant="realistic")
    assert isinstance(task, RaceTask)
    return task


_BASELINES: dict[str, Callable[[], Policy]] = {"tracking": _tracking, "l1": _adaptive}
