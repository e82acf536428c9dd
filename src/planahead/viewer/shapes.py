"""What can be drawn: named solids, lines and words, as numbers.

A scene returns a tuple of shapes for every moment. Two moments whose shapes have the same names are the same things
moved, so a page updates what it has (`canvas.py`) and moments can be blended (`blend.py`):

    position [3] m,   attitude w x y z,   points [n, 3] m,   colours #rrggbb or one for every point

The world has z upwards. Nothing here knows how anything is shown.
"""

import dataclasses
from typing import Any

import numpy as np

Colour = str
"""`#rrggbb`."""

UPRIGHT = (1.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Shape:
    """Something with a name of its own."""

    name: str


@dataclasses.dataclass(frozen=True)
class Box(Shape):
    """A cuboid around `position`."""

    size: Any
    """[3], m."""
    position: Any
    colour: Colour
    attitude: Any = UPRIGHT
    opacity: float = 1.0


@dataclasses.dataclass(frozen=True)
class Ball(Shape):
    """A sphere."""

    radius: float
    position: Any
    colour: Colour
    opacity: float = 1.0


@dataclasses.dataclass(frozen=True)
class Rod(Shape):
    """A cylinder from `start` to `end`."""

    start: Any
    end: Any
    radius: float
    colour: Colour
    opacity: float = 1.0


@dataclasses.dataclass(frozen=True)
class Line(Shape):
    """A line through `points`, or with `pairs` one from each even point to the odd one after it."""

    points: Any
    """[n, 3]; fewer than two are no line."""
    colour: Colour
    width: float = 2.0
    """Pixels."""
    pairs: bool = False
    fades: bool = False
    """Paler towards the last point."""


@dataclasses.dataclass(frozen=True)
class Dots(Shape):
    """Small spheres, all alike."""

    points: Any
    """[n, 3]"""
    colour: Colour
    size: float
    """m, of the diameter."""
    fades: bool = False


@dataclasses.dataclass(frozen=True)
class Arrows(Shape):
    """Straight arrows."""

    starts: Any
    """[n, 3]"""
    ends: Any
    colour: Colour
    width: float
    """m, of the shaft."""


@dataclasses.dataclass(frozen=True)
class Text(Shape):
    """A few words that face whoever looks."""

    text: str
    position: Any


@dataclasses.dataclass(frozen=True)
class Floor(Shape):
    """A horizontal grid that catches shadows."""

    size: tuple[float, float]
    """m, along x and y."""
    position: Any
    cell: float
    """m"""


def line_pairs(shape: Line) -> np.ndarray:
    """The straight pieces of a line, `[pieces, 2, 3]`."""
    points = np.asarray(shape.points, np.float32).reshape(-1, 3)
    if shape.pairs:
        return points[: len(points) // 2 * 2].reshape(-1, 2, 3)
    return np.stack([points[:-1], points[1:]], axis=1) if len(points) > 1 else np.zeros((0, 2, 3), np.float32)


def rgb(colour: Colour) -> tuple[int, int, int]:
    """
    >>> rgb("#0072B2")
    (0, 114, 178)
    """
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue


def faded(colour: Colour, count: int) -> np.ndarray:
    """`count` colours from `colour` to nearly white, `[count, 3]`, from 0 to 255.

    >>> faded("#000000", 2).tolist()
    [[0, 0, 0], [204, 204, 204]]
    """
    share = np.linspace(0.0, 0.8, count)[:, None]
    return np.round((1 - share) * np.array(rgb(colour)) + share * 255).astype(np.uint8)


def along(start: Any, end: Any) -> tuple[np.ndarray, float, np.ndarray]:
    """Middle, length, and the attitude that turns z to the direction from `start` to `end`.

    >>> middle, length, attitude = along((0, 0, 0), (0, 0, 2))
    >>> middle.tolist(), float(length), attitude.tolist()
    ([0.0, 0.0, 1.0], 2.0, [1.0, 0.0, 0.0, 0.0])
    """
    start, end = np.asarray(start, float), np.asarray(end, float)
    way = end - start
    length = float(np.sqrt(way @ way))
    direction = way / length if length > 0 else np.array([0.0, 0.0, 1.0])
    # The half-way quaternion (1 + z·d, z × d); straight down any half turn will do.
    attitude = np.array([1 + direction[2], -direction[1], direction[0], 0.0])
    if attitude[0] < 1e-9:
        attitude = np.array([0.0, 1.0, 0.0, 0.0])
    return (start + end) / 2, length, attitude / np.sqrt(attitude @ attitude) + 0.0  # no -0
