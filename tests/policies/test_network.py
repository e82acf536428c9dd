"""The network: its start, its scale, and that a batch is many single calls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.policies import Network


def test_weights_are_orthogonal_with_their_gains():
    network = Network((1.0,) * 16, 4, hidden=(16, 16), last_gain=0.01, key=jax.random.key(0))
    for layer, gain in zip(network.layers, (2**0.5, 2**0.5, 0.01), strict=True):
        product = layer.weight.T @ layer.weight
        np.testing.assert_allclose(product, gain**2 * jnp.eye(layer.weight.shape[1]), atol=1e-5)
        assert not layer.bias.any()


def test_inputs_are_divided_by_their_scale():
    key = jax.random.key(1)
    raw, scaled = (Network(scale, 2, hidden=(8,), last_gain=1.0, key=key) for scale in ((1.0, 1.0), (10.0, 0.5)))
    x = jnp.array([0.3, -0.7])
    np.testing.assert_allclose(scaled(x * jnp.array([10.0, 0.5])), raw(x), rtol=1e-6)


def test_a_batch_is_many_single_calls():
    network = Network((1.0, 2.0, 3.0), 2, last_gain=1.0, key=jax.random.key(2))
    batch = jax.random.normal(jax.random.key(3), (7, 3))
    np.testing.assert_allclose(jax.vmap(network)(batch), jnp.stack([network(x) for x in batch]), rtol=1e-5, atol=1e-6)


def test_what_is_not_shown_does_not_matter():
    """And what is shown is scaled as without `sees`, in the order that was asked for."""
    key, x = jax.random.key(1), jnp.array([0.3, -0.7, 5.0])
    part = Network((1.0, 2.0, 10.0), 2, hidden=(8,), last_gain=1.0, sees=(2, 0), key=key)
    small = Network((10.0, 1.0), 2, hidden=(8,), last_gain=1.0, key=key)
    np.testing.assert_array_equal(part(x), small(x[jnp.array([2, 0])]))
    np.testing.assert_array_equal(part(x), part(x.at[1].set(99.0)))


@pytest.mark.parametrize("sees", [(), (0, 0), (3,), (-1,)])
def test_entries_that_are_none_are_refused(sees: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"some of 0 … 2 were expected, each once \(None for all\)"):
        Network((1.0,) * 3, 1, last_gain=1.0, sees=sees, key=jax.random.key(0))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_none_is_refused(scale: float):
    with pytest.raises(ValueError, match="give every input a positive, finite scale"):
        Network((1.0, scale), 1, last_gain=1.0, key=jax.random.key(0))
