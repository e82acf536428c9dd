"""Shapes on a viser server: every name is one thing there, made once and then moved.

Only what changed is sent. viser keeps the latest value of everything for whoever opens the page later, and drops values
that a slow browser has not fetched in favour of newer ones.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from planahead.viewer.shapes import (
    Arrows,
    Ball,
    Box,
    Dots,
    Floor,
    Line,
    Rod,
    Shape,
    Text,
    along,
    faded,
    line_pairs,
    rgb,
)

if TYPE_CHECKING:
    from viser import ViserServer


class Canvas:
    """What is on the page."""

    def __init__(self, server: "ViserServer"):
        self._server = server
        self._handles: dict[str, Any] = {}
        self._kinds: dict[str, type[Shape]] = {}
        self._sent: dict[str, dict[str, Any]] = {}

    def draw(self, shapes: Iterable[Shape]) -> None:
        """Show these and nothing else."""
        seen = set()
        with self._server.atomic():
            for shape in shapes:
                if not _drawable(shape):
                    continue
                seen.add(shape.name)
                self._show(shape)
            for name in self._handles.keys() - seen:
                if self._sent[name].get("visible", True):
                    self._handles[name].visible = False
                    self._sent[name]["visible"] = False

    def _show(self, shape: Shape) -> None:
        properties = _properties(shape)
        if self._kinds.get(shape.name) is not type(shape):
            if shape.name in self._handles:
                self._handles[shape.name].remove()
            self._handles[shape.name] = self._make(shape, properties)
            self._kinds[shape.name] = type(shape)
            self._sent[shape.name] = properties
            return
        handle, sent = self._handles[shape.name], self._sent[shape.name]
        for name, value in {**properties, "visible": True}.items():
            if not _same(sent.get(name, True), value):
                setattr(handle, name, value)
                sent[name] = value

    def _make(self, shape: Shape, properties: dict[str, Any]) -> Any:
        scene, name = self._server.scene, f"/{shape.name}"
        match shape:
            case Box():
                return scene.add_box(name, **properties)
            case Ball():
                return scene.add_icosphere(name, subdivisions=3, **properties)
            case Rod():
                return scene.add_cylinder(name, **properties)
            case Line():
                return scene.add_line_segments(name, thickness_units="screen", **properties)
            case Dots():
                return scene.add_point_cloud(name, point_shape="circle", precision="float32", **properties)
            case Arrows():
                return scene.add_arrows(name, **properties)
            case Text():
                return scene.add_label(name, anchor="bottom-left", **properties)
            case Floor():
                return scene.add_grid(name, **properties)
        raise TypeError(f"{type(shape).__name__} «{shape.name}» is no kind of shape that a canvas knows.")


def _drawable(shape: Shape) -> bool:
    """Whether there is something to see, and every number is one."""
    match shape:
        case Line():
            return len(line_pairs(shape)) > 0 and bool(np.isfinite(shape.points).all())
        case Dots():
            return len(np.asarray(shape.points)) > 0 and bool(np.isfinite(shape.points).all())
        case Rod():
            ends = np.asarray(shape.start, float), np.asarray(shape.end, float)
            return bool(np.isfinite(ends).all()) and not np.array_equal(*ends)
        case Box() | Ball() | Text():
            return bool(np.isfinite(np.asarray(shape.position, float)).all())
    return True


def _properties(shape: Shape) -> dict[str, Any]:
    """Of the thing on the page, by viser's names."""
    match shape:
        case Box():
            return {
                "dimensions": _floats(shape.size),
                "position": _floats(shape.position),
                "wxyz": _floats(shape.attitude),
                "color": rgb(shape.colour),
                "opacity": _opacity(shape.opacity),
                **_shadow(shape.opacity),
            }
        case Ball():
            return {
                "radius": _rounded(shape.radius),
                "position": _floats(shape.position),
                "color": rgb(shape.colour),
                "opacity": _opacity(shape.opacity),
                **_shadow(shape.opacity),
            }
        case Rod():
            middle, length, attitude = along(shape.start, shape.end)
            return {
                "radius": _rounded(shape.radius),
                "height": 1.0,
                "scale": (1.0, 1.0, _rounded(length)),  # another height would be another mesh
                "position": _floats(middle),
                "wxyz": _floats(attitude),
                "color": rgb(shape.colour),
                "opacity": _opacity(shape.opacity),
                **_shadow(shape.opacity),
            }
        case Line():
            pairs = line_pairs(shape)
            # viser takes colours of lines for linear light, and would show them paler than those of all else.
            linear = np.round(255 * (_colours(shape, len(pairs)) / 255) ** 2.2).astype(np.uint8)
            ends = np.repeat(linear[:, None], 2, axis=1)
            return {"points": pairs, "colors": ends, "thickness": float(shape.width)}
        case Dots():
            points = np.asarray(shape.points, np.float32).reshape(-1, 3)
            count = len(points)
            return {"points": points, "colors": _colours(shape, count), "point_size": float(shape.size)}
        case Arrows():
            points = np.stack([np.asarray(shape.starts), np.asarray(shape.ends)], axis=1).astype(np.float32)
            width = float(shape.width)
            return {
                "points": points,
                "colors": np.array(rgb(shape.colour), np.uint8),
                "shaft_radius": width,
                "head_radius": 3 * width,
                "head_length": 6 * width,
            }
        case Text():
            return {"text": shape.text, "position": _floats(shape.position)}
        case Floor():
            return {
                "width": float(shape.size[0]),
                "height": float(shape.size[1]),
                "position": _floats(shape.position),
                "cell_size": float(shape.cell),
                "section_size": 4 * float(shape.cell),
                "plane_color": (249, 250, 251),
                "plane_opacity": 1.0,
                "cell_color": (229, 231, 235),
                "section_color": (209, 213, 219),
            }
    return {}


def _colours(shape: Line | Dots, count: int) -> np.ndarray:
    """`[count, 3]`, from 0 to 255."""
    return faded(shape.colour, count) if shape.fades else np.tile(np.array(rgb(shape.colour), np.uint8), (count, 1))


def _floats(values: Any) -> tuple[Any, ...]:
    return tuple(_rounded(value) for value in np.asarray(values, float))


def _rounded(value: Any) -> float:
    """To a micrometre: what only rounding moved is not sent again."""
    return round(float(value), 6)


def _opacity(opacity: float) -> float | None:
    return None if opacity >= 1.0 else float(opacity)


def _shadow(opacity: float) -> dict[str, bool]:
    """Air casts none."""
    return {"cast_shadow": opacity >= 0.5}


def _same(sent: Any, value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return isinstance(sent, np.ndarray) and sent.shape == value.shape and bool((sent == value).all())
    return sent == value
