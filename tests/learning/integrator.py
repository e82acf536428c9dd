"""A double integrator that drifts off by itself, and a linear-quadratic problem whose solution is known in closed form.

p⁺ = a p + h v,  v⁺ = a v + h u,      cost ½ Σ (p² + 0.1 v² + 0.01 u²) over N steps and at the end
"""

import dataclasses
import math
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

import planahead as pa
from planahead.problem import Problem
from planahead.tasks import Environment, StepInfo, Task, Transition, constant

STEP = 0.2
GROWTH = 1.3
HORIZON = 10
WEIGHTS = (1.0, 0.1, 0.01)


class IntegratorState(eqx.Module):
    x: Float[Array, " 2"]
    step: Int[Array, ""]


@final
class Integrator(Environment[IntegratorState]):
    """Starts at rest at 1 ± spread, and loses the squares of position and velocity."""

    start_spread: Array = constant(0.0)

    observation_names: tuple[str, ...] = pa.static(("position", "velocity"))
    observation_low: tuple[float, ...] = pa.static((-math.inf,) * 2)
    observation_high: tuple[float, ...] = pa.static((math.inf,) * 2)
    observation_scale: tuple[float, ...] = pa.static((1.0, 2.0))
    action_names: tuple[str, ...] = pa.static(("acceleration",))
    action_low: tuple[float, ...] = pa.static((-20.0,))
    action_high: tuple[float, ...] = pa.static((20.0,))
    time_step: float = pa.static(STEP)
    episode_steps: int = pa.static(25)

    def reset(self, key: PRNGKeyArray) -> IntegratorState:
        spread = self.start_spread * jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return IntegratorState(jnp.array([1.0, 0.0]) + spread, jnp.array(0))

    def observe(self, state: IntegratorState) -> Float[Array, " 2"]:
        return state.x

    def step(self, state: IntegratorState, action: Float[Array, " 1"], key: PRNGKeyArray) -> Transition:
        del key
        after = IntegratorState(moved(state.x, action), state.step + 1)
        lost = jnp.abs(after.x[0]) > 3.0
        return Transition(
            state=after,
            observation=after.x,
            reward=-jnp.sum(jnp.clip(after.x, -3.0, 3.0) ** 2),
            terminated=lost,
            truncated=~lost & (after.step >= self.episode_steps),
            info=StepInfo(violation=lost, success=jnp.abs(after.x[0]) < 0.1),
        )


def moved(x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
    return jnp.stack([GROWTH * x[0] + STEP * x[1], GROWTH * x[1] + STEP * u[0]])


@final
class IntegratorProblem(Problem):
    horizon: int = pa.static(HORIZON)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    limit: float = pa.static(20.0)
    target: Array = pa.parameter(0.0, low=-1.0, high=1.0)

    def dynamics(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return moved(x, u)

    def stage_residual(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 3"]:
        return jnp.concatenate([self.terminal_residual(x), math.sqrt(WEIGHTS[2]) * u])

    def terminal_residual(self, x: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return jnp.stack([x[0] - self.target, math.sqrt(WEIGHTS[1]) * x[1]])

    def control_bounds(self) -> pa.Bounds:
        return pa.Bounds(-self.limit, self.limit)


@final
class IntegratorTask(Task[Integrator, IntegratorProblem]):
    environment: Integrator = eqx.field(default_factory=Integrator)
    problem: IntegratorProblem = eqx.field(default_factory=IntegratorProblem)
    name: str = pa.static("integrator")
    learned_parameters: tuple[str, ...] = pa.static(("target",))
    state_names: tuple[str, ...] = pa.static(("position", "velocity"))

    def planner_state(self, observation: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return observation

    def observed(self, observation: Float[Array, " 2"], state: Float[Array, " 2"]) -> Float[Array, " 2"]:
        del observation
        return state


@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """u = -K x, and the curvature H of Q in u, from the Riccati recursion."""

    gain: np.ndarray
    curvature: np.ndarray


def closed_form() -> ClosedForm:
    A, B, R = _system()
    P = riccati()[1]
    H = R + B.T @ P @ B
    return ClosedForm(np.linalg.solve(H, B.T @ P @ A), H)


def riccati() -> list[np.ndarray]:
    """P_0 … P_N of V_k = ½ xᵀP_k x."""
    A, B, R = _system()
    P = [np.diag(WEIGHTS[:2])]
    for _ in range(HORIZON):
        K = np.linalg.solve(R + B.T @ P[0] @ B, B.T @ P[0] @ A)
        P.insert(0, np.diag(WEIGHTS[:2]) + A.T @ P[0] @ (A - B @ K))
    return P


def _system() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, B and R."""
    return np.array([[GROWTH, STEP], [0.0, GROWTH]]), np.array([[0.0], [STEP]]), np.array([[WEIGHTS[2]]])
