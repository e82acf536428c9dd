r"""What a student is told apart from its expert by: four losses, and one more term that any of them may have.

    action        mean_i (z_i - z*_i)²                                       z = π(o; θ) in unit coordinates
    q             Q(x, u) - V(x),  u = box(z)                                costs, minimised; constraints priced
    gauss-newton  gᵀ(u - u*) + ½ (u - u*)ᵀ H (u - u*)                        g, H those of Q at the expert's solution
    trajectory    mean_{k,i} ((x_k - x*_k)_i / σ_i)²,  x_{k+1} = f(x_k, u_k)  u_0 … u_{N-1} = box(z), the student's plan

    Sobolev       Σ ((∂z/∂o - J) S)² / E Σ (J S)²                            J = ∂z*/∂o, S the scale of observations

The Q-loss is what a deviation costs in closed loop with the expert, so it is large where a constraint is near and small
where the action does not matter; its gradient ∂Q/∂u is the multiplier of u_0 = u (envelope theorem), and every gradient
step solves a batch of problems, from the expert's plans. Its Gauss-Newton form solves none: H is the Hessian of the
quadratic program around the expert's plan with its active set held (soft bounds included), g the multiplier of the
control's own bounds, zero inside of them.

Costs of deviations have heavy tails: on the cart-pole H alone spans five decades, and the mean is that of a few states
in which all is lost anyway. Unless told otherwise the mean is one of √(1 + 2 (Q - V)/c) - 1, c a quantile of Q - V in
the batch: every state has the same best action, and what is quadratic grows like a distance far away, so that no row
drowns the others and none is given up.

Nor does the multiplier g end where the student is at the bound that the expert is at: a squashed action would be pushed
into saturation for as long as it is asked for, and the network could not leave it where another action is right. So an
entry within `ARRIVED` of that bound counts as there, at no cost.

σ_i is the root mean square of how far the expert's plans of a batch move in x_i, so that units drop out.

A row whose expert's solve failed is left out of everything; one without a valid derivative out of what needs J or H.

References: the Q-loss: A. Ghezzi et al., "Imitation learning from nonlinear MPC via the exact Q-loss and its
Gauss-Newton approximation", CDC 2023; trajectories: J. Hoffmann et al., "PlanNetX", L4DC 2024; Sobolev terms:
W. Czarnecki et al., "Sobolev training for neural networks", 2017.
"""

import abc
from typing import Any, Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from planahead.learning.expert import Answer, Expert
from planahead.learning.soft_losses import mean_of_usable
from planahead.planning import Guess, action_value
from planahead.planning.action_curvature import action_curvature
from planahead.policies import StochasticPolicy
from planahead.problem import scan_stages

LossName = Literal["action", "q", "gauss-newton", "trajectory"]


class Lesson(eqx.Module):
    """One query as the replay stores it; a batch has a leading axis on every leaf."""

    observation: Float[Array, "*batch observation"]
    unit: Float[Array, "*batch action"]
    """z*, the expert's action in unit coordinates."""
    usable: Bool[Array, "*batch"]
    """Whether the expert's solve did not fail."""
    kept: PyTree
    """What each term keeps of the answer."""


class Scored(eqx.Module):
    """What a term says about a batch."""

    loss: Float[Array, ""]
    unusable: Float[Array, ""]
    """Share of rows that it left out."""


class ImitationTerm(eqx.Module):
    """A part of what imitation minimises."""

    @property
    def sensitive(self) -> bool:
        """Whether it needs J."""
        return False

    def keep(self, expert: Expert, observation: Float[Array, " observation"], answer: Answer) -> PyTree:
        """What of an answer has to be stored."""
        del expert, observation, answer
        return None

    @abc.abstractmethod
    def score(self, expert: Expert, student: StochasticPolicy, lessons: Lesson, kept: PyTree) -> Scored:
        """The loss of a batch, differentiable by the student."""


@final
class ActionTerm(ImitationTerm):
    """The distance of actions."""

    def score(self, expert: Expert, student: StochasticPolicy, lessons: Lesson, kept: PyTree) -> Scored:
        del expert, kept
        return _scored(distance(_actions(student, lessons), lessons.unit), lessons.usable)


@final
class QTerm(ImitationTerm):
    """What the student's action costs the expert."""

    robust: bool = eqx.field(default=True, static=True)
    """Whether costs are averaged as distances, see above."""

    def keep(self, expert: Expert, observation: Float[Array, " observation"], answer: Answer) -> tuple[Guess, Array]:
        del expert, observation
        return answer.plan.guess(), answer.plan.cost

    def score(self, expert: Expert, student: StochasticPolicy, lessons: Lesson, kept: tuple[Guess, Array]) -> Scored:
        guesses, values = kept
        actions = jax.vmap(expert.box.from_unit)(_arrived(student, lessons))

        def cost(observation: Array, action: Array, guess: Guess) -> Float[Array, ""]:
            problem, state = expert.task.expert(observation), expert.task.planner_state(observation)
            return action_value(problem, state, action, guess=guess, planner=expert.planner)

        costs = jax.vmap(cost)(lessons.observation, actions, guesses)
        return _scored_costs(costs - values, lessons.usable & jnp.isfinite(costs), self.robust)


@final
class GaussNewtonTerm(ImitationTerm):
    """The same to second order."""

    robust: bool = eqx.field(default=True, static=True)
    """As above."""

    def keep(self, expert: Expert, observation: Float[Array, " observation"], answer: Answer) -> PyTree:
        problem, state = expert.task.expert(observation), expert.task.planner_state(observation)
        return action_curvature(problem, state, answer.plan, planner=expert.planner)

    def score(self, expert: Expert, student: StochasticPolicy, lessons: Lesson, kept: Any) -> Scored:
        in_units = jax.vmap(expert.box.from_unit)
        apart = in_units(_arrived(student, lessons)) - in_units(lessons.unit)
        costs = jnp.sum(kept.gradient * apart, axis=1) + 0.5 * jnp.einsum("bi,bij,bj->b", apart, kept.hessian, apart)
        return _scored_costs(costs, lessons.usable & kept.valid, self.robust)


@final
class TrajectoryTerm(ImitationTerm):
    """How far the student's plan leads from the expert's."""

    def keep(self, expert: Expert, observation: Float[Array, " observation"], answer: Answer) -> Array:
        del expert, observation
        return answer.plan.states

    def score(self, expert: Expert, student: StochasticPolicy, lessons: Lesson, kept: Array) -> Scored:
        def roll(observation: Array) -> Float[Array, "nodes nx"]:
            problem, unit = expert.task.expert(observation), student.propose(observation).unit
            controls = jax.vmap(expert.box.from_unit)(unit.reshape(problem.horizon, -1))
            start = expert.task.planner_state(observation)
            return scan_stages(lambda x, stage, u: (stage.dynamics(x, u), None), problem, start, controls)[0]

        usable = lessons.usable[:, None, None]
        moves = jnp.mean(jnp.where(usable, kept - kept[:, :1], 0.0) ** 2, axis=1)
        scale = jnp.sqrt(jnp.sum(moves, axis=0) / jnp.maximum(jnp.sum(lessons.usable), 1) + _STILL**2)
        apart = jnp.where(usable, jax.vmap(roll)(lessons.observation) - kept, 0.0) / scale[None, None]
        return _scored(jnp.mean(apart**2, axis=(1, 2)), lessons.usable)


@final
class SobolevTerm(ImitationTerm):
    """How far the student's action answers to the observation in another way than the expert's, relative to how much
    that one does."""

    @property
    def sensitive(self) -> bool:
        return True

    def keep(self, expert: Expert, observation: Float[Array, " observation"], answer: Answer) -> PyTree:
        del observation
        assert answer.jacobian is not None  # `sensitive` asks for it
        return answer.jacobian * _scale(expert)[None], answer.plan.gradient_valid

    def score(self, expert: Expert, student: StochasticPolicy, lessons: Lesson, kept: tuple[Array, Array]) -> Scored:
        shown, valid = kept
        usable, scale = lessons.usable & valid, _scale(expert)
        size = lessons.unit.shape[-1]
        slope = jax.vmap(jax.jacrev(lambda observation: student.propose(observation).unit[:size]))(lessons.observation)
        apart = jnp.sum((slope * scale[None, None] - shown) ** 2, axis=(1, 2))
        whole = mean_of_usable(jnp.sum(shown**2, axis=(1, 2)), usable)
        scored = _scored(apart, usable)
        return Scored(scored.loss / jnp.maximum(whole, _STILL), scored.unusable)


COST_QUANTILE = 0.7
"""Of the unit of costs, c. Where the control is at a bound half of the rows may cost nothing, so a median would not do.
"""
ARRIVED = 0.98
"""At a bound, in unit coordinates."""
_STILL = 1e-6
"""What does not move at all is divided by this."""


def term_of(loss: LossName, robust: bool) -> ImitationTerm:
    """The term called `loss`; only those of costs can be robust."""
    terms = {"action": ActionTerm(), "q": QTerm(robust), "gauss-newton": GaussNewtonTerm(robust)}
    return terms.get(loss, TrajectoryTerm())


def distance(found: Float[Array, "batch n"], shown: Float[Array, "batch n"]) -> Float[Array, " batch"]:
    """mean_i (z_i - z*_i)², row by row."""
    return jnp.mean((found - shown) ** 2, axis=1)


def _actions(student: StochasticPolicy, lessons: Lesson) -> Float[Array, "batch action"]:
    """What the student would do: the first action of what it proposes, in unit coordinates."""
    size = lessons.unit.shape[-1]
    return jax.vmap(lambda observation: student.propose(observation).unit[:size])(lessons.observation)


def _arrived(student: StochasticPolicy, lessons: Lesson) -> Float[Array, "batch action"]:
    """What the student would do; entry by entry the expert's action where both are at the same bound."""
    found, shown = _actions(student, lessons), lessons.unit
    return jnp.where((found * jnp.sign(shown) >= ARRIVED) & (jnp.abs(shown) >= ARRIVED), shown, found)


def _scale(expert: Expert) -> Float[Array, " observation"]:
    return jnp.asarray(expert.task.environment.observation_scale)


def _scored(values: Float[Array, " batch"], usable: Bool[Array, " batch"]) -> Scored:
    return Scored(mean_of_usable(values, usable), jnp.mean(~usable, dtype=values.dtype))


def _scored_costs(costs: Float[Array, " batch"], usable: Bool[Array, " batch"], robust: bool) -> Scored:
    """Q - V of all rows; rounding may make it negative where the student does the same, and such a row has no say."""
    if not robust:
        return _scored(costs, usable)
    costs = jnp.maximum(jnp.where(usable, costs, 0.0), 0.0)  # no NaN may enter a derivative
    unit = jnp.nanquantile(jnp.where(usable, jax.lax.stop_gradient(costs), jnp.nan), COST_QUANTILE)
    unit = jnp.where(unit > _STILL, unit, _STILL)  # where no row is usable, it is NaN
    return _scored(jnp.sqrt(1 + 2 * costs / unit) - 1, usable)
