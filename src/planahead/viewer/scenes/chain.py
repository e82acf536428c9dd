"""The chain between its anchor and the free end, the chain at rest where it is to hang, and the way that is planned."""

from typing import final

import numpy as np

from planahead.tasks.chain import Chain
from planahead.viewer.choices import Span
from planahead.viewer.scene import BLUE, GREEN, ORANGE, RED, STEEL, STONE, Camera, Scene, scene_of
from planahead.viewer.session import Frame, Poke
from planahead.viewer.shapes import Ball, Box, Dots, Floor, Line, Rod, Shape


def _points(world: Chain, x: np.ndarray) -> np.ndarray:
    """Of all masses, `[n, 3]`, the anchor first."""
    return np.concatenate([np.zeros((1, 3)), np.asarray(x, float)[: 3 * world.masses - 3].reshape(-1, 3)])


@final
class ChainScene(Scene[Chain]):
    camera = Camera((0.45, -1.35, 0.12), (0.06, 0.0, -0.33))
    caption = (-0.45, 0.0, 0.2)
    spans = (
        Span("mass", 0.01, 0.1),
        Span("stiffness", 0.3, 3.0),
        Span("friction", 0.0, 1.0),
        Span("gravity", 0.0, 20.0),
    )

    def __init__(self, masses: int):
        ends, inner = 3 * (masses - 1), 3 * (masses - 2)
        kicks = []
        for label, direction in (("middle ←", (-1.5, 0.0, 0.0)), ("middle away", (0.0, 1.5, 0.0)), ("up", (0, 0, 2.0))):
            kick = np.zeros(ends + inner)
            middle = ends + 3 * ((masses - 2) // 2)
            kick[middle : middle + 3] = direction
            kicks.append(Poke(label, kick=tuple(kick.tolist())))
        self.pokes = tuple(kicks)

    def surroundings(self, world: Chain) -> tuple[Shape, ...]:
        return (
            Floor("floor", (2.4, 2.4), (0.0, 0.0, -0.95), 0.2),
            Line("anchor/post", [[0.0, 0.0, -0.95], [0.0, 0.0, 0.0]], STONE, 2.0),
            Box("anchor/block", (0.05, 0.05, 0.05), (0.0, 0.0, 0.0), STEEL),
        )

    def plant(self, world: Chain, frame: Frame) -> tuple[Shape, ...]:
        points, target = _points(world, frame.state.x), _points(world, frame.state.target)
        radius = 0.025 * (float(world.mass) / 0.033) ** (1 / 3)
        links = tuple(Rod(f"chain/link {n}", points[n], points[n + 1], 0.006, STEEL) for n in range(len(points) - 1))
        masses = tuple(Ball(f"chain/mass {n}", radius, p, BLUE) for n, p in enumerate(points[1:-1], start=2))
        ends = np.array([_points(world, m.state.x)[-1] for m in frame.past[-40:]] + [points[-1]])
        push = np.stack([points[-1], points[-1] + 0.2 * frame.action])
        return (
            *links,
            *masses,
            Ball("chain/end", 0.032, points[-1], RED),
            Line("target/line", target, GREEN, 3.0),
            Dots("target/masses", target[1:], GREEN, 0.014),
            Line("past", ends[::-1], BLUE, 3.0, fades=True),
            Line("push", push, GREEN, 4.0),
        )

    def ahead(self, world: Chain, frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        points = np.stack([_points(world, x) for x in plan])
        inner = np.stack([points[:-1, 1:-1], points[1:, 1:-1]], axis=2).reshape(-1, 3)
        return (
            Line("plan/end", points[:, -1], ORANGE, 5.0),
            Line("plan/masses", inner, ORANGE, 2.0, pairs=True),
            Line("plan/last", points[-1], ORANGE, 2.0),
        )


@scene_of.register
def _(world: Chain) -> Scene[Chain]:
    return ChainScene(world.masses)
