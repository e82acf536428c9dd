r"""Model-predictive value expansion: a plan's own predictions teach the critic.

    x_0 … x_H    what the plan predicts,    r_k    the reward that it predicts for its step k,    V_k = V(o(x_k))

    G_H = V_H,     G_k = r_k + γ G_{k+1},     L = mean over known k of ½ (V_k - G_k)²           no gradient through G

A step is unknown from where the task cannot tell what would happen, beyond a gate for instance; G then begins at the
last state that is known. Only the critic learns from this; where both learn by one step whose gradient is clipped, the
policy's share of it shrinks.

Reference: A. Romero, E. Aljalbout, Y. Song, D. Scaramuzza, "Actor-critic model predictive control: differentiable
optimization meets reinforcement learning", arXiv 2306.09852, 2025.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def expansion_loss(
    values: Float[Array, " nodes"], rewards: Float[Array, " H"], known: Bool[Array, " H"], discount: float
) -> Float[Array, ""]:
    """L of one plan; 0 where nothing is known. `known` is false from some step on.

    >>> zero, one = jnp.zeros(3), jnp.ones(2)
    >>> float(expansion_loss(zero, one, jnp.array([True, True]), 0.5))          # ½ (1.5² + 1²) / 2
    0.8125
    >>> float(expansion_loss(zero, one, jnp.array([True, False]), 0.5))
    0.5
    """
    fixed = jax.lax.stop_gradient(values)

    def backwards(after: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        value, reward, known = now
        goal = jnp.where(known, reward + discount * after, value)
        return goal, goal

    _, goals = jax.lax.scan(backwards, fixed[-1], (fixed[:-1], rewards, known), reverse=True)
    error = jnp.where(known, values[:-1] - jax.lax.stop_gradient(goals), 0.0)
    return 0.5 * jnp.sum(error**2) / jnp.maximum(jnp.sum(known), 1)
