"""A task pairs a plant with the planning problem that is meant to control it."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from planahead.problem import Problem
from planahead.tasks.environment import Environment


class Task(eqx.Module):
    """The world (`environment`), what the planner believes of it (`problem`), and what the planner may know (`planner_state`)."""

    name: eqx.AbstractVar[str]
    environment: eqx.AbstractVar[Environment]
    problem: eqx.AbstractVar[Problem]
    learned_parameters: eqx.AbstractVar[tuple[str, ...]]
    """Names of the problem's parameters that a policy writes."""

    state_names: eqx.AbstractVar[tuple[str, ...]]
    """The planner's states, with their units, for the axes of plots."""

    @abc.abstractmethod
    def planner_state(self, observation: Float[Array, " observation"]) -> Float[Array, " nx"]:
        """The planner's initial state, computed from the observation alone."""
