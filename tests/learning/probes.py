"""Probe environments: worlds so small that what must be learned is known in closed form.

After Andy Jones, "Debugging reinforcement learning systems" (andyljones.com, 2021), with continuous actions in [-1, 1].
The observation is one number; episodes end after `length` steps, by termination or by truncation.
"""

from collections.abc import Callable
from typing import Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

import planahead as pa
from planahead.learning import SAC, SACState
from planahead.policies import ActionBox, DirectPolicy, StochasticPolicy
from planahead.problem import Problem
from planahead.tasks import Environment, StepInfo, Task, Transition


class ProbeState(eqx.Module):
    sign: Float[Array, ""]
    step: Int[Array, ""]


@final
class Probe(Environment[ProbeState]):
    """Earns `reward(observation, action)`; observes nothing (0), a random sign (±1), or the share of time gone by."""

    reward: Callable[[Array, Array], Array | float] = pa.static()
    observes: Literal["nothing", "sign", "time"] = pa.static("nothing")
    end: Literal["terminated", "truncated"] = pa.static("terminated")
    episode_steps: int = pa.static(1)

    observation_names: tuple[str, ...] = pa.static(("probe",))
    observation_low: tuple[float, ...] = pa.static((-1.0,))
    observation_high: tuple[float, ...] = pa.static((1.0,))
    observation_scale: tuple[float, ...] = pa.static((1.0,))
    action_names: tuple[str, ...] = pa.static(("action",))
    action_low: tuple[float, ...] = pa.static((-1.0,))
    action_high: tuple[float, ...] = pa.static((1.0,))
    time_step: float = pa.static(1.0)

    def reset(self, key: PRNGKeyArray) -> ProbeState:
        return ProbeState(jnp.where(jax.random.bernoulli(key), 1.0, -1.0), jnp.array(0))

    def observe(self, state: ProbeState) -> Float[Array, " 1"]:
        if self.observes == "sign":
            return state.sign[None]
        time = state.step / self.episode_steps
        return jnp.where(self.observes == "time", time, 0.0)[None]

    def step(self, state: ProbeState, action: Float[Array, " 1"], key: PRNGKeyArray) -> Transition[ProbeState]:
        del key
        after = ProbeState(state.sign, state.step + 1)
        over = after.step >= self.episode_steps
        reward = self.reward(self.observe(state)[0], action[0])
        return Transition(
            state=after,
            observation=self.observe(after),
            reward=jnp.asarray(reward, float),
            terminated=over & (self.end == "terminated"),
            truncated=over & (self.end == "truncated"),
            info=StepInfo(violation=action[0] > 0.9, success=over),
        )


@final
class SteeredProblem(Problem):
    """A planner whose first control is its parameter: minimise ½ (u₀ - target)² within |u₀| <= limit."""

    horizon: int = pa.static(1)
    state_size: int = pa.static(1)
    control_size: int = pa.static(1)
    limit: float = pa.static(1.0)
    target: Array = pa.parameter(0.0, low=-1.0, high=1.0)

    def dynamics(self, x: Float[Array, " 1"], u: Float[Array, " 1"]) -> Float[Array, " 1"]:
        return x + u

    def stage_residual(self, x: Float[Array, " 1"], u: Float[Array, " 1"]) -> Float[Array, " 1"]:
        del x
        return u - self.target

    def control_bounds(self) -> pa.Bounds:
        return pa.Bounds(-self.limit, self.limit)


@final
class ProbeTask(Task[Probe, SteeredProblem]):
    environment: Probe
    problem: SteeredProblem = eqx.field(default_factory=SteeredProblem)
    name: str = pa.static("probe")
    learned_parameters: tuple[str, ...] = pa.static(("target",))
    state_names: tuple[str, ...] = pa.static(("probe",))

    def planner_state(self, observation: Float[Array, " 1"]) -> Float[Array, " 1"]:
        return observation


QUICK = SAC(
    discount=0.8,
    polyak=0.05,
    batch_size=64,
    replay_size=4_096,
    steps_per_update=4,
    warm_up_steps=256,
    steps_per_chunk=2_048,
    initial_temperature=1e-3,
    tune_temperature=False,
    hidden_units=32,
)
"""Small, fast, and with so little entropy that values are sums of rewards to three digits."""


def direct_policy(seed: int = 0) -> DirectPolicy:
    return DirectPolicy((1.0,), ActionBox((-1.0,), (1.0,)), hidden=(32, 32), key=jax.random.key(seed))


def train(
    environment: Probe, chunks: int, learner: SAC = QUICK, policy: StochasticPolicy | None = None, seed: int = 0
) -> SACState:
    state = learner.init(ProbeTask(environment=environment), policy or direct_policy(seed), jax.random.key(seed))
    for chunk in range(chunks):
        state, _ = learner.advance(state, jax.random.fold_in(jax.random.key(seed), chunk))
    return state


def values(state: SACState, observations: list[float], actions: list[float]) -> Float[Array, "2 points"]:
    """What the two critics say."""
    return state.critic(jnp.array(observations)[:, None], jnp.array(actions)[:, None])


def actions(state: SACState, observations: list[float]) -> Float[Array, " points"]:
    """What the policy does."""
    return jax.vmap(lambda observation: state.policy.decide(observation).action[0])(jnp.array(observations)[:, None])
