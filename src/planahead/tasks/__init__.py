"""Tasks: the world, the planner's model of it, and the names they go by."""

from planahead.tasks.cart_pole import (
    CartPole as CartPole,
    CartPoleProblem as CartPoleProblem,
    CartPoleState as CartPoleState,
    CartPoleTask as CartPoleTask,
)
from planahead.tasks.drawing import render as render
from planahead.tasks.environment import (
    Environment as Environment,
    StepInfo as StepInfo,
    Transition as Transition,
    constant as constant,
)
from planahead.tasks.mass_spring_damper import (
    MassSpringDamper as MassSpringDamper,
    MassSpringDamperProblem as MassSpringDamperProblem,
    MassSpringDamperState as MassSpringDamperState,
    MassSpringDamperTask as MassSpringDamperTask,
)
from planahead.tasks.registry import make_task as make_task, task_names as task_names
from planahead.tasks.task import Task as Task
