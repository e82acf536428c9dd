"""Probe environments: worlds so small that what must be learned is known in closed form.

After Andy Jones, "Debugging reinforcement learning systems" (andyljones.com, 2021), with continuous actions in [-1, 1].
The observation is one number; episodes end after `length` steps, by termination or by truncation. What makes one probe
differ from another are leaves, so that one compiled program serves them all.
"""

import dataclasses
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

import planahead as pa
from planahead.learning import SAC, TD3, SACState, TD3State
from planahead.learning.off_policy import OffPolicy
from planahead.policies import ActionBox, DirectPolicy, StochasticPolicy
from planahead.problem import Problem
from planahead.tasks import Environment, StepInfo, Task, Transition, constant


class ProbeState(eqx.Module):
    sign: Float[Array, ""]
    step: Int[Array, ""]


@final
class Probe(Environment[ProbeState]):
    """Observes o = sign · (±1, drawn once per episode) + clock · (share of time gone by), and earns

    base + of_observation · o + late · [o > 0.25] - of_action · (a - aim - turn · o)²
    """

    sign: Array = constant(0.0)
    clock: Array = constant(0.0)
    base: Array = constant(0.0)
    of_observation: Array = constant(0.0)
    late: Array = constant(0.0)
    of_action: Array = constant(0.0)
    aim: Array = constant(0.0)
    turn: Array = constant(0.0)
    length: Array = constant(1.0)
    truncates: Array = constant(0.0)
    """1 if an episode's end is a truncation, 0 if it is a termination."""
    start_spread: Array = constant(0.0)

    observation_names: tuple[str, ...] = pa.static(("probe",))
    observation_low: tuple[float, ...] = pa.static((-1.0,))
    observation_high: tuple[float, ...] = pa.static((1.0,))
    observation_scale: tuple[float, ...] = pa.static((1.0,))
    action_names: tuple[str, ...] = pa.static(("action",))
    action_low: tuple[float, ...] = pa.static((-1.0,))
    action_high: tuple[float, ...] = pa.static((1.0,))
    time_step: float = pa.static(1.0)
    episode_steps: int = pa.static(10)

    def reset(self, key: PRNGKeyArray) -> ProbeState:
        return ProbeState(jnp.where(jax.random.bernoulli(key), 1.0, -1.0), jnp.array(0))

    def observe(self, state: ProbeState) -> Float[Array, " 1"]:
        return (self.sign * state.sign + self.clock * state.step / self.length)[None]

    def step(self, state: ProbeState, action: Float[Array, " 1"], key: PRNGKeyArray) -> Transition[ProbeState]:
        del key
        after = ProbeState(state.sign, state.step + 1)
        over = after.step >= self.length
        o, a = self.observe(state)[0], action[0]
        miss = self.of_action * (a - self.aim - self.turn * o) ** 2
        return Transition(
            state=after,
            observation=self.observe(after),
            reward=self.base + self.of_observation * o + self.late * (o > 0.25) - miss,
            terminated=over & (self.truncates == 0.0),
            truncated=over & (self.truncates == 1.0),
            info=StepInfo(violation=a > 0.9, success=over),
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


def probe(**constants: float) -> Probe:
    leaves: dict[str, Any] = {name: jnp.array(float(value)) for name, value in constants.items()}
    return Probe(**leaves)


AIM_AT_HALF = probe(sign=1.0, base=1.0, of_action=1.0, turn=0.5)
"""Earns 1 - (a - o/2)² for o = ±1: the best action is half of what is observed."""

QUICK = SAC(
    discount=0.8,
    polyak=0.05,
    batch_size=64,
    replay_size=4_096,
    steps_per_update=4,
    warm_up_steps=256,
    steps_per_chunk=1_024,
    initial_temperature=1e-3,
    tune_temperature=False,
    hidden_units=32,
)
"""Small, fast, and with so little entropy that values are sums of rewards to three digits."""

QUICK_TD3 = TD3(
    **{field.name: getattr(QUICK, field.name) for field in dataclasses.fields(OffPolicy)},
    policy_delay=2,
    target_noise=0.05,
)
"""The same for the deterministic policy gradient. The smoothing is narrow, since an action's value is checked to two
digits where the reward is curved."""

LEARNERS: dict[str, OffPolicy[Any]] = {"sac": QUICK, "td3": QUICK_TD3}


def direct_policy(seed: int = 0) -> DirectPolicy:
    return DirectPolicy((1.0,), ActionBox((-1.0,), (1.0,)), hidden=(32, 32), key=jax.random.key(seed))


def train(
    environment: Probe,
    chunks: int,
    learner: OffPolicy[Any] = QUICK,
    policy: StochasticPolicy | None = None,
    seed: int = 0,
) -> Any:
    state = learner.init(ProbeTask(environment=environment), policy or direct_policy(seed), jax.random.key(seed))
    for chunk in range(chunks):
        state, _ = learner.advance(state, jax.random.fold_in(jax.random.key(seed), chunk))
    return state


def values(state: SACState | TD3State, observations: list[float], actions: list[float]) -> Float[Array, "2 points"]:
    """What the two critics say."""
    return state.critic(jnp.array(observations)[:, None], jnp.array(actions)[:, None])


def actions(state: SACState | TD3State, observations: list[float]) -> Float[Array, " points"]:
    """What the policy does."""
    return jax.vmap(lambda observation: state.policy.decide(observation).action[0])(jnp.array(observations)[:, None])
