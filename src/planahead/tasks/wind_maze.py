r"""Carry a point mass past wind that is stronger than it is, to a goal that the planner knows nothing about.

A mass m with linear drag c in still air is pushed by the force u and by the wind w(p). With both held for a time step
h, its velocity is exact, and its position moves on with the velocity at the beginning of the step:

    p⁺ = p + h v,      v⁺ = e v + b (u + w(p)),      e = exp(-c h / m),   b = (1 - e) / c

    symbol        shape  meaning
    x             [4]    p [m] and v [m/s], each along and across the course
    u             [2]    force [N]; it alone brings the mass to the speed u / c, 0.67 m/s along an axis
    w             [2]    wind force [N]

Where the wind blows: in `zones` straight against the course and harder than any admissible force, so that one has to go
around (`easy`, `hard`); or in `gusts` of the shape of a bell, with walls to crash into (`walls`). The planner knows of
neither wind nor walls. What a policy learns is where to aim at, `state_reference`, and how hard.

Reference: the point mass of leap-c (https://github.com/leap-c/leap-c), whose numbers these are; `walls` is new.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from planahead.problem import Bounds, PerStage, Problem, Slack, parameter, static
from planahead.tasks.environment import Environment, StepInfo, Transition, check_constants, constant
from planahead.tasks.task import Definition, Interface, Task, check_choice, with_stages
from planahead.tasks.way_past import way_past

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Difficulty = Literal["easy", "hard", "walls"]
Starts = Literal["disc", "anywhere"]

# What the world and the planner's model of it agree on.
MASS = 1.0  # kg
DRAG = 15.0  # kg/s
FORCE_LIMIT = 10.0  # N
LOW = (0.0, 0.0, -20.0, -20.0)  # m, m, m/s, m/s
HIGH = (4.0, 1.0, 20.0, 20.0)
TIME_STEP = 0.1  # s
STATE_NAMES = ("position along [m]", "position across [m]", "velocity along [m/s]", "velocity across [m/s]")

WIND = 10.5  # N
START = (0.25, 0.8)  # m
GOAL = (3.75, 0.2)  # m
RADIUS = 0.15  # m, of both
EXPERT_WEIGHT_ROOTS = {"state_weight_root": (5.0, 5.0, 0.5, 0.5), "control_weight_root": (0.05, 0.05)}
"""Of who knows the way and is in a hurry: with the default ones the mass crawls up to every point and time runs out."""
ANYWHERE = ((0.1, 3.9), (0.1, 0.9))  # m, where `starts="anywhere"` puts them, off wind zones and walls

LAYOUTS: dict[str, dict[str, Any]] = {
    "easy": {"zones": ((0.5, 1.5, 0.2, 1.0), (2.5, 3.5, 0.0, 0.8))},
    "hard": {"zones": ((0.5, 1.5, 0.1, 1.0), (2.5, 3.5, 0.0, 0.9))},
    "walls": {
        "zones": (),
        # Passages of 0.2 to 0.25 m: below, above, and in the middle, with a wind that drives towards their edges.
        "walls": ((0.95, 1.05, 0.25, 1.0), (1.95, 2.05, 0.0, 0.75), (2.95, 3.05, 0.0, 0.4), (2.95, 3.05, 0.6, 1.0)),
        "gusts": (
            (1.0, 0.15, 0.2, -0.4, 0.4),
            (1.5, 0.5, 0.25, 0.3, -0.5),
            (2.0, 0.85, 0.2, -0.5, -0.3),
            (2.5, 0.6, 0.25, -0.2, 0.5),
            (3.0, 0.5, 0.2, -0.4, -0.3),
        ),
    },
}


class WindMazeState(eqx.Module):
    """Where the mass is, and how long it has been going."""

    x: Float[Array, " 4"]
    """p [m], v [m/s]."""
    step: Int[Array, ""]
    """Steps since the start."""


@final
class WindMaze(Environment[WindMazeState]):
    """The world: a course of 4 m × 1 m with wind, and walls in one of its layouts.

    Observation: p [m], v [m/s], and the wind force at p [N]; unbounded, since the last observation of an episode may
        lie off the course.
    Action: force [N] within ±10 in both directions, clipped.
    Reward: 0.1 (1 - |p₁ - 3.75| / 4) of the new state, and on reaching the goal at time t 60 (1 - t / 20 s) more.
    Terminates: when p leaves the course or v ±20 m/s, when a wall is hit, or at the goal.
    Truncates: after 100 steps (10 s), unless the last one terminates.
    Success: p is within `goal_radius` of (3.75, 0.2), and nothing is violated.
    Violation: the state is outside its limits, or the way to it touches a wall.
    Start: at rest, uniform in the disc of radius `start_spread` (0.15) around (0.25, 0.8); with `starts="anywhere"`
        uniform in [0.1, 3.9] × [0.1, 0.9] outside of zones and walls, whatever `start_spread` is.

    Layouts are arrays, so they can be swept and batched: rows of `zones` and `walls` are rectangles (low and high end
    along, low and high end across), rows of `gusts` are a centre, a radius r and a force F in units of `wind_force`,
    which a distance d from the centre is F exp(-d² / 2r²).

    >>> import jax, jax.numpy as jnp
    >>> environment = WindMaze(start_spread=0.0)
    >>> state = environment.reset(jax.random.key(0))
    >>> transition = environment.step(state, jnp.array([10.0, 0.0]), jax.random.key(1))
    >>> print(f"{transition.observation[2]:.3f} m/s after 0.1 s, of {10 / 15:.3f} m/s in the end")
    0.518 m/s after 0.1 s, of 0.667 m/s in the end
    """

    mass: Array = constant(MASS, positive=True)  # kg
    drag: Array = constant(DRAG, positive=True)  # kg/s
    wind_force: Array = constant(WIND)  # N
    goal_bonus: Array = constant(60.0)
    goal_radius: Array = constant(RADIUS, positive=True)  # m
    start_spread: Array = constant(RADIUS)  # m
    zones: Array = constant(LAYOUTS["hard"]["zones"])  # m
    walls: Array = constant(())  # m
    gusts: Array = constant(())  # m, m, m, 1, 1

    observation_names: tuple[str, ...] = static((*STATE_NAMES, "wind along [N]", "wind across [N]"))
    observation_low: tuple[float, ...] = static((-math.inf,) * 6)
    observation_high: tuple[float, ...] = static((math.inf,) * 6)
    observation_scale: tuple[float, ...] = static((4.0, 1.0, 1.0, 1.0, WIND, WIND))
    action_names: tuple[str, ...] = static(("force along [N]", "force across [N]"))
    action_low: tuple[float, ...] = static((-FORCE_LIMIT, -FORCE_LIMIT))
    action_high: tuple[float, ...] = static((FORCE_LIMIT, FORCE_LIMIT))
    time_step: float = static(TIME_STEP)  # s
    episode_steps: int = static(100)
    starts: Starts = static("disc")

    def __check_init__(self):
        check_constants(self)  # before shapes: a NaN in the place of a table is a NaN
        check_choice(self, "starts", self.starts, Starts)
        for name, columns in (("zones", 4), ("walls", 4), ("gusts", 5)):
            shape = getattr(self, name).shape
            if shape != (0,) and (len(shape) < 2 or shape[-1] != columns):
                raise ValueError(f"WindMaze got {name} of shape {shape}; rows of {columns} numbers were expected.")

    def reset(self, key: PRNGKeyArray) -> WindMazeState:
        position = self._anywhere(key) if self.starts == "anywhere" else self._in_disc(key)
        return WindMazeState(x=jnp.concatenate([position, jnp.zeros(2)]), step=jnp.array(0))

    def observe(self, state: WindMazeState) -> Float[Array, " 6"]:
        return jnp.concatenate([state.x, self.wind(state.x[:2])])

    def step(self, state: WindMazeState, action: Float[Array, " 2"], key: PRNGKeyArray) -> Transition[WindMazeState]:
        del key  # The world is deterministic.
        force = jnp.clip(action, jnp.asarray(self.action_low), jnp.asarray(self.action_high))
        position, velocity = state.x[:2], state.x[2:]
        decay = jnp.exp(-self.drag * self.time_step / self.mass)
        pushed = decay * velocity + (1 - decay) / self.drag * (force + self.wind(position))
        x = jnp.concatenate([position + self.time_step * velocity, pushed])
        new = WindMazeState(x=x, step=state.step + 1)
        inside = jnp.all((x >= jnp.asarray(LOW)) & (x <= jnp.asarray(HIGH)))  # False for NaN too
        violation = ~inside | self.hits_a_wall(position, x[:2])
        goal = ~violation & (jnp.linalg.norm(x[:2] - jnp.asarray(GOAL)) <= self.goal_radius)
        elapsed = new.step / self.episode_steps
        ended = violation | goal
        return Transition(
            state=new,
            observation=self.observe(new),
            reward=0.1 * (1 - jnp.abs(x[0] - GOAL[0]) / HIGH[0]) + goal * self.goal_bonus * (1 - 0.5 * elapsed),
            terminated=ended,
            truncated=~ended & (new.step >= self.episode_steps),
            info=StepInfo(violation=violation, success=goal),
        )

    def wind(self, position: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """The force of the wind at `position`, in N."""
        head = -self.wind_force * jnp.any(_inside(_rows(self.zones, 4), position))
        gusts = _rows(self.gusts, 5)
        distance = jnp.sum((gusts[:, :2] - position[None]) ** 2, axis=1)
        gust = jnp.exp(-distance / (2 * gusts[:, 2] ** 2)) @ gusts[:, 3:]
        return self.wind_force * gust + jnp.stack([head, jnp.zeros_like(head)])

    def hits_a_wall(self, start: Float[Array, " 2"], end: Float[Array, " 2"]) -> Bool[Array, ""]:
        """Whether the segment from `start` to `end` touches a wall; a position that is no number does.

        Two convex shapes are apart exactly where a line parallel to one of their edges parts them.
        """
        walls = _rows(self.walls, 4)
        half = (walls[:, 1::2] - walls[:, ::2]) / 2
        middle = ((start + end) / 2)[None] - (walls[:, 1::2] + walls[:, ::2]) / 2
        way = jnp.broadcast_to((end - start) / 2, half.shape)
        apart = jnp.any(jnp.abs(middle) > half + jnp.abs(way), axis=1)
        across = jnp.abs(middle[:, 0] * way[:, 1] - middle[:, 1] * way[:, 0])
        apart |= across > half[:, 0] * jnp.abs(way[:, 1]) + half[:, 1] * jnp.abs(way[:, 0])
        return jnp.any(~apart)

    def next_point(self, position: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """Where to go from `position` [m] to get past wind zones and walls to the goal, see `way_past.py`."""
        obstacles = jnp.concatenate([_rows(self.zones, 4), _rows(self.walls, 4)])
        return way_past(obstacles, position, jnp.asarray(GOAL), LOW[1], HIGH[1])

    def _in_disc(self, key: PRNGKeyArray) -> Float[Array, " 2"]:
        radius, turn = jax.random.uniform(key, (2,))
        direction = jnp.stack([jnp.cos(2 * math.pi * turn), jnp.sin(2 * math.pi * turn)])
        return jnp.asarray(START) + self.start_spread * jnp.sqrt(radius) * direction

    def _anywhere(self, key: PRNGKeyArray) -> Float[Array, " 2"]:
        """Uniform outside of all rectangles: their edges cut the course into cells, each of them free or not."""
        rectangles = jnp.concatenate([_rows(self.zones, 4), _rows(self.walls, 4)])
        edges = [
            jnp.sort(
                jnp.clip(jnp.concatenate([rectangles[:, 2 * axis : 2 * axis + 2].ravel(), jnp.asarray(ends)]), *ends)
            )
            for axis, ends in enumerate(ANYWHERE)
        ]
        low, high = (
            jnp.stack([part.ravel() for part in jnp.meshgrid(edges[0][cut], edges[1][cut])], axis=1)
            for cut in (slice(None, -1), slice(1, None))
        )
        free = ~jax.vmap(lambda centre: jnp.any(_inside(rectangles, centre)))((low + high) / 2)
        choice, place = jax.random.split(key)
        cell = jax.random.categorical(choice, jnp.log(jnp.where(free, jnp.prod(high - low, axis=1), 0.0)))
        return low[cell] + (high[cell] - low[cell]) * jax.random.uniform(place, (2,))

    def draw(self, axes: "Axes", state: WindMazeState, *, alpha: float = 1.0) -> None:
        from matplotlib.patches import Circle, Rectangle

        course = ((LOW[0], HIGH[0], LOW[1], HIGH[1]),)
        for rectangles, color, zorder in (
            (course, "#f8fafc", 0),
            (self.zones, "#dbeafe", 1),
            (self.walls, "#374151", 3),
        ):
            for left, right, low, high in np.reshape(rectangles, (-1, 4)).tolist():
                edge = "0.3" if rectangles is course else "none"
                patch = Rectangle((left, low), right - left, high - low, facecolor=color, edgecolor=edge, zorder=zorder)
                axes.add_patch(patch)
        self._draw_wind(axes)
        axes.add_patch(Circle(START, RADIUS, fill=False, edgecolor="0.45", linestyle="--", linewidth=1.0, zorder=2))
        axes.add_patch(Circle(GOAL, float(self.goal_radius), facecolor="#86efac", edgecolor="#15803d", zorder=2))
        along, across, *velocity = np.asarray(state.x).tolist()
        if math.hypot(*velocity) > 0.05:
            tip = along + 0.3 * velocity[0], across + 0.3 * velocity[1]
            arrow = {"arrowstyle": "-|>", "color": "tab:red", "alpha": alpha, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", tip, (along, across), arrowprops=arrow, zorder=5)
        axes.add_patch(Circle((along, across), 0.04, color="tab:red", alpha=alpha, linewidth=0, zorder=6))
        axes.set(xlim=(LOW[0] - 0.05, HIGH[0] + 0.05), ylim=(LOW[1] - 0.05, HIGH[1] + 0.05), aspect="equal")
        axes.set_axis_off()

    def _draw_wind(self, axes: "Axes") -> None:
        places = np.stack(np.meshgrid(np.arange(0.08, 4.0, 0.16), np.arange(0.065, 1.0, 0.145)), axis=-1).reshape(-1, 2)
        forces = np.asarray(jax.vmap(self.wind)(jnp.asarray(places, float)))
        strength = np.linalg.norm(forces, axis=1)
        blown = strength > 0.1 * strength.max()
        if blown.any():
            axes.quiver(
                *places[blown].T, *forces[blown].T, color="#60a5fa", pivot="mid", angles="xy", scale_units="xy",
                scale=strength.max() / 0.13, width=0.0025, headwidth=4, headlength=4, headaxislength=3.5, zorder=2,
            )  # fmt: skip


@final
class WindMazeProblem(Problem):
    """What the planner believes and wants: still air, and ½ (‖Q (x - x_ref)‖² + ‖R (u - u_ref)‖²) over 2 s.

    Q = diag(`state_weight_root`), R = diag(`control_weight_root`); the last stage has the cost of the state alone. With
    the default reference, the origin, the planner steers away from the goal: it is for a policy to say where that is.

    The force is bounded hard and the state softly, 5 cm within the course, at the stages 1…N-1.
    """

    horizon: int = static(20)
    state_size: int = static(4)
    control_size: int = static(2)
    time_step: float = static(TIME_STEP)  # s
    published_decay: bool = static(False)
    """Whether v⁺ = m b (v + u / m), as in the published problem, where e was meant to multiply v."""

    state_weight_root: Array = parameter((1.0,) * 4, low=0.5, high=1.5)
    control_weight_root: Array = parameter((0.1,) * 2, low=0.05, high=0.15)
    state_reference: Array = parameter((0.0,) * 4, low=LOW, high=HIGH)  # m, m/s
    control_reference: Array = parameter((0.0,) * 2, low=-FORCE_LIMIT, high=FORCE_LIMIT)  # N
    mass: Array = constant(MASS, positive=True)  # kg
    drag: Array = constant(DRAG, positive=True)  # kg/s
    margin: Array = constant(0.05)  # m
    limit_price: Array = constant(1e4)  # for exceeding the state limits, per m or m/s
    limit_weight: Array = constant(10.0)  # and per square of them

    def __check_init__(self):
        check_constants(self)

    @classmethod
    def published(cls) -> "WindMazeProblem":
        """The problem as published: with a drag of 0.1 kg/s, where the world has 15, and v multiplied by m b.

        A newton then seems to bring 0.0995 m/s in a step, about twice of what it brings.

        >>> import jax.numpy as jnp
        >>> x, u = jnp.zeros(4), jnp.array([1.0, 0.0])
        >>> published, corrected = WindMazeProblem.published().dynamics(x, u), WindMazeProblem().dynamics(x, u)
        >>> print(f"{published[2]:.4f} and {corrected[2]:.4f} m/s")
        0.0995 and 0.0518 m/s
        """
        return cls(drag=jnp.asarray(0.1), published_decay=True)

    def dynamics(self, x: Float[Array, " 4"], u: Float[Array, " 2"]) -> Float[Array, " 4"]:
        decay = jnp.exp(-self.drag * self.time_step / self.mass)
        gain = (1 - decay) / self.drag
        kept = self.mass * gain if self.published_decay else decay
        return jnp.concatenate([x[:2] + self.time_step * x[2:], kept * x[2:] + gain * u])

    def stage_residual(self, x: Float[Array, " 4"], u: Float[Array, " 2"]) -> Float[Array, " 6"]:
        return jnp.concatenate([self.terminal_residual(x), self.control_weight_root * (u - self.control_reference)])

    def terminal_residual(self, x: Float[Array, " 4"]) -> Float[Array, " 4"]:
        return self.state_weight_root * (x - self.state_reference)

    def control_bounds(self) -> Bounds:
        return Bounds(-FORCE_LIMIT, FORCE_LIMIT)

    def state_bounds(self) -> Bounds:
        margin = self.margin * jnp.array([1.0, 1.0, 0.0, 0.0])
        slack = Slack(linear=self.limit_price, quadratic=self.limit_weight)
        return Bounds(jnp.asarray(LOW) + margin, jnp.asarray(HIGH) - margin, slack=slack)

    def terminal_bounds(self) -> Bounds:
        return Bounds()


@final
class WindMazeTask(Task[WindMaze, WindMazeProblem]):
    """Steer a mass through wind to a goal, with a planner that does not know of the wind.

    **Arguments:**

    - `environment`, `problem`: replace the defaults.
    - `difficulty`: `"easy"`, `"hard"` (gaps of 0.2 m and 0.1 m beside two wind zones) or `"walls"`.
    - `starts`: `"disc"`, or `"anywhere"` to train from the whole course.
    - `definition`: `"published"` takes the planning problem with the mistakes in its model.
    - `interface`: `"global"` has 12 learned parameters, `"stage"` 240: the twelve once for each of the 20 stages.

    >>> WindMazeTask(difficulty="walls").name
    'windmaze-walls'
    """

    environment: WindMaze
    problem: WindMazeProblem
    name: str = static()
    learned_parameters: tuple[str, ...] = static(
        ("state_weight_root", "control_weight_root", "state_reference", "control_reference")
    )
    state_names: tuple[str, ...] = static(STATE_NAMES)

    def __init__(
        self,
        environment: WindMaze | None = None,
        problem: WindMazeProblem | None = None,
        *,
        difficulty: Difficulty = "hard",
        starts: Starts = "disc",
        definition: Definition = "corrected",
        interface: Interface = "global",
    ):
        check_choice(self, "difficulty", difficulty, Difficulty)
        check_choice(self, "definition", definition, Definition)
        check_choice(self, "interface", interface, Interface)
        if definition == "published" and problem is not None:
            raise ValueError("WindMazeTask got definition='published' and a problem; leave one of them out.")
        self.environment = WindMaze(**LAYOUTS[difficulty], starts=starts) if environment is None else environment
        if problem is None:
            problem = WindMazeProblem.published() if definition == "published" else WindMazeProblem()
        if interface == "stage":
            states, controls = range(1, problem.horizon + 1), range(problem.horizon)
            problem = with_stages(
                problem,
                {"state_weight_root": states, "state_reference": states}
                | {"control_weight_root": controls, "control_reference": controls},
            )
        self.problem = problem
        self.name = f"windmaze-{difficulty}"
        self.learned_parameters = ("state_weight_root", "control_weight_root", "state_reference", "control_reference")
        self.state_names = STATE_NAMES

    def planner_state(self, observation: Float[Array, " 6"]) -> Float[Array, " 4"]:
        return observation[:4]

    def expert(self, observation: Float[Array, " 6"]) -> WindMazeProblem:
        """Knows the way: it aims at the next point on it, see `WindMaze.next_point`."""
        if isinstance(self.problem.state_reference, PerStage):
            raise ValueError("WindMazeTask(interface='stage') has no expert; one is known with interface='global'.")
        target = jnp.concatenate([self.environment.next_point(observation[:2]), jnp.zeros(2)])
        weights = {name: jnp.asarray(root) for name, root in EXPERT_WEIGHT_ROOTS.items()}
        return dataclasses.replace(self.problem, state_reference=target, **weights)


def _rows(table: Float[Array, "..."], columns: int) -> Float[Array, "rows columns"]:
    return jnp.reshape(table, (-1, columns))


def _inside(rectangles: Float[Array, "rows 4"], position: Float[Array, " 2"]) -> Bool[Array, " rows"]:
    """Whether `position` is in each of the closed rectangles."""
    return jnp.all((position[None] >= rectangles[:, ::2]) & (position[None] <= rectangles[:, 1::2]), axis=1)
