"""Quadrotors: hovering at a point, flying between pillars after a reference, and racing through gates, of which the
next one is lit.

A racing quadrotor of 30 cm would be a speck on a track of 20 m; it is drawn `_LARGER` times its size there.
"""

from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from planahead.problem.rotation import from_matrix, matrix
from planahead.tasks.flight.gates import corners_of, frame_of
from planahead.tasks.flight.hover import Hover
from planahead.tasks.flight.pillars import Pillars
from planahead.tasks.flight.pillars_problem import RADIUS, ROOM_HIGH, ROOM_LOW
from planahead.tasks.flight.quadrotor import ARM_X, ARM_Y
from planahead.tasks.flight.race import Race
from planahead.viewer.choices import Span
from planahead.viewer.scene import BLUE, GREEN, ORANGE, RED, SKY, STEEL, STONE, Camera, Scene, scene_of
from planahead.viewer.session import Frame, Poke
from planahead.viewer.shapes import Ball, Box, Dots, Floor, Line, Rod, Shape, Text

_LARGER = 4.0
_rotation, _quaternion, _corners = jax.jit(matrix), jax.jit(from_matrix), jax.jit(corners_of)
_SPANS = (
    Span("wind.wind_force", -4.0, 4.0),
    Span("wind.gust_force", 0.0, 4.0),
    Span("vehicle.mass", 0.4, 1.2),
    Span("vehicle.thrust_scale", 0.5, 1.2),
    Span("vehicle.rate_scale", 0.5, 1.5),
)


def _kick(direction: tuple[float, float, float], size: int) -> tuple[float, ...]:
    """Of the velocity, for a vehicle of `size` states."""
    kick = np.zeros(size)
    kick[7:10] = direction
    return tuple(kick.tolist())


def _vehicle(x: np.ndarray, scale: float) -> tuple[Shape, ...]:
    """Body, arms and rotors, the front ones red."""
    position, turn = np.asarray(x[:3], float), np.asarray(_rotation(jnp.asarray(x[3:7])), float)
    up = turn[:, 2]
    parts: list[Shape] = [
        Box("vehicle/body", (0.1 * scale, 0.06 * scale, 0.035 * scale), position, STEEL, attitude=x[3:7])
    ]
    for n, (ahead, left) in enumerate(zip(ARM_X, ARM_Y, strict=True)):
        end = position + scale * (turn @ np.array([ahead, left, 0.01]))
        parts += [
            Rod(f"vehicle/arm {n}", position, end, 0.009 * scale, STEEL),
            Rod(
                f"vehicle/rotor {n}",
                end,
                end + 0.012 * scale * up,
                0.065 * scale,
                RED if ahead > 0 else BLUE,
                opacity=0.85,
            ),
        ]
    return tuple(parts)


def _wind_arrow(force: np.ndarray, position: np.ndarray, scale: float) -> Shape:
    return Line("wind", np.stack([position - scale * force, position]), SKY, 5.0)


@final
class HoverScene(Scene[Hover]):
    camera = Camera((1.9, -2.6, 1.2), (0.0, 0.0, -0.1))
    caption = (-1.2, 0.0, 1.2)
    spans = _SPANS

    def __init__(self, size: int):
        self.pokes = (
            Poke("push →", kick=_kick((2.0, 0.0, 0.0), size)),
            Poke("push ↑", kick=_kick((0.0, 0.0, 2.0), size)),
            Poke("push ↓", kick=_kick((0.0, 0.0, -2.0), size)),
        )

    def surroundings(self, world: Hover) -> tuple[Shape, ...]:
        del world
        axes = tuple(
            Line(f"point/{axis}", [-0.15 * np.eye(3)[axis], 0.15 * np.eye(3)[axis]], GREEN, 3.0) for axis in range(3)
        )
        return (Floor("floor", (6.0, 6.0), (0.0, 0.0, -1.2), 0.5), Ball("point/ball", 0.03, (0, 0, 0), GREEN), *axes)

    def plant(self, world: Hover, frame: Frame) -> tuple[Shape, ...]:
        x = np.asarray(frame.state.x, float)
        past = np.array([moment.state.x[:3] for moment in frame.past[-100:]] + [x[:3]])
        force = np.asarray(world.wind.wind_force, float)
        return (
            *_vehicle(frame.state.x, 1.3),
            Line("past", past[::-1], BLUE, 3.0, fades=True),
            _wind_arrow(force, x[:3], 0.15),
        )

    def ahead(self, world: Hover, frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        return Line("plan/way", plan[:, :3], ORANGE, 5.0), Dots("plan/nodes", plan[1::2, :3], ORANGE, 0.03, fades=True)

    def focus(self, world: Hover, frame: Frame) -> np.ndarray:
        return np.asarray(frame.state.x[:3], float)


@final
class PillarsScene(Scene[Pillars]):
    """The reference is drawn with the plant, whoever flies."""

    camera = Camera((0.0, -5.6, 4.2), (0.0, 0.0, -0.6))
    caption = (-3.5, 2.0, 1.6)
    spans = _SPANS

    def __init__(self, size: int):
        self.pokes = (
            Poke("push x", kick=_kick((2.0, 0.0, 0.0), size)),
            Poke("push y", kick=_kick((0.0, 2.0, 0.0), size)),
            Poke("push ↓", kick=_kick((0.0, 0.0, -2.0), size)),
        )

    def surroundings(self, world: Pillars) -> tuple[Shape, ...]:
        del world
        size = tuple(high - low for low, high in zip(ROOM_LOW[:2], ROOM_HIGH[:2], strict=True))
        return (Floor("floor", (size[0], size[1]), (0.0, 0.0, ROOM_LOW[2]), 0.5),)

    def plant(self, world: Pillars, frame: Frame) -> tuple[Shape, ...]:
        x, state = np.asarray(frame.state.x, float), frame.state
        past = np.array([moment.state.x[:3] for moment in frame.past[-100:]] + [x[:3]])
        way = np.asarray(state.reference.trajectory.states, float)[:, :3]
        pillars = (
            Rod(f"pillar {n}", (*centre, ROOM_LOW[2]), (*centre, 1.0), RADIUS - 0.15, STONE)
            for n, centre in enumerate(np.asarray(state.centres, float).tolist(), start=1)
        )
        return (
            *_vehicle(state.x, 1.3),
            *pillars,
            Ball("goal", 0.06, np.asarray(state.goal, float), GREEN),
            Line("past", past[::-1], BLUE, 3.0, fades=True),
            Line("reference/way", way, ORANGE, 4.0),
            Dots("reference/nodes", way[1::2], ORANGE, 0.03, fades=True),
            _wind_arrow(np.asarray(world.wind.wind_force, float), x[:3], 0.15),
        )

    def ahead(self, world: Pillars, frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        """Of a plan that comes to the reference: where it would be, were the reference at rest from now on."""
        off = np.asarray(frame.state.x[:3], float) - plan[0, :3]
        return (Line("plan/way", plan[:, :3] + off, SKY, 4.0),)

    def focus(self, world: Pillars, frame: Frame) -> np.ndarray:
        return np.asarray(frame.state.x[:3], float)


@final
class RaceScene(Scene[Race]):
    spans = _SPANS

    def __init__(self, world: Race):
        gates = np.asarray(world.gates, float)[:, :3]
        middle, extent = (gates.min(axis=0) + gates.max(axis=0)) / 2, float(np.ptp(gates, axis=0).max())
        away = max(extent, 8.0)
        self.camera = Camera(
            (float(middle[0]), float(middle[1]) - 1.35 * away, float(middle[2]) + 0.8 * away),
            (float(middle[0]), float(middle[1]) - 0.05 * away, float(middle[2]) - 0.04 * away),
        )
        self.caption = (float(gates[:, 0].min()), float(gates[:, 1].max()) + 2.0, float(gates[:, 2].max()) + 2.0)
        size = world.vehicle.state_size
        self.pokes = (
            Poke("push x", kick=_kick((3.0, 0.0, 0.0), size)),
            Poke("push y", kick=_kick((0.0, 3.0, 0.0), size)),
            Poke("push ↓", kick=_kick((0.0, 0.0, -3.0), size)),
        )

    def surroundings(self, world: Race) -> tuple[Shape, ...]:
        low, high = np.asarray(world.arena_low, float), np.asarray(world.arena_high, float)
        x, y = (low[:2] + high[:2]) / 2
        return (
            Floor("floor", (float(high[0] - low[0]), float(high[1] - low[1])), (x, y, 0.0), 2.0),
            *(shape for number in range(len(world.gates)) for shape in _gate(world, number)),
        )

    def plant(self, world: Race, frame: Frame) -> tuple[Shape, ...]:
        x = np.asarray(frame.state.x, float)
        past = np.array([moment.state.x[:3] for moment in frame.past] + [x[:3]])
        corners = np.asarray(_corners(world.gates[int(frame.state.gate)], 0.5 * world.opening), float)
        force = np.asarray(world.wind.wind_force, float)
        return (
            *_vehicle(frame.state.x, _LARGER),
            Line("past", past[::-1], BLUE, 3.0, fades=True),
            Line("next gate", np.concatenate([corners, corners[:1]]), GREEN, 6.0),
            Line("shadow", [x[:3], [x[0], x[1], 0.0]], STONE, 1.0),
            _wind_arrow(force, x[:3], 0.5),
        )

    def ahead(self, world: Race, frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        # From the next gate's centre, or in the world, as the plan's problem has it: it starts at the quadrotor.
        off = np.asarray(frame.state.x[:3], float) - plan[0, :3]
        centre = np.asarray(world.gates[int(frame.state.gate)][:3], float)
        way = plan[:, :3] + (centre if np.abs(off - centre).max() < np.abs(off).max() else 0.0)
        return Line("plan/way", way, ORANGE, 6.0), Dots("plan/nodes", way[1::2], ORANGE, 0.16, fades=True)

    def focus(self, world: Race, frame: Frame) -> np.ndarray:
        return np.asarray(frame.state.x[:3], float)


def _gate(world: Race, number: int) -> tuple[Shape, ...]:
    """The frame of a gate as four bars, with its number above it and a line along the way through."""
    gate = world.gates[number]
    inner, outer = 0.5 * float(world.opening), 0.5 * float(world.frame)
    normal, tangent, up = (np.asarray(axis, float) for axis in frame_of(gate))
    attitude = np.asarray(_quaternion(jnp.asarray(np.column_stack([normal, tangent, up]))), float)
    centre, bar, name = np.asarray(gate[:3], float), outer - inner, f"gate/{number + 1}"
    middle = (inner + outer) / 2
    bars = (
        *((2 * outer, bar, +middle * up, "top"), (2 * outer, bar, -middle * up, "bottom")),
        *((bar, 2 * inner, +middle * tangent, "left"), (bar, 2 * inner, -middle * tangent, "right")),
    )
    return (
        *(
            Box(f"{name}/{side}", (0.12, wide, high), centre + off, STONE, attitude, opacity=0.9)
            for wide, high, off, side in bars
        ),
        Line(f"{name}/through", [centre, centre + 0.9 * normal], STONE, 3.0),
        Text(f"{name}/number", str(number + 1), tuple((centre + np.array([0.0, 0.0, outer + 0.2])).tolist())),
    )


@scene_of.register
def _(world: Hover) -> Scene[Hover]:
    return HoverScene(world.vehicle.state_size)


@scene_of.register
def _(world: Pillars) -> Scene[Pillars]:
    return PillarsScene(world.vehicle.state_size)


@scene_of.register
def _(world: Race) -> Scene[Race]:
    return RaceScene(world)
