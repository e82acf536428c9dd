r"""Hold a quadrotor at a point, from wherever it starts.

    r = 1 - min(|p|, 1) - 0.02 |v| - 0.01 |ω_c|

    symbol        shape  meaning
    p, v, R       [3]    position from the point [m], velocity [m/s], attitude as a matrix [3, 3], all in the world
    u = (F, ω_c)  [4]    collective thrust [N] and body rates [rad/s]

The planner's model is the nominal quadrotor, whatever flies, and its problem a tracking of the point:

    Σ_k ½ ‖diag(√w) (p, q, v) - …‖² + ½ ‖diag(√w_u) (u - hovering)‖²,      q with w >= 0, from upright
"""

from typing import TYPE_CHECKING, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from planahead.problem import Bounds, Problem, parameter, static
from planahead.problem.rotation import from_matrix, from_yaw, matrix, product
from planahead.tasks.environment import Environment, StepInfo, Transition, check_constants, constant
from planahead.tasks.flight.quadrotor import (
    COMMAND_HIGH,
    COMMAND_LOW,
    COMMAND_NAMES,
    COMMAND_SCALE,
    GRAVITY,
    MASS,
    PLANTS,
    RANDOMISED,
    TIME_STEP,
    Nominal,
    Plant,
    Quadrotor,
    Randomisation,
)
from planahead.tasks.flight.vector import length
from planahead.tasks.flight.wind import Wind
from planahead.tasks.task import Interface, Task, check_choice, with_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATE_NAMES = (
    *(f"position {axis} [m]" for axis in "xyz"),
    *(f"attitude {part} [1]" for part in "wxyz"),
    *(f"velocity {axis} [m/s]" for axis in "xyz"),
)
CLOSE, SLOW = 0.1, 0.2
"""m and m/s: what counts as held."""


class HoverState(eqx.Module):
    """Where the quadrotor is."""

    x: Float[Array, " nx"]
    """Of the vehicle; begins with position, attitude and velocity."""
    step: Int[Array, ""]
    draw: Float[Array, " draws"]
    """Of the episode's vehicle in [-1, 1], and last the phase of its gusts in half turns."""


@final
class Hover(Environment[HoverState]):
    """The world: a quadrotor, wind, and a point to hold.

    Observation: p [m], R row by row, v [m/s]; unbounded.
    Action: collective thrust [N] within 0 and 34, body rates [rad/s] within ±10, ±10 and ±4, clipped.
    Reward: 1 at the point, less the distance up to 1 [m], 0.02 times the speed and 0.01 times the body rates commanded.
    Terminates: further than `room` (4 m) from the point in a coordinate.
    Truncates: after 250 steps (5 s), unless the last one terminates.
    Success: within 0.1 m of the point, slower than 0.2 m/s.
    Violation: as terminates.
    Start: position within ±`start_spread` (1 m) of the point, velocity within ± as many m/s in every coordinate,
        upright but for a yaw within ±1 rad and a tilt within ±0.5 rad about x and y, each times `start_spread`.

    >>> import jax, jax.numpy as jnp
    >>> hover = Hover(start_spread=0.0)
    >>> state = hover.reset(jax.random.key(0))
    >>> print(f"{hover.step(state, jnp.array([7.3746, 0.0, 0.0, 0.0]), jax.random.key(1)).reward:.3f}")
    1.000
    """

    vehicle: Quadrotor = eqx.field(default_factory=Nominal)
    wind: Wind = eqx.field(default_factory=Wind)
    randomisation: Randomisation = eqx.field(default_factory=Randomisation)
    room: Array = constant(4.0, positive=True)  # m
    start_spread: Array = constant(1.0)  # m, m/s and, see above, rad

    observation_names: tuple[str, ...] = static(
        (
            *(f"position {axis} [m]" for axis in "xyz"),
            *(f"attitude {row}{column} [1]" for row in "xyz" for column in "xyz"),
            *(f"velocity {axis} [m/s]" for axis in "xyz"),
        )
    )
    observation_low: tuple[float, ...] = static((-np.inf,) * 15)
    observation_high: tuple[float, ...] = static((np.inf,) * 15)
    observation_scale: tuple[float, ...] = static((1.0,) * 12 + (2.0,) * 3)
    action_names: tuple[str, ...] = static(COMMAND_NAMES)
    action_low: tuple[float, ...] = static(COMMAND_LOW)
    action_high: tuple[float, ...] = static(COMMAND_HIGH)
    time_step: float = static(TIME_STEP)  # s
    episode_steps: int = static(250)

    def reset(self, key: PRNGKeyArray) -> HoverState:
        place, turn, draw = jax.random.split(key, 3)
        position, velocity = self.start_spread * jax.random.uniform(place, (2, 3), minval=-1.0, maxval=1.0)
        yaw, *tilt = self.start_spread * jax.random.uniform(turn, (3,), minval=-1.0, maxval=1.0)
        lean = jnp.stack([jnp.ones(()), 0.25 * tilt[0], 0.25 * tilt[1], jnp.zeros(())])
        attitude = product(from_yaw(yaw), lean / length(lean))
        draws = jax.random.uniform(draw, (len(RANDOMISED) + 1,), minval=-1.0, maxval=1.0)
        vehicle = self.vehicle.randomised(draws, self.randomisation)
        return HoverState(vehicle.at(position, attitude, velocity), jnp.zeros((), jnp.int32), draws)

    def observe(self, state: HoverState) -> Float[Array, " 15"]:
        return jnp.concatenate([state.x[:3], jnp.ravel(matrix(state.x[3:7])), state.x[7:10]])

    def step(self, state: HoverState, action: Float[Array, " 4"], key: PRNGKeyArray) -> Transition[HoverState]:
        del key
        command = jnp.clip(action, jnp.asarray(self.action_low), jnp.asarray(self.action_high))
        force = self.wind.force(state.x[:3], state.step * self.time_step, jnp.pi * state.draw[-1])
        x = self.vehicle.randomised(state.draw, self.randomisation).fly(state.x, command, force, self.time_step)
        moved = HoverState(x, state.step + 1, state.draw)
        off, speed = length(x[:3]), length(x[7:10])
        lost = ~(jnp.all(jnp.abs(x[:3]) <= self.room) & jnp.all(jnp.isfinite(x)))
        earned = 1 - jnp.minimum(off, 1.0) - 0.02 * speed - 0.01 * length(command[1:])
        return Transition(
            state=moved,
            observation=self.observe(moved),
            reward=jnp.where(jnp.isfinite(earned), earned, 0.0),
            terminated=lost,
            truncated=(moved.step >= self.episode_steps) & ~lost,
            info=StepInfo(violation=lost, success=(off <= CLOSE) & (speed <= SLOW)),
        )

    def flight(self, state: HoverState) -> Float[Array, " 6"]:
        return jnp.concatenate([state.x[:3], state.x[7:10]])

    def draw_course(self, axes: "Axes", seen: tuple[int, int]) -> None:
        """The point."""
        del seen
        axes.plot([0.0], [0.0], marker="+", markersize=12, color="tab:orange", zorder=4)

    def draw(self, axes: "Axes", state: HoverState, *, alpha: float = 1.0) -> None:
        """From the side: the point, and the quadrotor as a bar across its thrust."""
        x, _, z = np.asarray(state.x[:3]).tolist()
        arm = 0.2 * np.asarray(matrix(state.x[3:7]))[:, 0]
        axes.plot([0.0], [0.0], marker="+", markersize=12, color="tab:orange", zorder=2)
        axes.plot(
            [x - arm[0], x + arm[0]], [z - arm[2], z + arm[2]], linewidth=3, color="tab:blue", alpha=alpha, zorder=3
        )
        room = float(self.room)
        axes.set(xlim=(-room, room), ylim=(-room, room), aspect="equal", xlabel="x [m]", ylabel="z [m]")


@final
class HoverProblem(Problem):
    """What the planner believes and wants: a nominal quadrotor at the point, upright and at rest."""

    horizon: int = static(20)
    state_size: int = static(10)
    control_size: int = static(4)
    time_step: float = static(TIME_STEP)  # s

    state_weight: Array = parameter((8.0,) * 3 + (2.0,) * 4 + (1.0,) * 3, low=1e-2, high=1e2, scale="log")
    control_weight: Array = parameter((1.0,) * 4, low=1e-2, high=1e2, scale="log")
    """Of controls in units of their limits."""
    point: Array = parameter((0.0,) * 3, low=-1.0, high=1.0)  # m
    mass: Array = constant(MASS, positive=True)  # kg

    def __check_init__(self):
        check_constants(self)

    def dynamics(self, x: Float[Array, " 10"], u: Float[Array, " 4"]) -> Float[Array, " 10"]:
        return Nominal(mass=self.mass).fly(x, u, jnp.zeros(3), self.time_step)

    def stage_residual(self, x: Float[Array, " 10"], u: Float[Array, " 4"]) -> Float[Array, " 14"]:
        off = (u - self.control_guess()) / jnp.array(COMMAND_SCALE)
        return jnp.concatenate([self.terminal_residual(x), jnp.sqrt(self.control_weight) * off])

    def terminal_residual(self, x: Float[Array, " 10"]) -> Float[Array, " 10"]:
        goal = jnp.concatenate([self.point, jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.zeros(3)])
        return jnp.sqrt(self.state_weight) * (x - goal)

    def control_guess(self) -> Float[Array, " 4"]:
        """Hovering."""
        return jnp.array([GRAVITY, 0.0, 0.0, 0.0]) * self.mass

    def control_bounds(self) -> Bounds:
        return Bounds(jnp.array(COMMAND_LOW), jnp.array(COMMAND_HIGH))


@final
class HoverTask(Task[Hover, HoverProblem]):
    """Hold a quadrotor at a point with a planner that looks 0.4 s ahead.

    **Arguments:**

    - `environment`, `problem`: replace the defaults; `plant` is for a world that is not given.
    - `plant`: `"nominal"` is what the planner believes; `"realistic"` has rotors with a lag, a rate loop, drag, delay.
    - `interface`: `"global"` has 17 learned parameters, `"stage"` those of every stage.

    >>> HoverTask(plant="realistic").environment.vehicle.state_size
    21
    """

    environment: Hover
    problem: HoverProblem
    name: str = static("hover")
    learned_parameters: tuple[str, ...] = static(("state_weight", "control_weight", "point"))
    state_names: tuple[str, ...] = static(STATE_NAMES)

    def __init__(
        self,
        environment: Hover | None = None,
        problem: HoverProblem | None = None,
        *,
        plant: Plant = "nominal",
        interface: Interface = "global",
    ):
        check_choice(self, "plant", plant, Plant)
        check_choice(self, "interface", interface, Interface)
        self.environment = Hover(vehicle=PLANTS[plant]()) if environment is None else environment
        problem = HoverProblem() if problem is None else problem
        if interface == "stage":
            states, controls = range(1, problem.horizon + 1), range(problem.horizon)
            problem = with_stages(problem, {"state_weight": states, "control_weight": controls, "point": states})
        self.problem = problem

    def planner_state(self, observation: Float[Array, " 15"]) -> Float[Array, " 10"]:
        """With an attitude of w >= 0."""
        attitude = from_matrix(observation[3:12].reshape(3, 3))
        return jnp.concatenate([observation[:3], attitude, observation[12:]])
