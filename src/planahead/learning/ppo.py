r"""Proximal policy optimisation: act for a while, then take a few careful steps on what was seen.

    advantages A_t as in `advantages.py`, returns R_t = A_t + V(o_t)
    ρ = exp(log π(y|o) - log π_old(y|o))
    policy loss  -E[min(ρ A, clip(ρ, 1 ± ε) A)] - w_H H(π),      value loss  ½ E[(V(o) - R)²]

Advantages are normalised within a minibatch. Rewards are divided by the running standard deviation of the discounted
return, and observations by theirs (`Normaliser`); both statistics move once per rollout and are part of the state. The
gradient steps of a rollout end where the policy is found to have moved by more than 1.5 `target_kl`; the step of the
minibatch that shows it is still taken.

    preset    policy                                  noise at
    ac-mlp    a network                               the action
    ac-mpc    a network that writes a planner's cost  the action
    ppo-zop   a network that writes a planner's cost  the parameters, before planning

Reference: J. Schulman et al., "Proximal policy optimization algorithms", 2017; the details that make it work after
S. Huang et al., "The 37 implementation details of proximal policy optimization", 2022.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from planahead.learning.advantages import generalised_advantages
from planahead.learning.learner import Learner, Metrics
from planahead.learning.rollout import Lanes, Tally, start_lanes, step_lanes
from planahead.learning.value_expansion import expansion_loss
from planahead.policies import HIDDEN, Network, Policy
from planahead.policies.gaussian import GaussianPolicy, Located
from planahead.policies.normaliser import Normaliser
from planahead.tasks import Task

_KL_MARGIN = 1.5
"""How far beyond `target_kl` the policy may move before its steps end (the factor is that of Stable-Baselines3)."""


class Seen(eqx.Module):
    """One step of one environment, as the losses need it."""

    observation: Float[Array, "*b observation"]
    memory: Any
    """Of the policy, before it decided."""
    drawn: Float[Array, "*b drawn"]
    log_probability: Float[Array, "*b"]
    usable: Bool[Array, "*b"]
    """Whether the solve behind the action did not fail."""
    advantage: Float[Array, "*b"]
    goal: Float[Array, "*b"]
    """R, which the critic is to say."""


class PPOSums(eqx.Module):
    """Sums over gradient steps; every field is a scalar."""

    updates: Float[Array, ""]
    policy_loss: Float[Array, ""]
    value_loss: Float[Array, ""]
    kl: Float[Array, ""]
    """E[ρ - 1 - log ρ]: how far the policy is from the one that acted."""
    clipped: Float[Array, ""]
    """Share of rows whose ratio is outside of 1 ± ε."""
    unusable: Float[Array, ""]
    """Share of rows that the policy's loss leaves out: their solve failed, or their plan has no derivative."""


@final
class PPOState(eqx.Module):
    """Everything that changes while learning, and what it is about."""

    task: Task
    policy: GaussianPolicy
    critic: Network
    moments: PyTree
    """Adam's."""
    lanes: Lanes
    discounted: Float[Array, " n"]
    """Sum of the rewards of every environment's episode so far, discounted to now."""
    returns: Normaliser
    """Of `discounted`; its standard deviation is the unit of rewards."""
    steps: Int[Array, ""]
    """Environment steps taken, over all environments."""


class Trained(eqx.Module):
    """What a gradient step writes."""

    policy: PyTree
    critic: PyTree


@final
class PPO(Learner[PPOState]):
    """Proximal policy optimisation. Rewards are maximised.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train.
    """

    discount: float = eqx.field(default=0.99, static=True)
    """γ"""
    decay: float = eqx.field(default=0.95, static=True)
    """λ of the advantages."""
    clip: float = eqx.field(default=0.2, static=True)
    """ε"""
    entropy_weight: float = eqx.field(default=0.001, static=True)
    """w_H"""
    value_weight: float = eqx.field(default=0.5, static=True)
    """Of the value loss beside the policy's."""
    learning_rate: float = eqx.field(default=5e-4, static=True)
    """Adam's at the start."""
    anneal_steps: int = eqx.field(default=0, static=True)
    """Environment steps over which the learning rate falls linearly to a tenth; 0 leaves it as it is."""
    value_expansion: float = eqx.field(default=0.0, static=True)
    """Weight of what the plans predict, beside the value loss, see `value_expansion.py`; 0 leaves it out."""
    gradient_norm: float = eqx.field(default=0.5, static=True)
    """At most."""
    target_kl: float | None = eqx.field(default=0.03, static=True)
    """Where the steps of a rollout end early, see above; `None` takes them all."""
    environments: int = eqx.field(default=256, static=True)
    """Simulated side by side."""
    rollout_steps: int = eqx.field(default=128, static=True)
    """Of every environment, between updates."""
    epochs: int = eqx.field(default=5, static=True)
    """Passes over a rollout."""
    batch_size: int = eqx.field(default=4096, static=True)
    """Rows of a gradient step."""
    normalise_rewards: bool = eqx.field(default=True, static=True)
    """Divide them by the running standard deviation of the discounted return."""
    hidden_layers: int = eqx.field(default=len(HIDDEN), static=True)
    """Of the critic."""
    hidden_units: int = eqx.field(default=HIDDEN[0], static=True)
    steps_per_chunk: int = eqx.field(init=False, static=True)
    """Those of one rollout."""

    def __post_init__(self):
        self.steps_per_chunk = self.environments * self.rollout_steps

    def __check_init__(self):
        for name in ("environments", "rollout_steps", "batch_size", "hidden_layers", "hidden_units"):
            self._check_range(name, getattr(self, name) >= 1, "at least 1 was expected")
        rows = self.environments * self.rollout_steps
        if rows % self.batch_size != 0:
            fitting = [size for size in range(1, rows + 1) if rows % size == 0]
            near = min(fitting, key=lambda size: abs(size - self.batch_size))
            raise ValueError(
                f"batch_size={self.batch_size} does not divide environments × rollout_steps = {rows}; use {near}"
            )
        self._check_range("discount", 0 <= self.discount < 1, "expected 0 <= discount < 1")
        self._check_range("decay", 0 <= self.decay <= 1, "expected 0 <= decay <= 1")
        self._check_range("clip", self.clip > 0, "a positive number was expected")
        self._check_range("learning_rate", self.learning_rate > 0, "a positive number was expected")
        self._check_range("entropy_weight", self.entropy_weight >= 0, "expected 0 or more")
        self._check_range("value_weight", self.value_weight >= 0, "expected 0 or more")
        self._check_range("value_expansion", self.value_expansion >= 0, "expected 0 (left out) or more")
        self._check_range("gradient_norm", self.gradient_norm > 0, "a positive number was expected")
        self._check_range(
            "target_kl", self.target_kl is None or self.target_kl > 0, "a positive number, or None, was expected"
        )
        self._check_range("anneal_steps", self.anneal_steps >= 0, "expected 0 (no annealing) or more")
        self._check_range("epochs", self.epochs >= 1, "at least 1 was expected")

    def check(self, policy: Policy) -> GaussianPolicy:
        """The policy, if this learner can train it. **Raises** `ValueError` that says what is missing otherwise."""
        if not isinstance(policy, GaussianPolicy):
            raise ValueError(
                f"PPO trains a GaussianPolicy, whose width does not depend on the state; got {type(policy).__name__}"
            )
        if self.value_expansion > 0 and policy.guard is not None:
            raise ValueError(
                "value_expansion teaches the critic what plans predict, and a plan knows neither the safety filter "
                "behind it nor its price; use filter='none', or leave value_expansion at 0"
            )
        return policy

    def init(self, task: Task, policy: Policy, key: PRNGKeyArray) -> PPOState:
        trained = self.check(policy)
        if self.value_expansion > 0:
            _check_imagination(task, trained)
        critic_key, lanes_key = jax.random.split(key)
        hidden = (self.hidden_units,) * self.hidden_layers
        size = task.environment.observation_size
        critic = Network((1.0,) * size, 1, hidden=hidden, last_gain=1.0, key=critic_key)
        return PPOState(
            task=task,
            policy=trained,
            critic=critic,
            moments=self._adam().init(eqx.filter(self._trained(trained, critic), eqx.is_array)),
            lanes=start_lanes(task.environment, self.environments, trained.initial_memory(), lanes_key),
            discounted=jnp.zeros(self.environments),
            returns=Normaliser.blank((1.0,)),
            steps=jnp.zeros((), jnp.int32),
        )

    def policy(self, state: PPOState) -> GaussianPolicy:
        return state.policy

    @eqx.filter_jit
    def advance(self, state: PPOState, key: PRNGKeyArray) -> tuple[PPOState, Metrics]:
        act_key, learn_key = jax.random.split(key)
        state, seen, tally = self._act(state, act_key)
        state, sums = self._learn(state, seen, learn_key)
        # New statistics hold from the next rollout on: this one was acted, and learned from, with the old.
        normaliser = state.policy.normaliser.updated(seen.observation.reshape(-1, seen.observation.shape[-1]))
        state = eqx.tree_at(lambda state: state.policy.normaliser, state, normaliser)
        metrics = {
            **tally.metrics(),
            **{
                field.name: getattr(sums, field.name) / sums.updates
                for field in dataclasses.fields(sums)
                if field.name != "updates"
            },
            "gradient_steps": sums.updates,
            "explained_variance": 1 - jnp.var(seen.advantage) / jnp.var(seen.goal),
            "entropy": state.policy.entropy(),
            "std": jnp.mean(jnp.exp(state.policy.log_std)),
            "steps": state.steps,
        }
        return state, metrics

    def _act(self, state: PPOState, key: PRNGKeyArray) -> tuple[PPOState, Seen, Tally]:
        """Every environment for `rollout_steps`, and what was seen; leaves of `Seen` have leading axes [T, n]."""
        policy, environment, initial = state.policy, state.task.environment, state.policy.initial_memory()

        def judge(observation: Array) -> Array:
            return jax.vmap(lambda o: state.critic(policy.normaliser(o))[0])(observation)

        def step(carry: tuple[Lanes, Array], key: PRNGKeyArray):
            lanes, discounted = carry
            draw_key, step_key = jax.random.split(key)
            at = jax.vmap(policy.locate)(lanes.observation, lanes.memory)
            drawn = jax.vmap(policy.draw)(at.mean, jax.random.split(draw_key, self.environments))
            decision = jax.vmap(policy.act)(lanes.observation, drawn, at, lanes.memory)
            failed = jnp.broadcast_to(jnp.asarray(decision.failed), self.environments)
            after, moved, tally = step_lanes(
                environment, lanes, decision.action, failed, decision.memory, initial, step_key, decision.filtered
            )
            reward = moved.reward - decision.penalty
            discounted = self.discount * discounted + reward
            seen = (lanes.observation, lanes.memory, drawn, decision.log_probability, ~failed)
            outcome = (reward, discounted, moved.terminated, moved.truncated)
            values = judge(lanes.observation), judge(moved.observation)
            discounted = jnp.where(moved.terminated | moved.truncated, 0.0, discounted)
            return (after, discounted), (seen, outcome, values, tally)

        keys = jax.random.split(key, self.rollout_steps)
        (lanes, discounted), (seen, outcome, values, tallies) = jax.lax.scan(
            step, (state.lanes, state.discounted), keys
        )
        reward, sums, terminated, truncated = outcome
        returns = state.returns.updated(sums.reshape(-1, 1))
        reward = reward / self._unit(returns)
        advantage = generalised_advantages(reward, *values, terminated, truncated, self.discount, self.decay)
        seen = Seen(*seen, advantage=advantage, goal=advantage + values[0])
        state = dataclasses.replace(
            state,
            lanes=lanes,
            discounted=discounted,
            returns=returns,
            steps=state.steps + self.steps_per_chunk,
        )
        return state, seen, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), tallies)

    def _learn(self, state: PPOState, seen: Seen, key: PRNGKeyArray) -> tuple[PPOState, PPOSums]:
        """Passes over the rollout in minibatches."""
        rows = self.steps_per_chunk
        seen = jax.tree.map(lambda leaf: leaf.reshape(rows, *leaf.shape[2:]), seen)
        adam = self._adam()
        rate = self._rate(state.steps)
        fixed = eqx.partition(state.policy, state.policy.trainable())[1]

        nothing = PPOSums(*[jnp.zeros(())] * len(dataclasses.fields(PPOSums)))

        def minibatch(carry: tuple[Trained, PyTree, Array], rows: Array):
            trained, moments, going_on = carry

            def move(trained: Trained, moments: PyTree):
                batch = jax.tree.map(lambda leaf: leaf[rows], seen)
                gradient, sums = eqx.filter_grad(self._loss, has_aux=True)(trained, fixed, batch, state)
                step, moments = adam.update(gradient, moments)
                step = jax.tree.map(lambda leaf: rate * leaf, step)
                return eqx.apply_updates(trained, step), moments, sums

            def stay(trained: Trained, moments: PyTree):
                return trained, moments, nothing

            trained, moments, sums = jax.lax.cond(going_on, move, stay, trained, moments)
            if self.target_kl is not None:
                going_on = going_on & (sums.kl <= _KL_MARGIN * self.target_kl)
            return (trained, moments, going_on), sums

        orders = jax.vmap(lambda key: jax.random.permutation(key, rows))(jax.random.split(key, self.epochs))
        start = self._trained(state.policy, state.critic), state.moments, jnp.array(True)
        (trained, moments, _), sums = jax.lax.scan(minibatch, start, orders.reshape(-1, self.batch_size))
        state = dataclasses.replace(
            state, policy=eqx.combine(trained.policy, fixed), critic=trained.critic, moments=moments
        )
        return state, jax.tree.map(jnp.sum, sums)

    def _loss(self, trained: Trained, fixed: PyTree, batch: Seen, state: PPOState) -> tuple[Float[Array, ""], PPOSums]:
        policy: GaussianPolicy = eqx.combine(trained.policy, fixed)
        at = jax.vmap(policy.locate)(batch.observation, batch.memory)
        log_probability = jax.vmap(policy.log_probability)(at.mean, batch.drawn)
        usable = batch.usable
        if at.decision is not None:
            usable = usable & at.decision.gradient_valid
        log_ratio = jnp.where(usable, log_probability - batch.log_probability, 0.0)
        ratio = jnp.exp(log_ratio)
        share = usable / jnp.maximum(jnp.sum(usable), 1)

        def mean(rows: Array) -> Array:
            return jnp.sum(jnp.where(usable, rows, 0.0) * share)

        advantage = batch.advantage - mean(batch.advantage)
        advantage = advantage / (jnp.sqrt(mean(advantage**2)) + 1e-8)
        limited = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        policy_loss = -mean(jnp.minimum(ratio * advantage, limited * advantage))

        def judge(observation: Array) -> Array:
            return trained.critic(policy.normaliser(observation))[0]

        value_loss = 0.5 * jnp.mean((jax.vmap(judge)(batch.observation) - batch.goal) ** 2)
        sums = PPOSums(
            updates=jnp.ones(()),
            policy_loss=policy_loss,
            value_loss=value_loss,
            kl=mean(ratio - 1 - log_ratio),
            clipped=mean((jnp.abs(ratio - 1) > self.clip).astype(ratio.dtype)),
            unusable=jnp.mean(~usable, dtype=ratio.dtype),
        )
        loss = policy_loss + self.value_weight * value_loss - self.entropy_weight * policy.entropy()
        if self.value_expansion > 0:
            loss += self.value_expansion * mean(self._expansion(judge, batch.observation, at, state))
        return loss, sums

    def _expansion(
        self, judge: Callable[[Array], Array], observation: Float[Array, "b observation"], at: Located, state: PPOState
    ) -> Float[Array, " b"]:
        """What the plans behind the means teach the critic, row by row."""
        assert at.decision is not None  # `init` refuses it
        plan = jax.lax.stop_gradient(at.decision.plan)
        seen = jax.vmap(state.task.imagined)(observation, plan.states, plan.controls)
        assert seen is not None  # so with this
        rewards = seen.rewards / self._unit(state.returns)
        values = jax.vmap(jax.vmap(judge))(seen.observations)
        return jax.vmap(lambda v, r, k: expansion_loss(v, r, k, self.discount))(values, rewards, seen.known)

    def _unit(self, returns: Normaliser) -> Float[Array, ""]:
        """Of rewards."""
        return jnp.sqrt(returns.variance[0] + 1e-8) if self.normalise_rewards else jnp.ones(())

    def _trained(self, policy: GaussianPolicy, critic: Network) -> Trained:
        return Trained(eqx.filter(policy, policy.trainable()), critic)

    def _adam(self) -> optax.GradientTransformation:
        """Steps in units of the learning rate, which `_rate` knows."""
        return optax.chain(
            optax.clip_by_global_norm(self.gradient_norm), optax.scale_by_adam(eps=1e-5), optax.scale(-1.0)
        )

    def _rate(self, steps: Int[Array, ""]) -> Float[Array, ""]:
        if self.anneal_steps == 0:
            return jnp.asarray(self.learning_rate, float)
        gone = jnp.clip(steps / self.anneal_steps, 0.0, 1.0)
        return self.learning_rate * (1 - 0.9 * gone)


def _check_imagination(task: Task, policy: GaussianPolicy) -> None:
    if policy.steering is None or policy.noise == "parameters":
        raise ValueError("value_expansion needs a plan behind the mean of the action; use ac-mpc, or leave it at 0")
    problem, environment = task.problem, task.environment
    N, shapes = problem.horizon, (problem.state_size, problem.control_size)
    told = eqx.filter_eval_shape(
        task.imagined, jnp.zeros(environment.observation_size), jnp.zeros((N + 1, shapes[0])), jnp.zeros((N, shapes[1]))
    )
    if told is None:
        raise ValueError(
            f"{task.name} cannot tell what a plan would be like to live through; leave value_expansion at 0"
        )
