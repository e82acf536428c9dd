r"""The cost to go of a finite horizon as a network, fitted to the costs of plans and to their slopes.

    V_ψ(x, k) = ½ c² ‖ρ_ψ(o(x), k / N)‖²,      h = ‖ρ_ψ‖,      h* = √(2 V*) / c

    min_ψ  E[(h - h*)²]  +  ω E[w ‖S ∂(h - h*)/∂x‖²] / E[w ‖S ∂h*/∂x‖²],       ∂h*/∂x = (∂V*/∂x) / (c² h*)

    symbol   shape  meaning
    ρ_ψ      [m]    a network with smooth activations
    c        []     root mean square of √(2 V*): costs span decades from a start to the goal, and roots half of them
    S        [nx]   typical magnitudes of the states, so that units drop out
    ω        []     weight of the slopes (Sobolev); they come with a plan at no cost, see `planning/cost_to_go.py`
    w        []     h*² / (1 + h*²): slopes of V where V is small, of its root where it is large

Of squares, V can end a planner's problem (`at(k)` is a `TerminalValue`). A root has no slope at 0, and near it one that
no smooth network follows: there w counts what V itself does.

References: W. Czarnecki et al., "Sobolev training for neural networks", 2017; G. Alboni, G. Grandesso, G. Rosati
Papini, J. Carpentier, A. Del Prete, "CACTO-SL: Using Sobolev learning to improve continuous actor-critic with
trajectory optimization", L4DC 2024.
"""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from planahead.learning.soft_losses import mean_of_usable
from planahead.learning.terminal_value import observation_of
from planahead.planning import CostToGo
from planahead.policies import Network
from planahead.problem import TerminalValue
from planahead.tasks import Task

RESIDUALS = 8
"""m, as in `fit_terminal_value`."""
_LEAST = 1e-6
"""Of h*: what is cheaper counts as free, and has no slope. Also the least of what is divided by."""


@final
class TimedValue(TerminalValue):
    """V_ψ at one stage; `at` is the same at another."""

    network: Network
    scale: Float[Array, ""]
    """c."""
    task: Task
    stage: Float[Array, ""]
    """k."""
    horizon: int = eqx.field(static=True)
    """N."""

    @classmethod
    def of(cls, task: Task, horizon: int, hidden: tuple[int, ...], key: PRNGKeyArray) -> "TimedValue":
        """Untrained, at stage 0."""
        sizes = (*task.environment.observation_scale, 1.0)
        network = Network(sizes, RESIDUALS, hidden=hidden, last_gain=1.0, activation="tanh", key=key)
        return cls(network, jnp.ones(()), task, jnp.zeros(()), horizon)

    @property
    def squares(self) -> bool:
        return True

    def at(self, stage: Int[Array, ""] | int) -> "TimedValue":
        """V(·, k)."""
        return eqx.tree_at(lambda value: value.stage, self, jnp.asarray(stage, self.stage.dtype))

    def residual(self, x: Float[Array, " nx"]) -> Float[Array, " m"]:
        seen = observation_of(self.task, x)
        time = jnp.asarray(self.stage, seen.dtype)[None] / self.horizon
        return self.scale * self.network(jnp.concatenate([seen, time]))

    def root(self, x: Float[Array, " nx"]) -> Float[Array, ""]:
        """h, with a slope at 0 too."""
        return jnp.sqrt(jnp.sum((self.residual(x) / self.scale) ** 2) + 1e-12)


class ValueLoss(eqx.Module):
    """The two terms."""

    roots: Float[Array, ""]
    slopes: Float[Array, ""]
    """Relative; 0 where they are not asked for."""


def roots_of(costs: Float[Array, "*batch"], scale: Float[Array, ""]) -> Float[Array, "*batch"]:
    """h* of V*."""
    return jnp.sqrt(2.0 * jnp.maximum(costs, 0.0)) / scale


def scale_of(costs: CostToGo, usable: Bool[Array, " batch"]) -> Float[Array, ""]:
    """c of plans; 1 where these are no plans, or are free."""
    square = mean_of_usable(2.0 * jnp.mean(costs.values, axis=1), usable)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 1.0)


def value_loss(
    value: TimedValue,
    states: Float[Array, "batch nodes nx"],
    targets: CostToGo,
    usable: Bool[Array, " batch"],
    state_scale: Float[Array, " nx"],
    *,
    sobolev: bool,
) -> ValueLoss:
    """Of plans, all their stages counting the same; the slopes are only computed where `sobolev`."""
    stages = jnp.arange(states.shape[1])
    shown = roots_of(targets.values, value.scale)
    counts = jnp.broadcast_to(usable[:, None], shown.shape)

    def root(x: Array, stage: Array) -> Float[Array, ""]:
        return value.at(stage).root(x)

    if not sobolev:
        found = jax.vmap(lambda x: jax.vmap(root)(x, stages))(states)
        return ValueLoss(mean_of_usable((found - shown) ** 2, counts), jnp.zeros(()))
    found, slopes = jax.vmap(lambda x: jax.vmap(jax.value_and_grad(root))(x, stages))(states)
    sloped = counts & (shown > _LEAST)
    steep = jnp.where(sloped, value.scale**2 * shown, 1.0)
    expected = jnp.where(sloped[..., None], targets.slopes, 0.0) / steep[..., None] * state_scale[None, None]
    weight = shown**2 / (1.0 + shown**2)
    apart = jnp.sum((slopes * state_scale[None, None] - expected) ** 2, axis=-1)
    whole = mean_of_usable(weight * jnp.sum(expected**2, axis=-1), sloped)
    relative = mean_of_usable(weight * apart, sloped) / jnp.maximum(whole, _LEAST)
    return ValueLoss(mean_of_usable((found - shown) ** 2, counts), relative)
