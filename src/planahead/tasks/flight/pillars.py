r"""Fly a quadrotor between pillars to a goal, after a reference that is planned for a point mass.

    r = w_r exp(-½ ‖p - p_r‖² / σ_p² - ½ ‖v - v_r‖² / σ_v²) + w_g (1 - min(‖p - goal‖ / 5, 1)) - w_ω ‖ω_c / limits‖²

    symbol     shape  meaning
    p, v       [3]    position [m] and velocity [m/s] in the world
    p_r, v_r   [3]    the reference now
    ω_c        [3]    body rates that are commanded [rad/s]

The reference is part of the world: it is planned anew from where the quadrotor is, at its own rate, and a policy sees
it some moments ahead, relative to itself. Who follows it commands a quadrotor with rotors that lag, a rate loop, drag
and a delay, none of which the planner knows. Where it comes from is a switch:

    "planned"  by `PillarsPlan`, around the pillars
    "drawn"    next to nothing is computed: feedback of a point mass, through pillars that are not there, to an aim that
               moves by chance and is not the goal that is observed (a follower that sees where references end goes
               there straight, and touches pillars when a planner leads around them); to train a follower that meets a
               planner only when it is deployed
    "goal"     the goal itself, at rest: a policy alone, from what it sees of the pillars to commands
"""

import dataclasses
from typing import TYPE_CHECKING, Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from planahead.planning import Guess
from planahead.policies.reference import Reference, ReferenceGenerator
from planahead.problem import static
from planahead.problem.rotation import from_yaw, matrix
from planahead.tasks.environment import Environment, StepInfo, Transition, constant
from planahead.tasks.flight.pillars_problem import PILLARS, RADIUS, ROOM_HIGH, ROOM_LOW, PillarsPlan
from planahead.tasks.flight.quadrotor import (
    COMMAND_HIGH,
    COMMAND_LOW,
    COMMAND_NAMES,
    COMMAND_SCALE,
    GRAVITY,
    MASS,
    RANDOMISED,
    RATE_LIMIT,
    TIME_STEP,
    Quadrotor,
    Randomisation,
    Realistic,
)
from planahead.tasks.flight.vector import length
from planahead.tasks.flight.wind import Wind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Source = Literal["planned", "drawn", "goal"]
"""Where the reference comes from."""
AHEAD = (0, 5, 10, 20)
"""Steps ahead at which the reference is observed."""
_MOMENTS = tuple(f"{1000 * steps * TIME_STEP:.0f} ms" for steps in AHEAD)
_POINTS = 9 + 3 + 3 + 3 + 4
"""Where the reference begins in an observation: after attitude, rates, velocity, acceleration and command."""
_GOAL = _POINTS + 6 * len(AHEAD)
START = (-2.5, 0.0, 0.0)  # m
CLOSE = 0.25  # m, at the goal
FAR = 5.0  # m, from where on coming closer to the goal earns nothing
SIGMA = (0.1, 0.5)  # m, m/s
MOVES = (
    0.01  # probability per step that a drawn reference has another aim: every two seconds, so that it is reached too
)


def referenced(observation: Float[Array, " 55"]) -> Float[Array, "moments 2 3"]:
    """What is observed of the reference: positions [m] and velocities [m/s] at the moments `AHEAD`, relative to the
    quadrotor's."""
    return observation[_POINTS:_GOAL].reshape(len(AHEAD), 2, 3)


class PillarsState(eqx.Module):
    """Where the quadrotor is, what it follows, and the episode's draws."""

    x: Float[Array, " nx"]
    """Of the vehicle; begins with position, attitude and velocity."""
    measured: Float[Array, " 6"]
    """Body rates [rad/s], and the mean acceleration of the last step [m/s²] in the world."""
    command: Float[Array, " 4"]
    """The one before."""
    goal: Float[Array, " 3"]
    """As it is observed."""
    aim: Float[Array, " 3"]
    """Where the reference leads to: the goal, unless it is drawn."""
    centres: Float[Array, "pillars 2"]
    reference: Reference
    draw: Float[Array, " draws"]
    """In [-1, 1]: of the vehicle, of the gusts' phase in half turns, and three of a wind."""
    step: Int[Array, ""]


@final
class Pillars(Environment[PillarsState]):
    """The world: a room of 7 by 4 by 3 m with three pillars, a quadrotor in it, and a reference.

    Observation: R row by row, body rates [rad/s], v [m/s], the mean acceleration of the last step [m/s²] and its
        command; the reference now and 0.1, 0.2 and 0.4 s ahead, p_r - p [m] and v_r - v [m/s] each; the goal and the
        pillars relative to the quadrotor [m]. Unbounded.
    Action: collective thrust [N] within 0 and 34, body rates [rad/s] within ±10, ±10 and ±4, clipped.
    Reward: see above; at most 2 a step. 0 for what is not finite.
    Terminates: touching a pillar, or outside of the room.
    Truncates: after 200 steps (4 s), unless the last one terminates.
    Success: within 0.25 m of the goal.
    Violation: as terminates.
    Start: upright and at rest at (-2.5, 0, 0), plus a uniform draw within ±`start_spread` (0.3) in every coordinate of
        position [m] and velocity [m/s]. The goal lies at (2.5, 0, 0) ± (0.3, 1, 0.6), the pillars at x = -1.2, 0 and
        1.2 ± 0.2 and y = 0 ± 0.9 m, each times `course_spread` (1). With a drawn
        reference the quadrotor starts anywhere, there are no pillars, and the reference's aim stands for the goal.

    >>> import jax, jax.numpy as jnp
    >>> world = Pillars()
    >>> state = world.reset(jax.random.key(0))
    >>> moved = world.step(state, jnp.array([7.3746, 0.0, 0.0, 0.0]), jax.random.key(1))
    >>> moved.observation.shape, int(moved.state.reference.age), bool(moved.terminated)
    ((55,), 0, False)
    """

    vehicle: Quadrotor = eqx.field(default_factory=Realistic)
    wind: Wind = eqx.field(default_factory=Wind)
    randomisation: Randomisation = eqx.field(default_factory=Randomisation)
    plan: PillarsPlan = eqx.field(default_factory=PillarsPlan)
    generator: ReferenceGenerator = eqx.field(default_factory=ReferenceGenerator)
    reference: Source = static("planned")
    tracking_reward: Array = constant(1.0)  # w_r
    goal_reward: Array = constant(1.0)  # w_g
    rate_price: Array = constant(0.05)  # w_ω
    wind_spread: Array = constant(0.0)  # N, half width of a force that is drawn for every episode, in each coordinate
    start_spread: Array = constant(0.3)  # m, m/s
    course_spread: Array = constant(1.0)
    """Share of what goal and pillars are drawn within."""

    observation_names: tuple[str, ...] = static(
        (
            *(f"attitude {row}{column} [1]" for row in "xyz" for column in "xyz"),
            *(f"{name} rate [rad/s]" for name in ("roll", "pitch", "yaw")),
            *(f"velocity {axis} [m/s]" for axis in "xyz"),
            *(f"acceleration {axis} [m/s²]" for axis in "xyz"),
            *(f"last {name}" for name in COMMAND_NAMES),
            *(
                f"reference {what} {axis} in {moment} [{unit}]"
                for moment in _MOMENTS
                for what, unit in (("position", "m"), ("velocity", "m/s"))
                for axis in "xyz"
            ),
            *(f"goal {axis} [m]" for axis in "xyz"),
            *(f"pillar {number} {axis} [m]" for number in range(1, PILLARS + 1) for axis in "xy"),
        )
    )
    observation_low: tuple[float, ...] = static((-np.inf,) * (_GOAL + 3 + 2 * PILLARS))
    observation_high: tuple[float, ...] = static((np.inf,) * (_GOAL + 3 + 2 * PILLARS))
    observation_scale: tuple[float, ...] = static(
        (1.0,) * 9
        + (3.0,) * 3
        + (2.0,) * 3
        + (10.0,) * 3
        + COMMAND_SCALE
        + ((0.5,) * 3 + (1.0,) * 3) * len(AHEAD)
        + (2.0,) * (3 + 2 * PILLARS)
    )
    action_names: tuple[str, ...] = static(COMMAND_NAMES)
    action_low: tuple[float, ...] = static(COMMAND_LOW)
    action_high: tuple[float, ...] = static(COMMAND_HIGH)
    time_step: float = static(TIME_STEP)  # s
    episode_steps: int = static(200)

    def reset(self, key: PRNGKeyArray) -> PillarsState:
        place, ends, where, draw = jax.random.split(key, 4)
        start, velocity = self.start_spread * jax.random.uniform(place, (2, 3), minval=-1.0, maxval=1.0)
        start = start + jnp.asarray(START)
        drawn = self.course_spread * jax.random.uniform(where, (PILLARS, 2), minval=-1.0, maxval=1.0)
        centres = jnp.array([[-1.2, 0.0], [0.0, 0.0], [1.2, 0.0]]) + jnp.array([[0.2, 0.9]]) * drawn
        drawn = self.course_spread * jax.random.uniform(ends, (3,), minval=-1.0, maxval=1.0)
        goal = jnp.array([2.5, 0.0, 0.0]) + jnp.array([0.3, 1.0, 0.6]) * drawn
        if self.reference == "drawn":
            start = self._anywhere(jax.random.fold_in(place, 1))
        aim = self._anywhere(jax.random.fold_in(ends, 1)) if self.reference == "drawn" else goal
        draws = jax.random.uniform(draw, (len(RANDOMISED) + 4,), minval=-1.0, maxval=1.0)
        x = self._flown(draws).at(start, from_yaw(0.0), velocity)
        here = jnp.concatenate([start, velocity])
        reference = self.generator.first(self._cheap(self.plan.between(centres, aim), here))
        still = jnp.zeros(6), jnp.array([MASS * GRAVITY, 0.0, 0.0, 0.0])
        return PillarsState(x, *still, goal, aim, centres, reference, draws, jnp.zeros((), jnp.int32))

    def observe(self, state: PillarsState) -> Float[Array, " 55"]:
        x = state.x
        here = jnp.concatenate([x[:3], x[7:10]])
        points = [self.generator.at(state.reference, float(steps)) - here for steps in AHEAD]
        pillars = jnp.ravel(state.centres - x[None, :2])
        own = jnp.ravel(matrix(x[3:7])), state.measured[:3], x[7:10], state.measured[3:], state.command
        return jnp.concatenate([*own, *points, state.goal - x[:3], pillars])

    def step(self, state: PillarsState, action: Float[Array, " 4"], key: PRNGKeyArray) -> Transition[PillarsState]:
        command = jnp.clip(action, jnp.asarray(self.action_low), jnp.asarray(self.action_high))
        force = self.wind.force(state.x[:3], state.step * self.time_step, jnp.pi * state.draw[-4])
        force = force + self.wind_spread * state.draw[-3:]
        vehicle = self._flown(state.draw)
        x = vehicle.fly(state.x, command, force, self.time_step)
        numbers = jnp.all(jnp.isfinite(x))
        x = jnp.where(numbers, x, state.x)  # nothing is planned from what is no number
        wanted = self.generator.at(state.reference, 1.0)
        measured = jnp.concatenate([vehicle.rates(x, command), (x[7:10] - state.x[7:10]) / self.time_step])
        state = dataclasses.replace(state, x=x, measured=measured, command=command, step=state.step + 1)
        moved = self._led(state, key)
        outside = jnp.any((x[:3] < jnp.asarray(ROOM_LOW)) | (x[:3] > jnp.asarray(ROOM_HIGH)))
        lost = ~numbers | outside | self._touches(x, state.centres)
        off = jnp.sum((x[:3] - wanted[:3]) ** 2) / SIGMA[0] ** 2 + jnp.sum((x[7:10] - wanted[3:]) ** 2) / SIGMA[1] ** 2
        away = length(x[:3] - moved.aim)
        earned = self.tracking_reward * jnp.exp(-0.5 * off) + self.goal_reward * (1 - jnp.minimum(away / FAR, 1.0))
        earned = earned - self.rate_price * jnp.sum((command[1:] / jnp.asarray(RATE_LIMIT)) ** 2)
        return Transition(
            state=moved,
            observation=self.observe(moved),
            reward=jnp.where(numbers, earned, 0.0),
            terminated=lost,
            truncated=(moved.step >= self.episode_steps) & ~lost,
            info=StepInfo(violation=lost, success=(away <= CLOSE) & ~lost),
        )

    def flight(self, state: PillarsState) -> Float[Array, " 6"]:
        return jnp.concatenate([state.x[:3], state.x[7:10]])

    def draw(self, axes: "Axes", state: PillarsState, *, alpha: float = 1.0) -> None:
        """From above: pillars, goal, the quadrotor, and the reference that was planned."""
        from matplotlib.patches import Circle, Rectangle

        low, high = ROOM_LOW, ROOM_HIGH
        axes.add_patch(Rectangle(low[:2], high[0] - low[0], high[1] - low[1], fill=False, color="0.6"))
        for centre in np.asarray(state.centres):
            axes.add_patch(Circle(tuple(centre), RADIUS, color="0.8", linewidth=0))
        axes.plot(*np.asarray(state.goal[:2]), "x", color="tab:green")
        way = np.asarray(state.reference.trajectory.states)
        axes.plot(way[:, 0], way[:, 1], ".-", markersize=3, color="tab:orange", alpha=0.6 * alpha)
        axes.plot(*np.asarray(state.x[:2]), "o", color="tab:blue", alpha=alpha)
        axes.set(xlim=(low[0] - 0.2, high[0] + 0.2), ylim=(low[1] - 0.2, high[1] + 0.2), aspect="equal")
        axes.set_axis_off()

    def _flown(self, draw: Float[Array, " draws"]) -> Quadrotor:
        return self.vehicle.randomised(draw, self.randomisation)

    def _touches(self, x: Float[Array, " nx"], centres: Float[Array, "pillars 2"]) -> Bool[Array, ""]:
        if self.reference == "drawn":
            return jnp.array(False)
        return jnp.any(jnp.sum((x[None, :2] - centres) ** 2, axis=1) < RADIUS**2)

    def _anywhere(self, key: PRNGKeyArray) -> Float[Array, " 3"]:
        """Of the room, half a metre and more from its walls."""
        low, high = jnp.asarray(ROOM_LOW) + 0.5, jnp.asarray(ROOM_HIGH) - 0.5
        return low + (high - low) * jax.random.uniform(key, (3,))

    def _cheap(self, problem: PillarsPlan, here: Float[Array, " 6"]) -> Guess:
        """For which nothing is solved."""
        if self.reference == "planned":
            return problem.towards(here)
        if self.reference == "drawn":
            return problem.drawn_to(here)
        still = jnp.concatenate([problem.goal, jnp.zeros(3)])
        return Guess(jnp.tile(still, (problem.horizon + 1, 1)), jnp.zeros((problem.horizon, 3)))

    def _led(self, state: PillarsState, key: PRNGKeyArray) -> PillarsState:
        """With the reference of the new step."""
        here, aim = jnp.concatenate([state.x[:3], state.x[7:10]]), state.aim
        if self.reference == "drawn":
            moves, where = jax.random.split(key)
            aim = jnp.where(jax.random.bernoulli(moves, MOVES), self._anywhere(where), aim)
        problem = self.plan.between(state.centres, aim)
        if self.reference == "planned":
            reference = self.generator.next(state.reference, problem, here)
        else:
            older, new = self.generator.older(state.reference), self.generator.begun(self._cheap(problem, here))
            reference = jax.tree.map(lambda new, old: jnp.where(older.due_in <= 0, new, old), new, older)
        return dataclasses.replace(state, aim=aim, reference=reference)
