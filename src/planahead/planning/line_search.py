"""Full steps while they lead home, else backtracking on an exact penalty along a rollout that closes the gaps.

A trial of length α follows the planned step, corrected by the feedback gains K of the QP's last factorisation, through
the true dynamics:

    u_k(α) = ū_k + α d_{u,k} + K_k (x_k(α) - x̄_k - α d_{x,k})
    x_{k+1}(α) = f(x_k(α), u_k(α)) - (1 - α) (f(x̄_k, ū_k) - x̄_{k+1})

so gaps in the dynamics shrink exactly by 1 - α, full steps end on a true trajectory, and no penalty on the dynamics
holds steps back where they curve. The merit of a trajectory z is

    Φ(z) = φ(z) + prices(h(z)) + μ ‖f(z_k) - x_{k+1}‖₁

with the prices of soft rows as they are, hard rows priced at ρ per unit (the same ρ as in the QP, so the QP's step is a
direction of descent), and μ above the largest costate. A step α d is accepted when

    Φ(z + α d) <= Φ(z) + η α D,     D = ∇φᵀd + prices(h + G d) - prices(h) - μ ‖defects‖₁

D bounds the directional derivative, prices being convex. References: C. Mastalli et al., *Crocoddyl*, ICRA 2020
(gap-closing rollouts); D. Leineweber, PhD thesis, Heidelberg 1999, §3; J. Nocedal, S. Wright, *Numerical Optimization*,
2nd ed., §18.3.
"""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from planahead.planning.elastic import violations
from planahead.planning.globalisation import SEARCHES, Globalisation, Move, Step
from planahead.planning.problem_batch import ProblemBatch
from planahead.qp.lanes import choose, largest
from planahead.qp.newton import row_values
from planahead.qp.types import price_of_violations

PROGRESS = 0.9
"""A full step leads somewhere if it lowers the smallest residual so far by this factor."""


class Memory(eqx.Module):
    """What a line search remembers of every lane."""

    weight: Float[Array, " B"]
    """μ"""
    relaxed: Bool[Array, " B"]
    """Whether the lane takes full steps, from `start`."""
    start: Float[Array, "nodes nz B"]
    best: Float[Array, " B"]
    """Smallest residual since `start`."""
    idle: Int[Array, " B"]
    """Full steps that did not lower it."""
    failures: Int[Array, " B"]
    """Searches in a row that found nothing."""


@final
class LineSearch(Globalisation):
    """Full steps as long as they lead home; lanes that they do not bring home start again from the guess, with
    backtracking on the merit above, and where that finds no decrease, full steps are tried from there.

    Full steps between states that need not be connected converge in few iterations where they converge, and pass local
    optima that a sequence of true trajectories would stop at.
    """

    full_steps: int = eqx.field(static=True, default=12)
    """Full steps without progress before a lane starts again; 0 backtracks from the beginning."""
    reduction: float = eqx.field(static=True, default=0.5)
    sufficient_decrease: float = eqx.field(static=True, default=1e-4)
    trials: int = eqx.field(static=True, default=16)
    """Step lengths that are tried; the shortest is `reduction ** (trials - 1)`."""

    def __check_init__(self):
        if not 0 < self.reduction < 1:
            raise ValueError(f"LineSearch(reduction={self.reduction}): the step shrinks by a factor between 0 and 1.")
        if not 0 < self.sufficient_decrease < 1:
            raise ValueError(
                f"LineSearch(sufficient_decrease={self.sufficient_decrease}): a fraction of the predicted decrease, "
                "between 0 and 1, is expected."
            )
        if self.full_steps < 0:
            raise ValueError(f"LineSearch(full_steps={self.full_steps}): at least 0 is expected.")
        if self.trials < 1:
            raise ValueError(f"LineSearch(trials={self.trials}): at least 1 is expected.")

    @property
    def uses_gain(self) -> bool:
        return True

    def begin(self, z: Float[Array, "nodes nz B"]) -> Memory:
        zeros = jnp.zeros(z.shape[-1], z.dtype)
        none = jnp.zeros(z.shape[-1], int)
        relaxed = jnp.full(z.shape[-1], self.full_steps > 0)
        return Memory(weight=zeros, relaxed=relaxed, start=z, best=zeros + jnp.inf, idle=none, failures=none)

    def look(self, memory: Memory, error: Float[Array, " B"]) -> Memory:
        idle = memory.idle + ~(error <= PROGRESS * memory.best)
        best = jnp.minimum(memory.best, error)
        return eqx.tree_at(lambda memory: (memory.idle, memory.best), memory, (idle, best))

    def move(self, problems: ProblemBatch, memory: Memory, step: Step) -> Move:
        found, usable, relaxed = step.outcome.point, step.usable, memory.relaxed
        needed = 1.1 * largest(found.pi)
        weight = jnp.where(usable, jnp.maximum(needed, 0.5 * (memory.weight + needed)), memory.weight)

        def backtrack(searching: Bool[Array, " B"]) -> "_Search":
            return self._backtrack(problems, step, weight, searching)

        def stay(searching: Bool[Array, " B"]) -> "_Search":
            return _Search(step.z, jnp.ones_like(weight), ~searching)

        searching = usable & ~relaxed
        end = jax.lax.cond(jnp.any(searching), backtrack, stay, searching)
        z = choose(relaxed, step.z + found.z, end.z)

        failed, searched = ~(usable & end.accepted), step.active & ~relaxed
        failures = jnp.where(searched, jnp.where(failed, memory.failures + 1, 0), memory.failures)
        # Full steps that lead nowhere are taken back; a search that finds nothing at a point that keeps its hard rows
        # gives way to full steps from there, once.
        lost = step.active & relaxed & (~usable | (memory.idle >= self.full_steps))
        free = searched & failed & (failures == 1) & ~step.violated & (self.full_steps > 0)
        return Move(
            z=choose(lost, memory.start, z),
            alpha=end.alpha,
            accepted=end.accepted,
            stuck=searched & (failures >= SEARCHES),
            restarted=lost,
            memory=Memory(
                weight=weight,
                relaxed=(relaxed & ~lost) | free,
                start=choose(free, step.z, memory.start),
                best=jnp.where(free, jnp.inf, memory.best),
                idle=jnp.where(free, 0, memory.idle),
                failures=failures,
            ),
        )

    def _backtrack(
        self, problems: ProblemBatch, step: Step, weight: Float[Array, " B"], searching: Bool[Array, " B"]
    ) -> "_Search":
        """Shorten the steps of the lanes that are `searching` until they are accepted; those without an accepted trial
        stay where they are, with length 0."""
        qp, z, d, bound = step.qp, step.z, step.outcome.point.z, step.bound

        def merit(z: Float[Array, "nodes nz B"]) -> Float[Array, " B"]:
            value = problems.evaluate(z)
            price = price_of_violations(qp.linear, qp.quadratic, violations(bound, value.rows))
            return value.cost + price + weight * jnp.sum(jnp.abs(value.defects), (0, 1))

        now = merit(z)
        no_rows = jnp.zeros_like(qp.linear)
        price_now = price_of_violations(qp.linear, qp.quadratic, violations(qp.bound, no_rows))
        price_model = price_of_violations(qp.linear, qp.quadratic, violations(qp.bound, row_values(qp, d)))
        slope = jnp.sum(qp.g * d, (0, 1)) + price_model - price_now - weight * jnp.sum(jnp.abs(qp.c), (0, 1))
        # Close to the solution the decrease drowns in rounding; there the full step is the better one.
        rounding = 10 * jnp.finfo(z.dtype).eps * (1 + jnp.abs(now))

        def trial(carry: "tuple[_Search, Array]") -> "tuple[_Search, Array]":
            search, k = carry
            candidate = problems.advance(z, d, step.outcome.gain, qp.c, search.alpha, bound)
            enough = now + self.sufficient_decrease * search.alpha * jnp.minimum(slope, 0.0) + rounding
            fine = merit(candidate) <= enough
            accepted = search.accepted | fine
            reached = choose(fine & ~search.accepted, candidate, search.z)
            return _Search(reached, jnp.where(accepted, search.alpha, self.reduction * search.alpha), accepted), k + 1

        def unfinished(carry: "tuple[_Search, Array]") -> Array:
            search, k = carry
            return jnp.any(~search.accepted) & (k < self.trials)

        first = _Search(z, jnp.ones_like(now), ~searching)
        end, _ = jax.lax.while_loop(unfinished, trial, (first, jnp.zeros((), int)))
        return eqx.tree_at(lambda search: search.alpha, end, jnp.where(end.accepted, end.alpha, 0.0))


class _Search(eqx.Module):
    """How far a search has come."""

    z: Float[Array, "nodes nz B"]
    alpha: Float[Array, " B"]
    accepted: Bool[Array, " B"]
