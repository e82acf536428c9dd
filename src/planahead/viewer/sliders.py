r"""Numbers of a world and of a planning problem that a hand may turn while both run.

A slider belongs to one entry of a leaf, or to a whole long vector, which it multiplies. What all sliders say about a
leaf with the value v is one `Turned`:

    v'  =  where(moved, value, factor v)

The shape stays, and every part of it is an argument of the compiled program, so nothing compiles anew. `v` may itself
come from an observation, as `Task.expert` has it: a slider that was not moved leaves it alone.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from planahead.problem import PerStage

M = TypeVar("M", bound=eqx.Module)

ENTRIES = 4
"""Vectors up to this long have a slider for every entry; longer ones have one for all."""


@dataclasses.dataclass(frozen=True, eq=False)
class Slider:
    """One number that can be turned. Two sliders are never equal: a world and a planner that believes the right thing
    of it have constants of the same name, value and ends."""

    label: str
    path: tuple[str, ...]
    """Attribute names that lead to the leaf."""
    low: float
    high: float
    start: float
    """1 for a factor."""
    entry: int | None = None
    """Of a vector; `None` for a number on its own and for a factor."""
    decades: bool = False
    """Whether it is turned by its logarithm, since it spans decades."""
    factor: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ValueError(
                f"slider «{self.label}» goes from {self.low} to {self.high}; finite ends were expected, the lower "
                "one first."
            )
        if self.decades and self.low <= 0:
            raise ValueError(f"slider «{self.label}» spans decades and begins at {self.low}; begin above 0.")


class Turned(eqx.Module):
    """What sliders say about one leaf."""

    path: tuple[str, ...] = eqx.field(static=True)
    value: Float[Array, "..."]
    """With the shape of the leaf, for a leaf per stage that of one stage."""
    moved: Bool[Array, "..."]
    factor: Float[Array, ""]


def at(module: Any, path: Iterable[str]) -> Any:
    """The attribute at the end of `path`."""
    for name in path:
        module = getattr(module, name)
    return module


def turned(module: M, changes: Sequence[Turned]) -> M:
    """`module` with its leaves as the sliders have them; a leaf per stage has the same in all stages."""
    for change in changes:
        leaf = at(module, change.path)
        old = leaf.values if isinstance(leaf, PerStage) else leaf
        value, moved = (jnp.broadcast_to(part, jnp.shape(old)) for part in (change.value, change.moved))
        new = jnp.where(moved, value, change.factor * old).astype(jnp.asarray(old).dtype)
        new = PerStage(new, leaf.stages) if isinstance(leaf, PerStage) else new
        module = eqx.tree_at(
            lambda tree, path=change.path: at(tree, path), module, new, is_leaf=lambda node: isinstance(node, PerStage)
        )
    return module


def changes_of(sliders: Sequence[Slider], values: Sequence[float], module: eqx.Module) -> tuple[Turned, ...]:
    """What the sliders say at `values` about the leaves of `module`, one for every leaf that has a slider."""
    found: dict[tuple[str, ...], Turned] = {}
    for slider, number in zip(sliders, values, strict=True):
        leaf = at(module, slider.path)
        shape = np.shape(leaf.values)[1:] if isinstance(leaf, PerStage) else np.shape(leaf)
        known = found.get(slider.path)
        value, moved, factor = (
            (np.zeros(shape), np.zeros(shape, bool), 1.0)
            if known is None
            else (np.array(known.value), np.array(known.moved), float(known.factor))
        )
        if slider.factor:
            factor = number
        elif number != slider.start:
            where = () if slider.entry is None else slider.entry
            value[where], moved[where] = number, True
        found[slider.path] = Turned(
            slider.path, jnp.asarray(value, float), jnp.asarray(moved), jnp.asarray(factor, float)
        )
    return tuple(found.values())
