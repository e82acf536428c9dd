"""The tasks by name, one line each: where the class of a task lies, written as Gymnasium writes entry points.

Several names may share a class; `VARIANTS` then says with which options each builds it, and `SENTENCES` what is special
about each.
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

SENTENCES: dict[str, str] = {
    "windmaze-easy": "Two wind zones, with gaps of 0.2 m to pass them by.",
    "windmaze-hard": "Two wind zones, with gaps of 0.1 m to pass them by.",
    "windmaze-walls": "Three walls with passages of 0.2 to 0.25 m, and gusts that drive towards their edges.",
}


def gymnasium_name(task: str) -> str:
    """The Gymnasium name of the task called `task` here.

    >>> gymnasium_name("cartpole"), gymnasium_name("windmaze-hard")
    ('planahead/CartPole-v0', 'planahead/WindMazeHard-v0')
    """
    variant = "".join(option.title() for option in VARIANTS.get(task, {}).values())
    return f"planahead/{TASKS[task].partition(':')[2].removesuffix('Task')}{variant}-v0"
