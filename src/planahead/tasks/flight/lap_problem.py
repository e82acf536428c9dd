"""A planning problem that is set anew in every step, along a lap."""

import abc
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import Guess
from planahead.problem import Problem
from planahead.tasks.flight.believed import Believed
from planahead.tasks.flight.lap import Lap

P = TypeVar("P", bound="LapProblem")


class Aim(NamedTuple):
    """What is to be solved now."""

    problem: "LapProblem"
    state: Float[Array, " nx"]
    cold: Guess
    """What to start from where no plan is known."""


class LapProblem(Problem):
    """Flies along a lap; its state begins with that of `vehicle`."""

    vehicle: Believed = eqx.field(default_factory=Believed, kw_only=True)

    @abc.abstractmethod
    def aimed(self, lap: Lap, time: Float[Array, ""], state: Float[Array, " nx"], known: Guess) -> Aim:
        """The problem for a vehicle at `state`, nearest to the lap at `time` [s]. `known` is the previous plan,
        shifted, or zeros."""


def disturbed(problem: P, disturbance: Float[Array, " 3"]) -> P:
    """The problem with another believed acceleration [m/s²]."""
    return eqx.tree_at(lambda problem: problem.vehicle.disturbance, problem, disturbance)


def same_sign(state: Float[Array, " nx"], like: Float[Array, " 4"]) -> Float[Array, " nx"]:
    """The state with the sign of its quaternion that is nearer to `like`: both are the same attitude."""
    sign = jnp.where(jnp.dot(state[3:7], like) < 0, -1.0, 1.0)
    return jnp.concatenate([state[:3], sign * state[3:7], state[7:]])
