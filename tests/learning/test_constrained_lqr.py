"""The control step of guided policy search against dense Gaussians and an optimiser that knows nothing of Riccati."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jaxtyping import Array

from planahead.learning.constrained_lqr import (
    LinearGaussian,
    LinearQuadratic,
    control_step,
    divergence,
    expected_cost,
    moments,
    soft_lqr,
)

N, NX, NU = 3, 2, 1
STEP = jax.jit(control_step)
COST = jax.jit(expected_cost)


def world(seed: int = 0) -> LinearQuadratic:
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> Array:
        return jnp.asarray(rng.normal(size=shape))

    def positive(*shape: int) -> Array:
        root = rng.normal(size=(*shape, shape[-1]))
        return jnp.asarray(root @ np.swapaxes(root, -1, -2) + 0.3 * np.eye(shape[-1]))

    return LinearQuadratic(
        A=array(N, NX, NX), B=array(N, NX, NU), d=array(N, NX), C=positive(N, NX + NU), c=array(N, NX + NU),
        P=positive(NX), p=array(NX), mean=array(NX), covariance=0.2 * positive(NX), noise=0.1 * positive(NX),
    )  # fmt: skip


def controller(seed: int) -> LinearGaussian:
    rng = np.random.default_rng(seed)
    spread = 0.5 + rng.uniform(size=(N, NU, NU))
    return LinearGaussian(*(jnp.asarray(x) for x in (rng.normal(size=(N, NU, NX)), rng.normal(size=(N, NU)), spread)))


def joint(of: LinearQuadratic, p: LinearGaussian) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the whole trajectory (x_0, u_0, …, x_N) as one dense Gaussian."""
    mean, covariance = np.asarray(of.mean), np.asarray(of.covariance)
    last = np.eye(NX)  # how x_t follows from everything so far
    for t in range(N):
        for step, offset, spread in (
            (np.asarray(p.gain[t]) @ last, np.asarray(p.offset[t]), np.asarray(p.covariance[t])),
            (None, np.asarray(of.d[t]), np.asarray(of.noise)),
        ):
            if step is None:
                control = np.zeros((NU, len(mean)))
                control[:, -NU:] = np.eye(NU)
                step = np.asarray(of.A[t]) @ np.pad(last, ((0, 0), (0, NU))) + np.asarray(of.B[t]) @ control
            cross = step @ covariance
            covariance = np.block([[covariance, cross.T], [cross, cross @ step.T + spread]])
            mean = np.concatenate([mean, step @ mean + offset])
        last = np.zeros((NX, len(mean)))
        last[:, -NX:] = np.eye(NX)
    return mean, covariance


def dense_divergence(p: tuple[np.ndarray, np.ndarray], q: tuple[np.ndarray, np.ndarray]) -> float:
    apart, precision = q[0] - p[0], np.linalg.inv(q[1])
    logs = np.linalg.slogdet(q[1])[1] - np.linalg.slogdet(p[1])[1]
    return 0.5 * (np.trace(precision @ p[1]) + apart @ precision @ apart - len(apart) + logs)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_divergence_is_that_of_dense_gaussians(x64: None, seed: int):
    of, p, q = world(seed), controller(seed), controller(seed + 10)
    found = divergence(p, q, moments(of, p))
    np.testing.assert_allclose(found, dense_divergence(joint(of, p), joint(of, q)), rtol=1e-9)
    assert abs(float(divergence(p, p, moments(of, p)))) < 1e-12


def test_the_cost_is_that_of_the_dense_gaussian(x64: None):
    of, p = world(), controller(1)
    mean, covariance = joint(of, p)
    second, width, cost = covariance + np.outer(mean, mean), NX + NU, 0.0
    for t in range(N):
        z = slice(t * width, (t + 1) * width)
        cost += 0.5 * np.trace(np.asarray(of.C[t]) @ second[z, z]) + np.asarray(of.c[t]) @ mean[z]
    cost += 0.5 * np.trace(np.asarray(of.P) @ second[-NX:, -NX:]) + np.asarray(of.p) @ mean[-NX:]
    np.testing.assert_allclose(expected_cost(of, p), cost, rtol=1e-10)


@pytest.mark.parametrize("bound", [1e-3, 0.1, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_control_step_uses_up_its_divergence(x64: None, bound: float, seed: int):
    of, policy = world(seed), controller(seed)
    found = STEP(of, policy, jnp.asarray(bound))
    assert bool(found.constrained)
    np.testing.assert_allclose(found.divergence, bound, rtol=1e-6)
    assert COST(of, found.controller) < COST(of, policy)
    dense = dense_divergence(joint(of, found.controller), joint(of, policy))
    np.testing.assert_allclose(dense, bound, rtol=1e-6)


@pytest.mark.long
def test_a_bound_that_does_not_bind_leaves_the_regulator(x64: None):
    """Then the gains are LQR's, of which there is one more oracle: the same matrices as one dense quadratic program."""
    of, policy = world(), controller(0)
    found = STEP(of, policy, jnp.asarray(1e12))
    assert not bool(found.constrained)

    def cost(controls: Array) -> Array:
        x, total = of.mean, jnp.zeros(())
        for t in range(N):
            z = jnp.concatenate([x, controls[t]])
            total += 0.5 * z @ of.C[t] @ z + of.c[t] @ z
            x = of.A[t] @ x + of.B[t] @ controls[t] + of.d[t]
        return total + 0.5 * x @ of.P @ x + of.p @ x

    flat = jnp.zeros(N * NU)
    slope = jax.grad(lambda u: cost(u.reshape(N, NU)))(flat)
    bend = jax.hessian(lambda u: cost(u.reshape(N, NU)))(flat)
    best = -np.linalg.solve(bend, slope).reshape(N, NU)
    first = found.controller.gain[0] @ of.mean + found.controller.offset[0]
    np.testing.assert_allclose(first, best[0], rtol=1e-4)


def test_no_controller_within_the_bound_is_cheaper(x64: None):
    """Against SLSQP over all gains, offsets and variances."""
    of, policy, bound = world(), controller(0), 0.1
    found = STEP(of, policy, jnp.asarray(bound))
    sizes = [N * NU * NX, N * NU, N * NU]

    def made(flat: Array) -> LinearGaussian:
        gain, offset, log = jnp.split(flat, np.cumsum(sizes)[:-1])
        spread = jnp.exp(log).reshape(N, NU, NU)
        return LinearGaussian(gain.reshape(N, NU, NX), offset.reshape(N, NU), spread)

    def apart(flat: Array) -> Array:
        p = made(flat)
        return bound - divergence(p, policy, moments(of, p))

    cost = jax.jit(jax.value_and_grad(lambda flat: expected_cost(of, made(flat))))
    room = jax.jit(jax.value_and_grad(apart))
    start = np.concatenate([np.ravel(policy.gain), np.ravel(policy.offset), np.log(np.ravel(policy.covariance))])
    end = scipy.optimize.minimize(
        lambda x: float(cost(x)[0]), start, jac=lambda x: np.asarray(cost(x)[1]), method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x: float(room(x)[0]), "jac": lambda x: np.asarray(room(x)[1])},
        options={"maxiter": 300, "ftol": 1e-9},
    )  # fmt: skip
    assert end.success
    np.testing.assert_allclose(COST(of, found.controller), end.fun, rtol=1e-6)


def test_a_great_multiplier_is_the_policy_itself(x64: None):
    of, policy = world(), controller(0)
    same = soft_lqr(of, policy, jnp.asarray(1e12))
    np.testing.assert_allclose(same.gain, policy.gain, atol=1e-8)
    np.testing.assert_allclose(same.covariance, policy.covariance, rtol=1e-8)
