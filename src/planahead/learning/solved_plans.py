"""Plans of many states from many guesses, in pieces of one size, so that one compiled program serves all of them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from planahead.planning import SQP, Guess, Plan, cold_start, simulated, solve
from planahead.planning.transcription import control_box
from planahead.policies import plan_failed
from planahead.problem import Problem

PIECE = 256
"""Lanes that are solved at once: enough to fill vectors and cores, few enough that one slow lane keeps few waiting."""
HELD = 5
"""Steps that a random control is held: long enough to lead somewhere else."""


class BestPlans(eqx.Module):
    """The cheapest plan from every state, and what the guesses led to."""

    states: Float[Array, "rows nx"]
    plans: Guess
    """[rows]"""
    usable: Bool[Array, " rows"]
    """Whether any solve from there succeeded."""
    costs: Float[Array, "rows guesses"]
    """Infinite where a solve failed."""
    iterations: Int[Array, "rows guesses"]

    def reached(self, near: float) -> Bool[Array, "rows guesses"]:
        """Which solves came within `near` of the best cost found from the same state, relative to it."""
        least = jnp.min(self.costs, axis=1, keepdims=True)
        return jnp.isfinite(self.costs) & (self.costs <= least + near * jnp.abs(least))


def in_pieces(function: Callable, rows: int, *arguments: Any, piece: int = PIECE) -> Any:
    """`function` of `piece` rows at a time; the last piece is filled up with its last row. All leaves of `arguments`
    and of what is returned have a leading axis of rows.

    >>> in_pieces(lambda x: 2 * x, 5, jnp.arange(5.0), piece=2)
    Array([0., 2., 4., 6., 8.], dtype=float32)
    """
    found = []
    for first in range(0, rows, piece):
        which = jnp.minimum(first + jnp.arange(piece), rows - 1)
        found.append(function(*jax.tree.map(lambda leaf, which=which: leaf[which], arguments)))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:rows], *found)


def solve_all(problem: Problem, states: Float[Array, "rows nx"], guesses: Guess, planner: SQP) -> Plan:
    """The plan of every row, from its guess."""
    rows = states.shape[0]
    return in_pieces(lambda x, guess: _solve_piece(problem, x, guess, planner), rows, states, guesses)


@eqx.filter_jit
def _solve_piece(problem: Problem, states: Array, guesses: Guess, planner: SQP) -> Plan:
    return jax.vmap(lambda x, guess: solve(problem, x, guess=guess, planner=planner))(states, guesses)


def best_plans(problem: Problem, states: Float[Array, "rows nx"], guesses: Guess, planner: SQP) -> BestPlans:
    """Solve from all `guesses` [rows, candidates] and keep the cheapest plan of every state."""
    rows, number = guesses.controls.shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape(rows * number, *leaf.shape[2:]), guesses)
    found = solve_all(problem, jnp.repeat(states, number, axis=0), flat, planner)
    plans: Plan = jax.tree.map(lambda leaf: leaf.reshape(rows, number, *leaf.shape[1:]), found)
    costs = jnp.where(plan_failed(plans, planner), jnp.inf, plans.cost)
    best = jnp.argmin(costs, axis=1)
    kept = [leaf[jnp.arange(rows), best] for leaf in (plans.states, plans.controls)]
    return BestPlans(states, jax.vmap(Guess)(*kept), jnp.any(jnp.isfinite(costs), axis=1), costs, plans.iterations)


@eqx.filter_jit
def cold_and_random(problem: Problem, states: Float[Array, "rows nx"], random: int, key: PRNGKeyArray) -> Guess:
    """The cold start of every state and `random` roll-outs of uniform controls, each held for some steps: [rows, 1 +
    random]. Controls without bounds are drawn from the standard normal distribution."""
    low, high = control_box(problem)
    finite = jnp.isfinite(low) & jnp.isfinite(high)

    def one(state: Array, key: PRNGKeyArray) -> Guess:
        shape = (random, -(-problem.horizon // HELD), problem.control_size)
        share, normal = jax.random.uniform(key, shape, state.dtype), jax.random.normal(key, shape, state.dtype)
        share, normal = (jnp.repeat(drawn, HELD, axis=1)[:, : problem.horizon] for drawn in (share, normal))
        inside = low[None] + jnp.where(finite, high - low, 0.0)[None] * share
        controls = jnp.where(finite[None], inside, normal)
        rolled = jax.vmap(lambda controls: simulated(problem, state, controls).trajectory)(controls)
        cold = cold_start(problem, state)
        rolled = jax.tree.map(lambda leaf, cold: _finite_or(leaf, cold), rolled, cold)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), cold, rolled)

    return jax.vmap(one)(states, jax.random.split(key, states.shape[0]))


def _finite_or(rolled: Array, cold: Array) -> Array:
    finite = jnp.all(jnp.isfinite(rolled), axis=(1, 2), keepdims=True)
    return jnp.where(finite, rolled, cold[None])
