"""Who flies in the benchmark of robustness: what `bench racing` trained, and planners that nothing trained."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

from planahead.experiments.bench.definition import World
from planahead.experiments.bench.report import finished_results
from planahead.experiments.bench.results import Result
from planahead.experiments.errors import UserError, known_names
from planahead.experiments.experiment import Experiment
from planahead.experiments.run_directory import RunDirectory
from planahead.policies import Policy
from planahead.tasks import RaceTask, Task, make_task
from planahead.tasks.flight.believed import Believed
from planahead.tasks.flight.contouring import ContouringProblem
from planahead.tasks.flight.lap import Lap
from planahead.tasks.flight.lap_policy import LapPolicy
from planahead.tasks.flight.tracking import TrackingProblem

TRACK = "race-split-s"
"""Where all fly, whatever they were trained on."""


def _task() -> RaceTask:
    task = make_task(TRACK, plant="realistic")
    assert isinstance(task, RaceTask)
    return task


@dataclasses.dataclass(frozen=True)
class Pilot:
    """Who flies."""

    group: str
    """Algorithm, or baseline: what tables have a column for."""
    name: str
    """Of its flights; a policy that was trained further has another one."""
    load: Callable[[], Policy]
    task: Callable[[], Task] = _task
    """What it flies, before the world is changed."""


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
    return [Pilot(result.label, f"{result.name}-{result.best_step}", policy_of(racing, result)) for result in results]


def policy_of(racing: pathlib.Path, result: Result) -> Callable[[], Policy]:
    """How to load the best policy of a finished cell in the folder `racing` of a benchmark."""

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


LAP = "split-s-lags-85"
"""Of the laps with 80, 85 and 90 % of the thrust, which the searches below could choose from too, the one that all of
them chose."""
# Each search had flights of seven seconds undisturbed (two), in a side wind of 3 N, and with 1.15 of the mass, from
# starts that the benchmark does not use; it went for gates passed, then for the lap's time: 24 random choices, and from
# then on perturbations of the best six. Four flights tell little of starts, which vary by ±0.5 m, so the best of a
# search flew 25 more.
_WEIGHTS = {
    "position_weight": 24.2,
    "attitude_weight": 3.81,
    "velocity_weight": 1.14,
    "command_weight": (0.09, 0.222, 0.222, 0.665),
    "catch_up": 25.2,
}
"""Of 287, the third best: undisturbed it passes the first gate from 25 of 25 starts, the best one from 19."""


def _tracking(adaptive: bool = False) -> LapPolicy:
    problem = TrackingProblem.of(Believed(lags=True), **_WEIGHTS)
    return LapPolicy(_task(), Lap.load(LAP, 7), problem, adaptive=adaptive)


def _adaptive() -> LapPolicy:
    """At the weights of tracking: a search of its own, of 203, found none that fly much better than those. With a
    bandwidth of 1 rad/s it does as well as with 3; with 8, 20 and 50 it crashed at once, since what starting rotors
    lack for a moment is then believed to last."""
    return _tracking(adaptive=True)


def _contouring() -> LapPolicy:
    """Faster than the others and less reliable: undisturbed 70 of 75 flights succeed, and the rest miss the first gate,
    before which the vehicle has 5 m to come to the path. The best of 304 succeeds in 19 of 25; the weights of lag,
    thrust and progress, and `catch_up`, were then changed by hand, some twenty ways, none of which always succeeds.
    In a side wind of 2 N it is 12 of 25."""
    weights = {"contour_weight": 15.8, "gate_weight": 57.4, "gate_reach": 0.682, "lag_weight": 700.0}
    efforts = {"thrust_weight": 0.04, "rate_weight": 0.114, "progress_weight": 6.0, "progress_limit": 1.24}
    problem = ContouringProblem.of(Believed(lags=True), **weights, **efforts, catch_up=40.0)
    return LapPolicy(_task(), Lap.load(LAP, 7), problem)


_BASELINES: dict[str, Callable[[], Policy]] = {"tracking": _tracking, "contouring": _contouring, "l1": _adaptive}
