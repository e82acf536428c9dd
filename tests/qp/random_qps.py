"""Random stage QPs, and their optimality conditions written down once more, densely and in NumPy."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa


def random_qp(seed: int, *, horizon=6, nx=3, nu=2, ng=2, scale=1.0, free_initial_state=False) -> pa.QP:
    """A convex QP with boxes, soft states (one of them hard and wide) and soft general rows."""
    random = np.random.default_rng(seed)

    def definite(n, count):
        roots = random.normal(size=(count, n, n))
        return scale * (roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(n))

    state = random.normal(size=nx)
    data: dict[str, Any] = {
        "A": random.normal(size=(horizon, nx, nx)) / np.sqrt(nx),
        "B": random.normal(size=(horizon, nx, nu)),
        "c": 0.1 * random.normal(size=(horizon, nx)),
        "Q": definite(nx, horizon + 1),
        "R": definite(nu, horizon),
        "S": 0.05 * scale * random.normal(size=(horizon, nu, nx)),
        "q": scale * random.normal(size=(horizon + 1, nx)),
        "r": scale * random.normal(size=(horizon, nu)),
        "C": random.normal(size=(horizon + 1, ng, nx)),
        "D": random.normal(size=(horizon, ng, nu)),
        "initial_state": None if free_initial_state else state,
    }
    soft = {"linear": np.full(nx, 0.5 * scale), "quadratic": np.full(nx, 3.0 * scale)}
    soft["linear"][-1] = np.inf
    return pa.QP(
        **jax.tree.map(jnp.asarray, data),
        control_bounds=pa.StageBounds(-0.6, 0.6),
        state_bounds=pa.StageBounds(
            np.array([-0.5] * (nx - 1) + [-1e3]), np.array([np.inf, *[0.5] * (nx - 2), 1e3]), **soft
        ),
        constraint_bounds=pa.StageBounds(-np.inf, 0.6, linear=20.0 * scale, quadratic=scale),
    )


def stack(qps: list[pa.QP]) -> pa.QP:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *qps)


def lane(tree, index: int):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def with_state(qp: pa.QP, state) -> pa.QP:
    return eqx.tree_at(lambda qp: qp.initial_state, qp, jnp.asarray(state))


WEAK = 3e-5
"""√τ: what λ t = τ leaves on both sides of a row that is only just active, for gradients up to 90 and τ = 1e-11 ·
|gradient|."""


def dense_residual(qp: pa.QP, solution: pa.QPSolution) -> float:
    """The largest violation of the optimality conditions, with the violation of soft rows recomputed from the
    trajectory.

    A soft row's multiplier must be the slope of its price: between 0 and `linear` where nothing is violated,
    `linear + quadratic · s` where s > 0. Multipliers follow the documented order: controls, states, general rows; lower
    sides, then upper.
    """
    packed = jax.tree.map(np.asarray, qp.pack())
    states, controls, costates = (np.asarray(part) for part in (solution.states, solution.controls, solution.costates))
    nu = controls.shape[1]
    z = np.concatenate([np.concatenate([controls, np.zeros((1, nu))]), states], 1)
    rows = np.concatenate([z, np.einsum("kij,kj->ki", packed.G, z)], 1)
    two_sided = np.stack([rows, -rows], 1) - packed.bound
    multipliers = np.asarray(solution.multipliers)
    exists = np.isfinite(packed.bound)
    assert np.all(multipliers[~exists] == 0)
    linear, quadratic = (np.broadcast_to(price[:, None], exists.shape) for price in (packed.linear, packed.quadratic))
    hard = exists & ~(np.isfinite(linear) & np.isfinite(quadratic))
    soft = exists & ~hard
    linear, quadratic = np.where(soft, linear, 0.0), np.where(soft, quadratic, 0.0)
    violation = np.where(exists, np.maximum(-two_sided, 0.0), 0.0)
    worst = [
        np.abs(states[1:] - np.einsum("kij,kj->ki", packed.F, z[:-1]) - packed.c).max(),
        violation[hard].max(initial=0.0),
    ]
    net = multipliers[:, 0] - multipliers[:, 1]
    gradient = np.einsum("kij,kj->ki", packed.H, z) + packed.g
    gradient -= net[:, : nu + states.shape[1]] + np.einsum("kij,ki->kj", packed.G, net[:, nu + states.shape[1] :])
    gradient[:-1] += np.einsum("kij,ki->kj", packed.F, costates[1:])
    gradient[:, nu:] -= costates
    worst.append(np.abs(gradient).max())
    worst.append(np.maximum(-multipliers, 0).max())
    worst.append(np.minimum(np.abs(two_sided), multipliers)[hard].max(initial=0.0))
    # The multiplier of a soft row lies between the slopes of its price just inside and just outside.
    inside = np.where(two_sided > -WEAK, 0.0, linear + quadratic * violation)
    outside = np.where(two_sided > WEAK, 0.0, linear + quadratic * violation)
    beyond = np.maximum(np.maximum(inside - multipliers, multipliers - outside), 0.0)
    worst.append(beyond[soft].max(initial=0.0))
    return float(max(worst))
