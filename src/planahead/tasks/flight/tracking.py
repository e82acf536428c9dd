r"""Model predictive control that follows a lap, without learning, and its L1-adaptive kin.

    minimise  Σ_k ½ ‖W (e_p, e_R, e_v)_{k+1}‖² + ½ ‖W_u (u_k - u_ref,k)‖²,      e_R = 2 sign(w) vec(q_ref⁻¹ ⊗ q)

over half a second around the lap from its point nearest to the quadrotor. Every step is one real-time iteration from
the previous plan.

The plan's model is the nominal quadrotor, or with `lags` what is between its commands and their effects too:

    ω' = α,   α' = a (K (ω_c - ω) - α),   F' = a (F_c - F),   m v̇ = … - c v,   x = (p, q, v, ω, α, F)

K is the gain of the rate loop, 1/a the lag of the rotors, c a drag, and a command takes effect a step late. ω, α and F
are not observed: they are what the model says of the commands that were given.

With `adaptive` a predictor of the velocity shows the acceleration σ that the model f lacks, in steps of length T:

    ṽ = v̂ - v,      σ = -a e / (1 - e) ṽ,   e = exp(-aT),      d ← β d + (1 - β) σ,   β = exp(-ωT)
    v̂ ← v̂ + T (f(u) + σ) - (1 - e) ṽ

The part of d along the body's thrust is cancelled by thrust (it is matched), and the rest, which no thrust can cancel,
is what the plan's model assumes to last.

Reference: D. Hanover, P. Foehn, S. Sun, E. Kaufmann, D. Scaramuzza, "Performance, precision, and payloads: adaptive
nonlinear MPC for quadrotors", RA-L 2022, with the velocity alone, since commands are thrust and body rates.
"""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from planahead.planning import SQP, Guess, solve
from planahead.policies import Decision, Policy, Setting, flat_settings, plan_failed
from planahead.problem import Bounds, PerStage, Problem, parameter, static
from planahead.problem.integrators import rk4
from planahead.problem.rotation import body_z, normalised, product
from planahead.tasks.environment import constant
from planahead.tasks.flight.gates import corners_of
from planahead.tasks.flight.lap import Lap, Sample, whereabouts
from planahead.tasks.flight.quadrotor import (
    COMMAND_HIGH,
    COMMAND_LOW,
    GRAVITY,
    MASS,
    MOTOR_TIME,
    RATE_GAIN,
    TIME_STEP,
    Nominal,
)
from planahead.tasks.flight.race_task import RaceTask


@final
class TrackingProblem(Problem):
    """Follow a reference."""

    horizon: int = static(25)
    state_size: int = static(10)
    """17 with `lags`."""
    control_size: int = static(4)
    lags: bool = static(False)
    reference: Any = parameter((0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    """State, of every stage."""
    command: Any = parameter((MASS * GRAVITY, 0.0, 0.0, 0.0))
    """Command, of every stage."""
    position_weight: Array = constant(25.0, positive=True)  # per m²
    attitude_weight: Array = constant(9.0, positive=True)  # per rad²
    velocity_weight: Array = constant(3.5, positive=True)  # per (m/s)²
    command_weight: Array = constant((0.08, 0.6, 0.6, 1.8), positive=True)  # per N² and (rad/s)²
    rate_gain: Array = constant(RATE_GAIN, positive=True)  # 1/s
    motor_time: Array = constant(MOTOR_TIME, positive=True)  # s
    drag: Array = constant(0.45)  # N s/m, with `lags`: the linear drag at racing speed
    mass: Array = constant(MASS, positive=True)  # kg
    disturbance: Array = constant((0.0, 0.0, 0.0))  # m/s², in the world

    @classmethod
    def lagging(cls, **fields: Any) -> "TrackingProblem":
        """With lags."""
        return cls(lags=True, state_size=17, **fields)

    def dynamics(self, x: Float[Array, " nx"], u: Float[Array, " 4"]) -> Float[Array, " nx"]:
        if not self.lags:
            return Nominal(mass=self.mass).fly(x, u, self.mass * self.disturbance, TIME_STEP)
        x = rk4(self._ode, x, u, TIME_STEP)
        return jnp.concatenate([x[:3], normalised(x[3:7]), x[7:]])

    def _ode(self, x: Float[Array, " 17"], u: Float[Array, " 4"]) -> Float[Array, " 17"]:
        q, v, rates, turning, thrust = x[3:7], x[7:10], x[10:13], x[13:16], x[16:]
        spin = 0.5 * product(q, jnp.concatenate([jnp.zeros(1), rates]))
        force = thrust * body_z(q) - self.drag * v
        a = force / self.mass - jnp.array([0.0, 0.0, GRAVITY]) + self.disturbance
        wanted = self.rate_gain * (u[1:] - rates)
        return jnp.concatenate(
            [v, spin, a, turning, (wanted - turning) / self.motor_time, (u[:1] - thrust) / self.motor_time]
        )

    def before_flight(self) -> Float[Array, " inner"]:
        """What is not observed of the state, while hovering: none without lags."""
        return jnp.concatenate([jnp.zeros(6), self.mass[None] * GRAVITY]) if self.lags else jnp.zeros(0)

    def stage_residual(self, x: Float[Array, " nx"], u: Float[Array, " 4"]) -> Float[Array, " 13"]:
        return jnp.concatenate([self.terminal_residual(x), jnp.sqrt(self.command_weight) * (u - self.command)])

    def terminal_residual(self, x: Float[Array, " nx"]) -> Float[Array, " 9"]:
        inverse = self.reference[3:7] * jnp.array([1.0, -1.0, -1.0, -1.0])
        error = product(inverse, x[3:7])
        turn = 2 * jnp.where(error[0] < 0, -1.0, 1.0) * error[1:]
        return jnp.concatenate(
            [
                jnp.sqrt(self.position_weight) * (x[:3] - self.reference[:3]),
                jnp.sqrt(self.attitude_weight) * turn,
                jnp.sqrt(self.velocity_weight) * (x[7:10] - self.reference[7:]),
            ]
        )

    def control_bounds(self) -> Bounds:
        return Bounds(jnp.array(COMMAND_LOW), jnp.array(COMMAND_HIGH))

    def following(self, sample: Sample) -> "TrackingProblem":
        """The same with a reference of N + 1 moments."""
        where = lambda problem: (problem.reference, problem.command)  # noqa: E731
        return eqx.tree_at(where, self, (PerStage(sample.states), PerStage(sample.commands)))


class Tracked(eqx.Module):
    """What is remembered from step to step."""

    guess: Guess
    known: Bool[Array, ""]
    """False before the first plan of an episode, and after a failed one."""
    predicted: Float[Array, " 3"]
    """v̂, m/s."""
    inner: Float[Array, " inner"]
    """ω, α and F of the model; none without lags."""
    command: Float[Array, " 4"]
    """The one before."""
    disturbance: Float[Array, " 3"]
    """d, m/s²."""


@final
class TrackingPolicy(Policy):
    """Follows `lap`, on the track of `task`, from anywhere.

    **Arguments:**

    - `task`: whose track it flies; its planner is not used.
    - `lap`: the trajectory.
    - `problem`: weights and horizon.
    - `adaptive`: whether what the model lacks is estimated and compensated.
    """

    corners: Float[Array, "gates 4 3"]
    lap: Lap
    problem: TrackingProblem
    planner: SQP
    task: RaceTask
    adaptation: Float[Array, ""]
    """a, 1/s"""
    bandwidth: Float[Array, ""]
    """ω, rad/s"""
    adaptive: bool = eqx.field(static=True)

    def __init__(
        self,
        task: RaceTask,
        lap: Lap,
        problem: TrackingProblem | None = None,
        *,
        adaptive: bool = False,
        adaptation: float = 5.0,
        bandwidth: float = 26.0,
    ):
        race = task.environment
        self.corners = jax.vmap(lambda gate: corners_of(gate, 0.5 * race.opening))(race.gates)
        self.lap = lap
        self.task = task
        self.problem = TrackingProblem() if problem is None else problem
        self.planner = SQP.real_time(gradient_tolerance=np.inf)
        self.adaptive = adaptive
        self.adaptation = jnp.asarray(adaptation)
        self.bandwidth = jnp.asarray(bandwidth)

    def initial_memory(self) -> Tracked:
        N = self.problem.horizon
        return Tracked(
            guess=Guess(jnp.zeros((N + 1, self.problem.state_size)), jnp.zeros((N, 4))),
            known=jnp.array(False),
            predicted=jnp.zeros(3),
            inner=self.problem.before_flight(),
            command=jnp.stack([self.problem.mass * GRAVITY, *jnp.zeros(3)]),
            disturbance=jnp.zeros(3),
        )

    def settings(self) -> dict[str, Setting]:
        return {"adaptive": self.adaptive, "lags": self.problem.lags, **flat_settings("planner", self.planner)}

    def decide(self, observation: Float[Array, " 36"], memory: Any = None, key: PRNGKeyArray | None = None) -> Decision:
        del key
        known: Tracked = self.initial_memory() if memory is None else memory
        here = whereabouts(self.corners, observation, self.task.planner_state(observation)[3:7])
        velocity, up, N = here.state[7:], body_z(here.state[3:7]), self.problem.horizon
        missing, disturbance = self._disturbance(velocity, known)
        matched = jnp.dot(disturbance, up)
        problem = eqx.tree_at(lambda problem: problem.disturbance, self.problem, disturbance - matched * up)
        before = jnp.concatenate([here.state, known.inner])
        lags = self.problem.lags
        state = problem.dynamics(before, known.command) if lags else before
        sample = self.lap.at(self.lap.nearest(state[:3], here.gate) + TIME_STEP * jnp.arange(N + 1))
        problem = problem.following(sample)
        states = sample.states
        if lags:
            turning, thrust = jnp.zeros((N + 1, 3)), sample.commands[:, :1]
            states = jnp.concatenate([states, sample.commands[:, 1:], turning, thrust], axis=1)
        cold = Guess(states, sample.commands[:N])
        guess = jax.tree.map(lambda warm, cold: jnp.where(known.known, warm, cold), known.guess, cold)
        state = _same_sign(state, guess.states[0])
        plan = solve(problem, state, guess=guess, planner=self.planner)
        failed = plan_failed(plan, self.planner)
        action = plan.controls[0].at[0].add(-self.problem.mass * matched)
        action = jnp.clip(action, jnp.array(COMMAND_LOW), jnp.array(COMMAND_HIGH))

        in_effect = known.command if lags else action
        moved = eqx.tree_at(lambda problem: problem.disturbance, self.problem, missing).dynamics(before, in_effect)
        off = jnp.where(known.known, known.predicted - velocity, 0.0)
        after = Tracked(
            guess=plan.shift(),
            known=~failed,
            predicted=moved[7:10] + jnp.exp(-self.adaptation * TIME_STEP) * off,
            inner=moved[10:],
            command=action,
            disturbance=disturbance,
        )
        return Decision(action, jnp.zeros((), action.dtype), plan=plan, memory=after, failed=failed)

    def _disturbance(self, velocity: Float[Array, " 3"], known: Tracked) -> tuple[Array, Array]:
        """σ and d now; zero before the first plan."""
        kept = jnp.exp(-self.adaptation * TIME_STEP)
        missing = -self.adaptation * kept / (1 - kept) * (known.predicted - velocity)
        keep = jnp.exp(-self.bandwidth * TIME_STEP)
        estimate = keep * known.disturbance + (1 - keep) * missing
        going = known.known & self.adaptive
        return jnp.where(going, missing, 0.0), jnp.where(going, estimate, 0.0)


def _same_sign(state: Float[Array, " nx"], like: Float[Array, " nx"]) -> Float[Array, " nx"]:
    """The state with the sign of the quaternion that is nearer to that of `like`: both are the same attitude."""
    sign = jnp.where(jnp.dot(state[3:7], like[3:7]) < 0, -1.0, 1.0)
    return jnp.concatenate([state[:3], sign * state[3:7], state[7:]])
