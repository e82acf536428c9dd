r"""A safety filter behind a policy, and what learning knows of it.

    observation o -> policy -> u_L -> safety filter in x(o) -> action a

    awareness          the outcome is credited to     reward                       losses see
    "unaware"          u_L, as if it had acted        r                            u_L
    "stored"           a                              r                            u_L
    "penalised"        u_L                            r - w mean((a - u_L)²)       u_L
    "differentiated"   a                              r                            a(u_L), through the filter's solve

with a - u_L in units of half the action box. Acting is the same in all four: only a reaches the world. An unaware
learner sees a world in which some actions do what others do; a learner that stores a knows what a is worth, and of a
u_L that was never let through only what its critic extrapolates; one that differentiates finds no slope where the
filter projects on a bound, unless the filter is given a planner that smooths it, `SafetyFilter(problem, SQP(tau=…))`.

A step in which the remembered plan acted is a step like any other: the action came of the proposal, and `failed` speaks
of the policy's own solve. It has no derivative, which `gradient_valid` says.

Reference: B. Tearle, K. P. Wabersich, A. Carron, M. N. Zeilinger, "A predictive safety filter for learning-based racing
control", RA-L 2021.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from planahead.policies.policy import Decision, Policy, Setting, flat_settings
from planahead.policies.safety_filter import Certificate, SafetyFilter
from planahead.policies.stochastic import ActionBox, NoisePlace, Proposal, StochasticPolicy, mask_of

Awareness = Literal["unaware", "stored", "penalised", "differentiated"]
"""What learning knows of the filter."""


class Guarded(eqx.Module):
    """The memory of a policy with a filter behind it."""

    inner: Any
    """The policy's."""
    certificate: Certificate


@final
class Guard(eqx.Module):
    """A safety filter, and how learning is told about it.

    **Arguments:**

    - `filter`: what is put behind a decision.
    - `planner_state`: the filter's state, computed from the observation.
    - `box`: the actions.
    - `awareness`: see above.
    - `price`: w, in units of reward per step: lost by a correction of half the action box in every action.

    **Raises:** `ValueError` for another awareness, an action box of another size than the filter's control, and a
    filter whose controls are not the actions, see `Problem.action`.
    """

    filter: SafetyFilter
    planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]]
    box: ActionBox
    awareness: Awareness = eqx.field(static=True, default="unaware")
    price: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if self.awareness not in get_args(Awareness):
            expected = ", ".join(f"'{name}'" for name in get_args(Awareness))
            raise ValueError(f"awareness='{self.awareness}'; one of {expected} was expected")
        base = self.filter.problem.base
        if not base.plans_actions:
            raise ValueError(
                f"{type(base).__name__} plans in other terms than the plant is commanded in, and a filter compares "
                "actions with controls; make the safety problem of one whose controls are the actions"
            )
        size = self.filter.problem.control_size
        if self.box.size != size:
            raise ValueError(
                f"the filter is for {size} controls and the environment takes {self.box.size} actions; the filtered "
                "control is the action, so give them the same size"
            )

    def initial_memory(self, inner: Any) -> Guarded:
        """`inner` is the policy's own."""
        return Guarded(inner, self.filter.initial_memory())

    def behind(self, observation: Float[Array, " observation"], decision: Decision, memory: Any = None) -> Decision:
        """`decision`, made unsafe nowhere. `memory` is a `Guarded`, or `None` at the start."""
        certificate = None if memory is None else memory.certificate
        found = self.filter(self.planner_state(observation), decision.action, certificate)
        correction = self.box.to_unit(found.action) - self.box.to_unit(decision.action)
        price = self.price * jnp.mean(jax.lax.stop_gradient(correction) ** 2)
        return dataclasses.replace(
            decision,
            action=self.box.clip(found.action),
            memory=Guarded(decision.memory, found.memory),
            gradient_valid=decision.gradient_valid & found.gradient_valid,
            credited=decision.action if self.awareness in ("unaware", "penalised") else None,
            penalty=price if self.awareness == "penalised" else 0.0,
            filtered=found,
        )

    def settings(self) -> dict[str, Setting]:
        problem = self.filter.problem
        return {
            "filter": self.awareness,
            "filter_price": self.price,
            "filter_horizon": problem.horizon,
            "filter_terminal": type(problem.terminal).__name__,
            **flat_settings("filter_planner", self.filter.planner),
        }


@final
class FilteredPolicy(Policy):
    """Any policy with a filter behind it, to act with.

    >>> import planahead as pa
    >>> task = pa.make_task("mass-spring-damper", matched=True)
    >>> box = ActionBox((-0.5,), (0.5,))
    >>> network = pa.DirectPolicy(task.environment.observation_scale, box, key=jax.random.key(0))
    >>> guard = Guard(SafetyFilter(pa.linear_safety_problem(task.problem, horizon=10)), task.planner_state, box)
    >>> decision = FilteredPolicy(network, guard).decide(jnp.array([1.9, 0.45]))
    >>> bool(decision.filtered.certified), bool(decision.action[0] < decision.credited[0])
    (True, True)
    """

    inner: Policy
    guard: Guard

    def initial_memory(self) -> Guarded:
        return self.guard.initial_memory(self.inner.initial_memory())

    def settings(self) -> dict[str, Setting]:
        return {**self.inner.settings(), **self.guard.settings()}

    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        own = self.inner.initial_memory() if memory is None else memory.inner
        return self.guard.behind(observation, self.inner.decide(observation, own, key), memory)


@final
class FilteredStochasticPolicy(StochasticPolicy):
    """A policy that learns, with a filter behind it."""

    inner: StochasticPolicy
    guard: Guard

    def __init__(self, inner: StochasticPolicy, guard: Guard):
        self.inner = inner
        self.guard = guard

    @property
    def box(self) -> ActionBox:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.box

    @property
    def noise(self) -> NoisePlace:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.noise

    @property
    def plans(self) -> bool:
        return self.inner.plans

    @property
    def proposal_size(self) -> int:
        return self.inner.proposal_size

    @property
    def differentiable(self) -> bool:
        return self.inner.differentiable

    def initial_memory(self) -> Guarded:
        return self.guard.initial_memory(self.inner.initial_memory())

    def settings(self) -> dict[str, Setting]:
        return {**self.inner.settings(), **self.guard.settings()}

    def default_unit(self) -> Float[Array, " proposal"] | None:
        return self.inner.default_unit()

    def propose(self, observation: Float[Array, " observation"], key: PRNGKeyArray | None = None) -> Proposal:
        return self.inner.propose(observation, key)

    def execute(self, observation: Float[Array, " observation"], proposal: Proposal, memory: Any = None) -> Decision:
        own = self.inner.initial_memory() if memory is None else memory.inner
        return self.guard.behind(observation, self.inner.execute(observation, proposal, own), memory)

    def judged(self, observation: Float[Array, " observation"], proposal: Proposal, memory: Any = None) -> Decision:
        judge = self.execute if self.guard.awareness == "differentiated" else self.inner.judged
        return judge(observation, proposal, memory)

    def judged_memory(self, memory: Any) -> Any:
        return memory if self.guard.awareness == "differentiated" else self.inner.judged_memory(memory.inner)

    def trainable(self) -> PyTree[bool]:
        nothing = mask_of(self, lambda policy: ())
        return eqx.tree_at(lambda policy: policy.inner, nothing, self.inner.trainable())
