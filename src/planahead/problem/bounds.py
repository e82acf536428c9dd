"""Two-sided bounds, hard or soft.

A soft bound is violated at a price: with the violation s = max(0, lower - v, v - upper), the cost grows by

    linear · s + ½ quadratic · s²

A hard bound is the limit of an infinite price. `-inf` and `+inf` mean that there is no bound on that side.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float


def _entries(value: Any) -> Any:
    """A NumPy array for constants, so that they can be looked at while a program is traced; JAX values pass."""
    if isinstance(value, jax.Array):
        return value
    if any(isinstance(entry, str) for entry in jax.tree.leaves(value)):
        raise ValueError(f"{value!r} is text; numbers are expected of a bound and of its price.")
    traced = any(isinstance(entry, Tracer) for entry in jax.tree.leaves(value))
    return jnp.asarray(value, float) if traced else np.asarray(value, float)


def _known(value: Any) -> bool:
    return not isinstance(value, Tracer)


def check_limits(name: str, lower: Any, upper: Any) -> None:
    """**Raises** `ValueError` where no number can be between known bounds, or where their shapes do not fit.

    `name` is the class that was given them.
    """
    _check_shapes(name, lower=lower, upper=upper)
    if not (_known(lower) and _known(upper)):
        return
    lower, upper = np.asarray(lower), np.asarray(upper)
    if np.isnan(lower).any() or np.isnan(upper).any():
        raise ValueError(f"{name}({lower}, {upper}): a bound is NaN; use -inf or inf where there is none.")
    if np.any(lower > upper):
        raise ValueError(f"{name}({lower}, {upper}): a lower bound is above its upper bound; swap or widen them.")
    if np.any(lower == np.inf) or np.any(upper == -np.inf):
        raise ValueError(f"{name}({lower}, {upper}): no number can be at least +inf or at most -inf.")


def check_prices(name: str, linear: Any, quadratic: Any) -> None:
    """**Raises** `ValueError` where known prices are negative, NaN or all zero, or their shapes do not fit."""
    _check_shapes(name, linear=linear, quadratic=quadratic)
    for field, value in (("linear", linear), ("quadratic", quadratic)):
        if _known(value) and not np.all(np.asarray(value) >= 0):
            raise ValueError(f"{name}(..., {field}={value}): a price must be a number that is not negative.")
    if _known(linear) and _known(quadratic) and not np.all(np.asarray(linear) + np.asarray(quadratic) > 0):
        raise ValueError(
            f"{name}(linear={linear}, quadratic={quadratic}) has entries without any price, so the bound "
            "would do nothing; give a positive price, or remove the bound with -inf/inf."
        )


def _check_shapes(name: str, **values: Any) -> None:
    shapes = {field: jnp.shape(value) for field, value in values.items()}
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        described = " and ".join(f"{field} of shape {shape}" for field, shape in shapes.items())
        raise ValueError(f"{name} has {described}; give both the same number of entries, or a scalar.") from None


class Slack(eqx.Module):
    """The price of violating a bound: `linear · s + ½ quadratic · s²`, added to the cost (which is minimised).

    A linear price above the bound's multiplier keeps the bound exactly where that is possible at all (an exact
    penalty). Entries are broadcast against the bound; `inf` makes an entry hard.

    **Raises:** `ValueError` if a known price is negative, or if an entry has no price at all.

    >>> import planahead as pa
    >>> slack, violation = pa.Slack(linear=10.0, quadratic=4.0), 0.5
    >>> float(slack.linear * violation + 0.5 * slack.quadratic * violation**2)
    5.5
    """

    linear: Any = eqx.field(converter=_entries, default=0.0)
    quadratic: Any = eqx.field(converter=_entries, default=0.0)

    def __check_init__(self):
        check_prices("Slack", self.linear, self.quadratic)


class Bounds(eqx.Module):
    """`lower <= v <= upper`, entry by entry; scalars are broadcast. Soft where a `slack` is given.

    **Raises:** `ValueError` if a bound is NaN or a lower bound is above its upper bound (where the numbers are known
    when the bounds are built; bounds that come from traced parameters give `Status.INVALID_INPUT` instead).

    >>> import planahead as pa
    >>> rows = pa.Bounds([-2.5, -float("inf")], 2.5).rows(2, "state_bounds")
    >>> rows.lower.tolist(), rows.upper.tolist(), rows.linear.tolist()              # a price of inf: hard
    ([-2.5, -inf], [2.5, 2.5], [inf, inf])
    """

    lower: Any = eqx.field(converter=_entries, default=-np.inf)
    upper: Any = eqx.field(converter=_entries, default=np.inf)
    slack: Slack | None = None

    def __check_init__(self):
        check_limits("Bounds", self.lower, self.upper)

    def rows(self, size: int, what: str) -> "BoundRows":
        """Broadcast to `size` entries. `what` names the method in an error."""
        hard = Slack(np.inf, np.inf)
        slack = hard if self.slack is None else self.slack
        entries = {"lower": self.lower, "upper": self.upper, "linear": slack.linear, "quadratic": slack.quadratic}
        for name, value in entries.items():
            if jnp.ndim(value) > 1 or jnp.size(value) not in (1, size):
                raise ValueError(
                    f"{what}: '{name}' has shape {jnp.shape(value)}; expected a scalar or shape ({size},)."
                )
        return BoundRows(
            **{name: jnp.broadcast_to(jnp.asarray(value, float), (size,)) for name, value in entries.items()}
        )


class BoundRows(eqx.Module):
    """Bounds of a known size, with `linear = quadratic = inf` in hard rows."""

    lower: Float[Array, " rows"]
    upper: Float[Array, " rows"]
    linear: Float[Array, " rows"]
    quadratic: Float[Array, " rows"]
