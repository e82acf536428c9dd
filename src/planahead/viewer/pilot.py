"""What acts in a task where no trained policy is given.

The task's expert, see `LivePlanner`, but for races: there planners track a lap where one is stored for the track, and
otherwise look half a second ahead, where the tasks' own look two steps and leave the rest to a policy.
"""

import dataclasses

import equinox as eqx
import numpy as np

from planahead.policies import Policy
from planahead.tasks import Task
from planahead.viewer.planner import LivePlanner

_LAP = "split-s-90"
_FAR = 25
"""Steps of a race's planner, 0.5 s."""


def pilot_of(task: Task, *, own_problem: bool = False) -> Policy:
    """A planner for `task`; with `own_problem` always the planning problem as it comes.

    >>> import planahead as pa
    >>> type(pilot_of(pa.make_task("race-split-s"))).__name__, type(pilot_of(pa.make_task("hover"))).__name__
    ('LapPolicy', 'LivePlanner')
    """
    from planahead.tasks.flight.race_task import RaceTask

    if own_problem or not isinstance(task, RaceTask):
        return LivePlanner(task, knows_the_way=not own_problem)
    if _is_split_s(task):
        from planahead.tasks.flight.believed import Believed
        from planahead.tasks.flight.lap import Lap
        from planahead.tasks.flight.lap_policy import LapPolicy
        from planahead.tasks.flight.tracking import TrackingProblem

        return LapPolicy(task, Lap.load(_LAP, len(task.environment.gates)), TrackingProblem.of(Believed()))
    if task.problem.horizon >= _FAR:
        return LivePlanner(task)
    problem = RaceTask(task.environment, horizon=_FAR, interface="global").problem
    far = eqx.tree_at(lambda task: task.problem, task, dataclasses.replace(problem))
    return LivePlanner(far)


def _is_split_s(task: Task) -> bool:
    """Whether the track is the one that the lap was made for."""
    from planahead.tasks.flight.race import Race

    there, here = Race.on("split-s").gates, task.environment.gates  # pyright: ignore[reportAttributeAccessIssue]
    return np.shape(there) == np.shape(here) and bool(np.allclose(there, here, atol=1e-3))
