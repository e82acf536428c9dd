r"""Soft actor-critic: one learner, two switches.

    preset      critic of the learner    policy                            plans in an update
    sac         action                   DirectPolicy                      -
    sac-zop     parameters               PlannerPolicy, noise parameters   never
    sac-fop     action                   PlannerPolicy, noise parameters   at s and at s', differentiated at s
    sac-foa     action                   PlannerPolicy, noise action       at s and at s', differentiated at s
    sac-blended action, with a plan      DirectPolicy                      at s and at s', while λ > 0
    sac-mpq     action, with its steps   DirectPolicy                      likewise, differentiated at s

With `blend` > 0 the task's planner is part of the critic, Q^λ of `planner_critic.py` with

    λ = blend clip(1 - t / blend_steps, 0, 1),   t as `learning_since` tells it,   or blend where blend_steps = 0

In the loop of `off_policy.py`, an update moves critic, actor and temperature (losses: `soft_losses.py`), all three from
the same numbers, and Q̄ ← (1 - τ) Q̄ + τ Q. Only what the policy marks as trainable is trained.

References: Haarnoja et al. 2018, "Soft actor-critic algorithms and applications"; Fujimoto et al. 2018 (twin critics).
"""

import dataclasses
from typing import ClassVar, final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree

from planahead.learning.critics import TwinCritic
from planahead.learning.off_policy import OffPolicy, OffPolicyState, UpdateSums
from planahead.learning.planner_critic import Belief, PlannerCritic, Seen, check_planner_critic, seen
from planahead.learning.replay import Replay
from planahead.learning.rollout import Lanes
from planahead.learning.skipping import SkipState
from planahead.learning.soft_losses import Draws, EntropyPlace, Experience, Judged, SoftLosses, mean_of_usable
from planahead.policies import Policy, Proposal, StochasticPolicy
from planahead.tasks import Task


@final
class Losses(UpdateSums):
    """Sums over gradient steps."""

    updates: Float[Array, ""]
    critic_loss: Float[Array, ""]
    actor_loss: Float[Array, ""]
    temperature: Float[Array, ""]
    entropy: Float[Array, ""]
    """-E[log p] of what is drawn, in unit coordinates, without the scale ρ; H of the plans that answer with
    `entropy="action"`."""
    failed_updates: Float[Array, ""]
    """Share of rows that a loss left out because of a failed solve."""
    blend: Float[Array, ""] | None = None
    """λ; `None` without a planner in the critic."""
    failed_judgements: Float[Array, ""] | None = None
    """Share of rows that the learned critic judged alone because the planner's solve failed, while λ > 0."""


class Optimisers(eqx.Module):
    """Adam's moments."""

    policy: PyTree
    critic: PyTree
    temperature: PyTree


@final
class SACState(OffPolicyState):
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
    skip: SkipState | None = None

    def written(self) -> PyTree[bool]:
        return self.marked(lambda s: (s.policy, s.critic, s.target_critic, s.log_temperature, s.optimisers))

    def acting(self) -> PyTree[bool]:
        return self.marked(lambda s: (s.policy, s.log_temperature, s.optimisers.policy, s.optimisers.temperature))


@final
class SAC(OffPolicy[SACState]):
    """Soft actor-critic. Rewards are maximised.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train.
    """

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
    entropy: EntropyPlace = eqx.field(default="drawn", static=True)
    """Whose entropy is held: that of what is `drawn`, whose density is known exactly, or that of the planned `action`
    where noise enters at the parameters, from a local linearisation of the plan (see `soft_losses.py`)."""
    action_noise_floor: float = eqx.field(default=3e-3, static=True)
    """√ε of the action's entropy, in unit coordinates: a quarter of the standard deviation that `target_entropy` aims
    at. An action of that deviation then counts 0.03 nats too much, and one whose plan does not answer counts as 1.4
    nats below the target rather than as infinitely certain."""

    blend: float = eqx.field(default=0.0, static=True)
    """λ at the start: how much of the critic is the task's own planner, see `planner_critic.py`; off at 0, since only
    who knows the problem can say what its values are worth."""
    blend_steps: int = eqx.field(default=0, static=True)
    """Environment steps after warming up, and the hold after an imitation, in which λ falls to 0, linearly; 0 leaves it
    as it is."""
    believes: Belief = eqx.field(default="value", static=True)
    """What of a plan the critic believes: its cost (`value`), or its steps, each as much as λ allows (`steps`)."""
    plan_scale: float | None = eqx.field(default=None, static=True)
    """c, the reward that a unit of the problem's cost takes away; `None` asks the task, and refuses where it does not
    know or where the problem's discount is another."""
    plan_offset: float = eqx.field(default=0.0, static=True)
    """d, what the problem's cost leaves out: with rewards for staying alive, what these add up to."""

    sums: ClassVar[type[UpdateSums]] = Losses

    def __check_init__(self):
        for name in ("initial_temperature", "action_noise_floor"):
            self._check_range(name, getattr(self, name) > 0, "a positive number was expected")
        self._check_range("blend", 0 <= self.blend <= 1, "expected 0 (no planner in the critic) to 1")
        self._check_range("blend_steps", self.blend_steps >= 0, "expected 0 (λ stays as it is) or more")
        self._check_range(
            "plan_scale", self.plan_scale is None or self.plan_scale > 0, "a positive number was expected"
        )
        self._check_word("believes", get_args(Belief))
        if self.entropy not in ("drawn", "action"):
            raise ValueError(f"entropy='{self.entropy}'; it is that of what is 'drawn', or that of the 'action'")

    def check(self, policy: Policy) -> StochasticPolicy:
        trained = super().check(policy)
        if self.entropy == "action" and not (
            trained.plans and trained.noise == "parameters" and self.critic == "action"
        ):
            raise ValueError(
                "entropy='action' is for plans that noise at the parameters moves and that updates make anyway "
                f"(SAC-FOP); critic='{self.critic}' with noise='{trained.noise}' and {type(policy).__name__} has the "
                "density of its action already, or never plans in an update; use entropy='drawn'"
            )
        if self.blend > 0 and self.critic == "parameters":
            raise ValueError(
                f"blend={self.blend} makes a planner part of a critic that judges actions, and this one judges the "
                "parameters of another planner; use blend=0, or critic='action' (SAC-FOP)"
            )
        return trained

    def check_task(self, task: Task) -> None:
        if self.blend > 0:
            self.planner_critic(task)

    def planner_critic(self, task: Task) -> PlannerCritic:
        """The planner's part of the critic. **Raises** `ValueError` where the task has none."""
        return check_planner_critic(task, self.discount, self.believes, self.plan_scale, self.plan_offset)

    def blend_at(self, steps: Int[Array, ""]) -> Float[Array, ""]:
        """λ after that many environment steps."""
        gone = self.learning_since(steps) / self.blend_steps if self.blend_steps > 0 else jnp.zeros(())
        return self.blend * jnp.clip(1.0 - gone, 0.0, 1.0)

    def start(
        self, task: Task, policy: StochasticPolicy, critic: TwinCritic, replay: Replay[Experience], lanes: Lanes
    ) -> SACState:
        log_temperature = jnp.log(jnp.asarray(self.initial_temperature, float))
        adam = self.adam()
        return SACState(
            task=task,
            policy=policy,
            critic=critic,
            target_critic=critic,
            log_temperature=log_temperature,
            optimisers=Optimisers(
                policy=adam.init(eqx.filter(policy, policy.trainable())),
                critic=adam.init(eqx.filter(critic, eqx.is_inexact_array)),
                temperature=adam.init(log_temperature),
            ),
            replay=replay,
            lanes=lanes,
            steps=jnp.zeros((), jnp.int32),
        )

    def explore(
        self, policy: StochasticPolicy, observation: Float[Array, "n observation"], keys: Key[Array, " n"]
    ) -> Proposal:
        return jax.vmap(policy.propose)(observation, keys)

    def objective(self) -> SoftLosses:
        """The losses with this learner's switches."""
        return SoftLosses(
            self.critic,
            self.discount,
            self.scale_log_probability,
            self.entropy,
            self.action_noise_floor,
            self.prior_weight,
        )

    def update(self, state: SACState, batch: Experience, key: PRNGKeyArray) -> tuple[SACState, Losses]:
        """One gradient step of critic, actor and temperature, all from the same numbers; then the target critic."""
        objective = self.objective()
        adam, moments, temperature = self.adam(), state.optimisers, jnp.exp(state.log_temperature)

        trained, fixed = eqx.partition(state.policy, state.policy.trainable())
        planner = self.planner_critic(state.task) if self.blend > 0 else None
        weight = self.blend_at(state.steps)

        def judge(critic: TwinCritic, observation: Float[Array, "n observation"], judged: Judged) -> Seen:
            if planner is None:
                return Seen(critic, jnp.zeros_like(weight))
            return seen(planner, critic, weight, observation, judged.point)

        def actor_loss(trained: PyTree) -> tuple[Float[Array, ""], tuple[Draws, Float[Array, ""]]]:
            draws = objective.draw(eqx.combine(trained, fixed), batch, key)
            now = judge(state.critic, batch.observation, draws.now)
            loss = objective.actor_loss(draws.now, now.critic, temperature, batch)
            if self.prior_weight > 0:
                loss = loss + objective.prior_loss(state.policy, draws.now)
            return loss, (draws, now.failed)

        (actor_value, (draws, failed_now)), gradient = eqx.filter_value_and_grad(actor_loss, has_aux=True)(trained)
        step, policy_moments = adam.update(gradient, moments.policy)
        policy = eqx.combine(eqx.apply_updates(trained, step), fixed)

        after = judge(state.target_critic, batch.next_observation, draws.after)
        targets = objective.targets(draws.after, after.critic, temperature, batch)
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
            entropy=-mean_of_usable(draws.now.log_probability, objective.entropy_usable(draws.now, batch))
            / objective.scale(state.policy),
            failed_updates=jnp.mean(~(usable & targets.usable), dtype=critic_value.dtype),
            blend=None if planner is None else weight,
            failed_judgements=None if planner is None else 0.5 * (failed_now + after.failed),
        )
        return new, losses

    def no_losses(self, zero: Float[Array, ""]) -> Losses:
        blended = zero if self.blend > 0 else None
        return Losses(zero, zero, zero, zero, zero, zero, blended, blended)
