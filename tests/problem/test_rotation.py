"""Quaternions against SciPy's rotations, and their derivative at rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from planahead.problem import rotation


def random_rotations(seed=0):
    return Rotation.from_quat(np.random.default_rng(seed).normal(size=(20, 4)))


def wxyz(rotations):
    return np.roll(rotations.as_quat(), 1, axis=-1)


def test_matrix_product_and_thrust_axis_are_those_of_scipy(x64):
    one, other = random_rotations(), random_rotations(1)
    p, q = jnp.asarray(wxyz(one)), jnp.asarray(wxyz(other))
    np.testing.assert_allclose(jax.vmap(rotation.matrix)(p), one.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(jax.vmap(rotation.body_z)(p), one.as_matrix()[:, :, 2], atol=1e-12)
    both = jax.vmap(rotation.matrix)(jax.vmap(rotation.product)(p, q))
    np.testing.assert_allclose(both, (one * other).as_matrix(), atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3, 0.5, 3.0])
def test_turning_is_the_exponential(size, x64):
    before = random_rotations()
    rates = size * np.random.default_rng(0).normal(size=(20, 3))
    after = jax.vmap(lambda q, w: rotation.turned(q, w, 0.7))(jnp.asarray(wxyz(before)), jnp.asarray(rates))
    np.testing.assert_allclose(
        jax.vmap(rotation.matrix)(after), (before * Rotation.from_rotvec(0.7 * rates)).as_matrix(), atol=1e-9
    )


def test_turning_has_a_derivative_at_rest():
    slope = jax.jacobian(lambda w: rotation.turned(jnp.array([1.0, 0.0, 0.0, 0.0]), w, 0.5))(jnp.zeros(3))
    np.testing.assert_allclose(slope, 0.25 * np.eye(4, 3, -1), atol=1e-7)


def test_a_matrix_gives_its_quaternion_back_with_w_not_negative(x64):
    half_turns = Rotation.from_rotvec(np.pi * np.eye(3))
    rotations = Rotation.concatenate([random_rotations(), half_turns, Rotation.identity(1)])
    matrices = jnp.asarray(rotations.as_matrix())
    q = jax.vmap(rotation.from_matrix)(matrices)
    assert (q[:, 0] >= -1e-12).all()
    np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(jax.vmap(rotation.matrix)(q), matrices, atol=1e-9)


def test_yaw_turns_about_the_vertical():
    np.testing.assert_allclose(
        rotation.matrix(rotation.from_yaw(0.3)), Rotation.from_euler("z", 0.3).as_matrix(), atol=1e-6
    )
