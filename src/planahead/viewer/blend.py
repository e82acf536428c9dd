r"""Between two moments: where everything is when a picture falls between two steps of the plant.

    value = (1 - s) before + s after,    attitudes the shorter way round and normalised,    0 <= s <= 1

A plant steps ten to fifty times a second and a page draws thirty times. What has no counterpart before is drawn as it
is after, and words, colours and whatever changed its number of points are not mixed.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from planahead.viewer.shapes import Shape

_MIXED = {"size", "position", "radius", "start", "end", "points", "starts", "ends"}


def blend(before: Sequence[Shape], after: Sequence[Shape], share: float) -> tuple[Shape, ...]:
    """The shapes at `share` of the way.

    >>> from planahead.viewer.shapes import Ball
    >>> (ball,) = blend([Ball("a", 1.0, (0, 0, 0), "#000000")], [Ball("a", 1.0, (2, 0, 0), "#000000")], 0.25)
    >>> ball.position.tolist()
    [0.5, 0.0, 0.0]
    """
    if share >= 1.0:
        return tuple(after)
    known = {shape.name: shape for shape in before}
    return tuple(_between(known.get(shape.name), shape, share) for shape in after)


def _between(before: Shape | None, after: Shape, share: float) -> Shape:
    if type(before) is not type(after):
        return after
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(after):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.name == "attitude":
            changes["attitude"] = _turned(np.asarray(old, float), np.asarray(new, float), share)
        elif field.name in _MIXED and np.shape(old) == np.shape(new):
            changes[field.name] = (1 - share) * np.asarray(old, float) + share * np.asarray(new, float)
    return dataclasses.replace(after, **changes)


def _turned(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    sign = -1.0 if before @ after < 0 else 1.0
    mixed = (1 - share) * sign * before + share * after
    norm = np.sqrt(mixed @ mixed)
    return mixed / norm if norm > 1e-6 else after
