"""The tasks by name, one line each: where the class of a task lies, written as Gymnasium writes entry points.

Several names may share a class; `VARIANTS` then says with which options each builds it.
"""

from typing import Any

TASKS: dict[str, str] = {
    "cartpole": "planahead.tasks.cart_pole:CartPoleTask",
    "chain": "planahead.tasks.chain:ChainTask",
    "mass-spring-damper": "planahead.tasks.mass_spring_damper:MassSpringDamperTask",
    "windmaze-easy": "planahead.tasks.wind_maze:WindMazeTask",
    "windmaze-hard": "planahead.tasks.wind_maze:WindMazeTask",
    "windmaze-walls": "planahead.tasks.wind_maze:WindMazeTask",
}

VARIANTS: dict[str, dict[str, Any]] = {
    "windmaze-easy": {"difficulty": "easy"},
    "windmaze-hard": {"difficulty": "hard"},
    "windmaze-walls": {"difficulty": "walls"},
}


def gymnasium_name(task: str) -> str:
    """The Gymnasium name of the task called `task` here.

    >>> gymnasium_name("cartpole"), gymnasium_name("windmaze-hard")
    ('planahead/CartPole-v0', 'planahead/WindMazeHard-v0')
    """
    variant = "".join(option.title() for option in VARIANTS.get(task, {}).values())
    return f"planahead/{TASKS[task].partition(':')[2].removesuffix('Task')}{variant}-v0"
