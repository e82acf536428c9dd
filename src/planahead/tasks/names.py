"""The tasks by name, one line each: where the class of a task lies, written as Gymnasium writes entry points."""

TASKS: dict[str, str] = {
    "cartpole": "planahead.tasks.cart_pole:CartPoleTask",
    "mass-spring-damper": "planahead.tasks.mass_spring_damper:MassSpringDamperTask",
}


def gymnasium_name(task: str) -> str:
    """The Gymnasium name of the task called `task` here.

    >>> gymnasium_name("cartpole")
    'planahead/CartPole-v0'
    """
    return f"planahead/{TASKS[task].partition(':')[2].removesuffix('Task')}-v0"
