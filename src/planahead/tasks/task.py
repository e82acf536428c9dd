"""A task pairs a plant with the planning problem that is meant to control it.

Two options recur. `definition` is `"corrected"`, or `"published"` to compare with others on a task as they wrote it,
mistakes included. `interface` says what a policy writes: `"global"`, one value of every learned parameter, or
`"stage"`, one for every stage where it belongs to what is decided: a cost of states at the stages 1…N (the first state
is given), what belongs to a control or a transition at 0…N-1.
"""

import abc
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeVar, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.policies import ActionBox
from planahead.problem import Problem, SafetyProblem, per_stage
from planahead.tasks.environment import Environment

Definition = Literal["corrected", "published"]
Interface = Literal["global", "stage"]

E = TypeVar("E", bound=Environment[Any])
P = TypeVar("P", bound=Problem)


class Imagined(eqx.Module):
    """What living through a plan would be like, as far as a task can tell."""

    observations: Float[Array, "nodes observation"]
    """At the plan's states."""
    rewards: Float[Array, " N"]
    """Of its steps, to be maximised."""
    known: Bool[Array, " N"]
    """Whether the task can tell what a step leads to; false for all steps after the first that is not."""

    @classmethod
    def of_observed(
        cls,
        states: Float[Array, "nodes nx"],
        controls: Float[Array, "N nu"],
        reward: Callable[[Float[Array, " nx"], Float[Array, " nu"]], Float[Array, ""]],
        goes_on: Callable[[Float[Array, " nx"]], Bool[Array, ""]] = lambda x: jnp.array(True),
    ) -> "Imagined":
        """Of a plan whose states are what is observed and whose controls are the actions.

        `reward` is that of a step from x with u; the episode goes on from a state where `goes_on`.

        >>> states, controls = jnp.array([[0.0], [2.0], [0.0]]), jnp.array([[1.0], [3.0]])
        >>> plan = Imagined.of_observed(states, controls, lambda x, u: x[0] - u[0], lambda x: x[0] < 1.0)
        >>> plan.rewards.tolist(), plan.known.tolist()
        ([-1.0, -1.0], [False, False])
        """
        lasts = jax.vmap(goes_on)(states[1:])
        return cls(states, jax.vmap(reward)(states[:-1], controls), jnp.cumprod(lasts).astype(bool))


class Task(eqx.Module, Generic[E, P]):
    """The world, what the planner believes of it, and what the planner may know of its state.

    Concrete tasks accept `environment=` and `problem=`, so that either can be replaced.
    """

    name: eqx.AbstractVar[str]
    """As in `make_task` and on the command line."""
    environment: eqx.AbstractVar[E]
    problem: eqx.AbstractVar[P]
    learned_parameters: eqx.AbstractVar[tuple[str, ...]]
    """Names of the problem's parameters that a policy writes."""
    state_names: eqx.AbstractVar[tuple[str, ...]]
    """The planner's states, with their units, for the axes of plots."""

    @property
    def action_box(self) -> ActionBox:
        """The actions of its world."""
        return ActionBox(self.environment.action_low, self.environment.action_high)

    @abc.abstractmethod
    def planner_state(self, observation: Float[Array, " observation"]) -> Float[Array, " nx"]:
        """The planner's initial state, computed from the observation alone."""

    def observed(
        self, observation: Float[Array, " observation"], state: Float[Array, " nx"]
    ) -> Float[Array, " observation"] | None:
        """What would be observed in the planner's `state`, foreseen at `observation`; `None` for a task that cannot
        tell. `planner_state` leads back to the state."""
        del observation, state
        return None

    def expert(self, observation: Float[Array, " observation"]) -> Problem:
        """What a planner that shows a learner what to do solves at `observation`, from `planner_state`.

        It may look further ahead than a deployed planner has time for, or know the way; unless a task says so it is the
        task's own problem. Which class and horizon it has does not depend on the observation.
        """
        del observation
        return self.problem

    def safety_problem(self) -> SafetyProblem | None:
        """What a safety filter solves to keep the task's limits; `None` where no safe set is known."""
        return None

    def deviation(self, x: Float[Array, " nx"], z: Float[Array, " nx"]) -> Float[Array, " nx"]:
        """x - z of the planner's states, as far as they are not the same: without whole turns of an angle that the
        world counts from anew."""
        return x - z

    def reward_per_cost(self) -> float | None:
        """c, where the world's rewards are what `problem` minimises, times -c: its stages, its terminal cost as what
        comes after, and the prices of its constraints; `None` where they do not compare. Its model may be wrong."""
        return None

    def imagined(
        self,
        observation: Float[Array, " observation"],
        states: Float[Array, "nodes nx"],
        controls: Float[Array, "N nu"],
    ) -> Imagined | None:
        """What a plan made at `observation` would be like to live through; `None` for a task that cannot tell."""
        del observation, states, controls
        return None


def check_choice(kind: object, option: str, value: Any, choices: Any) -> None:
    """Raises `ValueError` where an option of a task is none of the `choices`, a `Literal`."""
    if value not in get_args(choices):
        expected = " or ".join(repr(choice) for choice in get_args(choices))
        raise ValueError(f"{type(kind).__name__} got {option}={value!r}; {expected} was expected.")


def with_stages(problem: P, stages: Mapping[str, range]) -> P:
    """`problem` with every named parameter per stage, learned at the given stages."""
    for name, which in stages.items():
        problem = per_stage(problem, name, which)
    return problem
