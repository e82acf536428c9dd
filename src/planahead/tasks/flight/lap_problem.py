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
from planahead.tasks.flight.quadrotor import TIME_STEP
from planahead.tasks.flight.vector import length

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


def disturbed(problem: P, lift: Float[Array, ""], disturbance: Float[Array, " 3"]) -> P:
    """The problem with other believed accelerations, along the thrust and in the world [m/s²]."""
    where = lambda problem: (problem.vehicle.lift, problem.vehicle.disturbance)  # noqa: E731
    return eqx.tree_at(where, problem, (lift, disturbance))


def catching_up(
    lap: Lap, time: Float[Array, ""], velocity: Float[Array, " 3"], acceleration: Float[Array, ""], steps: int
) -> tuple[Float[Array, " nodes"], Float[Array, " nodes"]]:
    """Times of the lap, and paces along it, for a vehicle at a `velocity` that is slower than the lap: 1 is as fast.

        t_{k+1} = t_k + h π_k,     π_{k+1} = min(1, π_k + h c / |v_lap|),     π_0 = clip(vᵀ v_lap / |v_lap|², 0, 1)

    One at rest is not asked for the speed of the lap at once: from the grid it would miss the first gate.
    """
    wanted = lap.at(time[None]).states[0, 7:]
    speed = length(wanted)
    pace = jnp.clip(jnp.dot(velocity, wanted) / speed**2, 0.0, 1.0)
    paces = jnp.minimum(pace + TIME_STEP * acceleration / speed * jnp.arange(steps + 1), 1.0)
    return time + TIME_STEP * jnp.append(0.0, jnp.cumsum(paces[:-1])), paces


def same_sign(state: Float[Array, " nx"], like: Float[Array, " 4"]) -> Float[Array, " nx"]:
    """The state with the sign of its quaternion that is nearer to `like`: both are the same attitude."""
    sign = jnp.where(jnp.dot(state[3:7], like) < 0, -1.0, 1.0)
    return jnp.concatenate([state[:3], sign * state[3:7], state[7:]])
