"""Large batches are worked through in blocks, and nobody sees it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.planning import problem_batch
from planahead.qp import batching
from planahead.qp.batching import in_blocks, over_lanes, spread


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("lanes", [1, 7, 8, 9, 40, 41])
def test_blocks_give_what_the_whole_batch_gives(lanes, cores, monkeypatch):
    monkeypatch.setattr(batching, "_cores", lambda: cores)
    sizes = []

    def kernel(lanes, in_lanes, shared, pair):
        sizes.append(lanes)
        assert in_lanes == (False, {"x": True, "n": True}) and pair["x"].shape == (3, lanes)
        return {"sum": shared @ pair["x"], "n": pair["n"] + lanes * 0}

    shared, x = jnp.arange(3.0), jnp.asarray(np.random.default_rng(0).normal(size=(3, lanes)))
    arguments = (shared, {"x": x, "n": jnp.arange(lanes)})
    result = in_blocks(kernel, 1)(lanes, (False, {"x": True, "n": True}), *arguments)
    np.testing.assert_allclose(result["sum"], shared @ x, rtol=1e-6)
    np.testing.assert_array_equal(result["n"], np.arange(lanes))
    # Blocks of whole vectors, as even as these allow: one, and two for each of several cores.
    assert sizes == [min(lanes, 8) if cores == 1 else {40: 24, 41: 24}.get(lanes, lanes)]


def test_blocks_inside_vmap_and_jit(monkeypatch):
    monkeypatch.setattr(batching, "_cores", lambda: 1)

    def kernel(lanes, in_lanes, scale, x):
        return scale * spread(lanes, in_lanes[1], x)

    function = over_lanes(in_blocks(kernel, 8))
    xs = jnp.arange(30.0).reshape(5, 6)
    found = jax.jit(jax.vmap(jax.vmap(function, (None, 0)), (None, 0)))(2.0, xs)
    np.testing.assert_array_equal(found, 2 * xs)


@pytest.mark.slow
def test_plans_and_their_derivatives_are_those_of_one_block(monkeypatch):
    problem = pa.make_task("mass-spring-damper").problem
    states = jax.random.uniform(jax.random.key(0), (40, 2), minval=-1.0, maxval=1.0)

    def first_controls(problem):
        plans = jax.vmap(lambda state: pa.solve(problem, state))(states)
        return plans.controls[:, 0].sum(), plans

    def study():
        jax.clear_caches()
        return jax.value_and_grad(first_controls, has_aux=True)(problem)

    monkeypatch.setattr(batching, "_cores", lambda: 1)
    (_, whole), slope = study()
    monkeypatch.setattr(problem_batch, "_CACHE", 1.0)
    (_, blocks), slope_of_blocks = study()
    np.testing.assert_array_equal(blocks.status, whole.status)
    np.testing.assert_allclose(blocks.controls, whole.controls, atol=1e-5)
    for one, other in zip(jax.tree.leaves(slope_of_blocks), jax.tree.leaves(slope), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
