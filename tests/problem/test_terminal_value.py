"""A problem that ends in a value: with the right one the horizon does not matter."""

import dataclasses
from typing import final

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jaxtyping import Array, Float

import planahead as pa
from planahead.problem import EndingInValue, Problem, QuadraticValue, TerminalValue, overrides

A, B = np.array([[1.1, 0.3], [-0.2, 1.2]]), np.array([[0.0], [1.0]])  # unstable
Q, R, DISCOUNT = np.diag([1.0, 0.5]), 0.3, 0.9
X = np.array([1.0, -0.7])


@final
class LinearQuadratic(Problem):
    """x⁺ = A x + B u, cost ½ xᵀQx + ½ R u²; its own terminal cost is as wrong as can be."""

    horizon: int = pa.static(10)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    weight: Array = pa.parameter(R, low=0.0, high=1.0)

    def dynamics(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return jnp.asarray(A) @ x + jnp.asarray(B) @ u

    def stage_residual(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 3"]:
        return jnp.concatenate([jnp.sqrt(jnp.asarray(np.diag(Q))) * x, jnp.sqrt(self.weight) * u])

    def terminal_residual(self, x: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return 100.0 * (x - 3.0)


@final
class Scalar(TerminalValue):
    """½ xᵀPx as a number."""

    matrix: Float[Array, "2 2"]

    @property
    def squares(self) -> bool:
        return False

    def cost(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        return 0.5 * x @ self.matrix @ x


def riccati() -> tuple[np.ndarray, np.ndarray]:
    """P and K of the discounted regulator."""
    root = np.sqrt(DISCOUNT)
    P = scipy.linalg.solve_discrete_are(root * A, root * B, Q, np.array([[R]]))
    K = np.linalg.solve(R + DISCOUNT * B.T @ P @ B, DISCOUNT * B.T @ P @ A)
    return P, K


def squares(P: np.ndarray) -> QuadraticValue:
    return QuadraticValue(jnp.asarray(np.linalg.cholesky(P).T), jnp.zeros(2))


@pytest.mark.parametrize("horizon", [1, 3, 12])
@pytest.mark.parametrize("kind", ["squares", "scalar"])
def test_with_the_cost_to_go_every_horizon_is_optimal(x64, horizon, kind):
    P, K = riccati()
    value = squares(P) if kind == "squares" else Scalar(jnp.asarray(P))
    base = dataclasses.replace(LinearQuadratic(), discount=DISCOUNT)
    plan = pa.solve(EndingInValue(base, value, horizon=horizon), jnp.asarray(X))
    assert int(plan.status) == pa.Status.SOLVED
    np.testing.assert_allclose(plan.controls[0], -K @ X, atol=1e-7)
    np.testing.assert_allclose(plan.cost, 0.5 * X @ P @ X, rtol=1e-9)


@pytest.mark.long
def test_it_answers_for_the_problem_inside(x64):
    P, _ = riccati()
    base = LinearQuadratic()
    assert not overrides(EndingInValue(base, squares(P)), "terminal_cost")
    assert overrides(EndingInValue(base, Scalar(jnp.asarray(P))), "terminal_cost")
    assert not overrides(EndingInValue(base, Scalar(jnp.asarray(P))), "stage_cost")
    assert EndingInValue(base, squares(P)).plans_actions
    step = pa.SQP.real_time(derivative="step")
    pa.solve(EndingInValue(base, squares(P)), jnp.asarray(X), planner=step)
    with pytest.raises(ValueError, match=r"EndingInValue\.terminal_cost is a scalar cost"):
        pa.solve(EndingInValue(base, Scalar(jnp.asarray(P))), jnp.asarray(X), planner=step)


def test_parameters_per_stage_keep_their_horizon(x64):
    P, _ = riccati()
    base = pa.per_stage(LinearQuadratic(), "weight")
    assert EndingInValue(base, squares(P)).horizon == 10
    with pytest.raises(ValueError, match="horizon=5, and LinearQuadratic has parameters for each of its 11 stages"):
        EndingInValue(base, squares(P), horizon=5)
