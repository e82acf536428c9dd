r"""The loop of learners whose weights are a planner's own parameters: act for a while, then take one careful step.

    for every update:   `steps_per_update` steps of n environments,  a = explore(u₀*(x(o), φ))
                        g, H = improve(what was tried)
                        y ← y + argmin_Δ  gᵀΔ + ΔᵀHΔ / 2α     s.t.  |Δᵢ| <= largest_change,   y + Δ ∈ [-1, 1]ⁿ

y are the parameters in unit coordinates of their boxes (`ParameterSpace`), so what is learned stays admissible: bounds
that do not cross, weights that are positive (as roots or on a logarithmic scale), models that are plausible. Where H is
not a multiple of the identity, projecting a Newton step onto the box could turn it uphill; the quadratic program that
limits it cannot (`admissible_step`).

Inside, costs are minimised, as the planner's are: ℓ = -reward. A concrete learner says how it explores and what
direction its experience asks for.
"""

import abc
import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from planahead.learning.learner import Learner, Metrics
from planahead.learning.rollout import Lanes, Tally, start_lanes, step_lanes
from planahead.planning import SQP
from planahead.policies import Policy
from planahead.policies.tuned import TunedPlanner
from planahead.problem import Problem
from planahead.qp import QP, StageBounds, Status, solve_qp
from planahead.tasks import Task


class Tried(eqx.Module):
    """Steps of the environments, one a row."""

    observation: Float[Array, "*b observation"]
    planned: Float[Array, "*b action"]
    """u₀*, in unit coordinates of the action box."""
    action: Float[Array, "*b action"]
    """What was applied, likewise."""
    cost: Float[Array, "*b"]
    """Minus the reward."""
    next_observation: Float[Array, "*b observation"]
    terminated: Bool[Array, "*b"]
    truncated: Bool[Array, "*b"]
    usable: Bool[Array, "*b"]
    """Whether the solve behind the action did not fail."""


class Direction(NamedTuple):
    """What experience asks for, in unit coordinates, and scalars about it by name."""

    gradient: Float[Array, " n"]
    curvature: Float[Array, "n n"] | None
    """Positive definite; `None` for the identity."""
    metrics: Metrics


class PlannerLearnerState(eqx.Module):
    """Everything that changes while learning, and what it is about."""

    task: Task
    policy: TunedPlanner
    lanes: Lanes
    steps: Int[Array, ""]
    """Environment steps taken, over all environments."""
    memory: Any = None
    """What a learner keeps of former updates."""


class PlannerLearner(Learner[PlannerLearnerState]):
    """A learner of a `TunedPlanner`. Rewards are maximised.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train, and for a problem without a discount where none is given.
    """

    learning_rate: eqx.AbstractVar[float]
    """α"""
    exploration: eqx.AbstractVar[float]
    """σ, in unit coordinates of the action."""
    steps_per_update: eqx.AbstractVar[int]
    """Environment steps before every update, over all environments."""
    discount: float | None = eqx.field(default=None, static=True)
    """γ; `None` takes the problem's own. With another one the planner's values are not those that are learned."""
    largest_change: float = eqx.field(default=0.1, static=True)
    """Of any parameter in one update, in unit coordinates, where a box is 2 wide."""
    environments: int = eqx.field(default=16, static=True)
    """Simulated side by side."""

    def __check_init__(self):
        for name in ("environments", "steps_per_update", "steps_per_chunk"):
            self._check_range(name, getattr(self, name) >= 1, "at least 1 was expected")
        for name in ("learning_rate", "largest_change"):
            self._check_range(name, getattr(self, name) > 0, "a positive number was expected")
        self._check_range("exploration", self.exploration >= 0, "expected 0 (none) or more")
        self._check_range("discount", self.discount is None or 0 <= self.discount < 1, "expected 0 <= discount < 1")
        for name, of in (("steps_per_update", "environments"), ("steps_per_chunk", "steps_per_update")):
            self._check_multiple(name, of)

    def check(self, policy: Policy) -> TunedPlanner:
        """The policy, if this learner can train it. **Raises** `ValueError` that says what is missing otherwise."""
        learner = type(self).__name__
        if not isinstance(policy, TunedPlanner):
            raise ValueError(f"{learner} trains the parameters of a TunedPlanner; got {type(policy).__name__}")
        planner, problem = policy.steering.planner, policy.steering.problem
        if not problem.plans_actions:
            raise ValueError(
                f"{learner} values the actions of a planner as its controls, and {type(problem).__name__} plans in "
                "other terms than its plant is commanded in (`action`); give it a problem that plans in actions"
            )
        if not isinstance(planner, SQP) or planner.shooting == "single":
            raise ValueError(
                f"{learner} differentiates values of states and of actions, which needs a planner that can pin the "
                "first control; use pa.SQP(shooting='multiple')"
            )
        return policy

    @property
    def discounts(self) -> bool:
        """Whether it values an endless future."""
        return True

    def planned(self, task: Task, key: PRNGKeyArray) -> Problem:
        """What an untrained policy for `task` plans."""
        del key
        return task.problem

    def trained(self, task: Task) -> tuple[str, ...]:
        """Names of the parameters that are learned."""
        return task.learned_parameters

    @abc.abstractmethod
    def explore(self, planned: Float[Array, "n action"], key: PRNGKeyArray) -> Float[Array, "n action"]:
        """What to try instead of the planned action, in unit coordinates, inside [-1, 1]."""

    @abc.abstractmethod
    def improve(
        self, state: PlannerLearnerState, tried: Tried, key: PRNGKeyArray
    ) -> tuple[PlannerLearnerState, Direction]:
        """The direction that the steps since the last update ask for; rows have one axis, `steps_per_update`."""

    def remember(self, example: Tried) -> Any:
        """What is kept before the first update. `example` is a row."""
        del example

    def init(self, task: Task, policy: Policy, key: PRNGKeyArray) -> PlannerLearnerState:
        trained = self.check(policy)
        gamma = self.gamma(trained.problem())
        if self.discounts and not isinstance(gamma, Tracer) and not float(gamma) < 1:
            raise ValueError(
                f"{type(task.problem).__name__} has a discount of {float(gamma):g}, and a value of an endless future "
                "needs one below 1; give discount=0.99, or the problem a discount"
            )
        lanes = start_lanes(task.environment, self.environments, trained.initial_memory(), key)
        nothing, zero, no = jnp.zeros(trained.steering.box.size), jnp.zeros(()), jnp.array(False)
        observation = lanes.observation[0]
        example = Tried(observation, nothing, nothing, zero, observation, no, no, no)
        return PlannerLearnerState(task, trained, lanes, jnp.zeros((), jnp.int32), self.remember(example))

    def gamma(self, problem: Problem) -> Float[Array, ""] | float:
        """γ"""
        return problem.discount if self.discount is None else self.discount

    @eqx.filter_jit
    def advance(self, state: PlannerLearnerState, key: PRNGKeyArray) -> tuple[PlannerLearnerState, Metrics]:
        arrays, rest = eqx.partition(state, eqx.is_array)

        def update(arrays: Any, key: PRNGKeyArray) -> tuple[Any, tuple[Tally, Metrics]]:
            act_key, learn_key = jax.random.split(key)
            state, tried, tally = self._act(eqx.combine(arrays, rest), act_key)
            state, direction = self.improve(state, tried, learn_key)
            unit = admissible_step(
                state.policy.unit,
                direction.gradient,
                direction.curvature,
                rate=self.learning_rate,
                largest=self.largest_change,
            )
            moved = jnp.linalg.norm(unit - state.policy.unit)
            state = eqx.tree_at(lambda state: state.policy.unit, state, unit)
            return eqx.filter(state, eqx.is_array), (tally, {**direction.metrics, "moved": moved})

        keys = jax.random.split(key, self.steps_per_chunk // self.steps_per_update)
        arrays, (tallies, metrics) = jax.lax.scan(update, arrays, keys)
        tally, means = jax.tree.map(jnp.sum, tallies), jax.tree.map(jnp.mean, metrics)
        state = eqx.combine(arrays, rest)
        return state, {**tally.metrics(), **means, "steps": state.steps}

    def policy(self, state: PlannerLearnerState) -> TunedPlanner:
        return state.policy

    def _act(self, state: PlannerLearnerState, key: PRNGKeyArray) -> tuple[PlannerLearnerState, Tried, Tally]:
        """`steps_per_update` steps, the rows of one moment side by side."""
        policy, box, initial = state.policy, state.policy.steering.box, state.policy.initial_memory()

        def step(lanes: Lanes, key: PRNGKeyArray) -> tuple[Lanes, tuple[Tried, Tally]]:
            explore_key, step_key = jax.random.split(key)
            decision = jax.vmap(policy.decide)(lanes.observation, lanes.memory)
            planned = jax.vmap(box.to_unit)(decision.action)
            action = self.explore(planned, explore_key)
            applied, failed = jax.vmap(box.from_unit)(action), jnp.asarray(decision.failed)
            after, moved, tally = step_lanes(
                state.task.environment, lanes, applied, failed, decision.memory, initial, step_key
            )
            seen = (lanes.observation, planned, action, -moved.reward, moved.observation)
            return after, (Tried(*seen, moved.terminated, moved.truncated, usable=~failed), tally)

        keys = jax.random.split(key, self.steps_per_update // self.environments)
        lanes, (tried, tallies) = jax.lax.scan(step, state.lanes, keys)
        tried = jax.tree.map(lambda leaf: leaf.reshape(self.steps_per_update, *leaf.shape[2:]), tried)
        state = dataclasses.replace(state, lanes=lanes, steps=state.steps + self.steps_per_update)
        return state, tried, jax.tree.map(jnp.sum, tallies)


def admissible_step(
    unit: Float[Array, " n"],
    gradient: Float[Array, " n"],
    curvature: Float[Array, "n n"] | None,
    *,
    rate: float,
    largest: float,
) -> Float[Array, " n"]:
    """y + Δ as at the top of this file; y itself where `gradient` or `curvature` is not finite, Δ is not found, or
    nothing asks for it: where all solves failed both are zero, and every Δ would be a solution.

    >>> H = jnp.array([[1.0, 0.9], [0.9, 1.0]])
    >>> admissible_step(jnp.zeros(2), jnp.array([-1.0, 0.0]), H, rate=1.0, largest=0.1).round(3).tolist()
    [0.10000000149011612, -0.09000000357627869]
    """
    low, high = jnp.maximum(-1.0 - unit, -largest), jnp.minimum(1.0 - unit, largest)
    if curvature is None:
        step, found = jnp.clip(-rate * gradient, low, high), jnp.all(jnp.isfinite(gradient))
    else:
        n = unit.size
        flat = jnp.zeros((1, 1, 1), unit.dtype)
        program = QP(  # one stage whose state is nothing
            A=flat,
            B=jnp.zeros((1, 1, n), unit.dtype),
            Q=jnp.zeros((2, 1, 1), unit.dtype),
            R=(curvature / rate)[None],
            r=gradient[None],
            initial_state=jnp.zeros(1, unit.dtype),
            control_bounds=StageBounds(low, high),
        )
        solution = solve_qp(program)
        step, found = jnp.clip(solution.controls[0], low, high), solution.status == Status.SOLVED
        found = found & jnp.any(gradient != 0)
    return jnp.where(found, unit + step, unit)
