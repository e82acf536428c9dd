r"""TD3, the deterministic policy gradient with its three repairs: twin critics, a smoothed target, a delayed policy.

    preset      critic of the learner    policy           z             plans in an update
    td3         action                   DirectPolicy     the action    -
    td3-zop     parameters               PlannerPolicy    φ             never
    td3-fop     action                   PlannerPolicy    φ             at s' always, at s with the policy

    explore     z  = clip(μ(s) + σ_e ξ)
    target      y  = r + γ (1 - terminated) min_i Q̄_i(s', z'),   z' = clip(μ̄(s') + clip(σ_t ξ, ±c))     no gradient
    critic      L_Q = ½ Σ_i E[ (Q_i(s, z) - y)² ]
    policy      L_μ = -E[ Q_1(s, μ(s)) ],   in every d-th update, after which μ̄ and Q̄ follow by τ; where there is a
                prior, its pull is added, as in `soft_losses.py`

Everything is in unit coordinates, where clip is to [-1, 1]; with a planner and a critic over actions, Q is that of the
action planned with z, and the noise is filtered by the plan. The policy is the mode of a `StochasticPolicy`; what its
network says of standard deviations is neither used nor trained. DDPG is `policy_delay=1, target_noise=0.0` with the
smaller of two critics in the target. Rows of failed solves are left out as in `soft_losses.py`.

The state is one pytree that holds everything: save its leaves, load them, and the run goes on to the same numbers.

References: Fujimoto et al. 2018, "Addressing function approximation error in actor-critic methods", algorithm 1;
Lillicrap et al. 2016, "Continuous control with deep reinforcement learning" (DDPG).
"""

import dataclasses
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree

from planahead.learning.critics import TwinCritic
from planahead.learning.off_policy import OffPolicy, OffPolicyState, UpdateSums
from planahead.learning.replay import Replay
from planahead.learning.rollout import Lanes
from planahead.learning.skipping import SkipState
from planahead.learning.soft_losses import Experience, SoftLosses, mean_of_usable
from planahead.policies import Policy, Proposal, StochasticPolicy
from planahead.tasks import Task


@final
class TD3Losses(UpdateSums):
    """Sums over gradient steps."""

    updates: Float[Array, ""]
    critic_loss: Float[Array, ""]
    actor_loss: Float[Array, ""]
    """Weighed by the policy's delay, so that its mean over all updates is that over the policy's own."""
    failed_updates: Float[Array, ""]
    """Share of rows that the target left out because of a failed solve."""


class TD3Optimisers(eqx.Module):
    """Adam's moments."""

    policy: PyTree
    critic: PyTree


@final
class TD3State(OffPolicyState):
    """Everything that changes while learning, and what it is about."""

    task: Task
    policy: StochasticPolicy
    critic: TwinCritic
    target_policy: PyTree
    """Only what is trained of it; the rest is the policy's."""
    target_critic: TwinCritic
    optimisers: TD3Optimisers
    updates: Int[Array, ""]
    """Gradient steps of the critic."""
    replay: Replay[Experience]
    lanes: Lanes
    steps: Int[Array, ""]
    skip: SkipState | None = None

    def with_policy(self, policy: StochasticPolicy) -> "TD3State":
        where = policy, eqx.filter(policy, policy.trainable())
        return eqx.tree_at(lambda state: (state.policy, state.target_policy), self, where)

    def written(self) -> PyTree[bool]:
        return self.marked(
            lambda s: (s.policy, s.critic, s.target_policy, s.target_critic, s.optimisers, s.updates),
        )

    def acting(self) -> PyTree[bool]:
        return self.marked(lambda s: (s.policy, s.target_policy, s.optimisers.policy))


@final
class TD3(OffPolicy[TD3State]):
    """Twin delayed deep deterministic policy gradient. Rewards are maximised.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train.
    """

    exploration_noise: float = eqx.field(default=0.1, static=True)
    """σ_e: standard deviation of what is tried, in unit coordinates (Fujimoto et al. 2018)."""
    target_noise: float = eqx.field(default=0.2, static=True)
    """σ_t: the target is smoothed over this standard deviation, in unit coordinates (Fujimoto et al. 2018)."""
    target_noise_clip: float = eqx.field(default=0.5, static=True)
    """c, in unit coordinates (Fujimoto et al. 2018)."""
    policy_delay: int = eqx.field(default=2, static=True)
    """d: critic updates per update of the policy and of the targets (Fujimoto et al. 2018)."""

    sums: ClassVar[type[UpdateSums]] = TD3Losses

    def __check_init__(self):
        for name in ("exploration_noise", "target_noise", "target_noise_clip"):
            self._check_range(name, getattr(self, name) >= 0, "expected 0 (none) or more")
        self._check_range("policy_delay", self.policy_delay >= 1, "at least 1 was expected")

    def check(self, policy: Policy) -> StochasticPolicy:
        trained = super().check(policy)
        if trained.plans and trained.noise == "action":
            raise ValueError(
                "TD3 explores before it plans, and this policy draws its noise at the planned action; "
                "use noise='parameters', or SAC (SAC-FOA)"
            )
        return trained

    def start(
        self, task: Task, policy: StochasticPolicy, critic: TwinCritic, replay: Replay[Experience], lanes: Lanes
    ) -> TD3State:
        adam, trained = self.adam(), eqx.filter(policy, policy.trainable())
        return TD3State(
            task=task,
            policy=policy,
            critic=critic,
            target_policy=trained,
            target_critic=critic,
            optimisers=TD3Optimisers(adam.init(trained), adam.init(eqx.filter(critic, eqx.is_inexact_array))),
            updates=jnp.zeros((), jnp.int32),
            replay=replay,
            lanes=lanes,
            steps=jnp.zeros((), jnp.int32),
        )

    def explore(
        self, policy: StochasticPolicy, observation: Float[Array, "n observation"], keys: Key[Array, " n"]
    ) -> Proposal:
        proposal = jax.vmap(policy.propose)(observation)
        noise = self.exploration_noise * jax.vmap(lambda unit, key: _normal(key, unit))(proposal.unit, keys)
        return eqx.tree_at(lambda p: p.unit, proposal, jnp.clip(proposal.unit + noise, -1.0, 1.0))

    def update(self, state: TD3State, batch: Experience, key: PRNGKeyArray) -> tuple[TD3State, TD3Losses]:
        """One gradient step of the critic; in every `policy_delay`-th update one of the policy, then the targets."""
        objective = SoftLosses(self.critic, self.discount, prior_weight=self.prior_weight)
        adam, moments = self.adam(), state.optimisers
        trained, fixed = eqx.partition(state.policy, state.policy.trainable())

        target_policy = eqx.combine(state.target_policy, fixed)
        proposals = jax.vmap(target_policy.propose)(batch.next_observation)
        noise = jnp.clip(
            self.target_noise * _normal(key, proposals.unit), -self.target_noise_clip, self.target_noise_clip
        )
        proposals = eqx.tree_at(lambda p: p.unit, proposals, jnp.clip(proposals.unit + noise, -1.0, 1.0))
        after = objective.judge(target_policy, batch.next_observation, proposals, batch.next_memory)
        targets = objective.targets(after, state.target_critic, jnp.zeros_like(noise[0, 0]), batch)

        critic_value, gradient = eqx.filter_value_and_grad(objective.critic_loss)(state.critic, batch, targets)
        step, critic_moments = adam.update(gradient, moments.critic)
        critic = eqx.apply_updates(state.critic, step)

        def actor_loss(trained: PyTree) -> Float[Array, ""]:
            policy = eqx.combine(trained, fixed)
            now = objective.judge(policy, batch.observation, jax.vmap(policy.propose)(batch.observation), batch.memory)
            loss = -mean_of_usable(critic(batch.observation, now.point)[0], objective.actor_usable(now, batch))
            return loss + objective.prior_loss(policy, now) if self.prior_weight > 0 else loss

        def policy_step(parts: PyTree) -> tuple[PyTree, Float[Array, ""]]:
            trained, moments, target_trained, target_critic = parts
            loss, gradient = eqx.filter_value_and_grad(actor_loss)(trained)
            step, moments = adam.update(gradient, moments)
            trained = eqx.apply_updates(trained, step)
            parts = trained, moments, self._follow(target_trained, trained), self._follow(target_critic, critic)
            return parts, self.policy_delay * loss

        updates = state.updates + 1
        parts = trained, moments.policy, state.target_policy, state.target_critic
        parts, actor_value = jax.lax.cond(
            updates % self.policy_delay == 0, policy_step, lambda parts: (parts, jnp.zeros_like(critic_value)), parts
        )
        trained, policy_moments, target_trained, target_critic = parts
        new = dataclasses.replace(
            state,
            policy=eqx.combine(trained, fixed),
            critic=critic,
            target_policy=target_trained,
            target_critic=target_critic,
            optimisers=TD3Optimisers(policy_moments, critic_moments),
            updates=updates,
        )
        losses = TD3Losses(
            updates=jnp.ones_like(critic_value),
            critic_loss=critic_value,
            actor_loss=actor_value,
            failed_updates=jnp.mean(~targets.usable, dtype=critic_value.dtype),
        )
        return new, losses

    def _follow(self, target: PyTree, trained: PyTree) -> PyTree:
        return jax.tree.map(lambda old, new: old + self.polyak * (new - old), target, trained)


def _normal(key: PRNGKeyArray, like: Array) -> Array:
    return jax.random.normal(key, like.shape, like.dtype)
