r"""A planner as critic: what a fixed problem says of a state and an action, and how much of it a learner believes.

    Q^M(s, a) = d - c Q^MPC(x(s), a)          the cost of the best plan that begins with a, as reward to go

    believes = "value"    Q^λ(s, a) = (1 - λ) Q_w(s, a) + λ Q^M(s, a)
    believes = "steps"    Q^λ(s, a) = (1 - λ) Σ_{i<H} λ^i Q_i + λ^H Q_H                             MPQ(λ)
                                    = Q_w(s_0, a_0) + λ Σ_{k<H} (γλ)^k A_k
                          Q_i = Σ_{k<i} γ^k r̂_k + γ^i Q_w(s_i, a_i)
                          A_k = r̂_k + γ Q_w(s_{k+1}, a_{k+1}) - Q_w(s_k, a_k)

Q^λ takes the place of Q_w in the target and in the actor's loss, and Q_w alone is fitted to that target, so that it is
ready when λ has fallen to 0, where Q^λ = Q_w; what it was taught by a wrong model it has to unlearn from there on. With
λ = 1 and "value" the critic is the planner; nothing that is learned enters then but the policy. Of two critics each is
blended; the least of both is that of the blends.

    symbol      shape       meaning
    Q_w         [2, b]      what is learned: rewards to go, maximised, with the entropy's share in soft actor-critic
    Q^MPC       [b]         cost, minimised, finite horizon and terminal cost; its own entropy is none
    s_k, a_k    [H+1]       of the plan that begins with a; a_0 = a, s_0 = s,  H = N - 1
    r̂_k         [H]         reward of its steps (`Task.imagined`), from where the task cannot tell on A_k = 0

Scale. Q^MPC and rewards compare where the problem's stages, its terminal cost and the prices of its constraints are
what the world's rewards are, times -1/c, and γ is one and the same: `Task.reward_per_cost` says c, and a γ that differs
is refused. Otherwise `plan_scale` and `plan_offset` set c and d by hand. "steps" needs neither: its rewards are the
task's.

Error. Let |Q_w - Q*| <= ε, and m_i be by how much Q_i is off with Q* in the place of Q_w: the model's error, m_0 = 0.

    |Q^λ - Q*| <= (1 - λ) Σ_{i<H} λ^i (m_i + γ^i ε) + λ^H (m_H + γ^H ε)

What is learned counts for less with a larger λ, what the model gets wrong for more. The plan minimises the problem's
own cost, while Bhardwaj et al. seek the actions that Q^λ itself calls best, with a sampling planner.

An update plans twice a row, at a and a' that the policy draws anew, so no plan can be kept in the replay. The
mass-spring-damper makes 1,400 steps/s with "value", 64 rows and a gradient step in four steps, and 7,400 without, on a
core of a Xeon.

∂Q^M/∂a is the multiplier of the pinned control (envelope theorem), that of "steps" goes through the plan. A row whose
plan failed is judged by Q_w alone, and counted.

Reference: M. Bhardwaj, S. Choudhury, B. Boots, "Blending MPC & value function approximation for efficient reinforcement
learning", ICLR 2021; the two-point form: R. Reiter et al., "Synthesis of model predictive control and
reinforcement learning: survey and classification", 2025.
"""

import abc
from typing import Any, Literal, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from planahead.learning.critics import Critic
from planahead.planning import SQP, action_value, solve
from planahead.policies.failure import CONTENT, plan_failed
from planahead.tasks import Task

Belief = Literal["value", "steps"]
"""What of a plan is believed: its cost, or its steps."""

ITERATIONS = 10  # at most, as many as policies have for a plan


class Foreseen(eqx.Module):
    """What the planner says of a batch of states and actions."""

    usable: eqx.AbstractVar[Bool[Array, " batch"]]
    """Whether the plan did not fail."""

    @abc.abstractmethod
    def blend(
        self, critic: Critic, values: Float[Array, "2 batch"], weight: Float[Array, ""]
    ) -> Float[Array, "2 batch"]:
        """Q^λ, where `values` are Q_w and `weight` is λ; whatever it is where not usable."""


@final
class ForeseenValue(Foreseen):
    """Of a plan, what it costs."""

    usable: Bool[Array, " batch"]
    value: Float[Array, " batch"]
    """Q^M, to be maximised."""

    def blend(self, critic, values, weight):
        return (1.0 - weight) * values + weight * self.value[None]


@final
class ForeseenSteps(Foreseen):
    """Of a plan, where it leads to."""

    usable: Bool[Array, " batch"]
    observations: Float[Array, "batch nodes observation"]
    """At s_0 … s_H."""
    points: Float[Array, "batch nodes point"]
    """a_0 … a_H, in unit coordinates."""
    rewards: Float[Array, "batch H"]
    known: Bool[Array, "batch H"]
    """False from some step on."""
    discount: float = eqx.field(static=True)

    def blend(self, critic, values, weight):
        along = [_flat(leaf) for leaf in (self.observations, self.points)]
        found = jnp.reshape(critic(*along), (values.shape[0], *self.points.shape[:2]))
        return values + weighed_advantages(found, self.rewards, self.known, weight, self.discount)


def weighed_advantages(
    values: Float[Array, "2 batch nodes"],
    rewards: Float[Array, "batch H"],
    known: Bool[Array, "batch H"],
    weight: Float[Array, ""],
    discount: float,
) -> Float[Array, "2 batch"]:
    """λ Σ_{k<H} (γλ)^k A_k. With λ = 1 nothing is left of the first value but its sign: the rest is the return.

    >>> values, known = jnp.array([[[5.0, 7.0, 2.0]], [[5.0, 7.0, 2.0]]]), jnp.ones((1, 2), bool)
    >>> whole = 5.0 + weighed_advantages(values, jnp.array([[1.0, 1.0]]), known, jnp.array(1.0), 0.5)
    >>> float(whole[0, 0])                                                             # 1 + 0.5 + 0.25 · 2
    2.0
    """
    advantages = jnp.where(known[None], rewards[None] + discount * values[..., 1:] - values[..., :-1], 0.0)

    def backwards(after: Array, advantage: Array) -> tuple[Array, None]:
        return advantage + discount * weight * after, None

    total, _ = jax.lax.scan(backwards, jnp.zeros_like(values[..., 0]), jnp.moveaxis(advantages, -1, 0), reverse=True)
    return weight * total


class PlannerCritic(eqx.Module):
    """What a task's own problem says of states and actions."""

    task: Task
    discount: float = eqx.field(static=True)
    """γ of what is learned."""
    believes: Belief = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    """c"""
    offset: float = eqx.field(default=0.0, static=True)
    """d"""
    planner: SQP = eqx.field(
        default_factory=lambda: SQP(iterations=ITERATIONS, gradient_tolerance=CONTENT, arithmetic="float32")
    )

    def foresee(self, observation: Float[Array, "batch observation"], point: Float[Array, "batch point"]) -> Foreseen:
        """A plan for every row, with its first control pinned; `point` is in unit coordinates."""
        return self._steps(observation, point) if self.believes == "steps" else self._values(observation, point)

    def blind(self, observation: Float[Array, "batch observation"], point: Float[Array, "batch point"]) -> Foreseen:
        """What is foreseen without planning: nothing that is usable."""
        shapes = eqx.filter_eval_shape(self.foresee, observation, point)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def _values(self, observation: Array, point: Array) -> ForeseenValue:
        task = self.task

        def cost(observation: Array, point: Array) -> Float[Array, ""]:
            action = task.action_box.from_unit(point)
            return action_value(task.problem, task.planner_state(observation), action, planner=self.planner)

        costs = jax.vmap(cost)(observation, point)
        usable = jnp.isfinite(costs)
        return ForeseenValue(usable, self.offset - self.scale * jnp.where(usable, costs, 0.0))

    def _steps(self, observation: Array, point: Array) -> ForeseenSteps:
        task = self.task

        def look(observation: Array, point: Array) -> tuple[Array, ...]:
            action = task.action_box.from_unit(point)
            plan = solve(task.problem, task.planner_state(observation), action, planner=self.planner)
            seen = task.imagined(observation, plan.states, plan.controls)
            assert seen is not None  # `check_planner_critic` refuses a task that cannot tell
            usable = ~plan_failed(plan, self.planner) & plan.gradient_valid
            points = jax.vmap(task.action_box.to_unit)(plan.controls)
            return usable, seen.observations[:-1], points, seen.rewards[:-1], seen.known[:-1]

        return ForeseenSteps(*jax.vmap(look)(observation, point), discount=self.discount)


class Seen(NamedTuple):
    """A critic as the losses use it, and how it came about."""

    critic: Critic
    """Of the states and actions that were foreseen, and of no others."""
    failed: Float[Array, ""]
    """Share of rows whose plan was asked for and failed."""


def seen(
    planner: PlannerCritic,
    critic: Critic,
    weight: Float[Array, ""],
    observation: Float[Array, "batch observation"],
    point: Float[Array, "batch point"],
) -> Seen:
    """Q^λ at the given rows, differentiable by `point`; nothing is planned where `weight`, λ, is 0."""
    asked = weight > 0
    foreseen: Foreseen = jax.lax.cond(
        asked, lambda o, z: planner.foresee(o, z), lambda o, z: planner.blind(o, z), observation, point
    )

    def blended(observation: Array, point: Array) -> Array:
        values = critic(observation, point)
        return jnp.where(foreseen.usable[None], foreseen.blend(critic, values, weight), values)

    return Seen(blended, jnp.where(asked, jnp.mean(~foreseen.usable, dtype=weight.dtype), 0.0))


def check_planner_critic(
    task: Task, discount: float, believes: Belief, scale: float | None, offset: float
) -> PlannerCritic:
    """The critic that `task` offers. **Raises** `ValueError` that says what is missing otherwise."""
    problem, name = task.problem, type(task.problem).__name__
    if not problem.plans_actions:
        raise ValueError(
            f"a planner judges actions as its controls, and {name} plans in other terms than its plant is commanded in "
            "(`action`); use blend=0"
        )
    if believes == "steps":
        if scale is not None or offset != 0.0:
            raise ValueError(
                f"plan_scale={scale} and plan_offset={offset} turn the cost of a plan into rewards, and "
                "believes='steps' goes by the task's own rewards; leave them out, or use believes='value'"
            )
        if problem.horizon < 2 or not _tells(task):
            raise ValueError(
                f"task '{task.name}' cannot tell what the steps of a plan would earn (`Task.imagined`), so "
                "believes='steps' has nothing to go by; use believes='value', or blend=0"
            )
        return PlannerCritic(task, discount, believes, 1.0)
    if scale is not None:
        return PlannerCritic(task, discount, believes, scale, offset)
    declared = task.reward_per_cost()
    if declared is None:
        raise ValueError(
            f"the cost of {name} is no multiple of what task '{task.name}' rewards, as far as it says "
            "(`Task.reward_per_cost`), so planned and learned values do not compare; set plan_scale, the reward that a "
            "unit of cost takes away, or use blend=0"
        )
    if not isinstance(problem.discount, Tracer) and not np.isclose(float(problem.discount), discount):
        raise ValueError(
            f"discount={discount} of the learner and {float(problem.discount):g} of {name}, so planned and learned "
            f"values do not compare; use discount={float(problem.discount):g} where that is below 1, or set plan_scale"
        )
    return PlannerCritic(task, discount, believes, declared, offset)


def _tells(task: Task) -> bool:
    N, nx, nu = task.problem.horizon, task.problem.state_size, task.problem.control_size
    shapes: Any = ((task.environment.observation_size,), (N + 1, nx), (N, nu))
    return eqx.filter_eval_shape(task.imagined, *(jnp.zeros(shape) for shape in shapes)) is not None


def _flat(leaf: Float[Array, "batch nodes size"]) -> Float[Array, "rows size"]:
    return jnp.reshape(leaf, (-1, leaf.shape[-1]))
