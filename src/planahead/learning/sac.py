r"""Soft actor-critic: one learner, two switches.

    preset      critic of the learner    policy                            plans in an update
    sac         action                   DirectPolicy                      -
    sac-zop     parameters               PlannerPolicy, noise parameters   never
    sac-fop     action                   PlannerPolicy, noise parameters   at s and at s', differentiated at s
    sac-foa     action                   PlannerPolicy, noise action       at s and at s', differentiated at s

In a loop: every environment takes one step and its transition enters the replay; then, once warmed up, critic, actor
and temperature (losses: `soft_losses.py`) take one gradient step per `steps_per_update` environment steps, all three
from the same numbers, and Q̄ ← (1 - τ) Q̄ + τ Q. Only what the policy marks as trainable is trained.

The state is one pytree that holds everything: save its leaves, load them, and the run goes on to the same numbers.

References: Haarnoja et al. 2018, "Soft actor-critic algorithms and applications"; Fujimoto et al. 2018 (twin critics).
"""

import dataclasses
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from planahead.learning.critics import TwinCritic
from planahead.learning.learner import Learner, Metrics
from planahead.learning.replay import Replay
from planahead.learning.rollout import Lanes, Tally, start_lanes, step_lanes
from planahead.learning.soft_losses import CriticPlace, Draws, Experience, SoftLosses, mean_of_usable
from planahead.policies import HIDDEN, Policy, StochasticPolicy
from planahead.policies.sensitivity import sensitivities
from planahead.tasks import Task

DIAGNOSED = 32  # observations per chunk for the plan's sensitivity: shares are known to ±9 % (one standard deviation)


class Losses(eqx.Module):
    """Sums over gradient steps."""

    updates: Float[Array, ""]
    critic_loss: Float[Array, ""]
    actor_loss: Float[Array, ""]
    temperature: Float[Array, ""]
    entropy: Float[Array, ""]
    """-E[log p] of what is drawn, in unit coordinates, without the scale ρ."""
    failed_updates: Float[Array, ""]
    """Share of rows that a loss left out because of a failed solve."""

    def metrics(self) -> Metrics:
        """Means per gradient step; NaN where there was none."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "updates"]
        return {name: getattr(self, name) / self.updates for name in names}


class Optimisers(eqx.Module):
    """Adam's moments."""

    policy: PyTree
    critic: PyTree
    temperature: PyTree


class SACState(eqx.Module):
    """Everything that changes while learning, and what it is about."""

    task: Task
    policy: StochasticPolicy
    critic: TwinCritic
    target_critic: TwinCritic
    log_temperature: Float[Array, ""]
    optimisers: Optimisers
    replay: Replay[Experience]
    lanes: Lanes
    steps: Int[Array, ""]
    """Environment steps taken, over all environments."""


@final
class SAC(Learner[SACState]):
    """Soft actor-critic. Rewards are maximised.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train.
    """

    critic: CriticPlace = eqx.field(default="action", static=True)
    """What the critic judges beside the observation."""
    discount: float = eqx.field(default=0.99, static=True)
    """γ: rewards count for about 100 steps, half an episode of the tasks here."""
    polyak: float = eqx.field(default=0.005, static=True)
    """τ, the share of the critic that enters the target critic at every gradient step (Haarnoja et al. 2018)."""
    learning_rate: float = eqx.field(default=1e-3, static=True)
    """Adam's, for policy, critic and temperature."""
    batch_size: int = eqx.field(default=256, static=True)
    """Rows per gradient step. With 128 the cart-pole is lost again more often, and a step costs nearly the same."""
    replay_size: int = eqx.field(default=200_000, static=True)
    """Transitions kept: whole runs of the tasks here, in 10 MB for the cart-pole."""
    environments: int = eqx.field(default=16, static=True)
    """Simulated side by side."""
    steps_per_update: int = eqx.field(default=4, static=True)
    """Environment steps per gradient step."""
    warm_up_steps: int = eqx.field(default=2_000, static=True)
    """Environment steps with uniform proposals and without learning: ten episodes of the cart-pole."""
    steps_per_chunk: int = eqx.field(default=2_000, static=True)
    """Environment steps per call of `advance`: about a second, so that progress is seen and a stop is prompt."""
    initial_temperature: float = eqx.field(default=0.02, static=True)
    """α at the start; rewards of the tasks here are of the order 0.1 per step."""
    tune_temperature: bool = eqx.field(default=True, static=True)
    """Hold the entropy at H by moving α; otherwise α stays as it is."""
    target_entropy: float = eqx.field(default=-3.0, static=True)
    """H / n_a, in nats for each of the n_a actions, in unit coordinates: σ = e⁻³ / √(2πe) = 0.012 of a box of length 2.
    With the customary -1 (σ = 0.09) a policy that steers a planner hides from its own noise where plans are saturated:
    it chatters between the ends of the force, and the cart-pole is lost again and again; with -3 it chatters less and
    stands."""
    scale_log_probability: bool = eqx.field(default=True, static=True)
    """Multiply log p by ρ = n_a / n_drawn; without it the entropy of hundreds of parameters drowns the reward."""
    hidden_layers: int = eqx.field(default=len(HIDDEN), static=True)
    """Of the critics."""
    hidden_units: int = eqx.field(default=HIDDEN[0], static=True)

    def __check_init__(self):
        whole = ("batch_size", "replay_size", "environments", "steps_per_update", "steps_per_chunk", "hidden_layers")
        for name in (*whole, "hidden_units"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; at least 1 was expected")
        for name in ("learning_rate", "initial_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}; a positive number was expected")
        if self.critic not in ("parameters", "action"):
            raise ValueError(f"critic='{self.critic}'; a critic judges 'parameters' or an 'action'")
        if not 0 <= self.discount < 1:
            raise ValueError(f"discount={self.discount}; expected 0 <= discount < 1")
        if not 0 < self.polyak <= 1:
            raise ValueError(f"polyak={self.polyak}; expected 0 < polyak <= 1")
        if self.warm_up_steps < 0:
            raise ValueError(f"warm_up_steps={self.warm_up_steps}; expected 0 or more")
        self._check_multiple("environments", "steps_per_update")
        self._check_multiple("steps_per_chunk", "environments")
        self._check_multiple("replay_size", "environments")

    def _check_multiple(self, name: str, of: str) -> None:
        value, unit = getattr(self, name), getattr(self, of)
        if value % unit != 0:
            below, above = value // unit * unit, (value // unit + 1) * unit
            raise ValueError(
                f"{name}={value} is not a multiple of {of}={unit}; use {f'{below} or ' if below else ''}{above}"
            )

    def check(self, policy: Policy) -> StochasticPolicy:
        """The policy, if this learner can train it. **Raises** `ValueError` that says what is missing otherwise."""
        kind = type(policy).__name__
        if not isinstance(policy, StochasticPolicy):
            raise ValueError(f"SAC trains a StochasticPolicy, which knows the density of what it draws; got {kind}")
        if self.critic == "parameters" and not policy.plans:
            raise ValueError(
                f"critic='parameters' judges the parameters of a planner and {kind} has none; use "
                "critic='action', or a PlannerPolicy"
            )
        if self.critic == "parameters" and policy.noise == "action":
            raise ValueError(
                "critic='parameters' cannot see noise that enters at the action: the same parameters would earn "
                "different rewards; use noise='parameters' (SAC-ZOP) or critic='action' (SAC-FOA)"
            )
        if self.critic == "action" and not policy.differentiable:
            raise ValueError(
                f"critic='action' differentiates the action by the network's output, and the planner of this {kind} "
                "has no derivative; use critic='parameters' (SAC-ZOP), which needs none"
            )
        return policy

    def init(self, task: Task, policy: Policy, key: PRNGKeyArray) -> SACState:
        trained = self.check(policy)
        critic_key, lanes_key = jax.random.split(key)
        memory = trained.initial_memory()
        lanes = start_lanes(task.environment, self.environments, memory, lanes_key)
        point = jnp.zeros(trained.proposal_size if self.critic == "parameters" else trained.box.size)
        critic = TwinCritic(
            task.environment.observation_scale,
            point.size,
            hidden=(self.hidden_units,) * self.hidden_layers,
            key=critic_key,
        )
        stored_memory = memory if self.critic == "action" else None  # the updates of a critic over φ never plan
        no = jnp.array(False)
        example = Experience(
            lanes.observation[0], point, jnp.zeros(()), lanes.observation[0], no, no, stored_memory, stored_memory
        )
        log_temperature = jnp.log(jnp.asarray(self.initial_temperature, float))
        adam = self._adam()
        return SACState(
            task=task,
            policy=trained,
            critic=critic,
            target_critic=critic,
            log_temperature=log_temperature,
            optimisers=Optimisers(
                policy=adam.init(eqx.filter(trained, trained.trainable())),
                critic=adam.init(eqx.filter(critic, eqx.is_inexact_array)),
                temperature=adam.init(log_temperature),
            ),
            replay=Replay(example, self.replay_size, self.environments),
            lanes=lanes,
            steps=jnp.zeros((), jnp.int32),
        )

    @eqx.filter_jit
    def advance(self, state: SACState, key: PRNGKeyArray) -> tuple[SACState, Metrics]:
        run_key, diagnosis_key = jax.random.split(key)
        arrays, rest = eqx.partition(state, eqx.is_array)

        def iterate(arrays: PyTree, key: PRNGKeyArray) -> tuple[PyTree, tuple[Tally, Losses]]:
            act_key, learn_key = jax.random.split(key)
            state, tally = self._act(eqx.combine(arrays, rest), act_key)
            state, losses = self._learn(state, learn_key)
            return eqx.filter(state, eqx.is_array), (tally, losses)

        keys = jax.random.split(run_key, self.steps_per_chunk // self.environments)
        arrays, counted = jax.lax.scan(iterate, arrays, keys)
        tally, losses = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), counted)
        state = eqx.combine(arrays, rest)
        metrics = {**tally.metrics(), **losses.metrics(), "steps": state.steps}
        if state.policy.plans and state.policy.differentiable:
            found = sensitivities(state.policy, state.replay.sample(diagnosis_key, DIAGNOSED).observation)
            metrics["smallest_singular_value"] = jnp.mean(found.smallest_singular_value)
            metrics["vanishing_gradients"] = jnp.mean(found.vanishing, dtype=found.smallest_singular_value.dtype)
        return state, metrics

    def policy(self, state: SACState) -> StochasticPolicy:
        return state.policy

    def update(self, state: SACState, batch: Experience, key: PRNGKeyArray) -> tuple[SACState, Losses]:
        """One gradient step of critic, actor and temperature, all from the same numbers; then the target critic."""
        objective = SoftLosses(self.critic, self.discount, self.scale_log_probability)
        adam, moments, temperature = self._adam(), state.optimisers, jnp.exp(state.log_temperature)

        trained, fixed = eqx.partition(state.policy, state.policy.trainable())

        def actor_loss(trained: PyTree) -> tuple[Float[Array, ""], Draws]:
            draws = objective.draw(eqx.combine(trained, fixed), batch, key)
            return objective.actor_loss(draws.now, state.critic, temperature, batch), draws

        (actor_value, draws), gradient = eqx.filter_value_and_grad(actor_loss, has_aux=True)(trained)
        step, policy_moments = adam.update(gradient, moments.policy)
        policy = eqx.combine(eqx.apply_updates(trained, step), fixed)

        targets = objective.targets(draws.after, state.target_critic, temperature, batch)
        critic_value, gradient = eqx.filter_value_and_grad(objective.critic_loss)(state.critic, batch, targets)
        step, critic_moments = adam.update(gradient, moments.critic)
        critic = eqx.apply_updates(state.critic, step)

        log_temperature, temperature_moments = state.log_temperature, moments.temperature
        if self.tune_temperature:
            gradient = jax.grad(objective.temperature_loss)(
                log_temperature, draws.now, batch, self.target_entropy * state.policy.box.size
            )
            step, temperature_moments = adam.update(gradient, temperature_moments)
            log_temperature = eqx.apply_updates(log_temperature, step)

        new = dataclasses.replace(
            state,
            policy=policy,
            critic=critic,
            target_critic=jax.tree.map(lambda old, new: old + self.polyak * (new - old), state.target_critic, critic),
            log_temperature=log_temperature,
            optimisers=Optimisers(policy_moments, critic_moments, temperature_moments),
        )
        usable = objective.actor_usable(draws.now, batch)
        losses = Losses(
            updates=jnp.ones_like(critic_value),
            critic_loss=critic_value,
            actor_loss=actor_value,
            temperature=temperature,
            entropy=-mean_of_usable(draws.now.log_probability, usable) / objective.scale(state.policy),
            failed_updates=jnp.mean(~(usable & targets.usable), dtype=critic_value.dtype),
        )
        return new, losses

    def _act(self, state: SACState, key: PRNGKeyArray) -> tuple[SACState, Tally]:
        """One step of every environment, and its transitions into the replay."""
        policy, lanes = state.policy, state.lanes
        propose_key, uniform_key, step_key = jax.random.split(key, 3)
        proposal = jax.vmap(policy.propose)(lanes.observation, jax.random.split(propose_key, self.environments))
        uniform = jax.random.uniform(uniform_key, proposal.unit.shape, proposal.unit.dtype, minval=-1.0, maxval=1.0)
        unit = jnp.where(state.steps < self.warm_up_steps, uniform, proposal.unit)
        proposal = eqx.tree_at(lambda p: p.unit, proposal, unit)
        decision = jax.vmap(policy.execute)(lanes.observation, proposal, lanes.memory)
        failed = jnp.asarray(decision.failed)
        after, moved, tally = step_lanes(
            state.task.environment, lanes, decision.action, failed, decision.memory, policy.initial_memory(), step_key
        )
        judges_action = self.critic == "action"
        experience = Experience(
            observation=lanes.observation,
            point=jax.vmap(policy.box.to_unit)(decision.action) if judges_action else unit,
            reward=moved.reward,
            next_observation=moved.observation,
            terminated=moved.terminated,
            failed=failed,
            memory=lanes.memory if judges_action else None,
            next_memory=decision.memory if judges_action else None,
        )
        replay, steps = state.replay.insert(experience), state.steps + self.environments
        return dataclasses.replace(state, lanes=after, replay=replay, steps=steps), tally

    def _learn(self, state: SACState, key: PRNGKeyArray) -> tuple[SACState, Losses]:
        """The gradient steps that are due after one step of every environment: none while warming up."""
        changes = _changed_by_update(state)
        changing, constant = eqx.partition(state, changes)
        nothing = Losses(*[jnp.zeros_like(state.log_temperature)] * len(dataclasses.fields(Losses)))

        def gradient_step(carry: tuple[PyTree, Losses], key: PRNGKeyArray) -> tuple[tuple[PyTree, Losses], None]:
            changing, total = carry
            batch_key, update_key = jax.random.split(key)
            batch = state.replay.sample(batch_key, self.batch_size)
            new, losses = self.update(eqx.combine(changing, constant), batch, update_key)
            return (eqx.filter(new, changes), jax.tree.map(jnp.add, total, losses)), None

        def learn(changing: PyTree) -> tuple[PyTree, Losses]:
            keys = jax.random.split(key, self.environments // self.steps_per_update)
            return jax.lax.scan(gradient_step, (changing, nothing), keys)[0]

        warm = state.steps > self.warm_up_steps
        changing, losses = jax.lax.cond(warm, learn, lambda changing: (changing, nothing), changing)
        return eqx.combine(changing, constant), losses

    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


def _changed_by_update(state: SACState) -> PyTree[bool]:
    """A state-shaped tree, true at the leaves that a gradient step writes."""
    written = (state.critic, state.target_critic, state.log_temperature, state.optimisers)
    return eqx.tree_at(
        lambda s: (s.policy, s.critic, s.target_critic, s.log_temperature, s.optimisers),
        jax.tree.map(lambda _: False, state),
        (state.policy.trainable(), *jax.tree.map(lambda _: True, written)),
    )
