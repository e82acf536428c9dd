"""Hard rows as exact penalties: what lets an SQP step from, and end at, trajectories that break them.

Hard rows other than the control box cost ρ per unit of violation inside the iteration, and ρ is raised while a
violation remains. For ρ above the multipliers the solution is the same, and a problem without a feasible trajectory
still has a best one. Reference: J. Nocedal, S. Wright, *Numerical Optimization*, 2nd ed., §17.2, §18.5.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.planning.transcription import RowData
from planahead.qp.lanes import along, largest
from planahead.qp.newton import Rows, sides
from planahead.qp.types import LaneQP, Point

PRICE_RANGE = 1e5
"""Largest over first price of an elastic row: a million times the largest cost gradient is past any multiplier of a
problem in sensible units."""


class Elastic(eqx.Module):
    """The elastic rows of all lanes. A violation is in the units of its row."""

    data: RowData
    rows: Bool[Array, "nodes m B"]

    def __init__(self, data: RowData, control_size: int):
        self.data = data
        hard = ~(jnp.isfinite(data.linear) & jnp.isfinite(data.quadratic))
        self.rows = hard & (jnp.arange(hard.shape[1]) >= control_size)[None, :, None]

    def first_price(self, qp: LaneQP, usable: Bool[Array, " B"]) -> Float[Array, " B"]:
        """Ten times the cost's gradient, rounded up to a power of ten: what is left of ρ in a smoothed plan must not
        move with the data, or derivatives would have to know."""
        gradient = jnp.where(usable, largest(qp.g), 1.0)
        return 10 * 10.0 ** jnp.ceil(jnp.log10(jnp.maximum(gradient, 1.0)))

    def priced(self, qp: LaneQP, price: Float[Array, " B"]) -> LaneQP:
        """`qp` with its elastic rows at `price`."""
        linear = jnp.where(self.rows, along(price, self.rows), self.data.linear)
        quadratic = jnp.where(self.rows, 0.0, self.data.quadratic)
        return eqx.tree_at(lambda qp: (qp.linear, qp.quadratic), qp, (linear, quadratic))

    def violation(self, qp: LaneQP) -> Float[Array, " B"]:
        """The largest violation where `qp` was made."""
        return self._largest(violations(qp.bound, jnp.zeros_like(qp.linear)))

    def remaining(self, qp: LaneQP, point: Point) -> Float[Array, " B"]:
        """The largest violation that the solution `point` of `qp` keeps."""
        return self._largest(jnp.where(Rows(qp).exists, point.s, 0.0))

    def _largest(self, two_sided: Float[Array, "nodes 2 m B"]) -> Float[Array, " B"]:
        return jnp.max(jnp.where(self.rows[:, None], two_sided, 0.0), (0, 1, 2), initial=0.0)


def violations(bound: Float[Array, "nodes 2 m *B"], rows: Float[Array, "nodes m *B"]) -> Float[Array, "nodes 2 m *B"]:
    """max(0, b - σ h)."""
    return jnp.maximum(jnp.where(jnp.isfinite(bound), bound, -jnp.inf) - sides(rows), 0.0)
