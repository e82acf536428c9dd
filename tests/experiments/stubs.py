"""A plant, a policy and a learner small enough to know every number they give.

x⁺ = x + 0.1 a,   a = -gain x,   reward -x²;   learning: gain ⁺= 0.1 per chunk, plus noise from the chunk's key
"""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from planahead.experiments.experiment import Experiment
from planahead.experiments.settings import TrainSettings
from planahead.learning import Learner, Metrics
from planahead.policies import Decision, Policy, Setting
from planahead.problem import Problem, parameter, static
from planahead.tasks import Environment, StepInfo, Task, Transition, constant


class PointState(eqx.Module):
    x: Array
    step: Array


@final
class Point(Environment[PointState]):
    """A point on a line. It starts at 1, the episode ends beyond 2, and it should come near 0."""

    start_spread: Array = constant(0.0)
    drift: Array = constant(0.0)
    observation_names: tuple[str, ...] = static(("position [m]",))
    action_names: tuple[str, ...] = static(("velocity [m/s]",))
    observation_low: tuple[float, ...] = static((-float("inf"),))
    observation_high: tuple[float, ...] = static((float("inf"),))
    observation_scale: tuple[float, ...] = static((1.0,))
    action_low: tuple[float, ...] = static((-10.0,))
    action_high: tuple[float, ...] = static((10.0,))
    time_step: float = static(0.1)
    episode_steps: int = static(8)

    def reset(self, key: PRNGKeyArray) -> PointState:
        return PointState(1.0 + self.start_spread * jax.random.uniform(key, (1,), minval=-1.0), jnp.array(0))

    def observe(self, state: PointState) -> Array:
        return state.x

    def step(self, state: PointState, action: Array, key: PRNGKeyArray) -> Transition[PointState]:
        new = PointState(state.x + self.time_step * action + self.drift, state.step + 1)
        far = jnp.abs(new.x[0]) > 2.0
        return Transition(
            state=new,
            observation=new.x,
            reward=-(new.x[0] ** 2),
            terminated=far,
            truncated=~far & (new.step >= self.episode_steps),
            info=StepInfo(violation=jnp.abs(new.x[0]) > 1.5, success=jnp.abs(new.x[0]) < 0.5),
        )


@final
class PointProblem(Problem):
    horizon: int = static(3)
    state_size: int = static(1)
    control_size: int = static(1)
    target: Array = parameter(0.0, low=-1.0, high=1.0)

    def dynamics(self, x: Array, u: Array) -> Array:
        return x + 0.1 * u

    def stage_residual(self, x: Array, u: Array) -> Array:
        return jnp.concatenate([x - self.target, 0.1 * u])


@final
class PointTask(Task):
    """Bring a point to rest."""

    environment: Point = eqx.field(default_factory=Point)
    problem: PointProblem = eqx.field(default_factory=PointProblem)
    name: str = static("point")
    learned_parameters: tuple[str, ...] = static(("target",))
    state_names: tuple[str, ...] = static(("position [m]",))

    def planner_state(self, observation: Array) -> Array:
        return observation


@final
class Proportional(Policy):
    """a = -gain x; it remembers how often it was asked, and says that every solve from its third decision on failed."""

    gain: Array

    def initial_memory(self) -> Array:
        return jnp.array(0)

    def settings(self) -> dict[str, Setting]:
        return {"law": "proportional"}

    def decide(self, observation: Array, memory: Any = None, key: PRNGKeyArray | None = None) -> Decision:
        return Decision(-self.gain * observation, jnp.zeros(()), memory=memory + 1, failed=memory >= 2)


class RaisingState(eqx.Module):
    policy: Proportional
    average: Array


@final
class Raising(Learner[RaisingState]):
    """Raises the gain a little in every chunk."""

    rate: float = static(0.1)
    steps_per_chunk: int = static(100)

    def init(self, task: Task, policy: Policy, key: PRNGKeyArray) -> RaisingState:
        assert isinstance(policy, Proportional)
        return RaisingState(policy, policy.gain)  # leaves that share their memory, as a target network does

    def advance(self, state: RaisingState, key: PRNGKeyArray) -> tuple[RaisingState, Metrics]:
        gain = state.policy.gain + self.rate * (1 + 0.3 * jax.random.normal(key))
        average = 0.9 * state.average + 0.1 * gain
        return RaisingState(Proportional(gain), average), {"return": gain * average, "failed_solves": gain / 3}

    def policy(self, state: RaisingState) -> Proportional:
        return state.policy


def stub_experiment(**settings: Any) -> Experiment:
    """Twelve chunks of 100 steps, validated every 300."""
    filled = {"steps": 1200, "seed": 1, "validate_every": 300, "validation_episodes": 4, **settings}
    return Experiment(TrainSettings("stub", "point", **filled), PointTask(), Proportional(jnp.zeros(())), Raising())
