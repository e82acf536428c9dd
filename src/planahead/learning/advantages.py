r"""Generalised advantages: how much better than expected an action was, over all horizons at once.

    δ_t = r_t + γ (1 - terminated_t) V(o'_t) - V(o_t)
    A_t = δ_t + γ λ (1 - terminated_t) (1 - truncated_t) A_{t+1}

o' is the observation before any reset. Where time ran out the world would have gone on: V(o') is earned all the same,
and only the sum over later steps, which belong to another episode, ends.

Reference: J. Schulman et al., "High-dimensional continuous control using generalized advantage estimation", 2016.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def generalised_advantages(
    reward: Float[Array, "T n"],
    value: Float[Array, "T n"],
    next_value: Float[Array, "T n"],
    terminated: Bool[Array, "T n"],
    truncated: Bool[Array, "T n"],
    discount: float,
    decay: float,
) -> Float[Array, "T n"]:
    """A for `T` steps of `n` environments; `next_value` is V of the observation before any reset, `decay` is λ.

    >>> ones, no = jnp.ones((2, 1)), jnp.zeros((2, 1), bool)
    >>> generalised_advantages(ones, 0 * ones, 0 * ones, no, no, 0.9, 1.0)[:, 0].tolist()
    [1.899999976158142, 1.0]
    """
    surprise = reward + discount * jnp.where(terminated, 0.0, next_value) - value

    def backwards(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        surprise, ended = now
        advantage = surprise + discount * decay * jnp.where(ended, 0.0, later)
        return advantage, advantage

    _, advantages = jax.lax.scan(
        backwards, jnp.zeros_like(surprise[0]), (surprise, terminated | truncated), reverse=True
    )
    return advantages
