"""Tasks: the world, the planner's model of it, and the names they go by.

Names are imported when they are first used: Gymnasium is told the tasks' names without JAX.
"""

from typing import TYPE_CHECKING

from planahead.lazy import lazy_names

if TYPE_CHECKING:
    from planahead.tasks.cart_pole import (
        CartPole as CartPole,
        CartPoleProblem as CartPoleProblem,
        CartPoleState as CartPoleState,
        CartPoleTask as CartPoleTask,
    )
    from planahead.tasks.chain import (
        Chain as Chain,
        ChainProblem as ChainProblem,
        ChainState as ChainState,
        ChainTask as ChainTask,
    )
    from planahead.tasks.drawing import render as render
    from planahead.tasks.environment import (
        Environment as Environment,
        StepInfo as StepInfo,
        Transition as Transition,
        constant as constant,
    )
    from planahead.tasks.flight.hover import (
        Hover as Hover,
        HoverProblem as HoverProblem,
        HoverState as HoverState,
        HoverTask as HoverTask,
    )
    from planahead.tasks.flight.pillars import Pillars as Pillars, PillarsState as PillarsState
    from planahead.tasks.flight.pillars_problem import PillarsPlan as PillarsPlan
    from planahead.tasks.flight.pillars_task import PillarsTask as PillarsTask
    from planahead.tasks.flight.plan_follower import PlanFollower as PlanFollower
    from planahead.tasks.flight.quadrotor import (
        Nominal as Nominal,
        Quadrotor as Quadrotor,
        Randomisation as Randomisation,
        Realistic as Realistic,
    )
    from planahead.tasks.flight.race import Race as Race, RaceState as RaceState
    from planahead.tasks.flight.race_problem import RaceProblem as RaceProblem
    from planahead.tasks.flight.race_task import RaceTask as RaceTask
    from planahead.tasks.flight.rotorpy_vehicle import RotorPyVehicle as RotorPyVehicle
    from planahead.tasks.flight.wind import Wind as Wind
    from planahead.tasks.linear_system import (
        LinearSystem as LinearSystem,
        LinearSystemProblem as LinearSystemProblem,
        LinearSystemState as LinearSystemState,
        LinearSystemTask as LinearSystemTask,
    )
    from planahead.tasks.mass_spring_damper import (
        MassSpringDamper as MassSpringDamper,
        MassSpringDamperProblem as MassSpringDamperProblem,
        MassSpringDamperState as MassSpringDamperState,
        MassSpringDamperTask as MassSpringDamperTask,
    )
    from planahead.tasks.obstacles import (
        Obstacles as Obstacles,
        ObstaclesProblem as ObstaclesProblem,
        ObstaclesState as ObstaclesState,
        ObstaclesTask as ObstaclesTask,
    )
    from planahead.tasks.registry import make_task as make_task, task_names as task_names
    from planahead.tasks.task import Task as Task
    from planahead.tasks.task_check import check_task as check_task
    from planahead.tasks.wind_maze import (
        WindMaze as WindMaze,
        WindMazeProblem as WindMazeProblem,
        WindMazeState as WindMazeState,
        WindMazeTask as WindMazeTask,
    )

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "planahead.tasks.cart_pole": ["CartPole", "CartPoleProblem", "CartPoleState", "CartPoleTask"],
        "planahead.tasks.chain": ["Chain", "ChainProblem", "ChainState", "ChainTask"],
        "planahead.tasks.drawing": ["render"],
        "planahead.tasks.environment": ["Environment", "StepInfo", "Transition", "constant"],
        "planahead.tasks.linear_system": [
            "LinearSystem",
            "LinearSystemProblem",
            "LinearSystemState",
            "LinearSystemTask",
        ],
        "planahead.tasks.mass_spring_damper": [
            "MassSpringDamper",
            "MassSpringDamperProblem",
            "MassSpringDamperState",
            "MassSpringDamperTask",
        ],
        "planahead.tasks.obstacles": ["Obstacles", "ObstaclesProblem", "ObstaclesState", "ObstaclesTask"],
        "planahead.tasks.flight.hover": ["Hover", "HoverProblem", "HoverState", "HoverTask"],
        "planahead.tasks.flight.pillars": ["Pillars", "PillarsState"],
        "planahead.tasks.flight.pillars_problem": ["PillarsPlan"],
        "planahead.tasks.flight.pillars_task": ["PillarsTask"],
        "planahead.tasks.flight.plan_follower": ["PlanFollower"],
        "planahead.tasks.flight.quadrotor": ["Nominal", "Quadrotor", "Randomisation", "Realistic"],
        "planahead.tasks.flight.race_problem": ["RaceProblem"],
        "planahead.tasks.flight.race_task": ["RaceTask"],
        "planahead.tasks.flight.race": ["Race", "RaceState"],
        "planahead.tasks.flight.rotorpy_vehicle": ["RotorPyVehicle"],
        "planahead.tasks.registry": ["make_task", "task_names"],
        "planahead.tasks.task": ["Task"],
        "planahead.tasks.task_check": ["check_task"],
        "planahead.tasks.flight.wind": ["Wind"],
        "planahead.tasks.wind_maze": ["WindMaze", "WindMazeProblem", "WindMazeState", "WindMazeTask"],
    },
)
