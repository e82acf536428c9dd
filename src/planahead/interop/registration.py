"""Every task of the registry under a Gymnasium name: `planahead/CartPole-v0`."""

from planahead.tasks.names import TASKS


def gymnasium_name(task: str) -> str:
    """The Gymnasium name of the task called `task` here.

    >>> gymnasium_name("cartpole")
    'planahead/CartPole-v0'
    """
    return f"planahead/{TASKS[task].partition(':')[2].removesuffix('Task')}-v0"


def register_gymnasium() -> None:
    """Make every task known to `gymnasium.make` and `gymnasium.make_vec`.

    The entry points are strings, so nothing but Gymnasium itself is imported; registering twice does no harm.
    """
    import gymnasium

    for task in TASKS:
        name = gymnasium_name(task)
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point="planahead.interop.gymnasium:GymnasiumTask",
                vector_entry_point="planahead.interop.gymnasium_vector:GymnasiumVectorTask",
                kwargs={"task": task},
            )
