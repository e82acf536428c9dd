"""Lanes that are due are computed, and no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.planning.where_due import where_due


@pytest.mark.parametrize("lanes", [1, 5, 40])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_due_lanes_get_the_function_and_the_others_what_they_had(lanes: int, share: float):
    due = jax.random.uniform(jax.random.key(0), (lanes,)) < share
    values = jnp.arange(1.0, lanes + 1.0)
    shared = jnp.array([2.0, 3.0])

    def function(value, pair):
        return {"sum": value + pair, "root": jnp.sqrt(value)}

    def lane(d, v):
        return where_due(function, d, {"sum": jnp.zeros(2), "root": -v}, v, shared, block=4)

    found = jax.jit(jax.vmap(lane))(due, values)
    np.testing.assert_array_equal(found["sum"], np.where(due[:, None], values[:, None] + shared[None], 0.0))
    np.testing.assert_allclose(found["root"], np.where(due, np.sqrt(values), -values), rtol=1e-6)


def test_blocks_are_as_many_as_the_lanes_that_are_due_need():
    calls: list[int] = []

    def function(value):
        jax.debug.callback(lambda _: calls.append(1), value)
        return 2 * value

    due = jnp.arange(40) % 10 == 3
    jax.block_until_ready(jax.jit(jax.vmap(lambda d, v: where_due(function, d, v, v, block=2)))(due, jnp.ones(40)))
    jax.effects_barrier()
    assert len(calls) == 4  # two blocks of two


def test_nested_batches_are_one_and_a_single_lane_is_a_batch_too():
    due, values = jnp.array([[True, False], [False, True], [True, True]]), jnp.arange(6.0).reshape(3, 2)
    nested = jax.vmap(jax.vmap(lambda d, v: where_due(jnp.square, d, -v, v)))
    np.testing.assert_array_equal(nested(due, values), np.where(due, values**2, -values))
    assert float(where_due(jnp.square, jnp.array(True), jnp.array(0.0), jnp.array(3.0))) == 9.0


@pytest.mark.parametrize(
    ("otherwise", "message"),
    [
        (-1, r"the function gives float32\[\] where `otherwise` is int32\[\]; give it the same shapes and formats"),
        (jnp.zeros(3), r"the function gives float32\[\] where `otherwise` is float32\[3\]"),
    ],
)
def test_what_does_not_fit_is_refused(otherwise, message: str):
    with pytest.raises(TypeError, match=message):
        where_due(jnp.sqrt, jnp.array(True), otherwise, jnp.array(3.0))


def test_it_carries_no_gradient():
    assert float(jax.grad(lambda v: v + where_due(jnp.square, jnp.array(True), v, v))(3.0)) == 1.0
