r"""Fly a quadrotor through gates, as fast as it can.

Progress towards the next gate is rewarded; hitting its frame ends the race:

    r = |c - p| - |c - p⁺| - 0.01 |ω_c| - 0.1 (|v⁺| - v_max)₊ + 10 [passed] - 10 [crashed]

c is the centre of the next gate, and v_max a speed limit, which there is none of unless told.

    symbol        shape  meaning
    p, v, R       [3]    position [m], velocity [m/s], attitude as a matrix [3, 3], all in the world
    u = (F, ω_c)  [4]    collective thrust [N] and body rates [rad/s]

Reference: A. Romero, Y. Song, D. Scaramuzza, "Actor-critic model predictive control", ICRA 2024, and its extended
version, arXiv 2306.09852, 2025; observation and reward are theirs, the track's geometry see `gates.py`.
"""

import math
from typing import TYPE_CHECKING, Any, Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray

from planahead.problem import static
from planahead.problem.rotation import from_yaw, matrix
from planahead.tasks.environment import Environment, StepInfo, Transition, constant
from planahead.tasks.flight.gates import TRACKS, Track, corners_of, crossing, frame_of
from planahead.tasks.flight.quadrotor import (
    COMMAND_HIGH,
    COMMAND_LOW,
    COMMAND_NAMES,
    RANDOMISED,
    RATE_LIMIT,
    TIME_STEP,
    Nominal,
    Quadrotor,
    Randomisation,
)
from planahead.tasks.flight.vector import length
from planahead.tasks.flight.wind import Wind
from planahead.tasks.task import check_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Starts = Literal["grid", "anywhere"]
START_SPREAD = 0.5  # m
GRID_SHARE = 0.2
"""Of the starts anywhere: a policy that has never started from rest need not be able to."""
PASSED, CRASHED = 10.0, 10.0
SPEEDING = 0.1
"""A step's price of each m/s above the limit: five times what that brings nearer to the gate."""
_SEEN = (
    *(f"velocity {axis} [m/s]" for axis in "xyz"),
    *(f"attitude {row}{column} [1]" for row in "xyz" for column in "xyz"),
    *(f"gate {which}, corner {corner} {axis} [m]" for which in (1, 2) for corner in range(4) for axis in "xyz"),
)
_RATES = ("roll rate [rad/s]", "pitch rate [rad/s]", "yaw rate [rad/s]")
_RUN_UP = 5.0  # m, of the start on the grid before the first gate
_MARGIN = 8.0  # m, of the arena around the gates


class RaceState(eqx.Module):
    """Where the quadrotor is, and how its race goes."""

    x: Float[Array, " nx"]
    """Of the vehicle; begins with position, attitude and velocity."""
    gate: Int[Array, ""]
    """The next one."""
    step: Int[Array, ""]
    """Steps since the start."""
    passed: Int[Array, ""]
    """Gates since the start."""
    line: Float[Array, ""]
    """Time at which the first gate was passed last, s; negative before."""
    lap: Float[Array, ""]
    """Duration of the last complete lap, s, to a fraction of a step; 0 before."""
    peak: Float[Array, ""]
    """The largest speed since the start, m/s."""
    draw: Float[Array, " draws"]
    """Of the episode's vehicle in [-1, 1], and last the phase of its gusts in half turns."""
    rates: Float[Array, " 3"] | None = None
    """Of the body, rad/s; `None` where they are not observed."""


@final
class Race(Environment[RaceState]):
    """The world: gates, a quadrotor and wind.

    Observation: v [m/s], R row by row, the corners of the next gate from p, and those of the gate after it from the
        next one's [m], all in the world; with `observes_rates` the body rates [rad/s] as well; unbounded.
    Action: collective thrust [N] within 0 and 34, body rates [rad/s] within ±10, ±10 and ±4, clipped.
    Reward: progress towards the next gate [m], less `rate_price` (0.01) times the commanded body rates [rad/s], less
        0.1 times what the speed is above `speed_limit` [m/s], 10 on passing a gate, and -10 on a crash.
    Terminates: on a crash: hitting the next gate's frame or leaving the arena; and where a track that is no loop ends.
    Truncates: after 1000 steps (20 s), unless the last one terminates.
    Success: a lap is complete, or a track that is no loop at its end, and nothing has been hit.
    Violation: a crash, or a speed above `speed_limit`.
    Start: with `starts="grid"` at rest, 5 m before the first gate, position within ±`start_spread` (0.5 m) of it in
        every coordinate; with "anywhere" one in five is there, the others before any gate or behind the one before it,
        flying on as fast as 8 m/s. All starts are 0.4 m or more inside the arena.

    >>> import jax, jax.numpy as jnp
    >>> race = Race.on("split-s", start_spread=0.0)
    >>> state = race.reset(jax.random.key(0))
    >>> transition = race.step(state, jnp.array([34.0, 0.0, 10.0, 0.0]), jax.random.key(1))
    >>> print(f"{transition.observation[2]:.2f} m/s upwards, reward {transition.reward:.2f}")
    0.71 m/s upwards, reward -0.10
    """

    gates: Array = constant(())  # m, m, m, rad, rad
    vehicle: Quadrotor = eqx.field(default_factory=Nominal)
    wind: Wind = eqx.field(default_factory=Wind)
    randomisation: Randomisation = eqx.field(default_factory=Randomisation)
    opening: Array = constant(1.5, positive=True)  # m
    clearance: Array = constant(0.1)  # m
    """Half the size of the vehicle: its centre has to pass this far within the opening."""
    frame: Array = constant(2.4, positive=True)  # m
    """Outer size of a gate."""
    arena_low: Array = constant((-15.0, -12.0, 0.1))  # m
    arena_high: Array = constant((15.0, 12.0, 8.0))  # m
    speed_limit: Array = constant(100.0, positive=True)  # m/s
    rate_price: Array = constant(0.01)  # per rad/s
    start: Array = constant((0.0, 0.0, 1.0))  # m
    start_spread: Array = constant(START_SPREAD)  # m

    action_names: tuple[str, ...] = static(COMMAND_NAMES)
    action_low: tuple[float, ...] = static(COMMAND_LOW)
    action_high: tuple[float, ...] = static(COMMAND_HIGH)
    time_step: float = static(TIME_STEP)  # s
    episode_steps: int = static(1000)
    loop: bool = static(True)
    """Whether the first gate follows the last."""
    starts: Starts = static("grid")
    observes_rates: bool = static(False)

    # These follow from what is observed.
    observation_names: tuple[str, ...] = static(())
    observation_low: tuple[float, ...] = static(())
    observation_high: tuple[float, ...] = static(())
    observation_scale: tuple[float, ...] = static(())

    def __post_init__(self):
        self.observation_names = _SEEN + (_RATES if self.observes_rates else ())
        self.observation_low = (-math.inf,) * len(self.observation_names)
        self.observation_high = (math.inf,) * len(self.observation_names)
        self.observation_scale = (10.0,) * 3 + (1.0,) * 9 + (10.0,) * 24 + (RATE_LIMIT if self.observes_rates else ())

    def __check_init__(self):
        check_choice(self, "starts", self.starts, Starts)
        if self.gates.ndim != 2 or self.gates.shape[0] < 1 or self.gates.shape[1] != 5:
            if not np.isnan(np.asarray(self.gates)).any():  # a number that is none has its own message
                raise ValueError(
                    f"Race got gates of shape {self.gates.shape}; rows of x, y, z [m], yaw and pitch [rad] were "
                    "expected, one at least, as Race.on(track) makes them."
                )
        known = not isinstance(self.clearance, Tracer) and not isinstance(self.opening, Tracer)
        if known and np.any(2 * np.asarray(self.clearance) >= np.asarray(self.opening)):
            raise ValueError(
                f"Race got clearance={self.clearance} and opening={self.opening}; nothing passes a gate unless the "
                "clearance is less than half the opening."
            )

    @classmethod
    def on(cls, track: Track, **fields: Any) -> "Race":
        """A race on a track by name, its start and its arena fitted to it. **Raises** `ValueError` for an unknown
        name."""
        if track not in TRACKS:
            raise ValueError(f"there is no track '{track}'; the known ones are: {', '.join(TRACKS)}.")
        rows = np.array(TRACKS[track])
        rows[:, 3:] = np.radians(rows[:, 3:])
        first = jnp.asarray(rows[0])
        low, high = rows[:, :3].min(axis=0) - _MARGIN, rows[:, :3].max(axis=0) + _MARGIN
        fitted = {
            "gates": rows,
            "start": np.asarray(first[:3] - _RUN_UP * frame_of(first).normal),
            "arena_low": np.array([low[0], low[1], 0.1]),
            "arena_high": high,
            "loop": track.startswith(("split-s", "circle")),
        }
        return cls(**(fitted | fields))

    def reset(self, key: PRNGKeyArray) -> RaceState:
        choice, place, run, offset, draw = jax.random.split(key, 5)
        gate, speed, faced = jnp.zeros((), jnp.int32), jnp.zeros(()), self.gates[0]
        position = self.start
        if self.starts == "anywhere":
            near, gate, on_grid = self._anywhere(choice)
            before = jnp.maximum(gate - 1, 0) if not self.loop else (gate - 1) % len(self.gates)
            faced = jnp.where(near | (gate == before), self.gates[gate], self.gates[before])
            run_up = jax.random.uniform(place, minval=1.0, maxval=3.0)
            there = faced[:3] + jnp.where(near | (gate == before), -run_up, 0.3) * frame_of(faced).normal
            position = jnp.where(on_grid, self.start, there)
            faced = jnp.where(on_grid, self.gates[0], faced)
            speed = jnp.where(on_grid, 0.0, 8.0 * jax.random.uniform(run))
        position += self.start_spread * jax.random.uniform(offset, (3,), minval=-1.0, maxval=1.0)
        position = jnp.clip(position, self.arena_low + 0.4, self.arena_high - 0.4)
        heading, attitude = frame_of(faced).normal, from_yaw(faced[3])
        draws = jax.random.uniform(draw, (len(RANDOMISED) + 1,), minval=-1.0, maxval=1.0)
        vehicle = self.vehicle.randomised(draws, self.randomisation)
        zero, never = jnp.zeros((), jnp.int32), -jnp.ones(())
        x = vehicle.at(position, attitude, speed * heading)
        rates = jnp.zeros(3) if self.observes_rates else None
        return RaceState(x, gate, zero, zero, never, jnp.zeros(()), jnp.asarray(speed), draws, rates)

    def _anywhere(self, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Whether near a gate, which one is next, and whether on the grid after all."""
        which, near, grid = jax.random.split(key, 3)
        on_grid = jax.random.bernoulli(grid, GRID_SHARE)
        gate = jnp.where(on_grid, 0, jax.random.randint(which, (), 0, len(self.gates)))
        return jax.random.bernoulli(near), gate, on_grid

    def observe(self, state: RaceState) -> Float[Array, " observation"]:
        half = 0.5 * self.opening
        gate = self.gates[state.gate]
        corners = corners_of(gate, half)
        following = corners_of(self.gates[self._after(state.gate)], half)
        position, attitude, velocity = state.x[:3], state.x[3:7], state.x[7:10]
        parts = [velocity, matrix(attitude), corners - position[None], following - corners]
        parts += [] if state.rates is None else [state.rates]
        return jnp.concatenate([jnp.ravel(part) for part in parts])

    def step(self, state: RaceState, action: Float[Array, " 4"], key: PRNGKeyArray) -> Transition[RaceState]:
        del key
        command = self.command(action)
        x = self._vehicle(state).fly(state.x, command, self.force(state), self.time_step)
        return self.flown(state, command, x)

    def _vehicle(self, state: RaceState) -> Quadrotor:
        """That of the episode."""
        return self.vehicle.randomised(state.draw, self.randomisation)

    def command(self, action: Float[Array, " 4"]) -> Float[Array, " 4"]:
        """What the quadrotor is told: the action within its bounds."""
        return jnp.clip(action, jnp.asarray(self.action_low), jnp.asarray(self.action_high))

    def force(self, state: RaceState) -> Float[Array, " 3"]:
        """Of the wind [N], for the step that begins in `state`."""
        return self.wind.force(state.x[:3], state.step * self.time_step, jnp.pi * state.draw[-1])

    def flown(self, state: RaceState, command: Float[Array, " 4"], x: Float[Array, " nx"]) -> Transition[RaceState]:
        """What a step meant for the race in which a `command` took the vehicle to the state `x`, whatever flew it
        there."""
        before, time = state.x[:3], state.step * self.time_step
        gate, after = self.gates[state.gate], x[:3]
        half, reach = 0.5 * self.opening - self.clearance, 0.5 * self.frame + self.clearance
        met = crossing(gate, before, after, half, reach)
        inside = jnp.all((after >= self.arena_low) & (after <= self.arena_high)) & jnp.all(jnp.isfinite(x))
        crashed = met.hit | ~inside
        progress = length(gate[:3] - before) - length(gate[:3] - after)
        earned = progress - self.prices(command, x[7:10]) + PASSED * met.passed
        reward = jnp.where(jnp.isfinite(earned), earned, 0.0) - CRASHED * crashed

        speed = length(x[7:10])
        now = time + met.share * self.time_step
        at_line = met.passed & (state.gate == 0)
        moved = RaceState(
            x=x,
            gate=jnp.where(met.passed, self._after(state.gate), state.gate),
            step=state.step + 1,
            passed=state.passed + met.passed,
            line=jnp.where(at_line, now, state.line),
            lap=jnp.where(at_line & (state.line >= 0), now - state.line, state.lap),
            peak=jnp.maximum(state.peak, speed),
            draw=state.draw,
            rates=self._vehicle(state).rates(x, command) if self.observes_rates else None,
        )
        finished = jnp.array(False) if self.loop else met.passed & (state.gate == len(self.gates) - 1)
        terminated = crashed | finished
        return Transition(
            state=moved,
            observation=self.observe(moved),
            reward=reward,
            terminated=terminated,
            truncated=(moved.step >= self.episode_steps) & ~terminated,
            info=StepInfo(
                violation=crashed | (speed > self.speed_limit),
                success=((moved.lap > 0) if self.loop else finished) & ~crashed,
            ),
        )

    def prices(self, command: Float[Array, " 4"], velocity: Float[Array, " 3"]) -> Float[Array, ""]:
        """What a step costs of its reward: turning, and the speed that it led to."""
        excess = jnp.maximum(length(velocity) - self.speed_limit, 0.0)
        return self.rate_price * length(command[1:]) + SPEEDING * excess

    def _after(self, gate: Int[Array, ""]) -> Int[Array, ""]:
        last = len(self.gates) - 1
        return jnp.where(gate == last, 0 if self.loop else last, gate + 1)

    def outcome(self, state: RaceState) -> dict[str, Array]:
        """`lap [s]`, the last complete one; `peak speed [m/s]`; `gates [1]`, how many were passed."""
        return {
            "lap [s]": jnp.where(state.lap > 0, state.lap, jnp.nan),
            "peak speed [m/s]": state.peak,
            "gates [1]": state.passed.astype(state.peak.dtype),
        }

    def flight(self, state: RaceState) -> Float[Array, " 6"]:
        return jnp.concatenate([state.x[:3], state.x[7:10]])

    def draw_course(self, axes: "Axes", seen: tuple[int, int]) -> None:
        """Gates with their numbers and the direction of passage."""
        for number, gate in enumerate(self.gates, start=1):
            corners, normal = np.asarray(corners_of(gate, 0.5 * self.opening)), np.asarray(frame_of(gate).normal)
            around = np.concatenate([corners, corners[:1]])[:, seen]
            axes.plot(*around.T, color="tab:orange", linewidth=2.5, zorder=2)
            (x, y), (right, up) = np.asarray(gate)[list(seen)].tolist(), normal[list(seen)].tolist()
            arrow = {"arrowstyle": "->", "color": "tab:orange"}
            axes.annotate("", (x + 1.5 * right, y + 1.5 * up), (x, y), arrowprops=arrow, zorder=2)
            beside = {"textcoords": "offset points", "xytext": (6, 6), "color": "#9A5B00"}
            axes.annotate(str(number), around[0], ha="center", va="center", fontsize=8, zorder=4, **beside)

    def draw(self, axes: "Axes", state: RaceState, *, alpha: float = 1.0) -> None:
        """The track from above, or from the side where it is a column; gates with the direction of passage, the
        quadrotor with its velocity."""
        extent = np.ptp(np.asarray(self.gates)[:, :3], axis=0)
        seen = [0, 2] if extent[2] > extent[1] else [0, 1]
        self.draw_course(axes, (seen[0], seen[1]))
        (x, y), (right, up) = (np.asarray(state.x)[start:][seen].tolist() for start in (0, 7))
        if math.hypot(right, up) > 0.5:
            arrow = {"arrowstyle": "-|>", "color": "tab:blue", "alpha": alpha}
            axes.annotate("", (x + 0.15 * right, y + 0.15 * up), (x, y), arrowprops=arrow)
        axes.plot([x], [y], marker="o", markersize=5, color="tab:blue", alpha=alpha, zorder=3)
        low, high = np.asarray(self.arena_low)[seen], np.asarray(self.arena_high)[seen]
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
        axes.set(xlabel="x [m]", ylabel="yz"[seen[1] - 1] + " [m]")
