"""From an observation to an action, with everything a learner may want to store on the way.

The pipeline is

    observation -> [reference] -> [parameters φ] -> plan -> [correction] -> [safety filter] -> action

with every bracket optional. A `Policy` is a pytree of data and pure functions for one observation; `jax.vmap` gives
batches."""

import abc
import dataclasses
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

Setting = bool | int | float | str | None


class Decision(eqx.Module):
    """One action and where it came from."""

    action: Float[Array, " action"]
    """In physical units, inside the action bounds."""
    log_probability: Float[Array, ""]
    """Log density of the random variable that was drawn (φ or the action), in unit coordinates [-1, 1]; 0 without a
    key."""
    parameters: Float[Array, " parameters"] | None = None
    """φ, the planner's parameters in physical units; `None` where there is no planner."""
    plan: Any = None
    """The `Plan` behind the action; `None` where there is no planner."""
    memory: Any = None
    """What the next decision starts from (the warm start); `None` where nothing is remembered."""
    failed: Bool[Array, ""] | bool = False
    """Whether the solve behind the action failed, see `plan_failed`."""
    gradient_valid: Bool[Array, ""] | bool = True
    """Whether the action has a derivative; where it has none, the one that is returned is zero."""
    credited: Float[Array, " action"] | None = None
    """The action to which a learner credits what happened, where that is not `action`."""
    penalty: Float[Array, ""] | float = 0.0
    """What a learner takes off the reward."""
    filtered: Any = None
    """What a safety filter made of the proposal, a `Filtered`; `None` without one."""


class Policy(eqx.Module):
    """A map from observations to actions."""

    @abc.abstractmethod
    def initial_memory(self) -> Any:
        """What is remembered before the first decision of an episode."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Setting]:
        """What decides the policy beside its numbers, by name, so that a run can tell whether it meets the same
        policy."""

    @abc.abstractmethod
    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        """Choose an action. Without a `key` the decision is deterministic."""


def flat_settings(name: str, value: Any) -> dict[str, Setting]:
    """Settings within settings, each under its path: `planner_globalisation_trials`."""
    if isinstance(value, bool | int | float | str | None):
        return {name: value}
    if not dataclasses.is_dataclass(value):
        return {name: repr(value)}
    flat: dict[str, Setting] = {name: type(value).__name__}
    for field in dataclasses.fields(value):
        flat |= flat_settings(f"{name}_{field.name}", getattr(value, field.name))
    return flat
