"""Making tasks by their names."""

import importlib
import inspect
from typing import Any

from planahead.tasks.environment import with_constants
from planahead.tasks.names import TASKS, VARIANTS
from planahead.tasks.task import Interface, Task
from planahead.words import did_you_mean


def task_names() -> tuple[str, ...]:
    r"""The names that `make_task` knows, sorted.

    >>> print(*task_names(), sep="\n")
    cartpole
    chain
    hover
    linear
    mass-spring-damper
    obstacles
    pillars
    race-circle
    race-horizontal
    race-split-s
    race-split-s-cpc
    race-split-s-real
    race-vertical
    windmaze-easy
    windmaze-hard
    windmaze-walls
    """
    return tuple(sorted(TASKS))


def make_task(name: str, **options: Any) -> Task:
    """Build a task.

    **Arguments:**

    - `name`: one of `task_names()`, or `"module:Kind"` for a task of one's own, a subclass of `Task` that is imported
        from there.
    - `options`: constants of the task's environment (`start_spread=0.1`, `pole_mass=0.2`), which change the world and
        leave the planner's belief about it as it is; or arguments of the task (`problem=CartPoleProblem(horizon=20)`,
        `interface="stage"`).

    **Raises:** `ValueError` for an unknown name or option; the message lists the known ones, or says what of
    `module:Kind` is missing.

    >>> print(make_task("cartpole", start_spread=0.1).environment.start_spread)
    0.1
    """
    build = _kind(name)
    variant = VARIANTS.get(name, {})  # what the name says is no option any more
    known = [parameter for parameter in inspect.signature(build).parameters if parameter not in ("name", *variant)]
    settings = variant | {option: value for option, value in options.items() if option in known}
    world = {option: value for option, value in options.items() if option not in known}
    task = build(**settings)
    if not world:
        return task
    unknown = [option for option in world if option not in task.environment.constants]
    if unknown:
        raise ValueError(
            f"task '{name}' has no option {', '.join(map(repr, unknown))}"
            f"{did_you_mean(unknown[0], (*task.environment.constants, *known))}; constants of its world are: "
            f"{', '.join(task.environment.constants)}; and arguments of the task: {', '.join(known)}."
        )
    settings["environment"] = with_constants(task.environment, **world)
    return build(**settings)  # anew, since a matched problem depends on the world


def default_interface(name: str) -> Interface:
    """What a policy writes on the task called `name` unless told.

    >>> default_interface("cartpole"), default_interface("race-split-s")
    ('global', 'stage')
    """
    interface = inspect.signature(_kind(name)).parameters.get("interface")
    return "global" if interface is None else interface.default


def _kind(name: str) -> type[Task]:
    module, _, kind = TASKS.get(name, name).partition(":")
    if not (module and kind):
        raise ValueError(
            f"there is no task '{name}'{did_you_mean(name, task_names())}; the known ones are: "
            f"{', '.join(task_names())}. One of your own is 'module:Kind'."
        )
    try:
        found = getattr(importlib.import_module(module), kind, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module itself needs
        raise ValueError(
            f"task '{name}': there is no module '{module}' in this folder or among what is installed."
        ) from None
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ValueError(f"task '{name}': {module} has no Task called '{kind}'{_others(module)}.")
    return found


def _others(module: str) -> str:
    """The tasks that there are in a module, told after one that there is not."""
    found = vars(importlib.import_module(module)).values()
    names = sorted(
        kind.__name__
        for kind in found
        if isinstance(kind, type) and issubclass(kind, Task) and kind is not Task and kind.__module__ == module
    )
    return f"; it has: {', '.join(names)}" if names else ""
