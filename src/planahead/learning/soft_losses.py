r"""The losses of soft actor-critic, over actions or over the parameters of a planner.

    z           what the critic judges, in unit coordinates: the action a, or the planner's parameters φ
    p           density of what was drawn: φ with noise at the parameters, a with noise at the action

    target      y   = r + γ (1 - terminated) [ min_i Q̄_i(s', z') - α ρ log p' ]         no gradient
    critic      L_Q = ½ Σ_i E[ (Q_i(s, z) - y)² ]
    actor       L_π = E[ α ρ log p - min_i Q_i(s, z) ]                                   through the plan where z = u₀*
    temperature L_α = -log α E[ ρ log p + H ],    H the entropy aimed at

    scale       ρ = n_a / n_drawn: hundreds of parameters then carry the entropy of n_a actions
    prior       L_π += w E[ mean_i (φ_i - φ⁰_i)² ],   φ what was drawn, φ⁰ the default parameters, unit, inside the box

With `entropy="action"` the entropy is that of the planned action instead of that of φ. Where the plan is linearised at
the drawn φ = tanh(y), the action is Gaussian, and ρ log p gives way to its mean over that Gaussian,

    ρ log p  ->  -H,   H = ½ log det(2πe (J_y Σ J_yᵀ + ε I)),   J_y = ∂a/∂φ diag(1 - tanh² y),   Σ = diag(σ²)

in the target at s', in the actor's loss and in the temperature's at s: one number in all three. It is differentiated by
σ and through the squash's slope 1 - tanh² y, and ∂a/∂φ is a constant: its derivative would be a second derivative of
the plan.

The temperature is asked only at plans that answer, σ_min(∂a/∂φ) >= √ε. Elsewhere, at an active bound for instance, H is
the entropy of ε whatever σ is, and α would grow without end to raise it: on the cart-pole, where 80 % of the plans do
not answer, from 0.02 to 1.8 within 20 000 steps.

J costs one back-solve per action and row, at s and at s'; the gradient of the actor's loss uses the same J, so with one
action the switch costs nothing. A plan without a valid gradient has no known entropy: its row is left out of the target
too.

`truncated` never enters: time ran out, the world would have gone on, so the target bootstraps. A solve that failed says
nothing about the policy, so every loss leaves out the rows whose own solve failed: the target's at s' (unless the row
terminated and needs none), the actor's and the temperature's at s, also where that plan has no valid gradient. With a
critic over φ no loss solves anything; there the rows are left out whose stored φ led to a failed solve. The prior asks
no plan, so every row has its say in it: where plans fail it leads back to the default.

Reference: Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", equations 5, 7 and 18.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from planahead.learning.critics import Critic, TwinCritic
from planahead.policies import Proposal, StochasticPolicy
from planahead.policies.sensitivity import linearised, local_action_entropy, smallest_singular_value
from planahead.policies.stochastic import held_inside

CriticPlace = Literal["parameters", "action"]
"""What a critic judges beside the observation."""

EntropyPlace = Literal["drawn", "action"]
"""Whose entropy is held: that of what is drawn (φ with noise at the parameters), or that of the planned action."""


class Experience(eqx.Module):
    """One transition as the replay stores it; a batch has a leading axis on every leaf."""

    observation: Float[Array, "*batch observation"]
    point: Float[Array, "*batch point"]
    """z, in unit coordinates."""
    reward: Float[Array, "*batch"]
    next_observation: Float[Array, "*batch observation"]
    """Before any reset."""
    terminated: Bool[Array, "*batch"]
    failed: Bool[Array, "*batch"]
    """Whether the solve behind the action failed."""
    memory: PyTree = None
    """What the decision at `observation` started from; `None` unless updates plan from a warm start."""
    next_memory: PyTree = None
    led: Bool[Array, "*batch"] | None = None
    """Whether an expert acted; `None` without a skip policy."""
    ended: Bool[Array, "*batch"] | None = None
    """Whether the episode was over, terminated or truncated; `None` likewise."""


class Judged(eqx.Module):
    """Fresh draws of a policy, as the critic sees them."""

    point: Float[Array, "batch point"]
    log_probability: Float[Array, " batch"]
    """ρ log p, or -H of the planned action."""
    solved: Bool[Array, " batch"]
    """Whether a target may use the row."""
    differentiable: Bool[Array, " batch"]
    """Whether the actor may."""
    proposal: Float[Array, "batch proposal"] | None = None
    """What was drawn or chosen before planning, in unit coordinates."""
    answers: Bool[Array, " batch"] | None = None
    """Whether the entropy can be moved, so that the temperature may ask for it; `None` where it always can."""


class Draws(eqx.Module):
    """What the policy would do at both ends of every row."""

    now: Judged
    """At s; differentiable by the policy."""
    after: Judged
    """At s'; without gradient."""


class Targets(eqx.Module):
    """What the critic shall learn, without gradient."""

    value: Float[Array, " batch"]
    usable: Bool[Array, " batch"]


class SoftLosses(eqx.Module):
    """The losses of one batch. The temperature α is an argument because it learns."""

    critic: CriticPlace = eqx.field(static=True)
    discount: float = eqx.field(static=True)
    scale_log_probability: bool = eqx.field(default=True, static=True)
    entropy: EntropyPlace = eqx.field(default="drawn", static=True)
    action_noise_floor: float = eqx.field(default=0.0, static=True)
    """√ε, in unit coordinates of the action."""
    prior_weight: float = eqx.field(default=0.0, static=True)
    """w."""

    def scale(self, policy: StochasticPolicy) -> float:
        """ρ."""
        own = self.entropy == "drawn" and self.scale_log_probability
        return policy.box.size / policy.drawn_size if own else 1.0

    def draw(self, policy: StochasticPolicy, batch: Experience, key: PRNGKeyArray) -> Draws:
        """One draw of the policy at s and one at s'. Planned apart: together, those at s' would be made ready to be
        differentiated as well, which takes a sixth longer."""
        rows = batch.reward.shape[0]
        keys = jax.random.split(key, 2 * rows)
        arrays, rest = eqx.partition(policy, eqx.is_inexact_array)
        still = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        proposals = jax.vmap(policy.propose)(batch.observation, keys[:rows])
        proposals_after = jax.vmap(still.propose)(batch.next_observation, keys[rows:])
        now = self.judge(policy, batch.observation, proposals, batch.memory)
        after = self.judge(still, batch.next_observation, proposals_after, batch.next_memory)
        return Draws(now, jax.lax.stop_gradient(after))

    def judge(
        self,
        policy: StochasticPolicy,
        observation: Float[Array, "batch observation"],
        proposals: Proposal,
        memory: PyTree,
    ) -> Judged:
        """The proposals as the critic sees them, planned where it judges actions."""
        if self.critic == "parameters":
            always = jnp.ones(observation.shape[0], bool)
            log_probability = self.scale(policy) * proposals.log_probability
            return Judged(proposals.unit, log_probability, always, always, proposals.unit)
        answers = None
        if self.entropy == "action":
            found = jax.vmap(lambda o, p, m: linearised(policy, o, p, m))(observation, proposals, memory)
            decisions = found.decision
            log_probability = -jax.vmap(self._entropy_of_action)(found.jacobian, proposals)
            solved = ~jnp.asarray(decisions.failed) & decisions.gradient_valid
            answers = jax.vmap(smallest_singular_value)(found.jacobian) >= self.action_noise_floor
        else:
            decisions = jax.vmap(policy.judged)(observation, proposals, memory)
            log_probability = self.scale(policy) * decisions.log_probability
            solved = ~jnp.asarray(decisions.failed)
        return Judged(
            jax.vmap(policy.box.to_unit)(decisions.action),
            log_probability,
            solved,
            solved & decisions.gradient_valid,
            proposals.unit,
            answers,
        )

    def _entropy_of_action(self, jacobian: Float[Array, "nu parameters"], proposal: Proposal) -> Float[Array, ""]:
        """H of one row."""
        assert proposal.log_std is not None  # `SAC.check` lets only noise at the parameters in
        slope = 1.0 - proposal.unit**2
        return local_action_entropy(jacobian, slope * jnp.exp(proposal.log_std), self.action_noise_floor**2)

    def targets(
        self, after: Judged, target_critic: Critic, temperature: Float[Array, ""], batch: Experience
    ) -> Targets:
        value = jnp.min(target_critic(batch.next_observation, after.point), axis=0)
        soft_value = value - temperature * after.log_probability
        target = batch.reward + self.discount * jnp.where(batch.terminated, 0.0, soft_value)
        usable = (after.solved | batch.terminated) & self._stored_usable(batch)
        return Targets(jax.lax.stop_gradient(target), usable)

    def critic_loss(self, critic: TwinCritic, batch: Experience, targets: Targets) -> Float[Array, ""]:
        error = critic(batch.observation, batch.point) - targets.value[None]
        return 0.5 * mean_of_usable(jnp.sum(error**2, axis=0), targets.usable)

    def actor_loss(
        self, now: Judged, critic: Critic, temperature: Float[Array, ""], batch: Experience
    ) -> Float[Array, ""]:
        """Without the prior."""
        value = jnp.min(critic(batch.observation, now.point), axis=0)
        return mean_of_usable(temperature * now.log_probability - value, self.actor_usable(now, batch))

    def prior_loss(self, policy: StochasticPolicy, now: Judged) -> Float[Array, ""]:
        """w E[ mean_i (φ_i - φ⁰_i)² ] in unit coordinates, over all rows; φ⁰ is held inside of its box."""
        default = policy.default_unit()
        assert default is not None and now.proposal is not None  # `OffPolicy.check` refuses a prior without a default
        return self.prior_weight * jnp.mean((now.proposal - held_inside(default)[None]) ** 2)

    def temperature_loss(
        self, log_temperature: Float[Array, ""], now: Judged, batch: Experience, target: float
    ) -> Float[Array, ""]:
        """`target` is H."""
        surplus = jax.lax.stop_gradient(now.log_probability) + target
        return -log_temperature * mean_of_usable(surplus, self.entropy_usable(now, batch))

    def entropy_usable(self, now: Judged, batch: Experience) -> Bool[Array, " batch"]:
        """The rows whose entropy is held."""
        usable = self.actor_usable(now, batch)
        return usable if now.answers is None else usable & now.answers

    def actor_usable(self, now: Judged, batch: Experience) -> Bool[Array, " batch"]:
        """The rows that have a say in the actor's loss."""
        return now.differentiable & self._stored_usable(batch)

    def _stored_usable(self, batch: Experience) -> Bool[Array, " batch"]:
        return ~batch.failed | (self.critic == "action")


def mean_of_usable(values: Float[Array, "*batch"], usable: Bool[Array, "*batch"]) -> Float[Array, ""]:
    """The mean over usable rows; the others have no say, whatever they hold, and it is 0 where none is usable.

    >>> float(mean_of_usable(jnp.array([1.0, jnp.nan, 3.0]), jnp.array([True, False, True])))
    2.0
    """
    return jnp.sum(jnp.where(usable, values, 0.0)) / jnp.maximum(jnp.sum(usable), 1)
