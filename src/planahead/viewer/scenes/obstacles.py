"""The table with its round obstacles, the puck, and where it is to go."""

from typing import final

import numpy as np

from planahead.tasks.obstacles import CENTRES, GOAL, RADII, TABLE, Obstacles
from planahead.viewer.choices import Span
from planahead.viewer.scene import BLUE, GREEN, ORANGE, RED, STEEL, Camera, Scene, on_floor, scene_of
from planahead.viewer.session import Frame, Poke
from planahead.viewer.shapes import Box, Dots, Line, Rod, Shape, Text

_PUCK = 0.08  # m, of its radius; obstacles are drawn without it
_HEIGHT = 0.3  # m, of obstacles
_PALE = "#F3F4F6"


@final
class ObstaclesScene(Scene[Obstacles]):
    camera = Camera((0.0, -2.9, 2.5), (0.0, -0.1, 0.0))
    caption = (-2.0, 1.35, 0.3)
    spans = (Span("gust", 0.0, 3.0),)
    pokes = (
        Poke("push ←", kick=(0.0, 0.0, -0.8, 0.0)),
        Poke("push ↑", kick=(0.0, 0.0, 0.0, 0.8)),
        Poke("push ↓", kick=(0.0, 0.0, 0.0, -0.8)),
    )

    def surroundings(self, world: Obstacles) -> tuple[Shape, ...]:
        del world
        x, y = TABLE
        edge = on_floor([[-x, -y], [x, -y], [x, y], [-x, y], [-x, -y]], 0.005)
        pillars = tuple(
            Rod(f"obstacle/{n}", (*centre, 0.0), (*centre, _HEIGHT), radius - _PUCK, STEEL)
            for n, (centre, radius) in enumerate(zip(CENTRES, RADII, strict=True))
        )
        turn = np.linspace(0.0, 2 * np.pi, 49)
        circle = np.column_stack([np.cos(turn), np.sin(turn)])
        limits = tuple(
            Line(f"limit/{n}", on_floor(np.array(centre) + radius * circle, 0.006), RED, 3.0)
            for n, (centre, radius) in enumerate(zip(CENTRES, RADII, strict=True))
        )
        return (
            Box("table", (2 * x, 2 * y, 0.1), (0.0, 0.0, -0.05), _PALE),
            Line("edge", edge, RED, 4.0),
            Rod("goal", (*GOAL, 0.0), (*GOAL, 0.01), 0.2, GREEN, 0.8),
            Text("words/goal", "goal", (GOAL[0], GOAL[1] - 0.3, 0.02)),
            *pillars,
            *limits,
        )

    def plant(self, world: Obstacles, frame: Frame) -> tuple[Shape, ...]:
        x = np.asarray(frame.state.x, float)
        past = np.array([moment.state.x[:2] for moment in frame.past] + [x[:2]])
        middle = np.array([x[0], x[1], 0.06])
        push = np.stack([middle, middle + 0.08 * np.append(frame.action, 0.0)])
        return (
            Rod("puck", (x[0], x[1], 0.0), (x[0], x[1], 0.06), _PUCK, BLUE),
            Line("past", on_floor(past[::-1], 0.012), BLUE, 3.0, fades=True),
            Line("push", push, GREEN, 4.0),
        )

    def ahead(self, world: Obstacles, frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        way = on_floor(plan[:, :2], 0.05)
        return Line("plan/way", way, ORANGE, 4.0), Dots("plan/nodes", way[1:], ORANGE, 0.05, fades=True)

    def focus(self, world: Obstacles, frame: Frame) -> np.ndarray:
        return np.array([*np.asarray(frame.state.x[:2], float), 0.0])


@scene_of.register
def _(world: Obstacles) -> Scene[Obstacles]:
    del world
    return ObstaclesScene()
