"""Two critics that judge the same point, so that the smaller of their values is not optimistic.

    Q_i(s, z),  i = 1, 2,     z ∈ [-1, 1]ⁿ: the action, or the planner's parameters φ, in unit coordinates

The minimum over i enters targets and policy losses (Fujimoto et al. 2018, "Addressing function approximation error in
actor-critic methods"). The weights of the two networks are stacked along a leading axis: one batched matrix product
for both."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.policies import HIDDEN, Network

CRITICS = 2
Critic = Callable[[Float[Array, "batch observation"], Float[Array, "batch point"]], Float[Array, "2 batch"]]
"""Rewards to go of pairs of observation and point, to be maximised: `TwinCritic`, or what is made of one."""

VALUE_GAIN = 1.0  # last layer: values start at order one, whatever the observation


class TwinCritic(eqx.Module):
    """Two values for every pair of observation and point.

    >>> critic = TwinCritic((1.0, 2.0), point_size=1, hidden=(8,), key=jax.random.key(0))
    >>> critic(jnp.zeros((5, 2)), jnp.zeros((5, 1))).shape
    (2, 5)
    """

    networks: Network
    """Every leaf with a leading axis of length two."""

    def __init__(
        self,
        observation_scale: Sequence[float],
        point_size: int,
        *,
        hidden: Sequence[int] = HIDDEN,
        key: PRNGKeyArray,
    ):
        scale = (*observation_scale, *[1.0] * point_size)
        self.networks = eqx.filter_vmap(lambda k: Network(scale, 1, hidden=hidden, last_gain=VALUE_GAIN, key=k))(
            jax.random.split(key, CRITICS)
        )

    def __call__(
        self, observation: Float[Array, "batch observation"], point: Float[Array, "batch point"]
    ) -> Float[Array, "2 batch"]:
        inputs = jnp.concatenate([observation, point], axis=1)
        return jax.vmap(lambda network: jax.vmap(network)(inputs)[:, 0])(self.networks)
