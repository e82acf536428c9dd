"""The course from above its front: zones of wind as air with arrows, walls, the goal, and the mass with its plan."""

from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from planahead.tasks.wind_maze import GOAL, HIGH, LOW, RADIUS, START, WindMaze
from planahead.viewer.choices import Span
from planahead.viewer.scene import BLUE, GREEN, ORANGE, RED, SKY, STEEL, STONE, Camera, Scene, on_floor, scene_of
from planahead.viewer.session import Frame, Poke
from planahead.viewer.shapes import Arrows, Ball, Box, Dots, Floor, Line, Rod, Shape, Text

_HEIGHT = 0.16  # m, of walls and of what is air
_SIZE = 0.035  # m, of the mass
_STEP = (0.16, 0.14)  # m, between arrows


@final
class WindMazeScene(Scene[WindMaze]):
    camera = Camera((2.0, -2.6, 2.9), (2.0, 0.35, 0.0))
    caption = (0.0, 1.15, 0.25)
    spans = (Span("wind_force", 0.0, 20.0), Span("mass", 0.2, 5.0), Span("drag", 2.0, 30.0))
    pokes = (
        Poke("push ←", kick=(0.0, 0.0, -2.0, 0.0)),
        Poke("push →", kick=(0.0, 0.0, 2.0, 0.0)),
        Poke("push ↑", kick=(0.0, 0.0, 0.0, 2.0)),
        Poke("push ↓", kick=(0.0, 0.0, 0.0, -2.0)),
    )

    def surroundings(self, world: WindMaze) -> tuple[Shape, ...]:
        solids = []
        for kind, rows, colour, opacity in (("zone", world.zones, SKY, 0.25), ("wall", world.walls, STEEL, 1.0)):
            for n, (left, right, low, high) in enumerate(np.reshape(rows, (-1, 4)).tolist()):
                size, middle = (right - left, high - low, _HEIGHT), ((left + right) / 2, (low + high) / 2, _HEIGHT / 2)
                solids.append(Box(f"{kind}/{n}", size, middle, colour, opacity=opacity))
        (left, low), (right, high) = LOW[:2], HIGH[:2]
        corners = on_floor([[left, low], [right, low], [right, high], [left, high], [left, low]], 0.004)
        goal = Rod("goal/disc", (*GOAL, 0.0), (*GOAL, 0.012), float(world.goal_radius), GREEN, 0.8)
        start = Rod("start/disc", (*START, 0.0), (*START, 0.006), RADIUS, STONE, 0.5)
        return (
            Floor("floor", (5.0, 2.0), (2.0, 0.5, -0.004), 0.25),
            Line("course", corners, RED, 4.0),
            goal,
            start,
            Text("words/goal", "goal", (GOAL[0] + 0.05, GOAL[1] - 0.1, 0.05)),
            *solids,
            *_wind(world),
        )

    def plant(self, world: WindMaze, frame: Frame) -> tuple[Shape, ...]:
        x = np.asarray(frame.state.x)
        past = np.array([moment.state.x[:2] for moment in frame.past] + [x[:2]])
        position = np.array([x[0], x[1], _SIZE])
        push = np.stack([position, position + 0.02 * np.append(frame.action, 0.0)])
        return (
            Ball("mass", _SIZE, position, BLUE),
            Line("past", on_floor(past[::-1], 0.01), BLUE, 3.0, fades=True),
            Line("force", push, GREEN, 4.0),
        )

    def ahead(self, world: WindMaze, frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        way = on_floor(plan[:, :2], _SIZE)
        return Line("plan/way", way, ORANGE, 4.0), Dots("plan/nodes", way[1:], ORANGE, 0.024, fades=True)

    def focus(self, world: WindMaze, frame: Frame) -> np.ndarray:
        return np.array([*np.asarray(frame.state.x[:2], float), 0.0])


def _wind(world: WindMaze) -> tuple[Shape, ...]:
    """Arrows where the wind has more than a tenth of its largest force."""
    along, across = np.arange(0.08, HIGH[0], _STEP[0]), np.arange(0.07, HIGH[1], _STEP[1])
    places = np.stack(np.meshgrid(along, across), axis=-1).reshape(-1, 2)
    forces = np.asarray(jax.vmap(world.wind)(jnp.asarray(places)), float)
    strength = np.sqrt((forces**2).sum(axis=1))
    blown = strength > max(0.1 * strength.max(), 1e-6)
    if not blown.any():
        return ()
    way = 0.016 * forces[blown]
    middle = on_floor(places[blown], 0.6 * _HEIGHT)
    half = np.column_stack([way / 2, np.zeros(len(way))])
    return (Arrows("wind", middle - half, middle + half, SKY, 0.004),)


@scene_of.register
def _(world: WindMaze) -> Scene[WindMaze]:
    del world
    return WindMazeScene()
