"""The tasks by name, one line each: where the class of a task lies, written as Gymnasium writes entry points.

Several names may share a class; `VARIANTS` then says with which options each builds it, and `SENTENCES` what is special
about each.
"""

from typing import Any

TASKS: dict[str, str] = {
    "cartpole": "planahead.tasks.cart_pole:CartPoleTask",
    "chain": "planahead.tasks.chain:ChainTask",
    "hover": "planahead.tasks.flight.hover:HoverTask",
    "linear": "planahead.tasks.linear_system:LinearSystemTask",
    "mass-spring-damper": "planahead.tasks.mass_spring_damper:MassSpringDamperTask",
    "obstacles": "planahead.tasks.obstacles:ObstaclesTask",
    "pillars": "planahead.tasks.flight.pillars_task:PillarsTask",
    "race-circle": "planahead.tasks.flight.race_task:RaceTask",
    "race-horizontal": "planahead.tasks.flight.race_task:RaceTask",
    "race-split-s": "planahead.tasks.flight.race_task:RaceTask",
    "race-split-s-cpc": "planahead.tasks.flight.race_task:RaceTask",
    "race-split-s-real": "planahead.tasks.flight.race_task:RaceTask",
    "race-vertical": "planahead.tasks.flight.race_task:RaceTask",
    "windmaze-easy": "planahead.tasks.wind_maze:WindMazeTask",
    "windmaze-hard": "planahead.tasks.wind_maze:WindMazeTask",
    "windmaze-walls": "planahead.tasks.wind_maze:WindMazeTask",
}

VARIANTS: dict[str, dict[str, Any]] = {
    "race-circle": {"track": "circle"},
    "race-horizontal": {"track": "horizontal"},
    "race-split-s": {"track": "split-s"},
    "race-split-s-cpc": {"track": "split-s-cpc"},
    "race-split-s-real": {"track": "split-s-real"},
    "race-vertical": {"track": "vertical"},
    "windmaze-easy": {"difficulty": "easy"},
    "windmaze-hard": {"difficulty": "hard"},
    "windmaze-walls": {"difficulty": "walls"},
}

SENTENCES: dict[str, str] = {
    "race-circle": "Eight gates on a circle.",
    "race-horizontal": "Six gates in a row.",
    "race-split-s": "The seven gates of the Split-S track.",
    "race-split-s-cpc": "The Split-S track with the waypoints of CPC.",
    "race-split-s-real": "The Split-S track as it was flown.",
    "race-vertical": "Four gates one below the other, to be dived through.",
    "windmaze-easy": "Two wind zones, with gaps of 0.2 m to pass them by.",
    "windmaze-hard": "Two wind zones, with gaps of 0.1 m to pass them by.",
    "windmaze-walls": "Three walls with passages of 0.2 to 0.25 m, and gusts that drive towards their edges.",
}


def gymnasium_name(task: str) -> str:
    """The Gymnasium name of the task called `task` here.

    >>> gymnasium_name("cartpole"), gymnasium_name("windmaze-hard")
    ('planahead/CartPole-v0', 'planahead/WindMazeHard-v0')
    """
    variant = "".join(option.title().replace("-", "") for option in VARIANTS.get(task, {}).values())
    return f"planahead/{TASKS[task].partition(':')[2].removesuffix('Task')}{variant}-v0"
