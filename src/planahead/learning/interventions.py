"""How often a safety filter behind a policy had to act."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.tasks import Environment

CORRECTED = 1e-3
"""Shares of half the action box from which a difference counts as a correction."""


class Interventions(eqx.Module):
    """Sums over steps and lanes."""

    corrected: Float[Array, ""]
    """Steps in which another action than the proposed one acted."""
    fallback: Float[Array, ""]
    """Steps in which neither the proposal nor the filter's plan was confirmed, so that the remembered plan acted."""
    uncertified: Float[Array, ""]
    """Steps in which no certificate covered the action."""


def interventions(environment: Environment[Any], filtered: Any) -> Interventions:
    """Of `Decision.filtered`, a `Filtered` whose leaves have a leading axis of lanes."""
    half = 0.5 * (jnp.asarray(environment.action_high) - jnp.asarray(environment.action_low))
    away = jnp.max(jnp.abs(filtered.action - filtered.proposal) / half[None], axis=1)
    events = (away > CORRECTED, filtered.fallback, ~filtered.certified)
    return Interventions(*(jnp.sum(event, dtype=jnp.result_type(float)) for event in events))
