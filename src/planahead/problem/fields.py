"""The two kinds of fields of a problem: settings that shape the program, and parameters that are differentiated."""

import dataclasses
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np

WRAPS = "wraps"
"""Marks the field of a problem that holds the one it wraps, whose parameters are its own, see `wrapped.py`."""


@dataclasses.dataclass(frozen=True)
class ParameterBox:
    """The box in which a parameter may move, as declared with `parameter()`."""

    low: np.ndarray
    high: np.ndarray
    logarithmic: bool


def static(default: Any = dataclasses.MISSING) -> Any:
    """A field that is fixed when the program is compiled: a horizon, a size, a time step, a switch.

    Changing it compiles anew; no derivative with respect to it exists. Without a `default` it must be given.

    >>> import dataclasses, jax, planahead as pa
    >>> problem = pa.make_task("cartpole").problem
    >>> len(jax.tree.leaves(problem)) == len(jax.tree.leaves(dataclasses.replace(problem, horizon=problem.horizon + 1)))
    True
    """
    return eqx.field(static=True, kw_only=True, default=default)


def parameter(
    default: Any, *, low: Any = -np.inf, high: Any = np.inf, scale: Literal["linear", "log"] = "linear"
) -> Any:
    """A field that is an array leaf: differentiable, batchable, and listed by `ParameterSpace`.

    **Arguments:**

    - `default`: number or nested list; becomes an array of JAX's default float type when the problem is built.
    - `low`, `high`: the box in which a policy or an optimiser may move it; broadcast against `default`.
    - `scale`: `"log"` for positive parameters whose useful values span decades; the unit interval of a `ParameterSpace`
      is then mapped geometrically.

    **Raises:** `ValueError` where `low <= default <= high` does not hold, or `scale="log"` is asked for with
    `low <= 0`.

    >>> import planahead as pa
    >>> class Mass(pa.Problem):
    ...     horizon: int = pa.static(3)
    ...     state_size: int = pa.static(1)
    ...     control_size: int = pa.static(1)
    ...     mass: pa.Array = pa.parameter(2.0, low=0.5, high=4.0)         # kg
    ...     def dynamics(self, x, u):
    ...         return x + u / self.mass
    >>> space = pa.ParameterSpace(Mass())
    >>> space.names, space.low.tolist(), space.high.tolist(), float(Mass(mass=3.0).dynamics(0.0, 1.5))
    (('mass',), [0.5], [4.0], 0.5)
    """
    value, low, high = np.asarray(default, float), np.asarray(low, float), np.asarray(high, float)
    try:
        shape = np.broadcast_shapes(value.shape, low.shape, high.shape)
    except ValueError:
        shape = None
    if shape != value.shape:
        raise ValueError(
            f"parameter default of shape {value.shape} has low of shape {low.shape} and high of shape {high.shape}; "
            "give scalars or one entry for each of the default's."
        )
    if np.isnan(value).any():
        raise ValueError(f"parameter default {default} is not a number; give a number.")
    if np.isnan(low).any() or np.isnan(high).any():
        raise ValueError(
            f"parameter box [{low}, {high}] has an end that is not a number; leave it out where there is none."
        )
    if np.any(low > high):
        raise ValueError(f"parameter box [{low}, {high}] has low above high; swap them.")
    if not (np.all(low <= value) and np.all(value <= high)):
        raise ValueError(f"parameter default {default} is outside [low, high] = [{low}, {high}]; widen the box.")
    if scale not in ("linear", "log"):
        raise ValueError(f"parameter scale is '{scale}'; use 'linear' or 'log'.")
    if scale == "log" and not (np.all(low > 0) and np.all(np.isfinite(high))):
        raise ValueError(f"a parameter with scale='log' needs 0 < low and a finite high, got low={low}, high={high}.")
    box = ParameterBox(low, high, scale == "log")
    return eqx.field(converter=_as_leaf, kw_only=True, default_factory=lambda: default, metadata={"parameter": box})


def _as_leaf(value: Any) -> Any:
    """Numbers and lists become arrays of the default float type; arrays, tracers and `PerStage` pass as they are."""
    is_number = isinstance(value, bool | int | float | list | tuple | np.ndarray | np.generic)
    return jnp.asarray(value, float) if is_number else value


def parameter_boxes(problem: eqx.Module) -> dict[str, ParameterBox]:
    """The declared parameters of `problem` in the order of their declaration, those of a problem that it wraps among
    them."""
    found: dict[str, ParameterBox] = {}
    for field in dataclasses.fields(problem):
        if "parameter" in field.metadata:
            found[field.name] = field.metadata["parameter"]
        elif WRAPS in field.metadata:
            found |= parameter_boxes(getattr(problem, field.name))
    return found
