r"""Keep a disturbed linear system in a box, with a planner whose model is wrong: the example of Gros and Zanon.

    world    x⁺ = [[0.9, 0.35], [0, 1.1]] x + [0.0813, 0.2]ᵀ u + [e, 0]ᵀ,   e ~ U[-0.1, 0]
    model    x⁺ = A x + B u + b,     A = [[1, 0.25], [0, 1]],  B = [0.0312, 0.25]ᵀ,  b = 0 to start with

    cost     L(x, u) = ½‖x‖² + ¼u² + 100 Σ max(0, low - x, x - high),   [low, high] = [0, 1] × [-1, 1],  |u| <= 1
    planner  V₀ + 100 Σ max(0, low - x_0, x_0 - high) + γᴺ ½ x_NᵀP x_N
             + Σ_{k<N} γᵏ(½‖x_k‖² + ¼u_k² + fᵀ(x_k, u_k)) + Σ_{1≤k≤N} γᵏ 100 (σ_k, summed over all rows)
             low + l - σ_k <= x_k <= high - h + σ_k

The cheapest place is the corner x = 0, out of which the disturbance drives: who believes the model violates the box at
nearly every step. The planner can learn to stay away: by the back-offs l and h, by b, by A and B, or by f. The prices
of violations are the same in the world's cost and in the planner's, without which the two could never agree. P is
Riccati's for the model as it starts, discounted.

Reference: S. Gros, M. Zanon, "Data-driven economic NMPC using reinforcement learning", IEEE Transactions on Automatic
Control 65 (2020), whose example this is but for three details: starts are drawn from a box, prices begin with the given
state as they do in the world, and the discount weighs the linear cost too.
"""

from typing import TYPE_CHECKING, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from planahead.problem import Bounds, Problem, Slack, parameter, riccati_solution, static
from planahead.tasks.environment import Environment, StepInfo, Transition, check_constants, constant
from planahead.tasks.task import Imagined, Interface, Task, check_choice, with_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the world and the planner agree on.
LOW, HIGH = (0.0, -1.0), (1.0, 1.0)
CONTROL_LIMIT = 1.0
CONTROL_PRICE = 0.5  # ½ of it for u²
VIOLATION_PRICE = 100.0  # a unit
START = (0.5, 0.0)
STATE_NAMES = ("first state [1]", "second state [1]")

WORLD_A, WORLD_B, PUSH = ((0.9, 0.35), (0.0, 1.1)), (0.0813, 0.2), 0.1
BELIEVED_A, BELIEVED_B = np.array([[1.0, 0.25], [0.0, 1.0]]), np.array([0.0312, 0.25])
DISCOUNT = 0.9
BACK_OFFS = ("low_back_off", "high_back_off")
MODEL_AND_COST = ("model_offset", "state_matrix", "control_matrix", "linear_cost")


def violation_of(x: Float[Array, " 2"]) -> Float[Array, ""]:
    """How far outside of the box, summed over both states."""
    return jnp.sum(jnp.maximum(jnp.maximum(jnp.asarray(LOW) - x, x - jnp.asarray(HIGH)), 0.0))


def reward_of(x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, ""]:
    """-L(x, u)."""
    cost = 0.5 * jnp.sum(x**2) + 0.5 * CONTROL_PRICE * jnp.sum(u**2)
    return -(cost + VIOLATION_PRICE * violation_of(x))


def terminal_root_of(A: np.ndarray, B: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """L of LᵀL = P, Riccati's solution for x⁺ = A x + B u and the discounted cost without prices."""
    scale = DISCOUNT**0.5
    P = riccati_solution(scale * A, scale * B[:, None], np.eye(2), np.array([[CONTROL_PRICE]]))
    return tuple(map(tuple, np.linalg.cholesky(P).T.tolist()))


class LinearSystemState(eqx.Module):
    """Where the system is, for how long it has been going, and whether it was ever outside of the box."""

    x: Float[Array, " 2"]
    step: Int[Array, ""]
    violated: Bool[Array, ""]


@final
class LinearSystem(Environment[LinearSystemState]):
    """The world: unstable, and pushed out of its box at every step.

    Observation: both states, without unit; unbounded.
    Action: one control within ±1, clipped.
    Reward: -(½‖x‖² + ¼u² + 100 a unit of violation) of the state before the step and the control applied in it.
    Terminates: never.
    Truncates: after 100 steps.
    Success: no state of the episode so far, its first excepted, was outside of the box.
    Violation: the state is outside of [0, 1] × [-1, 1].
    Start: uniform within ±`start_spread` (0.25) of (0.5, 0) in both states; the box can be kept from all of them.

    >>> import jax, jax.numpy as jnp
    >>> environment = LinearSystem(disturbance=0.0)
    >>> state = LinearSystemState(jnp.array([0.5, 0.1]), jnp.array(0), jnp.array(False))
    >>> transition = environment.step(state, jnp.array([-1.0]), jax.random.key(0))
    >>> print(f"{transition.observation}, reward {transition.reward:.3f}")
    [ 0.4037 -0.09  ], reward -0.380
    """

    A: Array = constant(WORLD_A)
    """What the states become without control, row by row."""
    B: Array = constant(WORLD_B)
    """What a unit of control adds to the states."""
    disturbance: Array = constant(PUSH)
    """The first state is pushed down by up to this much."""
    start_spread: Array = constant(0.25)

    observation_names: tuple[str, ...] = static(STATE_NAMES)
    observation_low: tuple[float, ...] = static((-float("inf"),) * 2)
    observation_high: tuple[float, ...] = static((float("inf"),) * 2)
    observation_scale: tuple[float, ...] = static((1.0, 1.0))
    action_names: tuple[str, ...] = static(("control [1]",))
    action_low: tuple[float, ...] = static((-CONTROL_LIMIT,))
    action_high: tuple[float, ...] = static((CONTROL_LIMIT,))
    time_step: float = static(1.0)  # s, for want of a unit
    episode_steps: int = static(100)

    def reset(self, key: PRNGKeyArray) -> LinearSystemState:
        x = jnp.asarray(START) + self.start_spread * jax.random.uniform(key, (2,), minval=-1.0)
        return LinearSystemState(x, jnp.array(0), jnp.array(False))

    def observe(self, state: LinearSystemState) -> Float[Array, " 2"]:
        return state.x

    def step(
        self, state: LinearSystemState, action: Float[Array, " 1"], key: PRNGKeyArray
    ) -> Transition[LinearSystemState]:
        control = jnp.clip(action, -CONTROL_LIMIT, CONTROL_LIMIT)
        push = self.disturbance * jax.random.uniform(key)
        x = self.A @ state.x + self.B * control - jnp.stack([push, jnp.zeros_like(push)])
        violation = ~(violation_of(x) <= 0)  # of NaN too
        new = LinearSystemState(x, state.step + 1, state.violated | violation)
        return Transition(
            state=new,
            observation=self.observe(new),
            reward=reward_of(state.x, control),
            terminated=jnp.array(False),
            truncated=new.step >= self.episode_steps,
            info=StepInfo(violation=violation, success=~new.violated),
        )

    def draw(self, axes: "Axes", state: LinearSystemState, *, alpha: float = 1.0) -> None:
        from matplotlib.patches import Rectangle

        size = HIGH[0] - LOW[0], HIGH[1] - LOW[1]
        axes.add_patch(Rectangle(LOW, *size, facecolor="#f8fafc", edgecolor="0.4"))
        axes.plot(*np.asarray(state.x).reshape(2, 1), "o", color="tab:blue", alpha=alpha)
        axes.set(xlim=(-0.3, 1.3), ylim=(-1.2, 1.2), xlabel=STATE_NAMES[0], ylabel=STATE_NAMES[1])


@final
class LinearSystemProblem(Problem):
    """What the planner believes and wants, see the top of the file; everything but P can be learned.

    The linear cost comes with a square, ½‖x + f‖² for ½‖x‖² + fᵀx: the constant in between is V₀'s to take up. The box
    of every parameter has the world's value inside, and back-offs cannot cross.
    """

    horizon: int = static(10)
    state_size: int = static(2)
    control_size: int = static(1)
    discount: Array | float = static(DISCOUNT)

    offset: Array = parameter(0.0, low=-10.0, high=10.0)  # V₀
    low_back_off: Array = parameter((0.0, 0.0), low=-0.1, high=0.3)  # l
    high_back_off: Array = parameter((0.0, 0.0), low=-0.1, high=0.3)  # h
    model_offset: Array = parameter((0.0, 0.0), low=-0.2, high=0.2)  # b
    state_matrix: Array = parameter(BELIEVED_A, low=BELIEVED_A - 0.3, high=BELIEVED_A + 0.3)
    control_matrix: Array = parameter(BELIEVED_B, low=BELIEVED_B - 0.1, high=BELIEVED_B + 0.1)
    linear_cost: Array = parameter((0.0, 0.0, 0.0), low=-1.0, high=1.0)  # f, by states and control
    terminal_root: Array = constant(terminal_root_of(BELIEVED_A, BELIEVED_B))  # L of P = LᵀL

    def __check_init__(self):
        check_constants(self)

    @classmethod
    def matched(cls, environment: LinearSystem, horizon: int = 10) -> "LinearSystemProblem":
        """The problem of somebody who knows `environment`: its model with the mean of the disturbance, and a back-off
        of the rest of it, so that the next state stays in the box whatever comes."""
        A, B = (np.asarray(matrix, float) for matrix in (environment.A, environment.B))
        mean = 0.5 * float(environment.disturbance)
        return cls(
            horizon=horizon,
            low_back_off=jnp.array([mean, 0.0]),
            model_offset=jnp.array([-mean, 0.0]),
            state_matrix=environment.A,
            control_matrix=environment.B,
            terminal_root=jnp.asarray(terminal_root_of(A, B)),
        )

    def dynamics(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return self.state_matrix @ x + self.control_matrix * u + self.model_offset

    def stage_residual(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 3"]:
        of_states, of_control = self.linear_cost[:2], self.linear_cost[2:]
        return jnp.concatenate([x + of_states, CONTROL_PRICE**0.5 * (u + of_control / CONTROL_PRICE)])

    def terminal_residual(self, x: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return self.terminal_root @ x

    def initial_cost(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        return self.offset + VIOLATION_PRICE * violation_of(x)

    def control_bounds(self) -> Bounds:
        return Bounds(-CONTROL_LIMIT, CONTROL_LIMIT)

    def state_bounds(self) -> Bounds:
        low, high = jnp.asarray(LOW) + self.low_back_off, jnp.asarray(HIGH) - self.high_back_off
        return Bounds(low, high, slack=Slack(linear=VIOLATION_PRICE))


@final
class LinearSystemTask(Task[LinearSystem, LinearSystemProblem]):
    """Keep a disturbed linear system in a box, with a planner whose model is wrong.

    **Arguments:**

    - `environment`, `problem`: replace the defaults.
    - `matched`: plans with the world's own model and a margin for the disturbance; excludes `problem`.
    - `interface`: `"global"` has 16 learned parameters, `"stage"` 151: the model and the linear cost at the stages 0…9,
        the back-offs at 1…10, and V₀ once.

    >>> LinearSystemTask().problem.state_matrix.tolist()
    [[1.0, 0.25], [0.0, 1.0]]
    """

    environment: LinearSystem
    problem: LinearSystemProblem
    name: str = static("linear")
    learned_parameters: tuple[str, ...] = static(("offset", *BACK_OFFS, *MODEL_AND_COST))
    state_names: tuple[str, ...] = static(STATE_NAMES)

    def __init__(
        self,
        environment: LinearSystem | None = None,
        problem: LinearSystemProblem | None = None,
        *,
        matched: bool = False,
        interface: Interface = "global",
    ):
        check_choice(self, "interface", interface, Interface)
        if matched and problem is not None:
            raise ValueError("LinearSystemTask got matched=True and a problem; leave one of them out.")
        self.environment = LinearSystem() if environment is None else environment
        matching = LinearSystemProblem.matched(self.environment) if matched else None
        problem = matching or problem or LinearSystemProblem()
        if interface == "stage":
            moved, reached = range(problem.horizon), range(1, problem.horizon + 1)
            stages = {name: reached if name in BACK_OFFS else moved for name in (*BACK_OFFS, *MODEL_AND_COST)}
            problem = with_stages(problem, stages)
        self.problem = problem

    def planner_state(self, observation: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return observation

    def observed(self, observation: Float[Array, " 2"], state: Float[Array, " 2"]) -> Float[Array, " 2"]:
        del observation
        return state

    def reward_per_cost(self) -> float:
        """One: back-offs aside, the planner pays what the world charges."""
        return 1.0

    def imagined(
        self, observation: Float[Array, " 2"], states: Float[Array, "nodes 2"], controls: Float[Array, "N 1"]
    ) -> Imagined:
        """All of it: the world charges for what is observed and applied, and never ends by itself."""
        del observation
        return Imagined.of_observed(states, controls, reward_of)
