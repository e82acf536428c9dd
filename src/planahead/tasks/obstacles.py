r"""Take a puck across a table of round obstacles that must not be touched.

A mass without friction that accelerates in two directions, exactly discretised for accelerations that are held:

    p⁺ = p + T v + ½ T² (a + w),     v⁺ = v + T (a + w),     |w| <= gust in each direction

    symbol        shape  meaning
    x             [4]    p [m], v [m/s]
    u             [2]    a [m/s²]

The dynamics are linear and the free space is not convex: the straight way to the goal leads through the middle
obstacle. World and model agree but for the gusts, which are none by default. With `gust=0.5` the world pushes the puck
in each direction as hard as the bound allows, forth or back by chance, and a safety filter has to keep away from what
it cannot foresee.
"""

import math
from typing import TYPE_CHECKING, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from planahead.problem import Bounds, Problem, SafetyProblem, Slack, parameter, static
from planahead.tasks.environment import Environment, StepInfo, Transition, check_constants, constant
from planahead.tasks.task import Interface, Task, check_choice, with_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the world and the planner's model of it agree on.
CENTRES = ((0.0, 0.05), (0.7, -0.65), (0.75, 0.7))  # m
RADII = (0.45, 0.3, 0.3)  # m, the puck's own included
TABLE = (2.0, 1.2)  # m, half length and half width
GOAL = (1.5, 0.0)  # m
START = (-1.5, 0.0)  # m
ACCELERATION_LIMIT = 4.0  # m/s²
SPEED_LIMIT = 2.0  # m/s in each direction, of plans
TIME_STEP = 0.1  # s
STATE_NAMES = ("x [m]", "y [m]", "x velocity [m/s]", "y velocity [m/s]")


def moved(x: Float[Array, " 4"], acceleration: Float[Array, " 2"]) -> Float[Array, " 4"]:
    """x⁺."""
    position, velocity = x[:2], x[2:]
    change = TIME_STEP * acceleration
    return jnp.concatenate([position + TIME_STEP * (velocity + 0.5 * change), velocity + change])


def overlap(position: Float[Array, " 2"]) -> Float[Array, " 3"]:
    """How deep the position lies inside of each obstacle, m; negative outside."""
    apart = position[None] - jnp.asarray(CENTRES)
    return jnp.asarray(RADII) - jnp.sqrt(jnp.sum(apart**2, axis=1) + 1e-12)  # with a slope at the centre too


class ObstaclesState(eqx.Module):
    """Where the puck is, and how long it has been going."""

    x: Float[Array, " 4"]
    """p [m], v [m/s]."""
    step: Int[Array, ""]
    """Steps since the start."""


@final
class Obstacles(Environment[ObstaclesState]):
    """The world: a puck on a table of 4 by 2.4 m with three round obstacles.

    Observation: p [m], v [m/s]; unbounded, since the last observation of an episode may lie off the table.
    Action: acceleration [m/s²] in x and y, within ±4, clipped.
    Reward: (1 - d / 4) / 10 of the new state, d the distance to the goal (1.5, 0) in m; 0.1 at the goal.
    Terminates: inside of an obstacle or off the table.
    Truncates: after 60 steps (6 s), unless the last one terminates.
    Success: within 0.2 m of the goal.
    Violation: inside of an obstacle or off the table.
    Start: at rest in (-1.5, 0), plus a uniform draw within ±`start_spread` in every state; 0.1 by default.

    >>> import jax, jax.numpy as jnp
    >>> world = Obstacles()
    >>> state = ObstaclesState(x=jnp.array([-0.5, 0.0, 2.0, 0.0]), step=jnp.array(0))
    >>> transition = world.step(state, jnp.zeros(2), jax.random.key(0))
    >>> print(transition.observation, bool(transition.terminated), bool(transition.info.violation))
    [-0.3  0.   2.   0. ] True True
    """

    gust: Array = constant(0.0)  # m/s², largest
    start_spread: Array = constant(0.1)  # m, m/s

    observation_names: tuple[str, ...] = static(STATE_NAMES)
    observation_low: tuple[float, ...] = static((-math.inf,) * 4)
    observation_high: tuple[float, ...] = static((math.inf,) * 4)
    observation_scale: tuple[float, ...] = static((*TABLE, SPEED_LIMIT, SPEED_LIMIT))
    action_names: tuple[str, ...] = static(("x acceleration [m/s²]", "y acceleration [m/s²]"))
    action_low: tuple[float, ...] = static((-ACCELERATION_LIMIT,) * 2)
    action_high: tuple[float, ...] = static((ACCELERATION_LIMIT,) * 2)
    time_step: float = static(TIME_STEP)  # s
    episode_steps: int = static(60)

    def reset(self, key: PRNGKeyArray) -> ObstaclesState:
        start = jnp.array([*START, 0.0, 0.0])
        spread = self.start_spread * jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
        return ObstaclesState(x=start + spread, step=jnp.array(0))

    def observe(self, state: ObstaclesState) -> Float[Array, " 4"]:
        return state.x

    def step(self, state: ObstaclesState, action: Float[Array, " 2"], key: PRNGKeyArray) -> Transition[ObstaclesState]:
        acceleration = jnp.clip(action, jnp.asarray(self.action_low), jnp.asarray(self.action_high))
        gust = self.gust * jnp.where(jax.random.bernoulli(key, shape=(2,)), 1.0, -1.0)
        x = moved(state.x, acceleration + gust)
        new = ObstaclesState(x=x, step=state.step + 1)
        free = jnp.all(overlap(x[:2]) <= 0.0) & jnp.all(jnp.abs(x[:2]) <= jnp.asarray(TABLE))  # False for NaN too
        away = jnp.sqrt(jnp.sum((x[:2] - jnp.asarray(GOAL)) ** 2))
        return Transition(
            state=new,
            observation=self.observe(new),
            reward=(1.0 - away / 4.0) / 10.0,
            terminated=~free,
            truncated=free & (new.step >= self.episode_steps),
            info=StepInfo(violation=~free, success=free & (away < 0.2)),
        )

    def draw(self, axes: "Axes", state: ObstaclesState, *, alpha: float = 1.0) -> None:
        from matplotlib.patches import Circle, Rectangle

        axes.add_patch(Rectangle((-TABLE[0], -TABLE[1]), 2 * TABLE[0], 2 * TABLE[1], fill=False, color="0.6"))
        for centre, radius in zip(CENTRES, RADII, strict=True):
            axes.add_patch(Circle(centre, radius, color="0.8", linewidth=0))
        axes.plot(*GOAL, "x", color="tab:green")
        axes.plot(float(state.x[0]), float(state.x[1]), "o", color="tab:blue", alpha=alpha)
        axes.set(xlim=(-1.1 * TABLE[0], 1.1 * TABLE[0]), ylim=(-1.1 * TABLE[1], 1.1 * TABLE[1]), aspect="equal")
        axes.set_axis_off()


@final
class ObstaclesProblem(Problem):
    """What the planner believes and wants: no gusts, and ½ (w_p ‖p - target‖² + w_v ‖v‖² + w_a ‖a‖²) over 1.5 s.

    Obstacles and table are soft, so that there is a plan from everywhere. A policy writes the `target`.
    """

    horizon: int = static(15)
    state_size: int = static(4)
    control_size: int = static(2)

    target: Array = parameter(GOAL, low=[-TABLE[0], -TABLE[1]], high=[TABLE[0], TABLE[1]])  # m
    position_weight: Array = constant(1.0)  # 1/m²
    speed_weight: Array = constant(0.1)  # s²/m²
    acceleration_weight: Array = constant(0.02)  # s⁴/m²
    contact_weight: Array = constant(100.0)  # 1/m, for touching

    def __check_init__(self):
        check_constants(self)

    def dynamics(self, x: Float[Array, " 4"], u: Float[Array, " 2"]) -> Float[Array, " 4"]:
        return moved(x, u)

    def stage_residual(self, x: Float[Array, " 4"], u: Float[Array, " 2"]) -> Float[Array, " 6"]:
        return jnp.concatenate([self.terminal_residual(x), jnp.sqrt(self.acceleration_weight) * u])

    def terminal_residual(self, x: Float[Array, " 4"]) -> Float[Array, " 4"]:
        return jnp.concatenate(
            [jnp.sqrt(self.position_weight) * (x[:2] - self.target), jnp.sqrt(self.speed_weight) * x[2:]]
        )

    def control_bounds(self) -> Bounds:
        return Bounds(-ACCELERATION_LIMIT, ACCELERATION_LIMIT)

    def state_bounds(self) -> Bounds:
        limit = np.array([*TABLE, SPEED_LIMIT, SPEED_LIMIT])
        return Bounds(-limit, limit, slack=Slack(linear=self.contact_weight))

    def constraints(self, x: Float[Array, " 4"], u: Float[Array, " 2"]) -> Float[Array, " 3"]:
        del u
        return overlap(x[:2])

    def constraint_slack(self) -> Slack:
        return Slack(linear=self.contact_weight)


@final
class ObstaclesTask(Task[Obstacles, ObstaclesProblem]):
    """Across a table of round obstacles that must not be touched, with a planner that is told where to aim.

    **Arguments:**

    - `environment`, `problem`: replace the defaults.
    - `interface`: `"global"` has one target, of two numbers, `"stage"` one for each of the stages 1…N.
    """

    environment: Obstacles
    problem: ObstaclesProblem
    name: str = static("obstacles")
    learned_parameters: tuple[str, ...] = static(("target",))
    state_names: tuple[str, ...] = static(STATE_NAMES)

    def __init__(
        self,
        environment: Obstacles | None = None,
        problem: ObstaclesProblem | None = None,
        *,
        interface: Interface = "global",
    ):
        check_choice(self, "interface", interface, Interface)
        self.environment = Obstacles() if environment is None else environment
        problem = ObstaclesProblem() if problem is None else problem
        if interface == "stage":
            problem = with_stages(problem, {"target": range(1, problem.horizon + 1)})
        self.problem = problem

    def safety_problem(self) -> SafetyProblem:
        """For every gust that the world knows."""
        from planahead.tasks.obstacles_safety import obstacles_safety  # which needs the problem above

        return obstacles_safety(self.problem, float(self.environment.gust))

    def planner_state(self, observation: Float[Array, " 4"]) -> Float[Array, " 4"]:
        return observation

    def observed(self, observation: Float[Array, " 4"], state: Float[Array, " 4"]) -> Float[Array, " 4"]:
        del observation
        return state
