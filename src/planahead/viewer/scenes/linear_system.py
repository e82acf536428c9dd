"""The plane of the two states, with the box in which they are to stay; the cost ½‖x‖² lies under it as rings."""

from typing import final

import numpy as np

from planahead.tasks.linear_system import HIGH, LOW, LinearSystem
from planahead.viewer.choices import Span
from planahead.viewer.scene import BLUE, ORANGE, RED, STONE, Camera, Scene, on_floor, scene_of
from planahead.viewer.session import Frame, Poke
from planahead.viewer.shapes import Ball, Dots, Floor, Line, Shape, Text


@final
class LinearSystemScene(Scene[LinearSystem]):
    camera = Camera((0.45, -1.9, 2.3), (0.45, 0.0, 0.0))
    caption = (-0.9, 1.2, 0.1)
    spans = (Span("disturbance", 0.0, 0.4),)
    pokes = (Poke("out of the corner", kick=(-0.2, 0.0)), Poke("down", kick=(0.0, -0.4)), Poke("up", kick=(0.0, 0.4)))

    def surroundings(self, world: LinearSystem) -> tuple[Shape, ...]:
        del world
        corners = [(LOW[0], LOW[1]), (HIGH[0], LOW[1]), (HIGH[0], HIGH[1]), (LOW[0], HIGH[1]), (LOW[0], LOW[1])]
        turn = np.linspace(0.0, 2 * np.pi, 65)
        circle = np.column_stack([np.cos(turn), np.sin(turn)])
        rings = tuple(
            Line(f"cost/{radius:g}", on_floor(radius * circle, 0.002), STONE, 1.0) for radius in (0.25, 0.5, 0.75, 1.0)
        )
        return (
            Floor("floor", (3.0, 3.0), (0.4, 0.0, -0.004), 0.25),
            Line("box", on_floor(corners, 0.006), RED, 4.0),
            Text("words/first", "first state", (1.1, 0.0, 0.02)),
            Text("words/second", "second state", (0.0, 1.1, 0.02)),
            Text("words/cheapest", "cheapest", (0.0, 0.0, 0.02)),
            *rings,
        )

    def plant(self, world: LinearSystem, frame: Frame) -> tuple[Shape, ...]:
        x = np.asarray(frame.state.x, float)
        past = np.array([moment.state.x for moment in frame.past] + [x])
        return (
            Ball("state", 0.035, (x[0], x[1], 0.035), BLUE),
            Line("past", on_floor(past[::-1], 0.012), BLUE, 3.0, fades=True),
        )

    def ahead(self, world: LinearSystem, frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        way = on_floor(plan, 0.035)
        return Line("plan/way", way, ORANGE, 4.0), Dots("plan/nodes", way[1:], ORANGE, 0.04, fades=True)


@scene_of.register
def _(world: LinearSystem) -> Scene[LinearSystem]:
    del world
    return LinearSystemScene()
