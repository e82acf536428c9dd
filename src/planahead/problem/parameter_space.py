"""The declared parameters of a problem as one flat vector φ, and as the unit box that policies work in.

unit ∈ [-1, 1]    linear:  φ = low + (unit + 1)/2 · (high - low)
                  log:     φ = low · (high / low)^((unit + 1)/2)
"""

from collections.abc import Sequence
from typing import Literal, get_args

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.problem.fields import parameter_boxes
from planahead.problem.per_stage import is_per_stage
from planahead.problem.problem import Problem

Scale = Literal["declared", "linear"]


class ParameterSpace(eqx.Module):
    """Names, shapes and boxes of a problem's parameters; flattens them and writes them back.

    A per-stage parameter contributes `size` entries for each of its `stages`, all `N + 1` by default, stage by stage.

    **Arguments:**

    - `problem`: the problem whose fields declared with `parameter()` are collected.
    - `names`: which of them, in this order, or the name of one; all by default.
    - `scale`: `"declared"`, as each was, or `"linear"` for all: decades of small values then share a small part of the
      unit interval.

    **Raises:** `ValueError` for a name that does not exist (the message lists the names that do), or that comes twice.

    >>> import planahead as pa
    >>> problem = pa.make_task("cartpole").problem
    >>> space = ParameterSpace(problem)
    >>> space.names, space.size
    (('angle_reference',), 1)
    >>> [round(float(v), 3) for v in space.from_unit(space.to_unit(space.flatten(problem)))]
    [0.0]
    """

    names: tuple[str, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    low_entries: tuple[float, ...] = eqx.field(static=True)
    high_entries: tuple[float, ...] = eqx.field(static=True)
    log_entries: tuple[bool, ...] = eqx.field(static=True)

    def __init__(self, problem: Problem, names: Sequence[str] | str | None = None, scale: str = "declared"):
        if scale not in get_args(Scale):
            raise ValueError(f"scale='{scale}'; 'declared' or 'linear' was expected.")
        boxes = parameter_boxes(problem)
        chosen = tuple(boxes) if names is None else names
        self.names = (chosen,) if isinstance(chosen, str) else tuple(chosen)
        unknown = [name for name in self.names if name not in boxes]
        if unknown:
            raise ValueError(
                f"{type(problem).__name__} has no parameter {', '.join(map(repr, unknown))}; its parameters are: "
                f"{', '.join(boxes) or 'none'}."
            )
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(
                f"parameter {', '.join(map(repr, twice))} is named more than once; name every parameter once."
            )
        values = [_array(getattr(problem, name)) for name in self.names]
        self.shapes = tuple(tuple(value.shape) for value in values)
        low, high, log = [], [], []
        for name, shape in zip(self.names, self.shapes, strict=True):
            box = boxes[name]
            low += np.broadcast_to(box.low, shape).ravel().tolist()
            high += np.broadcast_to(box.high, shape).ravel().tolist()
            log += [box.logarithmic and scale == "declared"] * int(np.prod(shape))
        self.low_entries, self.high_entries, self.log_entries = tuple(low), tuple(high), tuple(log)

    @property
    def size(self) -> int:
        return len(self.low_entries)

    @property
    def low(self) -> Float[Array, " size"]:
        return jnp.asarray(self.low_entries, float)

    @property
    def high(self) -> Float[Array, " size"]:
        return jnp.asarray(self.high_entries, float)

    @property
    def log(self) -> np.ndarray:
        """Which entries are scaled geometrically, `[size]`."""
        return np.asarray(self.log_entries, bool)

    def flatten(self, problem: Problem) -> Float[Array, " size"]:
        """φ: the values of the parameters in `problem`."""
        values = [jnp.ravel(_array(getattr(problem, name))) for name in self.names]
        return jnp.concatenate(values) if values else jnp.zeros(0)

    def insert(self, problem: Problem, values: Float[Array, " size"]) -> Problem:
        """`problem` with its parameters replaced by `values` (φ). Leaves that are not named stay as they are."""
        if jnp.shape(values) != (self.size,):
            raise ValueError(
                f"φ has shape {jnp.shape(values)}; the {self.size} entries of {', '.join(self.names)} are expected."
            )
        if not self.names:
            return problem
        start, new = 0, []
        for name, shape in zip(self.names, self.shapes, strict=True):
            stop = start + int(np.prod(shape))
            old, value = getattr(problem, name), jnp.reshape(values[start:stop], shape)
            new.append(old.with_listed(value) if is_per_stage(old) else value)
            start = stop
        return eqx.tree_at(
            lambda tree: [getattr(tree, name) for name in self.names], problem, new, is_leaf=is_per_stage
        )

    def from_unit(self, unit: Float[Array, " size"]) -> Float[Array, " size"]:
        """Map [-1, 1] onto the box. **Raises** `ValueError` if the box is not finite."""
        self._check_finite()
        fraction = (unit + 1) / 2
        linear = self.low + fraction * (self.high - self.low)
        if not self.log.any():
            return linear
        low, high = jnp.where(self.log, self.low, 1.0), jnp.where(self.log, self.high, 1.0)
        return jnp.where(self.log, low * (high / low) ** fraction, linear)

    def to_unit(self, values: Float[Array, " size"]) -> Float[Array, " size"]:
        """The inverse of `from_unit`; 0 where the box is a single point."""
        self._check_finite()
        point = np.asarray(self.low_entries) == np.asarray(self.high_entries)
        linear = (values - self.low) / jnp.where(point, 1.0, self.high - self.low)
        if self.log.any():
            scaled = self.log & ~point
            low, high = jnp.where(scaled, self.low, 1.0), jnp.where(scaled, self.high, 2.0)
            geometric = jnp.log(jnp.where(scaled, values, low) / low) / jnp.log(high / low)
            linear = jnp.where(scaled, geometric, linear)
        return jnp.where(point, 0.0, 2 * linear - 1)

    def _check_finite(self):
        open_names = {
            name
            for name, start, stop in self._slices()
            if not np.all(np.isfinite(self.low_entries[start:stop]) & np.isfinite(self.high_entries[start:stop]))
        }
        if open_names:
            raise ValueError(
                f"parameter {', '.join(sorted(open_names))} has no finite box, so it has no unit coordinates; "
                "declare it with parameter(..., low=, high=), or leave it out of `names`."
            )

    def _slices(self):
        start = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            stop = start + int(np.prod(shape))
            yield name, start, stop
            start = stop


def _array(value) -> Array:
    return value.listed if is_per_stage(value) else jnp.asarray(value)
