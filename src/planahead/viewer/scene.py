"""What a task looks like: surroundings, the plant at a moment, and the horizon that is planned ahead of it.

`scene_of` finds the scene of an environment by its class, and the generic one, traces of all states and actions, where
the class has none. A task of one's own gets its own scene with

    @scene_of.register
    def _(world: MyEnvironment) -> Scene[MyEnvironment]: ...
"""

import abc
import functools
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from planahead.tasks import Environment, Task
from planahead.viewer.choices import Span
from planahead.viewer.session import Frame, Poke
from planahead.viewer.shapes import Shape

E = TypeVar("E", bound=Environment[Any])

# M. Okabe and K. Ito's colours, as in the pictures of runs: what happened is blue, what is planned orange.
BLUE, ORANGE, GREEN, RED, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
STEEL, STONE = "#4B5563", "#9CA3AF"


class Camera(NamedTuple):
    """Where one looks from and to at first, m."""

    position: tuple[float, float, float]
    look_at: tuple[float, float, float]


class Scene(abc.ABC, Generic[E]):
    """How one kind of world is drawn."""

    camera: Camera
    caption: tuple[float, float, float]
    """Where words about the moment are in a recording, m."""
    spans: tuple[Span, ...] | None = None
    """Constants of the world that have sliders; all of them unless given."""
    pokes: tuple[Poke, ...] = ()

    @abc.abstractmethod
    def surroundings(self, world: E) -> tuple[Shape, ...]:
        """What stays where it is until a slider moves it: limits, walls, goals."""

    @abc.abstractmethod
    def plant(self, world: E, frame: Frame) -> tuple[Shape, ...]:
        """The plant where it is."""

    @abc.abstractmethod
    def ahead(self, world: E, frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        """What is planned; `plan` holds the states, `[N + 1, nx]`."""

    def focus(self, world: E, frame: Frame) -> np.ndarray:
        """What a camera that follows looks at, m."""
        del world, frame
        return np.asarray(self.camera.look_at, float)

    def shapes(self, world: E, frame: Frame) -> tuple[Shape, ...]:
        """All that moves."""
        plan = frame.plan_states
        here = self.plant(world, frame)
        return here if plan is None or not np.isfinite(plan).all() else (*here, *self.ahead(world, frame, plan))


@functools.singledispatch
def scene_of(world: Environment[Any]) -> Scene[Any] | None:
    """The scene that was registered for the class of `world`; `None` where none was."""
    del world
    return None


def scene_for(task: Task) -> Scene[Any]:
    """The scene of a task: its world's, or the generic one.

    >>> import planahead as pa
    >>> type(scene_for(pa.make_task("cartpole"))).__name__
    'CartPoleScene'
    """
    from planahead.viewer import scenes  # which registers those of the package
    from planahead.viewer.scenes.generic import GenericScene

    assert scenes is not None
    return scene_of(task.environment) or GenericScene(task)


def on_floor(points: Any, height: float = 0.0) -> np.ndarray:
    """`[n, 2]` as `[n, 3]`."""
    points = np.asarray(points, float).reshape(-1, 2)
    return np.column_stack([points, np.full(len(points), height)])
