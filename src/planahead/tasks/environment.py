"""The world as a pure function: what a plant must offer to be controlled and learned from.

    s_{t+1}, o_{t+1}, r_t, terminated, truncated = step(s_t, a_t, key)

An `Environment` is a pytree whose leaves are physical parameters, so a sweep over masses is an argument change and
domain randomisation is a `jax.vmap` over environments. Nothing is remembered between calls: the state carries time too.

The docstring of every concrete environment has the same eight headings, in this order: Observation, Action, Reward,
Terminates, Truncates, Success, Violation, Start (`DOCUMENTED`).
"""

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCUMENTED = ("Observation", "Action", "Reward", "Terminates", "Truncates", "Success", "Violation", "Start")
"""What the docstring of a concrete environment has to tell."""

State = TypeVar("State")
M = TypeVar("M", bound=eqx.Module)


def constant(default: float | tuple[float, ...] | tuple[tuple[float, ...], ...], *, positive: bool = False) -> Any:
    """A field that is an array leaf: it can be swept, batched and differentiated, but is nothing that a policy learns.

    A value that is not finite, or not positive where it has to be, raises `ValueError` where `check_constants` is
    called, as every `Environment` does when it is built.
    """
    return eqx.field(default=default, converter=_as_array, kw_only=True, metadata={"positive": positive})


def _constants(module: eqx.Module) -> dict[str, bool]:
    return {
        field.name: field.metadata["positive"] for field in dataclasses.fields(module) if "positive" in field.metadata
    }


def check_constants(module: eqx.Module) -> None:
    """Raises `ValueError` for a `constant()` that is not finite, or not positive where it has to be."""
    for name, positive in _constants(module).items():
        value = getattr(module, name)
        if isinstance(value, Tracer):
            continue
        if not np.all(np.isfinite(value) & ((np.asarray(value) > 0) | (not positive))):
            expected = "a finite number above 0" if positive else "a finite number"
            raise ValueError(f"{type(module).__name__} got {name}={value}; expected {expected}.")


def constants_of(module: eqx.Module) -> tuple[str, ...]:
    """Names of what was declared with `constant()`, in the modules inside of `module` too."""
    return (*_constants(module), *(name for part in _parts(module).values() for name in constants_of(part)))


def with_constants(module: M, **values: Any) -> M:
    """`module` with other constants, its own or those of the modules inside of it.

    **Raises:** `ValueError` for a name that is none of `constants_of(module)`, and as `check_constants` does.
    """
    unknown = [name for name in values if name not in constants_of(module)]
    if unknown:
        known = ", ".join(constants_of(module))
        raise ValueError(
            f"{type(module).__name__} has no constant {', '.join(map(repr, unknown))}; its constants are: {known}."
        )
    own = {name: value for name, value in values.items() if name in _constants(module)}
    for field, part in _parts(module).items():
        inner = {name: value for name, value in values.items() if name in constants_of(part)}
        if inner:
            own[field] = with_constants(part, **inner)
    return dataclasses.replace(module, **own)


def _parts(module: eqx.Module) -> dict[str, eqx.Module]:
    values = {field.name: getattr(module, field.name) for field in dataclasses.fields(module)}
    return {name: value for name, value in values.items() if isinstance(value, eqx.Module)}


def _as_array(value: ArrayLike | tuple[Any, ...]) -> Array:
    return jnp.asarray(value, dtype=float)


class StepInfo(eqx.Module):
    """What a step says about the goal and the limits of a task, beside its reward."""

    violation: Bool[Array, ""]
    """Whether a constraint of the task is violated in the new state."""
    success: Bool[Array, ""]
    """Whether the task counts as solved, were the episode to end in the new state."""


class Transition(eqx.Module, Generic[State]):
    """The outcome of one step, before any reset.

    `terminated` (the task ended; nothing is to be earned any more) is never merged with `truncated` (time ran out; the
    world would have gone on, so learners bootstrap from `observation`). Never are both true.
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
    start_spread: eqx.AbstractVar[Array]
    """How far starts lie apart: 0 for always the same one, else, unless the docstring says otherwise, the half width of
    a uniform draw that `reset` adds to every state, in the state's unit. Evaluations perturb starts with it."""
    time_step: eqx.AbstractVar[float]  # s
    episode_steps: eqx.AbstractVar[int]
    """Steps after which an episode is truncated."""

    def __check_init__(self):
        check_constants(self)

    @abc.abstractmethod
    def reset(self, key: PRNGKeyArray) -> State:
        """A first state, drawn with `key`."""

    @abc.abstractmethod
    def observe(self, state: State) -> Float[Array, " observation"]:
        """What a policy sees of the state."""

    @abc.abstractmethod
    def step(self, state: State, action: Float[Array, " action"], key: PRNGKeyArray) -> Transition[State]:
        """Apply `action` for one time step."""

    def outcome(self, state: State) -> dict[str, Array]:
        """What an episode that ended in `state` came to, beside its return, with units: `{"lap [s]": 5.1}`; NaN for
        what it did not come to."""
        del state
        return {}

    def flight(self, state: State) -> Float[Array, " 6"] | None:
        """Position [m] and velocity [m/s] in the world of what flies here; `None` where nothing does."""
        del state
        return None

    def draw_course(self, axes: "Axes", seen: tuple[int, int]) -> None:
        """Draw what is flown through or to onto matplotlib `axes`, whose two axes are the coordinates `seen` of the
        world, x, y and z being 0, 1 and 2."""
        del axes, seen

    def draw(self, axes: "Axes", state: State, *, alpha: float = 1.0) -> None:
        """Draw the world in `state` onto matplotlib `axes`; several moments may share a picture, told apart by `alpha`.

        Unless an environment knows better, one bar for every observation, in units of its scale.
        """
        bars = jnp.asarray(self.observe(state)) / jnp.asarray(self.observation_scale)
        axes.barh(self.observation_names, bars.tolist(), color="tab:blue", alpha=alpha)
        axes.set_xlim(-1.1, 1.1)

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the fields that were declared with `constant()`: what can be swept."""
        return constants_of(self)

    @property
    def observation_size(self) -> int:
        return len(self.observation_low)

    @property
    def action_size(self) -> int:
        return len(self.action_low)
