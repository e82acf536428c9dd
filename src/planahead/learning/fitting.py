"""Gradient steps on a loss over what is stored: the loop of everything that learns from labels."""

from collections.abc import Callable

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

Terms = PyTree[Float[Array, ""]]
"""Parts of a loss, for the record."""


class Fitted(eqx.Module):
    """What was trained, after the steps."""

    trained: PyTree
    moments: PyTree
    """The optimiser's."""
    losses: Float[Array, " steps"]
    terms: PyTree
    """What `loss_of` told beside the loss, leaves `[steps]`."""


def fit(
    trained: PyTree,
    moments: PyTree,
    optimiser: optax.GradientTransformation,
    loss_of: Callable[[PyTree, PRNGKeyArray], tuple[Float[Array, ""], Terms]],
    steps: int,
    key: PRNGKeyArray,
) -> Fitted:
    """Take `steps` steps down `loss_of(trained, key)`, which draws its own rows with its key.

    >>> import jax.numpy as jnp
    >>> adam, start = optax.adam(0.1), jnp.array(3.0)
    >>> end = fit(start, adam.init(start), adam, lambda x, _: ((x - 1.0) ** 2, None), 200, jax.random.key(0))
    >>> round(float(end.trained), 2)
    1.0
    """

    def step(carry: tuple[PyTree, PyTree], key: PRNGKeyArray):
        trained, moments = carry
        (loss, terms), gradient = eqx.filter_value_and_grad(loss_of, has_aux=True)(trained, key)
        move, moments = optimiser.update(gradient, moments)
        return (eqx.apply_updates(trained, move), moments), (loss, terms)

    carry, (losses, terms) = jax.lax.scan(step, (trained, moments), jax.random.split(key, steps))
    return Fitted(*carry, losses, terms)
