r"""A network in the dynamics: what a problem's own model leaves out.

    f(x, u) = f_base(x, u) + s ∘ MLP((x, u) / c)

    symbol  shape      meaning
    c       [nx + nu]  typical magnitudes of states and controls
    s       [nx]       what the network is to correct at most or so in a step, `SHARE` of the states' magnitudes

The last layer starts at zero: an untrained network adds nothing, and the plan is the base's. Activations are tanh,
smooth, since a planner takes second derivatives of its model.

Reference: T. Salzmann et al., "Real-time neural MPC", IEEE RA-L 8 (2023), whose model is f_base + MLP as well. Far from
the states that it was trained on a network means nothing, and a planner goes there where that looks cheap.
"""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.problem.fields import static
from planahead.problem.problem import Problem
from planahead.problem.wrapped import WrappedProblem

SHARE = 0.1


@final
class ResidualDynamics(WrappedProblem):
    """`base` with a network that corrects its next states.

    **Arguments:**

    - `base`: any problem.
    - `state_scale`, `control_scale`: typical magnitudes, `[nx]` and `[nu]`.
    - `hidden`: units of the hidden layers, of which all have the same number.
    - `layers`: how many of these there are.

    **Raises:** `ValueError` for scales of another size than states and controls, or that are not positive and finite.

    >>> import jax, jax.numpy as jnp, planahead as pa
    >>> base = pa.make_task("mass-spring-damper").problem
    >>> problem = ResidualDynamics(base, (2.0, 2.0), (0.5,), key=jax.random.key(0))
    >>> x, u = jnp.array([1.0, 0.0]), jnp.array([0.1])
    >>> bool(jnp.all(problem.dynamics(x, u) == base.dynamics(x, u)))
    True
    """

    residual_network: eqx.nn.MLP
    residual_scale: tuple[float, ...] = static()
    """c"""

    def __init__(
        self,
        base: Problem,
        state_scale: Sequence[float],
        control_scale: Sequence[float],
        *,
        key: PRNGKeyArray,
        hidden: int = 32,
        layers: int = 2,
    ):
        nx, nu = base.state_size, base.control_size
        scale = (*map(float, state_scale), *map(float, control_scale))
        if (len(state_scale), len(control_scale)) != (nx, nu) or not all(0.0 < c < float("inf") for c in scale):
            raise ValueError(
                f"a network in the dynamics of {type(base).__name__} came with the scales {tuple(state_scale)} and "
                f"{tuple(control_scale)}; {nx} positive, finite numbers for its states and {nu} for its controls were "
                "expected"
            )
        network = eqx.nn.MLP(nx + nu, nx, hidden, layers, activation=jax.nn.tanh, key=key)
        self.base = base
        self.residual_network = eqx.tree_at(
            lambda net: (net.layers[-1].weight, net.layers[-1].bias), network, replace_fn=jnp.zeros_like
        )
        self.residual_scale = scale

    def dynamics(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " nx"]:
        return self.base.dynamics(x, u) + self.correction(x, u)

    def correction(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " nx"]:
        """What is added to the base's next state."""
        scale = jnp.asarray(self.residual_scale, x.dtype)
        return SHARE * scale[: self.state_size] * self.residual_network(jnp.concatenate([x, u]) / scale)
