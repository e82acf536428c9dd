"""A block on a rail along x. The rail lies on a floor whose y is time: the plan runs away behind the block, what
happened comes towards the viewer, one second for every `_METRE` of it."""

from typing import final

import numpy as np

from planahead.tasks.mass_spring_damper import MassSpringDamper
from planahead.viewer.choices import Span
from planahead.viewer.scene import BLUE, GREEN, ORANGE, RED, STEEL, STONE, Camera, Scene, scene_of
from planahead.viewer.session import Frame, Poke
from planahead.viewer.shapes import Box, Floor, Line, Rod, Shape, Text

_METRE = 1.0  # m of floor per second
_COILS = 9


@final
class MassSpringDamperScene(Scene[MassSpringDamper]):
    camera = Camera((0.3, -5.2, 3.6), (-0.25, 0.2, 0.0))
    caption = (-2.8, 0.0, 1.4)
    spans = (
        Span("mass", 0.2, 5.0),
        Span("damping", 0.0, 2.0),
        Span("stiffness", 0.0, 5.0),
    )
    pokes = (Poke("push ←", kick=(0.0, -0.8)), Poke("push →", kick=(0.0, 0.8)))

    def surroundings(self, world: MassSpringDamper) -> tuple[Shape, ...]:
        limit = float(world.state_limit)
        limits = tuple(
            Line(f"limits/{side:+d}", [[side * limit, -2.0, 0.005], [side * limit, 2.4, 0.005]], RED, 3.0)
            for side in (-1, 1)
        )
        return (
            Floor("floor", (7.0, 5.0), (0.0, 0.2, -0.01), 0.5),
            Box("wall", (0.1, 1.0, 0.9), (-1.5 * limit - 0.05, 0.0, 0.45), STONE),
            Line("rest", [[0.0, -2.0, 0.005], [0.0, 2.4, 0.005]], GREEN, 2.0),
            Rod("rail", (-1.5 * limit, 0.0, 0.04), (1.25 * limit, 0.0, 0.04), 0.03, STEEL),
            Text("words/rest", "rest", (0.05, 2.4, 0.05)),
            Text("words/limit", "limit", (limit + 0.05, 2.4, 0.05)),
            Text("words/now", "now", (1.25 * limit + 0.1, 0.0, 0.05)),
            *limits,
        )

    def plant(self, world: MassSpringDamper, frame: Frame) -> tuple[Shape, ...]:
        position, limit, h = float(frame.state.x[0]), float(world.state_limit), world.time_step
        half = 0.2 * float(world.mass) ** (1 / 3)
        turns = np.linspace(0.0, 2 * np.pi * _COILS, 24 * _COILS)
        start, end = -1.5 * limit, position - half
        middle = 0.08 + half
        coil = np.column_stack(
            [start + turns / turns[-1] * (end - start), 0.12 * np.sin(turns), middle + 0.12 * np.cos(turns)]
        )
        happened = np.array([float(moment.state.x[0]) for moment in frame.past[-20:]] + [position])
        back = np.arange(1 - len(happened), 1) * h * _METRE
        past = np.column_stack([happened, back, np.full(len(back), 0.01)])
        force = float(frame.action[0])
        return (
            Box("block", (2 * half,) * 3, (position, 0.0, middle), BLUE),
            Line("spring", coil, STEEL, 4.0),
            Line("past", past[::-1], BLUE, 4.0, fades=True),
            Line(
                "force",
                [[position, 0.0, middle + half + 0.08], [position + 1.5 * force, 0.0, middle + half + 0.08]],
                GREEN,
                6.0,
            ),
        )

    def ahead(self, world: MassSpringDamper, frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        later = np.arange(len(plan)) * world.time_step * _METRE
        way = np.column_stack([plan[:, 0], later, np.full(len(plan), 0.02)])
        posts = np.stack([way, way + np.array([0.0, 0.0, 0.12])], axis=1).reshape(-1, 3)
        return (
            Line("plan/way", way, ORANGE, 5.0),
            Line("plan/nodes", posts, ORANGE, 2.0, pairs=True, fades=True),
        )


@scene_of.register
def _(world: MassSpringDamper) -> Scene[MassSpringDamper]:
    del world
    return MassSpringDamperScene()
