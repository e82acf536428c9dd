"""A linear-quadratic world and a planner whose model of it is wrong, with everything about both in closed form.

world    x⁺ = A x + B u,   cost ½ xᵀQx + ½ R u²,   discount γ:       V* = ½ xᵀPx,  π* = -Kx,  Q* = ½ zᵀHz,  z = (x, u)
planner  x⁺ = Â x + B̂ u,   cost ½ zᵀMz,   terminal ½ xᵀTx:           both M and T are learned
"""

from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, Int, PRNGKeyArray

import planahead as pa
from planahead.policies import TunedPlanner
from planahead.tasks import Environment, StepInfo, Task, Transition, constant
from planahead.tasks.task import Imagined

# In a trace `jnp.asarray` may remember these from another test, in its precision; `jnp.asarray(A, float)` does not.
A, B = np.array([[0.9, 0.4], [0.1, 1.1]]), np.array([[0.1], [0.5]])
WRONG_A, WRONG_B = np.array([[1.0, 0.2], [0.0, 0.9]]), np.array([[0.2], [0.8]])
Q, R = np.diag([1.0, 0.5]), np.array([[0.4]])
DISCOUNT = 0.8
LIMIT = 20.0  # of the action, which never matters
EXACT = pa.SQP(hessian=pa.Exact(convexify="none"), tolerance=1e-11)


class Optimum(NamedTuple):
    P: np.ndarray
    K: np.ndarray
    H: np.ndarray


def optimum() -> Optimum:
    """The discount enters Riccati's equation as √γ A and √γ B."""
    scale = np.sqrt(DISCOUNT)
    P = scipy.linalg.solve_discrete_are(scale * A, scale * B, Q, R)
    K = np.linalg.solve(R + DISCOUNT * B.T @ P @ B, DISCOUNT * B.T @ P @ A)
    AB = np.hstack([A, B])
    return Optimum(P, K, scipy.linalg.block_diag(Q, R) + DISCOUNT * AB.T @ P @ AB)


def upper(matrix: np.ndarray) -> np.ndarray:
    """The entries on and above the diagonal."""
    return matrix[np.triu_indices(len(matrix))]


def symmetric(entries: Array, size: int) -> Array:
    """The matrix with those entries."""
    rows, columns = np.triu_indices(size)
    half = jnp.zeros((size, size), entries.dtype).at[rows, columns].set(entries)
    return half + half.T - jnp.diag(jnp.diagonal(half))


class WrongModel(pa.Problem):
    horizon: int = pa.static(1)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    discount: Array | float = pa.static(DISCOUNT)
    cost: Array = pa.parameter(upper(np.diag([2.0, 1.0, 1.5])), low=-10.0, high=10.0)
    terminal: Array = pa.parameter(upper(np.diag([1.0, 2.0])), low=-10.0, high=10.0)

    def dynamics(self, x, u):
        return jnp.asarray(WRONG_A, float) @ x + jnp.asarray(WRONG_B, float) @ u

    def stage_cost(self, x, u):
        z = jnp.concatenate([x, u])
        return z @ symmetric(self.cost, 3) @ z / 2

    def terminal_cost(self, x):
        return x @ symmetric(self.terminal, 2) @ x / 2


class Believer(pa.Problem):
    """The world's cost and V* at the end, with a model of one's own; the world's unless told."""

    horizon: int = pa.static(5)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    discount: Array | float = pa.static(DISCOUNT)
    state_matrix: Array = eqx.field(default_factory=lambda: jnp.asarray(A, float))
    control_matrix: Array = eqx.field(default_factory=lambda: jnp.asarray(B, float))

    def dynamics(self, x, u):
        return self.state_matrix @ x + self.control_matrix @ u

    def stage_residual(self, x, u):
        return jnp.concatenate([jnp.asarray(np.sqrt(Q), float) @ x, jnp.asarray(np.sqrt(R), float) @ u])

    def terminal_residual(self, x):
        return jnp.asarray(np.linalg.cholesky(optimum().P).T, float) @ x


def reward(x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, ""]:
    """Of a step of the world."""
    return -0.5 * (x @ jnp.asarray(Q, float) @ x + u @ jnp.asarray(R, float) @ u)


def taught(horizon: int) -> WrongModel:
    """The planner with ℓ̂ = Q* - γ V*∘f̂ and the terminal cost V*."""
    P, _, H = optimum()
    AB = np.hstack([WRONG_A, WRONG_B])
    modified = H - DISCOUNT * AB.T @ P @ AB
    return WrongModel(horizon=horizon, cost=jnp.asarray(upper(modified), float), terminal=jnp.asarray(upper(P), float))


class PlantState(eqx.Module):
    x: Float[Array, " 2"]
    step: Int[Array, ""]


@final
class Plant(Environment[PlantState]):
    """The world, in short episodes from all around the origin."""

    start_spread: Array = constant(1.0)
    observation_names: tuple[str, ...] = pa.static(("first", "second"))
    observation_low: tuple[float, ...] = pa.static((-float("inf"),) * 2)
    observation_high: tuple[float, ...] = pa.static((float("inf"),) * 2)
    observation_scale: tuple[float, ...] = pa.static((1.0, 1.0))
    action_names: tuple[str, ...] = pa.static(("control",))
    action_low: tuple[float, ...] = pa.static((-LIMIT,))
    action_high: tuple[float, ...] = pa.static((LIMIT,))
    time_step: float = pa.static(1.0)
    episode_steps: int = pa.static(4)

    def reset(self, key: PRNGKeyArray) -> PlantState:
        return PlantState(self.start_spread * jax.random.normal(key, (2,)), jnp.array(0))

    def observe(self, state: PlantState) -> Float[Array, " 2"]:
        return state.x

    def step(self, state: PlantState, action: Float[Array, " 1"], key: PRNGKeyArray) -> Transition[PlantState]:
        del key
        new = PlantState(jnp.asarray(A, float) @ state.x + jnp.asarray(B, float) @ action, state.step + 1)
        return Transition(
            state=new,
            observation=new.x,
            reward=reward(state.x, action),
            terminated=jnp.array(False),
            truncated=new.step >= self.episode_steps,
            info=StepInfo(violation=jnp.array(False), success=jnp.array(True)),
        )


@final
class PlantTask(Task[Plant, Any]):
    environment: Plant = eqx.field(default_factory=Plant)
    problem: Any = eqx.field(default_factory=WrongModel)
    name: str = pa.static("plant")
    learned_parameters: tuple[str, ...] = pa.static(("cost", "terminal"))
    state_names: tuple[str, ...] = pa.static(("first", "second"))

    def planner_state(self, observation: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return observation

    def reward_per_cost(self) -> float:
        return 1.0

    def imagined(
        self, observation: Float[Array, " 2"], states: Float[Array, "nodes 2"], controls: Float[Array, "N 1"]
    ) -> Imagined:
        del observation
        return Imagined.of_observed(states, controls, reward)


def policy_of(problem: pa.Problem, names: tuple[str, ...] | None = None) -> TunedPlanner:
    task = PlantTask(problem=problem)
    return TunedPlanner(problem, task.planner_state, pa.ActionBox((-LIMIT,), (LIMIT,)), names=names, planner=EXACT)
