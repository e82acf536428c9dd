r"""A network that proposes which rows of a QP will be active: `solve_qp(qp, active_set=guide(state))`.

    P(row r is held | x) = sigmoid(ρ_ψ(x)_r),    P(row r is violated, for a price | x) alike,    proposed where above ½

The active set of a parametric QP is a piecewise constant function of its parameter, here of the state: a classifier
per row. What it is worth is what `qp/active_set.py` makes of it: a proposal that is right in every row is the solution
after one linear system, one that is wrong in a single row costs that system and is not used. So what counts is the
share of states in which all rows are right, which falls with their number; it says nothing of states beyond those that
were learned from.

Trained by `learning.fit_active_set_guide`. Reference: S. Cauligi et al., "CoCo: online mixed-integer control via
supervised learning", RA-L 2022, and M. Klaučo, M. Kalúz, M. Kvasnica, "Machine learning-based warm starting of active
set methods in embedded model predictive control", EAAI 2019.
"""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.policies.network import Network
from planahead.qp.active_set import ActiveSet


@final
class ActiveSetGuide(eqx.Module):
    """From the state to an active set.

    **Arguments:**

    - `scale`: typical magnitudes of the states.
    - `rows`: nodes, sides, and rows of a node, the shape of an `ActiveSet`.
    - `hidden`, `key`: of the network.

    >>> import jax.numpy as jnp
    >>> guide = ActiveSetGuide((1.0, 1.0), (21, 2, 3), key=jax.random.key(0))
    >>> guide(jnp.array([0.5, 0.0])).held.shape
    (21, 2, 3)
    """

    network: Network
    rows: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        scale: Sequence[float],
        rows: tuple[int, int, int],
        *,
        hidden: Sequence[int] = (128, 128),
        key: PRNGKeyArray,
    ):
        nodes, sides, each = rows
        self.network = Network(scale, 2 * nodes * sides * each, hidden=hidden, last_gain=0.1, key=key)
        self.rows = rows

    def logits(self, state: Float[Array, " nx"]) -> Float[Array, "kinds nodes sides rows"]:
        """Of being held, and of being violated."""
        return self.network(state).reshape(2, *self.rows)

    def __call__(self, state: Float[Array, " nx"]) -> ActiveSet:
        """What is proposed at `state`."""
        held, violated = jax.lax.stop_gradient(self.logits(state)) > 0
        return ActiveSet(held | violated, violated)
