"""The cart on its track, in the plane y = 0; poles that are planned stand behind it, paler the later they are."""

from typing import final

import numpy as np

from planahead.tasks.cart_pole import CartPole
from planahead.viewer.choices import Span
from planahead.viewer.scene import BLUE, GREEN, ORANGE, RED, STEEL, STONE, Camera, Scene, scene_of
from planahead.viewer.session import Frame, Poke
from planahead.viewer.shapes import Ball, Box, Floor, Line, Rod, Shape

_FORCE = 0.01  # m/N, of the arrow that is the force
_DEPTH = 0.12  # m, of the planned poles behind the cart
_WHEELS = np.array([[-0.12, -0.09], [-0.12, 0.09], [0.12, -0.09], [0.12, 0.09]])


def _tips(states: np.ndarray, length: float) -> np.ndarray:
    """Of the pole, (x, z), for states [n, 4]."""
    return np.column_stack([states[:, 0] - length * np.sin(states[:, 1]), length * np.cos(states[:, 1])])


@final
class CartPoleScene(Scene[CartPole]):
    camera = Camera((0.0, -5.5, 1.1), (0.0, 0.0, 0.0))
    caption = (-2.4, 0.0, 1.3)
    spans = (
        Span("pole_length", 0.3, 1.5),
        Span("pole_mass", 0.02, 0.5),
        Span("cart_mass", 0.2, 5.0),
        Span("gravity", 0.0, 20.0),
    )
    pokes = (
        Poke("pole ←", kick=(0.0, 0.0, 0.0, 3.0)),
        Poke("pole →", kick=(0.0, 0.0, 0.0, -3.0)),
        Poke("cart →", kick=(0.0, 0.0, 1.5, 0.0)),
    )

    def surroundings(self, world: CartPole) -> tuple[Shape, ...]:
        limit = float(world.position_limit)
        posts = tuple(
            Box(f"track/end {side:+d}", (0.04, 0.3, 0.36), (side * (limit + 0.2), 0.0, -0.02), RED) for side in (-1, 1)
        )
        rail = Rod("track/rail", (-limit - 0.2, 0.0, -0.16), (limit + 0.2, 0.0, -0.16), 0.015, STONE)
        return (Floor("floor", (8.0, 4.0), (0.0, 0.0, -1.15), 0.5), rail, *posts)

    def plant(self, world: CartPole, frame: Frame) -> tuple[Shape, ...]:
        x, length = np.asarray(frame.state.x), float(world.pole_length)
        ((tip_x, tip_z),) = _tips(x[None], length)
        position, force = float(x[0]), float(frame.action[0])
        radius = 0.05 * (float(world.pole_mass) / 0.1) ** (1 / 3)
        side = np.sign(force) * 0.2
        wheels = tuple(
            Rod(f"cart/wheel {n}", (position + a, b - 0.02, -0.1), (position + a, b + 0.02, -0.1), 0.045, STEEL)
            for n, (a, b) in enumerate(_WHEELS)
        )
        past = np.array([moment.state.x for moment in frame.past[-30:]] + [x])
        trace = np.insert(_tips(past, length), 1, 0.0, axis=1)
        push = np.array([[position + side, 0.0, 0.0], [position + side + _FORCE * force, 0.0, 0.0]])
        return (
            Box("cart/body", (0.4, 0.22, 0.16), (position, 0.0, 0.0), BLUE),
            *wheels,
            Rod("pole/rod", (position, -0.0, 0.0), (tip_x, 0.0, tip_z), 0.018, STEEL),
            Ball("pole/tip", radius, (tip_x, 0.0, tip_z), BLUE),
            Line("pole/trace", trace[::-1], BLUE, 2.0, fades=True),
            Line("cart/force", push, GREEN, 5.0),
        )

    def ahead(self, world: CartPole, frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        tips = _tips(plan, float(world.pole_length))
        depth = np.full(len(plan), _DEPTH)
        hinges = np.column_stack([plan[:, 0], depth, np.zeros(len(plan))])
        ends = np.column_stack([tips[:, 0], depth, tips[:, 1]])
        poles = np.stack([hinges, ends], axis=1).reshape(-1, 3)
        return (
            Line("plan/poles", poles, ORANGE, 1.5, pairs=True, fades=True),
            Line("plan/tip", ends, ORANGE, 4.0),
            Line("plan/cart", hinges, ORANGE, 4.0),
        )

    def focus(self, world: CartPole, frame: Frame) -> np.ndarray:
        return np.array([float(frame.state.x[0]), 0.0, 0.05])


@scene_of.register
def _(world: CartPole) -> Scene[CartPole]:
    del world
    return CartPoleScene()
