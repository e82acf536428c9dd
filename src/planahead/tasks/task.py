"""A task pairs a plant with the planning problem that is meant to control it."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Float

from planahead.problem import Problem
from planahead.tasks.environment import Environment

E = TypeVar("E", bound=Environment[Any])
P = TypeVar("P", bound=Problem)


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

    @abc.abstractmethod
    def planner_state(self, observation: Float[Array, " observation"]) -> Float[Array, " nx"]:
        """The planner's initial state, computed from the observation alone."""
