"""The world as a pure function: what a plant must offer to be controlled and learned from.

    s_{t+1}, o_{t+1}, r_t, terminated, truncated = step(s_t, a_t, key)

An `Environment` is a pytree whose leaves are physical parameters, so a sweep over masses is an argument change and domain
randomisation is a `jax.vmap` over environments. Nothing is remembered between calls: the state carries time as well.

The docstring of every concrete environment has the same eight headings, in this order: Observation, Action, Reward, Terminates,
Truncates, Success, Violation, Start (`DOCUMENTED`).
"""

import abc
from typing import TYPE_CHECKING, Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCUMENTED = ("Observation", "Action", "Reward", "Terminates", "Truncates", "Success", "Violation", "Start")
"""What the docstring of a concrete environment has to tell."""

State = TypeVar("State")


class StepInfo(eqx.Module):
    """What a step says about the goal and the limits of a task, beside its reward."""

    violation: Bool[Array, ""]
    """Whether a constraint of the task is violated in the new state."""
    success: Bool[Array, ""]
    """Whether the task counts as solved, were the episode to end in the new state."""


class Transition(eqx.Module, Generic[State]):
    """The outcome of one step, before any reset.

    `terminated` (the task ended; nothing is to be earned any more) is never merged with `truncated` (time ran out; the world
    would have gone on, so learners bootstrap from `observation`).
    """

    state: State
    observation: Float[Array, " observation"]
    reward: Float[Array, ""]
    """To be maximised."""
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    info: StepInfo


class Environment(eqx.Module, Generic[State]):
    """A plant with its observation, reward and ends of an episode.

    Concrete environments are final; their physical parameters are array leaves with the unit in the field's comment.
    """

    observation_names: eqx.AbstractVar[tuple[str, ...]]
    """What is observed, with its unit, for the axes of plots: `"cart position [m]"`."""
    action_names: eqx.AbstractVar[tuple[str, ...]]
    """The same for actions."""
    observation_low: eqx.AbstractVar[tuple[float, ...]]
    """Lower end of every observation; `-inf` where there is none."""
    observation_high: eqx.AbstractVar[tuple[float, ...]]
    observation_scale: eqx.AbstractVar[tuple[float, ...]]
    """Typical magnitude of every observation; networks see `observation / observation_scale`."""
    action_low: eqx.AbstractVar[tuple[float, ...]]
    """Lower end of every action, finite. `step` clips to the bounds."""
    action_high: eqx.AbstractVar[tuple[float, ...]]
    time_step: eqx.AbstractVar[float]  # s
    episode_steps: eqx.AbstractVar[int]
    """Steps after which an episode is truncated."""

    @abc.abstractmethod
    def reset(self, key: PRNGKeyArray) -> State:
        """A first state, drawn with `key`."""

    @abc.abstractmethod
    def observe(self, state: State) -> Float[Array, " observation"]:
        """What a policy sees of the state."""

    @abc.abstractmethod
    def step(self, state: State, action: Float[Array, " action"], key: PRNGKeyArray) -> Transition[State]:
        """Apply `action` for one time step."""

    def draw(self, axes: "Axes", state: State, *, alpha: float = 1.0) -> None:
        """Draw the world in `state` onto matplotlib `axes`, as faint as `alpha` says, so that several moments can share a picture.

        Unless an environment knows better, one bar for every observation, in units of its scale.
        """
        bars = jnp.asarray(self.observe(state)) / jnp.asarray(self.observation_scale)
        axes.barh(self.observation_names, bars.tolist(), color="tab:blue", alpha=alpha)
        axes.set_xlim(-1.1, 1.1)

    @property
    def observation_size(self) -> int:
        return len(self.observation_low)

    @property
    def action_size(self) -> int:
        return len(self.action_low)
