"""Every task of the registry under a Gymnasium name: `planahead/CartPole-v0`."""

from planahead.tasks.names import TASKS, gymnasium_name


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
