"""Identities of differences on circles and of rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa

pytestmark = pytest.mark.usefixtures("x64")


def rotation(vector):
    """The quaternion of a rotation vector, from the half angle."""
    angle = np.linalg.norm(vector)
    return jnp.asarray([np.cos(angle / 2), *(np.sin(angle / 2) * np.asarray(vector) / angle)])


def product(p, q):
    """The Hamilton product, w first."""
    w = p[0] * q[0] - jnp.dot(p[1:], q[1:])
    return jnp.concatenate([w[None], p[0] * q[1:] + q[0] * p[1:] + jnp.cross(p[1:], q[1:])])


def random_rotations(count: int) -> np.ndarray:
    quaternions = np.random.default_rng(1).normal(size=(count, 4))
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def test_angles_are_wrapped_and_keep_their_direction():
    a, b = np.random.default_rng(0).uniform(-20, 20, size=(2, 200))
    difference = np.asarray(pa.angle_difference(jnp.asarray(a), jnp.asarray(b)))
    assert (difference >= -np.pi).all() and (difference < np.pi).all()
    np.testing.assert_allclose(np.exp(1j * difference), np.exp(1j * (a - b)), atol=1e-12)
    np.testing.assert_allclose(pa.angle_difference(jnp.asarray(a) + 2 * np.pi, jnp.asarray(b)), difference, atol=1e-12)
    assert float(jax.grad(pa.angle_difference)(3.0, -3.0)) == 1.0


def test_a_rotation_differs_from_itself_and_its_double_by_nothing():
    for q in random_rotations(20):
        np.testing.assert_allclose(pa.quaternion_difference(jnp.asarray(q), jnp.asarray(q)), 0.0, atol=1e-15)
        np.testing.assert_allclose(pa.quaternion_difference(-jnp.asarray(q), jnp.asarray(q)), 0.0, atol=1e-15)


def test_the_difference_is_the_rotation_vector_in_the_frame_of_the_first():
    """2 sin(θ/2) along the axis: θ to second order, for p ⊗ (rotation by θ); its length does not depend on p."""
    vector = np.array([0.02, -0.03, 0.05])
    angle = np.linalg.norm(vector)
    for p in random_rotations(20):
        q = product(jnp.asarray(p), rotation(vector))
        difference = np.asarray(pa.quaternion_difference(q, jnp.asarray(p)))
        np.testing.assert_allclose(difference, vector * 2 * np.sin(angle / 2) / angle, rtol=1e-10)
        back = np.asarray(pa.quaternion_difference(jnp.asarray(p), q))
        np.testing.assert_allclose(np.linalg.norm(back), np.linalg.norm(difference), rtol=1e-12)


def test_the_difference_is_differentiable_where_rotations_agree():
    p = jnp.asarray(random_rotations(1)[0])
    slope = jax.jacobian(lambda v: pa.quaternion_difference(product(p, jnp.concatenate([jnp.ones(1), v / 2])), p))(
        jnp.zeros(3)
    )
    np.testing.assert_allclose(slope, np.eye(3), atol=1e-14)
