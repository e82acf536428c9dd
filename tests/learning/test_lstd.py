"""Least-squares temporal differences against dense linear algebra."""

import jax.numpy as jnp
import numpy as np

from planahead.learning.lstd import lstd, monomials


def test_the_value_of_a_markov_chain(x64):
    """With one feature a state, every transition as often as it is likely: v = (1 - γP)⁻¹ c."""
    random = np.random.default_rng(0)
    P, c, discount = random.dirichlet(np.ones(4), size=4), random.normal(size=4), 0.9
    now, after = np.divmod(np.arange(16), 4)
    eye = np.eye(4)
    v = lstd(
        jnp.array(eye[now]), discount * jnp.array(eye[after]), jnp.array(c[now]), weights=jnp.array(P[now, after]),
        ridge=0.0,
    )  # fmt: skip
    np.testing.assert_allclose(v, np.linalg.solve(np.eye(4) - discount * P, c), rtol=1e-10)


def test_instruments_are_orthogonal_to_what_is_left(x64):
    random = np.random.default_rng(1)
    features, after, seen = (jnp.array(random.normal(size=(30, 3))) for _ in range(3))
    target = jnp.array(random.normal(size=30))
    w = lstd(features, after, target, instruments=seen, ridge=0.0)
    np.testing.assert_allclose(seen.T @ (target - (features - after) @ w), 0.0, atol=1e-10)


def test_features_that_are_not_told_apart_share_by_the_ridge(x64):
    same = jnp.ones((5, 2))
    np.testing.assert_allclose(lstd(same, 0.0 * same, jnp.ones(5), ridge=1e-8), [0.5, 0.5], rtol=1e-6)
    # And those that are nothing explain nothing.
    np.testing.assert_array_equal(lstd(0.0 * same, 0.0 * same, jnp.ones(5)), [0.0, 0.0])


def test_monomials_up_to_the_second_degree():
    assert monomials(jnp.zeros((2, 3))).shape == (2, 10)
