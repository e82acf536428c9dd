r"""Model predictive control along a lap, without learning: what racing policies are compared with.

Every step is one real-time iteration from the previous plan. With `adaptive` (L1) a predictor of the velocity shows the
acceleration σ that the model f lacks, in steps of length T:

    ṽ = v̂ - v,      σ = -a e / (1 - e) ṽ,   e = exp(-aT),      v̂ ← v̂ + T (f(u) + σ) - (1 - e) ṽ
    l ← β l + (1 - β) z_Bᵀ σ,      d ← β d + (1 - β) (I - z_B z_Bᵀ) σ,      β = exp(-ωT)

u is what acts: with lags the command of the step before, on a model whose rotors and rates come after it. Where the
model lacks s, ṽ⁺ = (e - a e T / (1 - e)) ṽ - T s, a factor of at most aT / 2 in size: σ is there a step later, short of
s by a share of about aT, and l and d follow with the time constant 1 / ω.

The plan's model assumes that l lasts along the thrust as the body turns (another mass, weaker rotors), and d in the
world (wind). So the plan compensates both, within its bounds. (The reference cancels the part along the thrust after
planning; a plan that remembers what thrust it commanded would undo that.)

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
from planahead.problem.rotation import body_z
from planahead.tasks.flight.gates import corners_of
from planahead.tasks.flight.lap import Lap, whereabouts
from planahead.tasks.flight.lap_problem import LapProblem, disturbed, same_sign
from planahead.tasks.flight.quadrotor import COMMAND_HIGH, COMMAND_LOW, GRAVITY, TIME_STEP
from planahead.tasks.flight.race_task import RaceTask


class Flown(eqx.Module):
    """What is remembered from step to step."""

    guess: Guess
    known: Bool[Array, ""]
    """False before the first plan of an episode, and after a failed one."""
    inner: Float[Array, " inner"]
    """What is not observed of the vehicle's state, as the model has it."""
    command: Float[Array, " 4"]
    """The one before."""
    predicted: Float[Array, " 3"]
    """v̂, m/s."""
    lift: Float[Array, ""]
    """l, m/s²."""
    disturbance: Float[Array, " 3"]
    """d, m/s²."""


@final
class LapPolicy(Policy):
    """Flies along `lap`, on the track of `task`, from anywhere.

    **Arguments:**

    - `task`: whose track it flies; its planner is not used.
    - `lap`: where to.
    - `problem`: how: `TrackingProblem`, `ContouringProblem`.
    - `adaptive`: whether what the model lacks is estimated and compensated, with `adaptation` a [1/s] and `bandwidth` ω
      [rad/s].
    """

    corners: Float[Array, "gates 4 3"]
    lap: Lap
    problem: LapProblem
    planner: SQP
    task: RaceTask
    adaptation: Float[Array, ""]
    bandwidth: Float[Array, ""]
    adaptive: bool = eqx.field(static=True)

    def __init__(
        self,
        task: RaceTask,
        lap: Lap,
        problem: LapProblem,
        *,
        adaptive: bool = False,
        adaptation: float = 1.0,
        bandwidth: float = 3.0,
    ):
        race = task.environment
        self.corners = jax.vmap(lambda gate: corners_of(gate, 0.5 * race.opening))(race.gates)
        self.lap = lap
        self.task = task
        self.problem = problem
        self.planner = SQP.real_time(gradient_tolerance=np.inf)
        self.adaptive = adaptive
        self.adaptation = jnp.asarray(adaptation)
        self.bandwidth = jnp.asarray(bandwidth)

    def initial_memory(self) -> Flown:
        problem, vehicle = self.problem, self.problem.vehicle
        N, sizes = problem.horizon, (problem.state_size, problem.control_size)
        return Flown(
            guess=Guess(jnp.zeros((N + 1, sizes[0])), jnp.zeros((N, sizes[1]))),
            known=jnp.array(False),
            inner=vehicle.hovering(),
            command=jnp.stack([vehicle.mass * GRAVITY, *jnp.zeros(3)]),
            predicted=jnp.zeros(3),
            lift=jnp.zeros(()),
            disturbance=jnp.zeros(3),
        )

    def settings(self) -> dict[str, Setting]:
        kind = type(self.problem).__name__
        return {"problem": kind, "adaptive": self.adaptive, **flat_settings("planner", self.planner)}

    def decide(self, observation: Float[Array, " 36"], memory: Any = None, key: PRNGKeyArray | None = None) -> Decision:
        del key
        known: Flown = self.initial_memory() if memory is None else memory
        here = whereabouts(self.corners, observation, self.task.planner_state(observation)[3:7])
        velocity = here.state[7:]
        missing, lift, disturbance = self._lacking(here.state, known)
        before = jnp.concatenate([here.state, known.inner])
        problem, lags = disturbed(self.problem, lift, disturbance), self.problem.vehicle.lags
        state = problem.vehicle.fly(before, known.command) if lags else before
        last = jax.tree.map(lambda leaf: jnp.where(known.known, leaf, 0.0), known.guess)
        aim = problem.aimed(self.lap, self.lap.nearest(state[:3], here.gate), state, last)
        guess = last.where(known.known, aim.cold)
        state = same_sign(aim.state, guess.states[0, 3:7])
        plan = solve(aim.problem, state, guess=guess, planner=self.planner)
        failed = plan_failed(plan, self.planner)
        action = jnp.clip(plan.controls[0, :4], jnp.array(COMMAND_LOW), jnp.array(COMMAND_HIGH))

        moved = disturbed(self.problem, jnp.zeros(()), missing).vehicle.fly(before, known.command if lags else action)
        off = jnp.where(known.known, known.predicted - velocity, 0.0)
        after = Flown(
            guess=plan.shift(),
            known=~failed,
            inner=moved[10:],
            command=action,
            predicted=moved[7:10] + jnp.exp(-self.adaptation * TIME_STEP) * off,
            lift=lift,
            disturbance=disturbance,
        )
        return Decision(action, jnp.zeros((), action.dtype), plan=plan, memory=after, failed=failed)

    def _lacking(self, state: Float[Array, " 10"], known: Flown) -> tuple[Array, Array, Array]:
        """σ, l and d now; zero before the first plan."""
        kept = jnp.exp(-self.adaptation * TIME_STEP)
        missing = -self.adaptation * kept / (1 - kept) * (known.predicted - state[7:])
        missing = jnp.where(known.known & self.adaptive, missing, 0.0)
        up, keep = body_z(state[3:7]), jnp.exp(-self.bandwidth * TIME_STEP)
        along = jnp.dot(up, missing)
        lift = keep * known.lift + (1 - keep) * along
        disturbance = keep * known.disturbance + (1 - keep) * (missing - along * up)
        return missing, lift, disturbance
