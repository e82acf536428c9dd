r"""A network learns which rows are active: one logistic regression per row, on the active sets of solved QPs.

min_ψ  mean_i Σ_r  [ log(1 + exp(ρ_ψ(x_i)_r)) - y_i,r ρ_ψ(x_i)_r ]        y_i,r ∈ {0, 1}: row r held (violated) at x_i
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from planahead.learning.fitting import fit
from planahead.policies.active_set_guide import ActiveSetGuide
from planahead.qp.active_set import ActiveSet


class FittedActiveSet(eqx.Module):
    """A guide, and how often it is right."""

    guide: ActiveSetGuide
    right: Float[Array, ""]
    """Share of the states, among those that were not learned from, in which every row is."""
    rows_right: Float[Array, ""]
    """Share of the rows in those, of rows that are ever active."""


def fit_active_set_guide(
    states: Float[Array, "number nx"],
    sets: ActiveSet,
    usable: Bool[Array, " number"],
    key: PRNGKeyArray,
    *,
    hidden: tuple[int, ...] = (128, 128),
    fit_steps: int = 4000,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
) -> FittedActiveSet:
    """Fit a guide to the active `sets` [number] at `states`, those of QPs that were solved (`usable`).

    A tenth is kept to judge by. Adam, its step on a cosine that ends at 0.

    **Raises:** `ValueError` where fewer than 20 are usable.
    """
    kept = jnp.flatnonzero(usable)
    number = kept.shape[0]
    if number < 20:
        raise ValueError(f"{number} solved QPs; at least 20 are needed to learn from some and judge by others")
    states, sets = jax.tree.map(lambda leaf: leaf[kept], (states, sets))
    start, fitting = jax.random.split(key)
    scale = [float(value) for value in jnp.maximum(jnp.sqrt(jnp.mean(states**2, axis=0)), 1e-6)]
    nodes, sides, rows = sets.held.shape[1:]
    guide = ActiveSetGuide(scale, (nodes, sides, rows), hidden=hidden, key=start)
    trained, fixed = eqx.partition(guide, eqx.is_inexact_array)
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, fit_steps))
    learned = (9 * number) // 10

    @eqx.filter_jit
    def run(trained: PyTree, states: Array, sets: ActiveSet) -> tuple[PyTree, Array, Array]:
        wanted = jnp.stack([sets.held, sets.violated], axis=1).astype(states.dtype)

        def loss_of(trained: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], None]:
            which = jax.random.randint(key, (batch_size,), 0, learned)
            logits = jax.vmap(eqx.combine(trained, fixed).logits)(states[which])
            losses = optax.sigmoid_binary_cross_entropy(logits, wanted[which])
            return jnp.sum(jnp.mean(losses, axis=0)), None

        ended = fit(trained, optimiser.init(trained), optimiser, loss_of, fit_steps, fitting).trained
        judged = jax.tree.map(lambda leaf: leaf[learned:], sets)
        proposed = jax.vmap(eqx.combine(ended, fixed))(states[learned:])
        same = (proposed.held == judged.held) & (proposed.violated == judged.violated)
        ever = jnp.any(sets.held, axis=0)
        rows_right = jnp.sum(same & ever[None]) / jnp.maximum(jnp.sum(ever) * same.shape[0], 1)
        return ended, jnp.mean(jnp.all(same, axis=(1, 2, 3))), rows_right

    ended, right, rows_right = run(trained, states, sets)
    return FittedActiveSet(eqx.combine(ended, fixed), right, rows_right)
